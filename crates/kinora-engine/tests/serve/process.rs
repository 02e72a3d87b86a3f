//! A real engine process, spoken to as the application does.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command as Program, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use kinora_core::{
    Artifact, Failure, ImageFormat, JobId, Mode, ModelId, OutputPlan, Plan, PlannedModel,
    PlannedPicture, Progress, Recipe, Rng, Sampler, Schedule, Seed, Size, Stage, Work,
    engine::{Command, Report},
    plan,
};

/// Longest that anything may take here.
const PATIENCE: Duration = Duration::from_secs(120);

/// Memory for tests that do not care.
pub const PLENTY: u64 = 4 << 30;

/// A running engine.
pub struct Engine {
    pub child: Child,
    stdin: Option<ChildStdin>,
    reports: Receiver<Report>,
    groups: u64,
}

impl Engine {
    /// Starts `kinora-engine serve` and waits until it is ready.
    pub fn start(arguments: &[&str]) -> Self {
        let mut program = Program::new(env!("CARGO_BIN_EXE_kinora-engine"));
        program.args(["serve", "--device", "cpu"]).args(arguments);
        Self::start_program(program)
    }

    /// Starts a program that is, or becomes, an engine.
    pub fn start_program(mut program: Program) -> Self {
        let mut child = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, reports) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines() {
                let Ok(line) = line else { return };
                // Whatever is no report has no business on standard output.
                let report = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
                if sender.send(report).is_err() {
                    return;
                }
            }
        });
        let mut engine = Self {
            stdin: child.stdin.take(),
            child,
            reports,
            groups: 0,
        };
        let ready = engine.next().unwrap();
        assert!(matches!(ready, Report::Ready { .. }), "{ready:?}");
        engine
    }

    pub fn send(&mut self, command: &Command) {
        self.send_line(&serde_json::to_string(command).unwrap());
    }

    pub fn send_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
    }

    /// Hands in a group.
    pub fn begin(&mut self, works: &[Work], memory_budget: u64) {
        self.groups += 1;
        self.send(&Command::Run {
            group: self.groups,
            works: works.to_vec(),
            memory_budget,
        });
    }

    /// The next report; None when there will be no more.
    pub fn next(&mut self) -> Option<Report> {
        match self.reports.recv_timeout(PATIENCE) {
            Ok(report) => Some(report),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(error) => panic!("the engine is silent: {error}"),
        }
    }

    /// Runs a group and returns everything that was reported about it.
    pub fn run(&mut self, works: &[Work], memory_budget: u64) -> Vec<Report> {
        self.begin(works, memory_budget);
        self.finish()
    }

    /// Everything up to the end of the running group.
    pub fn finish(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        loop {
            let report = self.next().expect("the engine ended");
            let is_end = matches!(report, Report::GroupEnded { .. });
            reports.push(report);
            if is_end {
                return reports;
            }
        }
    }

    /// Waits until a job has done so many denoising steps.
    pub fn await_step(&mut self, work: &Work, step: u32) -> Progress {
        loop {
            match self.next().expect("the engine ended") {
                Report::Progress { progress }
                    if progress.job == work.job
                        && progress.stage == Stage::Generating
                        && progress.step >= step =>
                {
                    return progress;
                }
                Report::Progress { .. } | Report::Loaded { .. } => {}
                other => panic!("too late: {other:?}"),
            }
        }
    }

    /// Ends its input.
    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end and returns the reports that were still coming.
    pub fn wait(&mut self) -> (ExitStatus, Vec<Report>) {
        let reports = std::iter::from_fn(|| self.next()).collect();
        (self.child.wait().unwrap(), reports)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The model that ships with Kinora.
pub fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/image")
}

