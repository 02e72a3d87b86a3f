//! A clip with sound on its way through the denoiser.

use std::{sync::Arc, time::Instant};

use candle_core::{DType, Tensor};
use kinora_core::Stage;

use super::{Ltx2Guidance, Ltx2Params, Ltx2Pipeline};
use crate::{
    Result,
    denoisers::{Ltx2Blindness, Ltx2Context, Ltx2Input, Ltx2Positions, Ltx2Time},
    guidance::rescale,
    pipelines::{
        JobTimings, RunLimits, RunWatch,
        clip::{ClipState, frame_times},
        milliseconds,
        packing::to_frames,
    },
    step_cache::{Anchor, PassCaches},
    text::Ltx2Text,
};

/// Tokens up to which both texts of a guided step go through the network together: more fill every
/// core and every unit of a device on their own.
const TOGETHER: usize = 8192;
/// Times of the training, the scale of a timestep.
const TIMES: f64 = 1000.0;

/// Latents of picture and sound, (1, tokens, channels) each.
#[derive(Clone, Debug)]
pub(crate) struct Both {
    pub video: Tensor,
    pub audio: Tensor,
}

impl Both {
    /// Both as one row of numbers, as steps take them: (1, numbers).
    pub fn join(&self) -> Result<Tensor> {
        let row = |x: &Tensor| x.to_dtype(DType::F32)?.flatten_from(1);
        Ok(Tensor::cat(&[row(&self.video)?, row(&self.audio)?], 1)?)
    }

    fn map(&self, mut to: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self {
            video: to(&self.video)?,
            audio: to(&self.audio)?,
        })
    }
}

/// One job.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub params: &'a Ltx2Params,
    pub positive: Ltx2Text,
    pub negative: Option<Ltx2Text>,
    /// The first latent frame where it is given: (1, tokens of a frame, channels).
    pub first: Option<Tensor>,
    /// Shapes of the latents of picture and sound: tokens and channels.
    pub shapes: [(usize, usize); 2],
    /// Its latents are (1, numbers), picture before sound.
    pub state: ClipState,
}

impl Row<'_> {
    /// Picture and sound of a row of numbers, the first frame as it was given.
    pub fn split(&self, latents: &Tensor) -> Result<Both> {
        let [video, audio] = self.shapes;
        let count = video.0 * video.1;
        let part = |first: usize, (tokens, channels): (usize, usize)| {
            latents
                .narrow(1, first, tokens * channels)?
                .reshape((1, tokens, channels))
        };
        let mut both = Both {
            video: part(0, video)?.contiguous()?,
            audio: part(count, audio)?.contiguous()?,
        };
        if let Some(first) = &self.first {
            let own = first.dim(1)?;
            let rest = video.0 - own;
            both.video = match rest {
                0 => first.clone(),
                _ => {
                    let rest = both.video.narrow(1, own, rest)?.contiguous()?;
                    Tensor::cat(&[first, &rest], 1)?
                }
            };
        }
        Ok(both)
    }

    /// The times of the frames of tokens: a given frame has no noise.
    fn times(&self, time: f32, frames: usize) -> Vec<f32> {
        frame_times(self.first.is_some(), time, frames)
    }
}

/// What every step of a clip needs.
struct Prepared {
    positive: Ltx2Context,
    /// Both texts, the negative one second, or the negative one alone.
    negative: Option<(Ltx2Context, bool)>,
    positions: Ltx2Positions,
}

impl Prepared {
    /// Empty caches for the calls of a step, in their order, where steps are reused.
    fn caches(&self, params: &Ltx2Params) -> Option<PassCaches> {
        let mut rows = match &self.negative {
            Some((_, true)) => vec![2],
            Some((_, false)) => vec![1, 1],
            None => vec![1],
        };
        let others = [
            params.is_guided_by_blindness(),
            params.is_guided_by_solitude(),
        ];
        rows.extend(others.into_iter().filter(|is_there| *is_there).map(|_| 1));
        PassCaches::of_rows(params.step_cache, &rows)
    }
}

