//! One model in every kind of file that people have gives one result: plain formats the very bits,
//! quantised ones the bits of a run with the widened numbers.

mod common;

use std::path::Path;

use candle_core::{DType, Device};
use common::{
    Tensor, Tensors, cases, copy_parts, open, params, run, to_bfl, transformer, write_gguf,
    write_safetensors,
};
use half::{bf16, f16};
use kinora_diffusion::{
    adapters::WeightedAdapter,
    layers::{linear::Linear, weights::Weights},
};
use kinora_weights::{Dtype, WeightSet};
use serde_json::{Value, json};

/// The latents of a model whose transformer is written by `write` into a folder.
fn run_written(write: &dyn Fn(&Path)) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    copy_parts(&cases().join("flux_dev/model"), folder.path());
    write(folder.path());
    run(&mut open(folder.path()), &params("a red car"))
}

fn bfl() -> Tensors {
    let (canonical, config) = transformer(&cases().join("flux_dev/model"));
    to_bfl(&canonical, &config)
}

fn prefixed(tensors: &Tensors, prefix: &str) -> Tensors {
    let with = |(name, tensor): (&String, &Tensor)| (format!("{prefix}{name}"), tensor.clone());
    tensors.iter().map(with).collect()
}

fn plain(path: &Path, tensors: &Tensors) {
    write_safetensors(&path.join("flux1.safetensors"), tensors, Value::Null);
}

/// What becomes of the matrices whose rows are whole blocks; converters leave the others as they
/// are.
fn change_matrices(tensors: &Tensors, change: impl Fn(&Tensor) -> Tensor) -> Tensors {
    let is_wanted = |tensor: &Tensor| matches!(tensor.shape[..], [_, columns] if columns % 32 == 0);
    let new = |(name, tensor): (&String, &Tensor)| {
        let tensor = if is_wanted(tensor) {
            change(tensor)
        } else {
            tensor.clone()
        };
        (name.clone(), tensor)
    };
    tensors.iter().map(new).collect()
}

fn widened(tensor: &Tensor) -> Tensor {
    Tensor::f32(&tensor.shape, &tensor.numbers())
}

#[test]
fn plain_files_of_every_layout_give_the_bits_of_the_folder() {
    let expected = run(
        &mut open(&cases().join("flux_dev/model")),
        &params("a red car"),
    );
    assert!(expected.iter().all(|number| number.is_finite()) && !expected.is_empty());
    let bfl = bfl();
    assert!(run_written(&|path| plain(path, &bfl)) == expected);
    let whole = prefixed(&bfl, "model.diffusion_model.");
    assert!(run_written(&|path| plain(path, &whole)) == expected);
    let (canonical, _) = transformer(&cases().join("flux_dev/model"));
    assert!(run_written(&|path| plain(path, &canonical)) == expected);
    // The case's weights are bf16 numbers, so f32 holds the same ones.
    let wide: Tensors = bfl.iter().map(|(n, t)| (n.clone(), widened(t))).collect();
    assert!(run_written(&|path| plain(path, &wide)) == expected);
    for (tensors, architecture) in [(&bfl, Some("flux")), (&wide, Some("flux")), (&whole, None)] {
        let ours = run_written(&|path| write_gguf(&path.join("m.gguf"), tensors, architecture));
        assert!(ours == expected);
    }
}

fn quantise_q8_0(tensor: &Tensor) -> Tensor {
    let mut bytes = Vec::new();
    for block in tensor.numbers().chunks_exact(32) {
        let largest = block.iter().fold(0f32, |most, n| most.max(n.abs()));
        let scale = f16::from_f32(largest / 127.0);
        bytes.extend(scale.to_le_bytes());
        let small = |n: &f32| (n / scale.to_f32()).round().clamp(-127.0, 127.0) as i8 as u8;
        bytes.extend(block.iter().map(small));
    }
    Tensor {
        dtype: Dtype::Q8_0,
        shape: tensor.shape.clone(),
        bytes,
    }
}

fn halve(tensor: &Tensor) -> Tensor {
    let numbers = tensor.numbers();
    let bytes = numbers.iter().flat_map(|n| f16::from_f32(*n).to_le_bytes());
    Tensor {
        dtype: Dtype::F16,
        shape: tensor.shape.clone(),
        bytes: bytes.collect(),
    }
}

