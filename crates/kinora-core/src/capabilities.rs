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
    /// A picture from another one, changed as far as the strength says.
    ImageToImage,
    /// A picture in which what a mask covers is painted anew.
    Inpaint,
    /// A picture from another one, changed as the prompt asks.
    Edit,
    /// A picture that follows the edges or depths of another one.
    Control,
    /// A picture that is like others, with or without a prompt.
    Variation,
    /// A clip from a prompt.
    TextToVideo,
    /// A clip that begins with a picture, and ends with one where one is given.
    ImageToVideo,
}

impl Mode {
    /// Every one of them.
    pub const ALL: [Self; 8] = [
        Self::TextToImage,
        Self::ImageToImage,
        Self::Inpaint,
        Self::Edit,
        Self::Control,
        Self::Variation,
        Self::TextToVideo,
        Self::ImageToVideo,
    ];

    /// Whether it makes nothing without a picture.
    pub fn needs_image(self) -> bool {
        !matches!(self, Self::TextToImage | Self::TextToVideo)
    }

    /// Whether it makes nothing without words: else a picture says enough.
    pub fn needs_words(self) -> bool {
        !matches!(self, Self::Variation | Self::ImageToVideo)
    }

    /// Whether the strength of a picture has a meaning.
    pub fn has_strength(self) -> bool {
        matches!(self, Self::ImageToImage | Self::Inpaint | Self::Variation)
    }

    /// Whether the result moves.
    pub fn is_video(self) -> bool {
        matches!(self, Self::TextToVideo | Self::ImageToVideo)
    }

    /// What it does, after "this model cannot": `make a picture from another one`.
    pub fn deed(self) -> &'static str {
        match self {
            Self::TextToImage => "make pictures from text",
            Self::ImageToImage => "start from a picture",
            Self::Inpaint => "paint inside of a mask",
            Self::Edit => "edit a picture by words",
            Self::Control => "follow the edges or depths of a picture",
            Self::Variation => "make variations of pictures",
            Self::TextToVideo => "make clips from text",
            Self::ImageToVideo => "make clips from a picture",
        }
    }
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

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// Which clips a model makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VideoRule {
    /// Frames of a clip.
    pub frames: IntRange,
    /// Frames are one more than a multiple of this; others are rounded, and the user is told.
    pub frame_step: u32,
    /// Frames in a second.
    pub fps: IntRange,
    /// Whether a picture can be given that the clip ends with.
    #[serde(default, skip_serializing_if = "is_false")]
    pub end_image: bool,
    /// Whether two networks share the steps: then each has a guidance scale, and the share of the
    /// steps that the second takes can be chosen.
    #[serde(default, skip_serializing_if = "is_false")]
    pub experts: bool,
    /// How far the times are shifted towards noise. None: that cannot be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<FloatRange>,
    /// Whether it makes sound with the pictures.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sound: bool,
    /// The windows in which a long clip can go through the network. None: it sees whole clips only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextRule>,
    /// Whether its frames can go through the VAE in tiles.
    #[serde(default, skip_serializing_if = "is_false")]
    pub vae_tiling: bool,
}

/// Windows in time: how long they may be, and what they make possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContextRule {
    /// Frames of a window; the default is the length that the model was trained on.
    pub frames: IntRange,
    /// The most frames of a clip that goes through windows.
    pub longest: u32,
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
    /// Whether that guidance is on without a negative prompt too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cfg_always: bool,
    /// How much of a run that starts from a picture is taken; of variations, how much a picture
    /// counts. None: that cannot be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<FloatRange>,
    /// Pictures that may be given besides the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_images: u32,
    /// What its clips can be. None: it makes pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoRule>,
    /// Whether it takes LoRA files.
    #[serde(default, skip_serializing_if = "is_false")]
    pub loras: bool,
    /// How far steps may differ for most of an earlier one to be reused; 0: none is. None: that cannot
    /// be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_cache: Option<FloatRange>,
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
