//! Steps that reuse most of an earlier one: equal to the reference with its first-block cache
//! (tools/goldens/record_step_cache.py), the same alone and in a batch, and the same after a kill at
//! any step. On the tiny models of recorded cases.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use kinora_core::{Rng, Stage};
use kinora_diffusion::{
    Error, Result,
    pipelines::{
        Checkpoint, FluxOptions, ImageParams, LikeImage, Ltx2Guidance, Ltx2Params, Ltx2Pipeline,
        LtxParams, LtxPipeline, Pipeline, RgbImage, RunLimits, RunWatch, SdOptions, Switch,
        VideoParams, WanPipeline,
    },
};
use kinora_weights::{
    Header, WeightSet, detect, ltx::detect_ltx, ltx2::detect_ltx2, wan::detect_wan,
};
use serde_json::Value;

const CPU: Device = Device::Cpu;
/// Of what many calls add up to, against the deviation of the recording.
const GATE: f32 = 1e-3;

fn below(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A run of the reference.
struct Recorded {
    set: WeightSet,
    call: Value,
    case: String,
    threshold: f32,
}

impl Recorded {
    fn open(name: &str) -> Self {
        let path = below("tests/fixtures/step_cache").join(format!("{name}.safetensors"));
        let (_, header) = Header::open(&path).unwrap();
        let field = |name: &str| header.metadata[name].clone();
        let full: Vec<bool> = serde_json::from_str(&field("full")).unwrap();
        assert!(full.contains(&true) && full.contains(&false));
        Self {
            call: serde_json::from_str(&field("call")).unwrap(),
            case: field("case"),
            threshold: field("threshold").parse().unwrap(),
            set: WeightSet::open_file(&path).unwrap(),
        }
    }

    fn model(&self) -> PathBuf {
        let cases = below("../../tools/goldens/cases");
        cases.join(&self.case).join("model")
    }

    fn numbers(&self, name: &str) -> Vec<f32> {
        let bytes = self.set.read(name).unwrap();
        let (words, _) = bytes.as_chunks::<4>();
        words.iter().map(|word| f32::from_le_bytes(*word)).collect()
    }

    fn latents(&self) -> Tensor {
        let shape = self.set.shape("in.latents").unwrap();
        Tensor::from_vec(self.numbers("in.latents"), shape, &CPU).unwrap()
    }

    fn number(&self, name: &str) -> u32 {
        self.call[name].as_u64().unwrap() as u32
    }

    fn real(&self, name: &str) -> Option<f32> {
        self.call[name].as_f64().map(|number| number as f32)
    }

    fn text(&self, name: &str) -> String {
        self.call[name].as_str().unwrap_or_default().to_owned()
    }

    /// Every step's latents are those of the reference.
    fn compare(&self, log: &Log) {
        let steps = self.number("num_inference_steps");
        assert_eq!(log.checkpoints.len(), steps as usize);
        for (step, checkpoint) in (0..).zip(&log.checkpoints) {
            let theirs = self.numbers(&format!("step{step}.latents"));
            let far = distance(&checkpoint.state.latents, &theirs);
            assert!(far <= GATE, "{} step {step}: {far}", self.case);
        }
    }
}

fn distance(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let count = theirs.len() as f32;
    let mean = theirs.iter().sum::<f32>() / count;
    let deviation = (theirs.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count).sqrt();
    let pairs = ours.iter().zip(theirs);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / deviation
}

/// Keeps every step of the first job; ends and resumes as told.
#[derive(Default)]
struct Log {
    checkpoints: Vec<Checkpoint>,
    pictures: Vec<(usize, RgbImage)>,
    resume: Option<Checkpoint>,
    resumed_at: Option<u32>,
}

impl RunWatch for Log {
    fn stage(&mut self, job: usize, stage: Stage, step: u32, _: u32) {
        if job == 0 && stage == Stage::Generating {
            self.resumed_at.get_or_insert(step);
        }
    }

    fn is_cancelled(&mut self, _: usize) -> bool {
        false
    }

    fn resume(&mut self, job: usize) -> Option<Checkpoint> {
        (job == 0).then(|| self.resume.clone()).flatten()
    }

    fn wants_checkpoint(&mut self, job: usize) -> bool {
        job == 0
    }

    fn checkpoint(&mut self, _: usize, checkpoint: &Checkpoint) -> Result<()> {
        self.checkpoints.push(checkpoint.clone());
        Ok(())
    }

    fn wants_preview(&mut self, _: usize) -> bool {
        false
    }

    fn preview(&mut self, _: usize, _: RgbImage) {}

    fn frame(&mut self, job: usize, _: u32, _: u32, picture: RgbImage) -> Result<()> {
        self.pictures.push((job, picture));
        Ok(())
    }

    fn image(&mut self, job: usize, picture: RgbImage) -> Result<()> {
        self.pictures.push((job, picture));
        Ok(())
    }
}

/// Resumed at any of its steps, through the file as well, a run makes the bits of an unbroken one.
fn check_resuming(unbroken: &Log, mut run: impl FnMut(&mut Log)) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkpoint.safetensors");
    let reuses = |checkpoint: &&Checkpoint| {
        let mut calls = checkpoint.anchors.iter().map(|anchor| anchor.call + 1);
        calls.any(|call| call < checkpoint.step)
    };
    assert!(unbroken.checkpoints.iter().any(|kept| reuses(&kept)));
    for (done, checkpoint) in (1..).zip(&unbroken.checkpoints) {
        assert!(!checkpoint.anchors.is_empty());
        checkpoint.save(&file).unwrap();
        let mut log = Log {
            resume: Some(Checkpoint::load(&file).unwrap()),
            ..Log::default()
        };
        assert_eq!(log.resume.as_ref(), Some(checkpoint));
        run(&mut log);
        assert!(
            log.pictures == unbroken.pictures,
            "resumed after step {done}"
        );
        assert!(log.checkpoints == unbroken.checkpoints[done..], "{done}");
    }
}

