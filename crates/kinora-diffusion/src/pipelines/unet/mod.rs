//! What the pipelines of Stable Diffusion do alike once their texts are encoded: prepare, denoise,
//! decode. No pipeline of its own; which texts and sizes the network is told is theirs.

#[cfg(test)]
mod adapter_tests;
pub(crate) mod guidance;
mod prepare;
pub(crate) mod rows;
mod source;

use std::{sync::OnceLock, time::Instant};

use candle_core::{DType, Device, Tensor};
use kinora_core::Stage;
use kinora_weights::{
    ClipConfig, Component, ModelLayout, SdParts, TextActivation,
    lora::{LoraComponent, LoraTargets},
};

use self::{
    guidance::guide,
    rows::{Batch, Prompted, Row, Texts, batches},
};
use super::{Checkpoint, ImageParams, JobTimings, RunLimits, RunWatch, milliseconds, picture};
use crate::{
    Error, Result,
    adapters::{AdaptableNetwork, Adapted},
    denoisers::{UnetDenoiser, UnetInput, UnetText},
    layers::Weights,
    memory,
    previews::LatentPreview,
    samplers::Config,
    text::Tokenizer,
    vae::{KlVae, TileSide, Tiling},
};

/// Bounds on what a request may ask, far above any use.
const MAX_STEPS: u32 = 1000;
const MAX_SIDE: u32 = 16_384;
/// Rows of one batch: beyond, a processor gains nothing and pictures only come later.
const MAX_BATCH_CPU: usize = 4;
const MAX_BATCH: usize = 32;

/// The tokenizer of a model's text encoder: in its folder, or CLIP's own where a model is one file
/// and has none beside it.
pub(crate) fn open_tokenizer(
    layout: &ModelLayout,
    folder: &str,
    config: &ClipConfig,
) -> Result<Tokenizer> {
    let folder = layout.folder().join(folder);
    match (folder.is_dir(), config.activation) {
        (true, _) => Tokenizer::open_clip(&folder),
        // OpenAI's models, and those of OpenCLIP.
        (false, TextActivation::QuickGelu) => Tokenizer::clip("<|endoftext|>"),
        (false, _) => Tokenizer::clip("!"),
    }
}

/// Denoiser and VAE with their weights in memory, and how noise is taken away.
pub(crate) struct UnetStage {
    parts: SdParts,
    device: Device,
    dtype: DType,
    vae_dtype: DType,
    unet: UnetDenoiser,
    vae: KlVae,
    sampler: Config,
    /// Fitted when the first preview is wanted.
    preview: OnceLock<LatentPreview>,
    weight_bytes: u64,
    /// Names and sizes of the weight files, for the identity of checkpoints.
    files: String,
    /// Multiples of sizes in pixels.
    size_step: u32,
    is_xl: bool,
    layout: ModelLayout,
    /// Of the whole model.
    pub adapted: Adapted,
}

impl UnetStage {
    /// Reads denoiser and VAE. `on_load` is told the share that is done, 0 to 1.
    pub fn open(
        layout: &ModelLayout,
        parts: &SdParts,
        (device, dtype): (&Device, DType),
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        // Halves overflow in SDXL's decoder.
        let vae_dtype = match dtype {
            DType::F16 => DType::F32,
            other => other,
        };
        let weights = Weights::new(layout.open(Component::Vae)?, device, vae_dtype);
        let vae = KlVae::load(&weights, &parts.vae)?;
        let read = [Component::Vae, Component::Transformer];
        let total: u64 = read
            .map(|component| layout.bytes_of(component))
            .iter()
            .sum();
        let done = layout.bytes_of(Component::Vae) as f32 / total.max(1) as f32;
        on_load(done);
        let weights = Weights::new(layout.open(Component::Transformer)?, device, dtype);
        let unet = UnetDenoiser::load(&weights, &parts.unet, &mut |part| {
            on_load(done + (1.0 - done).max(0.0) * part);
        })?;
        let files: Vec<String> = layout
            .weights
            .iter()
            .map(|file| format!("{} {} {}", file.component, file.file, file.bytes))
            .collect();
        let scheduler = layout.root.join("scheduler").join("scheduler_config.json");
        let sampler = Config::parse(&parts.scheduler).map_err(|error| match error {
            Error::BadRequest(reason) => Error::bad_weights(scheduler, reason),
            other => other,
        })?;
        Ok(Self {
            unet,
            vae,
            sampler,
            preview: OnceLock::new(),
            weight_bytes: memory::estimate(layout, (0, 0), 0, 0, dtype.size_in_bytes() as u64)
                .weights,
            files: files.join("\n"),
            size_step: layout.parts.size_step() as u32,
            is_xl: parts.unet.added_dim.is_some(),
            parts: parts.clone(),
            layout: layout.clone(),
            adapted: Adapted::default(),
            device: device.clone(),
            dtype,
            vae_dtype,
        })
    }

