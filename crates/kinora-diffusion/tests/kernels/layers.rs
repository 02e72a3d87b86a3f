//! Layers on kernels against the same layers on the processor: odd sizes, strided inputs, every
//! number format. Compiled into two programs, which bring a `machine` each: the emulator
//! (tests/kernels) and a GPU (tests/cuda).

use std::{collections::HashMap, path::Path};

use candle_core::{DType, Device, Tensor};
use kinora_diffusion::layers::{
    Activation, ChannelNorm, GroupNorm, LayerNorm, Linear, Modulation, Pairs, RmsNorm, Rope,
    TensorSource, Weights, activation, add_gated, concat_gelu, layer_norm_modulated, norm::After,
    normalize_and_rotate, rms_norm_modulated, rope::HeadPart, softmax, upsample_nearest,
    weights::Loaded,
};
use kinora_diffusion::{Error, Result};
use kinora_weights::{Dtype, StoredTensor};

use crate::machine::{assert_near, hold, run_kernels, wave};

/// Scales around one and shifts around zero.
fn weights(size: usize, device: &Device) -> Weights {
    let tensors = HashMap::from([
        ("weight".to_owned(), wave(&[size]).affine(0.3, 1.0).unwrap()),
        ("bias".to_owned(), wave(&[size]).affine(0.2, 0.1).unwrap()),
        (
            "gamma".to_owned(),
            wave(&[size, 1, 1]).affine(0.3, 1.0).unwrap(),
        ),
    ]);
    Weights::new(Loaded::new("test", tensors), device, DType::F32)
}

#[test]
fn norms_of_rows_equal_the_processors() {
    for (rows, size) in [(1, 8), (5, 33), (3, 64), (2, 257), (3, 1280), (2, 5120)] {
        // A mean far from zero costs no digits that are not gone already.
        let x = wave(&[1, rows, size]).affine(2.0, 1.5).unwrap();
        hold("normalize_", &[&x], |device, t| {
            LayerNorm::load(&weights(size, device), size, 1e-6)?.forward(&t[0])
        });
        hold("normalize_", &[&x], |device, t| {
            RmsNorm::load(&weights(size, device), size, 1e-5)?.forward(&t[0])
        });
        hold("softmax_", &[&x], |_, t| softmax(&t[0]));
    }
}

#[test]
fn norms_are_modulated_in_either_format_of_the_modulation() {
    for (batch, tokens, size) in [(1, 3, 40), (3, 5, 72), (2, 2, 3072), (2, 3, 45)] {
        let x = wave(&[batch, tokens, size]).affine(2.0, -0.5).unwrap();
        let shift = wave(&[batch, size]);
        let scale = wave(&[batch, size]).affine(0.5, 0.2).unwrap();
        hold("normalize_", &[&x, &shift, &scale], |_, t| {
            layer_norm_modulated(&t[0], &t[1], &t[2], 1e-6)
        });
        hold("normalize_", &[&x], |device, t| {
            let (shift, scale) = (shift.to_device(device)?, scale.to_device(device)?);
            rms_norm_modulated(&t[0], &shift, &scale, 1e-6)
        });
        hold("modulate_", &[&x], |device, t| {
            let rows = Tensor::stack(&[&shift, &scale], 1)?.to_device(device)?;
            Modulation::new(rows, None, batch)?.scale_and_shift(&t[0], 0, 1)
        });
        let y = wave(&[batch, tokens, size]).affine(0.7, 0.1).unwrap();
        hold("add_gated_", &[&x, &scale, &y], |_, t| {
            add_gated(&t[0], &t[1], &t[2])
        });
        hold("add_gated_", &[&x, &y], |_, t| {
            add_gated(&t[0], &scale, &t[1])
        });
    }
}

#[test]
fn group_norms_of_short_and_long_groups_equal_the_processors() {
    for (shape, groups) in [
        ([2, 6, 1, 1], 3),
        ([2, 4, 5, 7], 2),
        ([1, 32, 8, 8], 32),
        // Several slices and several parts, of which the last are short.
        ([1, 4, 123, 181], 2),
        ([2, 2, 96, 200], 1),
    ] {
        let channels = shape[1];
        let x = wave(&shape).affine(1.5, 4.0).unwrap();
        for after in [After::Nothing, After::Silu] {
            hold("group_norm_", &[&x], |device, t| {
                let weights = weights(channels, device);
                GroupNorm::load(&weights, groups, channels, 1e-6)?.forward(&t[0], after)
            });
        }
    }
}

