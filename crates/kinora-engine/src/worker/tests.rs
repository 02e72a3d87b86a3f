//! The worker over a runner that fails on demand: what becomes of each job of a group.

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::symlink,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    rc::Rc,
};

use crossbeam_channel::unbounded;
use kinora_core::{
    AssetKind, Family, ImageFormat, JobId, Mode, ModelId, OutputPlan, PlannedModel, Progress, Rng,
    Sampler, Schedule, Seed, Stage, WeightFile, engine::Device, plan,
};
use kinora_diffusion::{Error, Result};

use super::*;
use crate::{
    control::Control,
    group::Rhythm,
    hashes::WeightHashes,
    log::LogTail,
    reports::Reports,
    runner::{Need, RgbImage, RunWatch},
    serve::describe_panic,
};

/// One thing that the scripted runner does in a run.
#[derive(Clone, Debug)]
enum Act {
    /// The run fails before any picture.
    Fail(fn() -> Error),
    /// The first job gets no picture, the others do, and then the run fails.
    FailFirst(fn() -> Error),
    /// Every pixel is the same.
    Flat,
    Panic,
    /// All jobs are cancelled from outside before the second step.
    Cancel(JobId),
    Stop,
}

/// A runner without mathematics: pictures are gradients, failures come as scripted.
struct ScriptedRunner {
    device: Device,
    /// What happens in the first run, the second, …; after that all goes well.
    script: VecDeque<Act>,
    /// What was asked of it.
    calls: Rc<RefCell<Vec<String>>>,
    control: Arc<Control>,
}

const WEIGHTS: u64 = 1000;

impl Runner for ScriptedRunner {
    type Model = String;

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> &str {
        "f32"
    }

    fn estimate(&mut self, plan: &Plan) -> Result<Need> {
        Ok(Need {
            weights: WEIGHTS,
            work: plan.size.pixels(),
        })
    }

    fn open(&mut self, model: &PlannedModel, on_load: &mut dyn FnMut(f32)) -> Result<String> {
        self.calls.borrow_mut().push(format!("open {}", model.name));
        on_load(0.5);
        on_load(1.0);
        Ok(model.name.clone())
    }

    fn weight_bytes(&self, _: &String) -> u64 {
        WEIGHTS
    }

    fn run(
        &mut self,
        model: &mut String,
        plans: &[&Plan],
        economy: Economy,
        watch: &mut dyn RunWatch,
    ) -> Result<()> {
        let thrift = if economy.is_frugal { " frugally" } else { "" };
        let call = format!("run {} with {}{thrift}", model, plans.len());
        self.calls.borrow_mut().push(call);
        let act = self.script.pop_front();
        match &act {
            Some(Act::Fail(error)) => return Err(error()),
            Some(Act::Panic) => panic!("as the script says"),
            _ => {}
        }
        for job in 0..plans.len() {
            watch.stage(job, Stage::Encoding, 0, 1);
        }
        let mut running: Vec<usize> = (0..plans.len()).collect();
        for step in 0..plans[0].steps {
            running.retain(|&job| !watch.is_cancelled(job));
            for &job in &running {
                watch.stage(job, Stage::Generating, step, plans[0].steps);
                if step > 0 && watch.wants_preview(job) {
                    watch.preview(job, gradient(plans[job], false));
                }
            }
            match &act {
                Some(Act::Cancel(job)) => self.control.cancel(*job),
                Some(Act::Stop) => self.control.stop(),
                _ => {}
            }
        }
        for &job in &running {
            watch.stage(job, Stage::Decoding, 0, 1);
            if job > 0 || !matches!(act, Some(Act::FailFirst(_))) {
                watch.image(job, gradient(plans[job], matches!(act, Some(Act::Flat))))?;
            }
        }
        match act {
            Some(Act::FailFirst(error)) => Err(error()),
            _ => Ok(()),
        }
    }

