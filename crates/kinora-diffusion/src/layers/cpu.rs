//! The way from candle tensors to slices and back on the processor, and how rows are shared out
//! among the cores. No arithmetic here.

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Device, Shape, Storage, StorageRef, Tensor};
use rayon::prelude::*;

use crate::{Result, error::bail_shape, kernels};

/// Below this many elements a loop costs less than waking another core.
const SERIAL_ELEMENTS: usize = 16 * 1024;

/// Whether the kernels of this crate apply.
pub(crate) fn is_cpu_f32(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32 && !kernels::is_emulated()
}

/// The elements of a contiguous f32 tensor on the processor, in order.
pub(crate) struct F32s<'a> {
    storage: StorageRef<'a>,
    start: usize,
    len: usize,
}

impl Deref for F32s<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(data)) => &data[self.start..self.start + self.len],
            // `f32s` has refused every other storage.
            _ => &[],
        }
    }
}

/// Borrows the elements of a tensor that is contiguous, f32 and on the processor.
pub(crate) fn f32s(tensor: &Tensor) -> Result<F32s<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(candle_core::Error::RequiresContiguous { op: "f32s" }.into());
    };
    match &*storage {
        Storage::Cpu(CpuStorage::F32(_)) => {}
        _ => bail_shape!("expected an f32 tensor on the processor"),
    }
    Ok(F32s {
        storage,
        start,
        len: end - start,
    })
}

/// The elements of an f32 tensor on the processor from its first one on, whatever its strides are;
/// element (i, j, …) lies at `i * stride[0] + j * stride[1] + …`.
pub(crate) fn strided_f32s(tensor: &Tensor) -> Result<F32s<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let start = layout.start_offset();
    let len = match &*storage {
        Storage::Cpu(CpuStorage::F32(data)) => data.len() - start,
        _ => bail_shape!("expected an f32 tensor on the processor"),
    };
    Ok(F32s {
        storage,
        start,
        len,
    })
}

/// A tensor of these elements, without copying them.
pub(crate) fn tensor(data: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(data, shape.into(), &Device::Cpu)?)
}

/// Calls `fill(first_row, rows)` over `out` cut into runs of whole rows, on all cores when there
/// is enough to do. `cost` scales the number of elements to their price against a copy.
pub(crate) fn for_rows(
    out: &mut [f32],
    row_len: usize,
    cost: usize,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) {
    if out.is_empty() || row_len == 0 {
        return;
    }
    let rows = out.len() / row_len;
    let threads = rayon::current_num_threads();
    let elements = out.len().saturating_mul(cost);
    if threads == 1 || rows == 1 || elements < 2 * SERIAL_ELEMENTS {
        fill(0, out);
        return;
    }
    let tasks = (elements / SERIAL_ELEMENTS).min(4 * threads).min(rows);
    let rows_per_task = rows.div_ceil(tasks);
    out.par_chunks_mut(rows_per_task * row_len)
        .enumerate()
        .for_each(|(task, rows)| fill(task * rows_per_task, rows));
}

/// Runs `work` on one of the threads that share the kernels' loops, so that entering each loop
/// costs no hand-over between threads. On other devices `work` stays on the calling thread, to
/// which their streams belong.
pub fn on_workers<R: Send>(device: &Device, work: impl FnOnce() -> R + Send) -> R {
    if device.is_cpu() {
        rayon::scope(|_| work())
    } else {
        work()
    }
}
