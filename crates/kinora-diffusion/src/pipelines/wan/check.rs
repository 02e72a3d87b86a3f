//! What a clip may be asked to be, before anything runs.

use kinora_weights::wan::WanInput as Input;

use super::{Context, Switch, VideoParams, WanPipeline};
use crate::{Error, Result, pipelines::RunLimits, step_cache};

/// Bounds on what a request may ask, far above any use.
const MAX_STEPS: u32 = 1000;
const MAX_SIDE: u32 = 8192;
const MAX_FRAMES: u32 = 4097;
const MAX_TEXT_TOKENS: usize = 4096;

impl WanPipeline {
    /// Refuses what cannot be made, with words.
    pub(super) fn check(&self, params: &VideoParams, limits: RunLimits) -> Result<()> {
        let refuse = |reason: String| Err(Error::BadRequest(reason));
        let (width, height) = (params.width, params.height);
        let step = self.size_step();
        if [width, height]
            .iter()
            .any(|side| *side == 0 || side % step != 0 || *side > MAX_SIDE)
        {
            return refuse(format!(
                "{width} × {height} pixels; both must be multiples of {step}, up to {MAX_SIDE}"
            ));
        }
        let time = self.frame_step();
        if params.frames == 0 || params.frames % time != 1 % time || params.frames > MAX_FRAMES {
            return refuse(format!(
                "{} frames; they must be one more than a multiple of {time}, up to {MAX_FRAMES}",
                params.frames
            ));
        }
        if let Some(Context { frames, overlap }) = params.context
            && (frames <= 1
                || frames % time != 1 % time
                || overlap == 0
                || overlap % time != 0
                || overlap >= frames)
        {
            return refuse(format!(
                "windows of {frames} frames that share {overlap}; they must be one more than a \
                 multiple of {time}, and share a smaller multiple of it"
            ));
        }
        if params.step_cache > 0.0
            && (params.context).is_some_and(|context| context.frames < params.frames)
        {
            return refuse(
                "windows move, and steps that reuse an earlier one cannot follow".into(),
            );
        }
        if !(1..=MAX_STEPS).contains(&params.steps) {
            return refuse(format!(
                "{} steps; 1 to {MAX_STEPS} are possible",
                params.steps
            ));
        }
        if !(1..=MAX_TEXT_TOKENS).contains(&params.text_tokens) {
            return refuse(format!(
                "{} text tokens; 1 to {MAX_TEXT_TOKENS} are possible",
                params.text_tokens
            ));
        }
        step_cache::check(params.step_cache)?;
        let numbers = [Some(params.guidance), params.guidance_2];
        if numbers
            .into_iter()
            .flatten()
            .any(|value| !value.is_finite())
        {
            return refuse("guidance must be a finite number".into());
        }
        if params
            .shift
            .is_some_and(|shift| !(shift.is_finite() && shift > 0.0))
        {
            return refuse("the shift must be above 0".into());
        }
        let (Switch::Boundary(share) | Switch::LowShare(share)) = params.switch else {
            return self.check_frames(params, limits);
        };
        if !(0.0..=1.0).contains(&share) {
            return refuse("the share of an expert must lie from 0 to 1".into());
        }
        self.check_frames(params, limits)
    }

    /// Given frames, and memory.
    fn check_frames(&self, params: &VideoParams, limits: RunLimits) -> Result<()> {
        let refuse = |reason: &str| Err(Error::BadRequest(reason.to_owned()));
        let has_first = params.first_frame.is_some();
        let has_last = params.last_frame.is_some();
        if has_first && self.parts.input == Input::Text {
            return refuse("this model makes clips from text alone; it takes no picture");
        }
        if !has_first && self.parts.needs_first_frame() {
            return refuse("this model needs a picture to begin with");
        }
        if has_last && !self.parts.takes_last_frame() {
            return refuse("this model takes no picture to end with");
        }
        if has_last && params.frames == 1 {
            return refuse("a clip of one frame cannot both begin and end with a picture");
        }
        if !has_last && self.parts.needs_last_frame() {
            return refuse("this model needs a picture to end with too");
        }
        let seen = (params.context).map_or(params.frames, |context| context.frames);
        let estimate = self.parts.estimate(
            (params.width, params.height),
            (params.frames, seen.min(params.frames)),
            self.dtype.size_in_bytes() as u64,
        );
        let kept = step_cache::kept_bytes(
            params.step_cache,
            1 + u64::from(params.is_guided()),
            self.token_grid(params).iter().product::<usize>() as u64,
            self.parts.transformer.hidden() as u64,
            self.dtype.size_in_bytes() as u64,
        );
        let needed = (estimate.activations.saturating_add(kept)).max(estimate.tiled_decode);
        if needed > limits.memory {
            return Err(Error::OutOfMemory {
                needed,
                available: limits.memory,
            });
        }
        Ok(())
    }
}