/// A plan for a model, as the application would make it.
pub fn plan(root: &Path, prompt: &str, steps: u32) -> Plan {
    let layout = kinora_weights::recognise(root).unwrap();
    Plan {
        version: plan::PLAN_VERSION,
        numerics: plan::NUMERICS.to_owned(),
        mode: Mode::TextToImage,
        model: PlannedModel {
            components: Default::default(),
            parts: Default::default(),
            id: ModelId::new("starter"),
            name: root.file_name().unwrap().to_string_lossy().into_owned(),
            family: layout.family(),
            variant: layout.variant().to_owned(),
            root: root.to_path_buf(),
            weights: layout.weights().to_vec(),
        },
        prompt: prompt.to_owned(),
        template: None,
        negative_prompt: String::new(),
        source: None,
        draft: None,
        parent: None,
        loras: Vec::new(),
        video: None,
        size: Size {
            width: 64,
            height: 64,
        },
        steps,
        guidance: None,
        true_cfg: None,
        step_cache: None,
        seed: Seed(7),
        rng: Rng::Cpu,
        text_tokens: 64,
        sampler: Sampler::Euler,
        schedule: Schedule::FlowMatch,
        output: OutputPlan {
            stem: "picture".to_owned(),
            format: ImageFormat::Png.into(),
        },
    }
}

/// A recorded case of the reference library: a tiny model of any family.
pub fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tools/goldens/cases/{name}/model"))
}

/// A picture file with edges in it, as plans name it.
pub fn picture(folder: &Path, name: &str, (width, height): (u32, u32)) -> PlannedPicture {
    let rgb: Vec<u8> = (0..width * height)
        .flat_map(|i| {
            let (x, y) = (i % width, i / width);
            [(x * 5) as u8, (y * 3) as u8, if x > y { 200 } else { 40 }]
        })
        .collect();
    keep_picture(folder, name, &rgb, (width, height))
}

/// Pixels as a file that plans name.
pub fn keep_picture(
    folder: &Path,
    name: &str,
    rgb: &[u8],
    (width, height): (u32, u32),
) -> PlannedPicture {
    let path = folder.join(name);
    let recipe = Recipe {
        recipe: 1,
        kinora: String::new(),
        plan: plan(&starter(), "x", 1),
        device: String::new(),
        dtype: String::new(),
        timings: None,
        created_at: None,
    };
    let written = kinora_media::write_picture(&path, rgb, width, height, ImageFormat::Png, &recipe);
    PlannedPicture {
        sha256: written.unwrap().sha256.parse().unwrap(),
        width,
        height,
        asset: None,
        path,
    }
}

/// A job with folders of its own.
pub fn work(folder: &Path, plan: Plan) -> Work {
    let job = JobId::new();
    let scratch = folder.join(format!("scratch-{job}"));
    fs::create_dir_all(&scratch).unwrap();
    Work {
        job,
        epoch: 1,
        plan,
        staging: folder.join(format!(".kinora-{job}-1.part")),
        scratch,
    }
}

/// The same job tried once more, with a staging file of its own.
pub fn next_attempt(work: &Work) -> Work {
    let epoch = work.epoch + 1;
    Work {
        epoch,
        staging: work.staging.with_extension(format!("{epoch}.part")),
        ..work.clone()
    }
}

/// The artifact of a job that has to be done.
pub fn artifact<'r>(reports: &'r [Report], work: &Work) -> &'r Artifact {
    let answer = reports.iter().find_map(|report| match report {
        Report::Done {
            job,
            epoch,
            artifact,
        } if (*job, *epoch) == (work.job, work.epoch) => Some(artifact),
        Report::Failed { job, failure, .. } if *job == work.job => panic!("{failure:?}"),
        _ => None,
    });
    answer.unwrap_or_else(|| panic!("not done: {reports:?}"))
}

/// The failure of a job that has to fail.
pub fn failure<'r>(reports: &'r [Report], work: &Work) -> &'r Failure {
    let answer = reports.iter().find_map(|report| match report {
        Report::Failed { job, failure, .. } if *job == work.job => Some(failure),
        _ => None,
    });
    answer.unwrap_or_else(|| panic!("not failed: {reports:?}"))
}

/// A copy of a model's folder.
pub fn copy_model(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_model(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
