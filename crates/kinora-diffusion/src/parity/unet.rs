//! The cases of Stable Diffusion: texts, one call of the denoiser, whole runs, the VAE.

use candle_core::{Device, Tensor};
use kinora_core::Rng;
use kinora_weights::ModelLayout;

use super::{
    Case, GATE_NETWORK, GATE_RUN, GATE_SIGMAS, Recorder, Report, StageResult, Target,
    case::ImageInput,
    first_number,
    pictures::{read_mask, read_rgb},
};
use crate::{
    Error, Result,
    denoisers::UnetInput,
    pipelines::{
        FluxOptions, ImageParams, PretendedSizes, RunLimits, RunWatch, SdOptions, SdPipeline,
        SdxlPipeline, SourceImage,
        unet::{UnetStage, guidance::guide_evenly},
    },
    text::Chunks,
    vae::Tiling,
};

/// A pipeline of the family.
pub(super) enum Model {
    Sd(Box<SdPipeline>),
    Sdxl(Box<SdxlPipeline>),
}

impl Model {
    /// Loads it.
    pub(super) fn open(layout: &ModelLayout, target: &Target) -> Result<Self> {
        let (device, dtype, on_load) = (&target.device, target.dtype, &mut |_| {});
        Ok(if layout.sd().is_some_and(|parts| parts.clip_2.is_some()) {
            let pipeline = SdxlPipeline::open(layout, device, dtype, on_load)?;
            Self::Sdxl(Box::new(pipeline))
        } else {
            Self::Sd(Box::new(SdPipeline::open(layout, device, dtype, on_load)?))
        })
    }

    fn stage(&self) -> &UnetStage {
        match self {
            Self::Sd(pipeline) => pipeline.stage(),
            Self::Sdxl(pipeline) => pipeline.stage(),
        }
    }

    pub(super) fn run(&mut self, jobs: &[ImageParams], watch: &mut dyn RunWatch) -> Result<()> {
        match self {
            Self::Sd(pipeline) => pipeline.run(jobs, RunLimits::NONE, watch),
            Self::Sdxl(pipeline) => pipeline.run(jobs, RunLimits::NONE, watch),
        }
        .map(drop)
    }
}

/// Runs a case of Stable Diffusion.
pub(super) fn run(case: Case, layout: &ModelLayout) -> Result<Vec<StageResult>> {
    let target = case.target.clone();
    let is_xl = layout.sd().is_some_and(|parts| parts.clip_2.is_some());
    let mut model = Model::open(layout, &target)?;
    let jobs = read_jobs(&case, is_xl)?;
    let mut report = Report {
        case,
        results: Vec::new(),
    };
    match &model {
        Model::Sd(pipeline) => report.compare_sd_texts(pipeline, &jobs)?,
        Model::Sdxl(pipeline) => report.compare_sdxl_texts(pipeline, &jobs)?,
    }
    report.compare_unet_call(model.stage(), &jobs)?;
    report.compare_unet_run(&mut model, &jobs)?;
    report.compare_rows_alone(&mut model, &jobs)?;
    report.compare_kl_vae(model.stage())?;
    report.finish()
}

