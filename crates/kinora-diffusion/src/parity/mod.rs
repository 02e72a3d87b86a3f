//! Holds the shipping pipeline to a recording of the reference library, stage by stage.
//!
//! A case folder holds a tiny model (`model/`), every stage's tensors (`golden.safetensors`) and
//! what was called with what (`case.json`). [`run`] takes the model through the ordinary pipeline
//! and reports each stage's distance. A folder of scheduler configurations has no model: an
//! analytic one drives each. It knows nothing about particular cases.

mod case;
mod ltx;
mod ltx2;
mod pictures;
mod redux;
mod replay;
mod schedulers;
mod unet;
mod wan;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use kinora_core::Stage;
use kinora_weights::FluxKind;

use self::case::Case;
pub use self::replay::Replay;
use crate::{
    Error, Result,
    denoisers::FluxInput,
    pipelines::{
        Checkpoint, FluxPipeline, ImageParams, RgbImage, RunLimits, RunWatch, Sound,
        flux::rows::Conditioning,
        packing::{pack, unpack},
    },
    vae::Tiling,
};

/// Gate of text encoders and of one denoiser call: f32 with room for another order of additions.
const GATE_NETWORK: f64 = 1e-4;
/// Gate of what many calls add up to.
const GATE_RUN: f64 = 1e-3;
/// Gate of noise levels, relative.
const GATE_SIGMAS: f64 = 1e-6;
/// Gate of a network that computes in numbers of 16 bits: of the mean distance, not of the furthest
/// element's, for single elements lose all their digits where large numbers cancel.
const GATE_NETWORK_HALVES: f64 = 2e-2;
/// The same of what guidance multiplies and many calls add up to.
const GATE_RUN_HALVES: f64 = 1e-1;
/// What 8-bit pictures may differ by after numbers of 16 bits: root of the mean square.
const PIXELS_HALVES: f64 = 6.0;

/// What a case is computed on and in.
#[derive(Clone, Debug)]
pub struct Target {
    /// Device of weights and activations.
    pub device: Device,
    /// Number format of weights and activations.
    pub dtype: DType,
}

impl Target {
    /// The processor in f32: the tightest gates.
    pub const PROCESSOR: Self = Self {
        device: Device::Cpu,
        dtype: DType::F32,
    };

    fn has_halves(&self) -> bool {
        self.dtype != DType::F32
    }
}

/// How far one stage is from the recording.
#[derive(Clone, Debug, PartialEq)]
pub struct StageResult {
    /// Name of the recorded tensor, with what was done where that is not clear from it.
    pub stage: String,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// The same against the standard deviation of the recording; in numbers of 16 bits the mean
    /// distance (root of the mean square) against it.
    pub relative: f64,
    /// What `relative` may be (for whole numbers: what `max_abs` may be).
    pub gate: f64,
    /// Whether it is within the gate.
    pub pass: bool,
}

/// Runs a case on the processor in f32.
pub fn run(case_dir: &Path) -> Result<Vec<StageResult>> {
    run_on(case_dir, &Target::PROCESSOR)
}

/// Runs a case on a device in a number format. Lists of levels are worked out on the processor
/// wherever the networks are.
pub fn run_on(case_dir: &Path, target: &Target) -> Result<Vec<StageResult>> {
    if let Some(schedulers) = schedulers::open(case_dir)? {
        return schedulers.compare();
    }
    let case = Case::open(case_dir, target)?;
    if kinora_weights::wan::CLASSES.contains(&case.description.pipeline.as_str()) {
        return wan::compare(case);
    }
    if kinora_weights::ltx::CLASSES.contains(&case.description.pipeline.as_str()) {
        return ltx::compare(case);
    }
    if kinora_weights::ltx2::CLASSES.contains(&case.description.pipeline.as_str()) {
        return ltx2::compare(case);
    }
    let layout = kinora_weights::detect(&case_dir.join("model"))?;
    if layout.sd().is_some() {
        return unet::run(case, &layout);
    }
    let mut pipeline = FluxPipeline::open(&layout, &target.device, target.dtype, &mut |_| {})?;
    let mut report = Report {
        case,
        results: Vec::new(),
    };
    let jobs = report.case.jobs(pipeline.parts().vae.latent_channels)?;
    match pipeline.redux() {
        Some(redux) => report.compare_likes(&pipeline, redux, &jobs)?,
        None => report.compare_texts(&pipeline, &jobs)?,
    }
    report.compare_calls(&pipeline, &jobs)?;
    report.compare_run(&mut pipeline, &jobs)?;
    report.compare_alone(&mut pipeline, &jobs)?;
    report.compare_vae(&pipeline, &jobs)?;
    report.finish()
}

