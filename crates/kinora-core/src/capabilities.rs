//! What a model can do, as data. Hosts draw their forms from it and `resolve` checks requests
//! against it, so a limit is written down once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Sampler, Schedule, plan::Size};

/// What kind of work is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A picture from a prompt.
    #[default]
    TextToImage,
}

/// A whole number with limits (inclusive) and a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntRange {
    /// Smallest value accepted.
    pub min: u32,
    /// Largest value accepted.
    pub max: u32,
    /// Value used when none is given.
    pub default: u32,
}

/// A real number with limits (inclusive) and a default.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FloatRange {
    /// Smallest value accepted.
    pub min: f32,
    /// Largest value accepted.
    pub max: f32,
    /// Value used when none is given.
    pub default: f32,
}

/// One entry of the aspect-ratio picker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SizePreset {
    /// The ratio as people write it: `16:9`.
    pub label: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Which picture sizes a model accepts. All numbers are pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SizeRule {
    /// Smallest side.
    pub min: u32,
    /// Largest side.
    pub max: u32,
    /// Both sides are multiples of this; others are rounded to the nearest, and the user is told.
    pub multiple: u32,
    /// Size used when none is given.
    pub default: Size,
    /// The aspect-ratio picker.
    pub presets: Vec<SizePreset>,
}

/// What one model can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Kinds of work.
    pub modes: Vec<Mode>,
    /// Picture sizes.
    pub size: SizeRule,
    /// Denoising steps.
    pub steps: IntRange,
    /// Distilled guidance that goes into the network. None: the network has no such input.
    pub guidance: Option<FloatRange>,
    /// Classifier-free guidance against the negative prompt; it doubles the time of a step.
    /// The default is what a negative prompt switches on when no scale is given.
    /// None: the model takes no negative prompt.
    pub true_cfg: Option<FloatRange>,
    /// Pictures per request.
    pub copies: IntRange,
    /// Longest prompt, in characters.
    pub prompt_chars: u32,
    /// Whether `(word:1.2)` weighs words; else it is read as text.
    #[serde(default)]
    pub prompt_weights: bool,
    /// Whether `[a|b]` and `[a:b:0.5]` change the prompt between steps; else they are read as text.
    #[serde(default)]
    pub prompt_schedule: bool,
    /// Length that the long text encoder pads or cuts a prompt to, in tokens.
    pub text_tokens: u32,
    /// Step rules, the default first.
    pub samplers: Vec<Sampler>,
    /// Schedules, the default first.
    pub schedules: Vec<Schedule>,
}
