//! Architectures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An architecture. Matches on it are exhaustive on purpose: a new variant points at every place
/// that has to learn it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// FLUX.1 (schnell and dev): rectified-flow transformer, CLIP-L and T5 text, 16-channel KL VAE.
    Flux,
    /// Stable Diffusion 1.x: UNet, CLIP-L text, 4-channel KL VAE.
    Sd1,
    /// Stable Diffusion 2.x: the same with OpenCLIP-H text; some releases predict velocity.
    Sd2,
    /// Stable Diffusion XL and its refiner: a larger UNet, CLIP-L and OpenCLIP-bigG text.
    Sdxl,
    /// Wan 2.1 and 2.2: video transformers with UMT5 text; of some releases two share a run.
    Wan,
    /// LTX-Video 0.9: rectified-flow video transformers with T5 text.
    Ltx,
    /// LTX-2 and 2.3: one transformer for picture and sound, with Gemma 3 text.
    Ltx2,
}

impl Family {
    /// Every one of them.
    pub const ALL: [Self; 7] = [
        Self::Flux,
        Self::Sd1,
        Self::Sd2,
        Self::Sdxl,
        Self::Wan,
        Self::Ltx,
        Self::Ltx2,
    ];

    /// The name that people know it by.
    pub fn title(self) -> &'static str {
        match self {
            Family::Flux => "FLUX.1",
            Family::Sd1 => "Stable Diffusion 1.x",
            Family::Sd2 => "Stable Diffusion 2.x",
            Family::Sdxl => "Stable Diffusion XL",
            Family::Wan => "Wan",
            Family::Ltx => "LTX-Video",
            Family::Ltx2 => "LTX-2",
        }
    }
}
