//! The queue as a whole: pausing it, and acting on many jobs at once.

use kinora_core::{BatchId, JobState, QueueStatus, SessionId};
use kinora_queue::JobFilter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{app::App, commands::NoInput, error::Result};

/// Which jobs an action is about: all, or those of one session or batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JobScope {
    /// Only of this session.
    pub session: Option<SessionId>,
    /// Only of this batch.
    pub batch: Option<BatchId>,
}

/// Which failed jobs to try again, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryFailed {
    /// Only of this session.
    pub session: Option<SessionId>,
    /// Only of this batch.
    pub batch: Option<BatchId>,
    /// Apply the fix that each failure suggests.
    pub with_fix: bool,
}

/// How many jobs an action changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobCount {
    /// Jobs.
    pub jobs: u64,
}

impl JobScope {
    fn filter(self) -> JobFilter {
        JobFilter {
            session: self.session,
            batch: self.batch,
            ..JobFilter::default()
        }
    }
}

/// The queue as a whole.
pub async fn status(app: &App, _: NoInput) -> Result<QueueStatus> {
    Ok(app.queue().status().await?)
}

/// Starts no further job.
pub async fn pause(app: &App, _: NoInput) -> Result<QueueStatus> {
    Ok(app.queue().pause_queue().await?)
}

/// Goes on starting jobs.
pub async fn resume(app: &App, _: NoInput) -> Result<QueueStatus> {
    Ok(app.queue().resume_queue().await?)
}

/// Cancels every unfinished job of a scope.
pub async fn cancel_all(app: &App, input: JobScope) -> Result<JobCount> {
    let jobs = app.queue().cancel_where(input.filter()).await?;
    Ok(JobCount { jobs })
}

/// Queues every failed job of a scope again.
pub async fn retry_failed(app: &App, input: RetryFailed) -> Result<JobCount> {
    let scope = JobScope {
        session: input.session,
        batch: input.batch,
    };
    let new = app.queue().retry_failed(scope.filter(), input.with_fix);
    Ok(JobCount {
        jobs: new.await?.len() as u64,
    })
}

/// Forgets every finished job of a scope.
pub async fn clear_finished(app: &App, input: JobScope) -> Result<JobCount> {
    let filter = JobFilter {
        states: JobState::ALL
            .into_iter()
            .filter(|state| state.is_final())
            .collect(),
        ..input.filter()
    };
    let jobs = app.queue().remove_where(filter).await?;
    Ok(JobCount { jobs })
}
