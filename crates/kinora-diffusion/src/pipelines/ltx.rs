//! Clips with LTX-Video 0.9, from text and from a given first frame: the story of a run in four
//! stages.

#[cfg(test)]
mod adapter_tests;
mod decode;
mod params;
mod run;
mod texts;

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use candle_core::{DType, Device, Tensor};
use kinora_weights::{
    SchedulerConfig,
    lora::{LoraComponent, LoraTargets},
    ltx::{LtxComponent, LtxLayout, LtxParts},
};

pub use self::params::LtxParams;
use self::run::Row;
use super::{
    JobTimings, RgbImage, RunLimits, RunWatch, Shelf, TextCache,
    checkpoint::Identity,
    clip::{ClipAsk, ClipState, check_scales, check_share, numbers},
    milliseconds,
    on_demand::OnDemand,
    packing::{to_frames, to_tokens},
    text_cache::EncodedTexts,
};
use crate::{
    Error, Result,
    adapters::{AdaptableNetwork, Adapted, Adaptive},
    denoisers::LtxDenoiser,
    layers::{Rope, Weights},
    noise::Generator,
    previews::LatentPreview,
    samplers::{Config, Options, Program, Run, schedule, spacing::linspace},
    step_cache,
    text::{T5Encoder, Tokenizer},
    vae::{LtxVae, TileSide, to_pixels},
    vision::resample::{Filter, resize},
};

/// Noise that a decoder is told of when it only shows what latents look like.
const PREVIEW_TIME: f32 = 0.05;

/// An LTX-Video model; its text encoder is in memory when it was needed.
pub struct LtxPipeline {
    parts: LtxParts,
    device: Device,
    dtype: DType,
    tokenizer: Tokenizer,
    text: OnDemand<T5Encoder>,
    texts: Option<Arc<TextCache>>,
    vae: LtxVae,
    denoiser: LtxDenoiser,
    scheduler: Config,
    /// Fitted when the first preview is wanted.
    preview: OnceLock<LatentPreview>,
    weight_bytes: u64,
    /// Names and sizes of the weight files, for the identity of checkpoints.
    files: String,
    layout: LtxLayout,
    adapted: Adapted,
}

impl std::fmt::Debug for LtxPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LtxPipeline({} on {:?})", self.files, self.device)
    }
}

impl Adaptive for LtxPipeline {
    fn networks(&mut self) -> Vec<AdaptableNetwork<'_>> {
        vec![AdaptableNetwork::only(
            LoraComponent::Denoiser,
            self.denoiser.adaptables(),
        )]
    }

    fn read_targets(&self) -> Result<LoraTargets> {
        Ok(LoraTargets::of_ltx(&self.layout)?)
    }

    fn adapted(&mut self) -> &mut Adapted {
        &mut self.adapted
    }
}

