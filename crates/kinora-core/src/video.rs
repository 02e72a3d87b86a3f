//! What only clips have: asked for, and decided.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PictureRef;

/// One of the two networks that share the steps of some models, Wan 2.2's for instance.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Expert {
    /// Takes the first, noisy steps.
    High,
    /// Takes the last steps.
    Low,
}

impl Expert {
    /// Its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Low => "low",
        }
    }
}

/// What may be asked of a clip. Everything may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VideoOptions {
    /// Frames.
    pub frames: Option<u32>,
    /// Length in seconds, instead of frames.
    pub seconds: Option<f32>,
    /// Frames in a second.
    pub fps: Option<u32>,
    /// The picture that the clip ends with.
    pub end_image: Option<PictureRef>,
    /// Guidance scale of the second expert; None: that of the first.
    pub cfg_2: Option<f32>,
    /// Share of the steps that the second expert takes, 0 to 1. None: as the model says.
    pub low_share: Option<f32>,
    /// Noise level below which the second expert takes over, 0 to 1, instead of a share of the
    /// steps. None: as the model says.
    pub boundary: Option<f32>,
    /// How far the times are shifted towards noise. None: as the model says.
    pub shift: Option<f32>,
    /// Whether it has sound. None: where the model makes any and the file format can carry it.
    pub sound: Option<bool>,
}

impl VideoOptions {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A clip, fully decided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VideoPlan {
    /// Frames.
    pub frames: u32,
    /// Frames in a second.
    pub fps: u32,
    /// Guidance scale of the second expert; None: that of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cfg_2: Option<f32>,
    /// Share of the steps that the second expert takes. None: as the model says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_share: Option<f32>,
    /// Noise level below which the second expert takes over. None: as the model says, or by the
    /// share of the steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boundary: Option<f32>,
    /// How far the times are shifted towards noise. None: as the model says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<f32>,
    /// Whether it has the sound that the model makes with it. None: the model makes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound: Option<bool>,
}

impl VideoPlan {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        f64::from(self.frames) / f64::from(self.fps.max(1))
    }
}