    /// Bytes that the weights of the whole model occupy.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes.saturating_add(self.adapted.added_bytes())
    }

    /// Widths and heights of which multiples stay whole down to the lowest level.
    pub fn size_step(&self) -> u32 {
        self.size_step
    }

    /// Device, and number format of activations.
    pub fn computes_in(&self) -> (&Device, DType) {
        (&self.device, self.dtype)
    }

    /// Names and sizes of the weight files.
    pub fn files(&self) -> &str {
        &self.files
    }

    /// The denoiser as adapters see it.
    pub fn adaptable_unet(&mut self) -> AdaptableNetwork<'_> {
        AdaptableNetwork::only(LoraComponent::Denoiser, self.unet.adaptables())
    }

    /// The layers of the whole model.
    pub fn read_targets(&self) -> Result<LoraTargets> {
        Ok(LoraTargets::of_pictures(&self.layout)?)
    }

    /// The denoiser.
    pub fn unet(&self) -> &UnetDenoiser {
        &self.unet
    }

    /// The VAE.
    pub fn vae(&self) -> &KlVae {
        &self.vae
    }

    /// Refuses what no run of this model can do.
    pub fn check(&self, params: &ImageParams) -> Result<()> {
        let refuse = |reason: String| Err(Error::BadRequest(reason));
        let (width, height) = (params.width, params.height);
        // Latents must be whole; odd ones are halved and doubled as the reference does.
        let step = self.parts.vae.scale() as u32;
        if [width, height]
            .iter()
            .any(|side| *side == 0 || side % step != 0 || *side > MAX_SIDE)
        {
            return refuse(format!(
                "{width} × {height} pixels; both must be multiples of {step}, up to {MAX_SIDE}"
            ));
        }
        if !(1..=MAX_STEPS).contains(&params.steps) {
            return refuse(format!(
                "{} steps; 1 to {MAX_STEPS} are possible",
                params.steps
            ));
        }
        if params.true_cfg.is_some_and(|scale| !scale.is_finite()) {
            return refuse("guidance must be a finite number".into());
        }
        let steps = params.sd.changes.iter().map(|change| change.step);
        if !params.sd.changes.is_empty()
            && !std::iter::once(0).chain(steps).is_sorted_by(|a, b| a < b)
        {
            return refuse(
                "changes of the prompt come one after the other, at steps above 0".into(),
            );
        }
        let sd = &params.sd;
        let is_share = |share: f32| (0.0..=1.0).contains(&share);
        if !is_share(sd.guidance_rescale) {
            return refuse("guidance_rescale lies from 0 to 1".into());
        }
        for (name, share) in [("begins_at", sd.begins_at), ("ends_at", sd.ends_at)] {
            if share.is_some_and(|share| !is_share(share)) {
                return refuse(format!("{name} lies from 0 to 1"));
            }
        }
        if let Some(source) = &params.source {
            source::check(source, (width, height))?;
            if params.latents.is_some() || sd.begins_at.is_some() {
                return refuse("a run begins with a picture or with latents, not with both".into());
            }
        }
        if sd.begins_at.is_some() && params.latents.is_none() {
            return refuse("a run that goes on needs the latents of the one before".into());
        }
        Ok(())
    }

    /// Takes jobs from their encoded texts to their pictures.
    pub fn run(
        &self,
        jobs: &[ImageParams],
        texts: Vec<Prompted>,
        limits: RunLimits,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<()> {
        let mut failure = None;
        let rows = self.prepare(jobs, texts, limits, watch, timings)?;
        for batch in batches(&self.unet, rows, |row| self.batch_size(row, limits))? {
            for (row, latents) in self.denoise(batch, watch, timings)? {
                match self.decode(&row, &latents, watch, timings) {
                    Err(error @ Error::NotFinite { .. }) => {
                        tracing::warn!(job = row.job(), %error, "a picture is unusable");
                        failure.get_or_insert(error);
                    }
                    result => result?,
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Height and width in latents.
    fn latent_size(&self, params: &ImageParams) -> (usize, usize) {
        let scale = self.parts.vae.scale();
        (
            params.height as usize / scale,
            params.width as usize / scale,
        )
    }

    /// Rows like this one that go through the network at once, and whether guidance is split.
    fn batch_size(&self, row: &Row, limits: RunLimits) -> Result<(usize, bool)> {
        let (rows, columns) = self.latent_size(row.params);
        let chunks = row
            .text
            .first
            .positive
            .tokens
            .dim(1)?
            .div_ceil(memory::CHUNK as usize);
        let bytes = self.dtype.size_in_bytes() as u64;
        let needed = |rows_at_once| {
            let size = (columns as u64, rows as u64);
            memory::unet_activations(&self.parts, size, chunks, rows_at_once, bytes)
        };
        if needed(1) > limits.memory {
            return Err(Error::OutOfMemory {
                needed: needed(1),
                available: limits.memory,
            });
        }
        let per_job = 1 + usize::from(row.text.first.negative.is_some());
        if limits.is_frugal || needed(per_job) > limits.memory {
            return Ok((1, per_job > 1));
        }
        let most = if self.device.is_cpu() {
            MAX_BATCH_CPU
        } else {
            MAX_BATCH
        };
        let fitting = (1..=most)
            .rev()
            .find(|jobs| needed(jobs * per_job) <= limits.memory);
        Ok((fitting.unwrap_or(1), false))
    }

    // ---- denoise ------------------------------------------------------------------------------

    /// Takes a batch from its first open call to the last. Rows that are cancelled leave it.
    fn denoise<'a>(
        &self,
        mut batch: Batch<'a>,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<Vec<(Row<'a>, Tensor)>> {
        let Some(first) = batch.rows.first() else {
            return Ok(Vec::new());
        };
        let end = first.end;
        let blend = self.blend_weights(&batch)?;
        for row in &batch.rows {
            let (done, steps) = row.progress(batch.run.done());
            timings[row.job()].batch = batch.rows.len() as u32;
            watch.stage(row.job(), Stage::Generating, done, steps);
        }
        while batch.run.done() < end {
            let Some(timestep) = batch.run.call().map(|call| call.timestep) else {
                break;
            };
            batch.keep(&self.unet, |row| !watch.is_cancelled(row.job()))?;
            if batch.rows.is_empty() {
                break;
            }
            let clock = Instant::now();
            batch.turn(&self.unet)?;
            let output = self.predict(&batch, timestep as f32)?;
            let before = batch.run.clone();
            let noise = batch.draw()?;
            batch.run.advance(&output, noise.as_ref())?;
            self.put_back(&mut batch, &blend)?;
            self.device.synchronize()?;
            let share = milliseconds(clock) / batch.rows.len() as f64;
            let calls = batch.run.done();
            for (i, row) in batch.rows.iter().enumerate() {
                let (done, steps) = row.progress(calls);
                timings[row.job()].generating_ms += share;
                watch.stage(row.job(), Stage::Generating, done, steps);
                // Tiles depend on how much memory there was: whoever decodes again needs the same.
                let is_cut = calls >= end && row.tiling != Tiling::Whole;
                if watch.wants_checkpoint(row.job()) || is_cut {
                    let draws = batch.run.program().calls[calls..]
                        .iter()
                        .any(|call| call.draws > 0);
                    let checkpoint = Checkpoint {
                        step: done,
                        state: batch.run.state(i)?,
                        noise: if draws {
                            row.generator.save()
                        } else {
                            Vec::new()
                        },
                        anchors: Vec::new(),
                        tiles: Some(row.tiling.side()),
                        identity: row.identity.clone(),
                    };
                    watch.checkpoint(row.job(), &checkpoint)?;
                }
                if watch.wants_preview(row.job()) {
                    let clean = before.row(i)?.look_ahead(&output.narrow(0, i, 1)?)?;
                    watch.preview(row.job(), self.preview()?.render(&clean)?);
                }
            }
        }
        batch.into_rows()
    }

    /// The prediction for every row, guided where it is asked for.
    fn predict(&self, batch: &Batch, timestep: f32) -> Result<Tensor> {
        let latents = batch.run.input()?;
        let latents = match &batch.seen {
            Some(seen) => Tensor::cat(&[&latents, seen], 1)?,
            None => latents,
        };
        let latents = latents.to_dtype(self.dtype)?;
        let call = |latents: &Tensor, text: &UnetText| {
            self.unet.forward(&UnetInput {
                latents,
                timestep,
                text,
            })
        };
        let (without, with) = match &batch.texts {
            Texts::Alone(text) => return call(&latents, text),
            Texts::Apart(negative, positive) => {
                (call(&latents, negative)?, call(&latents, positive)?)
            }
            Texts::Joined(text) => {
                let both = call(&Tensor::cat(&[&latents, &latents], 0)?, text)?;
                let rows = batch.rows.len();
                (both.narrow(0, 0, rows)?, both.narrow(0, rows, rows)?)
            }
        };
        guide(&with, &without, &batch.guidance())
    }

    /// Puts what a mask leaves of the source back into the latents, with the noise of the next call.
    fn put_back(&self, batch: &mut Batch, weights: &[(f64, f64)]) -> Result<()> {
        if batch.rows.iter().all(|row| row.put_back().is_none()) {
            return Ok(());
        }
        let (picture, noise) = match batch.rows.first() {
            // At the end there is no noise left.
            Some(row) if batch.run.done() >= row.end => (1.0, 0.0),
            _ => weights.get(batch.run.done()).copied().unwrap_or((1.0, 0.0)),
        };
        let mut rows = Vec::with_capacity(batch.rows.len());
        for (i, row) in batch.rows.iter().enumerate() {
            let latents = batch.run.latents().narrow(0, i, 1)?;
            rows.push(match row.put_back() {
                Some(part) => {
                    let kept =
                        (part.latents.affine(picture, 0.0)? + part.noise.affine(noise, 0.0)?)?;
                    let stays = part.mask.affine(-1.0, 1.0)?;
                    (kept.broadcast_mul(&stays)? + latents.broadcast_mul(&part.mask)?)?
                }
                None => latents,
            });
        }
        batch.run.replace_latents(Tensor::cat(&rows, 0)?)
    }

    // ---- decode -------------------------------------------------------------------------------

    /// One row's latents as a picture.
    fn decode(
        &self,
        row: &Row,
        latents: &Tensor,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<()> {
        let job = row.job();
        if watch.is_cancelled(job) {
            return Ok(());
        }
        watch.stage(job, Stage::Decoding, 0, 1);
        let clock = Instant::now();
        picture::check("latents", latents)?;
        let pixels = self.decode_latents(latents, row.tiling)?;
        picture::check("picture", &pixels)?;
        let image = picture::to_rgb(&pixels)?;
        timings[job].decoding_ms = milliseconds(clock);
        watch.stage(job, Stage::Decoding, 1, 1);
        watch.image(job, image)
    }

    /// (batch, channels, height, width) latents of the diffusion process → pixels, about −1 to 1.
    fn decode_latents(&self, latents: &Tensor, tiling: Tiling) -> Result<Tensor> {
        let latents = self.vae.unscale(latents)?.to_dtype(self.vae_dtype)?;
        self.vae.decode(&latents, tiling)
    }

    /// The whole picture if it fits, else the largest tiles that do; or what an earlier attempt
    /// decided.
    fn tiling(
        &self,
        params: &ImageParams,
        limits: RunLimits,
        earlier: Option<TileSide>,
    ) -> Result<Tiling> {
        let (rows, columns) = self.latent_size(params);
        let bytes = self.vae_dtype.size_in_bytes() as u64;
        let needed = |width, height| memory::decode(&self.parts.vae, (width, height), bytes);
        let size = (columns as u64, rows as u64);
        let memory = (limits.memory, limits.is_frugal);
        Tiling::choose(size, memory, earlier, needed)
    }

    /// What shows latents as colours.
    fn preview(&self) -> Result<&LatentPreview> {
        if let Some(preview) = self.preview.get() {
            return Ok(preview);
        }
        let preview = LatentPreview::fit(&self.vae, &self.device, self.vae_dtype)?;
        Ok(self.preview.get_or_init(|| preview))
    }
}
