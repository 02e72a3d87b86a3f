//! What the application wants stopped, as the GPU thread sees it at its step boundaries.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use kinora_core::JobId;

/// Shared by the thread that reads commands and the one that computes.
#[derive(Debug, Default)]
pub struct Control {
    /// Jobs that were handed in and not answered, and whether they are cancelled.
    jobs: Mutex<HashMap<JobId, bool>>,
    is_stopping: AtomicBool,
}

impl Control {
    fn jobs(&self) -> MutexGuard<'_, HashMap<JobId, bool>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the job can be cancelled. What was said about an earlier attempt is forgotten.
    pub fn admit(&self, job: JobId) {
        self.jobs().insert(job, false);
    }

    /// Wants a job stopped; ignored when it is not here.
    pub fn cancel(&self, job: JobId) {
        if let Some(is_cancelled) = self.jobs().get_mut(&job) {
            *is_cancelled = true;
        }
    }

    /// The job was answered.
    pub fn release(&self, job: JobId) {
        self.jobs().remove(&job);
    }

    /// Whether a job was cancelled.
    pub fn is_cancelled(&self, job: JobId) -> bool {
        self.jobs().get(&job).copied().unwrap_or(false)
    }

    /// Ends everything at the next step.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
    }

    /// Whether everything is to end.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancellation_counts_for_one_attempt_of_a_job_that_is_here() {
        let control = Control::default();
        let job = JobId::new();
        control.cancel(job);
        assert!(!control.is_cancelled(job));
        control.admit(job);
        assert!(!control.is_cancelled(job));
        control.cancel(job);
        assert!(control.is_cancelled(job));
        control.release(job);
        control.admit(job);
        assert!(!control.is_cancelled(job));
    }
}
