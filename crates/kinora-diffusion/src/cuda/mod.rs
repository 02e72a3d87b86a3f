//! Launching kernels on NVIDIA GPUs, through candle's device, on its stream and in its memory pool.
//!
//! The kernels are compiled to PTX by `build.rs` and carried inside the program. What is launched
//! is planned in [`crate::kernels`].

mod device;

use candle_core::{
    CudaDevice, CudaStorage, DType, Shape, Storage, Tensor,
    cuda_backend::{
        CudaStorageSlice,
        cudarc::driver::{
            CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg, SyncOnDrop, sys,
        },
    },
    op::BackpropOp,
};

pub use device::{keep_freed_memory, open, peak_bytes};

use crate::{
    Result,
    error::bail_shape,
    kernels::{Argument, Call, Launch},
};

/// Names and texts of the compiled sources.
const PTX: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/ptx.rs"));

/// More shared memory than this has to be asked for.
const PLAIN_SHARED_BYTES: u32 = 48 * 1024;

/// What a parameter is set to.
enum Value {
    Address(sys::CUdeviceptr),
    Int(i32),
    Long(i64),
    Float(f32),
}

/// Launches a call on the device of its inputs. Returns before it is done.
pub(crate) fn run(call: &Call) -> Result<Vec<Tensor>> {
    let Some(device) = call.launches.iter().find_map(device_of) else {
        bail_shape!("a call of {} without a tensor on a GPU", call.source);
    };
    let outputs = call
        .outputs
        .iter()
        .map(|(dtype, shape)| allocate(&device, *dtype, shape.elem_count()))
        .collect::<Result<Vec<_>>>()?;
    for launch in &call.launches {
        run_launch(&device, call.source, launch, &outputs)?;
    }
    let shapes = call.outputs.iter().map(|(_, shape)| shape.clone());
    Ok(outputs
        .into_iter()
        .zip(shapes)
        .map(|(slice, shape)| wrap(slice, &device, shape))
        .collect())
}

/// The device of a launch's first input.
fn device_of(launch: &Launch) -> Option<CudaDevice> {
    launch.arguments.iter().find_map(|argument| match argument {
        Argument::In(tensor) => tensor.device().as_cuda_device().ok().cloned(),
        _ => None,
    })
}

fn run_launch(
    device: &CudaDevice,
    source: &'static str,
    launch: &Launch,
    outputs: &[CudaStorageSlice],
) -> Result<()> {
    let Some((_, ptx)) = PTX.iter().find(|(name, _)| *name == source) else {
        bail_shape!("there is no kernel source {source}");
    };
    let function = device.get_or_load_custom_func(&launch.entry, source, ptx)?;
    if launch.shared_bytes > PLAIN_SHARED_BYTES {
        function
            .set_attribute(
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                launch.shared_bytes as i32,
            )
            .map_err(candle_core::Error::wrap)?;
    }
    let stream = device.cuda_stream();
    // Inputs stay borrowed until the launch is on the stream.
    let mut inputs = Vec::new();
    for argument in &launch.arguments {
        inputs.push(match argument {
            Argument::In(tensor) => Some(tensor.storage_and_layout()),
            _ => None,
        });
    }
    let mut uses = Vec::new();
    let mut values = Vec::with_capacity(launch.arguments.len());
    for (argument, input) in launch.arguments.iter().zip(&inputs) {
        values.push(match argument {
            Argument::In(_) => {
                let Some((storage, layout)) = input else {
                    bail_shape!("an input of {} is missing", launch.entry);
                };
                let Storage::Cuda(storage) = &**storage else {
                    bail_shape!("an input of {} is not on the GPU", launch.entry);
                };
                let (address, guard) = address_of(&storage.slice, &stream)?;
                uses.push(guard);
                let bytes = layout.start_offset() * input_bytes(&storage.slice);
                Value::Address(address + bytes as sys::CUdeviceptr)
            }
            Argument::Out(index) => {
                let Some(slice) = outputs.get(*index) else {
                    bail_shape!("{} writes to output {index}", launch.entry);
                };
                // Written through its address: nothing else knows of it before the call returns.
                let (address, guard) = address_of(slice, &stream)?;
                uses.push(guard);
                Value::Address(address)
            }
            Argument::Int(value) => Value::Int(*value),
            Argument::Long(value) => Value::Long(*value),
            Argument::Float(value) => Value::Float(*value),
        });
    }
    let mut builder = function.builder();
    for value in &values {
        match value {
            Value::Address(value) => builder.arg(value),
            Value::Int(value) => builder.arg(value),
            Value::Long(value) => builder.arg(value),
            Value::Float(value) => builder.arg(value),
        };
    }
    let [x, y, z] = launch.grid;
    let [threads_x, threads_y, threads_z] = launch.block;
    let config = LaunchConfig {
        grid_dim: (x, y, z),
        block_dim: (threads_x, threads_y, threads_z),
        shared_mem_bytes: launch.shared_bytes,
    };
    // SAFETY: the arguments are of the number, order and sizes of the entry point's parameters: the
    // planning code in `kernels/` and the emulator, which checks each of them, are tested with the
    // same sources. Addresses stay valid until the stream has come past the launch: inputs and
    // outputs live in the pool of this stream, which reuses memory in the stream's order.
    unsafe { builder.launch(config) }.map_err(candle_core::Error::wrap)?;
    drop(uses);
    Ok(())
}

/// Memory for so many numbers, not cleared.
fn allocate(device: &CudaDevice, dtype: DType, len: usize) -> Result<CudaStorageSlice> {
    // SAFETY: every number is written by the launches of the call before the tensor is handed out;
    // the emulator fills outputs with NaN and the tests see each that stays.
    unsafe {
        Ok(match dtype {
            DType::F32 => CudaStorageSlice::F32(device.alloc(len)?),
            DType::BF16 => CudaStorageSlice::BF16(device.alloc(len)?),
            DType::F16 => CudaStorageSlice::F16(device.alloc(len)?),
            DType::U8 => CudaStorageSlice::U8(device.alloc(len)?),
            DType::U32 => CudaStorageSlice::U32(device.alloc(len)?),
            other => bail_shape!("no kernel makes {other:?}"),
        })
    }
}

fn wrap(slice: CudaStorageSlice, device: &CudaDevice, shape: Shape) -> Tensor {
    let storage = CudaStorage {
        slice,
        device: device.clone(),
    };
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

fn address_of<'a>(
    slice: &'a CudaStorageSlice,
    stream: &'a CudaStream,
) -> Result<(sys::CUdeviceptr, SyncOnDrop<'a>)> {
    fn of<'a, T>(
        slice: &'a CudaSlice<T>,
        stream: &'a CudaStream,
    ) -> (sys::CUdeviceptr, SyncOnDrop<'a>) {
        slice.device_ptr(stream)
    }
    Ok(match slice {
        CudaStorageSlice::F32(slice) => of(slice, stream),
        CudaStorageSlice::BF16(slice) => of(slice, stream),
        CudaStorageSlice::F16(slice) => of(slice, stream),
        CudaStorageSlice::U8(slice) => of(slice, stream),
        CudaStorageSlice::U32(slice) => of(slice, stream),
        _ => bail_shape!("no kernel takes numbers of this format"),
    })
}

/// Bytes of a number that [`address_of`] knows.
fn input_bytes(slice: &CudaStorageSlice) -> usize {
    match slice {
        CudaStorageSlice::U8(_) => 1,
        CudaStorageSlice::BF16(_) | CudaStorageSlice::F16(_) => 2,
        _ => 4,
    }
}