/// The recorded call as jobs.
pub(super) fn read_jobs(case: &Case, is_xl: bool) -> Result<Vec<ImageParams>> {
    let inputs = case.inputs();
    let fault = |reason: &str| Error::bad_weights(case.path(), reason);
    let prompts = inputs.prompt.list();
    let tensor = |name: &str| {
        case.tensor(name)?
            .ok_or_else(|| fault("its latents are missing"))
    };
    let (image, latents) = match (&inputs.image, &inputs.latents) {
        (Some(ImageInput::File(file)), _) => (Some(read_rgb(case, file)?), None),
        (Some(ImageInput::Latents(latents)), _) | (None, Some(latents)) => {
            (None, Some(tensor(&latents.tensor)?))
        }
        (Some(ImageInput::Files(_)), _) => {
            return Err(fault("several pictures are not known here"));
        }
        (None, None) => (None, None),
    };
    if latents.is_none() && prompts.len() != 1 {
        return Err(fault(
            "several pictures out of one generator are not known here",
        ));
    }
    let mask = inputs
        .mask_image
        .as_ref()
        .map(|file| read_mask(case, file))
        .transpose()?;
    let (mut width, mut height) = (inputs.width, inputs.height);
    if width == 0 {
        (width, height) = match (&image, &latents) {
            (Some(image), _) => (image.width, image.height),
            (None, Some(latents)) => {
                let (_, _, rows, columns) = latents.dims4()?;
                (8 * columns as u32, 8 * rows as u32)
            }
            (None, None) => return Err(fault("it does not tell the size")),
        };
    }
    let sizes = |original: Option<(u32, u32)>, crop: Option<(u32, u32)>, target| {
        (original.is_some() || crop.is_some()).then(|| PretendedSizes {
            original: original.unwrap_or((height, width)),
            crop: crop.unwrap_or((0, 0)),
            target: Option::unwrap_or(target, (height, width)),
        })
    };
    let default_scale = if is_xl { 5.0 } else { 7.5 };
    let default_strength = match (case.pipeline().contains("Inpaint"), is_xl) {
        (true, true) => 0.9999,
        (true, false) => 1.0,
        (false, true) => 0.3,
        (false, false) => 0.8,
    };
    (0..prompts.len())
        .map(|row| {
            let negative = inputs.negative_prompt.as_ref();
            let negative = negative.and_then(|texts| texts.of_row(row));
            Ok(ImageParams {
                prompt: prompts[row].clone(),
                negative_prompt: negative.cloned().unwrap_or_default(),
                width,
                height,
                steps: inputs.num_inference_steps,
                guidance: None,
                true_cfg: Some(inputs.guidance_scale.unwrap_or(default_scale)),
                seed: inputs.generator_seed.unwrap_or(0),
                rng: Rng::Cpu,
                text_tokens: 77,
                latents: latents
                    .as_ref()
                    .map(|latents| latents.narrow(0, row, 1))
                    .transpose()?,
                sampler: None,
                source: image.clone().map(|image| SourceImage {
                    image,
                    strength: inputs.strength.unwrap_or(default_strength),
                    mask: mask.clone(),
                }),
                flux: FluxOptions::default(),
                sd: SdOptions {
                    guidance_rescale: inputs.guidance_rescale.unwrap_or(0.0),
                    clip_skip: inputs.clip_skip.unwrap_or(0),
                    sizes: sizes(
                        inputs.original_size,
                        inputs.crops_coords_top_left,
                        inputs.target_size,
                    ),
                    negative_sizes: sizes(
                        inputs.negative_original_size,
                        inputs.negative_crops_coords_top_left,
                        inputs.negative_target_size,
                    ),
                    aesthetic_scores: inputs.aesthetic_score.zip(inputs.negative_aesthetic_score),
                    begins_at: inputs.denoising_start,
                    ends_at: inputs.denoising_end,
                    changes: Vec::new(),
                },
            })
        })
        .collect()
}

/// Prompts, then negative prompts where the run is guided.
fn lists_of_texts(jobs: &[ImageParams]) -> Vec<Vec<&str>> {
    let positive = jobs.iter().map(|job| job.prompt.as_str()).collect();
    let negative: Vec<&str> = jobs
        .iter()
        .filter(|job| job.active_cfg().is_some())
        .map(|job| job.negative_prompt.as_str())
        .collect();
    let mut lists: Vec<Vec<&str>> = vec![positive];
    if !negative.is_empty() {
        lists.push(negative);
    }
    lists
}

fn ids<'a>(chunks: impl Iterator<Item = &'a Chunks>) -> Vec<i64> {
    chunks
        .flat_map(|chunks| chunks.ids.concat())
        .map(i64::from)
        .collect()
}

impl Report {
    /// Token ids and states of the one encoder.
    fn compare_sd_texts(&mut self, pipeline: &SdPipeline, jobs: &[ImageParams]) -> Result<()> {
        let clip_skip = jobs.first().map_or(0, |job| job.sd.clip_skip);
        for (call, texts) in lists_of_texts(jobs).iter().enumerate() {
            let clip_skip = if call == 0 { clip_skip } else { 0 };
            let chunks = texts
                .iter()
                .map(|text| pipeline.tokenize(text))
                .collect::<Result<Vec<_>>>()?;
            let stage = format!("text_encoder.call{call}");
            self.compare_integers(&format!("{stage}.in.input_ids"), "", &ids(chunks.iter()), 0)?;
            let plain = chunks
                .iter()
                .map(|chunks| Ok(pipeline.clip()?.forward(&chunks.ids)?.last))
                .collect::<Result<Vec<_>>>()?;
            let states = chunks
                .iter()
                .map(|chunks| pipeline.encode_chunks(chunks, clip_skip))
                .collect::<Result<Vec<_>>>()?;
            let plain = Tensor::cat(&plain, 0)?;
            self.compare(
                &format!("{stage}.last_hidden_state"),
                "",
                &plain,
                GATE_NETWORK,
            )?;
            let states = Tensor::cat(&states, 0)?;
            self.compare(&format!("encode_prompt.{call}"), "", &states, GATE_NETWORK)?;
        }
        Ok(())
    }

