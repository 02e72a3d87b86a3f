//! Opening a GPU the way that one program with one thread of work wants it.

use candle_core::{
    CudaDevice, Device, Result,
    cuda_backend::cudarc::driver::{result, sys},
};

/// The GPU of this number, with one stream of its own: the default one synchronises with every
/// other user of the device. All tensors are made and used on it, by one thread at a time.
///
/// # Errors
/// There is no such GPU, or no driver that works.
pub fn open(ordinal: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(ordinal)?;
    let cuda = device.as_cuda_device()?;
    if let Err(error) = keep_freed_memory(cuda) {
        // Slower, not wrong.
        tracing::warn!(%error, "freed GPU memory goes back to the driver at every step");
    }
    // SAFETY: everything runs on the one stream made above, in its order; nothing is left for the
    // events to order. Memory is freed in the same order.
    unsafe { cuda.disable_event_tracking() };
    Ok(device)
}

/// Lets the device's memory pool keep what is freed, up to all of it: by default everything goes
/// back to the driver whenever the stream is waited for, and has to be mapped again.
///
/// # Errors
/// The driver has no memory pools.
pub fn keep_freed_memory(device: &CudaDevice) -> Result<()> {
    let context = device.cuda_stream().context().clone();
    context.bind_to_thread().map_err(candle_core::Error::wrap)?;
    let mut threshold = u64::MAX;
    // SAFETY: the device is that of the context; the attribute takes the address of a 64-bit
    // number, which is read before the call returns.
    unsafe {
        let pool =
            result::device::get_mem_pool(context.cu_device()).map_err(candle_core::Error::wrap)?;
        result::mem_pool::set_attribute(
            pool,
            sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut threshold).cast(),
        )
        .map_err(candle_core::Error::wrap)
    }
}

/// The most bytes of the device's memory pool that were in use at once since the program began.
///
/// # Errors
/// The driver has no memory pools.
pub fn peak_bytes(device: &CudaDevice) -> Result<u64> {
    let mut bytes = 0u64;
    // SAFETY: the attribute takes the address of a 64-bit number, which is written before the call
    // returns.
    unsafe {
        result::mem_pool::get_attribute(
            pool_of(device)?,
            sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH,
            (&raw mut bytes).cast(),
        )
        .map_err(candle_core::Error::wrap)?;
    }
    Ok(bytes)
}

fn pool_of(device: &CudaDevice) -> Result<sys::CUmemoryPool> {
    let context = device.cuda_stream().context().clone();
    context.bind_to_thread().map_err(candle_core::Error::wrap)?;
    // SAFETY: the device is that of the context, which is current.
    unsafe { result::device::get_mem_pool(context.cu_device()) }.map_err(candle_core::Error::wrap)
}
