//! A clip on its way through the denoiser.

use std::time::Instant;

use candle_core::{DType, Tensor};
use kinora_core::Stage;

use super::{LtxParams, LtxPipeline};
use crate::{
    Error, Result,
    denoisers::{LtxContext, LtxDenoiser, LtxInput, LtxTime},
    guidance::{guide, rescale},
    layers::Rope,
    pipelines::{
        JobTimings, RunLimits, RunWatch,
        clip::{ClipState, frame_times},
        milliseconds,
        packing::to_frames,
    },
    step_cache::{Anchor, PassCaches, StepCache},
};

/// Tokens up to which both texts of a guided step go through the network together: more fill every
/// core and every unit of a device on their own.
const TOGETHER: usize = 8192;

/// One job.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub params: &'a LtxParams,
    /// (1, tokens, width) without padding
    pub positive: Tensor,
    pub negative: Option<Tensor>,
    /// The first latent frame where it is given: (1, tokens of a frame, channels).
    pub first: Option<Tensor>,
    /// Its latents are (1, tokens, channels).
    pub state: ClipState,
}

impl Row<'_> {
    /// Latents with the first frame as it was given.
    pub fn keep_first(&self, latents: &Tensor) -> Result<Tensor> {
        let Some(first) = &self.first else {
            return Ok(latents.clone());
        };
        let own = first.dim(1)?;
        let rest = latents.dim(1)? - own;
        if rest == 0 {
            return Ok(first.clone());
        }
        let rest = latents.narrow(1, own, rest)?.contiguous()?;
        Ok(Tensor::cat(&[first, &rest], 1)?)
    }

    /// The times of the frames of tokens: a given frame has no noise.
    fn times(&self, time: f32, frames: usize) -> Vec<f32> {
        frame_times(self.first.is_some(), time, frames)
    }
}

/// The texts of a step as keys and values.
enum Guidance {
    None(LtxContext),
    /// The negative text is the second row.
    Together(LtxContext, f32),
    InTurn(LtxContext, LtxContext, f32),
}

impl Guidance {
    fn prepare(denoiser: &LtxDenoiser, row: &Row, is_together: bool) -> Result<Self> {
        let context = |texts: &[&Tensor]| denoiser.prepare_context(texts);
        Ok(match (&row.negative, row.params.active_guidance()) {
            (Some(negative), Some(scale)) if is_together => {
                Self::Together(context(&[&row.positive, negative])?, scale)
            }
            (Some(negative), Some(scale)) => {
                Self::InTurn(context(&[&row.positive])?, context(&[negative])?, scale)
            }
            _ => Self::None(context(&[&row.positive])?),
        })
    }

    /// Empty caches for its calls, where steps are reused.
    fn caches(&self, threshold: f32) -> Option<PassCaches> {
        let (passes, is_together) = match self {
            Self::None(_) => (1, false),
            Self::Together(..) => (2, true),
            Self::InTurn(..) => (2, false),
        };
        PassCaches::new(threshold, passes, is_together)
    }

    /// The velocity, guided, in f32.
    fn predict(
        &self,
        denoiser: &LtxDenoiser,
        latents: &Tensor,
        (time, rope): (&LtxTime, &Rope),
        share: f32,
        mut caches: Option<&mut PassCaches>,
    ) -> Result<Tensor> {
        let call = |latents: &Tensor, context: &LtxContext, cache: Option<&mut StepCache>| {
            let input = LtxInput {
                latents,
                context,
                time,
                rope,
            };
            let velocity = denoiser.forward_reusing(&input, cache)?;
            Ok::<_, Error>(velocity.to_dtype(DType::F32)?)
        };
        let mut call = |pass: usize, latents: &Tensor, context: &LtxContext| -> Result<Tensor> {
            let cache = caches.as_deref_mut().and_then(|caches| caches.of(pass));
            call(latents, context, cache)
        };
        let guided = |positive: Tensor, negative: Tensor, scale: f32| {
            rescale(&guide(&positive, &negative, scale)?, &positive, share)
        };
        match self {
            Self::None(context) => call(0, latents, context),
            Self::Together(context, scale) => {
                let both = call(0, &Tensor::cat(&[latents, latents], 0)?, context)?;
                let row = |i| both.narrow(0, i, 1)?.contiguous();
                guided(row(0)?, row(1)?, *scale)
            }
            Self::InTurn(positive, negative, scale) => {
                let positive = call(0, latents, positive)?;
                guided(positive, call(1, latents, negative)?, *scale)
            }
        }
    }
}

