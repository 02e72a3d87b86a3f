//! What reusing steps saves and what it costs, on a FLUX.1 model: for each threshold the share of the
//! network's calls that went through all blocks, the time of the denoiser, and how far the picture is
//! from the one whose steps were all computed.
//!
//! ```text
//! cargo run --release -p kinora-diffusion --example step_cache -- starter/image 256 20 "a red house at dusk" 0.05 0.1 0.2
//! ```

use std::{env, error::Error, path::Path};

use candle_core::{DType, Device};
use kinora_core::{Rng, Stage};
use kinora_diffusion::{
    Result,
    pipelines::{
        Checkpoint, FluxOptions, ImageParams, Pipeline, RgbImage, RunLimits, RunWatch, SdOptions,
    },
};

/// Pictures that each threshold is tried on.
const SEEDS: u64 = 3;

/// Counts full calls, keeps the pictures.
#[derive(Default)]
struct Counter {
    steps: usize,
    full: usize,
    pictures: Vec<RgbImage>,
}

impl RunWatch for Counter {
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

    fn checkpoint(&mut self, _: usize, checkpoint: &Checkpoint) -> Result<()> {
        let mut anchors = checkpoint.anchors.iter();
        self.steps += 1;
        // Without a threshold nothing is remembered, because every call is full.
        let is_full = |call: u32| call + 1 == checkpoint.step;
        let is_full = checkpoint.anchors.is_empty() || anchors.any(|anchor| is_full(anchor.call));
        self.full += usize::from(is_full);
        Ok(())
    }

    fn wants_preview(&mut self, _: usize) -> bool {
        false
    }

    fn preview(&mut self, _: usize, _: RgbImage) {}

    fn image(&mut self, _: usize, picture: RgbImage) -> Result<()> {
        self.pictures.push(picture);
        Ok(())
    }
}

/// Peak signal-to-noise ratio of pictures, in dB.
fn psnr(a: &[RgbImage], b: &[RgbImage]) -> f64 {
    let pairs = a.iter().zip(b).flat_map(|(a, b)| a.rgb.iter().zip(&b.rgb));
    let (mut sum, mut count) = (0.0, 0.0);
    for (a, b) in pairs {
        sum += (f64::from(*a) - f64::from(*b)).powi(2);
        count += 1.0;
    }
    10.0 * (255.0 * 255.0 * count / sum).log10()
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, side, steps, prompt, thresholds @ ..] = &arguments[..] else {
        return Err("usage: step_cache MODEL SIDE STEPS PROMPT THRESHOLD…".into());
    };
    let layout = kinora_weights::detect(Path::new(model))?;
    let mut pipeline = Pipeline::open(&layout, &Device::Cpu, DType::F32, &mut |_| {})?;
    let (side, steps): (u32, u32) = (side.parse()?, steps.parse()?);
    let mut run = |threshold: f32| -> Result<(Counter, f64)> {
        let (mut counter, mut ms) = (Counter::default(), 0.0);
        for seed in 0..SEEDS {
            let job = ImageParams {
                prompt: prompt.clone(),
                negative_prompt: String::new(),
                width: side,
                height: side,
                steps,
                guidance: Some(3.5),
                true_cfg: None,
                seed,
                rng: Rng::Cpu,
                text_tokens: 64,
                latents: None,
                sampler: None,
                source: None,
                sd: SdOptions::default(),
                flux: FluxOptions {
                    step_cache: threshold,
                    ..FluxOptions::default()
                },
            };
            let jobs = std::slice::from_ref(&job);
            let timings = pipeline.run(jobs, RunLimits::NONE, &mut counter)?;
            ms += timings.iter().map(|job| job.generating_ms).sum::<f64>();
        }
        Ok((counter, ms / SEEDS as f64))
    };
    let (plain, plain_ms) = run(0.0)?;
    println!("| threshold | full calls | denoiser | PSNR |\n|---|---|---|---|");
    println!("| 0 | 100% | {plain_ms:.0} ms | |");
    for threshold in thresholds {
        let (counter, ms) = run(threshold.parse()?)?;
        let full = 100.0 * counter.full as f64 / counter.steps.max(1) as f64;
        let near = psnr(&counter.pictures, &plain.pictures);
        println!("| {threshold} | {full:.0}% | {ms:.0} ms | {near:.1} dB |");
    }
    Ok(())
}
