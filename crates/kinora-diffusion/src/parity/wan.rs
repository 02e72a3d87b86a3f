//! Clips of Wan, stage by stage.

use candle_core::{Device, Tensor};
use kinora_core::Rng;

use super::{
    GATE_NETWORK, GATE_RUN, GATE_SIGMAS, Recorder, Report, StageResult,
    case::{Case, ImageInput},
    first_number,
    pictures::{planes, read_rgb},
};
use crate::{
    Error, Result,
    denoisers::{WanInput, WanText},
    pipelines::{RgbImage, RunLimits, Switch, VideoParams, WanPipeline},
    text::clean_prompt,
    vae::TileSide,
};

/// Runs a recorded clip.
pub(super) fn compare(case: Case) -> Result<Vec<StageResult>> {
    let target = case.target.clone();
    let layout = kinora_weights::wan::detect_wan(&case.path.join("model"))?;
    let mut pipeline = WanPipeline::open(&layout, &target.device, target.dtype, &mut |_| {})?;
    let jobs = read_jobs(&case)?;
    let mut report = Report {
        case,
        results: Vec::new(),
    };
    report.compare_prompts(&pipeline, &jobs)?;
    report.compare_given_frames(&pipeline, &jobs)?;
    for (name, is_low) in [("transformer", false), ("transformer_2", true)] {
        report.compare_network(&mut pipeline, &jobs, name, is_low)?;
    }
    report.compare_clips(&mut pipeline, &jobs)?;
    report.compare_codec(&pipeline)?;
    if report.results.is_empty() {
        return Err(Error::bad_weights(
            &report.case.path,
            "the case holds no stage that is known here",
        ));
    }
    Ok(report.results)
}

/// The recorded call as jobs.
pub(super) fn read_jobs(case: &Case) -> Result<Vec<VideoParams>> {
    let inputs = &case.description.inputs;
    let noise = case.noise()?;
    let prompts = inputs.prompt.list();
    if noise.dim(0)? != prompts.len() {
        return Err(Error::bad_weights(
            &case.path,
            "there is not one latent for each prompt",
        ));
    }
    let picture = |given: &Option<ImageInput>| match given {
        Some(ImageInput::File(file)) => read_rgb(case, file).map(Some),
        Some(ImageInput::Latents(_) | ImageInput::Files(_)) => Err(Error::bad_weights(
            &case.path,
            "a frame that is given as latents or as several pictures is not known here",
        )),
        None => Ok(None),
    };
    prompts
        .iter()
        .enumerate()
        .map(|(row, prompt)| {
            let negative = inputs
                .negative_prompt
                .as_ref()
                .and_then(|texts| texts.of_row(row));
            Ok(VideoParams {
                prompt: prompt.clone(),
                negative_prompt: negative.cloned().unwrap_or_default(),
                width: inputs.width,
                height: inputs.height,
                // The reference's defaults.
                frames: inputs.num_frames.unwrap_or(81),
                steps: inputs.num_inference_steps,
                guidance: inputs.guidance_scale.unwrap_or(5.0),
                guidance_2: inputs.guidance_scale_2,
                switch: Switch::Model,
                step_cache: 0.0,
                shift: None,
                sampler: None,
                seed: 0,
                rng: Rng::Cpu,
                text_tokens: inputs.max_sequence_length,
                first_frame: picture(&inputs.image)?,
                last_frame: picture(&inputs.last_image)?,
                latents: Some(noise.narrow(0, row, 1)?),
                context: None,
                vae_tiling: false,
            })
        })
        .collect()
}