impl LtxPipeline {
    /// Reads every weight but those of the text encoder. `on_load` is told the share that is done, 0
    /// to 1.
    pub fn open(
        layout: &LtxLayout,
        device: &Device,
        dtype: DType,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        let parts = layout.parts.clone();
        let read = [LtxComponent::Vae, LtxComponent::Transformer];
        let total: u64 = read
            .map(|component| layout.bytes_of(component))
            .iter()
            .sum();
        let share = |component| layout.bytes_of(component) as f32 / total.max(1) as f32;
        let weights = |component| -> Result<Weights> {
            Ok(Weights::new(layout.open(component)?, device, dtype))
        };
        let scheduler = match layout.scheduler_path() {
            Some(path) => Config::read(&path)?,
            None => Config::of_flow(&SchedulerConfig::of_ltx())?,
        };
        if !scheduler.is_flow {
            return Err(Error::bad_weights(
                &layout.root,
                "its scheduler is not one of flow times",
            ));
        }
        let config = parts.text.clone();
        let text = OnDemand::new(
            "T5",
            layout.open(LtxComponent::TextEncoder)?,
            (device, dtype),
            &parts.text,
            move |weights, _| T5Encoder::load(weights, &config),
        );
        let vae = LtxVae::load(&weights(LtxComponent::Vae)?, &parts.vae)?;
        let done = share(LtxComponent::Vae);
        on_load(done);
        let rest = share(LtxComponent::Transformer);
        let denoiser = LtxDenoiser::load(
            &weights(LtxComponent::Transformer)?,
            &parts.transformer,
            &mut |part| on_load(done + rest * part),
        )?;
        let files: Vec<String> = layout
            .weights
            .iter()
            .map(|file| format!("{} {} {}", file.component, file.file, file.bytes))
            .collect();
        Ok(Self {
            tokenizer: match layout.has_tokenizer_files() {
                true => Tokenizer::open_t5(&layout.tokenizer_folder())?,
                false => Tokenizer::t5()?,
            },
            text,
            texts: None,
            vae,
            denoiser,
            scheduler,
            preview: OnceLock::new(),
            weight_bytes: layout.total_bytes(),
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
        self.text.share(shelf);
    }

    /// Bytes that the weights occupy once all are read, with what adapters add.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes.saturating_add(self.adapted.added_bytes())
    }

    /// Widths and heights must be multiples of it.
    pub fn size_step(&self) -> u32 {
        self.parts.vae.scale() as u32
    }

    /// Frames of a clip are one more than a multiple of it.
    pub fn frame_step(&self) -> u32 {
        self.parts.vae.time_scale() as u32
    }

    /// The configurations of its parts.
    pub fn parts(&self) -> &LtxParts {
        &self.parts
    }

    /// Makes the clips one after another; everything about them goes to `watch`, frames as they are
    /// decoded.
    ///
    /// # Errors
    /// A clip whose frames are unusable does not stop the others: the first such error is returned
    /// after the last clip. Any other error ends the run at once.
    pub fn run(
        &mut self,
        jobs: &[LtxParams],
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
        for row in &mut rows {
            self.denoise(row, limits, watch, &mut timings)?;
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

    fn check(&self, params: &LtxParams, limits: RunLimits) -> Result<()> {
        let ask = ClipAsk {
            size: (params.width, params.height),
            size_step: self.size_step(),
            frames: params.frames,
            frame_step: self.frame_step(),
            frame_rate: Some(params.frame_rate),
            steps: params.steps,
            text_tokens: params.text_tokens,
            text_step: 1,
            shift: params.shift,
        };
        ask.check()?;
        step_cache::check(params.step_cache)?;
        check_scales([params.guidance])?;
        let shares = [
            ("the rescaling of guidance", Some(params.guidance_rescale)),
            ("the time of decoding", Some(params.decode_time)),
            ("the noise of decoding", params.decode_noise),
        ];
        for (name, share) in shares {
            share.map_or(Ok(()), |share| check_share(name, share))?;
        }
        let estimate = self.parts.estimate(
            (params.width, params.height),
            params.frames,
            self.dtype.size_in_bytes() as u64,
        );
        let kept = step_cache::kept_bytes(
            params.step_cache,
            1 + u64::from(params.active_guidance().is_some()),
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

    // Encoding is in `texts`.

    // ---- prepare ------------------------------------------------------------------------------

    /// Schedule, given frame and starting latents of each job: noise, or what an earlier attempt
    /// left.
    fn prepare<'a>(
        &self,
        jobs: &'a [LtxParams],
        texts: &EncodedTexts<Tensor>,
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
            let negative = match params.active_guidance() {
                Some(_) => text(&params.negative_prompt),
                None => None,
            };
            let clock = Instant::now();
            let checkpoint = watch.resume(job);
            let earlier = checkpoint.as_ref().and_then(|checkpoint| checkpoint.tiles);
            let tiles = self.choose_tiles(params, limits, earlier)?;
            let mut generator = Generator::new(params.rng, params.seed);
            let first = params
                .first_frame
                .as_ref()
                .map(|image| self.encode_first(image, params, tiles, &mut generator))
                .transpose()?;
            timings[job].encoding_ms += milliseconds(clock);
            let latents = self.start_latents(params, &mut generator)?;
            let program = Arc::new(self.program(params)?);
            let mut row = Row {
                params,
                positive,
                negative,
                first,
                state: ClipState::new(job, Run::start(program, &latents, false)?, generator, tiles),
            };
            let latents = row.keep_first(row.state.run.latents())?;
            row.state.run.replace_latents(latents)?;
            row.state.identity = self.identify(&row)?;
            if let Some(checkpoint) = checkpoint {
                row.state.resume(&checkpoint, &self.device)?;
                timings[job].resumed_steps = row.state.run.done() as u32;
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// A given first frame as latents of the diffusion process, (1, tokens of a frame, channels),
    /// f32: drawn from what the encoder says.
    pub(crate) fn encode_first(
        &self,
        image: &RgbImage,
        params: &LtxParams,
        tiles: TileSide,
        generator: &mut Generator,
    ) -> Result<Tensor> {
        let image = resize(image, params.width, params.height, Filter::Lanczos)?;
        let pixels = to_pixels(&[image], &self.device, self.dtype)?;
        let moments = match self.tiles(params, tiles) {
            Some(tiles) => self.vae.encode_tiles(&pixels, tiles)?,
            None => self.vae.encoding().push(&pixels)?,
        };
        let mut noise = vec![0f32; moments.mean.elem_count()];
        generator.fill_normal(&mut noise);
        let noise = Tensor::from_vec(noise, moments.mean.shape(), &self.device)?;
        to_tokens(&self.vae.scale(&moments.sample(&noise)?)?)
    }

    /// The steps of a run.
    pub(crate) fn program(&self, params: &LtxParams) -> Result<Program> {
        let mut config = match params.sampler {
            Some((sampler, schedule)) => self.scheduler.choose(sampler, schedule, None)?,
            None => self.scheduler.clone(),
        };
        let steps = params.steps as usize;
        let tokens = self.token_grid(params).iter().product();
        let mut mu = config
            .flow
            .is_dynamic
            .then(|| schedule::size_shift(&config.flow, tokens));
        if let Some(shift) = params.shift {
            config.flow.shift = shift;
            // A dynamic shift is a static one of eᵘ.
            mu = mu.map(|_| shift.ln());
        }
        config.program(&Options {
            mu,
            flow_times: Some(linspace(1.0, 1.0 / steps as f64, steps)),
            ..Options::steps(steps)
        })
    }

    /// Latent frames, rows and columns, which are those of tokens.
    pub(crate) fn token_grid(&self, params: &LtxParams) -> [usize; 3] {
        let scale = self.parts.vae.scale();
        [
            self.vae.latent_frames(params.frames as usize),
            params.height as usize / scale,
            params.width as usize / scale,
        ]
    }

    /// Where the tokens of a clip are.
    pub(crate) fn positions(&self, params: &LtxParams) -> Result<Rope> {
        let scale = self.parts.vae.scale() as f64;
        let time = self.parts.vae.time_scale() as f64 / params.frame_rate;
        let grid = self.token_grid(params);
        self.denoiser
            .positions(grid, [time, scale, scale], &self.device)
    }

    /// Noise, (1, tokens, channels), f32.
    fn start_latents(&self, params: &LtxParams, generator: &mut Generator) -> Result<Tensor> {
        let grid = self.token_grid(params);
        let [frames, rows, columns] = grid;
        let channels = self.parts.vae.latent_channels;
        let tokens = frames * rows * columns;
        if let Some(latents) = &params.latents {
            if latents.dims() != [1, tokens, channels] {
                return Err(Error::BadRequest(format!(
                    "start from latents of {:?} where (1, {tokens}, {channels}) are needed",
                    latents.dims()
                )));
            }
            return Ok(latents.to_dtype(DType::F32)?.to_device(&self.device)?);
        }
        let noise = self.draw(params, generator)?;
        to_tokens(&noise)
    }

    /// Standard normals for every latent of a clip, drawn channel by channel: (frames, channels,
    /// rows, columns), f32.
    fn draw(&self, params: &LtxParams, generator: &mut Generator) -> Result<Tensor> {
        let [frames, rows, columns] = self.token_grid(params);
        let channels = self.parts.vae.latent_channels;
        let mut noise = vec![0f32; channels * frames * rows * columns];
        generator.fill_normal(&mut noise);
        let noise = Tensor::from_vec(noise, (channels, frames, rows, columns), &self.device)?;
        Ok(noise.transpose(0, 1)?.contiguous()?)
    }

    /// Everything that decides what the latents become.
    fn identify(&self, row: &Row) -> Result<String> {
        let computes_in = (&self.device, self.dtype);
        let mut identity = Identity::of_run(&self.files, &self.adapted.describe(), computes_in);
        let params = row.params;
        let sizes = (params.width, params.height, params.frames);
        let guidance = (params.active_guidance(), params.guidance_rescale);
        let rate = params.frame_rate;
        identity.add(format!("{sizes:?} {guidance:?} {rate} {:?}", params.sampler).as_bytes());
        if params.step_cache > 0.0 {
            identity.add(format!("step cache {:?}", params.step_cache).as_bytes());
        }
        identity.add_program(row.state.run.program());
        let texts = [Some(&row.positive), row.negative.as_ref()];
        let tensors = texts.into_iter().chain([row.first.as_ref()]);
        for tensor in tensors.flatten() {
            identity.add_f32s(&numbers(tensor)?);
        }
        // The noise itself rather than its seed: it may have been given.
        identity.add_f32s(&numbers(row.state.run.latents())?);
        identity.add(&row.state.generator.save());
        Ok(identity.finish())
    }

    // Denoising is in `run`.

    // From latents to frames: see `decode`.

    /// Latents as the decoder takes them, (frames, channels, rows, columns): with some noise where it
    /// is told how much.
    pub(crate) fn decoder_input(
        &self,
        latents: &Tensor,
        params: &LtxParams,
        generator: &mut Generator,
    ) -> Result<Tensor> {
        let frames = to_frames(latents, self.token_grid(params))?;
        let mut latents = self.vae.unscale(&frames)?;
        if self.parts.vae.is_timed {
            let share = f64::from(params.decode_noise.unwrap_or(params.decode_time));
            let noise = self.draw(params, generator)?;
            latents = ((latents * (1.0 - share))? + (noise * share)?)?;
        }
        Ok(latents.to_dtype(self.dtype)?)
    }

    /// What shows latents as colours.
    fn preview(&self) -> Result<&LatentPreview> {
        if let Some(preview) = self.preview.get() {
            return Ok(preview);
        }
        let channels = self.parts.vae.latent_channels;
        let scale = self.parts.vae.scale();
        let preview = LatentPreview::fit_with(channels, scale, &self.device, |latents| {
            let latents = self.vae.unscale(latents)?.to_dtype(self.dtype)?;
            let (_, _, height, width) = latents.dims4()?;
            let mut generator = Generator::new(kinora_core::Rng::Cpu, 0);
            let mut decoding = self
                .vae
                .decoding(PREVIEW_TIME, (height, width), &mut generator)?;
            decoding.finish(&latents)
        })?;
        Ok(self.preview.get_or_init(|| preview))
    }

    /// Its denoiser.
    pub(crate) fn denoiser(&self) -> &LtxDenoiser {
        &self.denoiser
    }

    /// Its VAE.
    pub(crate) fn vae(&self) -> &LtxVae {
        &self.vae
    }
}