    fn release(&mut self) {
        self.calls.borrow_mut().push("release".to_owned());
    }
}

fn gradient(plan: &Plan, is_flat: bool) -> RgbImage {
    let bytes = usize::try_from(plan.size.pixels() * 3).unwrap();
    let value = |place: usize| if is_flat { 7 } else { (place % 251) as u8 };
    RgbImage {
        width: plan.size.width,
        height: plan.size.height,
        rgb: (0..bytes).map(value).collect(),
    }
}

/// A worker over a scripted runner, and what it reported.
struct Bench {
    folder: tempfile::TempDir,
    worker: Worker<ScriptedRunner>,
    reports: crossbeam_channel::Receiver<Report>,
    control: Arc<Control>,
    calls: Rc<RefCell<Vec<String>>>,
}

const PLENTY: u64 = 1 << 30;

impl Bench {
    fn new(script: impl IntoIterator<Item = Act>) -> Self {
        Self::on("cpu", script)
    }

    fn on(kind: &str, script: impl IntoIterator<Item = Act>) -> Self {
        let (reports, received) = Reports::collect();
        let control = Arc::new(Control::default());
        let calls = Rc::default();
        let runner = ScriptedRunner {
            device: Device {
                kind: kind.to_owned(),
                name: "scripted".to_owned(),
                is_unified: true,
                memory: PLENTY,
            },
            script: script.into_iter().collect(),
            calls: Rc::clone(&calls),
            control: Arc::clone(&control),
        };
        let around = Surroundings {
            reports,
            control: Arc::clone(&control),
            hashes: WeightHashes::default(),
            log: LogTail::default(),
            rhythm: Rhythm::default(),
            device: kind.to_owned(),
            dtype: "f32".to_owned(),
            memory_floor: 0,
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            worker: Worker::new(runner, around),
            reports: received,
            control,
            calls,
        }
    }

    /// Has runs leave so much of the machine's memory.
    fn leave(&mut self, memory_floor: u64) {
        let around = Surroundings::clone(&self.worker.around);
        self.worker.around = Arc::new(Surroundings {
            memory_floor,
            ..around
        });
    }

    fn work(&self, model: &str) -> Work {
        let root = self.folder.path().join(model);
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("w.safetensors"), model).unwrap();
        let job = JobId::new();
        let scratch = self.folder.path().join(job.to_string());
        fs::create_dir_all(&scratch).unwrap();
        Work {
            job,
            epoch: 3,
            plan: plan(model, &root),
            staging: self.folder.path().join(format!("{job}.part")),
            scratch,
        }
    }

    /// Runs one group and returns what was reported.
    fn run(&mut self, works: &[Work], budget: u64) -> Vec<Report> {
        let reports = self.try_run(works, budget);
        reports.expect("the engine ended")
    }

    fn try_run(
        &mut self,
        works: &[Work],
        budget: u64,
    ) -> std::result::Result<Vec<Report>, Box<Failure>> {
        let (sender, orders) = unbounded();
        for work in works {
            self.control.admit(work.job);
        }
        sender
            .send(Order::Run {
                group: 1,
                works: works.to_vec(),
                memory_budget: budget,
            })
            .unwrap();
        drop(sender);
        self.worker.run(&orders)?;
        Ok(self.reports.try_iter().collect())
    }
}

