//! Attention and convolutions on tensor cores, against the processor's layers in f32 over the same
//! (rounded) numbers. What no kernel takes is in `fallbacks`.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use kinora_diffusion::{
    Result,
    layers::{
        Attention, CausalConv3d, Conv1d, Conv2d, Edges, History, Padding, Weights, attention,
        weights::Loaded,
    },
};

use crate::machine::{assert_near, run_kernels, wave};

/// Number formats, and how far results may be from those in f32.
const FORMATS: [(DType, f32); 3] = [(DType::F32, 1e-4), (DType::BF16, 2e-2), (DType::F16, 2e-3)];

/// Runs `work` on the kernels in a format and on the processor in f32. Fails when no kernel whose
/// name begins with `entry` ran.
fn compare(
    entry: &str,
    (dtype, gate): (DType, f32),
    work: impl Fn(&Device, DType) -> Result<Tensor>,
) {
    let theirs = work(&Device::Cpu, DType::F32).unwrap();
    let ours = run_kernels(entry, |device| work(device, dtype));
    assert_eq!(ours.dtype(), dtype);
    assert_near(&ours, &theirs, gate, entry);
}

/// Numbers as they are in `rounded`, in the format `dtype`.
fn rounded(x: &Tensor, rounded: DType, dtype: DType, device: &Device) -> Tensor {
    let x = x.to_dtype(rounded).unwrap().to_dtype(dtype).unwrap();
    x.to_device(device).unwrap()
}

/// Attention of tensors of `shape` (batch, tokens, heads, size) to `keys` others.
fn hold_attention(entry: &str, shape: [usize; 4], keys: usize, options: Attention) {
    let [batch, _, heads, size] = shape;
    let q = wave(&shape).affine(2.0, 0.1).unwrap();
    let k = wave(&[batch, keys, heads, size]).affine(1.5, 0.2).unwrap();
    let v = wave(&[batch, keys, heads, size]).affine(-1.0, 0.3).unwrap();
    for format in FORMATS {
        compare(entry, format, |device, dtype| {
            let [q, k, v] = [&q, &k, &v].map(|x| rounded(x, format.0, dtype, device));
            attention(&q, &k, &v, options)
        });
    }
}

#[test]
fn heads_of_every_size_attend_as_on_the_processor() {
    for (size, padded) in [
        (8, 48),
        (20, 48),
        (40, 48),
        (63, 64),
        (64, 64),
        (72, 80),
        (80, 80),
        (96, 96),
        (128, 128),
        (160, 160),
        (200, 256),
        (256, 256),
        (512, 512),
    ] {
        for (dtype, name) in FORMATS.iter().zip(["f32", "bf16", "f16"]) {
            let entry = format!("attention_{name}_{padded}");
            let q = wave(&[1, 19, 2, size]).affine(2.0, 0.1).unwrap();
            let k = wave(&[1, 45, 2, size]).affine(1.0, 0.2).unwrap();
            compare(&entry, *dtype, |device, format| {
                let [q, k] = [&q, &k].map(|x| rounded(x, dtype.0, format, device));
                attention(&q, &k, &k, Attention::default())
            });
        }
    }
}

#[test]
fn long_sequences_meet_their_keys_tile_by_tile() {
    // Sharp scores move the maxima from tile to tile.
    let sharp = Attention {
        scale: Some(0.7),
        ..Default::default()
    };
    hold_attention("attention_", [2, 130, 1, 64], 200, sharp);
    hold_attention("attention_", [1, 70, 2, 128], 161, Attention::default());
}

#[test]
fn causal_queries_see_their_past_only() {
    let causal = Attention {
        is_causal: true,
        ..Default::default()
    };
    for (queries, keys) in [(1, 1), (77, 77), (150, 150), (150, 40), (9, 100)] {
        hold_attention("attention_", [1, queries, 2, 64], keys, causal);
    }
    hold_attention("attention_", [1, 100, 1, 160], 100, causal);
}

