//! A backend that does what a script says, step by step, with real small files.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use kinora_core::{
    Backend, BoxFuture, Code, Failure, JobId, LaneId, Outcome, Plan, Progress, Stage, Watch, Work,
};
use tokio::sync::{Semaphore, watch};

use crate::write_picture;

/// What becomes of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Script {
    /// It goes through its plan's steps and leaves a picture.
    Done,
    /// It goes through some steps, then fails.
    Fail {
        /// After so many steps.
        after: u32,
        /// Why.
        failure: Box<Failure>,
    },
    /// It goes through some steps, then what runs the group dies, and every unfinished job of the
    /// group with it.
    Die {
        /// After so many steps.
        after: u32,
    },
    /// It goes through some steps, then what runs the group is ended from outside.
    Interrupt {
        /// After so many steps.
        after: u32,
    },
    /// It is done, and does not look whether it was cancelled.
    Deaf,
    /// It waits until it is cancelled.
    Hang,
    /// It never ends, cancelled or not.
    Ignore,
    /// The backend panics.
    Panic,
    /// The backend returns without ending it.
    Forget,
    /// It says that it is done, and leaves no file.
    Lie,
    /// It says that it was cancelled, though nobody asked for that.
    Quit,
}

impl Script {
    /// Fails after two steps with this code.
    pub fn fail(code: Code) -> Self {
        Script::Fail {
            after: 2,
            failure: Box::new(Failure::new(code, "do as planned", "Plan something else.")),
        }
    }
}

/// Holds every step back until the test lets it through.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// Lets so many more steps through.
    pub fn open(&self, steps: usize) {
        self.0.add_permits(steps);
    }

    /// Lets everything through from now on.
    pub fn open_wide(&self) {
        self.0.close();
    }

    async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

/// One call of [`Backend::run`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The jobs of the group, in order.
    pub jobs: Vec<JobId>,
    /// Their prompts.
    pub prompts: Vec<String>,
}

type ScriptFn = dyn Fn(&Work) -> Script + Send + Sync;

/// A [`Backend`] without a model. It runs a group's jobs step by step, all of them together.
pub struct FakeBackend {
    lane: LaneId,
    limit: AtomicUsize,
    script: Mutex<Arc<ScriptFn>>,
    gate: Option<Gate>,
    calls: Mutex<Vec<Call>>,
    steps: watch::Sender<u64>,
    recipe_plan: Mutex<Option<Plan>>,
    ready: watch::Sender<bool>,
}

impl Default for FakeBackend {
    fn default() -> Self {
        Self {
            lane: LaneId::local(),
            limit: AtomicUsize::new(1),
            script: Mutex::new(Arc::new(|_| Script::Done)),
            gate: None,
            calls: Mutex::default(),
            steps: watch::Sender::new(0),
            recipe_plan: Mutex::default(),
            ready: watch::Sender::new(true),
        }
    }
}

impl FakeBackend {
    /// Every job is done, one at a time, on the local lane.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes groups of up to so many jobs.
    pub fn with_limit(self, limit: usize) -> Self {
        self.limit.store(limit, Ordering::SeqCst);
        self
    }

    /// Serves another lane.
    pub fn with_lane(mut self, lane: LaneId) -> Self {
        self.lane = lane;
        self
    }

    /// Does what `script` says about each attempt.
    pub fn with_script(self, script: impl Fn(&Work) -> Script + Send + Sync + 'static) -> Self {
        self.set_script(script);
        self
    }

    /// Waits at a gate before each step.
    pub fn with_gate(mut self) -> (Self, Gate) {
        let gate = Gate(Arc::new(Semaphore::new(0)));
        self.gate = Some(gate.clone());
        (self, gate)
    }

    /// Another script, from the next group on.
    pub fn set_script(&self, script: impl Fn(&Work) -> Script + Send + Sync + 'static) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(script);
    }

    /// Puts this plan into the recipe of every picture, for tests that need an odd one.
    pub fn set_recipe_plan(&self, plan: Plan) {
        *self
            .recipe_plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(plan);
    }