impl Ltx2Pipeline {
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
        let clock = Instant::now();
        let frames = self.token_grid(row.params)[0];
        let prepared = self.prepare_step(row, limits)?;
        let program = Arc::clone(row.state.run.program());
        let embed = |row: &Row, call: usize| {
            let timestep = program.calls[call].timestep;
            let times = row.times(timestep as f32, frames);
            let is_crossed = self.is_crossed(row.params);
            let time =
                (self.denoiser).embed_time(&times, timestep as f32, is_crossed, &self.device)?;
            Ok((time, timestep / TIMES))
        };
        let times = (row.state.run.done()..program.calls.len())
            .map(|call| embed(row, call))
            .collect::<Result<Vec<(Ltx2Time, f64)>>>()?;
        let mut caches = prepared.caches(row.params);
        if let Some(caches) = &mut caches {
            // The steps that an earlier attempt remembered are computed again.
            for call in row.state.anchors.calls() {
                let Some(anchor) = row.state.anchors.at(call) else {
                    continue;
                };
                let at = embed(row, call)?;
                let latents = row.split(&anchor.latents)?;
                let mut own = prepared.caches(row.params);
                self.predict(row.params, &prepared, &latents, &at, own.as_mut())?;
                if let Some(own) = &mut own {
                    caches.take(own, |pass| row.state.anchors.is_at(pass, call));
                }
            }
        }
        timings[job].generating_ms += milliseconds(clock);
        for at in &times {
            if watch.is_cancelled(job) {
                return Ok(());
            }
            let clock = Instant::now();
            let input = row.state.run.input()?;
            let latents = row.split(&input)?;
            let velocity = self.predict(row.params, &prepared, &latents, at, caches.as_mut())?;
            let velocity = velocity.join()?;
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
                let kept = row.split(row.state.run.latents())?.join()?;
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

    fn prepare_step(&self, row: &Row, limits: RunLimits) -> Result<Prepared> {
        let grid = self.token_grid(row.params);
        let is_together = !limits.is_frugal && 2 * grid.iter().product::<usize>() <= TOGETHER;
        let context = |texts: &[&Ltx2Text]| self.denoiser.prepare_context(texts);
        let negative = match &row.negative {
            Some(negative) if is_together => Some((context(&[&row.positive, negative])?, true)),
            Some(negative) => Some((context(&[negative])?, false)),
            None => None,
        };
        Ok(Prepared {
            positive: context(&[&row.positive])?,
            negative,
            positions: self.positions(row.params)?,
        })
    }

    /// The velocities of picture and sound, guided, in f32.
    fn predict(
        &self,
        params: &Ltx2Params,
        prepared: &Prepared,
        latents: &Both,
        (time, sigma): &(Ltx2Time, f64),
        mut caches: Option<&mut PassCaches>,
    ) -> Result<Both> {
        let mut pass = 0;
        let mut call = |latents: &Both, context: &Ltx2Context, blindness: Ltx2Blindness| {
            let latents = latents.map(|x| Ok(x.to_dtype(self.dtype)?))?;
            let cache = caches.as_deref_mut().and_then(|caches| caches.of(pass));
            pass += latents.video.dim(0)?;
            let input = Ltx2Input {
                video: &latents.video,
                audio: &latents.audio,
                context,
                time,
                positions: &prepared.positions,
                blindness,
            };
            let (video, audio) = self.denoiser.forward_reusing(&input, cache)?;
            Both { video, audio }.map(|x| Ok(x.to_dtype(DType::F32)?))
        };
        let plain = Ltx2Blindness::None;
        let (positive, negative) = match &prepared.negative {
            Some((both, true)) => {
                let twice = latents.map(|x| Ok(Tensor::cat(&[x, x], 0)?))?;
                let answers = call(&twice, both, plain)?;
                let row = |i| answers.map(|x| Ok(x.narrow(0, i, 1)?.contiguous()?));
                (row(0)?, Some(row(1)?))
            }
            Some((negative, false)) => (
                call(latents, &prepared.positive, plain)?,
                Some(call(latents, negative, plain)?),
            ),
            None => (call(latents, &prepared.positive, plain)?, None),
        };
        let blind = match params.is_guided_by_blindness() {
            true => {
                let blindness = Ltx2Blindness::Tokens(&params.blind_blocks);
                Some(call(latents, &prepared.positive, blindness)?)
            }
            false => None,
        };
        let alone = match params.is_guided_by_solitude() {
            true => Some(call(latents, &prepared.positive, Ltx2Blindness::Streams)?),
            false => None,
        };
        let lead = |pick: fn(&Both) -> &Tensor, guidance: &Ltx2Guidance| {
            let weaker = [
                (negative.as_ref(), guidance.text - 1.0),
                (blind.as_ref(), guidance.blind),
                (alone.as_ref(), guidance.alone - 1.0),
            ];
            let weaker: Vec<(&Tensor, f32)> = weaker
                .into_iter()
                .filter_map(|(answer, strength)| Some((pick(answer?), strength)))
                .collect();
            lead_away(
                pick(&positive),
                &weaker,
                guidance.rescale,
                pick(latents),
                *sigma,
            )
        };
        Ok(Both {
            video: lead(|both| &both.video, &params.guidance)?,
            audio: lead(|both| &both.audio, &params.audio_guidance)?,
        })
    }

    /// A preview of moving frames, one for each latent frame.
    fn show(&self, row: &Row, latents: &Tensor, watch: &mut dyn RunWatch) -> Result<()> {
        let video = row.split(latents)?.video;
        let frames = to_frames(&video, self.token_grid(row.params))?;
        let preview = self.preview()?;
        let pictures = (0..frames.dim(0)?)
            .map(|i| preview.render(&frames.narrow(0, i, 1)?.contiguous()?))
            .collect::<Result<Vec<_>>>()?;
        watch.preview_clip(row.state.job, pictures);
        Ok(())
    }
}

/// A velocity, led away from weaker ones by so much each. The contrast is that of the clean latents
/// that velocities point to, `latents − sigma · velocity`.
fn lead_away(
    positive: &Tensor,
    weaker: &[(&Tensor, f32)],
    share: f32,
    latents: &Tensor,
    sigma: f64,
) -> Result<Tensor> {
    let mut guided = positive.clone();
    for (weak, strength) in weaker {
        guided = (guided + ((positive - *weak)? * f64::from(*strength))?)?;
    }
    if share == 0.0 || sigma == 0.0 {
        return Ok(guided);
    }
    let latents = latents.to_dtype(DType::F32)?;
    let clean = |velocity: &Tensor| &latents - (velocity * sigma)?;
    let clean = rescale(&clean(&guided)?, &clean(positive)?, share)?;
    Ok(((&latents - clean)? / sigma)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, wave};

    #[test]
    fn without_a_rescale_leading_away_is_a_sum() {
        let (positive, weak) = (wave(&[1, 5, 4]), wave(&[1, 5, 4]).affine(0.5, 0.1).unwrap());
        let latents = wave(&[1, 5, 4]).affine(2.0, 0.3).unwrap();
        let ours = lead_away(&positive, &[(&weak, 3.0)], 0.0, &latents, 0.7).unwrap();
        let sum = (&positive + ((&positive - &weak).unwrap() * 3.0).unwrap()).unwrap();
        assert_close(&ours, &sum, 1e-6);
        // With nothing to lead away from, a rescale changes nothing.
        let same = lead_away(&positive, &[], 0.7, &latents, 0.7).unwrap();
        assert_close(&same, &positive, 1e-5);
        let rescaled = lead_away(&positive, &[(&weak, 3.0)], 0.7, &latents, 0.7).unwrap();
        assert_ne!(rescaled.to_string(), sum.to_string());
    }
}
