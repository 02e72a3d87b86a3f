//! Results: fresh from a backend ([`Artifact`]), and stored ([`Asset`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AssetId, BatchId, ClipFormat, ClipInfo, JobId, Recipe, SessionId, Timestamp};

/// A picture's file format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageFormat {
    /// Lossless; carries every recipe.
    #[default]
    Png,
    /// Lossy, quality 95.
    Jpeg,
    /// Lossy, quality 95.
    Webp,
}

impl ImageFormat {
    /// The ending of file names, without a dot.
    pub fn extension(self) -> &'static str {
        match self {
            ImageFormat::Png => "png",
            ImageFormat::Jpeg => "jpg",
            ImageFormat::Webp => "webp",
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            ImageFormat::Png => "image/png",
            ImageFormat::Jpeg => "image/jpeg",
            ImageFormat::Webp => "image/webp",
        }
    }
}

/// The format of a result's file, whatever its kind: `png`, `mp4`. No two formats share a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FileFormat {
    /// A still picture's.
    Image(ImageFormat),
    /// A clip's.
    Clip(ClipFormat),
}

impl FileFormat {
    /// The ending of file names, without a dot.
    pub fn extension(self) -> &'static str {
        match self {
            FileFormat::Image(format) => format.extension(),
            FileFormat::Clip(format) => format.extension(),
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            FileFormat::Image(format) => format.media_type(),
            FileFormat::Clip(format) => format.media_type(),
        }
    }

    /// What a file of this format is.
    pub fn kind(self) -> AssetKind {
        match self {
            FileFormat::Image(_) => AssetKind::Image,
            FileFormat::Clip(_) => AssetKind::Video,
        }
    }
}

impl From<ImageFormat> for FileFormat {
    fn from(format: ImageFormat) -> Self {
        FileFormat::Image(format)
    }
}

impl From<ClipFormat> for FileFormat {
    fn from(format: ClipFormat) -> Self {
        FileFormat::Clip(format)
    }
}

/// What a stored result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AssetKind {
    /// A still picture.
    Image,
    /// A clip, with or without sound.
    Video,
}

/// A result as a backend hands it over: complete, synced to disk, and still under its staging name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Artifact {
    /// What it is.
    pub kind: AssetKind,
    /// File format.
    pub format: FileFormat,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// What a clip is beyond its size; None: it is a still picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<ClipInfo>,
    /// How it was made; the same text is inside the file.
    pub recipe: Recipe,
}

/// A stored result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Asset {
    /// Id.
    pub id: AssetId,
    /// Job that made it.
    pub job: Option<JobId>,
    /// Batch of that job.
    pub batch: Option<BatchId>,
    /// Session it belongs to.
    pub session: Option<SessionId>,
    /// What it is.
    pub kind: AssetKind,
    /// File format.
    pub format: FileFormat,
    /// Path below the outputs folder, with `/` between its parts.
    pub path: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// What a clip is beyond its size; None: it is a still picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<ClipInfo>,
    /// How it was made.
    pub recipe: Recipe,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When it went to the trash; None: it is not there.
    pub trashed_at: Option<Timestamp>,
}
