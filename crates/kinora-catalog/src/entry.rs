//! One entry of `models.toml`, as it is written.

use std::path::PathBuf;

use kinora_core::{Capabilities, Family, Model, ModelDefaults, ModelId, ModelSource};
use serde::Deserialize;

/// Bytes of a gigabyte, as sizes of downloads are given.
const GB: f64 = 1e9;

/// What a model is mostly good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Category {
    Fast,
    Quality,
    Specialized,
    Video,
}

impl Category {
    fn as_str(self) -> &'static str {
        match self {
            Category::Fast => "fast",
            Category::Quality => "quality",
            Category::Specialized => "specialized",
            Category::Video => "video",
        }
    }
}

/// One entry of `models.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub id: ModelId,
    pub name: String,
    pub family: Family,
    pub variant: String,
    pub category: Category,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub tags: Vec<String>,
    /// Comes with the program; looked for in the starter's folder instead of the model folders.
    #[serde(default)]
    pub built_in: bool,
    /// Names to look for inside the model folders.
    #[serde(default)]
    pub folders: Vec<String>,
    /// Where this one model lies, instead.
    pub path: Option<PathBuf>,
    /// Where it is published, for downloads.
    pub repo: Option<String>,
    #[serde(default)]
    pub size_gb: f64,
    /// None: as much as on disk.
    pub memory_gb: Option<f64>,
    pub approval_url: Option<String>,
    #[serde(default)]
    pub example_prompts: Vec<String>,
    pub capabilities: Capabilities,
}

impl Entry {
    /// The model as hosts see it, before anyone has looked for its files.
    pub fn to_model(&self) -> Model {
        let gigabytes = |size: f64| (size * GB) as u64;
        Model {
            id: self.id.clone(),
            name: self.name.clone(),
            family: self.family,
            variant: self.variant.clone(),
            description: self.description.clone(),
            category: self.category.as_str().to_owned(),
            tags: self.tags.clone(),
            source: if self.built_in {
                ModelSource::BuiltIn
            } else {
                ModelSource::Catalogue
            },
            defaults: defaults_of(&self.capabilities),
            capabilities: self.capabilities.clone(),
            is_installed: false,
            fault: None,
            bytes: gigabytes(self.size_gb),
            memory_bytes: gigabytes(self.memory_gb.unwrap_or(self.size_gb)),
            approval_url: self.approval_url.clone(),
            example_prompts: self.example_prompts.clone(),
        }
    }
}

/// What a form starts with.
pub(crate) fn defaults_of(capabilities: &Capabilities) -> ModelDefaults {
    ModelDefaults {
        width: capabilities.size.default.width,
        height: capabilities.size.default.height,
        steps: capabilities.steps.default,
        guidance: capabilities.guidance.map(|guidance| guidance.default),
    }
}
