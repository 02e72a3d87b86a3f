//! A row's result does not depend on what goes through a network beside it, nor on the number of
//! cores: not within a gate, but bit by bit. Odd sizes, so that every kernel's edges take part, and
//! sizes beyond one block and one tile; weights stored as f32 and as bf16.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use kinora_diffusion::{
    denoisers::{FluxDenoiser, FluxInput},
    layers::{Weights, weights::Loaded},
    text::{ClipEncoder, T5Encoder},
    vae::{KlVae, Tiling},
};
use kinora_weights::{ClipConfig, FluxConfig, T5Config, VaeConfig};

/// Numbers between −1 and 1 without a pattern.
fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let mut state = seed as u32 ^ 0x9e37_79b9;
    let data: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

/// Weights for whatever `load` asks of them, stored as `dtype`.
fn weights_for(dtype: DType, load: impl Fn(&Weights)) -> Weights {
    let survey = Weights::survey();
    load(&survey);
    let tensors: HashMap<String, Tensor> = survey
        .asked()
        .into_iter()
        .enumerate()
        .map(|(seed, (name, shape))| {
            let fan_in: usize = shape[1..].iter().product();
            let scale = 1.0 / (fan_in as f64).sqrt();
            let offset = if shape.len() == 1 { 1.0 } else { 0.0 };
            let tensor = numbers(&shape, seed).affine(scale, offset).unwrap();
            (name, tensor.to_dtype(dtype).unwrap())
        })
        .collect();
    Weights::new(Loaded::new("made", tensors), &Device::Cpu, DType::F32)
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(values.iter().all(|value| value.is_finite()));
    values.into_iter().map(f32::to_bits).collect()
}

fn row(tensor: &Tensor, i: usize) -> Tensor {
    tensor.narrow(0, i, 1).unwrap().contiguous().unwrap()
}

/// Runs `work` on so many cores.
fn on_cores<R: Send>(cores: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new()
        .num_threads(cores)
        .build()
        .unwrap()
        .install(work)
}

/// `run` with all rows on two cores gives each row what it gets alone, and in other company, on
/// one and on three cores.
fn assert_rows_are_alone(rows: usize, run: impl Fn(&[usize]) -> Tensor + Sync) {
    let all: Vec<usize> = (0..rows).collect();
    let together = on_cores(2, || run(&all));
    for (i, cores) in (0..rows).zip([1, 2, 3].into_iter().cycle()) {
        let expected = bits(&row(&together, i));
        assert!(
            bits(&on_cores(cores, || run(&[i]))) == expected,
            "row {i} alone, on {cores} cores"
        );
        let other = on_cores(3, || run(&[(i + 1) % rows, i]));
        assert!(bits(&row(&other, 1)) == expected, "row {i} beside another");
    }
}

#[test]
fn denoiser_rows_are_alone() {
    // Widths that are no multiple of any tile, and one beyond a block of inputs.
    for (heads, head_dim, axes_dims, grid, text_tokens) in [
        (3, 20, [4, 8, 8], (5, 7), 13),
        (5, 26, [6, 10, 10], (9, 11), 31),
        (4, 144, [16, 64, 64], (23, 25), 70),
    ] {
        let config = FluxConfig {
            layers: 1,
            single_layers: 1,
            heads,
            head_dim,
            axes_dims,
            in_channels: 12,
            joint_dim: 46,
            pooled_dim: 37,
            has_guidance: true,
            ..FluxConfig::default()
        };
        for dtype in [DType::F32, DType::BF16] {
            let weights = weights_for(dtype, |survey| {
                FluxDenoiser::load(survey, &config, &mut |_| {}).unwrap();
            });
            let denoiser = FluxDenoiser::load(&weights, &config, &mut |_| {}).unwrap();
            let rope = denoiser
                .positions(text_tokens, grid.0, grid.1, &Device::Cpu)
                .unwrap();
            let latents = numbers(&[3, grid.0 * grid.1, 12], 1);
            let text = numbers(&[3, text_tokens, 46], 2);
            let pooled = numbers(&[3, 37], 3);
            let guidance = [3.5, 1.0, 7.25];
            assert_rows_are_alone(3, |rows| {
                let ids: Vec<u32> = rows.iter().map(|&i| i as u32).collect();
                let ids = Tensor::new(ids, &Device::Cpu).unwrap();
                let pick = |tensor: &Tensor| tensor.index_select(&ids, 0).unwrap();
                let guidance: Vec<f32> = rows.iter().map(|&i| guidance[i]).collect();
                denoiser
                    .forward(&FluxInput {
                        latents: &pick(&latents),
                        text: &pick(&text),
                        pooled: &pick(&pooled),
                        timestep: 621.5,
                        guidance: &guidance,
                        rope: &rope,
                    })
                    .unwrap()
            });
        }
    }
}

#[test]
fn prompts_are_encoded_alone() {
    let ids = |vocab: usize, tokens: usize, rows: &[usize]| -> Vec<Vec<u32>> {
        let id = |row: usize, i: usize| ((row * 131 + i * i * 7 + 3) % vocab) as u32;
        rows.iter()
            .map(|&row| (0..tokens).map(|i| id(row, i)).collect())
            .collect()
    };
    let t5 = T5Config {
        vocab: 211,
        hidden: 90,
        head_dim: 18,
        heads: 5,
        intermediate: 221,
        layers: 2,
        ..T5Config::default()
    };
    let clip = ClipConfig {
        vocab: 211,
        hidden: 84,
        heads: 6,
        intermediate: 197,
        layers: 2,
        ..ClipConfig::default()
    };
    for dtype in [DType::F32, DType::BF16] {
        let weights = weights_for(dtype, |survey| {
            T5Encoder::load(survey, &t5).unwrap();
        });
        let encoder = T5Encoder::load(&weights, &t5).unwrap();
        for tokens in [7, 77, 300] {
            assert_rows_are_alone(3, |rows| {
                encoder.forward(&ids(211, tokens, rows), None).unwrap()
            });
        }
        let weights = weights_for(dtype, |survey| {
            ClipEncoder::load(survey, &clip).unwrap();
        });
        let encoder = ClipEncoder::load(&weights, &clip).unwrap();
        assert_rows_are_alone(3, |rows| encoder.forward(&ids(211, 77, rows)).unwrap().last);
        assert_rows_are_alone(3, |rows| {
            encoder.forward(&ids(211, 77, rows)).unwrap().pooled
        });
    }
}

#[test]
fn pictures_are_decoded_and_encoded_alone() {
    let config = VaeConfig {
        latent_channels: 5,
        block_out_channels: vec![20, 36, 44],
        layers_per_block: 1,
        norm_groups: 4,
        ..VaeConfig::default()
    };
    for dtype in [DType::F32, DType::BF16] {
        let weights = weights_for(dtype, |survey| {
            KlVae::load(survey, &config).unwrap();
        });
        let vae = KlVae::load(&weights, &config).unwrap();
        for (height, width) in [(3, 5), (18, 23)] {
            let latents = numbers(&[3, 5, height, width], 4);
            let select = |rows: &[usize]| {
                let ids: Vec<u32> = rows.iter().map(|&i| i as u32).collect();
                latents
                    .index_select(&Tensor::new(ids, &Device::Cpu).unwrap(), 0)
                    .unwrap()
            };
            assert_rows_are_alone(3, |rows| vae.decode(&select(rows), Tiling::Whole).unwrap());
            assert_rows_are_alone(3, |rows| {
                let pixels = vae.decode(&select(rows), Tiling::Whole).unwrap();
                vae.encode(&pixels).unwrap()
            });
        }
    }
}
