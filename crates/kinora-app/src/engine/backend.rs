//! [`LocalBackend`]: this machine's GPU, or its CPU, as a lane of the queue.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kinora_core::{
    Backend, BoxFuture, LaneId, Outcome, Plan, Watch, Work,
    engine::{Command, Device},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    EngineConfig, EngineState, EngineStatus, Exit, StartError,
    child::{Child, Handle},
    memory::{self, budget, refuse, resident_of},
    session::{End, Session},
};

/// How often a group is handed to a fresh engine when the last one died before it began with it.
const UNTOUCHED_LIMIT: u32 = 3;

/// The engine of this machine. Cheap to make: the engine starts with the first job.
pub struct LocalBackend {
    config: Mutex<Arc<EngineConfig>>,
    status: Arc<watch::Sender<EngineStatus>>,
    /// The engine; locked while a group runs.
    slot: tokio::sync::Mutex<Slot>,
    /// The running engine, for those who cannot wait for the lock.
    handle: Arc<Mutex<Option<Handle>>>,
    /// Counts groups; also tells an idle timer whether it is still meant.
    groups: Arc<AtomicU64>,
    /// Set by `shutdown`, for good.
    stopping: CancellationToken,
}

#[derive(Default)]
struct Slot {
    child: Option<Child>,
    /// Deaths and failed starts in a row.
    failures: u32,
}

impl LocalBackend {
    /// A backend whose engine is not running yet.
    pub fn new(config: EngineConfig) -> Self {
        let (status, _) = watch::channel(EngineStatus::default());
        Self {
            config: Mutex::new(Arc::new(config)),
            status: Arc::new(status),
            slot: tokio::sync::Mutex::default(),
            handle: Arc::default(),
            groups: Arc::default(),
            stopping: CancellationToken::new(),
        }
    }

    /// The engine as it is now.
    pub fn status(&self) -> EngineStatus {
        let mut status = self.status.borrow().clone();
        status.resident = status.pid.map_or(0, resident_of);
        status
    }

    /// Bytes that models and work may occupy together at the moment, what is loaded included.
    pub fn memory_budget(&self) -> u64 {
        let status = self.status();
        budget(&self.config(), status.device.as_ref(), status.resident)
    }

    /// Follows the engine's state.
    pub fn subscribe(&self) -> watch::Receiver<EngineStatus> {
        self.status.subscribe()
    }

