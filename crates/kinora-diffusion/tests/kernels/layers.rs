//! Layers on emulated kernels against the same layers on the processor: odd sizes, strided inputs,
//! every number format.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use kinora_diffusion::layers::{
    Activation, ChannelNorm, GroupNorm, LayerNorm, Linear, Modulation, Pairs, RmsNorm, Rope,
    Weights, activation, add_gated, concat_gelu, layer_norm_modulated, norm::After,
    normalize_and_rotate, rms_norm_modulated, rope::HeadPart, softmax, upsample_nearest,
    weights::Loaded,
};

use crate::machine::{hold, wave};

/// Scales around one and shifts around zero.
fn weights(size: usize) -> Weights {
    let tensors = HashMap::from([
        ("weight".to_owned(), wave(&[size]).affine(0.3, 1.0).unwrap()),
        ("bias".to_owned(), wave(&[size]).affine(0.2, 0.1).unwrap()),
        (
            "gamma".to_owned(),
            wave(&[size, 1, 1]).affine(0.3, 1.0).unwrap(),
        ),
    ]);
    Weights::new(Loaded::new("test", tensors), &Device::Cpu, DType::F32)
}

#[test]
fn norms_of_rows_equal_the_processors() {
    for (rows, size) in [(1, 8), (5, 33), (3, 64), (2, 257), (3, 1280), (2, 5120)] {
        // A mean far from zero costs no digits that are not gone already.
        let x = wave(&[1, rows, size]).affine(2.0, 1.5).unwrap();
        let layer = LayerNorm::load(&weights(size), size, 1e-6).unwrap();
        hold("normalize_", &[&x], |t| layer.forward(&t[0]));
        let rms = RmsNorm::load(&weights(size), size, 1e-5).unwrap();
        hold("normalize_", &[&x], |t| rms.forward(&t[0]));
        hold("softmax_", &[&x], |t| softmax(&t[0]));
    }
}

#[test]
fn norms_are_modulated_in_either_format_of_the_modulation() {
    for (batch, tokens, size) in [(1, 3, 40), (3, 5, 72), (2, 2, 3072), (2, 3, 45)] {
        let x = wave(&[batch, tokens, size]).affine(2.0, -0.5).unwrap();
        let shift = wave(&[batch, size]);
        let scale = wave(&[batch, size]).affine(0.5, 0.2).unwrap();
        hold("normalize_", &[&x, &shift, &scale], |t| {
            layer_norm_modulated(&t[0], &t[1], &t[2], 1e-6)
        });
        hold("normalize_", &[&x], |t| {
            rms_norm_modulated(&t[0], &shift, &scale, 1e-6)
        });
        let rows = Tensor::stack(&[&shift, &scale], 1).unwrap();
        let modulation = Modulation::new(rows, None, batch).unwrap();
        hold("modulate_", &[&x], |t| {
            modulation.scale_and_shift(&t[0], 0, 1)
        });
        let y = wave(&[batch, tokens, size]).affine(0.7, 0.1).unwrap();
        hold("add_gated_", &[&x, &scale, &y], |t| {
            add_gated(&t[0], &t[1], &t[2])
        });
        hold("add_gated_", &[&x, &y], |t| add_gated(&t[0], &scale, &t[1]));
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
        let norm = GroupNorm::load(&weights(channels), groups, channels, 1e-6).unwrap();
        for after in [After::Nothing, After::Silu] {
            hold("group_norm_", &[&x], |t| norm.forward(&t[0], after));
        }
    }
}

#[test]
fn norms_over_channels_equal_the_processors() {
    for shape in [[2, 3, 4, 4], [1, 17, 9, 5], [3, 96, 16, 20], [1, 8, 1, 1]] {
        let channels = shape[1];
        let x = wave(&shape).affine(1.5, 0.3).unwrap();
        let by_length = ChannelNorm::load(&weights(channels), channels, 2).unwrap();
        let rms = ChannelNorm::rms(channels, 1e-8, &Device::Cpu).unwrap();
        let modulated = rms
            .modulated(&wave(&[channels]), &(wave(&[channels]) * 0.3).unwrap())
            .unwrap();
        for norm in [&by_length, &rms, &modulated] {
            for after in [After::Nothing, After::Silu] {
                hold("channel_norm_", &[&x], |t| norm.forward(&t[0], after));
            }
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
            hold("activate_", &[&x], |t| activation.forward(&t[0]));
            hold("gate_rows_", &[&x, &y], |t| {
                activation::gated(activation, &t[0], &t[1])
            });
        }
        let halves = Tensor::cat(&[&x, &y], 2).unwrap();
        hold("gate_rows_", &[&halves], |t| {
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
            hold("join_activated_", &[&attention, &wide], |t| {
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
                let rope = Rope::from_angles(&angles, 7, pairs, &Device::Cpu).unwrap();
                for normalised in [size, width] {
                    let norm = RmsNorm::load(&weights(normalised), normalised, 1e-6).unwrap();
                    hold("normalize_and_rotate_", &[&text, &wide], |t| {
                        // Odd, so that neighbours are not read together.
                        let image = t[1].narrow(2, 3, width).unwrap();
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
        hold("enlarge_nearest_", &[&wave(&shape)], |t| {
            upsample_nearest(&t[0])
        });
    }
}

#[test]
fn linear_layers_add_bias_and_residual_at_once() {
    for (inputs, outputs) in [(8, 16), (5, 7), (16, 72)] {
        let weight = wave(&[outputs, inputs]).affine(0.2, 0.0).unwrap();
        let linear = Linear::new(weight.clone(), Some(wave(&[outputs]))).unwrap();
        let (x, residual) = (wave(&[2, 3, inputs]), wave(&[2, 3, outputs]));
        hold("add_bias_", &[&x], |t| linear.forward(&t[0]));
        hold("add_bias_", &[&x, &residual], |t| {
            linear.forward_add(&t[0], &t[1])
        });
        let bare = Linear::new(weight, None).unwrap();
        hold("add_bias_", &[&x, &residual], |t| {
            bare.forward_add(&t[0], &t[1])
        });
    }
}
