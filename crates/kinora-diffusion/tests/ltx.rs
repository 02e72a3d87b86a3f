//! The run of a clip of LTX around the arithmetic: frames as they come, sound, cancellation,
//! checkpoints, previews, refusals. On the tiny models of recorded cases.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use kinora_core::{Rng, Sampler, Schedule, Stage};
use kinora_diffusion::{
    Error, Result,
    pipelines::{
        Checkpoint, Ltx2Guidance, Ltx2Params, Ltx2Pipeline, LtxParams, LtxPipeline, RgbImage,
        RunLimits, RunWatch, Sound,
    },
};
use kinora_weights::{
    ltx::{detect_ltx, is_ltx},
    ltx2::{detect_ltx2, is_ltx2},
};

fn model(case: &str) -> PathBuf {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/goldens/cases");
    cases.join(case).join("model")
}

fn open(case: &str) -> LtxPipeline {
    let layout = detect_ltx(&model(case)).unwrap();
    let mut shares = Vec::new();
    let pipeline = LtxPipeline::open(&layout, &Device::Cpu, DType::F32, &mut |share| {
        shares.push(share);
    })
    .unwrap();
    assert!(
        shares.is_sorted() && (shares[shares.len() - 1] - 1.0).abs() < 1e-5,
        "{shares:?}"
    );
    assert_eq!(pipeline.weight_bytes(), layout.total_bytes());
    pipeline
}

fn open2(case: &str) -> Ltx2Pipeline {
    let layout = detect_ltx2(&model(case)).unwrap();
    Ltx2Pipeline::open(&layout, &Device::Cpu, DType::F32, &mut |_| {}).unwrap()
}

fn params(seed: u64) -> LtxParams {
    LtxParams {
        prompt: "waves crashing at sunset".into(),
        negative_prompt: "blurry".into(),
        width: 64,
        height: 64,
        frames: 17,
        frame_rate: 25.0,
        steps: 3,
        guidance: 3.0,
        guidance_rescale: 0.0,
        sampler: None,
        step_cache: 0.0,
        shift: None,
        decode_time: 0.05,
        decode_noise: Some(0.025),
        seed,
        rng: Rng::Cpu,
        text_tokens: 48,
        first_frame: None,
        vae_tiling: false,
        latents: None,
    }
}

fn params2(seed: u64) -> Ltx2Params {
    Ltx2Params {
        prompt: "waves crashing at sunset".into(),
        negative_prompt: "blurry".into(),
        width: 64,
        height: 64,
        frames: 17,
        frame_rate: 25.0,
        steps: 3,
        guidance: Ltx2Guidance::text(4.0),
        audio_guidance: Ltx2Guidance::text(7.0),
        blind_blocks: Vec::new(),
        is_crossed: None,
        sampler: None,
        step_cache: 0.0,
        shift: None,
        seed,
        rng: Rng::Cpu,
        text_tokens: 64,
        has_sound: true,
        first_frame: None,
        vae_tiling: false,
        latents: None,
        audio_latents: None,
    }
}

fn picture(width: u32, height: u32) -> RgbImage {
    let rgb = (0..width * height * 3)
        .map(|i| (i * 7 % 251) as u8)
        .collect();
    RgbImage { width, height, rgb }
}

/// Writes everything down; stops, resumes and checkpoints as told.
#[derive(Default)]
struct Log {
    stages: Vec<(usize, Stage, u32, u32)>,
    checkpoints: Vec<Checkpoint>,
    clips: Vec<usize>,
    frames: Vec<RgbImage>,
    sound: Option<Sound>,
    resume: Option<Checkpoint>,
    /// Stage and step at which it is cancelled.
    cancel: Option<(Stage, u32)>,
    /// Steps of the decoder that were told when the first frame came.
    decoded_at_first: Option<usize>,
}

impl RunWatch for Log {
    fn stage(&mut self, job: usize, stage: Stage, step: u32, steps: u32) {
        self.stages.push((job, stage, step, steps));
    }

