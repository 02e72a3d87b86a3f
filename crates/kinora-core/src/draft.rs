//! Drafts: fast, small tries at a picture or a clip, which know what they are tries at.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Asset, plan::Size};

/// What a draft was made smaller from: with these numbers, the same seed and the same words it is
/// made full. They change nothing of the draft itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DraftOf {
    /// Pixels.
    pub size: Size,
    /// Denoising steps.
    pub steps: u32,
    /// Frames; None: it is a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u32>,
}

/// What a result was to another one that was made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParentRole {
    /// The picture that it started from.
    Image,
    /// A picture besides that one.
    MoreImage,
    /// The mask that said what was painted anew.
    Mask,
    /// The picture that the clip ends with.
    EndImage,
    /// The draft that it makes full.
    Draft,
}

/// A result that another one was made from, or that was made from another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Relative {
    /// What the older of the two was to the younger.
    pub role: ParentRole,
    /// Which of several in that role, from 0.
    #[serde(default)]
    pub place: u32,
    /// The other one.
    pub asset: Asset,
}
