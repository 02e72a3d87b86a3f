//! What can go wrong with the queue, as far as callers act differently on it.

use std::path::PathBuf;

use kinora_core::{AssetId, BatchId, JobId, JobState, LaneId, SessionId};
use thiserror::Error;

/// The result of a queue operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the queue could not do something.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no such job.
    #[error("find job {0}")]
    NoJob(JobId),
    /// There is no such batch.
    #[error("find batch {0}")]
    NoBatch(BatchId),
    /// There is no such session.
    #[error("find session {0}")]
    NoSession(SessionId),
    /// There is no such asset.
    #[error("find picture {0}")]
    NoAsset(AssetId),
    /// No backend serves the lane.
    #[error("find lane {0}")]
    NoLane(LaneId),
    /// The job's state does not allow this.
    #[error("{wanted} job {job}: it is {}", state.as_str())]
    WrongState {
        /// Which job.
        job: JobId,
        /// Where it stands.
        state: JobState,
        /// What was asked for, as a verb.
        wanted: &'static str,
    },
    /// The asset is in the trash, or is not, and this needs the contrary.
    #[error("{wanted} picture {asset}: it is {}in the trash", if *is_trashed { "" } else { "not " })]
    WrongPlace {
        /// Which asset.
        asset: AssetId,
        /// Whether it is in the trash.
        is_trashed: bool,
        /// What was asked for, as a verb.
        wanted: &'static str,
    },
    /// A file name that would leave the outputs folder, or that no file system takes.
    #[error("name a file {stem:?}: {reason}")]
    BadName {
        /// The stem of the plan.
        stem: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file or folder could not be read or written.
    #[error("write {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database could not do something.
    #[error(transparent)]
    Store(#[from] kinora_store::Error),
    /// The program is ending.
    #[error("reach the queue: it has ended")]
    Ended,
}

impl Error {
    /// Whether room on a disk is what is missing.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Error::Store(kinora_store::Error::DiskFull) => true,
            Error::Store(kinora_store::Error::Io { source, .. }) | Error::Io { source, .. } => {
                is_full(source)
            }
            _ => false,
        }
    }
}

/// No room left, on the disk or in the user's share of it.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    )
}
