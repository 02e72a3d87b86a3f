//! The first GPU of this machine, for one test at a time: its tensors share one stream.

use std::sync::{Mutex, OnceLock, PoisonError};

use candle_core::{DType, Device, Tensor};
use kinora_diffusion::{Result, cuda};

fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| {
        cuda::open(0).unwrap_or_else(|error| panic!("these tests need an NVIDIA GPU: {error}"))
    })
}

/// The result of `work` on the GPU, brought back when everything is done there.
pub fn run_kernels(entry: &str, work: impl FnOnce(&Device) -> Result<Tensor>) -> Tensor {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let brought = work(device()).and_then(|tensor| {
        // Not a silent fall-back to the processor.
        assert!(tensor.device().is_cuda(), "{entry}");
        Ok(tensor.to_device(&Device::Cpu)?)
    });
    brought.unwrap_or_else(|error| panic!("{entry}: {error}"))
}

include!("../kernels/hold.rs");