pub fn plan(model: &str, root: &Path) -> Plan {
    Plan {
        version: plan::PLAN_VERSION,
        numerics: plan::NUMERICS.to_owned(),
        mode: Mode::TextToImage,
        model: PlannedModel {
            components: Default::default(),
            parts: Default::default(),
            id: ModelId::new(model),
            name: model.to_owned(),
            family: Family::Flux,
            variant: "schnell".to_owned(),
            root: root.to_path_buf(),
            weights: vec![WeightFile {
                component: "transformer".to_owned(),
                file: "w.safetensors".to_owned(),
                bytes: model.len() as u64,
                sha256: None,
            }],
        },
        prompt: "a hill".to_owned(),
        template: None,
        negative_prompt: String::new(),
        source: None,
        draft: None,
        parent: None,
        loras: Vec::new(),
        video: None,
        size: Size {
            width: 128,
            height: 128,
        },
        steps: 3,
        guidance: None,
        true_cfg: None,
        step_cache: None,
        seed: Seed(1),
        rng: Rng::Cpu,
        text_tokens: 64,
        sampler: Sampler::Euler,
        schedule: Schedule::FlowMatch,
        output: OutputPlan {
            stem: "a".to_owned(),
            format: ImageFormat::Png.into(),
        },
    }
}

/// The one answer that a job got.
fn answer<'r>(reports: &'r [Report], work: &Work) -> &'r Report {
    let answers: Vec<&Report> = (reports.iter())
        .filter(|report| match report {
            Report::Done { job, epoch, .. }
            | Report::Failed { job, epoch, .. }
            | Report::Cancelled { job, epoch } => *job == work.job && *epoch == work.epoch,
            _ => false,
        })
        .collect();
    match answers[..] {
        [answer] => answer,
        _ => panic!("{} answers: {answers:?}", answers.len()),
    }
}

fn is_done(reports: &[Report], work: &Work) -> bool {
    matches!(answer(reports, work), Report::Done { .. })
}

fn failure<'r>(reports: &'r [Report], work: &Work) -> &'r Failure {
    match answer(reports, work) {
        Report::Failed { failure, .. } => failure,
        other => panic!("not a failure: {other:?}"),
    }
}

fn progress_of<'r>(reports: &'r [Report], work: &Work) -> Vec<&'r Progress> {
    (reports.iter())
        .filter_map(|report| match report {
            Report::Progress { progress } if progress.job == work.job => Some(progress),
            _ => None,
        })
        .collect()
}

fn no_memory() -> Error {
    Error::OutOfMemory {
        needed: 5 << 30,
        available: 2 << 30,
    }
}

fn not_finite() -> Error {
    Error::NotFinite {
        stage: "latents",
        fault: "not finite",
    }
}

#[test]
fn a_picture_comes_with_its_recipe_and_its_times() {
    let mut bench = Bench::new([]);
    let works = [bench.work("starter"), bench.work("starter")];
    let reports = bench.run(&works, PLENTY);
    assert_eq!(reports.last(), Some(&Report::GroupEnded { group: 1 }));
    for work in &works {
        let Report::Done { artifact, .. } = answer(&reports, work) else {
            panic!("not done: {:?}", answer(&reports, work));
        };
        assert_eq!(artifact.kind, AssetKind::Image);
        assert_eq!(fs::metadata(&work.staging).unwrap().len(), artifact.bytes);
        let recipe = &artifact.recipe;
        assert_eq!(recipe.plan.model.root, Path::new(""));
        assert!(recipe.plan.model.weights[0].sha256.is_some());
        let timings = recipe.timings.unwrap();
        assert_eq!((timings.batch, timings.resumed_steps), (2, 0));
        assert!(timings.saving_ms > 0.0);
        assert!(recipe.created_at.is_some());
        // The file's own copy is free of time and place.
        let inside = kinora_media::read_metadata(&fs::read(&work.staging).unwrap()).unwrap();
        assert_eq!(*inside.recipe.unwrap(), recipe.for_file());
    }
    assert_eq!(
        *bench.calls.borrow(),
        ["open starter", "run starter with 2"]
    );
}

