//! Pictures with FLUX.1: from text, from a picture, inside of a mask, edited by words, along edges
//! and depths, like other pictures. The story of a run in four stages.

#[cfg(test)]
mod adapter_tests;
pub(crate) mod likes;
pub(crate) mod pictures;
pub(crate) mod rows;
mod run;
mod texts;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Instant,
};

use candle_core::{DType, Device, Tensor};
use kinora_core::Stage;
use kinora_weights::{
    Component, FluxKind, FluxParts, ModelLayout, Tokenizer as TokenizerFolder,
    lora::{LoraComponent, LoraTargets},
};

use self::{
    likes::Encoded,
    pictures::{Preparation, Start, first_step},
    rows::{Row, batches},
};
use super::{
    Checkpoint, ImageParams, JobTimings, RgbImage, RunLimits, RunWatch, Shelf, TextCache,
    checkpoint::Identity, milliseconds, on_demand::OnDemand, packing::unpack, picture,
};
use crate::{
    Error, Result,
    adapters::{AdaptableNetwork, Adapted, Adaptive},
    denoisers::FluxDenoiser,
    layers::Weights,
    memory,
    previews::LatentPreview,
    samplers::{Config, Options, Program, Run, schedule, spacing::linspace},
    step_cache::{self, Anchors},
    text::{ClipEncoder, T5Encoder, Tokenizer},
    vae::{KlVae, TileSide, Tiling},
    vision::Redux,
};

/// Bounds on what a request may ask, far above any use.
const MAX_STEPS: u32 = 1000;
const MAX_SIDE: u32 = 16_384;
const MAX_TEXT_TOKENS: usize = 4096;
/// Rows of one batch: beyond, a processor gains nothing and pictures only come later.
const MAX_BATCH_CPU: usize = 4;
const MAX_BATCH: usize = 32;

/// What adapters call the text encoders.
const ENCODERS: [LoraComponent; 2] = [LoraComponent::TextEncoder, LoraComponent::TextEncoder2];

/// A FLUX.1 model with its weights in memory; those of the text encoders when they were needed.
pub struct FluxPipeline {
    parts: FluxParts,
    device: Device,
    dtype: DType,
    clip_tokenizer: Tokenizer,
    clip: OnDemand<ClipEncoder>,
    t5_tokenizer: Tokenizer,
    t5: OnDemand<T5Encoder>,
    texts: Option<Arc<TextCache>>,
    denoiser: FluxDenoiser,
    vae: KlVae,
    redux: Option<Redux>,
    /// Fitted when the first preview is wanted.
    preview: OnceLock<LatentPreview>,
    weight_bytes: u64,
    /// Names and sizes of the weight files, for the identity of checkpoints.
    files: String,
    layout: ModelLayout,
    adapted: Adapted,
}

impl std::fmt::Debug for FluxPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FluxPipeline({} on {:?})", self.files, self.device)
    }
}

impl Adaptive for FluxPipeline {
    fn networks(&mut self) -> Vec<AdaptableNetwork<'_>> {
        let layers = self.denoiser.adaptables();
        let mut networks = vec![AdaptableNetwork::only(LoraComponent::Denoiser, layers)];
        networks.extend(self.clip.adaptable(LoraComponent::TextEncoder));
        networks.extend(self.t5.adaptable(LoraComponent::TextEncoder2));
        networks
    }

    fn unread(&self) -> Result<Vec<(LoraComponent, BTreeSet<String>)>> {
        let encoders = [self.clip.unread_tensors()?, self.t5.unread_tensors()?];
        let named = ENCODERS.into_iter().zip(encoders);
        Ok(named
            .filter_map(|(component, tensors)| Some((component, tensors?)))
            .collect())
    }

    fn read_targets(&self) -> Result<LoraTargets> {
        Ok(LoraTargets::of_pictures(&self.layout)?)
    }

    fn adapted(&mut self) -> &mut Adapted {
        &mut self.adapted
    }
}

