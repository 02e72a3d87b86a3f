//! The numbers of the vision sides of CLIP and SigLIP.

use std::path::Path;

use serde::Deserialize;

use super::{ClipConfig, TextActivation, check_eps, check_sizes};
use crate::{Error, Result, json::read_config};

/// CLIP's vision side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClipVisionConfig {
    /// Width of the network.
    pub hidden: usize,
    /// Width inside the feed-forward layers.
    pub intermediate: usize,
    /// Blocks.
    pub layers: usize,
    /// Rows and columns of a patch.
    pub patch_size: usize,
    /// Positions: patches, and one for the class.
    pub positions: usize,
    /// Width of the projected embedding, where there is one.
    pub projection: Option<usize>,
}

/// The vision side of CLIP in a folder of the reference library: its sizes, and what its blocks do.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipVisionParts {
    /// Sizes. The projection is not used.
    pub sizes: ClipVisionConfig,
    /// The blocks, which are those of the text side.
    pub blocks: ClipConfig,
    /// Pixels along each side of the pictures that it takes.
    pub image_size: usize,
}

/// `image_encoder/config.json`, with the reference's defaults.
#[derive(Deserialize)]
#[serde(default)]
struct RawClipVision {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: TextActivation,
    layer_norm_eps: f64,
}

impl Default for RawClipVision {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: TextActivation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl ClipVisionParts {
    /// The vision side of OpenCLIP's ViT-H/14, which Wan 2.1 uses.
    pub fn vit_h() -> Self {
        let raw = RawClipVision {
            hidden_size: 1280,
            intermediate_size: 5120,
            num_hidden_layers: 32,
            num_attention_heads: 16,
            patch_size: 14,
            hidden_act: TextActivation::Gelu,
            ..RawClipVision::default()
        };
        raw.resolve()
    }

    /// Reads `image_encoder/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let raw: RawClipVision = read_config(path)?;
        raw.check().map_err(|reason| Error::damaged(path, reason))?;
        Ok(raw.resolve())
    }
}

impl RawClipVision {
    fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
        ])?;
        check_eps("layer_norm_eps", self.layer_norm_eps)?;
        if self.num_channels != 3
            || self.image_size > 4096
            || !self.image_size.is_multiple_of(self.patch_size)
            || !self.hidden_size.is_multiple_of(self.num_attention_heads)
        {
            return Err(format!(
                "num_channels {}, image_size {}, patch_size {}, hidden_size {} and \
                 num_attention_heads {} do not go together",
                self.num_channels,
                self.image_size,
                self.patch_size,
                self.hidden_size,
                self.num_attention_heads
            ));
        }
        Ok(())
    }

    fn resolve(self) -> ClipVisionParts {
        let side = self.image_size / self.patch_size;
        ClipVisionParts {
            sizes: ClipVisionConfig {
                hidden: self.hidden_size,
                intermediate: self.intermediate_size,
                layers: self.num_hidden_layers,
                patch_size: self.patch_size,
                positions: side * side + 1,
                projection: None,
            },
            blocks: ClipConfig {
                hidden: self.hidden_size,
                intermediate: self.intermediate_size,
                layers: self.num_hidden_layers,
                heads: self.num_attention_heads,
                activation: self.hidden_act,
                norm_eps: self.layer_norm_eps,
                ..ClipConfig::default()
            },
            image_size: self.image_size,
        }
    }
}

impl ClipVisionConfig {
    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("num_hidden_layers", self.layers),
            ("patch_size", self.patch_size),
            ("the number of positions", self.positions),
        ])
    }
}

/// SigLIP's vision side.
#[derive(Clone, Debug, PartialEq)]
pub struct SiglipConfig {
    /// Width of the network.
    pub hidden: usize,
    /// Width inside the feed-forward layers.
    pub intermediate: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Rows and columns of a patch.
    pub patch_size: usize,
    /// Pixels along each side of the pictures that it takes. What no whole patch covers is not seen.
    pub image_size: usize,
    /// Activation of the feed-forward layers.
    pub activation: TextActivation,
    /// Added to the variance.
    pub norm_eps: f64,
}

/// `image_encoder/config.json`, with the reference's defaults.
#[derive(Deserialize)]
#[serde(default)]
struct RawSiglip {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: TextActivation,
    layer_norm_eps: f64,
}

impl Default for RawSiglip {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 16,
            hidden_act: TextActivation::GeluTanh,
            layer_norm_eps: 1e-6,
        }
    }
}

impl SiglipConfig {
    /// The one of 400 million parameters for pictures of 384 pixels in patches of 14, which FLUX.1
    /// Redux uses.
    pub fn so400m() -> Self {
        Self {
            hidden: 1152,
            intermediate: 4304,
            layers: 27,
            heads: 16,
            patch_size: 14,
            image_size: 384,
            activation: TextActivation::GeluTanh,
            norm_eps: 1e-6,
        }
    }

    /// Reads `image_encoder/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let raw: RawSiglip = read_config(path)?;
        let config = Self {
            hidden: raw.hidden_size,
            intermediate: raw.intermediate_size,
            layers: raw.num_hidden_layers,
            heads: raw.num_attention_heads,
            patch_size: raw.patch_size,
            image_size: raw.image_size,
            activation: raw.hidden_act,
            norm_eps: raw.layer_norm_eps,
        };
        let check = match raw.num_channels {
            3 => config.check(),
            other => Err(format!("num_channels is {other}, which cannot be")),
        };
        check.map_err(|reason| Error::damaged(path, reason))?;
        Ok(config)
    }

    /// Patches along each side of a picture.
    pub fn side(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Rows that a picture becomes: one for each patch.
    pub fn tokens(&self) -> usize {
        self.side() * self.side()
    }

    /// What its blocks do, which are built like those of CLIP.
    pub fn blocks(&self) -> ClipConfig {
        ClipConfig {
            hidden: self.hidden,
            intermediate: self.intermediate,
            layers: self.layers,
            heads: self.heads,
            activation: self.activation,
            norm_eps: self.norm_eps,
            ..ClipConfig::default()
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
        ])?;
        check_eps("layer_norm_eps", self.norm_eps)?;
        if self.image_size > 4096
            || self.image_size < self.patch_size
            || !self.hidden.is_multiple_of(self.heads)
        {
            return Err(format!(
                "image_size {}, patch_size {}, hidden_size {} and num_attention_heads {} do not go \
                 together",
                self.image_size, self.patch_size, self.hidden, self.heads
            ));
        }
        Ok(())
    }
}

/// FLUX.1 Redux's projection from what SigLIP sees to tokens beside those of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ReduxConfig {
    /// Width of SigLIP.
    #[serde(rename = "redux_dim")]
    pub image_dim: usize,
    /// Width of T5's embeddings.
    #[serde(rename = "txt_in_features")]
    pub text_dim: usize,
}

impl Default for ReduxConfig {
    fn default() -> Self {
        Self {
            image_dim: 1152,
            text_dim: 4096,
        }
    }
}

impl ReduxConfig {
    /// Width between its two layers.
    pub fn wide(&self) -> usize {
        3 * self.text_dim
    }

    /// Reads `image_embedder/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        super::read_checked(path, Self::check)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("redux_dim", self.image_dim),
            ("txt_in_features", self.text_dim),
        ])
    }
}
