//! The text side of CLIP: a causal transformer with learned positions.
//! After `transformers/models/clip/modeling_clip.py`.

use candle_core::{DType, Tensor};
use kinora_weights::{ClipConfig, TextActivation};

use super::{flatten_ids, look_up};
use crate::{
    Error, Result,
    layers::{Activation, Adaptable, Attention, LayerNorm, Linear, Weights, attention},
};

/// The published configurations carry this id, which is wrong; it stands for "the token with the
/// highest id", which is the real end of text.
const LEGACY_EOS: u32 = 2;

/// What the encoder gives for a batch of prompts.
#[derive(Clone, Debug)]
pub struct ClipText {
    /// After the last block and the final norm. (batch, tokens, width)
    pub last: Tensor,
    /// Before the last block (or before as many as were asked for), without a norm: what later
    /// families condition on. (batch, tokens, width)
    pub penultimate: Tensor,
    /// The row of `last` at the end of each prompt. (batch, width)
    pub pooled: Tensor,
    /// The same after the projection, where the encoder has one. (batch, projected width)
    pub projected: Option<Tensor>,
}

/// A CLIP text encoder.
#[derive(Debug)]
pub struct ClipEncoder {
    /// (vocabulary, width)
    tokens: Tensor,
    /// (positions, width)
    positions: Tensor,
    blocks: Vec<Block>,
    final_norm: LayerNorm,
    projection: Option<Linear>,
    config: ClipConfig,
    dtype: DType,
}

impl ClipEncoder {
    /// Loads the encoder from the root of its weights.
    pub fn load(weights: &Weights, config: &ClipConfig) -> Result<Self> {
        let embeddings = weights.at("embeddings");
        Ok(Self {
            tokens: embeddings.get_matrix("token_embedding.weight", config.vocab, config.hidden)?,
            positions: embeddings.get(
                "position_embedding.weight",
                &[config.max_positions, config.hidden],
            )?,
            blocks: (0..config.layers)
                .map(|layer| Block::load(&weights.at("encoder.layers").at(layer), config))
                .collect::<Result<_>>()?,
            final_norm: LayerNorm::load(
                &weights.at("final_layer_norm"),
                config.hidden,
                config.norm_eps,
            )?,
            projection: None,
            config: config.clone(),
            dtype: weights.dtype(),
        })
    }

    /// The same with the projection of the pooled text to `width`, which lies beside the encoder.
    pub fn load_projected(weights: &Weights, config: &ClipConfig, width: usize) -> Result<Self> {
        let projection = weights.at("text_projection");
        Ok(Self {
            projection: Some(Linear::load_no_bias(&projection, config.hidden, width)?),
            ..Self::load(weights, config)?
        })
    }

    /// Blocks.
    pub fn layers(&self) -> usize {
        self.blocks.len()
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
        if let Some(projection) = &mut self.projection {
            layers.push(projection);
        }
        layers
    }

    /// Longest prompt in tokens.
    pub fn max_tokens(&self) -> usize {
        self.config.max_positions
    }

    /// The norm that follows the last block, for states from before it.
    pub fn normalize(&self, states: &Tensor) -> Result<Tensor> {
        self.final_norm.forward(states)
    }

    /// Encodes prompts of equal length.
    pub fn forward(&self, ids: &[Vec<u32>]) -> Result<ClipText> {
        self.forward_before(ids, 1)
    }

