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
    /// Frames that the network sees at once: a longer clip goes through it in windows of that
    /// length, which share frames with their neighbours. None: the whole clip at once.
    pub context_frames: Option<u32>,
    /// Frames that neighbouring windows share at least. None: three eighths of a window.
    pub context_overlap: Option<u32>,
    /// Whether frames go through the VAE in tiles. None: where the whole does not fit into memory.
    pub vae_tiling: Option<bool>,
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
    /// Frames of a window that the network sees at once. None: it sees the whole clip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_frames: Option<u32>,
    /// Frames that neighbouring windows share at least. None: there are no windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_overlap: Option<u32>,
    /// Windows that cover the clip at every step; 1: it fits into one, as if there were none. None:
    /// there are no windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_windows: Option<u32>,
    /// Whether frames go through the VAE in tiles however much memory there is; else they do where
    /// the whole does not fit.
    #[serde(default, skip_serializing_if = "is_false")]
    pub vae_tiling: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// How many windows of `context` frames cover a clip of `frames`, neighbours sharing at least
/// `overlap` of them. Frames count as the network sees them, one latent frame for the first and one
/// for every `step` after it; what is left of an overlap is not shared.
pub fn count_windows(frames: u32, context: u32, overlap: u32, step: u32) -> u32 {
    let step = step.max(1);
    let latent = |frames: u32| frames.saturating_sub(1) / step + 1;
    let (clip, window) = (latent(frames), latent(context));
    let stride = window.saturating_sub(overlap / step).max(1);
    clip.saturating_sub(window).div_ceil(stride) + 1
}

impl VideoPlan {
    /// Frames that the network works through at each step: those of all windows where the clip goes
    /// through it in several, which is what a step's time grows with.
    pub fn worked_frames(&self) -> u32 {
        match (self.context_frames, self.context_windows) {
            (Some(frames), Some(windows)) if windows > 1 => frames.saturating_mul(windows),
            _ => self.frames,
        }
    }

    /// Frames that the network sees at once, which is what a step's memory grows with.
    pub fn seen_frames(&self) -> u32 {
        (self.context_frames).map_or(self.frames, |context| context.min(self.frames))
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        f64::from(self.frames) / f64::from(self.fps.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_counted_in_the_frames_that_the_network_sees() {
        // 41 latent frames in windows of 21 that share 4, 8, and none that fit.
        assert_eq!(count_windows(161, 81, 16, 4), 3);
        assert_eq!(count_windows(161, 81, 32, 4), 3);
        assert_eq!(count_windows(81, 81, 16, 4), 1);
        assert_eq!(count_windows(33, 81, 16, 4), 1);
        assert_eq!(count_windows(85, 81, 16, 4), 2);
        // Nonsense ends too.
        assert_eq!(count_windows(9, 1, 400, 0), 9);
    }

    #[test]
    fn a_clip_in_windows_works_through_all_of_them_and_sees_one() {
        let plan = |frames, windows: Option<u32>| VideoPlan {
            frames,
            fps: 16,
            cfg_2: None,
            low_share: None,
            boundary: None,
            shift: None,
            sound: None,
            context_frames: windows.map(|_| 81),
            context_overlap: windows.map(|_| 32),
            context_windows: windows,
            vae_tiling: false,
        };
        let work = |frames, windows: Option<u32>| {
            let plan = plan(frames, windows);
            (plan.worked_frames(), plan.seen_frames())
        };
        assert_eq!(work(161, Some(3)), (243, 81));
        assert_eq!(work(33, Some(1)), (33, 33));
        assert_eq!(work(161, None), (161, 161));
    }
}