    /// Begins to start, or is ready: while it is not, groups wait before their first stage.
    pub fn set_ready(&self, is_ready: bool) {
        self.ready.send_replace(is_ready);
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns once so many steps were made since the backend was made.
    pub async fn wait_for_steps(&self, steps: u64) {
        let mut seen = self.steps.subscribe();
        // The sender lives as long as self.
        let _ = seen.wait_for(|made| *made >= steps).await;
    }

    async fn run_group(&self, group: Vec<Work>, watch: &dyn Watch) {
        let call = Call {
            jobs: group.iter().map(|work| work.job).collect(),
            prompts: group.iter().map(|work| work.plan.prompt.clone()).collect(),
        };
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(call);
        self.await_readiness(true).await;
        let script = self
            .script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut active: Vec<_> = group.iter().map(|work| (work, script(work))).collect();
        for (work, _) in &active {
            for stage in [Stage::Loading, Stage::Encoding] {
                report(watch, work, stage, 0, 0);
            }
        }
        let mut step = 0;
        while !active.is_empty() {
            let mut next = Vec::with_capacity(active.len());
            for (work, script) in std::mem::take(&mut active) {
                let must_stop = watch.is_cancelled(work.job)
                    && !matches!(script, Script::Ignore | Script::Deaf);
                match (must_stop, &script) {
                    (true, _) | (_, Script::Quit) => {
                        watch.finish(work.job, Outcome::Cancelled).await;
                    }
                    (_, Script::Panic) => panic!("planned panic"),
                    (_, Script::Forget) => {}
                    (_, Script::Fail { after, failure }) if *after == step => {
                        let outcome = Outcome::Failed(failure.clone());
                        watch.finish(work.job, outcome).await;
                    }
                    (_, Script::Die { after } | Script::Interrupt { after }) if *after == step => {
                        let lost = Failure::new(Code::EngineLost, "keep the engine alive", "");
                        // Ends of jobs that have ended already are ignored.
                        for other in &group {
                            let lost = Box::new(lost.clone());
                            let outcome = match script {
                                Script::Die { .. } => Outcome::Died(lost),
                                _ => Outcome::Interrupted(lost),
                            };
                            watch.finish(other.job, outcome).await;
                        }
                        return;
                    }
                    (_, Script::Done | Script::Deaf | Script::Lie) if step == work.plan.steps => {
                        report(watch, work, Stage::Decoding, 0, 0);
                        report(watch, work, Stage::Saving, 0, 0);
                        let outcome = self.save(work, &script);
                        watch.finish(work.job, outcome).await;
                    }
                    _ => next.push((work, script)),
                }
            }
            active = next;
            if active.is_empty() {
                break;
            }
            self.make_step(&active, watch).await;
            step += 1;
            for (work, _) in &active {
                report(
                    watch,
                    work,
                    Stage::Generating,
                    step.min(work.plan.steps),
                    work.plan.steps,
                );
            }
            self.steps.send_modify(|made| *made += 1);
        }
    }

    /// One step of the whole group: through the gate, or until a job is cancelled when none of them
    /// will go on by itself.
    async fn make_step(&self, active: &[(&Work, Script)], watch: &dyn Watch) {
        let is_hanging = active
            .iter()
            .all(|(_, script)| matches!(script, Script::Hang | Script::Ignore));
        if is_hanging {
            loop {
                let job = watch.next_cancelled().await;
                let stops =
                    |(work, script): &(&Work, Script)| work.job == job && *script == Script::Hang;
                if active.iter().any(stops) {
                    return;
                }
            }
        }
        match &self.gate {
            Some(gate) => gate.pass().await,
            None => tokio::task::yield_now().await,
        }
    }

    fn save(&self, work: &Work, script: &Script) -> Outcome {
        let written = write_picture(&work.staging, &work.plan);
        match written {
            Ok(mut artifact) => {
                let odd = self
                    .recipe_plan
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                if let Some(plan) = odd.as_ref() {
                    artifact.recipe.plan = plan.clone();
                }
                if *script == Script::Lie {
                    std::fs::remove_file(&work.staging).ok();
                }
                Outcome::Done(Box::new(artifact))
            }
            Err(error) => {
                let code = match error.kind() {
                    std::io::ErrorKind::StorageFull => Code::DiskFull,
                    _ => Code::Io,
                };
                let message = format!("save the picture: {error}");
                Outcome::Failed(Box::new(Failure::new(code, message, "Make room.")))
            }
        }
    }
}

impl Backend for FakeBackend {
    fn lane(&self) -> LaneId {
        self.lane.clone()
    }

    fn group_limit(&self, _: &Plan) -> usize {
        self.limit.load(Ordering::SeqCst)
    }

    fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    fn await_readiness(&self, is_ready: bool) -> BoxFuture<'_, ()> {
        let mut ready = self.ready.subscribe();
        Box::pin(async move {
            // The sender lives as long as self.
            let _ = ready.wait_for(|now| *now == is_ready).await;
        })
    }

    fn run<'a>(&'a self, group: Vec<Work>, watch: &'a dyn Watch) -> BoxFuture<'a, ()> {
        Box::pin(self.run_group(group, watch))
    }
}

fn report(watch: &dyn Watch, work: &Work, stage: Stage, step: u32, steps: u32) {
    let fraction = match stage {
        Stage::Loading | Stage::Encoding => 0.0,
        Stage::Generating => step as f32 / steps.max(1) as f32,
        Stage::Decoding | Stage::Saving => 1.0,
    };
    watch.progress(Progress {
        job: work.job,
        epoch: work.epoch,
        stage,
        step,
        steps,
        fraction,
        eta_seconds: None,
        preview: 0,
        part: None,
    });
}