#[test]
fn norms_over_channels_equal_the_processors() {
    for shape in [[2, 3, 4, 4], [1, 17, 9, 5], [3, 96, 16, 20], [1, 8, 1, 1]] {
        let channels = shape[1];
        let x = wave(&shape).affine(1.5, 0.3).unwrap();
        let (shift, scale) = (
            wave(&[channels]),
            wave(&[channels]).affine(0.3, 0.0).unwrap(),
        );
        for after in [After::Nothing, After::Silu] {
            hold("channel_norm_", &[&x], |device, t| {
                ChannelNorm::load(&weights(channels, device), channels, 2)?.forward(&t[0], after)
            });
            hold("channel_norm_", &[&x], |device, t| {
                ChannelNorm::rms(channels, 1e-8, device)?.forward(&t[0], after)
            });
            hold("channel_norm_", &[&x], |device, t| {
                let (shift, scale) = (shift.to_device(device)?, scale.to_device(device)?);
                let plain = ChannelNorm::rms(channels, 1e-8, device)?;
                plain.modulated(&shift, &scale)?.forward(&t[0], after)
            });
        }
    }
}

#[test]
fn activations_and_gates_equal_the_processors() {
    for shape in [[1, 1, 5], [2, 7, 64], [3, 5, 770]] {
        let x = wave(&shape).affine(6.0, 0.0).unwrap();
        let y = wave(&shape);
        for activation in [
            Activation::Silu,
            Activation::GeluTanh,
            Activation::GeluErf,
            Activation::QuickGelu,
            Activation::Relu,
        ] {
            hold("activate_", &[&x], |_, t| activation.forward(&t[0]));
            hold("gate_rows_", &[&x, &y], |_, t| {
                activation::gated(activation, &t[0], &t[1])
            });
        }
        let halves = Tensor::cat(&[&x, &y], 2).unwrap();
        hold("gate_rows_", &[&halves], |_, t| {
            activation::gated_halves(Activation::GeluErf, &t[0])
        });
    }
}

#[test]
fn rows_are_joined_where_they_lie() {
    for (batch, tokens, left, right) in [(1, 1, 8, 16), (2, 5, 24, 96), (2, 3, 7, 13)] {
        let attention = wave(&[batch, tokens, left]);
        let wide = wave(&[batch, tokens, right + 24]).affine(3.0, 0.0).unwrap();
        for first in [0, 8, 24] {
            hold("join_activated_", &[&attention, &wide], |_, t| {
                concat_gelu(&t[0], &t[1].narrow(2, first, right).unwrap())
            });
        }
    }
}

#[test]
fn rotation_goes_over_parts_heads_and_both_kinds_of_pairs() {
    for (heads, size) in [(3, 16), (5, 6), (9, 64)] {
        let width = heads * size;
        let (text, wide) = (wave(&[2, 3, width]), wave(&[2, 4, width + 10]));
        for columns in [size / 2, width / 2] {
            let angles: Vec<f32> = (0..7 * columns).map(|i| i as f32 * 0.37).collect();
            for pairs in [Pairs::Neighbours, Pairs::Halves] {
                for normalised in [size, width] {
                    hold("normalize_and_rotate_", &[&text, &wide], |device, t| {
                        let rope = Rope::from_angles(&angles, 7, pairs, device)?;
                        let weights = weights(normalised, device);
                        let norm = RmsNorm::load(&weights, normalised, 1e-6)?;
                        // Odd, so that neighbours are not read together.
                        let image = t[1].narrow(2, 3, width)?;
                        let parts = [&t[0], &image].map(|x| HeadPart { x, norm: &norm });
                        normalize_and_rotate(&parts, heads, &rope)
                    });
                }
            }
        }
    }
}

#[test]
fn pictures_are_enlarged() {
    for shape in [[2, 3, 5, 7], [1, 4, 16, 32]] {
        hold("enlarge_nearest_", &[&wave(&shape)], |_, t| {
            upsample_nearest(&t[0])
        });
    }
}

#[test]
fn linear_layers_add_bias_and_residual_at_once() {
    for (inputs, outputs) in [(8, 16), (5, 7), (16, 72)] {
        let weight = wave(&[outputs, inputs]).affine(0.2, 0.0).unwrap();
        let bias = wave(&[outputs]);
        let (x, residual) = (wave(&[2, 3, inputs]), wave(&[2, 3, outputs]));
        let linear = |device: &Device, has_bias: bool| {
            let bias = has_bias.then(|| bias.to_device(device)).transpose()?;
            Linear::new(weight.to_device(device)?, bias)
        };
        hold("add_bias_", &[&x], |device, t| {
            linear(device, true)?.forward(&t[0])
        });
        for has_bias in [false, true] {
            hold("add_bias_", &[&x, &residual], |device, t| {
                linear(device, has_bias)?.forward_add(&t[0], &t[1])
            });
        }
    }
}