fn picture(recorded: &Recorded, step_cache: f32) -> ImageParams {
    ImageParams {
        prompt: recorded.text("prompt"),
        negative_prompt: recorded.text("negative_prompt"),
        width: recorded.number("width"),
        height: recorded.number("height"),
        steps: recorded.number("num_inference_steps"),
        guidance: recorded.real("guidance_scale"),
        true_cfg: recorded.real("true_cfg_scale"),
        seed: 0,
        rng: Rng::Cpu,
        text_tokens: recorded.number("max_sequence_length") as usize,
        latents: Some(recorded.latents()),
        sampler: None,
        source: None,
        sd: SdOptions::default(),
        flux: FluxOptions {
            step_cache,
            ..FluxOptions::default()
        },
    }
}

fn open_pictures(recorded: &Recorded) -> Pipeline {
    let layout = kinora_weights::detect(&recorded.model()).unwrap();
    Pipeline::open(&layout, &CPU, DType::F32, &mut |_| {}).unwrap()
}

#[test]
fn flux_equals_the_reference_and_resumes_with_the_bits_of_an_unbroken_run() {
    for name in ["flux", "flux_guided"] {
        let recorded = Recorded::open(name);
        let mut pipeline = open_pictures(&recorded);
        let job = picture(&recorded, recorded.threshold);
        let mut log = Log::default();
        let jobs = std::slice::from_ref(&job);
        pipeline.run(jobs, RunLimits::NONE, &mut log).unwrap();
        recorded.compare(&log);
        check_resuming(&log, |log| {
            pipeline.run(jobs, RunLimits::NONE, log).unwrap();
        });
    }
}

#[test]
fn a_picture_is_the_same_alone_and_in_a_batch() {
    let recorded = Recorded::open("flux_guided");
    let mut pipeline = open_pictures(&recorded);
    let mut jobs = [0u64, 1, 2].map(|seed| ImageParams {
        seed,
        latents: None,
        ..picture(&recorded, recorded.threshold)
    });
    jobs[1].prompt = "a lake at night".to_owned();
    let mut together = Log::default();
    (pipeline.run(&jobs, RunLimits::NONE, &mut together)).unwrap();
    for (i, job) in jobs.iter().enumerate() {
        let mut alone = Log::default();
        let job = std::slice::from_ref(job);
        pipeline.run(job, RunLimits::NONE, &mut alone).unwrap();
        let own = together.pictures.iter().find(|(place, _)| *place == i);
        assert!(own.unwrap().1 == alone.pictures[0].1, "job {i}");
    }
    // One that goes on from a checkpoint beside others that begin does not wait for them.
    let mut resumed = Log {
        resume: Some(together.checkpoints[5].clone()),
        ..Log::default()
    };
    pipeline.run(&jobs, RunLimits::NONE, &mut resumed).unwrap();
    assert_eq!(resumed.resumed_at, Some(6));
    for (place, picture) in &together.pictures {
        assert!(resumed.pictures.contains(&(*place, picture.clone())));
    }
}

