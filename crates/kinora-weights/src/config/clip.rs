//! A CLIP text encoder's numbers.

use std::path::Path;

use serde::Deserialize;

use super::{check_eps, check_sizes, read_checked};
use crate::Result;

/// The activation inside a CLIP text encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextActivation {
    /// `x · sigmoid(1.702 x)`: the CLIP of OpenAI.
    #[default]
    QuickGelu,
    /// The exact one, with the error function: OpenCLIP.
    Gelu,
    /// Its approximation by a hyperbolic tangent: SigLIP.
    #[serde(rename = "gelu_pytorch_tanh")]
    GeluTanh,
}

/// A CLIP text encoder.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClipConfig {
    /// Rows of the token table.
    #[serde(rename = "vocab_size")]
    pub vocab: usize,
    /// Width of the network.
    #[serde(rename = "hidden_size")]
    pub hidden: usize,
    /// Width inside the feed-forward layers.
    #[serde(rename = "intermediate_size")]
    pub intermediate: usize,
    /// Blocks.
    #[serde(rename = "num_hidden_layers")]
    pub layers: usize,
    /// Attention heads.
    #[serde(rename = "num_attention_heads")]
    pub heads: usize,
    /// Longest prompt in tokens.
    #[serde(rename = "max_position_embeddings")]
    pub max_positions: usize,
    /// The token whose state is the pooled one. The published value 2 is wrong and means: the
    /// highest token id.
    pub eos_token_id: u32,
    /// Activation of the feed-forward layers.
    #[serde(rename = "hidden_act")]
    pub activation: TextActivation,
    /// Added to the variance.
    #[serde(rename = "layer_norm_eps")]
    pub norm_eps: f64,
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self {
            vocab: 49408,
            hidden: 512,
            intermediate: 2048,
            layers: 12,
            heads: 8,
            max_positions: 77,
            eos_token_id: 49407,
            activation: TextActivation::QuickGelu,
            norm_eps: 1e-5,
        }
    }
}

impl ClipConfig {
    /// Reads `text_encoder/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        read_checked(path, Self::check)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("vocab_size", self.vocab),
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("max_position_embeddings", self.max_positions),
        ])?;
        check_eps("layer_norm_eps", self.norm_eps)?;
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                self.hidden, self.heads
            ));
        }
        Ok(())
    }
}
