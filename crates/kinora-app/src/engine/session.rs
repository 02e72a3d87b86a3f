//! One group on one engine, from `Run` to its last answer.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use kinora_core::{
    Failure, JobId, MemorySample, Outcome, Watch, Work,
    engine::{Command, Report},
};

use tokio_util::sync::CancellationToken;

use super::{
    EngineConfig, Exit,
    child::{Child, ChildEvent},
    exit::MemoryEvidence,
    memory::resident_of,
};

/// How often memory is sampled and silence is measured.
const TICK: Duration = Duration::from_millis(500);

/// Samples kept for a post-mortem: every second one is forgotten when there are more.
const SAMPLE_LIMIT: usize = 120;

/// How a session ended.
pub(super) enum End {
    /// Every job is finished, and the engine is ready for the next group.
    Finished,
    /// The engine is gone. The jobs that it had begun are finished; these it had not begun.
    Gone { exit: Exit, untouched: Vec<Work> },
}

/// One group while it runs.
pub(super) struct Session<'a> {
    config: &'a EngineConfig,
    child: &'a mut Child,
    watch: &'a dyn Watch,
    group: u64,
    /// Jobs without an answer.
    pending: Vec<Work>,
    /// Jobs whose cancellation was passed on.
    told: Vec<JobId>,
    has_begun: bool,
    last_report: Instant,
    lost: Option<Box<Failure>>,
    memory: MemoryCurve,
    stopping: &'a CancellationToken,
}

impl<'a> Session<'a> {
    pub fn new(
        config: &'a EngineConfig,
        child: &'a mut Child,
        watch: &'a dyn Watch,
        group: u64,
        stopping: &'a CancellationToken,
    ) -> Self {
        let mut memory = MemoryCurve::new(config, child.handle.pid);
        memory.sample();
        Self {
            config,
            child,
            watch,
            group,
            pending: Vec::new(),
            told: Vec::new(),
            has_begun: false,
            last_report: Instant::now(),
            lost: None,
            memory,
            stopping,
        }
    }

    /// Runs the jobs to their end, or to the engine's.
    pub async fn run(mut self, works: Vec<Work>, memory_budget: u64) -> End {
        self.child.handle.send(Command::Run {
            group: self.group,
            works: works.clone(),
            memory_budget,
        });
        self.pending = works;
        self.pass_on_cancellations();
        let watch = self.watch;
        let mut cancelled = watch.next_cancelled();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut hung_since = None;
        loop {
            tokio::select! {
                event = self.child.events.recv() => match event {
                    Some(ChildEvent::Report(report)) => {
                        self.last_report = Instant::now();
                        if self.take(report).await {
                            return End::Finished;
                        }
                    }
                    Some(ChildEvent::Exited(status)) => {
                        let exit = match (self.lost.take(), hung_since) {
                            _ if self.stopping.is_cancelled() => Exit::Stopped,
                            (Some(failure), _) => Exit::Lost(failure),
                            (None, Some(silent)) => Exit::Hung { silent },
                            (None, None) => Exit::classify(status, self.memory.evidence()),
                        };
                        return self.bury(exit).await;
                    }
                    None => return self.bury(Exit::Left { code: -1 }).await,
                },
                job = &mut cancelled => {
                    self.pass_on_cancellation(job);
                    cancelled = watch.next_cancelled();
                }
                _ = tick.tick() => {
                    self.memory.sample();
                    self.pass_on_cancellations();
                    let silent = self.last_report.elapsed();
                    let patience = if self.lost.is_some() {
                        self.config.stop_grace
                    } else {
                        self.config.stall_timeout
                    };
                    if silent > patience && hung_since.is_none() {
                        tracing::warn!(?silent, "the engine does not answer and is killed");
                        hung_since = Some(silent);
                        self.child.handle.kill();
                    }
                }
            }
        }
    }

    /// Takes one report; true when the group has ended.
    async fn take(&mut self, report: Report) -> bool {
        match report {
            Report::Progress { progress } => {
                if self.is_pending(progress.job, progress.epoch) {
                    self.has_begun = true;
                    self.watch.progress(progress);
                }
            }
            Report::Done {
                job,
                epoch,
                artifact,
            } => self.finish(job, epoch, Outcome::Done(artifact)).await,
            Report::Failed {
                job,
                epoch,
                failure,
            } => self.finish(job, epoch, Outcome::Failed(failure)).await,
            Report::Cancelled { job, epoch } => {
                self.finish(job, epoch, Outcome::Cancelled).await;
            }
            Report::GroupEnded { group } if group == self.group => {
                if self.pending.is_empty() {
                    return true;
                }
                // Nobody will answer for these jobs any more, and what else is wrong with this
                // engine cannot be known.
                self.lost = Some(Box::new(
                    Exit::Confused {
                        what: format!("{} jobs were left unanswered", self.pending.len()),
                    }
                    .into_failure(Vec::new(), Vec::new()),
                ));
                self.has_begun = true;
                self.child.handle.kill();
            }
            Report::Fatal { failure } => {
                tracing::error!(message = failure.message, "the engine lost its device");
                self.lost = Some(failure);
                self.has_begun = true;
            }
            // Of an earlier group, or shown in the status only.
            Report::GroupEnded { .. } | Report::Loaded { .. } | Report::Ready { .. } => {}
        }
        false
    }

