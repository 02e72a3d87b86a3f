//! The encoder of T5 version 1.1: relative positions as a bias of the attention, no scaling of the
//! scores, gated feed-forward layers, RMS norms. After `transformers/models/t5/modeling_t5.py`.
//!
//! UMT5, whose blocks have a table of positions each, is in `umt5`.

use candle_core::{DType, Device, Tensor};
use kinora_weights::T5Config;

use super::{flatten_ids, look_up};
use crate::{
    Result,
    layers::{
        Activation, Adaptable, Attention, Linear, RmsNorm, Weights, activation::gated, attention,
    },
};

/// A T5 encoder.
#[derive(Debug)]
pub struct T5Encoder {
    /// (vocabulary, width)
    tokens: Tensor,
    /// (buckets, heads), f32. In the first block's weights; all blocks use it.
    positions: Tensor,
    blocks: Vec<Block>,
    final_norm: RmsNorm,
    config: T5Config,
    dtype: DType,
}

impl T5Encoder {
    /// Loads the encoder from the root of its weights.
    pub fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let encoder = weights.at("encoder");
        Ok(Self {
            tokens: weights.get_matrix("shared.weight", config.vocab, config.hidden)?,
            positions: encoder.get_f32(
                "block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                &[config.buckets, config.heads],
            )?,
            blocks: (0..config.layers)
                .map(|layer| Block::load(&encoder.at("block").at(layer).at("layer"), config))
                .collect::<Result<_>>()?,
            final_norm: RmsNorm::load(
                &encoder.at("final_layer_norm"),
                config.hidden,
                config.norm_eps,
            )?,
            config: config.clone(),
            dtype: weights.dtype(),
        })
    }

    /// Encodes prompts of equal length: → (batch, tokens, width).
    ///
    /// `lengths` tells how many tokens of each prompt are real, for families that keep padding
    /// from being attended to. FLUX.1 gives None: its padding is attended to, and counts.
    pub fn forward(&self, ids: &[Vec<u32>], lengths: Option<&[usize]>) -> Result<Tensor> {
        let device = self.tokens.device();
        let (flat, tokens) = flatten_ids(ids, self.config.vocab, device)?;
        let mut x = look_up(&self.tokens, &flat, tokens, self.dtype)?;
        let mut bias = position_bias(&self.positions, tokens, &self.config)?;
        if let Some(lengths) = lengths {
            bias = bias.broadcast_add(&padding_mask(lengths, tokens, device)?)?;
        }
        for block in &self.blocks {
            x = block.forward(&x, &bias)?;
        }
        self.final_norm.forward(&x)
    }

    /// The layers that adapters may change.
    pub fn adaptables(&mut self) -> Vec<&mut dyn Adaptable> {
        let mut layers: Vec<&mut dyn Adaptable> = Vec::new();
        for block in &mut self.blocks {
            let Block {
                norm1,
                qkv,
                out,
                norm2,
                up,
                down,
                ..
            } = block;
            layers.extend([norm1, norm2].map(|norm| norm as &mut dyn Adaptable));
            layers.extend([qkv, out, up, down].map(|linear| linear as &mut dyn Adaptable));
        }
        layers.push(&mut self.final_norm);
        layers
    }
}

/// Bias of every head for every pair of positions, (1, heads, tokens, tokens), from a table
/// (buckets, heads).
pub(super) fn position_bias(table: &Tensor, tokens: usize, config: &T5Config) -> Result<Tensor> {
    let (buckets, max_distance) = (config.buckets, config.max_distance);
    let ids: Vec<u32> = (0..tokens)
        .flat_map(|query| (0..tokens).map(move |key| bucket_of(query, key, buckets, max_distance)))
        .collect();
    let ids = Tensor::new(ids, table.device())?;
    let rows = table.index_select(&ids, 0)?;
    Ok(rows
        .reshape((tokens, tokens, config.heads))?
        .permute((2, 0, 1))?
        .unsqueeze(0)?
        .contiguous()?)
}

