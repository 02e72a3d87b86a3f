//! The run around the arithmetic: batches, cancellation, checkpoints, previews, limits. On the tiny
//! model of a recorded case.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use kinora_core::{Rng, Stage};
use kinora_diffusion::{
    Error, Result,
    pipelines::{
        Checkpoint, FluxOptions, ImageParams, JobTimings, Pipeline, RgbImage, RunLimits, RunWatch,
        SdOptions,
    },
};

fn open(case: &str) -> Pipeline {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/goldens/cases");
    let layout = kinora_weights::detect(&cases.join(case).join("model")).unwrap();
    let mut shares = Vec::new();
    let pipeline = Pipeline::open(&layout, &Device::Cpu, DType::F32, &mut |share| {
        shares.push(share)
    })
    .unwrap();
    assert!(
        shares.is_sorted() && (shares[shares.len() - 1] - 1.0).abs() < 1e-5,
        "{shares:?}"
    );
    assert!(pipeline.weight_bytes() > layout.total_bytes() / 2);
    pipeline
}

fn params(prompt: &str, seed: u64) -> ImageParams {
    ImageParams {
        prompt: prompt.into(),
        negative_prompt: String::new(),
        width: 96,
        height: 64,
        steps: 4,
        guidance: None,
        true_cfg: None,
        seed,
        rng: Rng::Cpu,
        text_tokens: 24,
        latents: None,
        sampler: None,
        source: None,
        sd: SdOptions::default(),
        flux: FluxOptions::default(),
    }
}

/// Writes everything down; stops, resumes and checkpoints as told.
#[derive(Default)]
struct Log {
    stages: Vec<(usize, Stage, u32, u32)>,
    checkpoints: Vec<(usize, Checkpoint)>,
    previews: Vec<(usize, RgbImage)>,
    images: Vec<Option<RgbImage>>,
    resume: Vec<Option<Checkpoint>>,
    /// Job and the step after which it is cancelled.
    cancel: Option<(usize, u32)>,
}

impl RunWatch for Log {
    fn stage(&mut self, job: usize, stage: Stage, step: u32, steps: u32) {
        self.stages.push((job, stage, step, steps));
    }

