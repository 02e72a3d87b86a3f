//! A request with everything decided: what is stored, run, shown, and run again.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AssetId, Digest, DraftOf, Expert, Family, FileFormat, Mode, ModelId, PlannedSource, Rng,
    Sampler, Schedule, Seed, VideoPlan,
};

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
    /// Path below the model's root, with `/` between its parts; of a file that lies elsewhere the
    /// last two parts of its path.
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
    /// Names of files that were chosen for components, instead of the model's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<String, String>,
    /// Files of components that do not lie in the model's folder or were chosen. They never leave
    /// this machine: recipes carry none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, PathBuf>,
}

fn is_empty(path: &std::path::Path) -> bool {
    path.as_os_str().is_empty()
}

/// An adapter of a plan, down to its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedLora {
    /// Path below the folder of LoRA files, with `/` between its parts.
    pub name: String,
    /// 1 is as it was trained.
    pub weight: f32,
    /// The network that it changes, where the model has two. None: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expert: Option<Expert>,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the file; known at the latest when the file was loaded.
    pub sha256: Option<Digest>,
    /// The file on this machine. Never leaves it: recipes carry an empty path.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub path: PathBuf,
}

/// Where the result goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputPlan {
    /// File name without its ending, expanded from the template and safe for every file system.
    /// May contain `/` for folders below the outputs folder. Empty inside of files.
    pub stem: String,
    /// File format; a clip's where the plan is of one.
    pub format: FileFormat,
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
    /// What it starts from besides words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PlannedSource>,
    /// Adapters, in the order in which they were named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<PlannedLora>,
    /// What only clips have. None: a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoPlan>,
    /// What it is a draft of. None: it is no draft. It does not change the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<DraftOf>,
    /// The draft that it makes full, on this machine. Never leaves it: recipes carry none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<AssetId>,
    /// Pixels that the network works on.
    pub size: Size,
    /// Denoising steps.
    pub steps: u32,
    /// Distilled guidance; None where the network has no such input.
    pub guidance: Option<f32>,
    /// Classifier-free guidance scale; None: one network call per step.
    pub true_cfg: Option<f32>,
    /// How far a step's first block may differ from that of the last full step for the rest of it to
    /// be reused, as a share. None: every step is computed in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_cache: Option<f32>,
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

/// What of the pictures that plans start from must be equal for them to take the same steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// How much of the run is taken.
    pub strength: Option<f32>,
    /// Whether a mask says what is painted anew.
    pub has_mask: bool,
    /// Whether a clip ends with a picture.
    pub has_end: bool,
}

impl Plan {
    /// The plan without what counts on this machine only.
    pub fn forget_machine(&mut self) {
        self.model.root = PathBuf::new();
        self.model.parts = BTreeMap::new();
        self.output.stem = String::new();
        self.parent = None;
        for picture in self.source.iter_mut().flat_map(PlannedSource::pictures_mut) {
            picture.forget_machine();
        }
        for lora in &mut self.loras {
            lora.path = PathBuf::new();
        }
    }

    /// Network calls of a step whose blocks' results are kept for steps to come.
    pub fn kept_passes(&self) -> u32 {
        match self.step_cache {
            Some(_) => 1 + u32::from(self.true_cfg.is_some()),
            None => 0,
        }
    }

    /// What of the picture that it starts from decides about the steps. None: it starts from words
    /// alone.
    pub fn start(&self) -> Option<Start> {
        let source = self.source.as_ref()?;
        Some(Start {
            strength: source.strength,
            has_mask: source.mask.is_some(),
            has_end: source.end_image.is_some(),
        })
    }

    /// Whether two plans may go through the network as one batch: same files, same shapes, same
    /// number of steps and calls per step. Prompts, seeds and guidance values may differ.
    pub fn is_batchable_with(&self, other: &Plan) -> bool {
        self.model.id == other.model.id
            && self.model.root == other.model.root
            && self.model.weights == other.model.weights
            && self.model.parts == other.model.parts
            && self.numerics == other.numerics
            && self.mode == other.mode
            && self.loras == other.loras
            && self.video == other.video
            && self.start() == other.start()
            && self.size == other.size
            && self.steps == other.steps
            && self.text_tokens == other.text_tokens
            && self.guidance.is_some() == other.guidance.is_some()
            && self.true_cfg.is_some() == other.true_cfg.is_some()
            && self.step_cache == other.step_cache
            && self.sampler == other.sampler
            && self.schedule == other.schedule
    }
}
