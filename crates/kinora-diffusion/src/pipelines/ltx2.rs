//! Clips with sound by LTX-2 and 2.3, from text and from a given first frame: the story of a run in
//! four stages.

#[cfg(test)]
mod adapter_tests;
mod decode;
mod params;
mod run;
mod texts;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Instant,
};

use candle_core::{DType, Device, Tensor};
use kinora_weights::{
    SchedulerConfig,
    lora::{LoraComponent, LoraTargets},
    ltx2::{Ltx2Component, Ltx2Layout, Ltx2Parts},
};

pub use self::params::{Ltx2Guidance, Ltx2Params};
pub(crate) use self::run::Both;
use self::run::Row;
use super::{
    JobTimings, RgbImage, RunLimits, RunWatch, Shelf, Sound, TextCache,
    checkpoint::Identity,
    clip::{ClipAsk, ClipState, check_scales, check_share, numbers},
    milliseconds,
    on_demand::OnDemand,
    packing::to_tokens,
    text_cache::EncodedTexts,
};
use crate::{
    Error, Result,
    adapters::{AdaptableNetwork, Adapted, Adaptive},
    denoisers::{Ltx2Denoiser, Ltx2Positions},
    layers::Weights,
    noise::Generator,
    previews::LatentPreview,
    samplers::{Config, Options, Program, Run, schedule, spacing::linspace},
    step_cache,
    text::{GemmaEncoder, Ltx2Connectors, Ltx2Text, Tokenizer},
    vae::{LtxAudioVae, LtxVae, TileSide, Vocoder, to_pixels},
    vision::resample::{Filter, resize},
};

/// An LTX-2 model; its text encoder is in memory when it was needed.
pub struct Ltx2Pipeline {
    parts: Ltx2Parts,
    device: Device,
    dtype: DType,
    tokenizer: Tokenizer,
    text: OnDemand<GemmaEncoder>,
    texts: Option<Arc<TextCache>>,
    connectors: Ltx2Connectors,
    /// What decides the connectors' answers besides adapters.
    connector_files: Vec<PathBuf>,
    vae: LtxVae,
    audio_vae: LtxAudioVae,
    vocoder: Vocoder,
    denoiser: Ltx2Denoiser,
    scheduler: Config,
    /// Fitted when the first preview is wanted.
    preview: OnceLock<LatentPreview>,
    weight_bytes: u64,
    /// Names and sizes of the weight files, for the identity of checkpoints.
    files: String,
    layout: Ltx2Layout,
    adapted: Adapted,
}

impl std::fmt::Debug for Ltx2Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ltx2Pipeline({} on {:?})", self.files, self.device)
    }
}

impl Adaptive for Ltx2Pipeline {
    fn networks(&mut self) -> Vec<AdaptableNetwork<'_>> {
        let only = AdaptableNetwork::only;
        vec![
            only(LoraComponent::Denoiser, self.denoiser.adaptables()),
            only(LoraComponent::Connectors, self.connectors.adaptables()),
        ]
    }

    fn read_targets(&self) -> Result<LoraTargets> {
        Ok(LoraTargets::of_ltx2(&self.layout)?)
    }

    fn adapted(&mut self) -> &mut Adapted {
        &mut self.adapted
    }
}