    fn is_cancelled(&mut self, job: usize) -> bool {
        self.cancel.is_some_and(|(cancelled, step)| {
            cancelled == job
                && self
                    .stages
                    .iter()
                    .any(|s| s.0 == job && s.1 == Stage::Generating && s.2 >= step)
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

    fn preview(&mut self, job: usize, picture: RgbImage) {
        self.previews.push((job, picture));
    }

    fn image(&mut self, job: usize, picture: RgbImage) -> Result<()> {
        self.images.resize(self.images.len().max(job + 1), None);
        self.images[job] = Some(picture);
        Ok(())
    }
}

fn run(pipeline: &mut Pipeline, jobs: &[ImageParams], mut log: Log) -> (Vec<JobTimings>, Log) {
    let timings = pipeline.run(jobs, RunLimits::NONE, &mut log).unwrap();
    log.images.resize(jobs.len(), None);
    (timings, log)
}

#[test]
fn a_batch_gives_every_row_the_picture_that_it_gets_alone() {
    let mut pipeline = open("flux_schnell");
    let mut jobs: Vec<_> = (0..6)
        .map(|i| params(["a red car", "waves at sunset"][i % 2], i as u64))
        .collect();
    jobs[3].width = 64;
    jobs[5].true_cfg = Some(2.0);
    jobs[5].negative_prompt = "blurry".into();
    let (timings, together) = run(&mut pipeline, &jobs, Log::default());
    assert_eq!(
        timings.iter().map(|t| t.batch).collect::<Vec<_>>(),
        [4, 4, 4, 1, 4, 1]
    );
    assert!(
        timings
            .iter()
            .all(|t| t.generating_ms > 0.0 && t.decoding_ms > 0.0)
    );
    for (i, job) in jobs.iter().enumerate() {
        let (_, alone) = run(&mut pipeline, std::slice::from_ref(job), Log::default());
        let (a, b) = (
            together.images[i].clone().unwrap(),
            alone.images[0].clone().unwrap(),
        );
        assert_eq!((a.width, a.height), (job.width, job.height));
        assert!(a == b, "row {i} has other bytes alone");
        let latents = |log: &Log, job: usize| {
            let last = log.checkpoints.iter().rfind(|(j, _)| *j == job);
            last.map(|(_, checkpoint)| checkpoint.clone())
        };
        assert_eq!(
            latents(&together, i),
            latents(&alone, 0),
            "latents of row {i}"
        );
        for other in &together.images[..i] {
            assert_ne!(other.as_ref(), Some(&a), "two seeds gave one picture");
        }
    }
}

#[test]
fn every_stage_and_step_is_told_in_order() {
    let mut pipeline = open("flux_schnell");
    let (_, log) = run(&mut pipeline, &[params("a robot", 1)], Log::default());
    let told: Vec<_> = log
        .stages
        .iter()
        .map(|(_, stage, step, steps)| (*stage, *step, *steps))
        .collect();
    use Stage::{Decoding, Encoding, Generating, Loading};
    assert_eq!(
        told,
        [
            // The text encoders, with the first text.
            (Loading, 0, 100),
            (Loading, 100, 100),
            (Encoding, 0, 1),
            (Encoding, 1, 1),
            (Generating, 0, 4),
            (Generating, 1, 4),
            (Generating, 2, 4),
            (Generating, 3, 4),
            (Generating, 4, 4),
            (Decoding, 0, 1),
            (Decoding, 1, 1),
        ]
    );
    assert_eq!(log.previews.len(), 4);
    let (_, last) = &log.previews[3];
    assert_eq!((last.width, last.height), (12, 8));
}

#[test]
fn a_resumed_run_gives_the_bytes_of_an_unbroken_one() {
    let mut pipeline = open("flux_schnell");
    let jobs = [params("a robot", 1), params("a fox", 2)];
    let (_, whole) = run(&mut pipeline, &jobs, Log::default());
    for step in 1..=4 {
        let at = |job: usize| {
            let found = whole
                .checkpoints
                .iter()
                .find(|(j, c)| *j == job && c.step == step);
            found.map(|(_, checkpoint)| checkpoint.clone())
        };
        // Through the file, as after a crash.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        at(0).unwrap().save(&path).unwrap();
        let resume = vec![Some(Checkpoint::load(&path).unwrap()), at(1)];
        let (timings, resumed) = run(
            &mut pipeline,
            &jobs,
            Log {
                resume,
                ..Log::default()
            },
        );
        assert!(timings.iter().all(|t| t.resumed_steps == step));
        assert_eq!(resumed.images, whole.images, "resumed after step {step}");
        // Only one of the two: they part company and still end at the same bytes.
        let resume = vec![None, at(1)];
        let (_, resumed) = run(
            &mut pipeline,
            &jobs,
            Log {
                resume,
                ..Log::default()
            },
        );
        assert_eq!(
            resumed.images, whole.images,
            "one resumed after step {step}"
        );
        // Resumed in other company: alone, and as the third of a new batch.
        let alone = Log {
            resume: vec![at(1)],
            ..Log::default()
        };
        let (_, resumed) = run(&mut pipeline, &jobs[1..], alone);
        assert_eq!(resumed.images[0], whole.images[1]);
        let company = [params("a car", 3), params("a tree", 4), jobs[1].clone()];
        let resume = vec![None, None, at(1)];
        let log = Log {
            resume,
            ..Log::default()
        };
        let (_, resumed) = run(&mut pipeline, &company, log);
        assert_eq!(resumed.images[2], whole.images[1]);
    }
}

#[test]
fn a_checkpoint_of_other_work_is_left_aside() {
    let mut pipeline = open("flux_schnell");
    let (_, first) = run(&mut pipeline, &[params("a robot", 1)], Log::default());
    let checkpoint = Some(first.checkpoints[1].1.clone());
    for other in [
        params("a robot", 2),
        params("a fox", 1),
        ImageParams {
            steps: 5,
            ..params("a robot", 1)
        },
    ] {
        let (_, plain) = run(&mut pipeline, std::slice::from_ref(&other), Log::default());
        let log = Log {
            resume: vec![checkpoint.clone()],
            ..Log::default()
        };
        let (timings, resumed) = run(&mut pipeline, &[other], log);
        assert_eq!(timings[0].resumed_steps, 0);
        assert_eq!(resumed.images, plain.images);
    }
}

#[test]
fn a_cancelled_row_leaves_its_batch_and_the_others_do_not_notice() {
    let mut pipeline = open("flux_schnell");
    let jobs = [params("a robot", 1), params("a fox", 2), params("a car", 3)];
    let (_, whole) = run(&mut pipeline, &jobs, Log::default());
    let log = Log {
        cancel: Some((1, 2)),
        ..Log::default()
    };
    let (_, log) = run(&mut pipeline, &jobs, log);
    assert_eq!(log.images[1], None);
    assert_eq!(
        (&log.images[0], &log.images[2]),
        (&whole.images[0], &whole.images[2])
    );
    let steps = log
        .stages
        .iter()
        .filter(|s| s.0 == 1 && s.1 == Stage::Generating)
        .map(|s| s.2)
        .max();
    assert_eq!(steps, Some(2));
    // The state it stopped in was offered first.
    assert!(
        log.checkpoints
            .iter()
            .any(|(job, checkpoint)| *job == 1 && checkpoint.step == 2)
    );
}

#[test]
fn what_does_not_fit_the_model_is_refused_with_the_reason() {
    let mut pipeline = open("flux_dev");
    let good = ImageParams {
        guidance: Some(3.5),
        ..params("a robot", 1)
    };
    let mut refused = |bad: ImageParams, word: &str| {
        let error = pipeline
            .run(&[bad], RunLimits::NONE, &mut Log::default())
            .unwrap_err();
        assert!(
            matches!(error, Error::BadRequest(_)) && error.to_string().contains(word),
            "{error}"
        );
    };
    refused(
        ImageParams {
            width: 100,
            ..good.clone()
        },
        "multiples of 16",
    );
    refused(
        ImageParams {
            height: 0,
            ..good.clone()
        },
        "multiples of 16",
    );
    refused(
        ImageParams {
            steps: 0,
            ..good.clone()
        },
        "steps",
    );
    refused(
        ImageParams {
            guidance: None,
            ..good.clone()
        },
        "guidance",
    );
    refused(
        ImageParams {
            true_cfg: Some(f32::NAN),
            ..good.clone()
        },
        "finite",
    );
    refused(
        ImageParams {
            text_tokens: 0,
            ..good.clone()
        },
        "text tokens",
    );
    let latents = Tensor::zeros((1, 5, 64), DType::F32, &Device::Cpu).unwrap();
    refused(
        ImageParams {
            latents: Some(latents),
            ..good.clone()
        },
        "[1, 5, 64]",
    );
    let error = pipeline
        .run(
            &[good],
            RunLimits {
                memory: 1000,
                is_frugal: false,
            },
            &mut Log::default(),
        )
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::OutOfMemory {
                available: 1000,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn latents_that_are_not_finite_fail_their_job_alone() {
    let mut pipeline = open("flux_schnell");
    let noise = |value: f32| Tensor::full(value, (1, 24, 64), &Device::Cpu).ok();
    let jobs = [
        ImageParams {
            latents: noise(f32::NAN),
            ..params("a robot", 1)
        },
        params("a fox", 2),
    ];
    let mut log = Log::default();
    let error = pipeline.run(&jobs, RunLimits::NONE, &mut log).unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }), "{error}");
    assert!(log.images[0].is_none() && log.images[1].is_some());
}

#[test]
fn a_frugal_run_decodes_in_tiles_without_a_seam() {
    let mut pipeline = open("flux_schnell");
    let job = ImageParams {
        width: 512,
        height: 256,
        steps: 1,
        ..params("a robot", 1)
    };
    let (_, whole) = run(&mut pipeline, std::slice::from_ref(&job), Log::default());
    let mut log = Log::default();
    let limits = RunLimits {
        memory: u64::MAX,
        is_frugal: true,
    };
    pipeline
        .run(std::slice::from_ref(&job), limits, &mut log)
        .unwrap();
    let (whole, tiled) = (
        whole.images[0].clone().unwrap(),
        log.images[0].clone().unwrap(),
    );
    assert_ne!(whole, tiled);
    // The mean step from one column to the next: nowhere does the tiled picture stand out.
    let columns = |image: &RgbImage| -> Vec<f64> {
        let (width, height) = (image.width as usize, image.height as usize);
        (1..width)
            .map(|x| {
                let at = |x: usize, y: usize| f64::from(image.rgb[3 * (y * width + x)]);
                (0..height)
                    .map(|y| (at(x, y) - at(x - 1, y)).abs())
                    .sum::<f64>()
                    / height as f64
            })
            .collect()
    };
    for (x, (whole, tiled)) in columns(&whole).iter().zip(columns(&tiled)).enumerate() {
        assert!(
            (whole - tiled).abs() < 2.0,
            "column {x}: {whole} against {tiled}"
        );
    }
    let mean = whole
        .rgb
        .iter()
        .zip(&tiled.rgb)
        .map(|(a, b)| f64::from(a.abs_diff(*b)))
        .sum::<f64>()
        / whole.rgb.len() as f64;
    assert!(mean < 6.0, "mean difference {mean}");
}
