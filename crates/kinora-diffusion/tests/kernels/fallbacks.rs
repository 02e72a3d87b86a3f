//! What no kernel of the tensor cores takes: the same layers in candle's operations.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use kinora_diffusion::layers::{Attention, Conv2d, Padding, Weights, attention, weights::Loaded};

use crate::machine::{assert_near, emulated, wave};

fn is_silent(used: &[String]) -> bool {
    !used
        .iter()
        .any(|entry| entry.starts_with("attention_") || entry.starts_with("conv_"))
}

#[test]
fn heads_too_wide_and_values_of_another_size_go_the_portable_way() {
    for (size, value_size) in [(16, 8), (520, 520)] {
        let (q, v) = (wave(&[1, 5, 1, size]), wave(&[1, 5, 1, value_size]));
        let (y, used) = emulated(|| attention(&q, &q, &v, Attention::default()));
        assert!(is_silent(&used), "{used:?}");
        let theirs = attention(&q, &q, &v, Attention::default()).unwrap();
        assert_near(&y.unwrap(), &theirs, 1e-5, "portable");
    }
}

#[test]
fn weights_in_another_format_than_pixels_are_unpacked() {
    let x = wave(&[1, 34, 6, 9]);
    let kernel = wave(&[20, 34, 3, 3]).affine(0.06, 0.0).unwrap();
    let run = |dtype| {
        let half = |x: &Tensor| x.to_dtype(DType::BF16).unwrap().to_dtype(dtype).unwrap();
        let tensors = HashMap::from([
            ("weight".to_owned(), half(&kernel)),
            ("bias".to_owned(), half(&wave(&[20]))),
        ]);
        let weights = Weights::new(Loaded::new("test", tensors), &Device::Cpu, dtype);
        Conv2d::load(&weights, 34, 20, 3, 1, Padding::all(1))?.forward(&x)
    };
    let theirs = run(DType::F32).unwrap();
    let (ours, used) = emulated(|| run(DType::BF16).unwrap());
    assert!(is_silent(&used), "{used:?}");
    assert_near(&ours, &theirs, 1e-5, "unpacked");
}