#[test]
fn progress_passes_through_every_stage_and_never_goes_back() {
    let mut bench = Bench::new([]);
    let works = [bench.work("starter")];
    let reports = bench.run(&works, PLENTY);
    let progress = progress_of(&reports, &works[0]);
    let mut stages: Vec<Stage> = progress.iter().map(|progress| progress.stage).collect();
    assert!(stages.is_sorted(), "{stages:?}");
    stages.dedup();
    assert_eq!(
        stages,
        [
            Stage::Loading,
            Stage::Encoding,
            Stage::Generating,
            Stage::Decoding,
            Stage::Saving
        ]
    );
    let fractions: Vec<f32> = progress.iter().map(|progress| progress.fraction).collect();
    assert!(fractions.is_sorted(), "{fractions:?}");
    assert!(fractions.last().is_some_and(|&last| last > 0.99));
    assert!(progress.iter().all(|progress| progress.epoch == 3));
    // A second run knows from the first how long it will take.
    let reports = bench.run(&works, PLENTY);
    let progress = progress_of(&reports, &works[0]);
    let known = progress
        .iter()
        .find(|progress| progress.stage == Stage::Encoding);
    assert!(known.unwrap().eta_seconds.is_some());
    let begun = progress
        .iter()
        .find(|progress| progress.stage == Stage::Generating);
    assert!(begun.unwrap().eta_seconds.is_some());
}

#[test]
fn previews_have_rising_revisions_over_attempts() {
    let mut bench = Bench::new([]);
    let first = bench.work("starter");
    let later = Work {
        epoch: 4,
        ..first.clone()
    };
    let mut last = 0;
    for work in [first, later] {
        let reports = bench.run(std::slice::from_ref(&work), PLENTY);
        let shown = progress_of(&reports, &work);
        let shown = shown.iter().map(|progress| progress.preview).max().unwrap();
        assert!(shown > last, "{shown} after {last}");
        last = shown;
        assert!(work.scratch.join("preview.jpg").exists());
        assert!(!work.scratch.join("preview.part").exists());
    }
}

#[test]
fn a_cancelled_job_leaves_and_the_others_go_on() {
    let mut bench = Bench::new([]);
    let works = [bench.work("starter"), bench.work("starter")];
    bench
        .worker
        .runner
        .script
        .push_back(Act::Cancel(works[0].job));
    let reports = bench.run(&works, PLENTY);
    assert!(matches!(
        answer(&reports, &works[0]),
        Report::Cancelled { .. }
    ));
    assert!(is_done(&reports, &works[1]));
    assert!(!works[0].staging.exists());
}

#[test]
fn out_of_memory_is_tried_again_in_pieces_and_then_told_with_both_numbers() {
    let mut bench = Bench::new([Act::Fail(no_memory), Act::Fail(no_memory)]);
    let works = [bench.work("starter"), bench.work("starter")];
    let reports = bench.run(&works, PLENTY);
    let failed = failure(&reports, &works[0]);
    assert_eq!(failed.code, Code::OutOfMemory);
    assert!(failed.message.contains("5.0 GiB") && failed.message.contains("2.0 GiB"));
    assert!(matches!(
        failed.fix,
        Some(Fix::Resize {
            width: 96,
            height: 96
        })
    ));
    assert!(failed.stage.is_some() && !failed.memory.is_empty());
    // The other one fitted at the second try.
    assert!(is_done(&reports, &works[1]));
    assert_eq!(
        *bench.calls.borrow(),
        [
            "open starter",
            "run starter with 2",
            "release",
            "run starter with 1 frugally",
            "run starter with 1 frugally"
        ]
    );
}

#[test]
fn a_run_ends_before_the_machine_is_short_of_memory_that_the_gpu_shares() {
    let mut bench = Bench::new([]);
    bench.leave(u64::MAX);
    let works = [bench.work("starter"), bench.work("starter")];
    let reports = bench.run(&works, PLENTY);
    for work in &works {
        let failed = failure(&reports, work);
        assert_eq!(failed.code, Code::OutOfMemory);
        assert!(failed.message.contains("are left"), "{}", failed.message);
    }
    bench.leave(1);
    let works = [bench.work("starter")];
    assert!(is_done(&bench.run(&works, PLENTY), &works[0]));
}