#[test]
fn gguf_blocks_give_the_bits_of_the_widened_numbers() {
    let full = run_written(&|path| plain(path, &bfl()));
    for quantise in [quantise_q8_0, halve] {
        let stored = change_matrices(&bfl(), quantise);
        let wide = change_matrices(&stored, widened);
        let expected = run_written(&|path| plain(path, &wide));
        for (tensors, architecture) in [
            (stored.clone(), Some("flux")),
            (prefixed(&stored, "model.diffusion_model."), None),
        ] {
            let ours =
                run_written(&|path| write_gguf(&path.join("m.gguf"), &tensors, architecture));
            assert!(ours == expected);
        }
        // It is the quantised model that ran, and one close to the original.
        let far = full
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0f32, f32::max);
        assert!(far > 0.0 && far < 0.5, "{far}");
    }
}

/// The nearest E4M3 number: by trying all of them, so that no rounding rule is assumed.
fn quantise_e4m3(tensor: &Tensor, scale: f32) -> Tensor {
    let all: Vec<(u8, f32)> = (0..=255u8)
        .map(|byte| (byte, kinora_weights::decode::decode_e4m3(byte)))
        .filter(|(_, number)| number.is_finite())
        .collect();
    let nearest = |n: f32| {
        let distance = |(_, number): &&(u8, f32)| (number - n / scale).abs();
        let best = all
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        best.unwrap().0
    };
    Tensor {
        dtype: Dtype::F8E4M3,
        shape: tensor.shape.clone(),
        bytes: tensor.numbers().into_iter().map(nearest).collect(),
    }
}

/// fp8 files: plain, with the marker and scales of older converters, and with a note for each layer
/// as newer ones write it.
#[test]
fn fp8_with_and_without_scales_gives_the_bits_of_the_widened_numbers() {
    const SCALE: f32 = 0.007;
    let scaled = |tensor: &Tensor, scale: f32| {
        let numbers = quantise_e4m3(tensor, scale).numbers();
        let numbers: Vec<f32> = numbers.iter().map(|number| number * scale).collect();
        Tensor::f32(&tensor.shape, &numbers)
    };
    let bfl = bfl();
    let stored = change_matrices(&bfl, |tensor| quantise_e4m3(tensor, 1.0));
    let wide = change_matrices(&bfl, |tensor| scaled(tensor, 1.0));
    let expected = run_written(&|path| plain(path, &wide));
    assert!(run_written(&|path| plain(path, &stored)) == expected);

    let stored = change_matrices(&bfl, |tensor| quantise_e4m3(tensor, SCALE));
    let wide = change_matrices(&bfl, |tensor| scaled(tensor, SCALE));
    let expected = run_written(&|path| plain(path, &wide));
    let layers: Vec<String> = stored
        .iter()
        .filter(|(_, tensor)| tensor.dtype == Dtype::F8E4M3)
        .map(|(name, _)| name.strip_suffix(".weight").unwrap().to_owned())
        .collect();
    let with_scales = |ending: &str| {
        let mut tensors = stored.clone();
        for layer in &layers {
            tensors.insert(format!("{layer}{ending}"), Tensor::f32(&[], &[SCALE]));
        }
        tensors
    };
    let mut marked = with_scales(".scale_weight");
    let marker = Tensor {
        dtype: Dtype::F8E4M3,
        shape: vec![0],
        bytes: vec![],
    };
    marked.insert("scaled_fp8".into(), marker);
    assert!(run_written(&|path| plain(path, &marked)) == expected);

    let noted = with_scales(".weight_scale");
    let notes: Value = layers
        .iter()
        .map(|layer| (layer.clone(), json!({ "format": "float8_e4m3fn" })))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let metadata = json!({ "_quantization_metadata": json!({ "layers": notes }).to_string() });
    let write = |path: &Path| {
        write_safetensors(&path.join("flux1.safetensors"), &noted, metadata.clone());
    };
    assert!(run_written(&write) == expected);
    // A scale that is left out changes everything: the test can fail.
    assert!(run_written(&|path| plain(path, &stored)) != expected);
    assert!(bf16::from_f32(SCALE).to_f32() != SCALE);
}

/// A matrix in groups as ComfyUI stores it: weight, scales in tiles, and the scale of the scales.
struct InGroups {
    weight: Tensor,
    scale: Tensor,
    factor: f32,
    widened: Tensor,
}

