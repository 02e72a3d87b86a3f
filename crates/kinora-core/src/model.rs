//! A catalogue entry as hosts see it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Capabilities, Family, ModelId};

/// Where a model came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    /// Ships with Kinora.
    BuiltIn,
    /// Declared in `models.toml`.
    Catalogue,
    /// Found in a model folder.
    Folder,
}

/// The values that a form starts with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelDefaults {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Denoising steps.
    pub steps: u32,
    /// Distilled guidance, where the model has it.
    pub guidance: Option<f32>,
}

/// One model: what it is called, what it can do, whether it is here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    /// Name in requests and recipes.
    pub id: ModelId,
    /// Name for people.
    pub name: String,
    /// Architecture.
    pub family: Family,
    /// Which of the architecture's releases: `schnell`, `dev`.
    pub variant: String,
    /// One or two sentences.
    pub description: String,
    /// `fast`, `quality`, `specialized`.
    pub category: String,
    /// Free words to search by.
    pub tags: Vec<String>,
    /// Where it came from.
    pub source: ModelSource,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What a form starts with.
    pub defaults: ModelDefaults,
    /// Whether all its files are on this machine.
    pub is_installed: bool,
    /// Why it is not usable although files are there; reads well after "cannot be used: ".
    pub fault: Option<String>,
    /// Size on disk where installed, else the announced download size. Bytes.
    pub bytes: u64,
    /// Memory that the weights occupy when loaded. Bytes.
    pub memory_bytes: u64,
    /// Page where a licence has to be accepted first.
    pub approval_url: Option<String>,
    /// Prompts that show what the model does well.
    pub example_prompts: Vec<String>,
}
