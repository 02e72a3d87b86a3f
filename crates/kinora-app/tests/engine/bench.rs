//! What the cases need: works, a watch that remembers, a backend over a scripted engine.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use kinora_app::engine::{EngineConfig, EngineStatus, LocalBackend, MemorySource};
use kinora_core::{
    Backend, BoxFuture, Family, ImageFormat, JobId, Mode, ModelId, Outcome, OutputPlan, Plan,
    PlannedModel, Progress, Rng, Sampler, Schedule, Seed, Size, Watch, WeightFile, Work, plan,
};
use tokio::sync::mpsc;

use crate::double::{Act, Greeting, ROLE, Script};

/// Longest that any case waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A scripted engine in a folder of its own, and the backend that supervises it.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub backend: LocalBackend,
    runtime: tokio::runtime::Runtime,
}

/// What may differ between cases.
pub struct Setup {
    pub greeting: Greeting,
    pub groups: Vec<Vec<Act>>,
    pub is_obedient: bool,
    pub config: EngineConfig,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            greeting: Greeting::Ready,
            groups: Vec::new(),
            is_obedient: true,
            config: EngineConfig {
                backoff: Duration::from_millis(10),
                stop_grace: Duration::from_millis(500),
                idle_unload: None,
                ..EngineConfig::default()
            },
        }
    }
}

impl Bench {
    pub fn new(setup: Setup) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), setup)
    }

    pub fn in_folder(folder: tempfile::TempDir, setup: Setup) -> Self {
        let script = Script {
            folder: folder.path().to_path_buf(),
            greeting: setup.greeting,
            groups: setup.groups,
            is_obedient: setup.is_obedient,
        };
        let mut config = setup.config;
        config
            .program
            .get_or_insert(std::env::current_exe().unwrap());
        config.arguments = vec![ROLE.into(), serde_json::to_string(&script).unwrap().into()];
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self {
            folder,
            backend: LocalBackend::new(config),
            runtime,
        }
    }

    /// Runs jobs to their end and tells how each ended.
    pub fn run(&self, works: &[Work]) -> Record {
        let watch = Record::new();
        self.block_on(self.backend.run(works.to_vec(), &watch));
        watch
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(PATIENCE, future).await };
        self.runtime.block_on(bounded).expect("it takes too long")
    }

    /// Waits until the engine's status is as wished.
    pub fn await_status(&self, is_wished: impl FnMut(&EngineStatus) -> bool) -> EngineStatus {
        let mut status = self.backend.subscribe();
        self.block_on(async move { status.wait_for(is_wished).await.unwrap().clone() })
    }

    /// How often the engine was started.
    pub fn starts(&self) -> u32 {
        let text = fs::read_to_string(self.folder.path().join("starts")).unwrap_or_default();
        text.parse().unwrap_or(0)
    }
}

/// A made-up machine.
pub fn write_memory(folder: &std::path::Path, total: u64, available: u64) -> MemorySource {
    let meminfo = folder.join("meminfo");
    let text = format!(
        "MemTotal: {} kB\nMemAvailable: {} kB\n",
        total / 1024,
        available / 1024
    );
    fs::write(&meminfo, text).unwrap();
    let vmstat = folder.join("vmstat");
    fs::write(&vmstat, "oom_kill 3\n").unwrap();
    MemorySource { meminfo, vmstat }
}

/// A job of 256×256 pixels.
pub fn work() -> Work {
    Work {
        job: JobId::new(),
        epoch: 1,
        plan: Plan {
            version: plan::PLAN_VERSION,
            numerics: plan::NUMERICS.to_owned(),
            mode: Mode::TextToImage,
            model: PlannedModel {
                components: Default::default(),
                parts: Default::default(),
                id: ModelId::new("starter"),
                name: "Starter".to_owned(),
                family: Family::Flux,
                variant: "schnell".to_owned(),
                root: PathBuf::from("/models/starter"),
                weights: vec![WeightFile {
                    component: "transformer".to_owned(),
                    file: "transformer/weights.safetensors".to_owned(),
                    bytes: 10 << 20,
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
                width: 256,
                height: 256,
            },
            steps: 4,
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
        },
        staging: PathBuf::from("/nowhere/a.part"),
        scratch: PathBuf::from("/nowhere/scratch"),
    }
}

/// Remembers what a backend told about a group.
pub struct Record {
    seen: Mutex<Seen>,
    cancelled: Mutex<HashSet<JobId>>,
    announce: mpsc::UnboundedSender<JobId>,
    announced: tokio::sync::Mutex<mpsc::UnboundedReceiver<JobId>>,
    progressed: tokio::sync::Notify,
}

#[derive(Default)]
struct Seen {
    progress: Vec<Progress>,
    outcomes: BTreeMap<JobId, Vec<Outcome>>,
}

impl Record {
    pub fn new() -> Self {
        let (announce, announced) = mpsc::unbounded_channel();
        Self {
            seen: Mutex::default(),
            cancelled: Mutex::default(),
            announce,
            announced: tokio::sync::Mutex::new(announced),
            progressed: tokio::sync::Notify::new(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    pub fn cancel(&self, job: JobId) {
        self.cancelled.lock().unwrap().insert(job);
        self.announce.send(job).unwrap();
    }

    /// Resolves with the first progress report.
    pub async fn progressed(&self) {
        self.progressed.notified().await;
    }

    pub fn progress_count(&self) -> usize {
        self.seen().progress.len()
    }

    /// The one outcome of a job.
    pub fn outcome(&self, work: &Work) -> Outcome {
        let seen = self.seen();
        let outcomes = seen.outcomes.get(&work.job).map(Vec::as_slice);
        match outcomes.unwrap_or_default() {
            [outcome] => outcome.clone(),
            other => panic!("the job ended {} times: {other:?}", other.len()),
        }
    }

    pub fn outcome_count(&self) -> usize {
        self.seen().outcomes.len()
    }

    pub fn is_done(&self, work: &Work) -> bool {
        matches!(self.outcome(work), Outcome::Done(_))
    }

    /// The failure of a job whose engine was ended from outside.
    pub fn interruption(&self, work: &Work) -> kinora_core::Failure {
        match self.outcome(work) {
            Outcome::Interrupted(failure) => *failure,
            other => panic!("not an interruption: {other:?}"),
        }
    }

    /// The failure of a job whose engine died.
    pub fn death(&self, work: &Work) -> kinora_core::Failure {
        match self.outcome(work) {
            Outcome::Died(failure) => *failure,
            other => panic!("not a death: {other:?}"),
        }
    }

    /// The failure of a job that failed by itself.
    pub fn failure(&self, work: &Work) -> kinora_core::Failure {
        match self.outcome(work) {
            Outcome::Failed(failure) => *failure,
            other => panic!("not a failure: {other:?}"),
        }
    }
}

impl Watch for Record {
    fn progress(&self, progress: Progress) {
        self.seen().progress.push(progress);
        self.progressed.notify_one();
    }

    fn is_cancelled(&self, job: JobId) -> bool {
        self.cancelled.lock().unwrap().contains(&job)
    }

    fn next_cancelled(&self) -> BoxFuture<'_, JobId> {
        Box::pin(async move {
            match self.announced.lock().await.recv().await {
                Some(job) => job,
                None => std::future::pending().await,
            }
        })
    }

    fn finish(&self, job: JobId, outcome: Outcome) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.seen().outcomes.entry(job).or_default().push(outcome);
        })
    }
}