/// Matrices as they lie in a file.
struct Quantised(Vec<(String, StoredTensor)>);

impl Quantised {
    fn find(&self, name: &str) -> Option<&StoredTensor> {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map(|(_, tensor)| tensor)
    }
}

impl TensorSource for Quantised {
    fn path(&self) -> &Path {
        Path::new("quantised")
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.find(name).map(|tensor| tensor.shape.clone())
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        let Some(tensor) = self.find(name) else {
            return Err(Error::BadRequest(format!("there is no {name}")));
        };
        let shape = tensor.shape.as_slice();
        Ok(Tensor::from_vec(tensor.to_f32(), shape, &Device::Cpu)?)
    }

    fn quantised(&self, name: &str) -> Result<Option<StoredTensor>> {
        Ok(self.find(name).cloned())
    }

    fn is_quantised(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

#[test]
fn every_stored_format_is_widened_to_the_numbers_of_the_plain_reading() {
    let (rows, columns) = (3, 512);
    let formats = [
        (Dtype::I8, vec![0.5, 0.25, 2.0]),
        (Dtype::F8E4M3, vec![0.5]),
        (Dtype::F8E5M2, vec![]),
        (Dtype::Q4_0, vec![]),
        (Dtype::Q4_1, vec![]),
        (Dtype::Q5_0, vec![]),
        (Dtype::Q5_1, vec![]),
        (Dtype::Q8_0, vec![]),
        (Dtype::Iq4Nl, vec![]),
        (Dtype::Mxfp4, vec![]),
        (Dtype::Q2K, vec![]),
        (Dtype::Q3K, vec![]),
        (Dtype::Q4K, vec![]),
        (Dtype::Q5K, vec![]),
        (Dtype::Q6K, vec![]),
        (Dtype::Q8K, vec![]),
        (Dtype::Iq4Xs, vec![]),
        // Beside others it is widened like them.
        (Dtype::F16, vec![]),
    ];
    for (dtype, scales) in formats {
        let len = dtype.bytes_of((rows * columns) as u64).unwrap() as usize;
        // Every pattern, but exponents that would make infinities of scales.
        let bytes = (0..len).map(|i| (i * 37 % 251) as u8 & 0xb7).collect();
        let tensor = |dtype, bytes, scales| StoredTensor {
            dtype,
            shape: vec![rows, columns],
            bytes,
            scales,
            groups: None,
        };
        let stored = tensor(dtype, bytes, scales);
        let eighths = tensor(Dtype::I8, vec![3; rows * columns], vec![0.125]);
        let numbers = stored.to_f32();
        assert!(numbers.iter().all(|number| number.is_finite()), "{dtype}");
        let largest = numbers.iter().fold(1e-30f32, |most, x| most.max(x.abs()));
        // One number of the matrix after another, brought to a size that gates are made for.
        let x =
            (Tensor::eye(columns, DType::F32, &Device::Cpu).unwrap() / f64::from(largest)).unwrap();
        let parts = [
            ("a.weight".to_owned(), stored),
            ("b.weight".to_owned(), eighths),
        ];
        let wanted = {
            let weights = Weights::new(Quantised(parts.to_vec()), &Device::Cpu, DType::F32);
            let stack = [("a", rows), ("b", rows)];
            let linear = Linear::load_stacked_no_bias(&weights, columns, &stack).unwrap();
            linear.forward(&x).unwrap()
        };
        for (target, gate) in [(DType::F32, 1e-5), (DType::BF16, 8e-3)] {
            let ours = run_kernels("dequantise_", |device| {
                let weights = Weights::new(Quantised(parts.to_vec()), device, target);
                let stack = [("a", rows), ("b", rows)];
                let linear = Linear::load_stacked_no_bias(&weights, columns, &stack)?;
                assert!(linear.bytes() < (2 * rows * columns * target.size_in_bytes()) as u64);
                linear.forward(&x.to_dtype(target)?.to_device(device)?)
            });
            assert_eq!(ours.dtype(), target);
            assert_near(&ours, &wanted, gate, dtype.as_str());
        }
    }
}
