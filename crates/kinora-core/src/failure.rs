//! Why a job failed, kept with the job: what went wrong, where, and what would help.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Code, Stage};

/// What would make a second attempt succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fix {
    /// The same plan again: the cause has nothing to do with it.
    Retry,
    /// The same plan at a smaller size that fits.
    Resize {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// Room on the disk first.
    FreeDisk {
        /// Bytes that were missing, where that is known.
        bytes: Option<u64>,
    },
    /// The model's files have to be put right first.
    RepairModel,
}

/// Memory at one moment of a run. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemorySample {
    /// Milliseconds since the job began.
    pub at_ms: u64,
    /// Resident memory of the engine.
    pub resident: u64,
    /// What the machine still had.
    pub available: u64,
}

/// A job's post-mortem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The class of the failure.
    pub code: Code,
    /// What went wrong; reads well after "failed to".
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// Where it happened.
    pub stage: Option<Stage>,
    /// At which step of that stage.
    pub step: Option<u32>,
    /// What would help.
    pub fix: Option<Fix>,
    /// The engine's last lines.
    #[serde(default)]
    pub log: Vec<String>,
    /// Memory while it ran.
    #[serde(default)]
    pub memory: Vec<MemorySample>,
}

impl Failure {
    /// A failure without details; add them by field.
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: hint.into(),
            stage: None,
            step: None,
            fix: None,
            log: Vec::new(),
            memory: Vec::new(),
        }
    }
}
