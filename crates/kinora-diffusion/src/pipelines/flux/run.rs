//! Batches on their way through the denoiser.

use std::time::Instant;

use candle_core::{DType, Tensor};
use kinora_core::Stage;

use super::{
    FluxPipeline, milliseconds,
    pictures::Given,
    rows::{Batch, Conditioning, Row},
};
use crate::{
    Result,
    denoisers::FluxInput,
    layers::Rope,
    pipelines::{Checkpoint, ImageParams, JobTimings, RunWatch, packing::unpack},
    step_cache::{Anchor, StepCache},
    vae::Tiling,
    vision::Redux,
};

impl FluxPipeline {
    /// Takes a batch from its first open step to the last. Rows that are cancelled leave it.
    pub(super) fn denoise<'a>(
        &self,
        mut batch: Batch<'a>,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<Vec<(Row<'a>, Tensor)>> {
        let Some(first) = batch.rows.first() else {
            return Ok(Vec::new());
        };
        let (params, start) = (first.params, first.run.done() as u32);
        let (rows, columns) = self.token_grid(params);
        let ropes = self.positions_of(params, &first.given)?;
        let steps = batch.run.program().calls.len() as u32;
        self.remember(&mut batch, &ropes)?;
        for row in &batch.rows {
            timings[row.job].batch = batch.rows.len() as u32;
            watch.stage(row.job, Stage::Generating, start, steps);
        }
        while let Some(timestep) = batch.run.call().map(|call| call.timestep) {
            batch.keep(|row| !watch.is_cancelled(row.job))?;
            if batch.rows.is_empty() {
                break;
            }
            let clock = Instant::now();
            let velocity = self.predict(&mut batch, timestep as f32, &ropes)?;
            note_full_calls(&mut batch)?;
            let before = batch.run.clone();
            batch.run.advance(&velocity, None)?;
            put_back(&mut batch)?;
            self.device.synchronize()?;
            let share = milliseconds(clock) / batch.rows.len() as f64;
            let done = batch.run.done() as u32;
            for (i, row) in batch.rows.iter().enumerate() {
                timings[row.job].generating_ms += share;
                watch.stage(row.job, Stage::Generating, done, steps);
                // Tiles depend on how much memory there was: whoever decodes again needs the same.
                let is_cut = batch.run.call().is_none() && row.tiling != Tiling::Whole;
                if watch.wants_checkpoint(row.job) || is_cut {
                    let checkpoint = Checkpoint {
                        step: done,
                        state: batch.run.state(i)?,
                        noise: Vec::new(),
                        anchors: row.anchors.store()?,
                        tiles: Some(row.tiling.side()),
                        identity: row.identity.clone(),
                    };
                    watch.checkpoint(row.job, &checkpoint)?;
                }
                if watch.wants_preview(row.job) {
                    // Where the flow would end if it went on straight.
                    let end = before.row(i)?.look_ahead(&velocity.narrow(0, i, 1)?)?;
                    watch.preview(
                        row.job,
                        self.preview()?.render(&unpack(&end, rows, columns)?)?,
                    );
                }
            }
        }
        batch.into_rows()
    }

    /// Everything that the network sees of pictures: latents, further channels, further tokens.
    fn assemble(
        &self,
        latents: Tensor,
        channels: Option<&Tensor>,
        context: Option<&Tensor>,
    ) -> Result<Tensor> {
        let mut latents = latents.to_dtype(self.dtype)?;
        if let Some(channels) = channels {
            latents = Tensor::cat(&[latents, channels.to_dtype(self.dtype)?], 2)?;
        }
        if let Some(context) = context {
            latents = Tensor::cat(&[latents, context.to_dtype(self.dtype)?], 1)?;
        }
        Ok(latents)
    }

    /// What the first step's call sees of pictures.
    pub(crate) fn first_input(&self, params: &ImageParams) -> Result<Tensor> {
        let start = self.start(params)?;
        let latents = self.begin(params, &start)?.input()?;
        let context = start.given.context.as_ref().map(|context| &context.tokens);
        self.assemble(latents, start.given.channels.as_ref(), context)
    }

    /// The positions of all tokens of such a job.
    pub(crate) fn positions(&self, params: &ImageParams) -> Result<Ropes> {
        self.positions_of(params, &self.start(params)?.given)
    }

    fn positions_of(&self, params: &ImageParams, given: &Given) -> Result<Ropes> {
        let context = given.context.as_ref();
        let beside = |text_tokens: usize| {
            self.denoiser.positions_beside(
                text_tokens,
                self.token_grid(params),
                context.map(|context| (context.rows, context.columns)),
                &self.device,
            )
        };
        let seen = match params.flux.likes.is_empty() {
            true => 0,
            false => self.redux.as_ref().map_or(0, Redux::tokens),
        };
        Ok(Ropes {
            positive: beside(params.text_tokens + seen)?,
            negative: match (params.active_cfg(), seen) {
                (Some(_), 1..) => Some(beside(params.text_tokens)?),
                _ => None,
            },
        })
    }

    /// Where steps are reused: what the network remembers of them. Of rows that go on from a
    /// checkpoint, the steps that it remembers are computed again.
    fn remember(&self, batch: &mut Batch, ropes: &Ropes) -> Result<()> {
        let Some(threshold) = (batch.rows.first())
            .map(|row| row.params.flux.step_cache)
            .filter(|threshold| *threshold > 0.0)
        else {
            return Ok(());
        };
        let passes = 1 + usize::from(batch.negative.is_some());
        let mut caches: Vec<StepCache> = (0..passes)
            .map(|_| StepCache::new(threshold, batch.rows.len()))
            .collect();
        for (i, row) in batch.rows.iter().enumerate() {
            let texts = [
                (Some(&row.positive), &ropes.positive),
                (row.negative.as_ref(), ropes.negative()),
            ];
            for (pass, (cache, (text, rope))) in caches.iter_mut().zip(texts).enumerate() {
                let (Some(anchor), Some(text)) = (row.anchors.get(pass), text) else {
                    continue;
                };
                let Some(call) = row.run.program().calls.get(anchor.call) else {
                    continue;
                };
                let context = row.given.context.as_ref().map(|context| &context.tokens);
                let channels = row.given.channels.as_ref();
                let guidance: Vec<f32> = row.params.guidance.into_iter().collect();
                let input = FluxInput {
                    latents: &self.assemble(anchor.latents.clone(), channels, context)?,
                    text: &text.tokens,
                    pooled: &text.pooled,
                    timestep: call.timestep as f32,
                    guidance: &guidance,
                    rope,
                };
                let mut own = StepCache::new(threshold, 1);
                self.denoiser.forward_reusing(&input, Some(&mut own))?;
                cache.take(i, &mut own, 0);
            }
        }
        batch.caches = caches;
        Ok(())
    }

    /// The velocity of every row, guided where it is asked for.
    fn predict(&self, batch: &mut Batch, timestep: f32, ropes: &Ropes) -> Result<Tensor> {
        let mut caches = std::mem::take(&mut batch.caches);
        let velocity = self.predict_reusing(batch, &mut caches, timestep, ropes)?;
        batch.caches = caches;
        Ok(velocity)
    }

    fn predict_reusing(
        &self,
        batch: &Batch,
        caches: &mut [StepCache],
        timestep: f32,
        ropes: &Ropes,
    ) -> Result<Tensor> {
        let mut caches = caches.iter_mut();
        let guidance: Vec<f32> = batch
            .rows
            .iter()
            .filter_map(|row| row.params.guidance)
            .collect();
        let latents = batch.run.input()?;
        let tokens = latents.dim(1)?;
        let latents = self.assemble(latents, batch.channels.as_ref(), batch.context.as_ref())?;
        let mut call = |text: &Conditioning, rope: &Rope| -> Result<Tensor> {
            let input = FluxInput {
                latents: &latents,
                text: &text.tokens,
                pooled: &text.pooled,
                timestep,
                guidance: &guidance,
                rope,
            };
            let velocity = self.denoiser.forward_reusing(&input, caches.next())?;
            Ok(velocity.narrow(1, 0, tokens)?.contiguous()?)
        };
        let positive = call(&batch.positive, &ropes.positive)?.to_dtype(DType::F32)?;
        let Some(text) = &batch.negative else {
            return Ok(positive);
        };
        let negative = call(text, ropes.negative())?.to_dtype(DType::F32)?;
        let scales: Vec<f32> = batch
            .rows
            .iter()
            .filter_map(|row| row.params.active_cfg())
            .collect();
        let scales = Tensor::from_vec(scales, (batch.rows.len(), 1, 1), &self.device)?;
        Ok((&negative + (positive - &negative)?.broadcast_mul(&scales)?)?)
    }
}

