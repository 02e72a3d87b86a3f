//! Clips of LTX-Video, stage by stage.

use candle_core::{Device, Tensor};
use kinora_core::Rng;

use super::{
    GATE_NETWORK, GATE_RUN, GATE_SIGMAS, Recorder, Report, StageResult,
    case::{Case, ImageInput},
    first_number,
    pictures::{planes, read_rgb},
    wan::{clips, join},
};
use crate::{
    Error, Result,
    denoisers::LtxInput,
    noise::Generator,
    pipelines::{LtxParams, LtxPipeline, RunLimits, packing::to_frames},
    vae::{LtxVae, TileSide},
};

/// Runs a recorded clip.
pub(super) fn compare(case: Case) -> Result<Vec<StageResult>> {
    let target = case.target.clone();
    let layout = kinora_weights::ltx::detect_ltx(&case.path.join("model"))?;
    let mut pipeline = LtxPipeline::open(&layout, &target.device, target.dtype, &mut |_| {})?;
    let job = read_job(&case)?;
    let mut report = Report {
        case,
        results: Vec::new(),
    };
    report.compare_ltx_prompts(&pipeline, &job)?;
    report.compare_given_frame(&pipeline, &job)?;
    report.compare_ltx_network(&pipeline, &job)?;
    report.compare_clip(&mut pipeline, &job)?;
    report.compare_ltx_codec(pipeline.vae(), job.decode_time)?;
    report.finish()
}

/// The recorded call as a job.
pub(super) fn read_job(case: &Case) -> Result<LtxParams> {
    let inputs = &case.description.inputs;
    let [prompt] = inputs.prompt.list() else {
        return Err(Error::bad_weights(
            &case.path,
            "clips of several prompts are not known here",
        ));
    };
    let negative = inputs.negative_prompt.as_ref();
    let first_frame = match &inputs.image {
        Some(ImageInput::File(file)) => Some(read_rgb(case, file)?),
        Some(ImageInput::Latents(_) | ImageInput::Files(_)) => {
            return Err(Error::bad_weights(
                &case.path,
                "a frame that is given as latents or as several pictures is not known here",
            ));
        }
        None => None,
    };
    Ok(LtxParams {
        prompt: prompt.clone(),
        negative_prompt: negative
            .and_then(|texts| texts.of_row(0))
            .cloned()
            .unwrap_or_default(),
        width: inputs.width,
        height: inputs.height,
        // The reference's defaults.
        frames: inputs.num_frames.unwrap_or(161),
        frame_rate: inputs.frame_rate.unwrap_or(25.0),
        steps: inputs.num_inference_steps,
        guidance: inputs.guidance_scale.unwrap_or(3.0),
        guidance_rescale: inputs.guidance_rescale.unwrap_or(0.0),
        sampler: None,
        step_cache: 0.0,
        shift: None,
        decode_time: inputs.decode_timestep.unwrap_or(0.0),
        decode_noise: inputs.decode_noise_scale,
        seed: inputs.generator_seed.unwrap_or(0),
        rng: Rng::Cpu,
        text_tokens: inputs.max_sequence_length,
        vae_tiling: false,
        latents: match &inputs.latents {
            Some(_) => Some(case.noise()?),
            // What the seed draws is held to the recorded draws by what becomes of them.
            None => None,
        },
        first_frame,
    })
}

impl Report {
    /// Token ids and encoder outputs.
    fn compare_ltx_prompts(&mut self, pipeline: &LtxPipeline, job: &LtxParams) -> Result<()> {
        let (encoder, tokenizer) = pipeline.text()?;
        let negative = job.active_guidance().map(|_| &job.negative_prompt);
        for (call, text) in [Some(&job.prompt), negative]
            .into_iter()
            .flatten()
            .enumerate()
        {
            let ids = tokenizer.encode(text, job.text_tokens)?;
            let flat: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
            let name = format!("text_encoder.call{call}");
            self.compare_integers(&format!("{name}.in.input_ids"), "", &flat, 0)?;
            let all = encoder.forward(&[ids], None)?;
            let stage = format!("{name}.last_hidden_state");
            self.compare(&stage, "", &all, GATE_NETWORK)?;
            // Embeddings and mask of the prompt, then of the negative one.
            let stage = format!("encode_prompt.{}", 2 * call);
            self.compare(&stage, "", &all, GATE_NETWORK)?;
            let real = pipeline.encode_text(text, job.text_tokens)?.dim(1)?;
            let mask: Vec<i64> = (0..job.text_tokens)
                .map(|token| i64::from(token < real))
                .collect();
            self.compare_integers(&format!("encode_prompt.{}", 2 * call + 1), "", &mask, 0)?;
        }
        Ok(())
    }

    /// A given frame, as the VAE sees it and as the network gets it.
    fn compare_given_frame(&mut self, pipeline: &LtxPipeline, job: &LtxParams) -> Result<()> {
        if let Some(frames) = self.case.input("vae.encode0.in")? {
            let latents = encode(pipeline.vae(), &frames)?;
            self.compare("vae.encode0.out", "", &latents, GATE_RUN)?;
        }
        let (Some(image), Some(golden)) = (
            &job.first_frame,
            self.case.tensor("transformer.call0.in.hidden_states")?,
        ) else {
            return Ok(());
        };
        let mut generator = Generator::new(job.rng, job.seed);
        let first = pipeline.encode_first(image, job, TileSide::Whole, &mut generator)?;
        let own = first.dim(1)?;
        let golden = golden.narrow(0, 0, 1)?.narrow(1, 0, own)?;
        let stage = "transformer.call0.in.hidden_states of the given frame";
        self.push(stage.into(), &first, &golden, GATE_RUN)
    }