    fn is_pending(&self, job: JobId, epoch: u32) -> bool {
        (self.pending.iter()).any(|work| work.job == job && work.epoch == epoch)
    }

    async fn finish(&mut self, job: JobId, epoch: u32, outcome: Outcome) {
        let place = (self.pending.iter()).position(|work| work.job == job && work.epoch == epoch);
        let Some(place) = place else {
            tracing::debug!(%job, epoch, "a report about a job that is not waited for");
            return;
        };
        self.has_begun = true;
        self.pending.remove(place);
        self.watch.finish(job, outcome).await;
    }

    /// Ends the jobs that the engine took along. A group of which it said nothing at all was not
    /// begun: the engine died on its own account, and no job has to answer for it.
    async fn bury(mut self, exit: Exit) -> End {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() && self.lost.is_none() && exit == Exit::Stopped {
            return End::Gone {
                exit,
                untouched: Vec::new(),
            };
        }
        if !self.has_begun {
            return End::Gone {
                exit,
                untouched: pending,
            };
        }
        let outcome = exit
            .clone()
            .into_outcome(self.child.tail.lines(), self.memory.samples());
        for work in pending {
            self.watch.finish(work.job, outcome.clone()).await;
        }
        End::Gone {
            exit,
            untouched: Vec::new(),
        }
    }

    fn pass_on_cancellations(&mut self) {
        let cancelled: Vec<JobId> = (self.pending.iter())
            .map(|work| work.job)
            .filter(|&job| self.watch.is_cancelled(job))
            .collect();
        for job in cancelled {
            self.pass_on_cancellation(job);
        }
    }

    fn pass_on_cancellation(&mut self, job: JobId) {
        let is_pending = self.pending.iter().any(|work| work.job == job);
        if is_pending && !self.told.contains(&job) {
            self.told.push(job);
            self.child.handle.send(Command::Cancel { job });
        }
    }
}

/// A session that is given up early stops its jobs; what they still report finds nobody.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        for work in std::mem::take(&mut self.pending) {
            if !self.told.contains(&work.job) {
                self.child.handle.send(Command::Cancel { job: work.job });
            }
        }
    }
}

/// The engine's memory over a session.
struct MemoryCurve {
    source: super::MemorySource,
    pid: u32,
    began: Instant,
    samples: Vec<MemorySample>,
    /// Every how many ticks one is kept.
    stride: u32,
    ticks: u32,
    recent: VecDeque<u64>,
    total: u64,
    kernel_kills: Option<u64>,
}

impl MemoryCurve {
    fn new(config: &EngineConfig, pid: u32) -> Self {
        Self {
            source: config.memory.clone(),
            pid,
            began: Instant::now(),
            samples: Vec::new(),
            stride: 1,
            ticks: 0,
            recent: VecDeque::new(),
            total: 0,
            kernel_kills: config.memory.count_kernel_kills(),
        }
    }

    fn sample(&mut self) {
        let Some(memory) = self.source.read() else {
            return;
        };
        self.total = memory.total;
        if self.recent.len() == 6 {
            self.recent.pop_front();
        }
        self.recent.push_back(memory.available);
        if self.ticks.is_multiple_of(self.stride) {
            if self.samples.len() == SAMPLE_LIMIT {
                let mut place = 0;
                self.samples.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
                self.stride *= 2;
            }
            self.samples.push(MemorySample {
                at_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
                resident: resident_of(self.pid),
                available: memory.available,
            });
        }
        self.ticks += 1;
    }

    /// What memory looked like before the end. Read from earlier samples: the end itself frees it.
    fn evidence(&self) -> MemoryEvidence {
        let kills = (self.source.count_kernel_kills(), self.kernel_kills);
        MemoryEvidence {
            lowest_available: self.recent.iter().copied().min().unwrap_or(u64::MAX),
            total: self.total,
            has_kernel_killed: matches!(kills, (Some(now), Some(before)) if now > before),
        }
    }

    fn samples(&self) -> Vec<MemorySample> {
        self.samples.clone()
    }
}
