//! Clips with sound of LTX-2, stage by stage.

use candle_core::{DType, Device, Tensor};
use kinora_core::Rng;

use super::{
    GATE_NETWORK, GATE_RUN, GATE_SIGMAS, Recorder, Report, StageResult,
    case::{Case, ImageInput},
    first_number,
    ltx::encode,
    pictures::{planes, read_rgb},
    wan::join,
};
use crate::{
    Error, Result,
    denoisers::{Ltx2Blindness, Ltx2Input},
    pipelines::{Ltx2Guidance, Ltx2Params, Ltx2Pipeline, RunLimits, packing::to_frames},
    text::Ltx2Text,
    vae::TileSide,
};

/// Runs a recorded clip.
pub(super) fn compare(case: Case) -> Result<Vec<StageResult>> {
    let target = case.target.clone();
    let layout = kinora_weights::ltx2::detect_ltx2(&case.path.join("model"))?;
    let mut pipeline = Ltx2Pipeline::open(&layout, &target.device, target.dtype, &mut |_| {})?;
    let job = read_job(&case, &pipeline)?;
    let mut report = Report {
        case,
        results: Vec::new(),
    };
    report.compare_ltx2_prompts(&pipeline, &job)?;
    report.compare_given(&pipeline, &job)?;
    report.compare_ltx2_calls(&pipeline, &job)?;
    report.compare_clip_with_sound(&mut pipeline, &job)?;
    report.compare_ltx_codec(pipeline.codecs().0, 0.0)?;
    report.compare_sound(&pipeline)?;
    report.finish()
}

/// The recorded call as a job.
pub(super) fn read_job(case: &Case, pipeline: &Ltx2Pipeline) -> Result<Ltx2Params> {
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
    // The reference's defaults.
    let guidance = Ltx2Guidance {
        text: inputs.guidance_scale.unwrap_or(4.0),
        blind: inputs.stg_scale.unwrap_or(0.0),
        alone: inputs.modality_scale.unwrap_or(1.0),
        rescale: inputs.guidance_rescale.unwrap_or(0.0),
    };
    let audio_guidance = Ltx2Guidance {
        text: inputs.audio_guidance_scale.unwrap_or(guidance.text),
        blind: inputs.audio_stg_scale.unwrap_or(guidance.blind),
        alone: inputs.audio_modality_scale.unwrap_or(guidance.alone),
        rescale: inputs.audio_guidance_rescale.unwrap_or(guidance.rescale),
    };
    // The reference brings given latents of the sound to mean 0 and deviation 1.
    let audio_latents = match case.input_in("in.audio_latents", DType::F32)? {
        Some(latents) => Some(pipeline.codecs().1.scale(&latents)?),
        None => None,
    };
    Ok(Ltx2Params {
        prompt: prompt.clone(),
        negative_prompt: negative
            .and_then(|texts| texts.of_row(0))
            .cloned()
            .unwrap_or_default(),
        width: inputs.width,
        height: inputs.height,
        frames: inputs.num_frames.unwrap_or(121),
        frame_rate: inputs.frame_rate.unwrap_or(24.0),
        steps: inputs.num_inference_steps,
        guidance,
        audio_guidance,
        blind_blocks: inputs
            .spatio_temporal_guidance_blocks
            .clone()
            .unwrap_or_default(),
        is_crossed: Some(inputs.use_cross_timestep.unwrap_or(true)),
        sampler: None,
        step_cache: 0.0,
        shift: None,
        seed: inputs.generator_seed.unwrap_or(0),
        rng: Rng::Cpu,
        text_tokens: inputs.max_sequence_length,
        has_sound: true,
        vae_tiling: false,
        latents: match &inputs.latents {
            Some(_) => Some(case.noise()?),
            None => None,
        },
        audio_latents,
        first_frame,
    })
}

