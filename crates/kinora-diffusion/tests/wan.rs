//! The run of a clip around the arithmetic: frames as they come, experts, cancellation,
//! checkpoints, previews, refusals. On the tiny models of recorded cases.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use kinora_core::{Rng, Sampler, Schedule, Stage};
use kinora_diffusion::{
    Error, Result,
    pipelines::{
        Checkpoint, JobTimings, RgbImage, RunLimits, RunWatch, Switch, VideoParams, WanPipeline,
    },
};
use kinora_weights::wan::{WanInput, detect_wan, is_wan};

fn model(case: &str) -> PathBuf {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/goldens/cases");
    cases.join(case).join("model")
}

fn open(case: &str) -> WanPipeline {
    let layout = detect_wan(&model(case)).unwrap();
    let mut shares = Vec::new();
    let pipeline = WanPipeline::open(&layout, &Device::Cpu, DType::F32, &mut |share| {
        shares.push(share);
    })
    .unwrap();
    assert!(
        shares.is_sorted() && (shares[shares.len() - 1] - 1.0).abs() < 1e-5,
        "{shares:?}"
    );
    assert!(pipeline.weight_bytes() > layout.total_bytes() / 2);
    pipeline
}

const TEXT: &str = "wan22_t2v_a14b";

fn params(seed: u64) -> VideoParams {
    VideoParams {
        prompt: "waves crashing at sunset".into(),
        negative_prompt: "blurry".into(),
        width: 48,
        height: 32,
        frames: 9,
        steps: 4,
        guidance: 4.0,
        guidance_2: Some(3.0),
        switch: Switch::Model,
        step_cache: 0.0,
        shift: None,
        sampler: None,
        seed,
        rng: Rng::Cpu,
        text_tokens: 32,
        first_frame: None,
        last_frame: None,
        latents: None,
        context: None,
        vae_tiling: false,
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
    checkpoints: Vec<(usize, Checkpoint)>,
    clips: Vec<(usize, usize)>,
    /// Of each job.
    frames: Vec<Vec<RgbImage>>,
    resume: Vec<Option<Checkpoint>>,
    /// Job, stage and step at which it is cancelled.
    cancel: Option<(usize, Stage, u32)>,
    /// Steps of the decoder that were told when the first frame came.
    decoded_at_first: Option<usize>,
}

impl RunWatch for Log {
    fn stage(&mut self, job: usize, stage: Stage, step: u32, steps: u32) {
        self.stages.push((job, stage, step, steps));
    }

    fn is_cancelled(&mut self, job: usize) -> bool {
        self.cancel.is_some_and(|(cancelled, stage, step)| {
            cancelled == job
                && self
                    .stages
                    .iter()
                    .any(|s| s.0 == job && s.1 == stage && s.2 >= step)
        })
    }

    fn resume(&mut self, job: usize) -> Option<Checkpoint> {
        self.resume.get(job).cloned().flatten()
    }

    fn wants_checkpoint(&mut self, _: usize) -> bool {
        true
    }

    fn checkpoint(&mut self, job: usize, checkpoint: &Checkpoint) -> Result<()> {
        self.checkpoints.push((job, checkpoint.clone()));
        Ok(())
    }

    fn wants_preview(&mut self, _: usize) -> bool {
        true
    }

    fn preview(&mut self, _: usize, _: RgbImage) {
        panic!("clips are previewed as clips");
    }

    fn preview_clip(&mut self, job: usize, frames: Vec<RgbImage>) {
        assert_eq!((frames[0].width, frames[0].height), (6, 4));
        self.clips.push((job, frames.len()));
    }

    fn frame(&mut self, job: usize, index: u32, count: u32, picture: RgbImage) -> Result<()> {
        let told = |s: &&(usize, Stage, u32, u32)| s.0 == job && s.1 == Stage::Decoding;
        let decoded = self.stages.iter().filter(told).count();
        self.decoded_at_first.get_or_insert(decoded);
        self.frames
            .resize(self.frames.len().max(job + 1), Vec::new());
        assert_eq!((index as usize, count), (self.frames[job].len(), 9));
        self.frames[job].push(picture);
        Ok(())
    }

    fn image(&mut self, _: usize, _: RgbImage) -> Result<()> {
        panic!("a clip is no picture");
    }
}

fn run(
    pipeline: &mut WanPipeline,
    jobs: &[VideoParams],
    limits: RunLimits,
    mut log: Log,
) -> (Vec<JobTimings>, Log) {
    let timings = pipeline.run(jobs, limits, &mut log).unwrap();
    log.frames.resize(jobs.len(), Vec::new());
    (timings, log)
}

fn make(pipeline: &mut WanPipeline, job: &VideoParams) -> Vec<RgbImage> {
    let jobs = std::slice::from_ref(job);
    let (_, mut log) = run(pipeline, jobs, RunLimits::NONE, Log::default());
    log.frames.remove(0)
}

#[test]
fn frames_come_while_the_rest_is_still_decoded() {
    let mut pipeline = open(TEXT);
    let (timings, log) = run(&mut pipeline, &[params(1)], RunLimits::NONE, Log::default());
    assert_eq!(log.frames[0].len(), 9);
    assert_eq!(log.decoded_at_first, Some(1));
    assert_eq!(log.clips, [(0, 3); 4]);
    assert!(timings[0].encoding_ms > 0.0 && timings[0].generating_ms > 0.0);
    assert!(timings[0].decoding_ms > 0.0);
    let steps = |stage| {
        let of = log.stages.iter().filter(move |s| s.1 == stage);
        of.map(|s| (s.2, s.3)).collect::<Vec<_>>()
    };
    assert_eq!(steps(Stage::Decoding), [(0, 3), (1, 3), (2, 3), (3, 3)]);
    let last = log.stages.iter().rfind(|s| s.1 == Stage::Generating);
    assert_eq!(last.map(|s| (s.2, s.3)), Some((4, 4)));
    // The text encoder is read when there is something to encode, the other expert when its steps
    // come.
    let first = |stage| log.stages.iter().position(|s| s.1 == stage);
    let last_loading = log.stages.iter().rposition(|s| s.1 == Stage::Loading);
    assert!(first(Stage::Loading).is_some(), "{:?}", log.stages);
    assert!(first(Stage::Loading) < first(Stage::Encoding));
    assert!(last_loading > first(Stage::Generating), "{:?}", log.stages);
}

#[test]
fn a_clip_that_is_taken_up_at_any_step_has_the_same_frames() {
    let mut pipeline = open(TEXT);
    let jobs = [
        params(3),
        VideoParams {
            // Draws noise at every step.
            sampler: Some((Sampler::Dpmpp2mSde, Schedule::Automatic)),
            guidance: 1.0,
            guidance_2: None,
            ..params(4)
        },
    ];
    let (_, whole) = run(&mut pipeline, &jobs, RunLimits::NONE, Log::default());
    assert_eq!(whole.checkpoints.len(), 8);
    assert_ne!(whole.frames[0], whole.frames[1]);
    for step in 0..4 {
        let of = |job| {
            let mut own = whole.checkpoints.iter().filter(|(of, _)| *of == job);
            own.nth(step).map(|(_, checkpoint)| checkpoint.clone())
        };
        let log = Log {
            resume: vec![of(0), of(1)],
            ..Log::default()
        };
        let mut fresh = open(TEXT);
        let (timings, again) = run(&mut fresh, &jobs, RunLimits::NONE, log);
        assert_eq!(again.frames, whole.frames, "after step {}", step + 1);
        let resumed = timings.iter().map(|t| t.resumed_steps);
        assert_eq!(resumed.collect::<Vec<_>>(), [step as u32 + 1; 2]);
    }
    // What other work left is of no use.
    let log = Log {
        resume: vec![Some(whole.checkpoints[1].1.clone())],
        ..Log::default()
    };
    let other = VideoParams {
        guidance_2: Some(3.5),
        ..params(3)
    };
    let (timings, _) = run(&mut pipeline, &[other], RunLimits::NONE, log);
    assert_eq!(timings[0].resumed_steps, 0);
}

#[test]
fn cancelling_stops_one_clip_at_its_next_step() {
    let mut pipeline = open(TEXT);
    let jobs = [params(5), params(6)];
    let alone = make(&mut pipeline, &jobs[1]);
    for (stage, step, frames) in [
        (Stage::Encoding, 0, 0),
        (Stage::Generating, 1, 0),
        (Stage::Generating, 3, 0),
        (Stage::Decoding, 2, 5),
    ] {
        let log = Log {
            cancel: Some((0, stage, step)),
            ..Log::default()
        };
        let (_, log) = run(&mut pipeline, &jobs, RunLimits::NONE, log);
        assert_eq!(log.frames[0].len(), frames, "{stage:?} {step}");
        assert_eq!(log.frames[1], alone, "{stage:?} {step}");
        if stage == Stage::Generating {
            let told = log.stages.iter().filter(|s| s.0 == 0 && s.1 == stage);
            assert_eq!(told.map(|s| s.2).max(), Some(step));
        }
    }
}

#[test]
fn texts_together_and_in_turn_give_the_same_bits() {
    let mut pipeline = open(TEXT);
    let together = make(&mut pipeline, &params(7));
    let frugal = RunLimits {
        is_frugal: true,
        ..RunLimits::NONE
    };
    let (_, in_turn) = run(&mut pipeline, &[params(7)], frugal, Log::default());
    assert_eq!(in_turn.frames[0], together);
    // Without guidance the negative prompt counts nothing.
    let plain = |negative: &str| VideoParams {
        guidance: 1.0,
        guidance_2: None,
        negative_prompt: negative.into(),
        ..params(7)
    };
    let without = make(&mut pipeline, &plain("blurry"));
    assert_eq!(without, make(&mut pipeline, &plain("")));
    assert_ne!(without, together);
    // Nor does it where only one expert is guided, for the other.
    let one = VideoParams {
        guidance_2: Some(1.0),
        ..params(7)
    };
    let one = make(&mut pipeline, &one);
    assert!(one != without && one != together);
}

#[test]
fn experts_change_where_they_are_asked_to() {
    let mut pipeline = open(TEXT);
    let mut at = |switch| {
        make(
            &mut pipeline,
            &VideoParams {
                switch,
                ..params(8)
            },
        )
    };
    // Times of four steps with a shift of 3: 999, 900, 750, 500.
    let half = at(Switch::LowShare(0.5));
    assert_eq!(half, at(Switch::Boundary(0.8)));
    assert_eq!(half, at(Switch::Model));
    let none = at(Switch::LowShare(0.0));
    assert_eq!(none, at(Switch::Boundary(0.0)));
    let all = at(Switch::LowShare(1.0));
    assert_eq!(all, at(Switch::Boundary(1.0)));
    assert!(none != half && half != all && none != all);
}

#[test]
fn rules_and_shifts_can_be_chosen() {
    let mut pipeline = open(TEXT);
    let mut clips = vec![make(&mut pipeline, &params(9))];
    let chosen = |sampler| Some((sampler, Schedule::Automatic));
    for (sampler, shift) in [
        (chosen(Sampler::Euler), None),
        (chosen(Sampler::Dpmpp2m), None),
        (chosen(Sampler::Heun), None),
        (chosen(Sampler::Euler), Some(8.0)),
        (None, Some(8.0)),
    ] {
        let job = VideoParams {
            sampler,
            shift,
            ..params(9)
        };
        clips.push(make(&mut pipeline, &job));
    }
    let unipc = VideoParams {
        sampler: chosen(Sampler::Unipc),
        ..params(9)
    };
    assert_eq!(make(&mut pipeline, &unipc), clips[0]);
    for (i, clip) in clips.iter().enumerate() {
        assert!(!clips[..i].contains(clip), "clip {i}");
    }
    let wrong = VideoParams {
        sampler: chosen(Sampler::Ddim),
        ..params(9)
    };
    assert!(matches!(
        pipeline.run(&[wrong], RunLimits::NONE, &mut Log::default()),
        Err(Error::BadRequest(_))
    ));
}

#[test]
fn a_seed_makes_one_clip_and_who_takes_pictures_only_refuses_frames() {
    let mut pipeline = open(TEXT);
    assert_eq!(
        make(&mut pipeline, &params(1)),
        make(&mut pipeline, &params(1))
    );
    assert_ne!(
        make(&mut pipeline, &params(1)),
        make(&mut pipeline, &params(2))
    );
    struct One(u32);
    impl RunWatch for One {
        fn stage(&mut self, _: usize, _: Stage, _: u32, _: u32) {}
        fn is_cancelled(&mut self, _: usize) -> bool {
            false
        }
        fn resume(&mut self, _: usize) -> Option<Checkpoint> {
            None
        }
        fn wants_checkpoint(&mut self, _: usize) -> bool {
            false
        }
        fn checkpoint(&mut self, _: usize, _: &Checkpoint) -> Result<()> {
            Ok(())
        }
        fn wants_preview(&mut self, _: usize) -> bool {
            true
        }
        // One picture is shown to whoever shows no clips.
        fn preview(&mut self, _: usize, picture: RgbImage) {
            self.0 += picture.width;
        }
        fn image(&mut self, _: usize, _: RgbImage) -> Result<()> {
            Ok(())
        }
    }
    let job = VideoParams {
        frames: 1,
        ..params(1)
    };
    let mut watch = One(0);
    let refused = pipeline.run(&[job], RunLimits::NONE, &mut watch);
    assert!(matches!(refused, Err(Error::BadRequest(_))), "{refused:?}");
    assert_eq!(watch.0, 4 * 6);
}

#[test]
fn what_a_model_cannot_do_is_refused_with_words() {
    let first = || Some(picture(50, 40));
    let given = |case: &str, change: fn(&mut VideoParams)| {
        let mut pipeline = open(case);
        let mut job = params(1);
        change(&mut job);
        let limits = RunLimits::NONE;
        match pipeline.run(&[job], limits, &mut Log::default()) {
            Err(Error::BadRequest(reason)) => reason,
            other => panic!("{case}: {other:?}"),
        }
    };
    for (case, change, word) in [
        (
            TEXT,
            (|p| p.width = 40) as fn(&mut VideoParams),
            "multiples of 16",
        ),
        (TEXT, |p| p.frames = 8, "multiple of 4"),
        (TEXT, |p| p.frames = 0, "multiple of 4"),
        (TEXT, |p| p.steps = 0, "steps"),
        (TEXT, |p| p.text_tokens = 0, "text tokens"),
        (TEXT, |p| p.guidance = f32::NAN, "finite"),
        (TEXT, |p| p.shift = Some(-1.0), "shift"),
        (TEXT, |p| p.switch = Switch::LowShare(1.5), "share"),
        (
            TEXT,
            |p| p.first_frame = Some(picture(9, 9)),
            "from text alone",
        ),
        ("wan21_i2v", |_| {}, "picture to begin with"),
        (
            "wan21_i2v",
            |p| (p.first_frame, p.last_frame) = (Some(picture(9, 9)), Some(picture(9, 9))),
            "no picture to end with",
        ),
        (
            "wan21_flf2v",
            |p| p.first_frame = Some(picture(9, 9)),
            "to end with too",
        ),
        (
            "wan22_ti2v_5b_i2v_heldout",
            |p| (p.width, p.height) = (48, 32),
            "multiples of 32",
        ),
        (
            "wan22_ti2v_5b_i2v_heldout",
            |p| {
                (p.width, p.height) = (64, 32);
                p.last_frame = Some(picture(9, 9));
            },
            "no picture to end with",
        ),
    ] {
        let reason = given(case, change);
        assert!(reason.contains(word), "{case}: {reason}");
    }
    let mut pipeline = open("wan21_i2v");
    let mut job = VideoParams {
        first_frame: first(),
        ..params(1)
    };
    let tight = RunLimits {
        memory: 1 << 20,
        is_frugal: false,
    };
    let result = pipeline.run(std::slice::from_ref(&job), tight, &mut Log::default());
    assert!(
        matches!(result, Err(Error::OutOfMemory { .. })),
        "{result:?}"
    );
    // A picture that is not what it says.
    if let Some(first) = &mut job.first_frame {
        first.rgb.pop();
    }
    assert!(
        pipeline
            .run(&[job], RunLimits::NONE, &mut Log::default())
            .is_err()
    );
}

#[test]
fn folders_are_recognised() {
    for (case, variant, input) in [
        (TEXT, "2.2-t2v-a14b", WanInput::Text),
        ("wan21_i2v", "2.1-i2v-14b", WanInput::Channels),
        ("wan21_flf2v", "2.1-flf2v-14b", WanInput::Channels),
        (
            "wan22_flf2v_a14b_heldout",
            "2.2-i2v-a14b",
            WanInput::Channels,
        ),
        (
            "wan22_ti2v_5b_i2v_heldout",
            "2.2-ti2v-5b",
            WanInput::FirstFrame,
        ),
    ] {
        assert!(is_wan(&model(case)));
        let layout = detect_wan(&model(case)).unwrap();
        assert_eq!(
            (layout.variant.as_str(), layout.parts.input),
            (variant, input)
        );
        assert!(layout.weights.iter().all(|file| file.bytes > 0));
    }
    assert!(!is_wan(&model("flux_dev")));
    assert!(detect_wan(&model("flux_dev")).is_err());
}