#[test]
fn a_plan_that_cannot_fit_is_refused_before_anything_is_loaded() {
    let mut bench = Bench::new([]);
    let works = [bench.work("starter")];
    let needed = WEIGHTS + works[0].plan.size.pixels();
    let reports = bench.run(&works, needed - 1);
    let refused = failure(&reports, &works[0]);
    assert_eq!(refused.code, Code::OutOfMemory);
    assert_eq!(
        refused.fix,
        Some(Fix::Resize {
            width: 112,
            height: 112
        })
    );
    assert!(bench.calls.borrow().is_empty());
    assert!(is_done(&bench.run(&works, needed), &works[0]));
}

#[test]
fn one_bad_result_does_not_spoil_the_group() {
    let mut bench = Bench::new([Act::FailFirst(not_finite)]);
    let works = [bench.work("starter"), bench.work("starter")];
    let reports = bench.run(&works, PLENTY);
    assert_eq!(failure(&reports, &works[0]).code, Code::BadResult);
    assert!(is_done(&reports, &works[1]));
    assert_eq!(
        *bench.calls.borrow(),
        ["open starter", "run starter with 2"]
    );

    let mut bench = Bench::new([Act::Flat]);
    let works = [bench.work("starter")];
    let reports = bench.run(&works, PLENTY);
    assert_eq!(failure(&reports, &works[0]).code, Code::BadResult);
    assert!(!works[0].staging.exists());
}

#[test]
fn only_unanswered_jobs_are_tried_again() {
    let mut bench = Bench::new([Act::FailFirst(no_memory)]);
    let works = [bench.work("starter"), bench.work("starter")];
    let reports = bench.run(&works, PLENTY);
    assert!(works.iter().all(|work| is_done(&reports, work)));
    assert_eq!(
        *bench.calls.borrow(),
        [
            "open starter",
            "run starter with 2",
            "release",
            "run starter with 1 frugally"
        ]
    );
}

#[test]
fn a_full_disk_fails_the_job_that_met_it() {
    let mut bench = Bench::new([]);
    let works = [bench.work("starter"), bench.work("starter")];
    // Every write to this device is refused for want of room.
    symlink("/dev/full", &works[0].staging).unwrap();
    let reports = bench.run(&works, PLENTY);
    let failed = failure(&reports, &works[0]);
    assert_eq!(failed.code, Code::DiskFull);
    assert_eq!(failed.fix, Some(Fix::FreeDisk { bytes: None }));
    assert_eq!(failed.stage, Some(Stage::Saving));
    assert!(is_done(&reports, &works[1]));
}

#[test]
fn a_lost_gpu_ends_the_engine_and_a_shape_error_does_not() {
    fn broken() -> Error {
        Error::Device(candle_core::Error::Msg(
            "CUDA_ERROR_LAUNCH_FAILED".to_owned(),
        ))
    }
    let mut bench = Bench::on("cuda", [Act::Fail(broken)]);
    let works = [bench.work("starter")];
    let lost = bench.try_run(&works, PLENTY).unwrap_err();
    assert_eq!(lost.code, Code::EngineLost);
    assert!(!lost.memory.is_empty());

    let mut bench = Bench::new([Act::Fail(broken)]);
    let works = [bench.work("starter")];
    let reports = bench.run(&works, PLENTY);
    assert_eq!(failure(&reports, &works[0]).code, Code::Internal);
}

#[test]
fn bad_weights_are_not_kept() {
    fn damaged() -> Error {
        Error::bad_weights("w.safetensors", "cut off")
    }
    let mut bench = Bench::new([Act::Fail(damaged)]);
    let works = [bench.work("starter")];
    let reports = bench.run(&works, PLENTY);
    assert_eq!(failure(&reports, &works[0]).fix, Some(Fix::RepairModel));
    assert!(is_done(&bench.run(&works, PLENTY), &works[0]));
    let opened = bench
        .calls
        .borrow()
        .iter()
        .filter(|call| *call == "open starter")
        .count();
    assert_eq!(opened, 2);
}

