//! What changed, told to every host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Asset, AssetId, Batch, BatchId, Job, JobId, Progress, QueueStatus, Session, SessionId,
};

/// Something changed. Hosts write it into their caches; nobody has to ask again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A job is new or different.
    JobChanged {
        /// The job as it is now.
        job: Box<Job>,
    },
    /// Many jobs are new or different; lists have to be read again.
    JobsChanged {
        /// Of one batch only, when set.
        batch: Option<BatchId>,
    },
    /// A job is gone.
    JobRemoved {
        /// Which.
        job: JobId,
    },
    /// A running job went on. Sent at most ten times a second per job.
    JobProgress {
        /// How far it is.
        progress: Progress,
    },
    /// A batch is new, or its counts are different.
    BatchChanged {
        /// The batch as it is now.
        batch: Batch,
    },
    /// An asset is new or different (trashed, restored).
    AssetChanged {
        /// The asset as it is now.
        asset: Box<Asset>,
    },
    /// An asset is gone for good.
    AssetRemoved {
        /// Which.
        asset: AssetId,
    },
    /// A session is new or different.
    SessionChanged {
        /// The session as it is now.
        session: Session,
    },
    /// A session is gone.
    SessionRemoved {
        /// Which.
        session: SessionId,
    },
    /// The queue was paused or resumed, or its counts are different.
    QueueChanged {
        /// The queue as it is now.
        queue: QueueStatus,
    },
    /// The catalogue is different.
    ModelsChanged,
    /// The settings are different.
    SettingsChanged,
    /// The listener was too slow and missed events; it has to read everything again.
    Lagged,
}

impl Event {
    /// The job that the event is about, for listeners that follow single jobs.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Event::JobChanged { job } => Some(job.id),
            Event::JobRemoved { job } => Some(*job),
            Event::JobProgress { progress } => Some(progress.job),
            Event::AssetChanged { asset } => asset.job,
            Event::JobsChanged { .. }
            | Event::BatchChanged { .. }
            | Event::AssetRemoved { .. }
            | Event::SessionChanged { .. }
            | Event::SessionRemoved { .. }
            | Event::QueueChanged { .. }
            | Event::ModelsChanged
            | Event::SettingsChanged
            | Event::Lagged => None,
        }
    }
}
