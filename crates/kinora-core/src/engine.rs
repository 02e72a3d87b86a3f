//! The messages between the application and `kinora-engine`: one JSON line each, commands on the
//! engine's standard input, reports on its standard output. Logs go to standard error. Tensors and
//! pictures never travel here: they are files named in [`Work`](crate::Work).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Artifact, Failure, JobId, Progress, Work};

/// Both sides refuse a partner with another number.
pub const PROTOCOL: u32 = 1;

/// What the application asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command {
    /// Run these jobs, whose plans are batchable. Answered by one `Done`, `Failed` or `Cancelled`
    /// per job and then one `GroupEnded`.
    Run {
        /// Number of the group, counted up by the application.
        group: u64,
        /// The jobs.
        works: Vec<Work>,
        /// Bytes of memory that models and work may occupy together.
        memory_budget: u64,
    },
    /// Stop one job at its next step. Ignored when it is not running.
    Cancel {
        /// Which.
        job: JobId,
    },
    /// Give the memory of all loaded models back.
    Unload,
    /// End at the next step. So does the end of standard input.
    Shutdown,
}

/// The device that the engine computes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// `cpu`, `cuda`.
    pub kind: String,
    /// Name for people.
    pub name: String,
    /// Whether its memory is the machine's own.
    pub is_unified: bool,
    /// Total memory in bytes.
    pub memory: u64,
}

/// What the engine tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Report {
    /// First line of every engine.
    Ready {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Version of the program.
        version: String,
        /// Process id.
        pid: u32,
        /// What it computes on.
        device: Device,
    },
    /// A job went on.
    Progress {
        /// How far it is.
        progress: Progress,
    },
    /// A job's file is at its staging path, complete and synced.
    Done {
        /// Which job.
        job: JobId,
        /// Which attempt.
        epoch: u32,
        /// What was made.
        artifact: Box<Artifact>,
    },
    /// A job will not work.
    Failed {
        /// Which job.
        job: JobId,
        /// Which attempt.
        epoch: u32,
        /// Why.
        failure: Box<Failure>,
    },
    /// A job stopped as asked.
    Cancelled {
        /// Which job.
        job: JobId,
        /// Which attempt.
        epoch: u32,
    },
    /// Every job of the group has been answered.
    GroupEnded {
        /// Number of the group.
        group: u64,
    },
    /// What is in memory, after each load and eviction.
    Loaded {
        /// Names of the models, most recently used first.
        models: Vec<String>,
        /// Bytes of their weights.
        bytes: u64,
    },
    /// The device is lost; the engine exits after this line.
    Fatal {
        /// Why.
        failure: Box<Failure>,
    },
}