    /// The first call on the recorded inputs, and the guided result.
    fn compare_ltx_network(&mut self, pipeline: &LtxPipeline, job: &LtxParams) -> Result<()> {
        let input = |what: &str| self.case.input(&format!("transformer.call0.in.{what}"));
        let (Some(latents), Some(times), Some(text), Some(mask)) = (
            input("hidden_states")?,
            self.case.tensor("transformer.call0.in.timestep")?,
            input("encoder_hidden_states")?,
            self.case
                .tensor("transformer.call0.in.encoder_attention_mask")?,
        ) else {
            return Ok(());
        };
        let grid = pipeline.token_grid(job);
        let device = &self.case.target.device;
        // One time for each row of the batch, or for each token.
        let times = match times.dims() {
            [_, tokens] => {
                let row = times.narrow(0, 0, 1)?.flatten_all()?.to_vec1::<f32>()?;
                row.into_iter().step_by(tokens / grid[0].max(1)).collect()
            }
            _ => vec![first_number(&times)?],
        };
        let texts = (0..text.dim(0)?)
            .map(|row| {
                let real = mask.get(row)?.sum_all()?.to_scalar::<f32>()? as usize;
                Ok(text.narrow(0, row, 1)?.narrow(1, 0, real)?.contiguous()?)
            })
            .collect::<Result<Vec<_>>>()?;
        let texts: Vec<&Tensor> = texts.iter().collect();
        let denoiser = pipeline.denoiser();
        let output = denoiser.forward(&LtxInput {
            latents: &latents,
            context: &denoiser.prepare_context(&texts)?,
            time: &denoiser.embed_time(&times, device)?,
            rope: &pipeline.positions(job)?,
        })?;
        self.compare("transformer.call0.out", "", &output, GATE_NETWORK)
    }

    /// The clip through the pipeline: each step's latents, and the frames.
    fn compare_clip(&mut self, pipeline: &mut LtxPipeline, job: &LtxParams) -> Result<()> {
        let mut watch = Recorder::new(1);
        let jobs = std::slice::from_ref(job);
        pipeline.run(jobs, RunLimits::NONE, &mut watch)?;
        let grid = pipeline.token_grid(job);
        for (step, latents) in watch.latents[0].iter().enumerate() {
            let stage = format!("step{step}.latents");
            let latents = match &job.first_frame {
                // The reference steps the other frames alone, unpacked.
                Some(_) => {
                    let frames = to_frames(latents, grid)?;
                    let rest = frames.narrow(0, 1, grid[0] - 1)?;
                    join(&[rest.contiguous()?])?
                }
                None => latents.clone(),
            };
            self.compare(&stage, "", &latents, GATE_RUN)?;
        }
        let program = pipeline.program(job)?;
        let vector = |values: &[f32]| Tensor::new(values, &Device::Cpu);
        let times = program.calls.iter().map(|call| call.timestep as f32);
        let times: Vec<f32> = times.collect();
        self.compare("timesteps", "", &vector(&times)?, 0.0)?;
        self.compare("sigmas", "", &vector(&program.sigmas)?, GATE_SIGMAS)?;
        if let (Some(latents), None) = (watch.latents[0].last(), &job.first_frame) {
            let mut generator = Generator::new(job.rng, job.seed);
            let ours = pipeline.decoder_input(
                &latents.to_device(&self.case.target.device)?,
                job,
                &mut generator,
            )?;
            self.compare("vae.decode0.in", "", &join(&[ours])?, GATE_RUN)?;
        }
        let Some((stage, golden)) = self.case.pixels(0, 1)? else {
            return Ok(());
        };
        let ours: Vec<i64> = watch.frames.iter().flat_map(|clip| planes(clip)).collect();
        self.push_pixels(stage, &ours, &golden);
        Ok(())
    }

    /// Decoder and encoder on the recorded inputs, streamed; and that streaming changes nothing.
    pub(super) fn compare_ltx_codec(&mut self, vae: &LtxVae, share: f32) -> Result<()> {
        if let Some(latents) = self.case.input("vae.decode0.in")? {
            let (mut streamed, mut whole) = (Vec::new(), Vec::new());
            for clip in clips(&latents)? {
                let (count, _, height, width) = clip.dims4()?;
                let begin = || {
                    let mut generator = Generator::new(Rng::Cpu, 0);
                    vae.decoding(share, (height, width), &mut generator)
                };
                let mut decoding = begin()?;
                let mut frames = Vec::new();
                for i in 0..count {
                    let latents = clip.narrow(0, i, 1)?;
                    decoding.push(&latents, i + 1 == count, &mut |run| {
                        frames.push(run);
                        Ok(())
                    })?;
                }
                streamed.push(Tensor::cat(&frames, 0)?);
                whole.push(begin()?.finish(&clip)?);
            }
            let (streamed, whole) = (join(&streamed)?, join(&whole)?);
            self.compare("vae.decode0.out", "", &streamed, GATE_RUN)?;
            let stage = "vae.decode0 streamed and whole";
            self.push(stage.into(), &whole, &streamed, 0.0)?;
        }
        if let Some(frames) = self.case.input("vae.decode0.out")? {
            let latents = encode(vae, &frames)?;
            self.compare("extra.vae_encode.out", "", &latents, GATE_RUN)?;
        }
        Ok(())
    }
}

/// (batch, 3, frames, h, w) → mean latents of each clip.
pub(super) fn encode(vae: &LtxVae, frames: &Tensor) -> Result<Tensor> {
    let latents = clips(frames)?
        .iter()
        .map(|clip| vae.encode(clip))
        .collect::<Result<Vec<_>>>()?;
    join(&latents)
}
