//! What a clip of any family may be asked to be.

use crate::{Error, Result};

/// Bounds on what a request may ask, far above any use.
const MAX_STEPS: u32 = 1000;
const MAX_SIDE: u32 = 8192;
const MAX_FRAMES: u32 = 4097;
const MAX_TEXT_TOKENS: usize = 4096;
const MAX_RATE: f64 = 1000.0;

/// What is asked of a clip, and what the model's networks divide by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClipAsk {
    /// Width and height, in pixels.
    pub size: (u32, u32),
    /// What both must be multiples of.
    pub size_step: u32,
    /// Frames.
    pub frames: u32,
    /// What they must be one more than a multiple of.
    pub frame_step: u32,
    /// Frames a second, where the network is told.
    pub frame_rate: Option<f64>,
    /// Denoising steps.
    pub steps: u32,
    /// Length of texts, in tokens.
    pub text_tokens: usize,
    /// What the length must be a multiple of.
    pub text_step: usize,
    /// How far times are shifted towards noise.
    pub shift: Option<f64>,
}

impl ClipAsk {
    /// Refuses what no such model can make, with words.
    pub fn check(self) -> Result<()> {
        let refuse = |reason: String| Err(Error::BadRequest(reason));
        let (width, height) = self.size;
        let step = self.size_step;
        if [width, height]
            .iter()
            .any(|side| *side == 0 || !side.is_multiple_of(step) || *side > MAX_SIDE)
        {
            return refuse(format!(
                "{width} × {height} pixels; both must be multiples of {step}, up to {MAX_SIDE}"
            ));
        }
        let (frames, time) = (self.frames, self.frame_step.max(1));
        if frames == 0 || frames % time != 1 % time || frames > MAX_FRAMES {
            return refuse(format!(
                "{frames} frames; they must be one more than a multiple of {time}, up to {MAX_FRAMES}"
            ));
        }
        if let Some(rate) = self.frame_rate
            && !(rate > 0.0 && rate <= MAX_RATE)
        {
            return refuse(format!(
                "{rate} frames a second; above 0, up to {MAX_RATE} are possible"
            ));
        }
        if !(1..=MAX_STEPS).contains(&self.steps) {
            return refuse(format!(
                "{} steps; 1 to {MAX_STEPS} are possible",
                self.steps
            ));
        }
        let (tokens, step) = (self.text_tokens, self.text_step.max(1));
        if !(1..=MAX_TEXT_TOKENS).contains(&tokens) || !tokens.is_multiple_of(step) {
            return refuse(match step {
                1 => format!("{tokens} text tokens; 1 to {MAX_TEXT_TOKENS} are possible"),
                _ => format!(
                    "{tokens} text tokens; they must be a multiple of {step}, up to {MAX_TEXT_TOKENS}"
                ),
            });
        }
        if self
            .shift
            .is_some_and(|shift| !(shift.is_finite() && shift > 0.0))
        {
            return refuse("the shift must be above 0".into());
        }
        Ok(())
    }
}

/// Refuses a scale that is no number.
pub(crate) fn check_scales(scales: impl IntoIterator<Item = f32>) -> Result<()> {
    match scales.into_iter().all(f32::is_finite) {
        true => Ok(()),
        false => Err(Error::BadRequest(
            "guidance must be a finite number".to_owned(),
        )),
    }
}

/// Refuses a share outside of 0 to 1.
pub(crate) fn check_share(name: &str, share: f32) -> Result<()> {
    match (0.0..=1.0).contains(&share) {
        true => Ok(()),
        false => Err(Error::BadRequest(format!("{name} must lie from 0 to 1"))),
    }
}