struct Report {
    case: Case,
    results: Vec<StageResult>,
}

impl Report {
    fn finish(self) -> Result<Vec<StageResult>> {
        if self.results.is_empty() {
            let reason = "the case holds no stage that is known here";
            return Err(Error::bad_weights(self.case.path(), reason));
        }
        Ok(self.results)
    }

    /// Compares where the case recorded the stage.
    fn compare(&mut self, stage: &str, label: &str, ours: &Tensor, gate: f64) -> Result<()> {
        let Some(golden) = self.case.tensor(stage)? else {
            return Ok(());
        };
        self.push(format!("{stage}{label}"), ours, &golden, gate)
    }

    fn push(&mut self, stage: String, ours: &Tensor, golden: &Tensor, gate: f64) -> Result<()> {
        if ours.dims() != golden.dims() {
            return Err(Error::Shape(format!(
                "{stage} has the shape {:?}, recorded was {:?}",
                ours.dims(),
                golden.dims()
            )));
        }
        let is_half = |tensor: &Tensor| matches!(tensor.dtype(), DType::BF16 | DType::F16);
        let has_halves = is_half(ours) || (self.case.target.has_halves() && gate >= GATE_NETWORK);
        let gate = if has_halves {
            match gate >= GATE_RUN {
                true => GATE_RUN_HALVES,
                false => GATE_NETWORK_HALVES,
            }
        } else if !ours.device().is_cpu() {
            // Sums are taken in another order for another number of rows.
            gate.max(GATE_NETWORK)
        } else {
            gate
        };
        let numbers = |tensor: &Tensor| -> Result<Vec<f64>> {
            Ok(tensor
                .to_device(&Device::Cpu)?
                .to_dtype(DType::F64)?
                .flatten_all()?
                .to_vec1::<f64>()?)
        };
        let (ours, golden) = (numbers(ours)?, numbers(golden)?);
        let mut result = measure(stage, &ours, &golden, gate);
        if has_halves {
            result.relative = mean_distance(&ours, &golden) / deviation(&golden).max(1e-8);
            // A NaN is no small number.
            result.pass = result.relative <= gate;
        }
        self.results.push(result);
        Ok(())
    }

    /// Whole numbers: `gate` is what they may differ by.
    fn compare_integers(
        &mut self,
        stage: &str,
        label: &str,
        ours: &[i64],
        gate: i64,
    ) -> Result<()> {
        let Some(golden) = self.case.integers(stage)? else {
            return Ok(());
        };
        let distance = |(a, b): (&i64, &i64)| (a - b).abs();
        let furthest = ours.iter().zip(&golden).map(distance).max().unwrap_or(0);
        let pass = ours.len() == golden.len() && furthest <= gate;
        self.results.push(StageResult {
            stage: format!("{stage}{label}"),
            max_abs: furthest as f64,
            relative: furthest as f64,
            gate: gate as f64,
            pass,
        });
        Ok(())
    }

    /// Token ids and encoder outputs.
    fn compare_texts(&mut self, pipeline: &FluxPipeline, jobs: &[ImageParams]) -> Result<()> {
        let (clip, t5) = pipeline.encoders()?;
        let negatives = jobs.iter().all(|job| job.true_cfg.is_some());
        for (call, texts) in [
            Some(jobs.iter().map(|job| &job.prompt).collect::<Vec<_>>()),
            negatives.then(|| jobs.iter().map(|job| &job.negative_prompt).collect()),
        ]
        .into_iter()
        .flatten()
        .enumerate()
        {
            let tokens = texts
                .iter()
                .zip(jobs)
                .map(|(text, job)| pipeline.tokenize(text, job.text_tokens))
                .collect::<Result<Vec<_>>>()?;
            let (clip_ids, t5_ids): (Vec<_>, Vec<_>) = tokens.into_iter().unzip();
            for (encoder, ids) in [("text_encoder", &clip_ids), ("text_encoder_2", &t5_ids)] {
                let ids: Vec<i64> = ids.iter().flatten().map(|id| i64::from(*id)).collect();
                self.compare_integers(&format!("{encoder}.call{call}.in.input_ids"), "", &ids, 0)?;
            }
            let short = clip.forward(&clip_ids)?;
            let long = t5.forward(&t5_ids, None)?;
            let prompt = if call == 0 {
                "encode_prompt".into()
            } else {
                format!("encode_prompt{call}")
            };
            for (stage, ours) in [
                (
                    format!("text_encoder.call{call}.last_hidden_state"),
                    &short.last,
                ),
                (
                    format!("text_encoder.call{call}.hidden_states.-2"),
                    &short.penultimate,
                ),
                (
                    format!("text_encoder.call{call}.pooler_output"),
                    &short.pooled,
                ),
                (
                    format!("text_encoder_2.call{call}.last_hidden_state"),
                    &long,
                ),
                (format!("{prompt}.0"), &long),
                (format!("{prompt}.1"), &short.pooled),
            ] {
                self.compare(&stage, "", ours, GATE_NETWORK)?;
            }
        }
        Ok(())
    }

