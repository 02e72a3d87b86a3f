//! What a clip may be asked to be, before anything runs.

use kinora_weights::wan::WanInput as Input;

use super::{Context, Switch, VideoParams, WanPipeline};
use crate::{
    Error, Result,
    pipelines::{
        RunLimits,
        clip::{ClipAsk, check_scales},
    },
    step_cache,
};

impl WanPipeline {
    /// Refuses what cannot be made, with words.
    pub(super) fn check(&self, params: &VideoParams, limits: RunLimits) -> Result<()> {
        let refuse = |reason: String| Err(Error::BadRequest(reason));
        let time = self.frame_step();
        let ask = ClipAsk {
            size: (params.width, params.height),
            size_step: self.size_step(),
            frames: params.frames,
            frame_step: time,
            frame_rate: None,
            steps: params.steps,
            text_tokens: params.text_tokens,
            text_step: 1,
            shift: params.shift,
        };
        ask.check()?;
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
        step_cache::check(params.step_cache)?;
        check_scales([params.guidance].into_iter().chain(params.guidance_2))?;
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