impl FluxPipeline {
    /// Reads every weight but those of the text encoders. `on_load` is told the share that is done,
    /// 0 to 1.
    pub fn open(
        layout: &ModelLayout,
        device: &Device,
        dtype: DType,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        let Some(parts) = layout.flux().cloned() else {
            return Err(Error::bad_weights(&layout.root, "it is not a FLUX.1 model"));
        };
        let read = [Component::Vae, Component::Transformer];
        let total: u64 = read
            .map(|component| layout.bytes_of(component))
            .iter()
            .sum();
        let share = |component| layout.bytes_of(component) as f32 / total.max(1) as f32;
        let weights = |component| -> Result<Weights> {
            Ok(Weights::new(layout.open(component)?, device, dtype))
        };
        let config = parts.clip.clone();
        let clip = OnDemand::new(
            "CLIP",
            layout.open(Component::TextEncoder)?,
            (device, dtype),
            &parts.clip,
            move |weights, _| ClipEncoder::load(weights, &config),
        );
        let config = parts.t5.clone();
        let t5 = OnDemand::new(
            "T5",
            layout.open(Component::TextEncoder2)?,
            (device, dtype),
            &parts.t5,
            move |weights, _| T5Encoder::load(weights, &config),
        );
        let vae = KlVae::load(&weights(Component::Vae)?, &parts.vae)?;
        let mut done = share(Component::Vae);
        on_load(done);
        let redux = match &parts.redux {
            Some(redux) => Some(Redux::load(
                &weights(Component::ImageEncoder)?,
                &weights(Component::ImageEmbedder)?,
                redux,
            )?),
            None => None,
        };
        done += share(Component::ImageEncoder) + share(Component::ImageEmbedder);
        on_load(done);
        let rest = share(Component::Transformer);
        let denoiser = FluxDenoiser::load(
            &weights(Component::Transformer)?,
            &parts.transformer,
            &mut |part| on_load(done + rest * part),
        )?;
        let files: Vec<String> = layout
            .weights
            .iter()
            .map(|file| format!("{} {} {}", file.component, file.file, file.bytes))
            .collect();
        Ok(Self {
            clip_tokenizer: match layout.has_tokenizer_files(TokenizerFolder::Clip) {
                true => Tokenizer::open_clip(&layout.tokenizer_folder(TokenizerFolder::Clip))?,
                false => Tokenizer::clip("<|endoftext|>")?,
            },
            clip,
            t5_tokenizer: match layout.has_tokenizer_files(TokenizerFolder::T5) {
                true => Tokenizer::open_t5(&layout.tokenizer_folder(TokenizerFolder::T5))?,
                false => Tokenizer::t5()?,
            },
            t5,
            texts: None,
            denoiser,
            vae,
            redux,
            preview: OnceLock::new(),
            weight_bytes: memory::estimate(layout, (0, 0), 0, 0, dtype.size_in_bytes() as u64)
                .weights,
            files: files.join("\n"),
            layout: layout.clone(),
            adapted: Adapted::default(),
            device: device.clone(),
            dtype,
            parts,
        })
    }

    /// Keeps what is encoded, and looks there before anything is.
    pub fn keep_texts(&mut self, cache: Arc<TextCache>) {
        self.texts = Some(cache);
    }

    /// Has its encoders in memory together with other models.
    pub fn share_encoders(&mut self, shelf: &Arc<Shelf>) {
        self.clip.share(shelf);
        self.t5.share(shelf);
    }

