//! The encoder of UMT5: T5 version 1.1 with a table of relative positions in every block. After
//! `transformers/models/umt5/modeling_umt5.py`.

use candle_core::{DType, Tensor};
use kinora_weights::T5Config;

use super::{
    flatten_ids, look_up,
    t5::{Block, padding_mask, position_bias},
};
use crate::{
    Result,
    layers::{RmsNorm, Weights, on_workers},
};

/// A UMT5 encoder.
#[derive(Debug)]
pub struct Umt5Encoder {
    /// (vocabulary, width)
    tokens: Tensor,
    /// Each with its positions: (buckets, heads), f32.
    blocks: Vec<(Block, Tensor)>,
    final_norm: RmsNorm,
    config: T5Config,
    dtype: DType,
}

impl Umt5Encoder {
    /// Loads the encoder from the root of its weights.
    pub fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let encoder = weights.at("encoder");
        let load_block = |layer: usize| -> Result<(Block, Tensor)> {
            let layers = encoder.at("block").at(layer).at("layer");
            let positions = layers.get_f32(
                "0.SelfAttention.relative_attention_bias.weight",
                &[config.buckets, config.heads],
            )?;
            Ok((Block::load(&layers, config)?, positions))
        };
        Ok(Self {
            tokens: weights.get_matrix("shared.weight", config.vocab, config.hidden)?,
            blocks: (0..config.layers).map(load_block).collect::<Result<_>>()?,
            final_norm: RmsNorm::load(
                &encoder.at("final_layer_norm"),
                config.hidden,
                config.norm_eps,
            )?,
            config: config.clone(),
            dtype: weights.dtype(),
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &T5Config {
        &self.config
    }

    /// Encodes prompts of equal length: → (batch, tokens, width).
    ///
    /// `lengths` tells how many tokens of each prompt are real: the others are not attended to.
    /// None: all are. A prompt without its padding gives the same rows as one with it.
    pub fn forward(&self, ids: &[Vec<u32>], lengths: Option<&[usize]>) -> Result<Tensor> {
        let device = self.tokens.device();
        let (flat, tokens) = flatten_ids(ids, self.config.vocab, device)?;
        let mut x = look_up(&self.tokens, &flat, tokens, self.dtype)?;
        let mask = lengths
            .map(|lengths| padding_mask(lengths, tokens, device))
            .transpose()?;
        on_workers(device, || {
            for (block, positions) in &self.blocks {
                let mut bias = position_bias(positions, tokens, &self.config)?;
                if let Some(mask) = &mask {
                    bias = bias.broadcast_add(mask)?;
                }
                x = block.forward(&x, &bias)?;
            }
            self.final_norm.forward(&x)
        })
    }
}
