//! What a backend sees of the queue while it runs a group.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use kinora_core::{BoxFuture, Job, JobId, Outcome, Progress, Watch};
use tokio::{
    runtime::Handle,
    sync::{Mutex, mpsc},
};

use crate::{attempt, queue::Inner};

/// A job that a worker of this process holds.
pub(crate) struct Running {
    pub job: JobId,
    pub epoch: u32,
    pub stem: String,
    /// When the attempt began, less when the job was queued, in milliseconds.
    pub queued_ms: f64,
    /// Set once, when the job is cancelled or paused or the program ends.
    is_stopping: AtomicBool,
    /// Set once, by whoever ends the attempt.
    is_finished: AtomicBool,
    stops: mpsc::UnboundedSender<JobId>,
}

impl Running {
    pub fn new(job: &Job, stops: mpsc::UnboundedSender<JobId>) -> Self {
        let started = job.started_at.unwrap_or(job.created_at);
        Self {
            job: job.id,
            epoch: job.epoch,
            stem: job.plan.output.stem.clone(),
            queued_ms: (started.0 - job.created_at.0).max(0) as f64,
            is_stopping: AtomicBool::new(false),
            is_finished: AtomicBool::new(false),
            stops,
        }
    }

    /// Asks the backend to stop at its next step.
    pub fn stop(&self) {
        if !self.is_stopping.swap(true, Ordering::SeqCst) {
            // An error means that the group has ended.
            let _ = self.stops.send(self.job);
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    /// Takes the right to end the attempt; true for the first caller only.
    pub fn take_finish(&self) -> bool {
        !self.is_finished.swap(true, Ordering::SeqCst)
    }

    pub fn is_finished(&self) -> bool {
        self.is_finished.load(Ordering::SeqCst)
    }
}

/// The watch over one group.
pub(crate) struct GroupWatch {
    pub inner: Arc<Inner>,
    pub jobs: HashMap<JobId, Arc<Running>>,
    pub stops: Mutex<mpsc::UnboundedReceiver<JobId>>,
    pub runtime: Handle,
}

impl Watch for GroupWatch {
    fn progress(&self, progress: Progress) {
        match self.jobs.get(&progress.job) {
            Some(running) if !running.is_finished() => {
                self.inner.note_progress(progress, &self.runtime);
            }
            _ => tracing::debug!(job = %progress.job, "progress of a job that does not run"),
        }
    }

    fn is_cancelled(&self, job: JobId) -> bool {
        self.jobs
            .get(&job)
            .is_none_or(|running| running.is_stopping() || running.is_finished())
    }

    fn next_cancelled(&self) -> BoxFuture<'_, JobId> {
        Box::pin(async {
            match self.stops.lock().await.recv().await {
                Some(job) => job,
                // No job of the group is left that could be cancelled.
                None => std::future::pending().await,
            }
        })
    }

    fn finish(&self, job: JobId, outcome: Outcome) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(running) = self.jobs.get(&job).filter(|running| running.take_finish()) else {
                tracing::warn!(%job, "an attempt was ended twice, or is not of this group");
                return;
            };
            // A task of its own: the end of an attempt does not stop half-way when the backend is
            // dropped.
            let end = attempt::end(self.inner.clone(), running.clone(), outcome);
            if let Err(error) = self.inner.tasks.spawn_on(end, &self.runtime).await {
                tracing::error!(%job, %error, "an attempt could not be ended");
            }
        })
    }
}

impl Inner {
    /// Notes that a job runs, under the writer's lock, so that whoever asks it to stop finds it.
    pub fn note_running(&self, running: Arc<Running>) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(running.job, running);
    }

    /// Forgets an attempt, unless a later one of the job has taken its place.
    pub fn forget_running(&self, running: &Running) {
        let mut all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if all
            .get(&running.job)
            .is_some_and(|found| found.epoch == running.epoch)
        {
            all.remove(&running.job);
            self.board.end(running.job);
        }
    }

    /// Asks a running job to stop at its next step.
    pub fn stop_running(&self, job: JobId) {
        let all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = all.get(&job) {
            running.stop();
        }
    }
}
