//! Pictures that a request is given: to start from, to edit, to begin or end a clip with, and the
//! masks over them.

use std::{fmt, path::PathBuf, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::AssetId;

/// The SHA-256 of a file, as 64 small hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.0)
    }
}

/// A text that is no picture reference or digest. Reads well after "failed to".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read {0:?} as a picture: it is neither asset: with an id nor input: with 64 hex digits")]
pub struct BadReference(String);

impl FromStr for Digest {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_hex) {
            Ok(Self(text.to_owned()))
        } else {
            // Whoever sent it knows it; a whole file has no place in a message.
            Err(BadReference(text.chars().take(80).collect()))
        }
    }
}

/// A picture that this installation has: a result of its own, or a file that was handed in. As text
/// `asset:` with the asset's id, or `input:` with the SHA-256 of the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PictureRef {
    /// A stored result.
    Asset(AssetId),
    /// A file that was handed in.
    Input(Digest),
}

impl fmt::Display for PictureRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PictureRef::Asset(id) => write!(f, "asset:{id}"),
            PictureRef::Input(digest) => write!(f, "input:{digest}"),
        }
    }
}

impl FromStr for PictureRef {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let bad = || BadReference(text.chars().take(80).collect());
        match text.split_once(':') {
            Some(("asset", id)) => id.parse().map(PictureRef::Asset).map_err(|_| bad()),
            Some(("input", digest)) => digest.parse().map(PictureRef::Input),
            _ => Err(bad()),
        }
    }
}

macro_rules! as_text {
    ($name:ident, $schema:tt) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

as_text!(Digest, { "type": "string", "pattern": "^[0-9a-f]{64}$" });
as_text!(PictureRef, { "type": "string", "pattern": "^(asset:[0-9a-fA-F-]{36}|input:[0-9a-f]{64})$" });

/// A picture of a plan: a file that is kept for as long as a job or a result speaks of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedPicture {
    /// Its content.
    pub sha256: Digest,
    /// Pixels of the file.
    pub width: u32,
    /// Pixels of the file.
    pub height: u32,
    /// The result that it was, on this machine. Never leaves it: recipes carry none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset: Option<AssetId>,
    /// The file on this machine. Never leaves it: recipes carry an empty path.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub path: PathBuf,
}

fn is_empty(path: &std::path::Path) -> bool {
    path.as_os_str().is_empty()
}

impl PlannedPicture {
    /// The picture without what counts on this machine only.
    pub(crate) fn forget_machine(&mut self) {
        self.asset = None;
        self.path = PathBuf::new();
    }
}

/// A picture of a plan besides the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedImage {
    /// Which.
    pub image: PlannedPicture,
    /// How much it counts. None: that has no meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
}

/// What a plan starts from besides words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedSource {
    /// The picture.
    pub image: PlannedPicture,
    /// Says what of the picture is painted anew: white is, black stays. None: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<PlannedPicture>,
    /// How much of the run is taken, above 0 up to 1: at 1 little is left of the picture; of
    /// variations, how much the picture counts. None: the network sees the picture beside its work
    /// and takes the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
    /// Pictures besides it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_images: Vec<PlannedImage>,
    /// The picture that a clip ends with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_image: Option<PlannedPicture>,
}

impl PlannedSource {
    /// Every picture.
    pub fn pictures(&self) -> impl Iterator<Item = &PlannedPicture> {
        [
            Some(&self.image),
            self.mask.as_ref(),
            self.end_image.as_ref(),
        ]
        .into_iter()
        .flatten()
        .chain(self.more_images.iter().map(|more| &more.image))
    }

    /// Every picture, to change it.
    pub fn pictures_mut(&mut self) -> impl Iterator<Item = &mut PlannedPicture> {
        [
            Some(&mut self.image),
            self.mask.as_mut(),
            self.end_image.as_mut(),
        ]
        .into_iter()
        .flatten()
        .chain(self.more_images.iter_mut().map(|more| &mut more.image))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_text_and_nothing_else_is_one() {
        let digest = "0123456789abcdef".repeat(4);
        for text in [
            format!("input:{digest}"),
            format!("asset:{}", AssetId::new()),
        ] {
            let reference: PictureRef = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            let json = serde_json::to_string(&reference).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(
                serde_json::from_str::<PictureRef>(&json).unwrap(),
                reference
            );
        }
        for text in [
            "",
            "input:",
            "input:../../etc/passwd",
            "asset:1",
            "file:/etc/passwd",
            &format!("input:{}", "A".repeat(64)),
            &format!("input:{}", "é".repeat(32)),
        ] {
            assert!(text.parse::<PictureRef>().is_err(), "{text}");
        }
    }
}
