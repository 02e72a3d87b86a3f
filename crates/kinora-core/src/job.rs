//! Jobs: plans in the queue, and the states that they pass through.
//!
//! ```text
//!            pause                    claim (epoch + 1)
//!   paused ◀──────▶ queued ───────────────────────────▶ running ──▶ done
//!            resume   │  ▲                                 │  │
//!                     │  └── process gone, or paused ──────┘  ├──▶ failed
//!                     └──▶ cancelled ◀────────────────────────┘
//! ```
//!
//! Done, failed and cancelled are final; retrying makes a new job.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AssetId, BatchId, Failure, JobId, LaneId, Plan, Progress, SessionId, Timestamp, Timings,
};

/// Where a job stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for its lane. Entered at submission, after a crash, and by resuming.
    Queued,
    /// Waits for the user to resume it.
    Paused,
    /// A worker holds it, under the job's current epoch.
    Running,
    /// Its assets are stored. Final.
    Done,
    /// It has a [`Failure`]. Final.
    Failed,
    /// The user did not want it any more. Final.
    Cancelled,
}

impl JobState {
    /// Every state, in the order of the life cycle.
    pub const ALL: [JobState; 6] = [
        JobState::Queued,
        JobState::Paused,
        JobState::Running,
        JobState::Done,
        JobState::Failed,
        JobState::Cancelled,
    ];

    /// Whether the state never changes again.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            JobState::Done | JobState::Failed | JobState::Cancelled
        )
    }

    /// The word stored in the database and sent on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Paused => "paused",
            JobState::Running => "running",
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }
}

/// Who goes first. Within one priority, jobs keep the order that the user sees.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Long lists. Never starves: after several jobs of a higher priority, one of these runs.
    Bulk,
    /// Someone is looking at the screen.
    #[default]
    Interactive,
    /// Before everything else.
    Urgent,
}

/// Why a job has not begun. Too little memory is never a reason to wait: such a job is refused, or
/// fails with both numbers, because nobody knows when memory will come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WaitReason {
    /// The queue is paused.
    QueuePaused,
    /// Other jobs are before it.
    Behind {
        /// How many.
        jobs: u64,
    },
    /// It has its turn, and what will run it is still starting.
    EngineStarting,
    /// A disk is full: what runs cannot be stored, or it cannot be noted that more begins.
    DiskFull,
}

/// A plan in the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// Id.
    pub id: JobId,
    /// Jobs asked for together.
    pub batch: Option<BatchId>,
    /// Session it belongs to.
    pub session: Option<SessionId>,
    /// Line of the list that it came from, counted from 1.
    pub line: Option<u32>,
    /// Which copy of its request it is, counted from 0.
    pub copy: u32,
    /// Track it runs on.
    pub lane: LaneId,
    /// Who goes first.
    pub priority: Priority,
    /// Place in the order of its lane and priority; smaller is sooner.
    pub position: i64,
    /// Where it stands.
    pub state: JobState,
    /// How often it was claimed. Every write of a worker carries it.
    pub epoch: u32,
    /// How often the engine died under it.
    pub deaths: u32,
    /// What to do.
    pub plan: Plan,
    /// The job that this one tries again.
    pub retry_of: Option<JobId>,
    /// Set in state failed.
    pub failure: Option<Failure>,
    /// Set in state done.
    pub timings: Option<Timings>,
    /// Stored results; empty until done.
    pub assets: Vec<AssetId>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When its current or last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it reached a final state.
    pub finished_at: Option<Timestamp>,
    /// The user asked a running job to stop; it will at its next step.
    pub is_cancelling: bool,
    /// Latest progress; only in answers, never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why it waits, while it is queued or what runs it is not ready; only in answers, never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<WaitReason>,
}

/// How many jobs stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StateCounts {
    /// Jobs in state queued.
    pub queued: u64,
    /// Jobs in state paused.
    pub paused: u64,
    /// Jobs in state running.
    pub running: u64,
    /// Jobs in state done.
    pub done: u64,
    /// Jobs in state failed.
    pub failed: u64,
    /// Jobs in state cancelled.
    pub cancelled: u64,
}

impl StateCounts {
    /// Sum over all states.
    pub fn total(&self) -> u64 {
        self.queued + self.paused + self.running + self.done + self.failed + self.cancelled
    }

    /// Mutable access by state.
    pub fn get_mut(&mut self, state: JobState) -> &mut u64 {
        match state {
            JobState::Queued => &mut self.queued,
            JobState::Paused => &mut self.paused,
            JobState::Running => &mut self.running,
            JobState::Done => &mut self.done,
            JobState::Failed => &mut self.failed,
            JobState::Cancelled => &mut self.cancelled,
        }
    }
}

/// The queue as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueueStatus {
    /// No job is claimed while this is set; running ones go on.
    pub is_paused: bool,
    /// How many jobs stand where.
    pub counts: StateCounts,
    /// Seconds until everything queued is done, from this machine's own history.
    pub eta_seconds: Option<f64>,
}