#[test]
fn nothing_is_reused_unless_it_is_asked_for() {
    let recorded = Recorded::open("flux");
    let mut pipeline = open_pictures(&recorded);
    let mut run = |step_cache: f32| {
        let mut log = Log::default();
        let job = [picture(&recorded, step_cache)];
        let result = pipeline.run(&job, RunLimits::NONE, &mut log);
        result.map(|_| log)
    };
    let (off, on) = (run(0.0).unwrap(), run(recorded.threshold).unwrap());
    assert!(off.checkpoints.iter().all(|kept| kept.anchors.is_empty()));
    assert!(off.pictures != on.pictures);
    // A threshold that nothing stays below computes every step, and is other work all the same.
    let never = run(1e-6).unwrap();
    assert!(never.pictures == off.pictures);
    assert_ne!(never.checkpoints[0].identity, off.checkpoints[0].identity);
    for bad in [-0.1, 1.5, f32::NAN] {
        assert!(matches!(run(bad), Err(Error::BadRequest(_))), "{bad}");
    }
}

#[test]
fn both_networks_of_wan_equal_the_reference_and_resume_with_the_bits_of_an_unbroken_run() {
    let recorded = Recorded::open("wan");
    let layout = detect_wan(&recorded.model()).unwrap();
    let mut pipeline = WanPipeline::open(&layout, &CPU, DType::F32, &mut |_| {}).unwrap();
    let job = [VideoParams {
        prompt: recorded.text("prompt"),
        negative_prompt: recorded.text("negative_prompt"),
        width: recorded.number("width"),
        height: recorded.number("height"),
        frames: recorded.number("num_frames"),
        steps: recorded.number("num_inference_steps"),
        guidance: recorded.real("guidance_scale").unwrap(),
        guidance_2: recorded.real("guidance_scale_2"),
        switch: Switch::Model,
        step_cache: recorded.threshold,
        shift: None,
        sampler: None,
        seed: 0,
        rng: Rng::Cpu,
        text_tokens: recorded.number("max_sequence_length") as usize,
        first_frame: None,
        last_frame: None,
        latents: Some(recorded.latents()),
        context: None,
        vae_tiling: false,
    }];
    let mut log = Log::default();
    pipeline.run(&job, RunLimits::NONE, &mut log).unwrap();
    recorded.compare(&log);
    check_resuming(&log, |log| {
        pipeline.run(&job, RunLimits::NONE, log).unwrap();
    });
    // The calls of a guided step in turn, as with little memory.
    let limits = RunLimits {
        is_frugal: true,
        ..RunLimits::NONE
    };
    let mut frugal = Log::default();
    pipeline.run(&job, limits, &mut frugal).unwrap();
    recorded.compare(&frugal);
    check_resuming(&frugal, |log| {
        pipeline.run(&job, limits, log).unwrap();
    });
}

#[test]
fn ltx_video_equals_the_reference_and_resumes_with_the_bits_of_an_unbroken_run() {
    let recorded = Recorded::open("ltx");
    let layout = detect_ltx(&recorded.model()).unwrap();
    let mut pipeline = LtxPipeline::open(&layout, &CPU, DType::F32, &mut |_| {}).unwrap();
    let mut job = [LtxParams {
        prompt: recorded.text("prompt"),
        negative_prompt: "blurry".to_owned(),
        width: recorded.number("width"),
        height: recorded.number("height"),
        frames: recorded.number("num_frames"),
        frame_rate: recorded.real("frame_rate").unwrap().into(),
        steps: recorded.number("num_inference_steps"),
        guidance: recorded.real("guidance_scale").unwrap(),
        guidance_rescale: 0.0,
        sampler: None,
        step_cache: recorded.threshold,
        shift: None,
        decode_time: 0.05,
        decode_noise: Some(0.025),
        seed: 0,
        rng: Rng::Cpu,
        text_tokens: recorded.number("max_sequence_length") as usize,
        first_frame: None,
        vae_tiling: false,
        latents: Some(recorded.latents()),
    }];
    let mut log = Log::default();
    pipeline.run(&job, RunLimits::NONE, &mut log).unwrap();
    recorded.compare(&log);
    // With a given frame and two calls a step, which the reference decides about together.
    job[0].guidance = 3.0;
    let rgb = (0..96 * 64 * 3).map(|i| (i * 7 % 251) as u8).collect();
    job[0].first_frame = Some(RgbImage {
        width: 96,
        height: 64,
        rgb,
    });
    let mut log = Log::default();
    pipeline.run(&job, RunLimits::NONE, &mut log).unwrap();
    check_resuming(&log, |log| {
        pipeline.run(&job, RunLimits::NONE, log).unwrap();
    });
}