    /// Token ids and states of both encoders, and the pooled state.
    fn compare_sdxl_texts(&mut self, pipeline: &SdxlPipeline, jobs: &[ImageParams]) -> Result<()> {
        let clip_skip = jobs.first().map_or(0, |job| job.sd.clip_skip);
        let (first, second) = pipeline.encoders()?;
        let lists = lists_of_texts(jobs);
        for (call, texts) in lists.iter().enumerate() {
            let clip_skip = if call == 0 { clip_skip } else { 0 };
            // No negative prompt is zeros; nothing was encoded.
            if texts.iter().all(|text| text.is_empty()) {
                continue;
            }
            let chunks = texts
                .iter()
                .map(|text| pipeline.tokenize(text))
                .collect::<Result<Vec<_>>>()?;
            let firsts = chunks.iter().filter_map(|(first, _)| first.as_ref());
            let seconds = chunks.iter().map(|(_, second)| second);
            let stage = |encoder: &str, what: &str| format!("{encoder}.call{call}.{what}");
            let names = ["text_encoder", "text_encoder_2"];
            let sides = [ids(firsts.clone()), ids(seconds.clone())];
            for (name, list) in names
                .iter()
                .zip(&sides)
                .filter(|(_, list)| !list.is_empty())
            {
                self.compare_integers(&stage(name, "in.input_ids"), "", list, 0)?;
            }
            if let Some(first) = first {
                let ids: Vec<Vec<u32>> = firsts.flat_map(|chunks| chunks.ids.clone()).collect();
                let states = first.forward(&ids)?;
                let name = stage("text_encoder", "hidden_states.-2");
                self.compare(&name, "", &states.penultimate, GATE_NETWORK)?;
            }
            let ids: Vec<Vec<u32>> = seconds.flat_map(|chunks| chunks.ids.clone()).collect();
            let states = second.forward(&ids)?;
            let name = stage("text_encoder_2", "hidden_states.-2");
            self.compare(&name, "", &states.penultimate, GATE_NETWORK)?;
            if let Some(projected) = &states.projected {
                let name = stage("text_encoder_2", "text_embeds");
                self.compare(&name, "", projected, GATE_NETWORK)?;
            }
            let encoded = chunks
                .iter()
                .map(|chunks| pipeline.encode_chunks(chunks, clip_skip))
                .collect::<Result<Vec<_>>>()?;
            let tokens: Vec<&Tensor> = encoded.iter().map(|text| &text.tokens).collect();
            let pooled: Vec<&Tensor> = encoded.iter().map(|text| &text.pooled).collect();
            let tokens = Tensor::cat(&tokens, 0)?;
            self.compare(&format!("encode_prompt.{call}"), "", &tokens, GATE_NETWORK)?;
            let pooled = Tensor::cat(&pooled, 0)?;
            let name = format!("encode_prompt.{}", lists.len() + call);
            self.compare(&name, "", &pooled, GATE_NETWORK)?;
        }
        Ok(())
    }

    /// The first call on the recorded inputs, and the guided result.
    fn compare_unet_call(&mut self, stage: &UnetStage, jobs: &[ImageParams]) -> Result<()> {
        let input = |name: &str| self.case.input(&format!("unet.call0.in.{name}"));
        let (Some(latents), Some(tokens), Some(timestep)) = (
            input("sample")?,
            input("encoder_hidden_states")?,
            self.case.tensor("unet.call0.in.timestep")?,
        ) else {
            return Ok(());
        };
        let added = (
            input("added_cond_kwargs.text_embeds")?,
            self.case
                .tensor("unet.call0.in.added_cond_kwargs.time_ids")?,
        );
        let unet = stage.unet();
        let described = match added {
            (Some(pooled), Some(sizes)) => Some(unet.describe(&pooled, &sizes.to_vec2::<f32>()?)?),
            _ => None,
        };
        let text = unet.prepare(&tokens, described.as_ref())?;
        let output = unet.forward(&UnetInput {
            latents: &latents,
            timestep: first_number(&timestep)?,
            text: &text,
        })?;
        self.compare("unet.call0.out", "", &output, GATE_NETWORK)?;
        let rows = jobs.len();
        let guided = match jobs.first().and_then(ImageParams::active_cfg) {
            Some(scale) => {
                let (without, with) = (output.narrow(0, 0, rows)?, output.narrow(0, rows, rows)?);
                guide_evenly(&with, &without, scale, jobs[0].sd.guidance_rescale)?
            }
            None => output,
        };
        self.compare("step0.model_output", "", &guided, GATE_RUN)
    }