    /// The first step's denoiser calls on the recorded inputs, and the guided result.
    fn compare_calls(&mut self, pipeline: &FluxPipeline, jobs: &[ImageParams]) -> Result<()> {
        let input = |name: &str| self.case.input(&format!("transformer.call0.in.{name}"));
        let (Some(latents), Some(text), Some(pooled), Some(timestep)) = (
            input("hidden_states")?,
            input("encoder_hidden_states")?,
            input("pooled_projections")?,
            self.case.tensor("transformer.call0.in.timestep")?,
        ) else {
            return Ok(());
        };
        let Some(first) = jobs.first() else {
            return Ok(());
        };
        // What the pipeline puts together for the first call is what the reference did.
        let ours = jobs
            .iter()
            .map(|job| pipeline.first_input(job))
            .collect::<Result<Vec<_>>>()?;
        let ours = Tensor::cat(&ours, 0)?;
        self.compare("transformer.call0.in.hidden_states", "", &ours, GATE_RUN)?;
        let step = pipeline.size_step();
        let count = (first.height / step * (first.width / step)) as usize;
        let ropes = pipeline.positions(first)?;
        let timestep = first_number(&timestep)? * 1000.0;
        let guidance: Vec<f32> = jobs.iter().filter_map(|job| job.guidance).collect();
        let call = |text: &Conditioning, rope| {
            pipeline.denoiser().forward(&FluxInput {
                latents: &latents,
                text: &text.tokens,
                pooled: &text.pooled,
                timestep,
                guidance: &guidance,
                rope,
            })
        };
        let text = Conditioning {
            tokens: text,
            pooled,
        };
        let positive = call(&text, &ropes.positive)?;
        let recorded = (
            self.case.input("encode_prompt1.0")?,
            self.case.input("encode_prompt1.1")?,
        );
        let (Some(scale), (Some(tokens), Some(pooled))) = (first.active_cfg(), recorded) else {
            self.compare("transformer.call0.out", "", &positive, GATE_NETWORK)?;
            let velocity = positive.narrow(1, 0, count)?;
            return self.compare("step0.model_output", "", &velocity, GATE_NETWORK);
        };
        let negative = call(&Conditioning { tokens, pooled }, ropes.negative())?;
        self.compare("transformer.call0.out", "", &positive, GATE_NETWORK)?;
        self.compare("transformer.call1.out", "", &negative, GATE_NETWORK)?;
        let guided = (&negative + ((positive - &negative)? * f64::from(scale))?)?;
        let guided = guided.narrow(1, 0, count)?;
        self.compare("step0.model_output", "", &guided, GATE_RUN)
    }

    /// The whole batch through the pipeline: every step's latents, and the pictures.
    fn compare_run(&mut self, pipeline: &mut FluxPipeline, jobs: &[ImageParams]) -> Result<()> {
        let mut watch = Recorder::new(jobs.len());
        pipeline.run(jobs, RunLimits::NONE, &mut watch)?;
        let is_put_back = is_put_back(pipeline, jobs);
        for step in 0..steps_of(pipeline, jobs)? {
            let rows: Vec<Tensor> = watch
                .latents
                .iter()
                .map(|row| row.get(step).cloned())
                .collect::<Option<_>>()
                .ok_or_else(|| Error::BadRequest("a step of the run is missing".into()))?;
            let latents = Tensor::cat(&rows, 0)?;
            // The reference's step ends before the source is put back.
            let stage = match is_put_back {
                true => format!("transformer.call{}.in.hidden_states", step + 1),
                false => format!("step{step}.latents"),
            };
            self.compare(&stage, "", &latents, GATE_RUN)?;
            if let (true, Some(first)) = (step + 1 == steps_of(pipeline, jobs)?, jobs.first()) {
                let size = pipeline.size_step();
                let grid = (first.height / size, first.width / size);
                let latents = unpack(&latents, grid.0 as usize, grid.1 as usize)?;
                let ours = pipeline.vae().unscale(&latents)?;
                self.compare("vae.decode0.in", " (ours)", &ours, GATE_RUN)?;
            }
        }
        self.compare_schedule(pipeline, jobs)?;
        self.compare_pixels("", &watch.images, 0)
    }

