//! What the tests of the layers share: smooth test tensors and a comparison.

use candle_core::{Device, Tensor};

/// Values of about unit size without a pattern that a wrong stride would repeat.
pub(crate) fn wave(shape: &[usize]) -> Tensor {
    let len: usize = shape.iter().product();
    let data: Vec<f32> = (0..len)
        .map(|i| {
            let i = i as f32;
            (i * 0.731).sin() + 0.5 * (i * 0.0137 + 1.0).cos()
        })
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

/// Fails when any element differs by more than `gate`.
pub(crate) fn assert_close(ours: &Tensor, theirs: &Tensor, gate: f32) {
    assert_eq!(ours.dims(), theirs.dims());
    let ours = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let theirs = theirs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        assert!((a - b).abs() <= gate, "element {i}: {a} is not {b}");
    }
}