impl Report {
    /// Token ids and encoder outputs.
    fn compare_prompts(&mut self, pipeline: &WanPipeline, jobs: &[VideoParams]) -> Result<()> {
        let (encoder, tokenizer) = pipeline.text()?;
        let is_guided = jobs.iter().all(VideoParams::is_guided);
        for (call, texts) in [
            Some(jobs.iter().map(|job| &job.prompt).collect::<Vec<_>>()),
            is_guided.then(|| jobs.iter().map(|job| &job.negative_prompt).collect()),
        ]
        .into_iter()
        .flatten()
        .enumerate()
        {
            let length = jobs.first().map_or(0, |job| job.text_tokens);
            let (mut ids, mut lengths, mut rows) = (Vec::new(), Vec::new(), Vec::new());
            for text in &texts {
                let cleaned = clean_prompt(text);
                ids.push(tokenizer.encode(&cleaned, length)?);
                lengths.push(tokenizer.encode_within(&cleaned, length)?.len());
                let encoded = pipeline.encode_text(text, length)?;
                rows.push(encoded.tokens.pad_with_zeros(1, 0, encoded.padding)?);
            }
            let flat: Vec<i64> = ids.iter().flatten().map(|id| i64::from(*id)).collect();
            let name = format!("text_encoder.call{call}");
            self.compare_integers(&format!("{name}.in.input_ids"), "", &flat, 0)?;
            let padded = encoder.forward(&ids, Some(&lengths))?;
            let stage = format!("{name}.last_hidden_state");
            self.compare(&stage, "", &padded, GATE_NETWORK)?;
            let stage = format!("encode_prompt.{call}");
            self.compare(&stage, "", &Tensor::cat(&rows, 0)?, GATE_NETWORK)?;
        }
        Ok(())
    }

    /// Given frames, as CLIP and the VAE see them.
    fn compare_given_frames(&mut self, pipeline: &WanPipeline, jobs: &[VideoParams]) -> Result<()> {
        let Some(first) = jobs.first() else {
            return Ok(());
        };
        let given: Vec<&RgbImage> = [&first.first_frame, &first.last_frame]
            .into_iter()
            .flatten()
            .collect();
        if let Some(vision) = pipeline.vision()? {
            let pixels = given
                .iter()
                .map(|image| vision.prepare(image))
                .collect::<Result<Vec<_>>>()?;
            let pixels = Tensor::cat(&pixels, 0)?;
            let name = "image_encoder.call0";
            self.compare(&format!("{name}.in.pixel_values"), "", &pixels, GATE_SIGMAS)?;
            let seen = vision.forward(&pixels)?;
            self.compare(&format!("{name}.hidden_states.-2"), "", &seen, GATE_NETWORK)?;
        }
        if given.is_empty() {
            return Ok(());
        }
        if let Some(frames) = self.case.input("vae.encode0.in")? {
            let latents = encode_clip(pipeline, &frames)?;
            self.compare("vae.encode0.out", "", &latents, GATE_RUN)?;
        }
        let condition = pipeline.condition(first, TileSide::Whole, || false)?;
        if let (Some(condition), Some(latents)) = (condition, &first.latents) {
            let input = condition.apply(latents)?;
            self.compare("transformer.call0.in.hidden_states", "", &input, GATE_RUN)?;
        }
        Ok(())
    }