fn given(width: u32, height: u32) -> RgbImage {
    RgbImage {
        width,
        height,
        rgb: (0..width * height * 3)
            .map(|i| (i * 7 % 251) as u8)
            .collect(),
    }
}

/// Its blocks take two streams, which the reference's cache does not know. Guided in every way, it
/// has four calls a step, each with a memory of its own.
#[test]
fn ltx_2_resumes_with_the_bits_of_an_unbroken_run() {
    let model = below("../../tools/goldens/cases/ltx2_i2v/model");
    let layout = detect_ltx2(&model).unwrap();
    let mut pipeline = Ltx2Pipeline::open(&layout, &CPU, DType::F32, &mut |_| {}).unwrap();
    let guidance = Ltx2Guidance {
        text: 3.0,
        blind: 1.0,
        alone: 3.0,
        rescale: 0.7,
    };
    let job = |step_cache: f32| {
        [Ltx2Params {
            prompt: "waves crashing at sunset".into(),
            negative_prompt: "blurry".into(),
            width: 64,
            height: 64,
            frames: 17,
            frame_rate: 25.0,
            steps: 8,
            guidance,
            audio_guidance: guidance,
            blind_blocks: vec![0],
            is_crossed: None,
            sampler: None,
            step_cache,
            shift: None,
            seed: 5,
            rng: Rng::Cpu,
            text_tokens: 64,
            has_sound: false,
            first_frame: Some(given(40, 30)),
            vae_tiling: false,
            latents: None,
            audio_latents: None,
        }]
    };
    let whole = {
        let mut log = Log::default();
        pipeline.run(&job(0.0), RunLimits::NONE, &mut log).unwrap();
        log
    };
    assert!(whole.checkpoints.iter().all(|kept| kept.anchors.is_empty()));
    for limits in [
        RunLimits::NONE,
        RunLimits {
            is_frugal: true,
            ..RunLimits::NONE
        },
    ] {
        let mut log = Log::default();
        pipeline.run(&job(0.3), limits, &mut log).unwrap();
        assert!(log.pictures != whole.pictures);
        assert_eq!(log.checkpoints[0].anchors.len(), 4);
        check_resuming(&log, |log| {
            pipeline.run(&job(0.3), limits, log).unwrap();
        });
    }
    // A threshold that nothing stays below computes every step in full.
    let mut log = Log::default();
    let tiny = job(f32::MIN_POSITIVE);
    pipeline.run(&tiny, RunLimits::NONE, &mut log).unwrap();
    assert!(log.pictures == whole.pictures);
}

#[test]
fn redux_resumes_with_the_bits_of_an_unbroken_run() {
    let model = below("../../tools/goldens/cases/flux_redux/model");
    let layout = detect(&model).unwrap();
    let mut pipeline = Pipeline::open(&layout, &CPU, DType::F32, &mut |_| {}).unwrap();
    let job = |step_cache: f32| {
        let likes = [(90, 60), (33, 47)].map(|(width, height)| LikeImage {
            image: given(width, height),
            weight: 1.0,
            pooled_weight: 1.0,
        });
        [ImageParams {
            prompt: "a red car".into(),
            negative_prompt: "blurry".into(),
            width: 64,
            height: 64,
            steps: 8,
            guidance: Some(2.5),
            // The prompt with the pictures is longer than the one without.
            true_cfg: Some(2.0),
            seed: 3,
            rng: Rng::Cpu,
            text_tokens: 24,
            latents: None,
            sampler: None,
            source: None,
            sd: SdOptions::default(),
            flux: FluxOptions {
                step_cache,
                likes: likes.into(),
                ..FluxOptions::default()
            },
        }]
    };
    let run = |pipeline: &mut Pipeline, step_cache: f32, log: &mut Log| {
        pipeline
            .run(&job(step_cache), RunLimits::NONE, log)
            .unwrap();
    };
    let (mut whole, mut log) = (Log::default(), Log::default());
    run(&mut pipeline, 0.0, &mut whole);
    run(&mut pipeline, 0.3, &mut log);
    assert!(log.pictures != whole.pictures);
    check_resuming(&log, |log| run(&mut pipeline, 0.3, log));
}