    /// The whole batch through the pipeline: every call's latents, and the pictures.
    fn compare_unet_run(&mut self, model: &mut Model, jobs: &[ImageParams]) -> Result<()> {
        let mut watch = Recorder::new(jobs.len());
        model.run(jobs, &mut watch)?;
        // The reference tells latents before it puts the source back into them.
        let is_put_back = jobs.iter().any(|job| {
            job.source
                .as_ref()
                .is_some_and(|source| source.mask.is_some())
        }) && model.stage().unet().config().in_channels == 4;
        let calls = watch.latents.iter().map(Vec::len).min().unwrap_or(0);
        let mut last = None;
        for call in 0..calls {
            let rows: Vec<&Tensor> = watch.latents.iter().map(|row| &row[call]).collect();
            let latents = Tensor::cat(&rows, 0)?;
            if !is_put_back {
                self.compare(&format!("step{call}.latents"), "", &latents, GATE_RUN)?;
            }
            last = Some(latents);
        }
        if self.case.tensor(&format!("step{calls}.latents"))?.is_some() {
            let reason = format!("the run ended after {calls} calls, the recording goes on");
            return Err(Error::BadRequest(reason));
        }
        if let Some(last) = last {
            let ours = model.stage().vae().unscale(&last)?;
            self.compare("vae.decode0.in", "", &ours, GATE_RUN)?;
        }
        if let Some(first) = jobs.first() {
            self.compare_program(model.stage(), first)?;
        }
        self.compare_pixels("", &watch.images, 0)
    }

    /// The end of the recorded lists: they hold what a run from a picture leaves out.
    fn compare_program(&mut self, stage: &UnetStage, job: &ImageParams) -> Result<()> {
        let program = stage.program(job)?;
        let timesteps: Vec<f32> = program
            .calls
            .iter()
            .map(|call| call.timestep as f32)
            .collect();
        // Whole ones are exact; others come from levels, whose roots and logarithms depend on the build.
        let is_whole = timesteps.iter().all(|time| time.fract() == 0.0);
        let gate = if is_whole { 0.0 } else { GATE_SIGMAS };
        for (name, ours, gate) in [
            ("timesteps", timesteps, gate),
            ("sigmas", program.sigmas.clone(), GATE_SIGMAS),
        ] {
            let Some(golden) = self.case.tensor(name)? else {
                continue;
            };
            // Rules without a list of levels have none to compare.
            let Some(skipped) = golden
                .dim(0)?
                .checked_sub(ours.len())
                .filter(|_| !ours.is_empty())
            else {
                continue;
            };
            let golden = golden.narrow(0, skipped, ours.len())?;
            let ours = Tensor::new(ours, &Device::Cpu)?;
            self.push(name.to_owned(), &ours, &golden, gate)?;
        }
        Ok(())
    }

    /// Each picture made alone is the same as in its batch.
    fn compare_rows_alone(&mut self, model: &mut Model, jobs: &[ImageParams]) -> Result<()> {
        if jobs.len() < 2 {
            return Ok(());
        }
        for (i, job) in jobs.iter().enumerate() {
            let mut watch = Recorder::new(1);
            model.run(std::slice::from_ref(job), &mut watch)?;
            let Some(call) = watch.latents[0].len().checked_sub(1) else {
                continue;
            };
            let stage = format!("step{call}.latents");
            if let Some(golden) = self.case.tensor(&stage)? {
                let (golden, ours) = (golden.narrow(0, i, 1)?, &watch.latents[0][call]);
                self.push(format!("{stage} (row {i} alone)"), ours, &golden, GATE_RUN)?;
            }
            self.compare_pixels(&format!(" (row {i} alone)"), &watch.images, i)?;
        }
        Ok(())
    }

    /// Decoder and encoder on the recorded inputs.
    fn compare_kl_vae(&mut self, stage: &UnetStage) -> Result<()> {
        let vae = stage.vae();
        for i in 0..2 {
            if let Some(pixels) = self.case.input(&format!("vae.encode{i}.in"))? {
                let latents = vae.encode(&pixels)?;
                self.compare(&format!("vae.encode{i}.out"), "", &latents, GATE_RUN)?;
            }
        }
        if let Some(latents) = self.case.input("vae.decode0.in")? {
            let pixels = vae.decode(&latents, Tiling::Whole)?;
            self.compare("vae.decode0.out", "", &pixels, GATE_RUN)?;
        }
        if let Some(pixels) = self.case.input("vae.decode0.out")? {
            let latents = vae.encode(&pixels)?;
            self.compare("extra.vae_encode.out", "", &latents, GATE_RUN)?;
        }
        Ok(())
    }
}