impl Report {
    /// Token ids, what the text encoder says of real tokens, and the connectors.
    fn compare_ltx2_prompts(&mut self, pipeline: &Ltx2Pipeline, job: &Ltx2Params) -> Result<()> {
        let (connectors, tokenizer) = pipeline.text();
        let negative = job.is_guided_by_text().then_some(&job.negative_prompt);
        let length = job.text_tokens;
        let mut texts = Vec::new();
        for (call, text) in [Some(&job.prompt), negative]
            .into_iter()
            .flatten()
            .enumerate()
        {
            let ids = tokenizer.encode_cut(text.trim(), length)?;
            let real = ids.len();
            let mut padded = vec![i64::from(tokenizer.padding()); length - real];
            padded.extend(ids.iter().map(|id| i64::from(*id)));
            let name = format!("text_encoder.call{call}");
            self.compare_integers(&format!("{name}.in.input_ids"), "", &padded, 0)?;
            let mask: Vec<i64> = (0..length)
                .map(|token| i64::from(token >= length - real))
                .collect();
            self.compare_integers(&format!("encode_prompt.{}", 2 * call + 1), "", &mask, 0)?;
            let states = pipeline.read_text(text, length)?;
            // Padding says nothing and is not computed.
            let stage = format!("{name}.hidden_states.-1");
            if let Some(golden) = self.case.tensor(&stage)? {
                let golden = golden.narrow(1, length - real, real)?;
                let ours = &states[states.len() - 1];
                self.push(stage, ours, &golden, GATE_NETWORK)?;
            }
            let stage = format!("encode_prompt.{}", 2 * call);
            if let Some(golden) = self.case.tensor(&stage)? {
                let golden = golden.narrow(1, length - real, real)?;
                let ours = Tensor::stack(&states, 3)?.flatten_from(2)?;
                self.push(stage, &ours, &golden, GATE_NETWORK)?;
            }
            texts.push(connectors.forward(&states, length)?);
        }
        // The negative text comes first.
        texts.reverse();
        let join = |pick: fn(&Ltx2Text) -> &Tensor| -> Result<Tensor> {
            let rows: Vec<&Tensor> = texts.iter().map(pick).collect();
            Ok(Tensor::cat(&rows, 0)?)
        };
        let (video, audio) = (join(|text| &text.video)?, join(|text| &text.audio)?);
        self.compare("connectors.call0.out.0", "", &video, GATE_NETWORK)?;
        self.compare("connectors.call0.out.1", "", &audio, GATE_NETWORK)
    }

    /// A given frame, and what the network gets of it.
    fn compare_given(&mut self, pipeline: &Ltx2Pipeline, job: &Ltx2Params) -> Result<()> {
        if let Some(frames) = self.case.input("vae.encode0.in")? {
            let latents = encode(pipeline.codecs().0, &frames)?;
            self.compare("vae.encode0.out", "", &latents, GATE_RUN)?;
        }
        if let (Some(image), Some(golden)) = (
            &job.first_frame,
            self.case.tensor("transformer.call0.in.hidden_states")?,
        ) {
            let first = pipeline.encode_first(image, job, TileSide::Whole)?;
            let golden = golden.narrow(0, 0, 1)?.narrow(1, 0, first.dim(1)?)?;
            let stage = "transformer.call0.in.hidden_states of the given frame";
            self.push(stage.into(), &first, &golden, GATE_RUN)?;
        }
        if let (Some(latents), Some(golden)) = (
            &job.audio_latents,
            self.case
                .tensor("transformer.call0.in.audio_hidden_states")?,
        ) {
            let golden = golden.narrow(0, 0, 1)?;
            let stage = "transformer.call0.in.audio_hidden_states";
            self.push(stage.into(), latents, &golden, GATE_NETWORK)?;
        }
        Ok(())
    }

