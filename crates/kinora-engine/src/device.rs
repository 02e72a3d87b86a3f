//! Which device to compute on, and what is told about it.

use std::{fs, str::FromStr};

use candle_core::Device as Compute;
use kinora_core::engine::Device;

use crate::memory::read_total;

/// What the user wants to compute on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The GPU where there is one that this build can use, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The first GPU, or nothing.
    Cuda,
}

/// A device that there is no such thing as.
#[derive(Debug, thiserror::Error)]
#[error("use the device {0:?}: known are auto, cpu and cuda")]
pub struct UnknownDevice(String);

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            other => Err(UnknownDevice(other.to_owned())),
        }
    }
}

impl DeviceChoice {
    /// Whether a GPU may come out of it.
    pub fn may_be_gpu(self) -> bool {
        match self {
            DeviceChoice::Auto => cfg!(feature = "cuda"),
            DeviceChoice::Cpu => false,
            DeviceChoice::Cuda => true,
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// A GPU was demanded, and there is none that works.
    pub fn open(self) -> Result<(Compute, Device), candle_core::Error> {
        if !self.may_be_gpu() {
            return Ok((Compute::Cpu, describe_cpu()));
        }
        match open_gpu() {
            Ok(device) => {
                let words = describe_gpu(&device);
                Ok((device, words))
            }
            Err(error) if self == DeviceChoice::Auto => {
                tracing::warn!(%error, "there is no usable GPU; computing on the processor");
                Ok((Compute::Cpu, describe_cpu()))
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(feature = "cuda")]
fn open_gpu() -> candle_core::Result<Compute> {
    kinora_diffusion::cuda::open(0)
}

#[cfg(not(feature = "cuda"))]
fn open_gpu() -> candle_core::Result<Compute> {
    // Says that this build cannot.
    Compute::new_cuda(0)
}

fn describe_cpu() -> Device {
    Device {
        kind: "cpu".to_owned(),
        name: read_cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        is_unified: true,
        memory: read_total(),
    }
}

/// The processor's name, where the kernel tells it.
fn read_cpu_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_owned())
}

#[cfg(feature = "cuda")]
fn describe_gpu(device: &Compute) -> Device {
    use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute;

    let mut words = Device {
        kind: "cuda".to_owned(),
        name: "NVIDIA GPU".to_owned(),
        is_unified: false,
        memory: 0,
    };
    if let Ok(cuda) = device.as_cuda_device() {
        let stream = cuda.cuda_stream();
        let context = stream.context();
        words.name = context.name().unwrap_or(words.name);
        words.memory = context.total_mem().unwrap_or(0) as u64;
        words.is_unified = context
            .attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)
            .is_ok_and(|value| value != 0);
    }
    if words.is_unified {
        // The driver's figures count the page cache as used.
        words.memory = read_total();
    }
    words
}

#[cfg(not(feature = "cuda"))]
fn describe_gpu(_: &Compute) -> Device {
    describe_cpu()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_always_works_and_has_a_name() {
        let (device, words) = DeviceChoice::Cpu.open().unwrap();
        assert!(device.is_cpu());
        assert_eq!(words.kind, "cpu");
        assert!(!words.name.is_empty() && words.memory > 0 && words.is_unified);
        assert!("gpu".parse::<DeviceChoice>().is_err());
        assert_eq!("cpu".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cpu);
    }
}