    /// Changes the configuration; it counts from the next group, or the next start, on.
    pub fn configure(&self, change: impl FnOnce(&mut EngineConfig)) {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut config));
    }

    /// Gives the memory of all loaded models back, after the running group if there is one.
    pub fn unload(&self) {
        if let Some(handle) = self.current_handle() {
            handle.send(Command::Unload);
        }
    }

    /// Starts the engine ahead of the first job, so that the device is known.
    ///
    /// # Errors
    /// Why it could not be started.
    pub async fn warm_up(&self) -> Result<Device, StartError> {
        let config = self.config();
        let mut slot = self.slot.lock().await;
        Ok(self.ensure(&config, &mut slot).await?.device.clone())
    }

    /// Ends the engine: at its next step when asked, else killed. Jobs that it was running stay
    /// unfinished, with their checkpoints. Later groups are refused.
    pub async fn shutdown(&self) {
        self.stopping.cancel();
        let grace = self.config().stop_grace;
        if let Some(handle) = self.current_handle() {
            handle.send(Command::Shutdown);
        }
        // A running group gives the lock back once the engine has ended.
        let mut slot = match tokio::time::timeout(grace, self.slot.lock()).await {
            Ok(slot) => slot,
            Err(_) => {
                if let Some(handle) = self.current_handle() {
                    handle.kill();
                }
                self.slot.lock().await
            }
        };
        if let Some(child) = slot.child.take() {
            child.stop(grace).await;
        }
        self.set_handle(None);
        self.show(EngineState::Stopped);
    }

    fn config(&self) -> Arc<EngineConfig> {
        Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn current_handle(&self) -> Option<Handle> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        handle.clone()
    }

    fn set_handle(&self, new: Option<Handle>) {
        *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = new;
    }

    fn show(&self, state: EngineState) {
        self.status.send_if_modified(|status| {
            // An engine that has just ended neither waits nor works.
            let needs_process = matches!(state, EngineState::Idle | EngineState::Running);
            let is_possible = status.pid.is_some() || !needs_process;
            if is_possible {
                status.state = state;
            }
            is_possible
        });
    }

    /// The running engine, or a fresh one; several starts are tried, further and further apart.
    async fn ensure<'s>(
        &self,
        config: &EngineConfig,
        slot: &'s mut Slot,
    ) -> Result<&'s mut Child, StartError> {
        if slot.child.as_mut().is_some_and(Child::has_ended) {
            tracing::warn!("the engine ended while it was idle");
            self.bury(slot, true);
        }
        if slot.child.is_none() {
            self.show(EngineState::Starting);
            match self.start(config, &mut slot.failures).await {
                Ok(child) => {
                    tracing::info!(
                        pid = child.handle.pid,
                        device = child.device.name,
                        "engine ready"
                    );
                    self.set_handle(Some(child.handle.clone()));
                    self.show(EngineState::Idle);
                    slot.child = Some(child);
                }
                Err(error) => {
                    self.status.send_modify(|status| {
                        status.state = EngineState::Unavailable;
                        status.last_failure = Some(error.to_string());
                    });
                    return Err(error);
                }
            }
        }
        slot.child.as_mut().ok_or(StartError::NotFound {
            searched: Vec::new(),
        })
    }

    async fn start(&self, config: &EngineConfig, failures: &mut u32) -> Result<Child, StartError> {
        let mut attempt = 1;
        loop {
            let wait = config.backoff_after(*failures);
            if !wait.is_zero() {
                tracing::info!(
                    ?wait,
                    failures,
                    "waiting before the engine is started again"
                );
                tokio::time::sleep(wait).await;
            }
            match Child::start(config, &self.status).await {
                Ok(child) => return Ok(child),
                Err(error) if error.is_permanent() || attempt >= config.start_attempts => {
                    tracing::error!(%error, "the engine cannot be started");
                    return Err(error);
                }
                Err(error) => tracing::warn!(%error, attempt, "the engine did not start"),
            }
            *failures = failures.saturating_add(1);
            attempt += 1;
        }
    }

    fn bury(&self, slot: &mut Slot, is_own_fault: bool) {
        slot.child = None;
        // Whoever kills engines from outside should not make the next one wait.
        slot.failures = if is_own_fault {
            slot.failures.saturating_add(1)
        } else {
            0
        };
        self.set_handle(None);
    }

    async fn run_group(&self, works: Vec<Work>, watch: &dyn Watch) {
        let config = self.config();
        let group = self.groups.fetch_add(1, Ordering::SeqCst) + 1;
        let mut slot = self.slot.lock().await;
        self.run_on(&mut slot, &config, group, works, watch).await;
        if slot.child.is_some() {
            self.show(EngineState::Idle);
            self.unload_when_idle(&config, group);
        }
    }

    async fn run_on(
        &self,
        slot: &mut Slot,
        config: &EngineConfig,
        group: u64,
        mut works: Vec<Work>,
        watch: &dyn Watch,
    ) {
        for attempt in 1.. {
            works = drop_cancelled(works, watch).await;
            if works.is_empty() {
                return;
            }
            let started = self.stopping.run_until_cancelled(self.ensure(config, slot));
            let child = match started.await {
                Some(Ok(child)) => child,
                Some(Err(error)) => {
                    let outcome = Outcome::Failed(Box::new(error.to_failure()));
                    return finish_all(works, watch, &outcome).await;
                }
                None => {
                    let outcome = Exit::Stopped.into_outcome(vec![], vec![]);
                    return finish_all(works, watch, &outcome).await;
                }
            };
            // A start takes a while, and people change their minds.
            works = drop_cancelled(works, watch).await;
            let budget = budget(config, Some(&child.device), resident_of(child.handle.pid));
            works = refuse_too_large(works, config, budget, watch).await;
            if works.is_empty() {
                return;
            }
            self.show(EngineState::Running);
            let session = Session::new(config, child, watch, group, &self.stopping);
            match session.run(works, budget).await {
                End::Finished => {
                    slot.failures = 0;
                    return;
                }
                End::Gone { exit, untouched } => {
                    tracing::warn!(%exit, "the engine is gone");
                    self.status
                        .send_modify(|status| status.last_failure = Some(exit.to_string()));
                    self.bury(slot, !exit.is_from_outside());
                    if untouched.is_empty() {
                        return;
                    }
                    if attempt >= UNTOUCHED_LIMIT || exit == Exit::Stopped {
                        let outcome = exit.into_outcome(vec![], vec![]);
                        return finish_all(untouched, watch, &outcome).await;
                    }
                    works = untouched;
                }
            }
        }
    }

    /// Gives models back after a while without another group.
    fn unload_when_idle(&self, config: &EngineConfig, group: u64) {
        let Some(idle) = config.idle_unload else {
            return;
        };
        let groups = Arc::clone(&self.groups);
        let handle = Arc::clone(&self.handle);
        tokio::spawn(async move {
            tokio::time::sleep(idle).await;
            if groups.load(Ordering::SeqCst) == group {
                let handle = handle.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(handle) = handle.as_ref() {
                    handle.send(Command::Unload);
                }
            }
        });
    }
}

