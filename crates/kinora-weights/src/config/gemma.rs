//! The numbers of Gemma 3's text side.

use std::path::Path;

use serde::Deserialize;

use super::{check_eps, check_sizes};
use crate::{Error, Result, json::read_config};

/// Gemma 3's text side.
#[derive(Clone, Debug, PartialEq)]
pub struct GemmaConfig {
    /// Rows of the token table.
    pub vocab: usize,
    /// Width of the network.
    pub hidden: usize,
    /// Width inside the feed-forward layers.
    pub intermediate: usize,
    /// Blocks.
    pub layers: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub key_value_heads: usize,
    /// Of every norm.
    pub norm_eps: f64,
    /// Scores are divided by its root.
    pub query_scale: f64,
    /// Tokens that a block with a window sees, its own included.
    pub window: usize,
    /// Which blocks see everything before them.
    pub sees_all: Vec<bool>,
    /// Base of the rotation frequencies of blocks that see everything.
    pub rope_theta: f64,
    /// Their positions are divided by it.
    pub rope_factor: f64,
    /// Base of the rotation frequencies of the other blocks.
    pub rope_local_theta: f64,
}

/// `config.json`: of the text side, or of the whole model with the text side within.
#[derive(Deserialize)]
struct RawGemma {
    #[serde(default)]
    model_type: String,
    text_config: Option<RawText>,
    #[serde(flatten)]
    own: RawText,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawText {
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: Option<f64>,
    query_pre_attn_scalar: Option<f64>,
    sliding_window: Option<usize>,
    sliding_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
    hidden_activation: Option<String>,
    attention_bias: Option<bool>,
    attn_logit_softcapping: Option<f64>,
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    rope_scaling: Option<RawScaling>,
    rope_parameters: Option<RawParameters>,
}

#[derive(Deserialize)]
struct RawScaling {
    factor: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
}

/// As later libraries write it.
#[derive(Deserialize)]
struct RawParameters {
    full_attention: Option<RawRope>,
    sliding_attention: Option<RawRope>,
}

#[derive(Deserialize)]
struct RawRope {
    rope_theta: Option<f64>,
    factor: Option<f64>,
    rope_type: Option<String>,
}

/// One block in so many sees everything.
const PATTERN: usize = 6;

impl GemmaConfig {
    /// Reads `text_encoder/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let raw: RawGemma = read_config(path)?;
        if !["gemma3", "gemma3_text"].contains(&raw.model_type.as_str()) {
            return Err(Error::unsupported(
                path,
                format!(
                    "its text encoder is of the type {:?}, LTX-2 uses \"gemma3\"",
                    raw.model_type
                ),
            ));
        }
        let config = raw
            .text_config
            .unwrap_or(raw.own)
            .resolve()
            .map_err(|reason| Error::unsupported(path, reason))?;
        config
            .check()
            .map_err(|reason| Error::damaged(path, reason))?;
        Ok(config)
    }

    /// Which of so many blocks see everything, as published.
    pub fn published_pattern(layers: usize) -> Vec<bool> {
        (0..layers).map(|i| (i + 1) % PATTERN == 0).collect()
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("vocab_size", self.vocab),
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("num_hidden_layers", self.layers),
            ("head_dim", self.head_dim),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.key_value_heads),
            ("sliding_window", self.window),
        ])?;
        check_eps("rms_norm_eps", self.norm_eps)?;
        let is_positive = [
            self.query_scale,
            self.rope_theta,
            self.rope_factor,
            self.rope_local_theta,
        ]
        .iter()
        .all(|number| number.is_finite() && *number > 0.0);
        if !is_positive
            || self.sees_all.len() != self.layers
            || !self.heads.is_multiple_of(self.key_value_heads)
            || !self.head_dim.is_multiple_of(2)
        {
            return Err(format!(
                "{} heads of {} over {}, {} kinds of {} blocks cannot be",
                self.heads,
                self.head_dim,
                self.key_value_heads,
                self.sees_all.len(),
                self.layers
            ));
        }
        Ok(())
    }
}

impl RawText {
    fn resolve(self) -> Result<GemmaConfig, String> {
        let activation = self.hidden_activation.as_deref();
        if activation.is_some_and(|name| name != "gelu_pytorch_tanh")
            || self.attention_bias == Some(true)
            || self.attn_logit_softcapping.is_some()
        {
            return Err("its layers are not those of Gemma 3".to_owned());
        }
        let layers = self.num_hidden_layers.unwrap_or(26);
        let pattern = self.sliding_window_pattern.unwrap_or(PATTERN).max(1);
        let sees_all = match self.layer_types {
            Some(types) => types.iter().map(|kind| kind == "full_attention").collect(),
            None if layers > 1 << 16 => Vec::new(),
            None => (0..layers).map(|i| (i + 1) % pattern == 0).collect(),
        };
        let (full, local) = match self.rope_parameters {
            Some(both) => (both.full_attention, both.sliding_attention),
            None => (None, None),
        };
        let scaling = match (&full, &self.rope_scaling) {
            (Some(full), _) => (full.rope_type.as_deref(), full.factor),
            (None, Some(scaling)) => (scaling.rope_type.as_deref(), scaling.factor),
            (None, None) => (None, None),
        };
        let rope_factor = match scaling {
            (None | Some("default"), _) => 1.0,
            (Some("linear"), factor) => factor.unwrap_or(1.0),
            (Some(other), _) => {
                return Err(format!(
                    "positions of the kind {other:?} are not known here"
                ));
            }
        };
        let head_dim = self.head_dim.unwrap_or(256);
        let full_theta = full.and_then(|rope| rope.rope_theta);
        let local_theta = local.and_then(|rope| rope.rope_theta);
        Ok(GemmaConfig {
            vocab: self.vocab_size.unwrap_or(262_208),
            hidden: self.hidden_size.unwrap_or(2304),
            intermediate: self.intermediate_size.unwrap_or(9216),
            layers,
            head_dim,
            heads: self.num_attention_heads.unwrap_or(8),
            key_value_heads: self.num_key_value_heads.unwrap_or(4),
            norm_eps: self.rms_norm_eps.unwrap_or(1e-6),
            query_scale: self.query_pre_attn_scalar.unwrap_or(256.0),
            window: self.sliding_window.unwrap_or(4096),
            sees_all,
            rope_theta: full_theta.or(self.rope_theta).unwrap_or(1_000_000.0),
            rope_factor,
            rope_local_theta: local_theta
                .or(self.rope_local_base_freq)
                .unwrap_or(10_000.0),
        })
    }
}