#[test]
fn biases_repeat_along_what_they_lack_and_blind_queries_get_zeros() {
    let minus = f32::NEG_INFINITY;
    for shape in [[1, 1, 1, 75], [2, 1, 1, 75], [1, 3, 37, 75], [2, 3, 37, 75]] {
        let bias = wave(&shape).affine(4.0, 0.0).unwrap();
        let mut values = bias.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (i, value) in values.iter_mut().enumerate() {
            let (query, key) = (i / 75 % shape[2], i % 75);
            let is_blind = shape[2] > 1 && query % 9 == 4;
            if is_blind || key % 7 == 3 || key < 40 && query % 3 == 1 {
                *value = minus;
            }
            // A mask that leaves something when there is nothing else.
            if shape[2] > 1 && query % 9 == 5 {
                *value = f32::MIN;
            }
        }
        let masked = Tensor::from_vec(values, &shape, &Device::Cpu).unwrap();
        for bias in [&bias, &masked] {
            let options = Attention {
                bias: Some(bias),
                ..Default::default()
            };
            hold_attention("attention_", [2, 37, 3, 40], 75, options);
        }
    }
}

#[test]
fn columns_of_wider_rows_are_read_in_place() {
    // Heads of 20 numbers do not begin at multiples of 16 bytes, nor does a first row left out.
    for (size, first) in [(64, 0), (40, 1), (20, 0), (36, 1)] {
        let wide = wave(&[2, 51, 9, size]);
        for format in FORMATS {
            compare("attention_", format, |device, dtype| {
                let wide = rounded(&wide, format.0, dtype, device);
                let part = |at| wide.narrow(1, first, 50).unwrap().narrow(2, at, 3).unwrap();
                attention(&part(0), &part(3), &part(6), Attention::default())
            });
        }
    }
}

/// A kernel and its bias, rounded to one format and held in another.
fn weights(shape: &[usize], format: DType, dtype: DType, device: &Device) -> Weights {
    let scale = 1.0 / (shape[1..].iter().product::<usize>() as f64).sqrt();
    let weight = wave(shape).affine(scale, 0.1 * scale).unwrap();
    let tensors = HashMap::from([
        (
            "weight".to_owned(),
            rounded(&weight, format, dtype, &Device::Cpu),
        ),
        (
            "bias".to_owned(),
            rounded(&wave(&shape[..1]), format, dtype, &Device::Cpu),
        ),
    ]);
    Weights::new(Loaded::new("test", tensors), device, dtype)
}

#[test]
fn convolutions_of_every_kind_equal_the_processors() {
    let all = Padding::all;
    for (inputs, outputs, kernel, step, padding, [height, width]) in [
        (40, 70, 3, 1, all(1), [9, 21]),
        (3, 5, 3, 1, all(1), [17, 8]),
        (64, 131, 3, 1, all(1), [10, 34]),
        // More tiles than a GPU has cores: blocks of 128 outputs.
        (4, 129, 3, 1, all(1), [48, 64]),
        (72, 33, 1, 1, all(0), [7, 9]),
        (129, 140, 1, 1, all(0), [13, 15]),
        (33, 20, 3, 2, Padding::bottom_right(1), [10, 40]),
        (16, 20, 3, 2, all(1), [11, 13]),
        (33, 20, 1, 2, all(0), [16, 21]),
        (12, 21, 2, 2, all(0), [8, 12]),
        (35, 20, 5, 1, all(2), [6, 18]),
    ] {
        let x = wave(&[2, inputs, height, width]);
        for format in FORMATS {
            let run = |device: &Device, dtype, has_residual: bool| {
                let shape = [outputs, inputs, kernel, kernel];
                let weights = weights(&shape, format.0, dtype, device);
                let conv = Conv2d::load(&weights, inputs, outputs, kernel, step, padding)?;
                let x = rounded(&x, format.0, dtype, device);
                if !has_residual {
                    return conv.forward(&x);
                }
                let residual =
                    wave(conv_shape([2, outputs, height, width], kernel, step, padding).as_slice());
                conv.forward_add(&x, &rounded(&residual, format.0, dtype, device))
            };
            // Every other one adds a residual.
            compare("conv_", format, |device, dtype| {
                run(device, dtype, outputs % 2 == 1)
            });
        }
    }
}