/// The nearest of some numbers: by trying all of them, so that no rounding rule is assumed.
fn nearest(choices: &[(u8, f32)], number: f32) -> (u8, f32) {
    let distance = |choice: &&(u8, f32)| (choice.1 - number).abs();
    *(choices.iter())
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
        .unwrap()
}

/// Every byte's number, where it is one.
fn all_of(decode: impl Fn(u8) -> f32) -> Vec<(u8, f32)> {
    let all = (0..=255u8).map(|byte| (byte, decode(byte)));
    all.filter(|(_, number)| number.is_finite()).collect()
}

fn in_groups(tensor: &Tensor, is_nvfp4: bool) -> InGroups {
    use kinora_weights::decode::{decode_e4m3, decode_e8m0};
    let [rows, columns] = tensor.shape[..] else {
        panic!("{:?}", tensor.shape);
    };
    let e2m1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0f32];
    let e2m1: Vec<(u8, f32)> = (0..16u8)
        .map(|i| (i, e2m1[usize::from(i & 7)] * if i < 8 { 1.0 } else { -1.0 }))
        .collect();
    let (len, of_scales, of_numbers, most) = match is_nvfp4 {
        true => (16, all_of(decode_e4m3), e2m1, 6.0),
        false => (32, all_of(decode_e8m0), all_of(decode_e4m3), 448.0),
    };
    let factor = if is_nvfp4 { 0.003 } else { 1.0 };
    let groups = columns / len;
    let across = groups.div_ceil(4);
    let mut tiles = vec![0; rows.div_ceil(128) * across * 512];
    let (mut levels, mut widened) = (Vec::new(), Vec::new());
    for (at, numbers) in tensor.numbers().chunks_exact(len).enumerate() {
        let largest = numbers.iter().fold(0f32, |most, n| most.max(n.abs()));
        let (byte, scale) = nearest(&of_scales, largest / most / factor);
        let (row, group) = (at / groups, at % groups);
        let tile = row / 128 * across + group / 4;
        tiles[tile * 512 + row % 32 * 16 + row % 128 / 32 * 4 + group % 4] = byte;
        for number in numbers {
            let (level, value) = nearest(&of_numbers, number / (factor * scale).max(1e-20));
            levels.push(level);
            widened.push(value * (factor * scale));
        }
    }
    let bytes = match is_nvfp4 {
        true => levels
            .chunks_exact(2)
            .map(|two| two[0] << 4 | two[1])
            .collect(),
        false => levels,
    };
    let of = |dtype, shape: [usize; 2], bytes| Tensor {
        dtype,
        shape: shape.to_vec(),
        bytes,
    };
    let tile_shape = [rows.next_multiple_of(128), across * 4];
    InGroups {
        weight: match is_nvfp4 {
            true => of(Dtype::U8, [rows, columns / 2], bytes),
            false => of(Dtype::F8E4M3, [rows, columns], bytes),
        },
        scale: of(
            if is_nvfp4 {
                Dtype::F8E4M3
            } else {
                Dtype::F8E8M0
            },
            tile_shape,
            tiles,
        ),
        factor,
        widened: Tensor::f32(&tensor.shape, &widened),
    }
}

/// nvfp4 and mxfp8 files run as they are stored, fused layers cut along their rows, and an adapter
/// lies beside them.
#[test]
fn scales_of_groups_give_the_bits_of_the_widened_numbers() {
    let full = run_written(&|path| plain(path, &bfl()));
    for (is_nvfp4, format) in [(true, "nvfp4"), (false, "mxfp8")] {
        let (mut stored, mut wide) = (bfl(), bfl());
        let mut notes = serde_json::Map::new();
        for (name, tensor) in bfl() {
            let Some(layer) = name.strip_suffix(".weight") else {
                continue;
            };
            if !matches!(tensor.shape[..], [rows, columns] if rows % 32 == 0 && columns % 32 == 0) {
                continue;
            }
            let groups = in_groups(&tensor, is_nvfp4);
            stored.insert(format!("{layer}.weight_scale"), groups.scale);
            if is_nvfp4 {
                let factor = Tensor::f32(&[], &[groups.factor]);
                stored.insert(format!("{layer}.weight_scale_2"), factor);
            }
            notes.insert(layer.to_owned(), json!({ "format": format }));
            stored.insert(name.clone(), groups.weight);
            wide.insert(name, groups.widened);
        }
        assert!(notes.len() > 10, "{}", notes.len());
        let metadata = json!({ "_quantization_metadata": json!({ "layers": notes }).to_string() });
        let expected = run_written(&|path| plain(path, &wide));
        let ours = run_written(&|path: &Path| {
            write_safetensors(&path.join("flux1.safetensors"), &stored, metadata.clone());
        });
        assert!(ours == expected, "{format}");
        let far = |a: &[f32], b: &[f32]| {
            let pairs = a.iter().zip(b);
            pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max)
        };
        let moved = far(&full, &expected);
        assert!(moved > 0.0 && moved < 2.0, "{format}: {moved}");
    }
}

