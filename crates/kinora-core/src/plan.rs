//! A request with everything decided: what is stored, run, shown, and run again.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Family, ImageFormat, Mode, ModelId, Rng, Sampler, Schedule, Seed};

/// The version of the plan's format; it only grows.
pub const PLAN_VERSION: u32 = 1;

/// Which revision of the sampling and noise code a plan was made for. A change that alters
/// pictures gets a new name here, and the old one stays selectable.
pub const NUMERICS: &str = "2026.1";

/// A picture's size in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Size {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl Size {
    /// Width × height, in pixels.
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// One weight file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WeightFile {
    /// Which part it is: `transformer`, `vae`, `text_encoder`, `text_encoder_2`.
    pub component: String,
    /// Path below the model's root, with `/` between its parts.
    pub file: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the file in lower-case hex; known at the latest when the file was loaded.
    pub sha256: Option<String>,
}

/// The model of a plan, down to its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedModel {
    /// Catalogue entry.
    pub id: ModelId,
    /// Name for people.
    pub name: String,
    /// Architecture.
    pub family: Family,
    /// Release of the architecture.
    pub variant: String,
    /// Folder or file on this machine. Never leaves it: recipes carry an empty path.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub root: PathBuf,
    /// Weight files, by component.
    pub weights: Vec<WeightFile>,
}

fn is_empty(path: &std::path::Path) -> bool {
    path.as_os_str().is_empty()
}

/// Where the result goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputPlan {
    /// File name without its ending, expanded from the template and safe for every file system.
    /// May contain `/` for folders below the outputs folder. Empty inside of files.
    pub stem: String,
    /// File format.
    pub format: ImageFormat,
}

/// The texts as they were asked for, before words were drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PromptTemplate {
    /// What to paint, with its choices.
    pub prompt: String,
    /// What to keep away from, with its choices.
    #[serde(default)]
    pub negative_prompt: String,
    /// How its words were chosen.
    #[serde(default)]
    pub expansion: crate::Expansion,
}

/// One picture, fully decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// [`PLAN_VERSION`] of the program that made it.
    pub version: u32,
    /// [`NUMERICS`] of the program that made it.
    pub numerics: String,
    /// Kind of work.
    pub mode: Mode,
    /// Model and files.
    pub model: PlannedModel,
    /// After expansion: the words of this very picture.
    pub prompt: String,
    /// What the words were drawn from; None: they stand as they were written. It does not change
    /// the picture, and does not leave this machine in its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PromptTemplate>,
    /// Empty: none.
    pub negative_prompt: String,
    /// Pixels.
    pub size: Size,
    /// Denoising steps.
    pub steps: u32,
    /// Distilled guidance; None where the network has no such input.
    pub guidance: Option<f32>,
    /// Classifier-free guidance scale; None: one network call per step.
    pub true_cfg: Option<f32>,
    /// Seed of this very picture.
    pub seed: Seed,
    /// Generator of the noise.
    pub rng: Rng,
    /// Length that the T5 side pads or cuts the prompt to, in tokens.
    pub text_tokens: u32,
    /// Step rule.
    pub sampler: Sampler,
    /// Spacing of the noise levels.
    pub schedule: Schedule,
    /// Where the result goes.
    pub output: OutputPlan,
}

impl Plan {
    /// Whether two plans may go through the network as one batch: same files, same shapes, same
    /// number of steps and calls per step. Prompts, seeds and guidance values may differ.
    pub fn is_batchable_with(&self, other: &Plan) -> bool {
        self.model.id == other.model.id
            && self.model.root == other.model.root
            && self.model.weights == other.model.weights
            && self.numerics == other.numerics
            && self.mode == other.mode
            && self.size == other.size
            && self.steps == other.steps
            && self.text_tokens == other.text_tokens
            && self.guidance.is_some() == other.guidance.is_some()
            && self.true_cfg.is_some() == other.true_cfg.is_some()
            && self.sampler == other.sampler
            && self.schedule == other.schedule
    }
}