impl Ltx2Pipeline {
    /// Reads every weight but those of the text encoder. `on_load` is told the share that is done, 0
    /// to 1.
    pub fn open(
        layout: &Ltx2Layout,
        device: &Device,
        dtype: DType,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        let parts = layout.parts.clone();
        let unread = layout.bytes_of(Ltx2Component::TextEncoder);
        let total = layout.total_bytes().saturating_sub(unread).max(1) as f32;
        let share = |component| layout.bytes_of(component) as f32 / total;
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
            "Gemma",
            layout.open(Ltx2Component::TextEncoder)?,
            (device, dtype),
            &parts.text,
            move |weights, on_load| GemmaEncoder::load(weights, &config, on_load),
        );
        let set = layout.open(Ltx2Component::Connectors)?;
        let connector_files = set.files().map(Path::to_owned).collect();
        let weights_of_connectors = Weights::new(set, device, dtype);
        let connectors = Ltx2Connectors::load(&weights_of_connectors, &parts.connectors)?;
        let mut done = share(Ltx2Component::Connectors);
        let vae = LtxVae::load(&weights(Ltx2Component::Vae)?, &parts.vae)?;
        done += share(Ltx2Component::Vae);
        let audio_vae = LtxAudioVae::load(&weights(Ltx2Component::AudioVae)?, &parts.audio_vae)?;
        done += share(Ltx2Component::AudioVae);
        let vocoder = Vocoder::load(&weights(Ltx2Component::Vocoder)?, &parts.vocoder)?;
        done += share(Ltx2Component::Vocoder);
        on_load(done);
        let rest = share(Ltx2Component::Transformer);
        let denoiser = Ltx2Denoiser::load(
            &weights(Ltx2Component::Transformer)?,
            &parts.transformer,
            &mut |part| on_load(done + rest * part),
        )?;
        let files: Vec<String> = layout
            .weights
            .iter()
            .map(|file| format!("{} {} {}", file.component, file.file, file.bytes))
            .collect();
        Ok(Self {
            tokenizer: match layout.read_stored_tokenizer()? {
                Some((file, bytes)) => Tokenizer::gemma_from_spiece(&file, &bytes)?,
                None => Tokenizer::open_gemma(&layout.tokenizer_folder())?,
            },
            text,
            texts: None,
            connectors,
            connector_files,
            vae,
            audio_vae,
            vocoder,
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
    pub fn parts(&self) -> &Ltx2Parts {
        &self.parts
    }

    /// Makes the clips one after another; everything about them goes to `watch`: the sound, then
    /// frames as they are decoded.
    ///
    /// # Errors
    /// A clip whose frames are unusable does not stop the others: the first such error is returned
    /// after the last clip. Any other error ends the run at once.
    pub fn run(
        &mut self,
        jobs: &[Ltx2Params],
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

    fn check(&self, params: &Ltx2Params, limits: RunLimits) -> Result<()> {
        let ask = ClipAsk {
            size: (params.width, params.height),
            size_step: self.size_step(),
            frames: params.frames,
            frame_step: self.frame_step(),
            frame_rate: Some(params.frame_rate),
            steps: params.steps,
            text_tokens: params.text_tokens,
            text_step: self.parts.connectors.video.registers,
            shift: params.shift,
        };
        ask.check()?;
        step_cache::check(params.step_cache)?;
        for guidance in [params.guidance, params.audio_guidance] {
            check_scales([guidance.text, guidance.blind, guidance.alone])?;
            check_share("the rescaling of guidance", guidance.rescale)?;
        }
        let layers = self.parts.transformer.layers;
        if params.is_guided_by_blindness()
            && (params.blind_blocks.is_empty()
                || params.blind_blocks.iter().any(|block| *block >= layers))
        {
            return Err(Error::BadRequest(format!(
                "blocks {:?} to be blind in; at least one of the {layers} is needed",
                params.blind_blocks
            )));
        }
        let estimate = self.parts.estimate(
            (params.width, params.height),
            params.frames,
            params.frame_rate,
            params.text_tokens,
            self.dtype.size_in_bytes() as u64,
        );
        let tokens = [
            (
                self.token_grid(params).iter().product(),
                self.parts.transformer.hidden(),
            ),
            (self.audio_tokens(params), self.parts.audio.hidden()),
        ];
        let kept = tokens.map(|(tokens, width): (usize, usize)| {
            step_cache::kept_bytes(
                params.step_cache,
                params.passes().into(),
                tokens as u64,
                width as u64,
                self.dtype.size_in_bytes() as u64,
            )
        });
        let kept = kept[0].saturating_add(kept[1]);
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
        jobs: &'a [Ltx2Params],
        texts: &EncodedTexts<Ltx2Text>,
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
            let negative = match params.is_guided_by_text() {
                true => text(&params.negative_prompt),
                false => None,
            };
            let clock = Instant::now();
            let checkpoint = watch.resume(job);
            let earlier = checkpoint.as_ref().and_then(|checkpoint| checkpoint.tiles);
            let tiles = self.choose_tiles(params, limits, earlier)?;
            let mut generator = Generator::new(params.rng, params.seed);
            let first = params
                .first_frame
                .as_ref()
                .map(|image| self.encode_first(image, params, tiles))
                .transpose()?;
            timings[job].encoding_ms += milliseconds(clock);
            let latents = self.start_latents(params, &mut generator)?;
            let program = Arc::new(self.program(params)?);
            let mut row = Row {
                params,
                positive,
                negative,
                first,
                shapes: [latents.video.dims3()?, latents.audio.dims3()?]
                    .map(|(_, tokens, channels)| (tokens, channels)),
                state: ClipState::new(
                    job,
                    Run::start(program, &latents.join()?, false)?,
                    generator,
                    tiles,
                ),
            };
            let latents = row.split(row.state.run.latents())?.join()?;
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
    /// f32: the mean of what the encoder says.
    pub(crate) fn encode_first(
        &self,
        image: &RgbImage,
        params: &Ltx2Params,
        tiles: TileSide,
    ) -> Result<Tensor> {
        let image = resize(image, params.width, params.height, Filter::Bilinear)?;
        let pixels = to_pixels(&[image], &self.device, self.dtype)?;
        let moments = match self.tiles(params, tiles) {
            Some(tiles) => self.vae.encode_tiles(&pixels, tiles)?,
            None => self.vae.encoding().push(&pixels)?,
        };
        to_tokens(&self.vae.scale(&moments.mean.to_dtype(DType::F32)?)?)
    }

    /// The steps of a run.
    pub(crate) fn program(&self, params: &Ltx2Params) -> Result<Program> {
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
    pub(crate) fn token_grid(&self, params: &Ltx2Params) -> [usize; 3] {
        let scale = self.parts.vae.scale();
        [
            self.vae.latent_frames(params.frames as usize),
            params.height as usize / scale,
            params.width as usize / scale,
        ]
    }

    /// Tokens of the sound.
    pub(crate) fn audio_tokens(&self, params: &Ltx2Params) -> usize {
        self.parts
            .audio
            .tokens(params.frames, params.frame_rate)
            .max(1)
    }

    /// Where the tokens of a clip are.
    pub(crate) fn positions(&self, params: &Ltx2Params) -> Result<Ltx2Positions> {
        self.denoiser.positions(
            self.token_grid(params),
            params.frame_rate,
            self.audio_tokens(params),
            &self.device,
        )
    }

    /// Whether attention between picture and sound goes by the step's time.
    pub(crate) fn is_crossed(&self, params: &Ltx2Params) -> bool {
        params.is_crossed.unwrap_or(self.parts.is_23())
    }

    /// Noise of picture and sound, f32.
    fn start_latents(&self, params: &Ltx2Params, generator: &mut Generator) -> Result<Both> {
        let [frames, rows, columns] = self.token_grid(params);
        let channels = self.parts.vae.latent_channels;
        let video = match &params.latents {
            Some(latents) => self.take(latents, [1, frames * rows * columns, channels])?,
            None => {
                let shape = (channels, frames, rows, columns);
                let mut noise = vec![0f32; channels * frames * rows * columns];
                generator.fill_normal(&mut noise);
                let noise = Tensor::from_vec(noise, shape, &self.device)?;
                to_tokens(&noise.transpose(0, 1)?.contiguous()?)?
            }
        };
        let tokens = self.audio_tokens(params);
        let (channels, bins) = (
            self.parts.audio_vae.latent_channels,
            self.parts.audio_vae.latent_bins(),
        );
        let audio = match &params.audio_latents {
            Some(latents) => self.take(latents, [1, tokens, channels * bins])?,
            None => {
                let mut noise = vec![0f32; channels * tokens * bins];
                generator.fill_normal(&mut noise);
                let noise = Tensor::from_vec(noise, (1, channels, tokens, bins), &self.device)?;
                noise
                    .transpose(1, 2)?
                    .contiguous()?
                    .reshape((1, tokens, channels * bins))?
            }
        };
        Ok(Both { video, audio })
    }

    /// Given latents, checked.
    fn take(&self, latents: &Tensor, shape: [usize; 3]) -> Result<Tensor> {
        if latents.dims() != shape {
            return Err(Error::BadRequest(format!(
                "start from latents of {:?} where {shape:?} are needed",
                latents.dims()
            )));
        }
        Ok(latents.to_dtype(DType::F32)?.to_device(&self.device)?)
    }

    /// Everything that decides what the latents become.
    fn identify(&self, row: &Row) -> Result<String> {
        let computes_in = (&self.device, self.dtype);
        let mut identity = Identity::of_run(&self.files, &self.adapted.describe(), computes_in);
        let params = row.params;
        let sizes = (params.width, params.height, params.frames);
        let guidance = (
            params.guidance,
            params.audio_guidance,
            &params.blind_blocks,
            self.is_crossed(params),
        );
        let rate = params.frame_rate;
        identity.add(format!("{sizes:?} {guidance:?} {rate} {:?}", params.sampler).as_bytes());
        if params.step_cache > 0.0 {
            identity.add(format!("step cache {:?}", params.step_cache).as_bytes());
        }
        identity.add_program(row.state.run.program());
        let texts = [Some(&row.positive), row.negative.as_ref()];
        let texts = texts
            .into_iter()
            .flatten()
            .flat_map(|text| [&text.video, &text.audio]);
        for tensor in texts.chain(row.first.as_ref()) {
            identity.add_f32s(&numbers(tensor)?);
        }
        // The noise itself rather than its seed: it may have been given.
        identity.add_f32s(&numbers(row.state.run.latents())?);
        identity.add(&row.state.generator.save());
        Ok(identity.finish())
    }

    // Denoising is in `run`.

    // From latents to sound and frames: see `decode`.

    /// The samples of a sound's latents, (1, tokens, channels) → (1, channels, samples).
    pub(crate) fn decode_sound(&self, latents: &Tensor) -> Result<Tensor> {
        let latents = self.audio_vae.unscale(latents)?.to_dtype(self.dtype)?;
        self.vocoder.forward(&self.audio_vae.decode(&latents)?)
    }

    fn to_sound(&self, samples: &Tensor) -> Result<Sound> {
        let channels = samples.squeeze(0)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        if channels.iter().flatten().any(|sample| !sample.is_finite()) {
            return Err(Error::NotFinite {
                stage: "sound",
                fault: "not finite",
            });
        }
        Ok(Sound {
            sample_rate: self.vocoder.sample_rate(),
            channels,
        })
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
            let mut decoding = self.vae.decoding(0.0, (height, width), &mut generator)?;
            decoding.finish(&latents)
        })?;
        Ok(self.preview.get_or_init(|| preview))
    }

    /// Its denoiser.
    pub(crate) fn denoiser(&self) -> &Ltx2Denoiser {
        &self.denoiser
    }

    /// Its VAEs and what makes samples.
    pub(crate) fn codecs(&self) -> (&LtxVae, &LtxAudioVae, &Vocoder) {
        (&self.vae, &self.audio_vae, &self.vocoder)
    }
}
