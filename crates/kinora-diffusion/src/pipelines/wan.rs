//! Clips with Wan 2.1 and 2.2, from text and from given frames: the story of a run in four stages.

#[cfg(test)]
mod adapter_tests;
mod check;
mod condition;
mod decode;
mod experts;
mod params;
mod run;
mod texts;
mod windows;

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use candle_core::{DType, Device, Tensor};
use kinora_core::Expert;
use kinora_weights::{
    lora::LoraTargets,
    wan::{WanComponent, WanInput as Input, WanLayout, WanParts},
};

pub use self::params::{Context, Switch, VideoParams};
use self::{
    condition::{Condition, encode_channels, encode_first, like},
    experts::Experts,
    run::Row,
    windows::Windows,
};
use super::{
    JobTimings, RunLimits, RunWatch, Shelf, TextCache,
    checkpoint::Identity,
    clip::{ClipState, numbers},
    milliseconds,
    on_demand::OnDemand,
    text_cache::EncodedTexts,
};
use crate::{
    Error, Result,
    adapters::{AdaptableNetwork, Adapted, Adaptive},
    denoisers::{WanDenoiser, WanText},
    layers::Weights,
    noise::Generator,
    previews::LatentPreview,
    samplers::{Config, Options, Program, Run},
    text::{Tokenizer, Umt5Encoder},
    vae::{TileSide, WanVae},
    vision::ClipVision,
};

/// A Wan model. Of two denoisers one is in memory at a time, unless there is room for both; encoders
/// of texts and given frames are when they were needed.
pub struct WanPipeline {
    parts: WanParts,
    device: Device,
    dtype: DType,
    tokenizer: Tokenizer,
    text: OnDemand<Umt5Encoder>,
    vision: Option<OnDemand<ClipVision>>,
    texts: Option<Arc<TextCache>>,
    vae: WanVae,
    experts: Experts,
    scheduler: Config,
    /// Fitted when the first preview is wanted.
    preview: OnceLock<LatentPreview>,
    weight_bytes: u64,
    /// Names and sizes of the weight files, for the identity of checkpoints.
    files: String,
}

impl std::fmt::Debug for WanPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WanPipeline({} on {:?})", self.files, self.device)
    }
}

impl Adaptive for WanPipeline {
    fn networks(&mut self) -> Vec<AdaptableNetwork<'_>> {
        self.experts.networks()
    }

    fn read_targets(&self) -> Result<LoraTargets> {
        self.experts.read_targets()
    }

    fn adapted(&mut self) -> &mut Adapted {
        &mut self.experts.adapted
    }
}

