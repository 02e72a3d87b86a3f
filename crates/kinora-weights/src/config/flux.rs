//! The FLUX.1 transformer's numbers.

use std::path::Path;

use serde::Deserialize;

use super::{MAX_SIZE, check_sizes, read_checked};
use crate::Result;

/// The FLUX.1 transformer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FluxConfig {
    /// Blocks with separate weights for text and picture.
    #[serde(rename = "num_layers")]
    pub layers: usize,
    /// Blocks with common weights.
    #[serde(rename = "num_single_layers")]
    pub single_layers: usize,
    /// Attention heads.
    #[serde(rename = "num_attention_heads")]
    pub heads: usize,
    /// Width of one head.
    #[serde(rename = "attention_head_dim")]
    pub head_dim: usize,
    /// How many of a head's numbers each position axis (text, row, column) rotates.
    #[serde(rename = "axes_dims_rope")]
    pub axes_dims: [usize; 3],
    /// Width of a packed latent token.
    pub in_channels: usize,
    /// Width of a predicted token. None: the same as `in_channels`.
    pub out_channels: Option<usize>,
    /// Width of the T5 embeddings.
    #[serde(rename = "joint_attention_dim")]
    pub joint_dim: usize,
    /// Width of the pooled CLIP embedding.
    #[serde(rename = "pooled_projection_dim")]
    pub pooled_dim: usize,
    /// Whether the network takes a guidance value.
    #[serde(rename = "guidance_embeds")]
    pub has_guidance: bool,
    /// Always 1: packing happens outside of the network.
    pub patch_size: usize,
}

impl Default for FluxConfig {
    fn default() -> Self {
        Self {
            layers: 19,
            single_layers: 38,
            heads: 24,
            head_dim: 128,
            axes_dims: [16, 56, 56],
            in_channels: 64,
            out_channels: None,
            joint_dim: 4096,
            pooled_dim: 768,
            has_guidance: false,
            patch_size: 1,
        }
    }
}

impl FluxConfig {
    /// Width of the network.
    pub fn hidden(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of a predicted token.
    pub fn out_width(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Reads `transformer/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        read_checked(path, Self::check)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("num_layers", self.layers),
            ("num_single_layers", self.single_layers),
            ("num_attention_heads", self.heads),
            ("attention_head_dim", self.head_dim),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_width()),
            ("joint_attention_dim", self.joint_dim),
            ("pooled_projection_dim", self.pooled_dim),
        ])?;
        check_sizes(&[("the width of the network", self.hidden())])?;
        if self.patch_size != 1 {
            return Err(format!(
                "patch_size is {}, only 1 is known",
                self.patch_size
            ));
        }
        if self
            .axes_dims
            .iter()
            .any(|dim| *dim > MAX_SIZE || dim % 2 != 0)
            || self.axes_dims.iter().sum::<usize>() != self.head_dim
        {
            return Err(format!(
                "axes_dims_rope {:?} must be even and add up to attention_head_dim {}",
                self.axes_dims, self.head_dim
            ));
        }
        Ok(())
    }
}