    fn compare_schedule(&mut self, pipeline: &FluxPipeline, jobs: &[ImageParams]) -> Result<()> {
        let Some(first) = jobs.first() else {
            return Ok(());
        };
        // The whole schedule, whichever step the run begins with.
        let program = pipeline.program(&ImageParams {
            source: None,
            ..first.clone()
        })?;
        let vector = |values: &[f32]| Tensor::new(values, &Device::Cpu);
        let timesteps: Vec<f32> = program
            .calls
            .iter()
            .map(|call| call.timestep as f32)
            .collect();
        self.compare("timesteps", "", &vector(&timesteps)?, 0.0)?;
        self.compare("sigmas", "", &vector(&program.sigmas)?, GATE_SIGMAS)
    }

    /// Each picture made alone is the same as in its batch.
    fn compare_alone(&mut self, pipeline: &mut FluxPipeline, jobs: &[ImageParams]) -> Result<()> {
        for (i, job) in jobs.iter().enumerate() {
            let mut watch = Recorder::new(1);
            pipeline.run(std::slice::from_ref(job), RunLimits::NONE, &mut watch)?;
            let Some(latents) = watch.latents[0].last() else {
                continue;
            };
            let stage = format!("step{}.latents", steps_of(pipeline, jobs)? - 1);
            if !is_put_back(pipeline, jobs)
                && let Some(golden) = self.case.tensor(&stage)?
            {
                let golden = golden.narrow(0, i, 1)?;
                self.push(
                    format!("{stage} (row {i} alone)"),
                    latents,
                    &golden,
                    GATE_RUN,
                )?;
            }
            self.compare_pixels(&format!(" (row {i} alone)"), &watch.images, i)?;
        }
        Ok(())
    }

    /// 8-bit pictures from row `first` on against the recorded ones.
    fn compare_pixels(
        &mut self,
        label: &str,
        images: &[Option<RgbImage>],
        first: usize,
    ) -> Result<()> {
        let Some((stage, golden)) = self.case.pixels(first, images.len())? else {
            return Ok(());
        };
        let ours: Vec<i64> = images
            .iter()
            .flatten()
            .flat_map(|image| (0..3).flat_map(|channel| image.rgb.iter().skip(channel).step_by(3)))
            .map(|value| i64::from(*value))
            .collect();
        self.push_pixels(format!("{stage}{label}"), &ours, &golden);
        Ok(())
    }

    /// 8-bit values: ± 1, and in numbers of 16 bits the mean distance.
    fn push_pixels(&mut self, stage: String, ours: &[i64], golden: &[i64]) {
        let distance = |(a, b): (&i64, &i64)| (a - b).abs();
        let furthest = ours.iter().zip(golden).map(distance).max().unwrap_or(0) as f64;
        let (relative, gate) = if self.case.target.has_halves() {
            let wide = |values: &[i64]| -> Vec<f64> { values.iter().map(|v| *v as f64).collect() };
            (mean_distance(&wide(ours), &wide(golden)), PIXELS_HALVES)
        } else {
            (furthest, 1.0)
        };
        self.results.push(StageResult {
            stage,
            max_abs: furthest,
            relative,
            gate,
            pass: ours.len() == golden.len() && relative <= gate,
        });
    }

    /// Decoder and encoder on the recorded inputs; the way from packed latents to the decoder.
    fn compare_vae(&mut self, pipeline: &FluxPipeline, jobs: &[ImageParams]) -> Result<()> {
        let last = steps_of(pipeline, jobs)? as i64 - 1;
        if let (Some(first), Some(packed), false) = (
            jobs.first(),
            self.case.tensor(&format!("step{last}.latents"))?,
            is_put_back(pipeline, jobs),
        ) {
            let step = pipeline.size_step();
            let (rows, columns) = (first.height / step, first.width / step);
            let latents = unpack(&packed, rows as usize, columns as usize)?;
            let ours = pipeline.vae().unscale(&latents)?;
            self.compare("vae.decode0.in", "", &ours, GATE_SIGMAS)?;
        }
        if let Some(latents) = self.case.input("vae.decode0.in")? {
            let pixels = pipeline.vae().decode(&latents, Tiling::Whole)?;
            self.compare("vae.decode0.out", "", &pixels, GATE_RUN)?;
        }
        for call in 0..3 {
            if let Some(pixels) = self.case.input(&format!("vae.encode{call}.in"))? {
                let latents = pipeline.vae().encode(&pixels)?;
                self.compare(&format!("vae.encode{call}.out"), "", &latents, GATE_RUN)?;
            }
        }
        if let Some(pixels) = self.case.input("vae.decode0.out")? {
            let latents = pipeline.vae().encode(&pixels)?;
            self.compare("extra.vae_encode.out", "", &latents, GATE_RUN)?;
        }
        Ok(())
    }
}

