//! A KL autoencoder's numbers.

use std::path::Path;

use serde::Deserialize;

use super::{check_sizes, read_checked};
use crate::Result;

/// A KL autoencoder of pictures.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct VaeConfig {
    /// Channels of a picture.
    pub in_channels: usize,
    /// Channels of a decoded picture.
    pub out_channels: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Width of each level, the one of the full size first.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of a level of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Groups of every group norm.
    #[serde(rename = "norm_num_groups")]
    pub norm_groups: usize,
    /// Latents are multiplied by it after the encoder.
    pub scaling_factor: f64,
    /// Subtracted from latents before they are scaled. None: 0.
    pub shift_factor: Option<f64>,
    /// Whether the middle has an attention block.
    #[serde(rename = "mid_block_add_attention")]
    pub has_mid_attention: bool,
    /// Whether a 1×1 convolution follows the encoder.
    #[serde(rename = "use_quant_conv")]
    pub has_quant_conv: bool,
    /// Whether a 1×1 convolution precedes the decoder.
    #[serde(rename = "use_post_quant_conv")]
    pub has_post_quant_conv: bool,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            latent_channels: 4,
            block_out_channels: vec![64],
            layers_per_block: 1,
            norm_groups: 32,
            scaling_factor: 0.18215,
            shift_factor: None,
            has_mid_attention: true,
            has_quant_conv: true,
            has_post_quant_conv: true,
        }
    }
}

impl VaeConfig {
    /// Pixels per latent, along each side.
    pub fn scale(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }

    /// Reads `vae/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        read_checked(path, Self::check)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("latent_channels", self.latent_channels),
            ("layers_per_block", self.layers_per_block),
            ("norm_num_groups", self.norm_groups),
        ])?;
        if !(1..=8).contains(&self.block_out_channels.len()) {
            return Err(format!(
                "block_out_channels has {} levels",
                self.block_out_channels.len()
            ));
        }
        for channels in &self.block_out_channels {
            check_sizes(&[("block_out_channels", *channels)])?;
            if channels % self.norm_groups != 0 {
                return Err(format!(
                    "{channels} of block_out_channels is not a multiple of norm_num_groups {}",
                    self.norm_groups
                ));
            }
        }
        let shift = self.shift_factor.unwrap_or(0.0);
        if !self.scaling_factor.is_finite() || self.scaling_factor == 0.0 || !shift.is_finite() {
            return Err(format!(
                "scaling_factor {} and shift_factor {shift} cannot be",
                self.scaling_factor
            ));
        }
        Ok(())
    }
}