    /// An expert's first calls on the recorded inputs, and the guided result.
    fn compare_network(
        &mut self,
        pipeline: &mut WanPipeline,
        jobs: &[VideoParams],
        name: &str,
        is_low: bool,
    ) -> Result<()> {
        let Some(job) = jobs.first() else {
            return Ok(());
        };
        let input = |what: &str| self.case.input(&format!("{name}.call0.in.{what}"));
        let (Some(latents), Some(times), Some(text)) = (
            input("hidden_states")?,
            self.case.tensor(&format!("{name}.call0.in.timestep"))?,
            input("encoder_hidden_states")?,
        ) else {
            return Ok(());
        };
        let images = input("encoder_hidden_states_image")?;
        let grid = pipeline.token_grid(job);
        let denoiser = pipeline.denoiser(is_low)?;
        let device = &self.case.target.device;
        let rope = denoiser.positions(grid, device)?;
        // One time for each row of the batch, or for each token.
        let times = match times.dims() {
            [_, tokens] => {
                let row = times.narrow(0, 0, 1)?.flatten_all()?.to_vec1::<f32>()?;
                row.into_iter().step_by(tokens / grid[0].max(1)).collect()
            }
            _ => vec![first_number(&times)?],
        };
        let time = denoiser.embed_time(&times, device)?;
        let call = |text: &Tensor| -> Result<Tensor> {
            let texts = (0..text.dim(0)?)
                .map(|row| {
                    Ok(WanText {
                        tokens: text.narrow(0, row, 1)?.contiguous()?,
                        padding: 0,
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            let texts: Vec<&WanText> = texts.iter().collect();
            denoiser.forward(&WanInput {
                latents: &latents,
                context: &denoiser.prepare_context(&texts, images.as_ref())?,
                time: &time,
                rope: &rope,
            })
        };
        let positive = call(&text)?;
        let negative = match self.case.input("encode_prompt.1")? {
            Some(text) if job.active_guidance(is_low).is_some() => Some(call(&text)?),
            _ => None,
        };
        self.compare(&format!("{name}.call0.out"), "", &positive, GATE_NETWORK)?;
        let output = match (&negative, job.active_guidance(is_low)) {
            (Some(negative), Some(scale)) => {
                self.compare(&format!("{name}.call1.out"), "", negative, GATE_NETWORK)?;
                (negative + ((positive - negative)? * f64::from(scale))?)?
            }
            _ => positive,
        };
        if !is_low {
            self.compare("step0.model_output", "", &output, GATE_RUN)?;
        }
        Ok(())
    }

    /// Every clip through the pipeline: each step's latents, and the frames.
    fn compare_clips(&mut self, pipeline: &mut WanPipeline, jobs: &[VideoParams]) -> Result<()> {
        let mut watch = Recorder::new(jobs.len());
        pipeline.run(jobs, RunLimits::NONE, &mut watch)?;
        let steps = watch.latents.first().map_or(0, Vec::len);
        for step in 0..steps {
            let rows: Vec<Tensor> = watch
                .latents
                .iter()
                .map(|row| row.get(step).cloned())
                .collect::<Option<_>>()
                .ok_or_else(|| Error::BadRequest("a step of the run is missing".into()))?;
            let latents = Tensor::cat(&rows, 0)?;
            self.compare(&format!("step{step}.latents"), "", &latents, GATE_RUN)?;
        }
        let Some(first) = jobs.first() else {
            return Ok(());
        };
        let program = pipeline.program(first)?;
        let vector = |values: &[f32]| Tensor::new(values, &Device::Cpu);
        let times = program.calls.iter().map(|call| call.timestep as f32);
        let times: Vec<f32> = times.collect();
        self.compare("timesteps", "", &vector(&times)?, 0.0)?;
        self.compare("sigmas", "", &vector(&program.sigmas)?, GATE_SIGMAS)?;
        let Some((stage, golden)) = self.case.pixels(0, jobs.len())? else {
            return Ok(());
        };
        let ours: Vec<i64> = watch.frames.iter().flat_map(|clip| planes(clip)).collect();
        self.push_pixels(stage, &ours, &golden);
        Ok(())
    }

    /// Decoder and encoder on the recorded inputs, streamed; and that streaming changes nothing.
    fn compare_codec(&mut self, pipeline: &WanPipeline) -> Result<()> {
        if let Some(latents) = self.case.input("vae.decode0.in")? {
            let (mut streamed, mut whole) = (Vec::new(), Vec::new());
            for clip in clips(&latents)? {
                let mut decoding = pipeline.vae().decoding();
                let frames = (0..clip.dim(0)?)
                    .map(|i| decoding.push(&clip.narrow(0, i, 1)?))
                    .collect::<Result<Vec<_>>>()?;
                streamed.push(Tensor::cat(&frames, 0)?);
                whole.push(pipeline.vae().decoding().push(&clip)?);
            }
            let (streamed, whole) = (join(&streamed)?, join(&whole)?);
            self.compare("vae.decode0.out", "", &streamed, GATE_RUN)?;
            self.push(
                "vae.decode0 streamed and whole".into(),
                &whole,
                &streamed,
                0.0,
            )?;
        }
        if let Some(frames) = self.case.input("vae.decode0.out")? {
            let latents = encode_clip(pipeline, &frames)?;
            self.compare("extra.vae_encode.out", "", &latents, GATE_RUN)?;
        }
        Ok(())
    }
}

/// (batch, channels, frames, h, w) → (frames, channels, h, w) of each.
pub(super) fn clips(batch: &Tensor) -> Result<Vec<Tensor>> {
    (0..batch.dim(0)?)
        .map(|row| Ok(batch.get(row)?.transpose(0, 1)?.contiguous()?))
        .collect()
}

/// The way back.
pub(super) fn join(clips: &[Tensor]) -> Result<Tensor> {
    Ok(Tensor::stack(clips, 0)?.transpose(1, 2)?.contiguous()?)
}

fn encode_clip(pipeline: &WanPipeline, frames: &Tensor) -> Result<Tensor> {
    let latents = clips(frames)?
        .iter()
        .map(|clip| pipeline.vae().encode(clip))
        .collect::<Result<Vec<_>>>()?;
    join(&latents)
}