impl WanPipeline {
    /// Reads the weights of VAE and denoiser; a second denoiser is read when its steps come, encoders
    /// of texts and given frames when something is to be encoded. `on_load` is told the share that is
    /// done, 0 to 1.
    pub fn open(
        layout: &WanLayout,
        device: &Device,
        dtype: DType,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        let parts = layout.parts.clone();
        let read = [WanComponent::Vae, WanComponent::Transformer];
        let total: u64 = read
            .map(|component| layout.bytes_of(component))
            .iter()
            .sum();
        let share = |component| layout.bytes_of(component) as f32 / total.max(1) as f32;
        let weights = |component| -> Result<Weights> {
            Ok(Weights::new(layout.open(component)?, device, dtype))
        };
        let config = parts.text.clone();
        let text = OnDemand::new(
            "UMT5",
            layout.open(WanComponent::TextEncoder)?,
            (device, dtype),
            &parts.text,
            move |weights, _| Umt5Encoder::load(weights, &config),
        );
        let vision = parts
            .vision
            .clone()
            .map(|vision| {
                Ok::<_, Error>(OnDemand::new(
                    "CLIP vision",
                    layout.open(WanComponent::ImageEncoder)?,
                    (device, dtype),
                    &parts.vision,
                    move |weights, _| ClipVision::load(weights, &vision),
                ))
            })
            .transpose()?;
        let vae = WanVae::load(&weights(WanComponent::Vae)?, &parts.vae, &parts.stats)?;
        let done = share(WanComponent::Vae);
        on_load(done);
        let mut experts = Experts::new(layout.clone(), device, dtype);
        let rest = share(WanComponent::Transformer);
        experts.get(Expert::High, &mut |part| on_load(done + rest * part))?;
        let scheduler = match layout.scheduler_path() {
            Some(path) => Config::read(&path)?,
            None => Config::of_wan()?,
        };
        if !scheduler.is_flow {
            return Err(Error::bad_weights(
                &layout.root,
                "its scheduler is not one of flow times",
            ));
        }
        let tokenizer = match layout.read_stored_tokenizer()? {
            Some((file, bytes)) => Tokenizer::from_spiece(&file, &bytes)?,
            None => Tokenizer::open_t5(&layout.tokenizer_folder())?,
        };
        let files: Vec<String> = layout
            .weights
            .iter()
            .map(|file| format!("{} {} {}", file.component, file.file, file.bytes))
            .collect();
        let others = layout
            .total_bytes()
            .saturating_sub(layout.bytes_of(WanComponent::Transformer))
            .saturating_sub(layout.bytes_of(WanComponent::Transformer2));
        Ok(Self {
            tokenizer,
            text,
            vision,
            texts: None,
            vae,
            weight_bytes: others.saturating_add(experts.largest_bytes()),
            experts,
            scheduler,
            preview: OnceLock::new(),
            files: files.join("\n"),
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
        self.text.share(shelf);
        if let Some(vision) = &mut self.vision {
            vision.share(shelf);
        }
    }

    /// Bytes that the weights occupy, with one denoiser in memory, every encoder, and what adapters
    /// add.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
            .saturating_add(self.experts.adapted.added_bytes())
    }

    /// Widths and heights must be multiples of it.
    pub fn size_step(&self) -> u32 {
        self.parts.size_step() as u32
    }

    /// Frames of a clip are one more than a multiple of it.
    pub fn frame_step(&self) -> u32 {
        self.parts.vae.time_scale() as u32
    }

    /// The configurations of its parts.
    pub fn parts(&self) -> &WanParts {
        &self.parts
    }

    /// Makes the clips one after another; everything about them goes to `watch`, frames as they are
    /// decoded. With two denoisers, every clip passes the first before any passes the second.
    ///
    /// # Errors
    /// A clip whose frames are unusable does not stop the others: the first such error is returned
    /// after the last clip. Any other error ends the run at once.
    pub fn run(
        &mut self,
        jobs: &[VideoParams],
        limits: RunLimits,
        watch: &mut dyn RunWatch,
    ) -> Result<Vec<JobTimings>> {
        for params in jobs {
            self.check(params, limits)?;
        }
        let mut timings = vec![JobTimings::default(); jobs.len()];
        let texts = self.encode(jobs, watch, &mut timings)?;
        let mut rows = self.prepare(jobs, &texts, limits, watch, &mut timings)?;
        let mut failure = None;
        if self.experts.are_two() {
            for row in &mut rows {
                self.denoise(row, Expert::High, limits, watch, &mut timings)?;
            }
        }
        for row in &mut rows {
            let last = match self.experts.are_two() {
                true => Expert::Low,
                false => Expert::High,
            };
            self.denoise(row, last, limits, watch, &mut timings)?;
            if !row.state.is_done() {
                continue;
            }
            match self.decode(row, watch, &mut timings) {
                Err(error @ Error::NotFinite { .. }) => {
                    tracing::warn!(job = row.state.job, %error, "a clip is unusable");
                    failure.get_or_insert(error);
                }
                result => result?,
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(timings),
        }
    }

    // What is refused beforehand is in `check`.

    // Encoding is in `texts`.

    // ---- prepare ------------------------------------------------------------------------------

    /// Schedule, given frames and starting latents of each job: noise, or what an earlier attempt
    /// left.
    fn prepare<'a>(
        &self,
        jobs: &'a [VideoParams],
        texts: &EncodedTexts<WanText>,
        limits: RunLimits,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<Vec<Row<'a>>> {
        let mut rows = Vec::new();
        for (job, params) in jobs.iter().enumerate() {
            let text = |text: &str| texts.get(text, &[params.text_tokens]);
            // A job without text was cancelled before its turn.
            let Some(positive) = text(&params.prompt) else {
                continue;
            };
            let negative = match params.is_guided() {
                true => text(&params.negative_prompt),
                false => None,
            };
            let clock = Instant::now();
            let checkpoint = watch.resume(job);
            let earlier = checkpoint.as_ref().and_then(|checkpoint| checkpoint.tiles);
            let tiles = self.choose_tiles(params, limits, earlier)?;
            let condition = self.condition(params, tiles, || watch.is_cancelled(job))?;
            let Some(condition) = condition else {
                continue;
            };
            let images = self.embed_images(params)?;
            timings[job].encoding_ms += milliseconds(clock);
            let mut generator = Generator::new(params.rng, params.seed);
            let latents = self.start_latents(params, &mut generator)?;
            let program = Arc::new(self.program(params)?);
            let first_low = self.first_low(params, &program);
            let has_first = condition.tensor().is_some();
            let mut row = Row {
                params,
                positive,
                negative,
                images,
                condition,
                first_low,
                windows: self.windows(params, has_first)?,
                state: ClipState::new(job, Run::start(program, &latents, false)?, generator, tiles),
            };
            row.state.identity = self.identify(&row)?;
            if let Some(checkpoint) = checkpoint {
                row.state.resume(&checkpoint, &self.device)?;
                timings[job].resumed_steps = row.state.run.done() as u32;
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Given frames as the network takes them; none when the job was cancelled meanwhile.
    pub(crate) fn condition(
        &self,
        params: &VideoParams,
        tiles: TileSide,
        is_cancelled: impl FnMut() -> bool,
    ) -> Result<Option<Condition>> {
        let size = (params.width, params.height);
        let like = like(&self.device, self.dtype)?;
        let tiles = self.tiles(params, tiles);
        match (self.parts.input, &params.first_frame) {
            (Input::FirstFrame, Some(first)) => {
                encode_first(&self.vae, tiles, first, size, &like, is_cancelled)
            }
            (Input::Channels, Some(first)) => encode_channels(
                &self.vae,
                tiles,
                (first, params.last_frame.as_ref()),
                size,
                params.frames as usize,
                &like,
                is_cancelled,
            ),
            _ => Ok(Some(Condition::None)),
        }
    }

    /// The steps of a run.
    pub(crate) fn program(&self, params: &VideoParams) -> Result<Program> {
        let mut config = match params.sampler {
            Some((sampler, schedule)) => self.scheduler.choose(sampler, schedule, None)?,
            None => self.scheduler.clone(),
        };
        if let Some(shift) = params.shift {
            config.flow.shift = shift;
        }
        config.program(&Options::steps(params.steps as usize))
    }

    /// The first call of the network that the expert of little noise takes; the number of calls
    /// where there is none.
    fn first_low(&self, params: &VideoParams, program: &Program) -> usize {
        let calls = program.calls.len();
        if !self.experts.are_two() {
            return calls;
        }
        let boundary = match params.switch {
            Switch::LowShare(share) => {
                let low = (share * f64::from(params.steps)).round() as usize;
                let first = (params.steps as usize).saturating_sub(low);
                return program
                    .calls
                    .iter()
                    .position(|call| call.step >= first)
                    .unwrap_or(calls);
            }
            Switch::Boundary(boundary) => boundary,
            Switch::Model => self.parts.boundary.unwrap_or(0.0),
        };
        let boundary = boundary * self.scheduler.betas.count as f64;
        program
            .calls
            .iter()
            .position(|call| call.timestep < boundary)
            .unwrap_or(calls)
    }

    /// Latent frames, rows and columns.
    fn latent_grid(&self, params: &VideoParams) -> [usize; 3] {
        let scale = self.parts.vae.scale();
        [
            self.vae.latent_frames(params.frames as usize),
            params.height as usize / scale,
            params.width as usize / scale,
        ]
    }

    /// Frames, rows and columns of tokens.
    pub(crate) fn token_grid(&self, params: &VideoParams) -> [usize; 3] {
        self.tokens_of(self.latent_grid(params))
    }

    /// Latent frames, rows and columns as frames, rows and columns of tokens.
    fn tokens_of(&self, [frames, rows, columns]: [usize; 3]) -> [usize; 3] {
        let [p, q, r] = self.parts.transformer.patch_size;
        [frames / p, rows / q, columns / r]
    }

    /// The windows of a clip that does not fit into one. `has_first`: its first frame is given.
    fn windows(&self, params: &VideoParams, has_first: bool) -> Result<Option<Windows>> {
        let Some(context) = params.context else {
            return Ok(None);
        };
        let [clip, ..] = self.latent_grid(params);
        let len = self.vae.latent_frames(context.frames as usize);
        if len >= clip {
            return Ok(None);
        }
        // A window begins at any latent frame.
        if self.parts.transformer.patch_size[0] != 1 {
            return Err(Error::BadRequest(
                "this model's tokens span several frames; it takes no windows".to_owned(),
            ));
        }
        let overlap = (context.overlap / self.frame_step().max(1)) as usize;
        Ok(Some(Windows::new(clip, len, overlap, has_first)))
    }

    /// Noise, (1, channels, latent frames, rows, columns), f32.
    fn start_latents(&self, params: &VideoParams, generator: &mut Generator) -> Result<Tensor> {
        let [frames, rows, columns] = self.latent_grid(params);
        let channels = self.parts.vae.latent_channels;
        let shape = (1, channels, frames, rows, columns);
        if let Some(latents) = &params.latents {
            if latents.dims() != [1, channels, frames, rows, columns] {
                return Err(Error::BadRequest(format!(
                    "start from latents of {:?} where {shape:?} are needed",
                    latents.dims()
                )));
            }
            return Ok(latents.to_dtype(DType::F32)?.to_device(&self.device)?);
        }
        let mut noise = vec![0f32; channels * frames * rows * columns];
        generator.fill_normal(&mut noise);
        Ok(Tensor::from_vec(noise, shape, &self.device)?)
    }

    /// Everything that decides what the latents become.
    fn identify(&self, row: &Row) -> Result<String> {
        let computes_in = (&self.device, self.dtype);
        let mut identity =
            Identity::of_run(&self.files, &self.experts.adapted.describe(), computes_in);
        let params = row.params;
        let guidance = [false, true].map(|is_low| params.active_guidance(is_low));
        let sizes = (params.width, params.height, params.frames, row.first_low);
        identity.add(format!("{sizes:?} {guidance:?} {:?}", params.sampler).as_bytes());
        if params.step_cache > 0.0 {
            identity.add(format!("step cache {:?}", params.step_cache).as_bytes());
        }
        if let Some(windows) = &row.windows {
            identity.add(format!("{windows:?}").as_bytes());
        }
        identity.add_program(row.state.run.program());
        for text in [Some(&row.positive), row.negative.as_ref()]
            .into_iter()
            .flatten()
        {
            identity.add(&(text.padding as u64).to_le_bytes());
            identity.add_f32s(&numbers(&text.tokens)?);
        }
        for tensor in [row.condition.tensor(), row.images.as_ref()]
            .into_iter()
            .flatten()
        {
            identity.add_f32s(&numbers(tensor)?);
        }
        // The noise itself rather than its seed: it may have been given.
        identity.add_f32s(&numbers(row.state.run.latents())?);
        identity.add(&row.state.generator.save());
        Ok(identity.finish())
    }

    // Denoising is in `run`, decoding in `decode`.

    /// What shows latents as colours.
    fn preview(&self) -> Result<&LatentPreview> {
        if let Some(preview) = self.preview.get() {
            return Ok(preview);
        }
        let channels = self.parts.vae.latent_channels;
        let scale = self.parts.vae.scale();
        let preview = LatentPreview::fit_with(channels, scale, &self.device, |latents| {
            let latents = self.vae.unscale(latents)?.to_dtype(self.dtype)?;
            self.vae.decoding().push(&latents)
        })?;
        Ok(self.preview.get_or_init(|| preview))
    }

    /// The denoiser of the noisy steps, or of the others.
    pub(crate) fn denoiser(&mut self, is_low: bool) -> Result<&WanDenoiser> {
        let expert = if is_low { Expert::Low } else { Expert::High };
        self.experts.get(expert, &mut |_| {})
    }

    /// Its VAE.
    pub(crate) fn vae(&self) -> &WanVae {
        &self.vae
    }
}