/// The row of the position table for a pair of positions: one half of the rows for each direction,
/// half of those for one distance each, the rest for ranges that grow by a constant factor.
fn bucket_of(query: usize, key: usize, buckets: usize, max_distance: usize) -> u32 {
    let (half, distance) = (buckets / 2, query.abs_diff(key));
    let exact = half / 2;
    let row = if distance < exact {
        distance
    } else {
        // In f32, as the reference computes it: the borders are sensitive to rounding.
        let log = (distance as f32 / exact as f32).ln();
        let range = (max_distance as f64 / exact as f64).ln() as f32;
        (exact + (log / range * (half - exact) as f32) as usize).min(half - 1)
    };
    (row + if key > query { half } else { 0 }) as u32
}

/// 0 for real tokens and −∞ for padding behind them, (batch, 1, 1, tokens).
pub(super) fn padding_mask(lengths: &[usize], tokens: usize, device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = lengths
        .iter()
        .flat_map(|length| {
            // A prompt has at least its end token; a row without any would be all −∞.
            let length = (*length).max(1);
            (0..tokens).map(move |token| {
                if token < length {
                    0.0
                } else {
                    f32::NEG_INFINITY
                }
            })
        })
        .collect();
    Ok(Tensor::from_vec(
        values,
        (lengths.len(), 1, 1, tokens),
        device,
    )?)
}

#[derive(Debug)]
pub(super) struct Block {
    norm1: RmsNorm,
    qkv: Linear,
    out: Linear,
    norm2: RmsNorm,
    /// The gate's outputs, then the value's.
    up: Linear,
    down: Linear,
    heads: usize,
    head_dim: usize,
}

impl Block {
    pub fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let (hidden, wide) = (config.hidden, config.intermediate);
        let inner = config.heads * config.head_dim;
        let attn = weights.at("0.SelfAttention");
        let mlp = weights.at("1.DenseReluDense");
        let norm = |name| RmsNorm::load(&weights.at(name), hidden, config.norm_eps);
        Ok(Self {
            norm1: norm("0.layer_norm")?,
            qkv: Linear::load_stacked_no_bias(
                &attn,
                hidden,
                &[("q", inner), ("k", inner), ("v", inner)],
            )?,
            out: Linear::load_no_bias(&attn.at("o"), inner, hidden)?,
            norm2: norm("1.layer_norm")?,
            up: Linear::load_stacked_no_bias(&mlp, hidden, &[("wi_0", wide), ("wi_1", wide)])?,
            down: Linear::load_no_bias(&mlp.at("wo"), wide, hidden)?,
            heads: config.heads,
            head_dim: config.head_dim,
        })
    }

    /// (batch, tokens, width) → the same shape. bias: (1 or batch, heads, tokens, tokens)
    pub fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let (batch, tokens, _) = x.dims3()?;
        let qkv = self.qkv.forward(&self.norm1.forward(x)?)?;
        let inner = self.heads * self.head_dim;
        let part = |index: usize| {
            qkv.narrow(2, index * inner, inner)?
                .reshape((batch, tokens, self.heads, self.head_dim))
        };
        let options = Attention {
            scale: Some(1.0),
            bias: Some(bias),
            is_causal: false,
        };
        let seen = attention(&part(0)?, &part(1)?, &part(2)?, options)?;
        let x = (x + self.out.forward(&seen.flatten_from(2)?)?)?;
        let wide = self.up.forward(&self.norm2.forward(&x)?)?;
        let width = wide.dims3()?.2 / 2;
        let (gate, value) = (wide.narrow(2, 0, width)?, wide.narrow(2, width, width)?);
        Ok((&x
            + self
                .down
                .forward(&gated(Activation::GeluTanh, &gate, &value)?)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the reference's buckets begin, for 32 buckets and a largest distance of 128.
    #[test]
    fn buckets_begin_where_the_references_do() {
        let begins = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        for distance in 0..600 {
            let row = begins.iter().rposition(|begin| *begin <= distance).unwrap() as u32;
            assert_eq!(bucket_of(distance, 0, 32, 128), row, "{distance} back");
            let ahead = if distance == 0 { 0 } else { row + 16 };
            assert_eq!(bucket_of(0, distance, 32, 128), ahead, "{distance} ahead");
        }
    }
}