/// The shape of a result of `size` (batch, outputs, source height, source width).
fn conv_shape(
    [batch, outputs, height, width]: [usize; 4],
    kernel: usize,
    step: usize,
    padding: Padding,
) -> [usize; 4] {
    let size = |source: usize, around: usize| (source + around - kernel) / step + 1;
    [
        batch,
        outputs,
        size(height, padding.top + padding.bottom),
        size(width, padding.left + padding.right),
    ]
}

#[test]
fn shifts_of_images_and_enlargements_are_part_of_a_convolution() {
    let (x, shift) = (wave(&[2, 34, 5, 11]), wave(&[2, 20]));
    for format in FORMATS {
        compare("conv_", format, |device, dtype| {
            let weights = weights(&[20, 34, 3, 3], format.0, dtype, device);
            let conv = Conv2d::load(&weights, 34, 20, 3, 1, Padding::all(1))?;
            let [x, shift] = [&x, &shift].map(|x| rounded(x, format.0, dtype, device));
            conv.forward_shifted(&x, &shift)
        });
        compare("conv_", format, |device, dtype| {
            let weights = weights(&[20, 34, 3, 3], format.0, dtype, device);
            Conv2d::load_enlarging(&weights, 34, 20)?.forward(&rounded(&x, format.0, dtype, device))
        });
    }
}

#[test]
fn frames_cut_in_different_places_give_the_same_bits() {
    for (size, step) in [
        ([3, 3, 3], 1),
        ([3, 1, 1], 1),
        ([1, 1, 1], 1),
        ([3, 1, 1], 2),
    ] {
        let x = wave(&[4, 36, 7, 10]);
        let residual = wave(&[4 / step, 11, 7, 10]);
        for format in FORMATS {
            let run = |device: &Device, dtype, cuts: &[usize]| -> Result<Tensor> {
                let [frames, rows, columns] = size;
                let weights = weights(&[11, 36, frames, rows, columns], format.0, dtype, device);
                let conv = CausalConv3d::load(&weights, 36, 11, size, step)?;
                let [x, residual] = [&x, &residual].map(|x| rounded(x, format.0, dtype, device));
                let (mut history, mut first, mut parts) = (History::default(), 0, Vec::new());
                for &count in cuts {
                    let x = x.narrow(0, first, count)?;
                    let residual = residual.narrow(0, first / step, count / step)?;
                    parts.push(conv.forward(&x, &mut history, Some(&residual))?);
                    first += count;
                }
                Ok(Tensor::cat(&parts, 0)?)
            };
            compare("conv_", format, |device, dtype| run(device, dtype, &[4]));
            let whole = run_kernels("conv_", |device| run(device, format.0, &[4]));
            for cuts in [[2, 2].as_slice(), &[2, 1, 1]] {
                if cuts.iter().all(|count| count % step == 0) {
                    let parts = run_kernels("conv_", |device| run(device, format.0, cuts));
                    assert_near(&parts, &whole, 0.0, "cut frames");
                }
            }
        }
    }
}

#[test]
fn frames_may_mirror_at_their_edges() {
    let x = wave(&[3, 36, 7, 10]);
    for format in FORMATS {
        compare("conv_", format, |device, dtype| {
            let weights = weights(&[11, 36, 3, 3, 3], format.0, dtype, device);
            let conv = CausalConv3d::load(&weights, 36, 11, [3, 3, 3], 1)?;
            let conv = conv.with_edges(Edges::Reflected);
            conv.forward(
                &rounded(&x, format.0, dtype, device),
                &mut History::default(),
                None,
            )
        });
    }
}

#[test]
fn signals_are_rows_of_pixels() {
    for (length, kernel, gap) in [(300, 7, 1), (61, 3, 5), (130, 11, 3)] {
        let x = wave(&[2, 20, length]);
        for format in FORMATS {
            compare("conv_", format, |device, dtype| {
                let weights = weights(&[24, 20, kernel], format.0, dtype, device);
                let conv = Conv1d::load(&weights, 20, 24, (kernel, gap), true)?;
                conv.forward(&rounded(&x, format.0, dtype, device))
            });
        }
    }
}