    fn is_cancelled(&mut self, _: usize) -> bool {
        self.cancel.is_some_and(|(stage, step)| {
            let mut told = self.stages.iter();
            told.any(|s| s.1 == stage && s.2 >= step)
        })
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

    fn preview(&mut self, _: usize, _: RgbImage) {
        panic!("clips are previewed as clips");
    }

    fn preview_clip(&mut self, _: usize, frames: Vec<RgbImage>) {
        assert_eq!((frames[0].width, frames[0].height), (2, 2));
        self.clips.push(frames.len());
    }

    fn frame(&mut self, _: usize, index: u32, count: u32, picture: RgbImage) -> Result<()> {
        let decoded = self
            .stages
            .iter()
            .filter(|s| s.1 == Stage::Decoding)
            .count();
        self.decoded_at_first.get_or_insert(decoded);
        assert_eq!((index as usize, count), (self.frames.len(), 17));
        self.frames.push(picture);
        Ok(())
    }

    fn sound(&mut self, _: usize, sound: Sound) -> Result<()> {
        assert!(self.frames.is_empty(), "the sound comes first");
        self.sound = Some(sound);
        Ok(())
    }

    fn image(&mut self, _: usize, _: RgbImage) -> Result<()> {
        panic!("a clip is no picture");
    }
}

fn run(pipeline: &mut LtxPipeline, job: &LtxParams, mut log: Log) -> Log {
    let jobs = std::slice::from_ref(job);
    pipeline.run(jobs, RunLimits::NONE, &mut log).unwrap();
    log
}

fn run2(pipeline: &mut Ltx2Pipeline, job: &Ltx2Params, mut log: Log) -> Log {
    let jobs = std::slice::from_ref(job);
    pipeline.run(jobs, RunLimits::NONE, &mut log).unwrap();
    log
}

#[test]
fn a_clip_and_what_is_told_of_it() {
    assert!(is_ltx(&model("ltx_video_095")) && !is_ltx2(&model("ltx_video_095")));
    let mut pipeline = open("ltx_video_095");
    assert_eq!((pipeline.size_step(), pipeline.frame_step()), (32, 8));
    let log = run(&mut pipeline, &params(1), Log::default());
    assert_eq!(log.frames.len(), 17);
    assert_eq!(log.clips, [3; 3]);
    let steps = |stage| {
        let of = log.stages.iter().filter(move |s| s.1 == stage);
        of.map(|s| (s.2, s.3)).collect::<Vec<_>>()
    };
    assert_eq!(steps(Stage::Decoding), [(0, 3), (1, 3), (2, 3), (3, 3)]);
    assert_eq!(steps(Stage::Generating), [(0, 3), (1, 3), (2, 3), (3, 3)]);
    // Another seed, another rate, another amount of noise for the decoder: other frames.
    for other in [
        params(2),
        LtxParams {
            frame_rate: 12.0,
            ..params(1)
        },
        LtxParams {
            decode_time: 0.5,
            ..params(1)
        },
    ] {
        assert_ne!(
            run(&mut pipeline, &other, Log::default()).frames,
            log.frames
        );
    }
}

#[test]
fn a_clip_that_is_taken_up_at_any_step_has_the_same_frames() {
    let mut pipeline = open("ltx_video_095");
    let job = LtxParams {
        // Draws noise at every step.
        sampler: Some((Sampler::Dpmpp2mSde, Schedule::Automatic)),
        first_frame: Some(picture(40, 30)),
        ..params(3)
    };
    for job in [params(4), job] {
        let whole = run(&mut pipeline, &job, Log::default());
        assert_eq!(whole.checkpoints.len(), 3);
        for checkpoint in &whole.checkpoints {
            let log = Log {
                resume: Some(checkpoint.clone()),
                ..Log::default()
            };
            let resumed = run(&mut pipeline, &job, log);
            assert!(resumed.frames == whole.frames, "step {}", checkpoint.step);
            assert_eq!(resumed.checkpoints.len(), 3 - checkpoint.step as usize);
        }
        // A checkpoint of other work is left aside.
        let log = Log {
            resume: Some(whole.checkpoints[1].clone()),
            ..Log::default()
        };
        let other = LtxParams {
            guidance: 2.0,
            ..job.clone()
        };
        assert_eq!(run(&mut pipeline, &other, log).checkpoints.len(), 3);
    }
}

#[test]
fn sound_is_as_long_as_its_frames_and_taken_up_with_them() {
    let mut pipeline = open2("ltx2");
    let job = Ltx2Params {
        first_frame: Some(picture(40, 30)),
        ..params2(5)
    };
    let whole = run2(&mut pipeline, &job, Log::default());
    let sound = whole.sound.clone().unwrap();
    // 17 of 25 frames a second: 17 tokens of sound, 4 · 17 − 3 rows of 60 samples each.
    assert_eq!(sound.sample_rate, 24000);
    let lengths: Vec<usize> = sound.channels.iter().map(Vec::len).collect();
    assert_eq!(lengths, [65 * 60; 2]);
    assert_eq!(whole.clips, [3; 3]);
    for checkpoint in &whole.checkpoints {
        let log = Log {
            resume: Some(checkpoint.clone()),
            ..Log::default()
        };
        let resumed = run2(&mut pipeline, &job, log);
        assert!(resumed.frames == whole.frames && resumed.sound == whole.sound);
    }
    let silent = Ltx2Params {
        has_sound: false,
        ..job.clone()
    };
    let silent = run2(&mut pipeline, &silent, Log::default());
    assert!(silent.sound.is_none() && silent.frames == whole.frames);
    let other = run2(&mut pipeline, &params2(6), Log::default());
    assert!(other.frames != whole.frames && other.sound != whole.sound);
}

#[test]
fn a_cancelled_clip_ends_at_its_next_step() {
    let mut pipeline = open("ltx_video");
    for (stage, step) in [
        (Stage::Encoding, 0),
        (Stage::Generating, 2),
        (Stage::Decoding, 1),
    ] {
        let log = Log {
            cancel: Some((stage, step)),
            ..Log::default()
        };
        let log = run(&mut pipeline, &params(1), log);
        assert!(log.frames.len() < 17, "{stage:?}");
        assert!(log.checkpoints.len() <= 3);
    }
    let mut pipeline = open2("ltx23");
    let log = Log {
        cancel: Some((Stage::Generating, 1)),
        ..Log::default()
    };
    let log = run2(&mut pipeline, &params2(1), log);
    assert!(log.sound.is_none() && log.frames.is_empty() && log.checkpoints.len() == 1);
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let mut pipeline = open("ltx_video");
    let cases: [(&str, LtxParams); 7] = [
        (
            "multiples of 32",
            LtxParams {
                width: 48,
                ..params(1)
            },
        ),
        (
            "multiple of 8",
            LtxParams {
                frames: 16,
                ..params(1)
            },
        ),
        (
            "frames a second",
            LtxParams {
                frame_rate: 0.0,
                ..params(1)
            },
        ),
        (
            "steps",
            LtxParams {
                steps: 0,
                ..params(1)
            },
        ),
        (
            "guidance",
            LtxParams {
                guidance: f32::NAN,
                ..params(1)
            },
        ),
        (
            "noise of decoding",
            LtxParams {
                decode_noise: Some(1.5),
                ..params(1)
            },
        ),
        (
            "shift",
            LtxParams {
                shift: Some(0.0),
                ..params(1)
            },
        ),
    ];
    for (words, job) in cases {
        let error = pipeline
            .run(&[job], RunLimits::NONE, &mut Log::default())
            .unwrap_err();
        assert!(matches!(error, Error::BadRequest(_)), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let limits = RunLimits {
        memory: 1 << 20,
        is_frugal: false,
    };
    let error = pipeline.run(&[params(1)], limits, &mut Log::default());
    assert!(matches!(error, Err(Error::OutOfMemory { .. })));

    let mut pipeline = open2("ltx23");
    let blind = Ltx2Guidance {
        blind: 1.0,
        ..Ltx2Guidance::text(4.0)
    };
    for (words, job) in [
        (
            "text tokens",
            Ltx2Params {
                text_tokens: 60,
                ..params2(1)
            },
        ),
        (
            "blind",
            Ltx2Params {
                guidance: blind,
                ..params2(1)
            },
        ),
        (
            "blind",
            Ltx2Params {
                guidance: blind,
                blind_blocks: vec![2],
                ..params2(1)
            },
        ),
    ] {
        let error = pipeline
            .run(&[job], RunLimits::NONE, &mut Log::default())
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// The way of other devices: operations of candle, activations of 16 bits. In f16, because candle
/// has no products of bf16 on the processor.
#[test]
fn activations_of_16_bits_go_all_the_way() {
    let mean = |frames: &[RgbImage], other: &[RgbImage]| {
        let pairs = frames.iter().zip(other);
        let values = pairs.flat_map(|(a, b)| a.rgb.iter().zip(&b.rgb));
        let distances = values.map(|(a, b)| f64::from(a.abs_diff(*b)));
        distances.sum::<f64>() / (frames.len() * frames[0].rgb.len()) as f64
    };
    let half = DType::F16;
    for case in ["ltx_video", "ltx_video_095"] {
        let job = LtxParams {
            first_frame: Some(picture(64, 64)),
            ..params(8)
        };
        let whole = run(&mut open(case), &job, Log::default());
        let layout = detect_ltx(&model(case)).unwrap();
        let mut pipeline = LtxPipeline::open(&layout, &Device::Cpu, half, &mut |_| {}).unwrap();
        let coarse = run(&mut pipeline, &job, Log::default());
        let distance = mean(&whole.frames, &coarse.frames);
        assert!(distance < 4.0, "{case}: {distance}");
    }
    for case in ["ltx2", "ltx23"] {
        let guidance = Ltx2Guidance {
            text: 3.0,
            blind: 1.0,
            alone: 2.0,
            rescale: 0.7,
        };
        let job = Ltx2Params {
            guidance,
            audio_guidance: guidance,
            blind_blocks: vec![1],
            first_frame: Some(picture(64, 64)),
            ..params2(8)
        };
        let whole = run2(&mut open2(case), &job, Log::default());
        let layout = detect_ltx2(&model(case)).unwrap();
        let mut pipeline = Ltx2Pipeline::open(&layout, &Device::Cpu, half, &mut |_| {}).unwrap();
        let coarse = run2(&mut pipeline, &job, Log::default());
        let distance = mean(&whole.frames, &coarse.frames);
        assert!(distance < 4.0, "{case}: {distance}");
        let lengths = |log: &Log| log.sound.as_ref().map(|sound| sound.channels[0].len());
        assert_eq!(lengths(&coarse), lengths(&whole));
    }
}
