//! A T5 encoder's numbers.

use std::path::Path;

use serde::Deserialize;

use super::{check_eps, check_sizes, read_checked};
use crate::Result;

/// A T5 encoder of version 1.1 (gated feed-forward layers).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct T5Config {
    /// Rows of the token table.
    #[serde(rename = "vocab_size")]
    pub vocab: usize,
    /// Width of the network.
    #[serde(rename = "d_model")]
    pub hidden: usize,
    /// Width of one attention head.
    #[serde(rename = "d_kv")]
    pub head_dim: usize,
    /// Width inside the feed-forward layers.
    #[serde(rename = "d_ff")]
    pub intermediate: usize,
    /// Blocks.
    #[serde(rename = "num_layers")]
    pub layers: usize,
    /// Attention heads.
    #[serde(rename = "num_heads")]
    pub heads: usize,
    /// Rows of the table of relative positions.
    #[serde(rename = "relative_attention_num_buckets")]
    pub buckets: usize,
    /// Distance from which on positions share the last bucket.
    #[serde(rename = "relative_attention_max_distance")]
    pub max_distance: usize,
    /// Added to the mean square.
    #[serde(rename = "layer_norm_epsilon")]
    pub norm_eps: f64,
    /// `gated-gelu` is the only kind known here: GELU in its tanh form, times a second branch.
    pub feed_forward_proj: String,
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            vocab: 32128,
            hidden: 512,
            head_dim: 64,
            intermediate: 2048,
            layers: 6,
            heads: 8,
            buckets: 32,
            max_distance: 128,
            norm_eps: 1e-6,
            feed_forward_proj: "relu".to_owned(),
        }
    }
}

impl T5Config {
    /// Reads `text_encoder_2/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        read_checked(path, Self::check)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("vocab_size", self.vocab),
            ("d_model", self.hidden),
            ("d_kv", self.head_dim),
            ("d_ff", self.intermediate),
            ("num_layers", self.layers),
            ("num_heads", self.heads),
            ("relative_attention_num_buckets", self.buckets),
            ("relative_attention_max_distance", self.max_distance),
        ])?;
        check_eps("layer_norm_epsilon", self.norm_eps)?;
        // Half of the buckets for each direction, half of those for exact distances.
        if !self.buckets.is_multiple_of(4) || self.max_distance <= self.buckets / 4 {
            return Err(format!(
                "relative_attention_num_buckets {} and relative_attention_max_distance {} do not \
                 go together",
                self.buckets, self.max_distance
            ));
        }
        if self.feed_forward_proj != "gated-gelu" {
            return Err(format!(
                "feed_forward_proj is {:?}, only \"gated-gelu\" is known",
                self.feed_forward_proj
            ));
        }
        Ok(())
    }
}
