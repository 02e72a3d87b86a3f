//! A clip on its way through the denoisers.

use std::time::Instant;

use candle_core::{DType, Tensor};
use kinora_core::{Expert, Stage, StagePart};

use super::{
    Condition, VideoParams, WanPipeline,
    condition::to_frames,
    windows::{Blend, Windows},
};
use crate::{
    Error, Result,
    denoisers::{WanContext, WanDenoiser, WanInput, WanText, WanTime},
    layers::Rope,
    pipelines::{JobTimings, RunLimits, RunWatch, clip::ClipState, milliseconds},
    step_cache::{Anchor, PassCaches, StepCache},
};

/// Tokens up to which both texts of a guided step go through the network together: more fill every
/// core and every unit of a device on their own.
const TOGETHER: usize = 8192;

/// One job.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub params: &'a VideoParams,
    pub positive: WanText,
    pub negative: Option<WanText>,
    /// (pictures, rows of CLIP, width)
    pub images: Option<Tensor>,
    pub condition: Condition,
    /// The first call that the expert of little noise takes.
    pub first_low: usize,
    /// None: the network sees the whole clip.
    pub windows: Option<Windows>,
    /// Its latents are (1, channels, frames, rows, columns).
    pub state: ClipState,
}

impl Row<'_> {
    /// One after the last call of an expert.
    fn end_of(&self, expert: Expert) -> usize {
        match expert {
            Expert::High => self.first_low,
            Expert::Low => self.state.run.program().calls.len(),
        }
    }
}

/// The texts of a step, with keys and values for one expert.
enum Guidance {
    None(WanContext),
    /// The negative text is the second row.
    Together(WanContext, f32),
    InTurn(WanContext, WanContext, f32),
}

impl Guidance {
    fn prepare(
        denoiser: &WanDenoiser,
        row: &Row,
        scale: Option<f32>,
        is_together: bool,
    ) -> Result<Self> {
        let images = row.images.as_ref();
        let context = |texts: &[&WanText]| denoiser.prepare_context(texts, images);
        Ok(match (&row.negative, scale) {
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
        denoiser: &WanDenoiser,
        latents: &Tensor,
        (time, rope): (&WanTime, &Rope),
        mut caches: Option<&mut PassCaches>,
    ) -> Result<Tensor> {
        let call = |latents: &Tensor, context: &WanContext, cache: Option<&mut StepCache>| {
            let input = WanInput {
                latents,
                context,
                time,
                rope,
            };
            let velocity = denoiser.forward_reusing(&input, cache)?;
            Ok::<_, Error>(velocity.to_dtype(DType::F32)?)
        };
        let mut call = |pass: usize, latents: &Tensor, context: &WanContext| -> Result<Tensor> {
            let cache = caches.as_deref_mut().and_then(|caches| caches.of(pass));
            call(latents, context, cache)
        };
        let guide = |positive: Tensor, negative: Tensor, scale: f32| -> Result<Tensor> {
            Ok((&negative + ((positive - &negative)? * f64::from(scale))?)?)
        };
        match self {
            Self::None(context) => call(0, latents, context),
            Self::Together(context, scale) => {
                let both = call(0, &Tensor::cat(&[latents, latents], 0)?, context)?;
                let row = |i| both.narrow(0, i, 1)?.contiguous();
                guide(row(0)?, row(1)?, *scale)
            }
            Self::InTurn(positive, negative, scale) => {
                let positive = call(0, latents, positive)?;
                guide(positive, call(1, latents, negative)?, *scale)
            }
        }
    }
}

impl WanPipeline {
    /// Takes a clip through the steps of one expert, from the first open one.
    pub(super) fn denoise(
        &mut self,
        row: &mut Row,
        expert: Expert,
        limits: RunLimits,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<()> {
        let (job, end) = (row.state.job, row.end_of(expert));
        let steps = row.state.run.program().calls.len() as u32;
        if row.state.run.done() >= end || watch.is_cancelled(job) {
            return Ok(());
        }
        if self.experts.are_two() {
            let part = match expert {
                Expert::High => StagePart::HighNoise,
                Expert::Low => StagePart::LowNoise,
            };
            watch.part(job, Some(part));
        }
        if !self.experts.has(expert) {
            watch.stage(job, Stage::Loading, 0, 100);
        }
        self.experts.get(expert, &mut |share| {
            watch.stage(job, Stage::Loading, (share * 100.0) as u32, 100);
        })?;
        watch.stage(job, Stage::Generating, row.state.run.done() as u32, steps);
        timings[job].batch = 1;
        let mut latent_grid = self.latent_grid(row.params);
        if let Some(windows) = &row.windows {
            latent_grid[0] = windows.len();
        }
        let grid = self.tokens_of(latent_grid);
        // What every step of this expert needs.
        let clock = Instant::now();
        let scale = row.params.active_guidance(expert == Expert::Low);
        let is_together = !limits.is_frugal && 2 * grid.iter().product::<usize>() <= TOGETHER;
        let device = self.device.clone();
        let denoiser = self.experts.get(expert, &mut |_| {})?;
        let rope = denoiser.positions(grid, &device)?;
        let guidance = Guidance::prepare(denoiser, row, scale, is_together)?;
        let first = row.state.run.done();
        let times = row.state.run.program().calls[first..end]
            .iter()
            .map(|call| {
                let times = row.condition.times(call.timestep as f32, grid[0]);
                denoiser.embed_time(&times, &device)
            })
            .collect::<Result<Vec<_>>>()?;
        row.state.anchors.forget_before(match expert {
            Expert::High => 0,
            Expert::Low => row.first_low,
        });
        let dtype = self.dtype;
        let mut caches = guidance.caches(row.params.step_cache);
        if let Some(caches) = &mut caches {
            // The steps that an earlier attempt remembered are computed again.
            for call in row.state.anchors.calls() {
                let Some(anchor) = row.state.anchors.at(call) else {
                    continue;
                };
                let timestep = row.state.run.program().calls[call].timestep as f32;
                let time = denoiser.embed_time(&row.condition.times(timestep, grid[0]), &device)?;
                let latents = row.condition.apply(&anchor.latents)?.to_dtype(dtype)?;
                let mut own = guidance.caches(row.params.step_cache);
                guidance.predict(denoiser, &latents, (&time, &rope), own.as_mut())?;
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
            let denoiser = self.experts.get(expert, &mut |_| {})?;
            let input = row.state.run.input()?;
            let latents = row.condition.apply(&input)?.to_dtype(dtype)?;
            let velocity = match &row.windows {
                None => guidance.predict(denoiser, &latents, (time, &rope), caches.as_mut())?,
                Some(windows) => {
                    let mut blend = Blend::default();
                    for window in windows.at(row.state.run.call().map_or(0, |call| call.step)) {
                        if watch.is_cancelled(job) {
                            return Ok(());
                        }
                        let part = window.cut(&latents)?;
                        // Windows move: what one step kept fits no window of the next.
                        let velocity = guidance.predict(denoiser, &part, (time, &rope), None)?;
                        blend.add(&window, &velocity)?;
                    }
                    blend.finish()?
                }
            };
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
        let frames = to_frames(&row.condition.keep_first(latents)?)?;
        let preview = self.preview()?;
        let pictures = (0..frames.dim(0)?)
            .map(|i| preview.render(&frames.narrow(0, i, 1)?.contiguous()?))
            .collect::<Result<Vec<_>>>()?;
        watch.preview_clip(row.state.job, pictures);
        Ok(())
    }
}