/// Notes which rows went through all blocks in the call that was just answered.
fn note_full_calls(batch: &mut Batch) -> Result<()> {
    if batch.caches.is_empty() {
        return Ok(());
    }
    let (input, call) = (batch.run.input()?, batch.run.done());
    for (i, row) in batch.rows.iter_mut().enumerate() {
        for (pass, cache) in batch.caches.iter().enumerate() {
            if cache.was_full(i) {
                let latents = input.narrow(0, i, 1)?.contiguous()?;
                row.anchors.set(pass, Anchor { call, latents });
            }
        }
    }
    Ok(())
}

/// Positions of the tokens of a call with the prompt, and of one with the negative prompt.
#[derive(Debug)]
pub(crate) struct Ropes {
    pub positive: Rope,
    /// None: the same. Pictures that the new one shall be like stand beside the prompt alone.
    negative: Option<Rope>,
}

impl Ropes {
    pub fn negative(&self) -> &Rope {
        self.negative.as_ref().unwrap_or(&self.positive)
    }
}

/// Puts what masks leave of sources back into the latents, with the noise of the next step.
fn put_back(batch: &mut Batch) -> Result<()> {
    if batch.rows.iter().all(|row| row.given.put_back.is_none()) {
        return Ok(());
    }
    let level = batch.run.call().map_or(0.0, |call| call.sigma);
    let mut rows = Vec::with_capacity(batch.rows.len());
    for (i, row) in batch.rows.iter().enumerate() {
        let latents = batch.run.latents().narrow(0, i, 1)?;
        rows.push(match &row.given.put_back {
            Some(part) => {
                let picture = part.latents.affine(1.0 - level, 0.0)?;
                let kept = (part.noise.affine(level, 0.0)? + picture)?;
                let stays = part.mask.affine(-1.0, 1.0)?;
                ((stays * kept)? + (&part.mask * latents)?)?
            }
            None => latents,
        });
    }
    batch.run.replace_latents(Tensor::cat(&rows, 0)?)
}
