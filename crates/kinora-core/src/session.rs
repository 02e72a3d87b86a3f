//! Groups of jobs: sessions that a user comes back to, and batches asked for at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BatchId, SessionId, StateCounts, Timestamp};

/// What a session is mostly about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// Single pictures.
    #[default]
    Image,
    /// Prompt lists.
    Bulk,
}

/// A named stretch of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// Id.
    pub id: SessionId,
    /// What it is about.
    pub kind: SessionKind,
    /// Taken from the first prompt until the user renames it.
    pub title: String,
    /// How many jobs stand where.
    pub counts: StateCounts,
    /// Stored pictures.
    pub assets: u64,
    /// When it began.
    pub created_at: Timestamp,
    /// When something last happened in it.
    pub updated_at: Timestamp,
}

/// What a batch came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchKind {
    /// The copies of one request.
    Copies,
    /// The rows of a list.
    List,
}

/// Jobs that were asked for together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    /// Id.
    pub id: BatchId,
    /// What it came from.
    pub kind: BatchKind,
    /// File name of the list, or the prompt.
    pub title: String,
    /// Session it belongs to.
    pub session: Option<SessionId>,
    /// How many jobs stand where.
    pub counts: StateCounts,
    /// When it was queued.
    pub created_at: Timestamp,
    /// Seconds until it is done, from this machine's own history.
    pub eta_seconds: Option<f64>,
}
