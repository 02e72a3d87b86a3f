//! The emulator in place of a GPU: layers on tensors of the processor run their kernels in it.

use std::{cell::RefCell, rc::Rc};

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use kinora_diffusion::{
    Error, Result,
    kernels::{self, Call, Machine},
    layers::Launch,
};

use crate::{Argument, Order, Program};

/// Runs each launch in every order and remembers the entry points.
#[derive(Debug, Default)]
pub struct Emulator {
    entries: RefCell<Vec<String>>,
}

/// The result of `work` on emulated kernels, and which ones it used.
pub fn emulated<R>(work: impl FnOnce() -> R) -> (R, Vec<String>) {
    let emulator = Rc::new(Emulator::default());
    let result = kernels::with_machine(emulator.clone(), work);
    let entries = emulator.entries.take();
    (result, entries)
}

impl Machine for Emulator {
    fn run(&self, call: &Call) -> Result<Vec<Tensor>> {
        let program = Program::of(call.source);
        // NaN in every format.
        let mut outputs: Vec<Vec<u8>> = call
            .outputs
            .iter()
            .map(|(dtype, shape)| vec![0xff; shape.elem_count() * dtype.size_in_bytes()])
            .collect();
        for launch in &call.launches {
            self.entries.borrow_mut().push(launch.entry.clone());
            let arguments: Vec<Argument> = launch
                .arguments
                .iter()
                .map(|argument| match argument {
                    kernels::Argument::In(tensor) => Argument::Buffer(reachable(tensor)),
                    kernels::Argument::Out(index) => Argument::Buffer(outputs[*index].clone()),
                    kernels::Argument::Int(value) => Argument::scalars(value.to_le_bytes()),
                    kernels::Argument::Long(value) => Argument::scalars(value.to_le_bytes()),
                    kernels::Argument::Float(value) => Argument::scalars(value.to_le_bytes()),
                })
                .collect();
            let shape = Launch {
                // Lives as long as the test.
                kernel: launch.entry.clone().leak(),
                grid: launch.grid,
                block: launch.block,
                shared_bytes: launch.shared_bytes,
            };
            let run = |order| {
                program
                    .run(&shape, &arguments, order)
                    .map_err(Error::BadRequest)
            };
            let buffers = run(Order::Forwards)?;
            for order in &Order::ALL[1..] {
                assert!(run(*order)? == buffers, "{} in {order:?}", launch.entry);
            }
            let is_buffer = |argument: &&kernels::Argument| {
                matches!(
                    argument,
                    kernels::Argument::In(_) | kernels::Argument::Out(_)
                )
            };
            let given = launch.arguments.iter().filter(is_buffer);
            for (argument, buffer) in given.zip(buffers) {
                match argument {
                    kernels::Argument::Out(index) => outputs[*index] = buffer,
                    kernels::Argument::In(tensor) => {
                        assert!(buffer == reachable(tensor), "{} writes", launch.entry);
                    }
                    _ => {}
                }
            }
        }
        outputs
            .into_iter()
            .zip(&call.outputs)
            .map(|(bytes, (dtype, shape))| {
                let device = Device::Cpu;
                Ok(Tensor::from_raw_buffer(
                    &bytes,
                    *dtype,
                    shape.dims(),
                    &device,
                )?)
            })
            .collect()
    }
}

/// The bytes from a tensor's first element to its last one, whatever its strides are.
fn reachable(tensor: &Tensor) -> Vec<u8> {
    let (storage, layout) = tensor.storage_and_layout();
    let start = layout.start_offset();
    let steps = layout.dims().iter().zip(layout.stride());
    let count = 1 + steps
        .map(|(size, stride)| (size - 1) * stride)
        .sum::<usize>();
    let Storage::Cpu(storage) = &*storage else {
        panic!("not on the processor");
    };
    fn bytes<T: Copy, const N: usize>(numbers: &[T], of: impl Fn(T) -> [u8; N]) -> Vec<u8> {
        numbers.iter().flat_map(|number| of(*number)).collect()
    }
    let range = start..start + count;
    match storage {
        CpuStorage::F32(all) => bytes(&all[range], f32::to_le_bytes),
        CpuStorage::BF16(all) => bytes(&all[range], |x| x.to_le_bytes()),
        CpuStorage::F16(all) => bytes(&all[range], |x| x.to_le_bytes()),
        CpuStorage::U8(all) => all[range].to_vec(),
        CpuStorage::U32(all) => bytes(&all[range], u32::to_le_bytes),
        _ => panic!("no kernel takes {:?}", tensor.dtype()),
    }
}

/// The result of `work` on emulated kernels. Fails when the kernel `entry` was not used.
pub fn run_kernels(entry: &str, work: impl FnOnce(&Device) -> Result<Tensor>) -> Tensor {
    let (ours, entries) = emulated(|| work(&Device::Cpu));
    assert!(
        entries.iter().any(|used| used.starts_with(entry)),
        "{entry}: used were {entries:?}"
    );
    ours.unwrap_or_else(|error| panic!("{entry}: {error}"))
}

include!("hold.rs");
