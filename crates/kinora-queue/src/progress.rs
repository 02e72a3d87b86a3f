//! The progress of running jobs: in memory only, the latest wins, told at most ten times a second
//! per job, with the time that is left.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kinora_core::{Event, JobId, ModelId, Plan, Progress, Size, Stage};
use tokio::{runtime::Handle, time::Instant};

use crate::{Estimate, queue::Inner};

/// How often the progress of one job is told at most.
pub const PROGRESS_PER_SECOND: u32 = 10;

const REST: Duration = Duration::from_millis(1_000 / PROGRESS_PER_SECOND as u64);

/// The latest progress of every running job.
#[derive(Default)]
pub(crate) struct Board(Mutex<HashMap<JobId, Line>>);

struct Line {
    epoch: u32,
    estimate: Option<Estimate>,
    started: Instant,
    /// When the first step was seen, and which it was.
    first_step: Option<(Instant, u32)>,
    latest: Option<Progress>,
    told: Option<Instant>,
    is_scheduled: bool,
}

impl Board {
    fn lines(&self) -> MutexGuard<'_, HashMap<JobId, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin(&self, job: JobId, epoch: u32, estimate: Option<Estimate>) {
        let line = Line {
            epoch,
            estimate,
            started: Instant::now(),
            first_step: None,
            latest: None,
            told: None,
            is_scheduled: false,
        };
        self.lines().insert(job, line);
    }

    pub fn end(&self, job: JobId) {
        self.lines().remove(&job);
    }

    pub fn get(&self, job: JobId) -> Option<Progress> {
        self.lines().get(&job)?.latest.clone()
    }

    pub fn all(&self) -> Vec<Progress> {
        let lines = self.lines();
        lines.values().filter_map(|l| l.latest.clone()).collect()
    }

    /// Seconds until the last of the running jobs is done; None when that cannot be told.
    pub fn remaining(&self) -> Option<f64> {
        let lines = self.lines();
        let mut longest = 0.0_f64;
        for line in lines.values() {
            let left = match line.latest.as_ref().and_then(|latest| latest.eta_seconds) {
                Some(seconds) => f64::from(seconds),
                None => {
                    let estimate = line.estimate?;
                    (estimate.seconds - line.started.elapsed().as_secs_f64()).max(0.0)
                }
            };
            longest = longest.max(left);
        }
        Some(longest)
    }
}

impl Line {
    /// Seconds that are left: by the job's own steps once two were seen, by history before.
    fn remaining(&mut self, progress: &Progress, now: Instant) -> Option<f32> {
        if progress.stage == Stage::Generating && progress.steps > 0 {
            let (since, first) = *self.first_step.get_or_insert((now, progress.step));
            let done = progress.step.saturating_sub(first);
            let left = f64::from(progress.steps.saturating_sub(progress.step));
            let tail = self.estimate.map_or(0.0, |estimate| estimate.tail_seconds);
            if done > 0 {
                let step = (now - since).as_secs_f64() / f64::from(done);
                return Some((left * step + tail) as f32);
            }
            let step = self.estimate?.step_seconds;
            return Some((left * step + tail) as f32);
        }
        let estimate = self.estimate?;
        // What is left of this stage, where it can be counted.
        let share = match progress.steps {
            0 => 1.0,
            steps => f64::from(steps.saturating_sub(progress.step)) / f64::from(steps),
        };
        let left = match progress.stage {
            Stage::Loading => estimate.load_seconds * share + estimate.seconds,
            Stage::Encoding | Stage::Generating => estimate.seconds,
            Stage::Decoding => estimate.tail_seconds * share,
            Stage::Saving => estimate.tail_seconds,
        };
        Some(left as f32)
    }
}

impl Inner {
    /// Takes a backend's report, and tells it now, later, or never when a newer one comes first.
    pub(crate) fn note_progress(self: &Arc<Self>, mut progress: Progress, runtime: &Handle) {
        let now = Instant::now();
        let job = progress.job;
        let mut lines = self.board.lines();
        let Some(line) = lines.get_mut(&job).filter(|l| l.epoch == progress.epoch) else {
            return;
        };
        let remaining = line.remaining(&progress, now);
        progress.eta_seconds = progress.eta_seconds.or(remaining);
        line.latest = Some(progress.clone());
        let due = line.told.map_or(now, |told| told + REST);
        if due <= now {
            line.told = Some(now);
            self.changes.send(Event::JobProgress { progress });
        } else if !line.is_scheduled {
            line.is_scheduled = true;
            let inner = self.clone();
            let later = async move {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => inner.tell_latest(job),
                    () = inner.ending.cancelled() => {}
                }
            };
            self.tasks.spawn_on(later, runtime);
        }
    }

    fn tell_latest(&self, job: JobId) {
        let mut lines = self.board.lines();
        if let Some(line) = lines.get_mut(&job) {
            line.is_scheduled = false;
            line.told = Some(Instant::now());
            if let Some(progress) = line.latest.clone() {
                self.changes.send(Event::JobProgress { progress });
            }
        }
    }

    /// What a plan will take.
    pub(crate) fn estimate(&self, plan: &Plan) -> Option<Estimate> {
        let frames = plan.video.map_or(1, |video| video.worked_frames());
        self.estimate_kind(&plan.model.id, plan.size, frames, plan.steps)
    }

    /// What work of one kind will take.
    pub(crate) fn estimate_kind(
        &self,
        model: &ModelId,
        size: Size,
        frames: u32,
        steps: u32,
    ) -> Option<Estimate> {
        self.history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .estimate(model, size, frames, steps)
    }
}