#[test]
fn a_panic_becomes_words() {
    let mut bench = Bench::new([Act::Panic]);
    let works = [bench.work("starter")];
    let panic = catch_unwind(AssertUnwindSafe(|| bench.try_run(&works, PLENTY))).unwrap_err();
    let failure = describe_panic(panic.as_ref(), &LogTail::default());
    assert_eq!(failure.code, Code::Internal);
    assert!(failure.message.contains("as the script says"));
}

#[test]
fn the_least_recently_used_model_makes_room() {
    let mut bench = Bench::new([]);
    let (first, second) = (bench.work("first"), bench.work("second"));
    let pixels = first.plan.size.pixels();
    let loaded = |reports: &[Report]| {
        (reports.iter())
            .filter_map(|report| match report {
                Report::Loaded { models, bytes } => Some((models.join(" "), *bytes)),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let pair = |names: &str, bytes| (names.to_owned(), bytes);
    // Room for two models and a run.
    let budget = 2 * WEIGHTS + pixels;
    let reports = bench.run(std::slice::from_ref(&first), budget);
    assert_eq!(loaded(&reports), [pair("first", 1000)]);
    let reports = bench.run(std::slice::from_ref(&second), budget);
    assert_eq!(loaded(&reports), [pair("second first", 2000)]);
    let reports = bench.run(std::slice::from_ref(&first), budget);
    assert!(is_done(&reports, &first) && loaded(&reports).is_empty());
    // Room for one: the other one has to leave, and is read again later.
    let reports = bench.run(std::slice::from_ref(&first), budget - 1);
    assert_eq!(loaded(&reports), [pair("first", 1000)]);
    let reports = bench.run(std::slice::from_ref(&second), budget - 1);
    assert_eq!(loaded(&reports), [pair("", 0), pair("second", 1000)]);
    assert!(is_done(&reports, &second));
}

#[test]
fn unloading_gives_everything_back() {
    let mut bench = Bench::new([]);
    let work = bench.work("starter");
    bench.run(std::slice::from_ref(&work), PLENTY);
    let (sender, orders) = unbounded();
    sender.send(Order::Unload).unwrap();
    drop(sender);
    bench.worker.run(&orders).unwrap();
    let loaded = Report::Loaded {
        models: Vec::new(),
        bytes: 0,
    };
    assert_eq!(bench.reports.try_iter().collect::<Vec<_>>(), [loaded]);
    assert_eq!(bench.calls.borrow().last().unwrap(), "release");
}

#[test]
fn an_engine_that_is_told_to_end_leaves_its_jobs_unanswered() {
    let mut bench = Bench::new([Act::Stop]);
    let works = [bench.work("starter")];
    let reports = bench.run(&works, PLENTY);
    assert!(
        reports
            .iter()
            .all(|report| matches!(report, Report::Progress { .. } | Report::Loaded { .. })),
        "{reports:?}"
    );
    assert!(!works[0].staging.exists());
}

#[test]
fn plans_that_do_not_go_together_are_refused() {
    let mut bench = Bench::new([]);
    let works = [bench.work("starter"), bench.work("other")];
    let reports = bench.run(&works, PLENTY);
    assert!(is_done(&reports, &works[0]));
    assert_eq!(failure(&reports, &works[1]).code, Code::Internal);
}

#[test]
fn nonsense_from_the_application_ends_the_engine() {
    let mut bench = Bench::new([]);
    let (sender, orders) = unbounded();
    sender
        .send(Order::Nonsense("unknown variant".to_owned()))
        .unwrap();
    drop(sender);
    let failure = bench.worker.run(&orders).unwrap_err();
    assert!(failure.message.contains("unknown variant"));
}