    /// The recorded calls of the first step on the recorded inputs.
    fn compare_ltx2_calls(&mut self, pipeline: &Ltx2Pipeline, job: &Ltx2Params) -> Result<()> {
        let mut kinds = vec![Ltx2Blindness::None];
        if job.is_guided_by_blindness() {
            kinds.push(Ltx2Blindness::Tokens(&job.blind_blocks));
        }
        if job.is_guided_by_solitude() {
            kinds.push(Ltx2Blindness::Streams);
        }
        for (call, blindness) in kinds.into_iter().enumerate() {
            let name = format!("transformer.call{call}");
            let input = |what: &str| self.case.input(&format!("{name}.in.{what}"));
            let (Some(video), Some(audio), Some(times), Some(sigma), Some(text), Some(sound_text)) = (
                input("hidden_states")?,
                input("audio_hidden_states")?,
                self.case.tensor(&format!("{name}.in.timestep"))?,
                self.case.tensor(&format!("{name}.in.sigma"))?,
                input("encoder_hidden_states")?,
                input("audio_encoder_hidden_states")?,
            ) else {
                continue;
            };
            let grid = pipeline.token_grid(job);
            // One time for each row of the batch, or for each token.
            let times = match times.dims() {
                [_, tokens] => {
                    let row = times.narrow(0, 0, 1)?.flatten_all()?.to_vec1::<f32>()?;
                    row.into_iter().step_by(tokens / grid[0].max(1)).collect()
                }
                _ => vec![first_number(&times)?],
            };
            let sigma = first_number(&sigma)?;
            let texts = (0..text.dim(0)?)
                .map(|row| {
                    Ok(Ltx2Text {
                        video: text.narrow(0, row, 1)?.contiguous()?,
                        audio: sound_text.narrow(0, row, 1)?.contiguous()?,
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            let texts: Vec<&Ltx2Text> = texts.iter().collect();
            let denoiser = pipeline.denoiser();
            let is_crossed = pipeline.is_crossed(job);
            let (video, audio) = denoiser.forward(&Ltx2Input {
                video: &video,
                audio: &audio,
                context: &denoiser.prepare_context(&texts)?,
                time: &denoiser.embed_time(&times, sigma, is_crossed, &self.case.target.device)?,
                positions: &pipeline.positions(job)?,
                blindness,
            })?;
            self.compare(&format!("{name}.out.0"), "", &video, GATE_NETWORK)?;
            self.compare(&format!("{name}.out.1"), "", &audio, GATE_NETWORK)?;
        }
        Ok(())
    }

    /// The clip through the pipeline: each step's latents, the sound and the frames.
    fn compare_clip_with_sound(
        &mut self,
        pipeline: &mut Ltx2Pipeline,
        job: &Ltx2Params,
    ) -> Result<()> {
        let mut watch = Recorder::new(1);
        pipeline.run(std::slice::from_ref(job), RunLimits::NONE, &mut watch)?;
        let grid = pipeline.token_grid(job);
        let tokens = grid.iter().product::<usize>();
        let (vae, audio_vae, _) = pipeline.codecs();
        let (channels, sound) = (vae.config().latent_channels, audio_vae.config().token());
        for (step, latents) in watch.latents[0].iter().enumerate() {
            let count = tokens * channels;
            let video = latents
                .narrow(1, 0, count)?
                .reshape((1, tokens, channels))?;
            let video = match &job.first_frame {
                // The reference steps the other frames alone, unpacked.
                Some(_) => {
                    let frames = to_frames(&video.contiguous()?, grid)?;
                    join(&[frames.narrow(0, 1, grid[0] - 1)?.contiguous()?])?
                }
                None => video,
            };
            let audio = latents.narrow(1, count, latents.dim(1)? - count)?;
            let audio = audio.reshape((1, (), sound))?;
            self.compare(&format!("step{step}.latents"), "", &video, GATE_RUN)?;
            self.compare(&format!("sched1.step{step}.latents"), "", &audio, GATE_RUN)?;
        }
        let program = pipeline.program(job)?;
        let vector = |values: &[f32]| Tensor::new(values, &Device::Cpu);
        let times = program.calls.iter().map(|call| call.timestep as f32);
        let times: Vec<f32> = times.collect();
        self.compare("timesteps", "", &vector(&times)?, 0.0)?;
        self.compare("sigmas", "", &vector(&program.sigmas)?, GATE_SIGMAS)?;
        if let Some(sound) = &watch.sounds[0] {
            let samples = sound.channels[0].len();
            let all = sound.channels.concat();
            let shape = (1, sound.channels.len(), samples);
            let ours = Tensor::from_vec(all, shape, &Device::Cpu)?;
            self.compare("out.audio", "", &ours, GATE_RUN)?;
        }
        let Some((stage, golden)) = self.case.pixels(0, 1)? else {
            return Ok(());
        };
        let ours: Vec<i64> = watch.frames.iter().flat_map(|clip| planes(clip)).collect();
        self.push_pixels(stage, &ours, &golden);
        Ok(())
    }

    /// The sound VAE and the vocoder on the recorded inputs.
    fn compare_sound(&mut self, pipeline: &Ltx2Pipeline) -> Result<()> {
        let (_, audio_vae, vocoder) = pipeline.codecs();
        if let Some(latents) = self.case.input("audio_vae.decode0.in")? {
            let spectrogram = audio_vae.decode(&latents)?;
            self.compare("audio_vae.decode0.out", "", &spectrogram, GATE_RUN)?;
        }
        if let Some(spectrogram) = self.case.input("audio_vae.decode0.out")? {
            let latents = audio_vae.encode(&spectrogram)?;
            self.compare("extra.audio_vae_encode.out", "", &latents, GATE_RUN)?;
            let samples = vocoder.forward(&spectrogram)?;
            self.compare("vocoder.call0.out", "", &samples, GATE_RUN)?;
        }
        Ok(())
    }
}