/// A layer whose sizes are no whole groups: the padding that it is stored with takes no part.
#[test]
fn layers_that_were_padded_to_whole_groups_have_the_sizes_that_are_asked() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kinora-weights/tests/data");
    let set = WeightSet::open_file(&data.join("groups.safetensors")).unwrap();
    let one = candle_core::Tensor::eye(72, DType::F32, &Device::Cpu).unwrap();
    for format in ["nvfp4", "mxfp8"] {
        // (40, 72), its transpose is what the layer makes of the unit matrix.
        let expected = set.read_f32(&format!("{format}.padded.expected")).unwrap();
        let weights = Weights::new(set.clone(), &Device::Cpu, DType::F32).at(format);
        let linear = Linear::load_no_bias(&weights.at("padded"), 72, 40).unwrap();
        // As stored, and not widened.
        assert!(linear.bytes() < 40 * 72 * 2, "{}", linear.bytes());
        let dense = weights.get_matrix("padded.weight", 40, 72).unwrap();
        let transposed = linear.forward(&one).unwrap().t().unwrap();
        for matrix in [dense, transposed] {
            let ours = matrix.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(ours == expected, "{format}");
        }
        // Not within the padding.
        for (inputs, outputs) in [(72, 32), (64, 40), (97, 40)] {
            assert!(Linear::load_no_bias(&weights.at("padded"), inputs, outputs).is_err());
        }
    }
}

/// A quantised model stays as it is under an adapter, and gives what the widened one gives with the
/// adapter merged; without it, the bits of the beginning.
#[test]
fn an_adapter_beside_quantised_weights_equals_one_merged_into_widened_ones() {
    let adapter = |name: &str| {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/flux_lora");
        fixtures.join(format!("{name}.safetensors"))
    };
    let stored = change_matrices(&bfl(), quantise_q8_0);
    let wide = change_matrices(&stored, widened);
    let folder = tempfile::tempdir().unwrap();
    let open_written = |name: &str, write: &dyn Fn(&Path)| {
        let root = folder.path().join(name);
        copy_parts(&cases().join("flux_dev/model"), &root);
        write(&root);
        open(&root)
    };
    let mut quantised = open_written("q", &|root| {
        write_gguf(&root.join("m.gguf"), &stored, Some("flux"));
    });
    let mut merged = open_written("m", &|root| plain(root, &wide));
    let params = params("a red car");
    let before = run(&mut quantised, &params);
    for names in [
        &["diffusers", "kohya"][..],
        &["loha"],
        &["dora", "kohya"],
        &["difference"],
    ] {
        let results = [&mut quantised, &mut merged].map(|pipeline| {
            let model = pipeline.adaptive();
            let adapters = names
                .iter()
                .map(|name| WeightedAdapter {
                    adapter: model.open_adapter(&adapter(name)).unwrap().into(),
                    weight: 0.8,
                    expert: None,
                })
                .collect();
            model.set_adapters(adapters).unwrap();
            run(pipeline, &params)
        });
        let [ours, theirs] = results;
        let far = ours
            .iter()
            .zip(&theirs)
            .map(|(a, b)| (a - b).abs())
            .fold(0f32, f32::max);
        assert!(far < 1e-4, "{names:?}: {far}");
        let moved = ours
            .iter()
            .zip(&before)
            .map(|(a, b)| (a - b).abs())
            .fold(0f32, f32::max);
        assert!(moved > 0.01, "{names:?}: {moved}");
    }
    quantised.adaptive().set_adapters(Vec::new()).unwrap();
    assert!(run(&mut quantised, &params) == before);
}
