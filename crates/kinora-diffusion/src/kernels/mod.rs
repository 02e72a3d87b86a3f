//! Kernels for NVIDIA GPUs (`kernels/*.cu` beside `src/`), seen from the layers: a [`Call`] says which
//! entry points run over how many threads on which tensors.
//!
//! A call is planned the same way wherever it runs. With the feature `cuda` it is launched on the
//! device of its tensors; in tests a [`Machine`] that emulates blocks of threads runs the same
//! source on the processor, so that planning and arithmetic are proven without a GPU. Layers ask
//! for a result and fall back to candle operations where there is none: `None` says that no kernel
//! applies to these tensors.
//!
//! Not here: the arithmetic (`kernels/`), the driver ([`crate::cuda`]).

pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod dequantise;
pub(crate) mod groups;
pub(crate) mod norms;
pub(crate) mod pointwise;
pub(crate) mod rope;

use std::{cell::RefCell, rc::Rc};

use candle_core::{DType, Device, Shape, Tensor};

use crate::{Result, error::bail_shape};

/// Launches of one source file, one after another, and the tensors that they make.
#[derive(Debug)]
pub struct Call<'a> {
    /// File name below `kernels/`, without `.cu`.
    pub source: &'static str,
    /// Number formats and shapes of what is made. Memory is not cleared before.
    pub outputs: Vec<(DType, Shape)>,
    /// In this order.
    pub launches: Vec<Launch<'a>>,
}

/// One entry point over a grid of blocks.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Name of the entry point.
    pub entry: String,
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block in bytes.
    pub shared_bytes: u32,
    /// In the order of the entry point's parameters.
    pub arguments: Vec<Argument<'a>>,
}

/// What an entry point is given.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    /// The address of a tensor's first element. Its strides are told beside it where they matter.
    In(&'a Tensor),
    /// The address of an output.
    Out(usize),
    /// `int`
    Int(i32),
    /// `long long`
    Long(i64),
    /// `float`
    Float(f32),
}

/// Something that runs calls in place of a GPU.
pub trait Machine {
    /// The outputs, on the device of the inputs.
    fn run(&self, call: &Call) -> Result<Vec<Tensor>>;
}

thread_local! {
    static MACHINE: RefCell<Option<Rc<dyn Machine>>> = const { RefCell::new(None) };
}

/// Does `work` with a machine in place of a GPU: on this thread, layers take the kernels' way for
/// tensors on the processor too, in every number format.
pub fn with_machine<R>(machine: Rc<dyn Machine>, work: impl FnOnce() -> R) -> R {
    /// Puts back what was there, also when `work` panics.
    struct Restore(Option<Rc<dyn Machine>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            MACHINE.with(|place| place.replace(self.0.take()));
        }
    }
    let _restore = Restore(MACHINE.with(|place| place.replace(Some(machine))));
    work()
}

/// Whether a machine stands in place of a GPU on this thread.
pub(crate) fn is_emulated() -> bool {
    MACHINE.with(|place| place.borrow().is_some())
}

/// Whether kernels run on a device.
pub(crate) fn runs_on(device: &Device) -> bool {
    if device.is_cpu() {
        is_emulated()
    } else {
        cfg!(feature = "cuda") && device.is_cuda()
    }
}

/// Whether kernels run where these tensors are.
pub(crate) fn applies(tensors: &[&Tensor]) -> bool {
    let Some((first, others)) = tensors.split_first() else {
        return false;
    };
    let device = first.device();
    runs_on(device)
        && others
            .iter()
            .all(|other| other.device().same_device(device))
}

impl Call<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// The driver refuses, or memory is short. Errors of a running kernel come with a later
    /// operation on the same device.
    pub fn run(&self) -> Result<Vec<Tensor>> {
        let machine = MACHINE.with(|place| place.borrow().clone());
        if let Some(machine) = machine {
            return machine.run(self);
        }
        #[cfg(feature = "cuda")]
        return crate::cuda::run(self);
        #[cfg(not(feature = "cuda"))]
        bail_shape!("kernels need a build with the feature cuda");
    }

    /// Runs it for its one output.
    pub(crate) fn run_for_one(&self) -> Result<Tensor> {
        match self.run()?.pop() {
            Some(output) => Ok(output),
            None => bail_shape!("{} makes nothing", self.source),
        }
    }
}

impl Argument<'_> {
    /// A size as `int`.
    pub(crate) fn size(value: usize) -> Result<Self> {
        match i32::try_from(value) {
            Ok(value) => Ok(Self::Int(value)),
            Err(_) => bail_shape!("a dimension of {value} is too long for a kernel"),
        }
    }

    /// A yes or no as `int`.
    pub(crate) fn flag(value: bool) -> Self {
        Self::Int(value.into())
    }

    /// A stride or a count as `long long`.
    pub(crate) fn long(value: usize) -> Self {
        Self::Long(value as i64)
    }
}

/// Blocks along x.
pub(crate) fn blocks(count: usize) -> Result<[u32; 3]> {
    if count == 0 || count > i32::MAX as usize {
        bail_shape!("a kernel over {count} blocks");
    }
    Ok([count as u32, 1, 1])
}

/// How the entry points for a number format end.
pub(crate) fn suffix(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F32 => "f32",
        DType::BF16 => "bf16",
        DType::F16 => "f16",
        _ => return None,
    })
}

/// Numbers of this format in the 16 bytes that a thread moves at once.
pub(crate) fn chunk_len(dtype: DType) -> usize {
    16 / dtype.size_in_bytes()
}

/// Threads for rows of which each thread takes a few chunks: whole warps, within `most`.
pub(crate) fn threads_for(size: usize, dtype: DType, chunks_each: usize, most: usize) -> u32 {
    let threads = size.div_ceil(chunk_len(dtype) * chunks_each);
    threads.next_multiple_of(32).clamp(32, most) as u32
}

/// Columns that kernels read beside rows of `dtype`, contiguous: in that format or in f32.
pub(crate) fn columns(values: &Tensor, dtype: DType) -> Result<Tensor> {
    let values = if values.dtype() == dtype {
        values.clone()
    } else {
        values.to_dtype(DType::F32)?
    };
    Ok(values.contiguous()?)
}

/// How far apart the rows along the last dimension lie, where that is one number.
pub(crate) fn row_stride(x: &Tensor) -> Option<usize> {
    let (dims, strides) = (x.dims(), x.stride());
    let (&last, leading) = strides.split_last()?;
    if last != 1 && *dims.last()? != 1 {
        return None;
    }
    let Some((&stride, _)) = leading.split_last() else {
        return Some(*dims.last()?);
    };
    let mut expected = stride;
    for (&size, &stride) in dims[..leading.len()].iter().zip(leading).rev() {
        if size != 1 && stride != expected {
            return None;
        }
        expected *= size;
    }
    Some(stride)
}
