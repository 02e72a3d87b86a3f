// Included by the `machine` of each program: how layers are held to the processor's.

/// Runs `work` on inputs of every number format on the kernels, and holds the results to those of
/// the processor in f32 on the same (rounded) numbers. Fails when the kernel `entry` was not used.
pub fn hold(entry: &str, inputs: &[&Tensor], work: impl Fn(&Device, &[Tensor]) -> Result<Tensor>) {
    for (dtype, gate) in [(DType::F32, 1e-5), (DType::BF16, 8e-3), (DType::F16, 1e-3)] {
        let convert = |tensors: &[Tensor], dtype, device: &Device| -> Result<Vec<Tensor>> {
            let tensors = tensors.iter();
            tensors
                .map(|tensor| Ok(tensor.to_dtype(dtype)?.to_device(device)?))
                .collect()
        };
        let inputs: Vec<Tensor> = inputs.iter().map(|tensor| (*tensor).clone()).collect();
        let rounded = convert(&inputs, dtype, &Device::Cpu).unwrap();
        let theirs = work(
            &Device::Cpu,
            &convert(&rounded, DType::F32, &Device::Cpu).unwrap(),
        )
        .unwrap();
        let ours = run_kernels(entry, |device| {
            work(device, &convert(&rounded, dtype, device)?)
        });
        assert_eq!(ours.dtype(), dtype, "{entry}");
        assert_near(&ours, &theirs, gate, entry);
    }
}

/// Fails when an element differs by more than `gate`, or by more than that share of it.
pub fn assert_near(ours: &Tensor, theirs: &Tensor, gate: f32, what: &str) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let flat = |tensor: &Tensor| -> Vec<f32> {
        let plain = tensor.to_device(&Device::Cpu).unwrap();
        let plain = plain.to_dtype(DType::F32).unwrap();
        plain.flatten_all().unwrap().to_vec1().unwrap()
    };
    for (i, (a, b)) in flat(ours).iter().zip(flat(theirs)).enumerate() {
        assert!(
            (a - b).abs() <= gate * b.abs().max(1.0),
            "{what}: element {i} of {:?}: {a} is not {b}",
            ours.dims()
        );
    }
}

/// Numbers between −1 and 1 that repeat late.
pub fn wave(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|i| ((i * i % 9973) as f32 * 0.37 + i as f32 * 0.11).sin())
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}
