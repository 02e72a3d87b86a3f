//! What runs plans: this machine's GPU, or a service far away. The queue knows only this.

use std::{future::Future, path::PathBuf, pin::Pin};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Artifact, Failure, JobId, LaneId, Plan, Progress};

/// A boxed future, so that [`Backend`] and [`Watch`] can be trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One claimed job as a backend gets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Work {
    /// Which job.
    pub job: JobId,
    /// Which attempt of it.
    pub epoch: u32,
    /// What to do.
    pub plan: Plan,
    /// File to write the result to, in the folder where it will stay, under a name that marks it
    /// as unfinished. It is complete and synced before [`Outcome::Done`]; the queue renames it
    /// after its own commit.
    pub staging: PathBuf,
    /// Folder of the job for previews and checkpoints. Exists; survives attempts.
    pub scratch: PathBuf,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The file is at `staging`, complete and synced.
    Done(Box<Artifact>),
    /// It will not work, and why.
    Failed(Box<Failure>),
    /// It stopped because [`Watch::is_cancelled`] said so. A checkpoint may be left in `scratch`.
    Cancelled,
    /// What ran it died, and the job may be the reason (it crashed, its device is lost, memory ran
    /// out). The attempt is lost, the job is not; a second death makes it poison.
    Died(Box<Failure>),
    /// What ran it was ended from outside, for a reason that is not the job's. The attempt is lost,
    /// the job is not, and nobody is blamed.
    Interrupted(Box<Failure>),
}

/// What a backend tells, and is told, while it runs a group of jobs.
pub trait Watch: Send + Sync {
    /// The latest progress of one job. Cheap; call it at every step.
    fn progress(&self, progress: Progress);

    /// Whether a job was cancelled or paused, and should stop at its next step.
    fn is_cancelled(&self, job: JobId) -> bool;

    /// Resolves each time that some job of the group is newly cancelled or paused, with its id.
    fn next_cancelled(&self) -> BoxFuture<'_, JobId>;

    /// Ends the attempt of one job; returns once that is durable. Each job of a group is finished
    /// exactly once, in any order, as soon as its outcome is known.
    fn finish(&self, job: JobId, outcome: Outcome) -> BoxFuture<'_, ()>;
}

/// Turns plans into artifacts.
///
/// A backend runs groups of jobs whose plans are [batchable](Plan::is_batchable_with) one after
/// another on its lane; the queue never calls `run` again before the last call has returned.
/// Retries, order, durability and naming are the queue's; a backend only does the work. It grows
/// when a second kind of backend needs something that the first cannot be asked for.
pub trait Backend: Send + Sync {
    /// The serial track that this backend serves.
    fn lane(&self) -> LaneId;

    /// How many jobs like this one it takes in one run, memory considered; at least 1.
    fn group_limit(&self, plan: &Plan) -> usize;

    /// Whether it could begin with a job at once; false while what it runs on is starting.
    fn is_ready(&self) -> bool {
        true
    }

    /// Resolves once [`Backend::is_ready`] says so, or no longer says so.
    fn await_readiness(&self, is_ready: bool) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if !is_ready {
                std::future::pending::<()>().await;
            }
        })
    }

    /// Runs a group to its end: every job is finished through `watch` before this returns.
    fn run<'a>(&'a self, group: Vec<Work>, watch: &'a dyn Watch) -> BoxFuture<'a, ()>;
}
