//! What the emulator sees: kernels with a mistake each (kernels/emulator/proof.cu).

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use kinora_diffusion::layers::Launch;

use crate::{Argument, Order, Program, emulator::numbers};

fn program() -> Program {
    Program::of("emulator/proof")
}

fn launch(kernel: &'static str, threads: u32, shared_bytes: u32) -> Launch {
    Launch {
        kernel,
        grid: [1; 3],
        block: [threads, 1, 1],
        shared_bytes,
    }
}

fn counted(count: usize) -> Tensor {
    Tensor::arange(0f32, count as f32, &Device::Cpu).unwrap()
}

fn f32s(buffer: &[u8]) -> Vec<f32> {
    let tensor = numbers(buffer, DType::F32, &[buffer.len() / 4]);
    tensor.to_vec1().unwrap()
}

/// Every thread's result of a kernel that takes `from` and `to` only.
fn turn(kernel: &'static str, order: Order) -> Result<Vec<f32>, String> {
    let arguments = [
        Argument::tensor(&counted(96)),
        Argument::room(96, DType::F32),
    ];
    let buffers = program().run(&launch(kernel, 96, 96 * 4), &arguments, order)?;
    Ok(f32s(&buffers[1]))
}

#[test]
fn a_missing_barrier_shows_in_every_order() {
    let wanted: Vec<f32> = (0..96).map(|i| ((i + 1) % 96) as f32).collect();
    for order in Order::ALL {
        assert_eq!(turn("turn_right", order).unwrap(), wanted);
        assert_ne!(
            turn("turn_without_barrier", order).unwrap(),
            wanted,
            "{order:?}"
        );
    }
}

#[test]
fn an_access_behind_the_end_is_a_fault() {
    for order in Order::ALL {
        let message = turn("turn_out_of_bounds", order).unwrap_err();
        assert!(
            message.contains("behind the end of shared memory"),
            "{message}"
        );
        let message = turn("turn_in_global_memory", order).unwrap_err();
        assert!(
            message.contains("behind the end of argument 0"),
            "{message}"
        );
    }
}

#[test]
fn threads_that_wait_in_different_places_are_a_fault() {
    for order in Order::ALL {
        let message = turn("barrier_in_a_branch", order).unwrap_err();
        assert!(
            message.contains("stands still") || message.contains("different barriers"),
            "{message}"
        );
        let message = turn("lanes_that_diverge", order).unwrap_err();
        assert!(message.contains("stands still"), "{message}");
    }
}

#[test]
fn a_copy_that_nobody_waits_for_or_that_comes_too_early_shows() {
    const RUNS: usize = 5;
    let count = RUNS * 64 * 4;
    let relay = |kernel, order| {
        let arguments = [
            Argument::tensor(&counted(count)),
            Argument::room(count, DType::F32),
            Argument::scalars((RUNS as i32).to_le_bytes()),
        ];
        let buffers = program()
            .run(&launch(kernel, 64, 2 * 64 * 16), &arguments, order)
            .unwrap();
        f32s(&buffers[1]) == counted(count).to_vec1::<f32>().unwrap()
    };
    for order in Order::ALL {
        assert!(relay("relay_right", order), "{order:?}");
    }
    assert!(!relay("relay_without_wait", Order::Forwards));
    assert!(!relay("relay_without_wait", Order::Shuffled(3)));
    assert!(!relay("relay_that_overtakes", Order::Backwards));
}

#[test]
fn fragments_and_roundings_are_those_of_the_hardware() {
    let a: Vec<f32> = (0..256).map(|i| ((i * 37) % 19) as f32 - 9.0).collect();
    let b: Vec<f32> = (0..128).map(|i| ((i * 23) % 17) as f32 - 8.0).collect();
    let a = Tensor::from_vec(a, (16, 16), &Device::Cpu).unwrap();
    let b = Tensor::from_vec(b, (16, 8), &Device::Cpu).unwrap();
    let wanted = a
        .matmul(&b)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    for (kernel, dtype) in [("multiply_bf16", DType::BF16), ("multiply_f16", DType::F16)] {
        let product = |is_started: i32| {
            let arguments = [
                Argument::tensor(&a.to_dtype(dtype).unwrap()),
                Argument::tensor(&b.to_dtype(dtype).unwrap()),
                Argument::room(128, DType::F32),
                Argument::scalars(is_started.to_le_bytes()),
            ];
            let buffers = program().run(&launch(kernel, 32, 1024), &arguments, Order::Shuffled(5));
            f32s(&buffers.unwrap()[2])
        };
        assert_eq!(product(1), wanted);
        // Sums that nobody has set to zero are not small by chance.
        assert_ne!(product(0), wanted);
    }
    #[rustfmt::skip]
    let odd: Vec<f32> = vec![
        0.0, -0.0, 1.0, 1.0 + 0.5f32.powi(9), 1.0 + 3.0 * 0.5f32.powi(9), 1.0 + 0.5f32.powi(11), 65504.0, 65519.0,
        65520.0, 1e-8, 5.96e-8, 3e-8, 6.1e-5, 6.097e-5, -1.3e-6, f32::INFINITY, f32::NEG_INFINITY, 3.4e38, 1e-40, -2.5,
    ];
    let arguments = |dtype| {
        let from = Tensor::new(odd.as_slice(), &Device::Cpu).unwrap();
        [Argument::tensor(&from), Argument::room(odd.len(), dtype)]
    };
    let threads = odd.len() as u32;
    let ours = program()
        .run(
            &launch("round_bf16", threads, 0),
            &arguments(DType::BF16),
            Order::Forwards,
        )
        .unwrap();
    let theirs: Vec<u8> = odd
        .iter()
        .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
        .collect();
    assert_eq!(ours[1], theirs);
    let ours = program()
        .run(
            &launch("round_f16", threads, 0),
            &arguments(DType::F16),
            Order::Forwards,
        )
        .unwrap();
    let theirs: Vec<u8> = odd
        .iter()
        .flat_map(|x| f16::from_f32(*x).to_le_bytes())
        .collect();
    assert_eq!(ours[1], theirs);
}