async fn drop_cancelled(works: Vec<Work>, watch: &dyn Watch) -> Vec<Work> {
    let (cancelled, wanted): (Vec<Work>, Vec<Work>) =
        (works.into_iter()).partition(|work| watch.is_cancelled(work.job));
    for work in cancelled {
        watch.finish(work.job, Outcome::Cancelled).await;
    }
    wanted
}

async fn refuse_too_large(
    works: Vec<Work>,
    config: &EngineConfig,
    budget: u64,
    watch: &dyn Watch,
) -> Vec<Work> {
    let mut admitted = Vec::with_capacity(works.len());
    for work in works {
        match refuse(&config.memory_rule, &work.plan, budget) {
            None => admitted.push(work),
            Some(failure) => {
                let outcome = Outcome::Failed(Box::new(failure));
                watch.finish(work.job, outcome).await;
            }
        }
    }
    admitted
}

async fn finish_all(works: Vec<Work>, watch: &dyn Watch, outcome: &Outcome) {
    for work in works {
        watch.finish(work.job, outcome.clone()).await;
    }
}

impl Backend for LocalBackend {
    fn lane(&self) -> LaneId {
        LaneId::local()
    }

    fn group_limit(&self, plan: &Plan) -> usize {
        let config = self.config();
        let status = self.status.borrow();
        let device = status.device.as_ref();
        let resident = status.pid.map_or(0, resident_of);
        memory::limit_group(&config, device, plan, resident)
    }

    fn is_ready(&self) -> bool {
        self.status.borrow().state != EngineState::Starting
    }

    fn await_readiness(&self, is_ready: bool) -> BoxFuture<'_, ()> {
        let mut status = self.status.subscribe();
        Box::pin(async move {
            let is_wished =
                |status: &EngineStatus| (status.state != EngineState::Starting) == is_ready;
            if status.wait_for(is_wished).await.is_err() {
                // The backend is gone, and with it everyone who waits.
                std::future::pending::<()>().await;
            }
        })
    }

    fn run<'a>(&'a self, group: Vec<Work>, watch: &'a dyn Watch) -> BoxFuture<'a, ()> {
        Box::pin(self.run_group(group, watch))
    }
}

impl Drop for LocalBackend {
    fn drop(&mut self) {
        // Without its last sender the engine's standard input ends, and so does the engine; one
        // that computes for minutes more would only be in the way.
        if let Some(handle) = self.current_handle() {
            handle.send(Command::Shutdown);
            let grace: Duration = self.config().stop_grace;
            std::thread::spawn(move || {
                std::thread::sleep(grace);
                handle.kill();
            });
        }
    }
}
