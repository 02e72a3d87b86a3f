//! What a user asked for, before anything is decided.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AssetKind, FileFormat, ModelId, PictureRef, Priority, Rng, Sampler, Schedule, Seed, SessionId,
    VideoOptions,
};

/// An adapter file that is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraRequest {
    /// Path below the folder of LoRA files, with `/` between its parts; its ending may be left out.
    pub name: String,
    /// 1 is as it was trained, 0 nothing; negative weights take away.
    #[serde(default = "one")]
    pub weight: f32,
}

fn one() -> f32 {
    1.0
}

/// What becomes of the choices in a prompt: `{a|b}`, wildcards and the like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expansion {
    /// Each picture draws its own words, from its own seed.
    #[default]
    Random,
    /// One picture for each combination, all with the same seeds.
    Combinations,
    /// Nothing: braces and tags are text.
    Off,
}

/// A request for pictures. Everything but the prompt may be left out; `resolve` fills it in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// What to paint.
    pub prompt: String,
    /// What becomes of choices in it and in the negative prompt. None: drawn at random.
    pub expansion: Option<Expansion>,
    /// What to keep away from, for models that can.
    pub negative_prompt: String,
    /// The picture to start from, to edit, or to begin a clip with.
    pub image: Option<PictureRef>,
    /// What of that picture is painted anew: white is, black stays.
    pub mask: Option<PictureRef>,
    /// How much of the run is taken, above 0 up to 1: at 1 little is left of the picture.
    pub strength: Option<f32>,
    /// Files of adapters, each with a weight.
    pub loras: Vec<LoraRequest>,
    /// What only clips have.
    pub video: VideoOptions,
    /// A small and fast try first: fewer pixels, steps and frames than these numbers say. What was
    /// asked is kept with it, so that it can be made full.
    pub draft: bool,
    /// A picture or a clip. None: whatever the model makes.
    pub kind: Option<AssetKind>,
    /// None: the settings' default model, or for clips their model for clips, else the first that
    /// is here and can do what is asked.
    pub model: Option<ModelId>,
    /// Pixels.
    pub width: Option<u32>,
    /// Pixels.
    pub height: Option<u32>,
    /// Denoising steps.
    pub steps: Option<u32>,
    /// Distilled guidance.
    pub guidance: Option<f32>,
    /// Classifier-free guidance scale against the negative prompt.
    pub true_cfg: Option<f32>,
    /// None: a random one, written into the plan. Copies count upwards from it.
    pub seed: Option<Seed>,
    /// Which generator the noise comes from.
    pub rng: Option<Rng>,
    /// Pictures of this prompt.
    pub copies: Option<u32>,
    /// Step rule.
    pub sampler: Option<Sampler>,
    /// Spacing of the noise levels.
    pub schedule: Option<Schedule>,
    /// Naming template for the files, such as `{date}_{seed}_{prompt}`. None: that of the settings.
    pub output_name: Option<String>,
    /// File format. None: that of the settings.
    pub format: Option<FileFormat>,
    /// Before or after other work.
    pub priority: Option<Priority>,
    /// Session that the results belong to.
    pub session: Option<SessionId>,
}
