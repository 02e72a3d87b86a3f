//! Clips that are longer than what the network sees at once, against the reference with its
//! transformer called window by window (tools/goldens/record_wan_windows.py), on the tiny models of
//! recorded cases.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use kinora_core::{Rng, Stage};
use kinora_diffusion::{
    Error, Result,
    pipelines::{
        Checkpoint, Context, RgbImage, RunLimits, RunWatch, Switch, VideoParams, WanPipeline,
    },
};
use kinora_weights::wan::detect_wan;

/// Of latents: the largest difference over the recording's standard deviation.
const GATE: f32 = 1e-3;
const TEXT: &str = "wan22_t2v_a14b";
const PICTURE: &str = "wan21_i2v";

fn below(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn open(case: &str) -> WanPipeline {
    let model = below("../../tools/goldens/cases").join(case).join("model");
    let layout = detect_wan(&model).unwrap();
    WanPipeline::open(&layout, &Device::Cpu, DType::F32, &mut |_| {}).unwrap()
}

fn recorded(case: &str) -> HashMap<String, Tensor> {
    let file = below("tests/fixtures/wan_windows").join(format!("{case}.safetensors"));
    candle_core::safetensors::load(file, &Device::Cpu).unwrap()
}

/// A recorded picture, (height, width, 3) in 8 bits.
fn picture(tensor: &Tensor) -> RgbImage {
    let (height, width, _) = tensor.dims3().unwrap();
    RgbImage {
        width: width as u32,
        height: height as u32,
        rgb: tensor.flatten_all().unwrap().to_vec1().unwrap(),
    }
}

fn context(frames: u32, overlap: u32) -> Option<Context> {
    Some(Context { frames, overlap })
}

/// What the recorder asked, of a case.
fn job(case: &str) -> VideoParams {
    let (size, frames, steps, context) = match case {
        TEXT => ((48, 32), 45, 5, context(21, 8)),
        PICTURE => ((48, 32), 33, 4, context(17, 8)),
        "wan21_flf2v" => ((48, 32), 37, 4, context(17, 4)),
        _ => ((64, 64), 41, 4, context(21, 12)),
    };
    let tensors = recorded(case);
    VideoParams {
        prompt: "a boat drifts over a quiet lake".into(),
        negative_prompt: "blurry".into(),
        width: size.0,
        height: size.1,
        frames,
        steps,
        guidance: 4.0,
        guidance_2: (case == TEXT).then_some(3.0),
        switch: Switch::Model,
        step_cache: 0.0,
        shift: None,
        sampler: None,
        seed: 0,
        rng: Rng::Cpu,
        text_tokens: if case.contains("wan21") { 512 } else { 32 },
        first_frame: tensors.get("image").map(picture),
        last_frame: tensors.get("last_image").map(picture),
        latents: tensors.get("noise").cloned(),
        context,
        vae_tiling: false,
    }
}

/// Keeps the latents of every step and the frames; stops and takes up as told.
#[derive(Default)]
struct Log {
    checkpoints: Vec<Checkpoint>,
    frames: Vec<RgbImage>,
    previews: Vec<usize>,
    resume: Option<Checkpoint>,
    /// How often it was asked whether to stop while clips were denoised.
    asked: usize,
    /// The question that is answered with yes.
    stop_at: Option<usize>,
    is_denoising: bool,
}

impl RunWatch for Log {
    fn stage(&mut self, _: usize, stage: Stage, _: u32, _: u32) {
        self.is_denoising = stage == Stage::Generating;
    }

    fn is_cancelled(&mut self, _: usize) -> bool {
        self.asked += usize::from(self.is_denoising);
        self.stop_at.is_some_and(|stop| self.asked > stop)
    }

    fn resume(&mut self, _: usize) -> Option<Checkpoint> {
        self.resume.clone()
    }

    fn wants_checkpoint(&mut self, _: usize) -> bool {
        true
    }

    fn checkpoint(&mut self, _: usize, checkpoint: &Checkpoint) -> Result<()> {
        self.checkpoints.push(checkpoint.clone());
        Ok(())
    }

    fn wants_preview(&mut self, _: usize) -> bool {
        true
    }

    fn preview(&mut self, _: usize, _: RgbImage) {}

    fn preview_clip(&mut self, _: usize, frames: Vec<RgbImage>) {
        self.previews.push(frames.len());
    }

    fn frame(&mut self, _: usize, _: u32, _: u32, picture: RgbImage) -> Result<()> {
        self.frames.push(picture);
        Ok(())
    }

    fn image(&mut self, _: usize, _: RgbImage) -> Result<()> {
        panic!("a clip is no picture");
    }
}

fn run(pipeline: &mut WanPipeline, job: &VideoParams, mut log: Log) -> (u32, Log) {
    let jobs = std::slice::from_ref(job);
    let timings = pipeline.run(jobs, RunLimits::NONE, &mut log).unwrap();
    (timings[0].resumed_steps, log)
}

#[test]
fn a_clip_in_windows_is_the_references_after_every_step() {
    for case in [TEXT, PICTURE, "wan21_flf2v", "wan22_ti2v_5b_i2v_heldout"] {
        let job = job(case);
        let (_, log) = run(&mut open(case), &job, Log::default());
        let tensors = recorded(case);
        assert_eq!(log.checkpoints.len(), job.steps as usize, "{case}");
        let mut worst = 0f32;
        for (step, checkpoint) in log.checkpoints.iter().enumerate() {
            let golden = tensors[&format!("step{step}.latents")]
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            let ours = &checkpoint.state.latents;
            assert_eq!(ours.len(), golden.len(), "{case}");
            let mean = golden.iter().sum::<f32>() / golden.len() as f32;
            let spread = golden.iter().map(|v| (v - mean).powi(2)).sum::<f32>();
            let spread = (spread / golden.len() as f32).sqrt();
            let pairs = ours.iter().zip(&golden);
            let distance = pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / spread;
            assert!(distance <= GATE, "{case}, step {step}: off by {distance}");
            worst = worst.max(distance);
        }
        println!("{case}: latents in windows {worst:.1e}");
        assert_eq!(log.frames.len(), job.frames as usize, "{case}");
        // Every latent frame is seen on its way.
        let latent = (job.frames as usize - 1) / 4 + 1;
        assert_eq!(log.previews, vec![latent; job.steps as usize], "{case}");
    }
}

#[test]
fn a_clip_that_fits_into_one_window_has_the_bits_of_none() {
    for case in [TEXT, PICTURE] {
        let mut pipeline = open(case);
        let whole = VideoParams {
            context: None,
            ..job(case)
        };
        let (_, expected) = run(&mut pipeline, &whole, Log::default());
        for frames in [whole.frames, whole.frames + 4, 161] {
            let one = VideoParams {
                context: context(frames, 8),
                ..whole.clone()
            };
            let (_, log) = run(&mut pipeline, &one, Log::default());
            assert_eq!(log.frames, expected.frames, "{case} {frames}");
            assert_eq!(log.checkpoints, expected.checkpoints, "{case} {frames}");
        }
        let (_, windows) = run(&mut pipeline, &job(case), Log::default());
        assert_ne!(windows.frames, expected.frames, "{case}");
    }
}

#[test]
fn a_clip_in_windows_that_is_taken_up_at_any_step_has_the_same_frames() {
    for case in [TEXT, PICTURE] {
        let job = job(case);
        let (_, whole) = run(&mut open(case), &job, Log::default());
        for (step, checkpoint) in whole.checkpoints.iter().enumerate() {
            let log = Log {
                resume: Some(checkpoint.clone()),
                ..Log::default()
            };
            let (resumed, again) = run(&mut open(case), &job, log);
            assert_eq!(resumed, step as u32 + 1);
            assert_eq!(
                again.frames,
                whole.frames,
                "{case}, after step {}",
                step + 1
            );
        }
        // Other windows are other work.
        let other = VideoParams {
            context: context(21, 4),
            ..job
        };
        let log = Log {
            resume: Some(whole.checkpoints[0].clone()),
            ..Log::default()
        };
        assert_eq!(run(&mut open(case), &other, log).0, 0);
    }
}

#[test]
fn a_clip_is_stopped_between_two_windows() {
    let mut pipeline = open(PICTURE);
    let job = job(PICTURE);
    let (_, whole) = run(&mut pipeline, &job, Log::default());
    // Before each step, and before each of its three windows.
    assert_eq!(whole.asked, 4 * (1 + 3));
    for stop_at in 1..6 {
        let log = Log {
            stop_at: Some(stop_at),
            ..Log::default()
        };
        let (_, log) = run(&mut pipeline, &job, log);
        assert!(log.frames.is_empty());
        assert_eq!(
            log.checkpoints.len(),
            usize::from(stop_at >= 4),
            "{stop_at}"
        );
    }
}

#[test]
fn windows_that_are_none_are_refused_and_memory_is_that_of_one() {
    let mut pipeline = open(TEXT);
    for (frames, overlap) in [(1, 4), (20, 4), (21, 0), (21, 6), (21, 24)] {
        let wrong = VideoParams {
            context: context(frames, overlap),
            ..job(TEXT)
        };
        let result = pipeline.run(&[wrong], RunLimits::NONE, &mut Log::default());
        assert!(
            matches!(&result, Err(Error::BadRequest(reason)) if reason.contains("windows")),
            "{frames} {overlap}: {result:?}"
        );
    }
    // At the size of the 14B model, one window's activations are what counts.
    let mut parts = pipeline.parts().clone();
    let transformer = &mut parts.transformer;
    (transformer.heads, transformer.head_dim, transformer.layers) = (40, 128, 40);
    transformer.ffn_dim = 13_824;
    let needed = |seen| parts.estimate((832, 480), (401, seen), 2).activations;
    let (window, other, whole) = (needed(81), needed(161), needed(401));
    assert!(window < other && other < whole, "{window} {other} {whole}");
}
