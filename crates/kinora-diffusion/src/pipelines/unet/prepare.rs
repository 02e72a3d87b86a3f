//! The stage before the first step: the list of steps, and the latents that it begins with.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::{
    UnetStage,
    rows::{Batch, Prompted, Row},
    source::{Encoder, Kept, PutBack},
};
use crate::{
    Error, Result,
    noise::Generator,
    pipelines::{Checkpoint, ImageParams, JobTimings, RunLimits, RunWatch, checkpoint::Identity},
    samplers::{Options, Program, Run, config::AlignedModel},
};

/// What a run begins with.
struct Start {
    run: Run,
    generator: Generator,
    kept: Option<Kept>,
}

impl UnetStage {
    /// Schedule and starting latents of each job: noise, a picture, or what an earlier attempt left.
    pub(super) fn prepare<'a>(
        &self,
        jobs: &'a [ImageParams],
        texts: Vec<Prompted>,
        limits: RunLimits,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<Vec<Row<'a>>> {
        let mut rows = Vec::new();
        for text in texts {
            let job = text.job;
            let Some(params) = jobs.get(job) else {
                continue;
            };
            let checkpoint = watch.resume(job);
            let earlier = checkpoint.as_ref().and_then(|checkpoint| checkpoint.tiles);
            let program = Arc::new(self.program(params)?);
            let end = self.last_call(&program, params)?;
            let start = self.start(&program, params)?;
            let mut row = Row {
                text,
                params,
                run: start.run,
                end,
                generator: start.generator,
                kept: start.kept,
                tiling: self.tiling(params, limits, earlier)?,
                identity: String::new(),
            };
            row.identity = self.identify(&row)?;
            if let Some(checkpoint) = checkpoint {
                self.resume(&mut row, &checkpoint)?;
                timings[job].resumed_steps = row.progress(row.run.done()).0;
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// The steps of a run: the checkpoint's own rule and spacing, or those that were chosen.
    pub(crate) fn program(&self, params: &ImageParams) -> Result<Program> {
        let steps = params.steps as usize;
        let begin = match &params.source {
            Some(source) => {
                // Rounded down, as the reference does, in the precision that it computes in.
                let taken = (steps as f64 * shortest_decimal(source.strength)) as usize;
                steps - taken.min(steps)
            }
            None => 0,
        };
        if begin >= steps {
            return Err(Error::BadRequest(format!(
                "{steps} steps at this strength leave none to take; use more of either"
            )));
        }
        if let Some(share) = params.sd.begins_at {
            let whole = self.program_from(params, 0)?;
            let cutoff = self.cutoff(share);
            let left_out = whole
                .calls
                .iter()
                .take_while(|call| call.timestep >= cutoff)
                .count();
            // A step of two calls is taken whole.
            return match whole.calls.get(left_out) {
                Some(call) => self.program_from(params, call.step),
                None => Err(Error::BadRequest(
                    "the run before leaves no steps to take".to_owned(),
                )),
            };
        }
        self.program_from(params, begin)
    }

    fn program_from(&self, params: &ImageParams, begin: usize) -> Result<Program> {
        let options = Options {
            begin,
            ..Options::steps(params.steps as usize)
        };
        match params.sampler {
            None => self.sampler.program(&options),
            Some((sampler, schedule)) => {
                let aligned = if self.is_xl {
                    AlignedModel::Sdxl
                } else {
                    AlignedModel::Sd15
                };
                self.sampler
                    .choose(sampler, schedule, Some(aligned))?
                    .program(&options)
            }
        }
    }

    /// The time of the training at which a share of the noise is gone.
    fn cutoff(&self, share: f32) -> f64 {
        let times = self.sampler.betas.count as f64;
        (times - shortest_decimal(share) * times).round_ties_even()
    }

    /// Calls of the network after which a run ends.
    fn last_call(&self, program: &Program, params: &ImageParams) -> Result<usize> {
        let Some(share) = params.sd.ends_at else {
            return Ok(program.calls.len());
        };
        let cutoff = self.cutoff(share);
        let calls = program
            .calls
            .iter()
            .filter(|call| call.timestep >= cutoff)
            .count();
        if calls == 0 {
            return Err(Error::BadRequest(
                "the run would end before its first step".to_owned(),
            ));
        }
        Ok(calls)
    }

    fn start(&self, program: &Arc<Program>, params: &ImageParams) -> Result<Start> {
        let (rows, columns) = self.latent_size(params);
        let shape = [1, self.parts.vae.latent_channels, rows, columns];
        let mut generator = Generator::new(params.rng, params.seed);
        let encoder = Encoder {
            vae: &self.vae,
            device: &self.device,
            dtype: self.vae_dtype,
            shape,
        };
        let sees_mask = self.parts.unet.in_channels != self.parts.vae.latent_channels;
        let source = params.source.as_ref();
        // The order of the draws is the reference's.
        let has_mask = source.is_some_and(|source| source.mask.is_some());
        let is_pure = source.is_none_or(|source| has_mask && source.strength >= 1.0);
        let whole = match source {
            Some(source) if !is_pure || (has_mask && !sees_mask) => {
                Some(encoder.encode(source, &mut generator)?)
            }
            _ => None,
        };
        let noise = match &params.latents {
            Some(latents) if latents.dims() == shape => {
                latents.to_dtype(DType::F32)?.to_device(&self.device)?
            }
            Some(latents) => {
                return Err(Error::BadRequest(format!(
                    "start from latents of {:?} for a picture of {shape:?}",
                    latents.dims()
                )));
            }
            None => encoder.draw(&mut generator)?,
        };
        let program = Arc::clone(program);
        let run = match &whole {
            Some(picture) if !is_pure => {
                let (of_picture, of_noise) = program.start;
                let mixed = (picture.affine(of_picture, 0.0)? + noise.affine(of_noise, 0.0)?)?;
                Run::start(program, &mixed, true)?
            }
            _ => Run::start(program, &noise, params.sd.begins_at.is_some())?,
        };
        let kept = if sees_mask {
            let kept = match source {
                Some(source) => encoder.encode_kept(source, &mut generator)?,
                None => encoder.encode_nothing(&mut generator)?,
            };
            Some(Kept::Seen(Tensor::cat(
                &[&encoder.mask(source)?, &kept],
                1,
            )?))
        } else if let (true, Some(latents)) = (has_mask, whole) {
            // The reference encodes what stays here too, and does not use it.
            encoder.draw(&mut generator)?;
            Some(Kept::PutBack(PutBack {
                mask: encoder.mask(source)?,
                latents,
                noise,
            }))
        } else {
            None
        };
        Ok(Start {
            run,
            generator,
            kept,
        })
    }

    /// Weights of picture and noise in latents that go into each call, for what is put back.
    pub(super) fn blend_weights(&self, batch: &Batch) -> Result<Vec<(f64, f64)>> {
        let Some(row) = batch.rows.iter().find(|row| row.put_back().is_some()) else {
            return Ok(Vec::new());
        };
        // Every call goes by the first step that begins at its time.
        let calls = &batch.run.program().calls;
        let first = calls.first().map_or(0, |call| call.step);
        let last = calls.last().map_or(0, |call| call.step);
        let mut begins: Vec<(f64, (f64, f64))> = Vec::new();
        for step in first..=last {
            let Ok(program) = self.program_from(row.params, step) else {
                break;
            };
            if let Some(call) = program.calls.first() {
                begins.push((call.timestep, program.start));
            }
        }
        let of_call = |timestep: f64| {
            let found = begins.iter().find(|(time, _)| *time == timestep);
            found.map_or((1.0, 0.0), |(_, weights)| *weights)
        };
        Ok(calls.iter().map(|call| of_call(call.timestep)).collect())
    }

    /// Everything that decides what the latents become.
    fn identify(&self, row: &Row) -> Result<String> {
        let computes_in = (&self.device, self.dtype);
        let mut identity = Identity::of_run(&self.files, &self.adapted.describe(), computes_in);
        let params = row.params;
        let numbers = (params.true_cfg, params.sd.guidance_rescale, row.end);
        identity.add(format!("{} {} {numbers:?}", params.width, params.height).as_bytes());
        identity.add(format!("{:?}", row.run.program().calls).as_bytes());
        let turns: Vec<u32> = row.text.later.iter().map(|(step, _)| *step).collect();
        if !turns.is_empty() {
            identity.add(format!("{turns:?}").as_bytes());
        }
        let mut add = |tensor: &Tensor| -> Result<()> {
            identity.add_f32s(&tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?);
            Ok(())
        };
        for said in row.text.all() {
            for text in [Some(&said.positive), said.negative.as_ref()]
                .into_iter()
                .flatten()
            {
                add(&text.tokens)?;
                if let Some(described) = &text.described {
                    add(described)?;
                }
            }
        }
        match &row.kept {
            Some(Kept::Seen(seen)) => add(seen)?,
            Some(Kept::PutBack(part)) => {
                add(&part.mask)?;
                add(&part.latents)?;
                add(&part.noise)?;
            }
            None => {}
        }
        // The noise itself rather than its seed: it may have been given.
        add(row.run.latents())?;
        identity.add(&row.generator.save());
        Ok(identity.finish())
    }

    /// Takes over a checkpoint that was made by this very work; any other is left aside.
    fn resume(&self, row: &mut Row, checkpoint: &Checkpoint) -> Result<()> {
        if checkpoint.identity != row.identity || checkpoint.state.shape != row.run.latents().dims()
        {
            tracing::info!(
                job = row.job(),
                "a checkpoint belongs to other work and is not used"
            );
            return Ok(());
        }
        row.run = Run::resume(
            Arc::clone(row.run.program()),
            &checkpoint.state,
            &self.device,
        )?;
        if let Some(generator) = checkpoint.generator()? {
            row.generator = generator;
        }
        Ok(())
    }
}

/// The decimal that was meant: 0.6 as f32 is a little more than 0.6, and would count for one step
/// more.
fn shortest_decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_the_decimals_that_were_written() {
        for (share, steps, taken) in [(0.6, 5, 3), (0.3, 10, 3), (0.7, 10, 7), (1.0, 4, 4)] {
            assert_eq!((f64::from(steps) * shortest_decimal(share)) as i32, taken);
        }
    }
}
