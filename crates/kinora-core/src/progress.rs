//! How far a running job is, and where its time went.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::JobId;

/// A stage of a running job, in order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Weights are read.
    Loading,
    /// Text goes through the encoders.
    Encoding,
    /// The denoiser runs.
    Generating,
    /// Latents become pixels.
    Decoding,
    /// The file is written.
    Saving,
}

/// A part of a stage, for models that share it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StagePart {
    /// The network of the noisy steps: large forms and motion.
    HighNoise,
    /// The network of the steps with little noise: detail.
    LowNoise,
}

/// A running job's latest state. Lives in memory only; the latest wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Which job.
    pub job: JobId,
    /// Which attempt of it.
    pub epoch: u32,
    /// Current stage.
    pub stage: Stage,
    /// Steps done in this stage.
    pub step: u32,
    /// Steps of this stage; 0 where they cannot be counted.
    pub steps: u32,
    /// Share of the whole job that is done, 0 to 1.
    pub fraction: f32,
    /// Seconds until the job is done, once they can be told.
    pub eta_seconds: Option<f32>,
    /// Revision of the preview picture in the job's folder; 0: there is none yet.
    pub preview: u32,
    /// Which part of the stage; None: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<StagePart>,
}

/// Where the time of one job went, in milliseconds. In a batch, each job bears its share of the
/// stages that ran once for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Timings {
    /// Waiting in the queue.
    pub queued_ms: f64,
    /// Reading weights; 0 when they were loaded.
    pub loading_ms: f64,
    /// Text encoders.
    pub encoding_ms: f64,
    /// Denoiser.
    pub generating_ms: f64,
    /// VAE.
    pub decoding_ms: f64,
    /// Encoding and writing the file.
    pub saving_ms: f64,
    /// How many jobs went through the denoiser together.
    pub batch: u32,
    /// Denoising steps that were taken over from a checkpoint.
    pub resumed_steps: u32,
}
