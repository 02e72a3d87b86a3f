//! What a checkpoint says about its networks, as plain numbers, checked.
//!
//! Fields that a file leaves out have the reference library's defaults; fields that are not listed
//! change nothing here.

mod clip;
mod flux;
mod gemma;
mod ltx;
mod ltx2;
mod ltx2_vocoder;
mod ltx_vae;
mod scheduler;
mod t5;
mod unet;
mod vae;
mod video;
mod vision;

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{Error, Result, json::read_config};

pub use clip::{ClipConfig, TextActivation};
pub use flux::FluxConfig;
pub use gemma::GemmaConfig;
pub use ltx::{LtxAudioConfig, LtxConfig, LtxRope};
pub use ltx_vae::{LtxDownLevel, LtxFold, LtxShrink, LtxUpLevel, LtxVaeConfig};
pub use ltx2::{Ltx2AudioVaeConfig, Ltx2ConnectorConfig, Ltx2ConnectorsConfig};
pub use ltx2_vocoder::{
    Ltx2Activation, Ltx2Finish, Ltx2StageConfig, Ltx2VocoderConfig, Ltx2WideningConfig,
};
pub use scheduler::{SchedulerConfig, TimeShift};
pub use t5::T5Config;
pub(crate) use unet::ADDED_TIME_DIM;
pub use unet::UnetConfig;
pub use vae::VaeConfig;
pub use video::{LatentStats, WanConfig, WanVaeConfig};
pub use vision::{ClipVisionConfig, ClipVisionParts, ReduxConfig, SiglipConfig};

/// Bound on every count and width in a configuration: far above any network, and small enough
/// that no product of three of them overflows.
const MAX_SIZE: usize = 1 << 20;

/// Reads a configuration file whose values satisfy `check`.
fn read_checked<T: DeserializeOwned>(
    path: &Path,
    check: impl Fn(&T) -> Result<(), String>,
) -> Result<T> {
    let config: T = read_config(path)?;
    check(&config).map_err(|reason| Error::damaged(path, reason))?;
    Ok(config)
}

fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), String> {
    match sizes
        .iter()
        .find(|(_, size)| !(1..=MAX_SIZE).contains(size))
    {
        Some((name, size)) => Err(format!("{name} is {size}, which cannot be")),
        None => Ok(()),
    }
}

fn check_eps(name: &str, eps: f64) -> Result<(), String> {
    if eps > 0.0 && eps < 1.0 {
        Ok(())
    } else {
        Err(format!("{name} is {eps}, which cannot be"))
    }
}