    /// Encodes prompts of equal length; [`ClipText::penultimate`] is taken before the last `skipped`
    /// blocks.
    pub fn forward_before(&self, ids: &[Vec<u32>], skipped: usize) -> Result<ClipText> {
        let (flat, tokens) = flatten_ids(ids, self.config.vocab, self.tokens.device())?;
        if tokens > self.config.max_positions {
            return Err(Error::Shape(format!(
                "CLIP takes {} tokens, not {tokens}",
                self.config.max_positions
            )));
        }
        let x = look_up(&self.tokens, &flat, tokens, self.dtype)?;
        let mut x = x.broadcast_add(&self.positions.narrow(0, 0, tokens)?)?;
        let Some(wanted) = self.blocks.len().checked_sub(skipped) else {
            return Err(Error::BadRequest(format!(
                "{skipped} blocks of the text encoder are to be left out, it has {}",
                self.blocks.len()
            )));
        };
        let mut penultimate = x.clone();
        for (done, block) in (1..).zip(&self.blocks) {
            x = block.forward(&x, true)?;
            if done == wanted {
                penultimate = x.clone();
            }
        }
        let last = self.final_norm.forward(&x)?;
        let ends: Vec<u32> = ids
            .iter()
            .enumerate()
            .map(|(row, ids)| (row * tokens + self.find_end(ids)) as u32)
            .collect();
        let ends = Tensor::new(ends, last.device())?;
        let pooled = last.flatten(0, 1)?.index_select(&ends, 0)?;
        let projected = self
            .projection
            .as_ref()
            .map(|projection| projection.forward(&pooled))
            .transpose()?;
        Ok(ClipText {
            last,
            penultimate,
            pooled,
            projected,
        })
    }

    /// Where a prompt ends: the first end-of-text token, or the first token where there is none.
    fn find_end(&self, ids: &[u32]) -> usize {
        let end = match self.config.eos_token_id {
            LEGACY_EOS => ids.iter().max().copied(),
            id => Some(id),
        };
        ids.iter().position(|id| Some(*id) == end).unwrap_or(0)
    }
}

/// A block of the text side, which is causal, or of the vision side, which is not. SigLIP's are
/// built the same.
#[derive(Debug)]
pub(crate) struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    out: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
    activation: Activation,
    heads: usize,
}

impl Block {
    /// `config` for its widths, heads, norm and activation.
    pub fn load(weights: &Weights, config: &ClipConfig) -> Result<Self> {
        let (hidden, wide) = (config.hidden, config.intermediate);
        let attn = weights.at("self_attn");
        let mlp = weights.at("mlp");
        let norm = |name| LayerNorm::load(&weights.at(name), hidden, config.norm_eps);
        Ok(Self {
            norm1: norm("layer_norm1")?,
            qkv: Linear::load_stacked(
                &attn,
                hidden,
                &[("q_proj", hidden), ("k_proj", hidden), ("v_proj", hidden)],
            )?,
            out: Linear::load(&attn.at("out_proj"), hidden, hidden)?,
            norm2: norm("layer_norm2")?,
            up: Linear::load(&mlp.at("fc1"), hidden, wide)?,
            down: Linear::load(&mlp.at("fc2"), wide, hidden)?,
            activation: match config.activation {
                TextActivation::QuickGelu => Activation::QuickGelu,
                TextActivation::Gelu => Activation::GeluErf,
                TextActivation::GeluTanh => Activation::GeluTanh,
            },
            heads: config.heads,
        })
    }

    /// (batch, tokens, width) → the same shape.
    pub fn forward(&self, x: &Tensor, is_causal: bool) -> Result<Tensor> {
        let (batch, tokens, hidden) = x.dims3()?;
        let qkv = self.qkv.forward(&self.norm1.forward(x)?)?;
        let part = |index: usize| {
            qkv.narrow(2, index * hidden, hidden)?.reshape((
                batch,
                tokens,
                self.heads,
                hidden / self.heads,
            ))
        };
        let options = Attention {
            is_causal,
            ..Attention::default()
        };
        let seen = attention(&part(0)?, &part(1)?, &part(2)?, options)?;
        let x = (x + self.out.forward(&seen.flatten_from(2)?)?)?;
        let wide = self.up.forward(&self.norm2.forward(&x)?)?;
        Ok((&x + self.down.forward(&self.activation.forward(&wide)?)?)?)
    }
}