/// Steps that a run takes; with a source they are fewer than were asked.
fn steps_of(pipeline: &FluxPipeline, jobs: &[ImageParams]) -> Result<usize> {
    let program = jobs.first().map(|job| pipeline.program(job)).transpose()?;
    Ok(program.map_or(0, |program| program.calls.len()))
}

/// Whether what a mask leaves of a source is put back after every step.
fn is_put_back(pipeline: &FluxPipeline, jobs: &[ImageParams]) -> bool {
    let mask = jobs
        .first()
        .and_then(|job| job.source.as_ref()?.mask.as_ref());
    mask.is_some() && pipeline.parts().kind == FluxKind::Text
}

/// The distance of as many numbers as were recorded.
fn measure(stage: String, ours: &[f64], golden: &[f64], gate: f64) -> StageResult {
    let mut max_abs = if ours.len() == golden.len() {
        0f64
    } else {
        f64::INFINITY
    };
    for (a, b) in ours.iter().zip(golden) {
        let difference = (a - b).abs();
        // A NaN is as far away as can be.
        max_abs = max_abs.max(if difference.is_nan() {
            f64::INFINITY
        } else {
            difference
        });
    }
    let relative = max_abs / deviation(golden).max(1e-8);
    StageResult {
        stage,
        max_abs,
        relative,
        gate,
        pass: relative <= gate,
    }
}

/// Root of the mean square of the differences; infinite for lists of different lengths.
fn mean_distance(ours: &[f64], golden: &[f64]) -> f64 {
    if ours.len() != golden.len() {
        return f64::INFINITY;
    }
    let square = |(a, b): (&f64, &f64)| (a - b).powi(2);
    let sum: f64 = ours.iter().zip(golden).map(square).sum();
    (sum / ours.len().max(1) as f64).sqrt()
}

/// The first number of a recorded tensor.
fn first_number(tensor: &Tensor) -> Result<f32> {
    Ok(tensor.flatten_all()?.get(0)?.to_scalar::<f32>()?)
}

fn deviation(values: &[f64]) -> f64 {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / count)
        .sqrt()
}

/// Keeps every step's latents, and every picture, frame or sound.
struct Recorder {
    latents: Vec<Vec<Tensor>>,
    images: Vec<Option<RgbImage>>,
    frames: Vec<Vec<RgbImage>>,
    sounds: Vec<Option<Sound>>,
}

impl Recorder {
    fn new(jobs: usize) -> Self {
        Self {
            latents: vec![Vec::new(); jobs],
            images: vec![None; jobs],
            frames: vec![Vec::new(); jobs],
            sounds: vec![None; jobs],
        }
    }
}

impl RunWatch for Recorder {
    fn stage(&mut self, _: usize, _: Stage, _: u32, _: u32) {}

    fn is_cancelled(&mut self, _: usize) -> bool {
        false
    }

    fn resume(&mut self, _: usize) -> Option<Checkpoint> {
        None
    }

    fn wants_checkpoint(&mut self, _: usize) -> bool {
        true
    }

    fn checkpoint(&mut self, job: usize, checkpoint: &Checkpoint) -> Result<()> {
        let state = &checkpoint.state;
        let latents = Tensor::from_slice(&state.latents, state.shape.as_slice(), &Device::Cpu)?;
        self.latents[job].push(latents);
        Ok(())
    }

    fn wants_preview(&mut self, _: usize) -> bool {
        true
    }

    fn preview(&mut self, _: usize, _: RgbImage) {}

    fn frame(&mut self, job: usize, _: u32, _: u32, picture: RgbImage) -> Result<()> {
        self.frames[job].push(picture);
        Ok(())
    }

    fn sound(&mut self, job: usize, sound: Sound) -> Result<()> {
        self.sounds[job] = Some(sound);
        Ok(())
    }

    fn image(&mut self, job: usize, picture: RgbImage) -> Result<()> {
        self.images[job] = Some(picture);
        Ok(())
    }
}