impl LtxPipeline {
    /// Takes a clip through its steps, from the first open one.
    pub(super) fn denoise(
        &self,
        row: &mut Row,
        limits: RunLimits,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<()> {
        let job = row.state.job;
        let steps = row.state.run.program().calls.len() as u32;
        if row.state.is_done() || watch.is_cancelled(job) {
            return Ok(());
        }
        watch.stage(job, Stage::Generating, row.state.run.done() as u32, steps);
        timings[job].batch = 1;
        let grid = self.token_grid(row.params);
        // What every step needs.
        let clock = Instant::now();
        let is_together = !limits.is_frugal && 2 * grid.iter().product::<usize>() <= TOGETHER;
        let rope = self.positions(row.params)?;
        let guidance = Guidance::prepare(&self.denoiser, row, is_together)?;
        let times = row.state.run.program().calls[row.state.run.done()..]
            .iter()
            .map(|call| {
                let times = row.times(call.timestep as f32, grid[0]);
                self.denoiser.embed_time(&times, &self.device)
            })
            .collect::<Result<Vec<_>>>()?;
        let share = row.params.guidance_rescale;
        let mut caches = guidance.caches(row.params.step_cache);
        if let Some(caches) = &mut caches {
            // The steps that an earlier attempt remembered are computed again.
            for call in row.state.anchors.calls() {
                let Some(anchor) = row.state.anchors.at(call) else {
                    continue;
                };
                let timestep = row.state.run.program().calls[call].timestep as f32;
                let times = row.times(timestep, grid[0]);
                let time = self.denoiser.embed_time(&times, &self.device)?;
                let latents = row.keep_first(&anchor.latents)?.to_dtype(self.dtype)?;
                let mut own = guidance.caches(row.params.step_cache);
                let at = (&time, &rope);
                guidance.predict(&self.denoiser, &latents, at, share, own.as_mut())?;
                if let Some(own) = &mut own {
                    caches.take(own, |pass| row.state.anchors.is_at(pass, call));
                }
            }
        }
        timings[job].generating_ms += milliseconds(clock);
        for time in &times {
            if watch.is_cancelled(job) {
                return Ok(());
            }
            let clock = Instant::now();
            let input = row.state.run.input()?;
            let latents = row.keep_first(&input)?.to_dtype(self.dtype)?;
            let at = (time, &rope);
            let velocity =
                guidance.predict(&self.denoiser, &latents, at, share, caches.as_mut())?;
            if let Some(caches) = &caches {
                let call = row.state.run.done();
                row.state.anchors.note(
                    caches,
                    &Anchor {
                        call,
                        latents: input,
                    },
                );
            }
            let noise = row
                .state
                .run
                .draw(std::slice::from_mut(&mut row.state.generator))?;
            // Where the flow would end if it went on straight.
            let ahead = match watch.wants_preview(job) {
                true => Some(row.state.run.look_ahead(&velocity)?),
                false => None,
            };
            row.state.run.advance(&velocity, noise.as_ref())?;
            if row.first.is_some() {
                let kept = row.keep_first(row.state.run.latents())?;
                row.state.run.replace_latents(kept)?;
            }
            self.device.synchronize()?;
            timings[job].generating_ms += milliseconds(clock);
            let done = row.state.run.done() as u32;
            watch.stage(job, Stage::Generating, done, steps);
            if watch.wants_checkpoint(job) {
                row.state.keep(watch)?;
            }
            if let Some(ahead) = ahead {
                self.show(row, &ahead, watch)?;
            }
        }
        Ok(())
    }

    /// A preview of moving frames, one for each latent frame.
    fn show(&self, row: &Row, latents: &Tensor, watch: &mut dyn RunWatch) -> Result<()> {
        let frames = to_frames(&row.keep_first(latents)?, self.token_grid(row.params))?;
        let preview = self.preview()?;
        let pictures = (0..frames.dim(0)?)
            .map(|i| preview.render(&frames.narrow(0, i, 1)?.contiguous()?))
            .collect::<Result<Vec<_>>>()?;
        watch.preview_clip(row.state.job, pictures);
        Ok(())
    }
}