    /// Bytes that the weights occupy once all are read, with what adapters add.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes.saturating_add(self.adapted.added_bytes())
    }

    /// Widths and heights must be multiples of it: a token is 2×2 latents.
    pub fn size_step(&self) -> u32 {
        2 * self.parts.vae.scale() as u32
    }

    /// Makes the pictures. See [`Pipeline::run`](super::Pipeline::run).
    pub fn run(
        &mut self,
        jobs: &[ImageParams],
        limits: RunLimits,
        watch: &mut dyn RunWatch,
    ) -> Result<Vec<JobTimings>> {
        for params in jobs {
            self.check(params)?;
        }
        let mut timings = vec![JobTimings::default(); jobs.len()];
        let mut failure = None;
        let encoded = self.encode(jobs, watch, &mut timings)?;
        let rows = self.prepare(jobs, &encoded, limits, watch, &mut timings)?;
        for batch in batches(rows, |params| self.batch_size(params, limits))? {
            let finished = self.denoise(batch, watch, &mut timings)?;
            for (row, latents) in finished {
                let result = self.decode(&row, &latents, watch, &mut timings);
                match result {
                    Err(error @ Error::NotFinite { .. }) => {
                        tracing::warn!(job = row.job, %error, "a picture is unusable");
                        failure.get_or_insert(error);
                    }
                    result => result?,
                }
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(timings),
        }
    }

    fn check(&self, params: &ImageParams) -> Result<()> {
        let step = self.size_step();
        let refuse = |reason: String| Err(Error::BadRequest(reason));
        let (width, height) = (params.width, params.height);
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
        if !(1..=MAX_TEXT_TOKENS).contains(&params.text_tokens) {
            return refuse(format!(
                "{} text tokens; 1 to {MAX_TEXT_TOKENS} are possible",
                params.text_tokens
            ));
        }
        if self.parts.transformer.has_guidance && params.guidance.is_none() {
            return refuse("this model needs a guidance value".into());
        }
        pictures::check(params, self.kind()?)?;
        step_cache::check(params.flux.step_cache)?;
        let numbers = [params.guidance, params.true_cfg];
        if numbers
            .into_iter()
            .flatten()
            .any(|value| !value.is_finite())
        {
            return refuse("guidance must be a finite number".into());
        }
        Ok(())
    }

    /// What the network is given besides text. An adapter that widened the first layer counts.
    fn kind(&self) -> Result<FluxKind> {
        // As wide as text to picture: their widths do not tell.
        if let kind @ (FluxKind::Kontext | FluxKind::Redux) = self.parts.kind {
            return Ok(kind);
        }
        let (width, packed) = (
            self.denoiser.in_channels(),
            4 * self.parts.vae.latent_channels,
        );
        FluxKind::of_channels(width, packed).ok_or_else(|| {
            Error::BadRequest(format!(
                "the network takes tokens of {width} channels, which no FLUX.1 does"
            ))
        })
    }

    // Encoding is in `texts`.

    // ---- prepare ------------------------------------------------------------------------------

    /// Schedule and starting latents of each job: noise, or what an earlier attempt left.
    fn prepare<'a>(
        &self,
        jobs: &'a [ImageParams],
        encoded: &Encoded<'_>,
        limits: RunLimits,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<Vec<Row<'a>>> {
        let mut rows = Vec::new();
        for (job, params) in jobs.iter().enumerate() {
            // A job of which something was not encoded was cancelled before its turn.
            let Some(positive) = self.condition(params, encoded)? else {
                continue;
            };
            let negative = match params.active_cfg() {
                Some(_) => encoded.text(&params.negative_prompt, params.text_tokens),
                None => None,
            };
            let checkpoint = watch.resume(job);
            let earlier = checkpoint.as_ref().and_then(|checkpoint| checkpoint.tiles);
            let start = self.start(params)?;
            let mut row = Row {
                job,
                params,
                positive,
                negative,
                run: self.begin(params, &start)?,
                given: start.given,
                identity: String::new(),
                anchors: Anchors::default(),
                tiling: self.tiling(params, limits, earlier)?,
            };
            row.identity = self.identify(&row)?;
            if let Some(checkpoint) = checkpoint {
                self.resume(&mut row, &checkpoint)?;
                timings[job].resumed_steps = row.run.done() as u32;
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// The steps of a run of this size: flow times evenly from 1 to 1/steps, bent once.
    pub(crate) fn program(&self, params: &ImageParams) -> Result<Program> {
        let (rows, columns) = self.token_grid(params);
        let steps = params.steps as usize;
        let config = &self.parts.scheduler;
        let source = params.source.as_ref();
        Config::of_flow(config)?.program(&Options {
            begin: source.map_or(0, |source| first_step(steps, source.strength)),
            mu: Some(schedule::size_shift(config, rows * columns)),
            flow_times: Some(linspace(1.0, 1.0 / steps as f64, steps)),
            ..Options::steps(steps)
        })
    }

    /// Rows and columns of picture tokens.
    fn token_grid(&self, params: &ImageParams) -> (usize, usize) {
        let step = self.size_step();
        (
            (params.height / step) as usize,
            (params.width / step) as usize,
        )
    }

    /// Noise and pictures as latents.
    fn start(&self, params: &ImageParams) -> Result<Start> {
        let (rows, columns) = self.token_grid(params);
        let packed = 4 * self.parts.vae.latent_channels;
        if let Some(latents) = &params.latents
            && latents.dims() != [1, rows * columns, packed]
        {
            return Err(Error::BadRequest(format!(
                "start from latents of {:?} for {rows} × {columns} tokens of {packed}",
                latents.dims(),
            )));
        }
        let preparation = Preparation {
            vae: &self.vae,
            kind: self.kind()?,
            device: &self.device,
            dtype: self.dtype,
            grid: (rows, columns),
        };
        preparation.prepare(params)
    }

    /// The latents before the first step that is taken.
    fn begin(&self, params: &ImageParams, start: &Start) -> Result<Run> {
        let program = Arc::new(self.program(params)?);
        let Some(source) = &start.source else {
            return Run::start(program, &start.noise, false);
        };
        let (picture, noise) = program.start;
        let mixed = ((start.noise.affine(noise, 0.0)?) + source.affine(picture, 0.0)?)?;
        Run::start(program, &mixed, true)
    }

    /// Everything that decides what the latents become.
    fn identify(&self, row: &Row) -> Result<String> {
        let computes_in = (&self.device, self.dtype);
        let mut identity = Identity::of_run(&self.files, &self.adapted.describe(), computes_in);
        let params = row.params;
        let numbers = [params.guidance, params.true_cfg];
        identity.add(format!("{} {} {numbers:?}", params.width, params.height).as_bytes());
        identity.add_f32s(&row.run.program().sigmas);
        if params.flux.step_cache > 0.0 {
            identity.add(format!("step cache {:?}", params.flux.step_cache).as_bytes());
        }
        let texts = [Some(&row.positive), row.negative.as_ref()];
        for text in texts.into_iter().flatten() {
            for tensor in [&text.tokens, &text.pooled] {
                identity.add_f32s(&tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?);
            }
        }
        // The noise itself rather than its seed: it may have been given.
        identity.add_f32s(&row.run.latents().flatten_all()?.to_vec1()?);
        let given = &row.given;
        let context = given.context.as_ref().map(|context| &context.tokens);
        let put_back = given.put_back.iter().flat_map(|p| [&p.mask, &p.latents]);
        for tensor in given.channels.iter().chain(context).chain(put_back) {
            identity.add_f32s(&tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?);
        }
        Ok(identity.finish())
    }

    /// Takes over a checkpoint that was made by this very work; any other is left aside.
    fn resume(&self, row: &mut Row, checkpoint: &Checkpoint) -> Result<()> {
        if checkpoint.identity != row.identity || checkpoint.state.shape != row.run.latents().dims()
        {
            tracing::info!(
                job = row.job,
                "a checkpoint belongs to other work and is not used"
            );
            return Ok(());
        }
        row.run = Run::resume(
            Arc::clone(row.run.program()),
            &checkpoint.state,
            &self.device,
        )?;
        let (shape, done) = (&checkpoint.state.shape, row.run.done());
        row.anchors = Anchors::restore(&checkpoint.anchors, shape, done, &self.device)?;
        Ok(())
    }

    /// Rows of such a job that go through the network at once.
    fn batch_size(&self, params: &ImageParams, limits: RunLimits) -> Result<usize> {
        let (rows, columns) = self.token_grid(params);
        // A picture that is edited is as large as the new one, about.
        let pictures = 1 + usize::from(params.flux.context.is_some());
        let needed = memory::activations(
            &self.parts,
            (pictures * rows * columns) as u64,
            params.text_tokens,
            1,
            self.dtype.size_in_bytes() as u64,
        );
        let kept = step_cache::kept_bytes(
            params.flux.step_cache,
            1 + u64::from(params.active_cfg().is_some()),
            (pictures * rows * columns) as u64,
            self.parts.transformer.hidden() as u64,
            self.dtype.size_in_bytes() as u64,
        );
        let needed = needed.saturating_add(kept);
        if needed > limits.memory {
            return Err(Error::OutOfMemory {
                needed,
                available: limits.memory,
            });
        }
        let most = if self.device.is_cpu() {
            MAX_BATCH_CPU
        } else {
            MAX_BATCH
        };
        let fitting = usize::try_from(limits.memory / needed.max(1)).unwrap_or(most);
        Ok(if limits.is_frugal {
            1
        } else {
            fitting.clamp(1, most)
        })
    }

    // Denoising is in `run`.

    // ---- decode -------------------------------------------------------------------------------

    /// One row's latents as a picture.
    fn decode(
        &self,
        row: &Row,
        latents: &Tensor,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<()> {
        if watch.is_cancelled(row.job) {
            return Ok(());
        }
        watch.stage(row.job, Stage::Decoding, 0, 1);
        let clock = Instant::now();
        picture::check("latents", latents)?;
        let (rows, columns) = self.token_grid(row.params);
        let latents = unpack(latents, rows, columns)?;
        let pixels = self.decode_latents(&latents, row.tiling)?;
        picture::check("picture", &pixels)?;
        let image: RgbImage = picture::to_rgb(&pixels)?;
        timings[row.job].decoding_ms = milliseconds(clock);
        watch.stage(row.job, Stage::Decoding, 1, 1);
        watch.image(row.job, image)
    }

    /// (batch, channels, height, width) latents of the diffusion process → pixels, about −1 to 1.
    pub(crate) fn decode_latents(&self, latents: &Tensor, tiling: Tiling) -> Result<Tensor> {
        let latents = self.vae.unscale(latents)?.to_dtype(self.dtype)?;
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
        let (rows, columns) = self.token_grid(params);
        let bytes = self.dtype.size_in_bytes() as u64;
        let (height, width) = (2 * rows as u64, 2 * columns as u64);
        let needed = |width, height| memory::decode(&self.parts.vae, (width, height), bytes);
        let memory = (limits.memory, limits.is_frugal);
        Tiling::choose((width, height), memory, earlier, needed)
    }

    /// What shows latents as colours.
    fn preview(&self) -> Result<&LatentPreview> {
        if let Some(preview) = self.preview.get() {
            return Ok(preview);
        }
        let preview = LatentPreview::fit(&self.vae, &self.device, self.dtype)?;
        Ok(self.preview.get_or_init(|| preview))
    }

    /// Its denoiser.
    pub(crate) fn denoiser(&self) -> &FluxDenoiser {
        &self.denoiser
    }

    /// Its VAE.
    pub(crate) fn vae(&self) -> &KlVae {
        &self.vae
    }

    /// What makes tokens of pictures, in Redux.
    pub(crate) fn redux(&self) -> Option<&Redux> {
        self.redux.as_ref()
    }

    /// The configurations of its parts.
    pub(crate) fn parts(&self) -> &FluxParts {
        &self.parts
    }
}
