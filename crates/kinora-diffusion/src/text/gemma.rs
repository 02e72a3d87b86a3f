//! The text side of Gemma 3, of which every layer's result is wanted: causal attention with rotary
//! positions, of which most blocks see a window only. After
//! `transformers/models/gemma3/modeling_gemma3.py`.

use candle_core::{DType, Device, Tensor};
use kinora_weights::GemmaConfig;

use super::{flatten_ids, look_up};
use crate::{
    Result,
    layers::{
        Activation, Attention, Linear, Pairs, RmsNorm, Rope, Weights, activation::gated_halves,
        attention, normalize_and_rotate, on_workers, rope::HeadPart,
    },
};

/// Gemma 3's text side.
#[derive(Debug)]
pub struct GemmaEncoder {
    /// (vocabulary, width)
    tokens: Tensor,
    blocks: Vec<Block>,
    final_norm: RmsNorm,
    config: GemmaConfig,
    dtype: DType,
}

impl GemmaEncoder {
    /// Loads the network from the root of its weights. `on_load` is told the share that is done, 0
    /// to 1.
    pub fn load(
        weights: &Weights,
        config: &GemmaConfig,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        let table = weights.get_matrix("embed_tokens.weight", config.vocab, config.hidden)?;
        let mut blocks = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            blocks.push(Block::load(&weights.at("layers").at(layer), config)?);
            on_load((layer + 1) as f32 / config.layers as f32);
        }
        Ok(Self {
            tokens: table,
            blocks,
            final_norm: RmsNorm::load_around_one(
                &weights.at("norm"),
                config.hidden,
                config.norm_eps,
            )?,
            config: config.clone(),
            dtype: weights.dtype(),
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &GemmaConfig {
        &self.config
    }

    /// What every layer says of a prompt: the scaled rows of the token table, then each block's
    /// result, the last one normalised. (1, tokens, width) each, one more than there are blocks.
    ///
    /// `ids`: real tokens. `first`: how many of padding stand before them, which are not attended to
    /// and only move positions.
    pub fn forward(&self, ids: &[u32], first: usize) -> Result<Vec<Tensor>> {
        let device = self.tokens.device();
        let (flat, count) = flatten_ids(&[ids.to_vec()], self.config.vocab, device)?;
        // In the format of the table, as the reference rounds it.
        let scale = (self.config.hidden as f64).sqrt();
        let x = (look_up(&self.tokens, &flat, count, self.dtype)? * scale)?;
        on_workers(device, || {
            let full = self.rope(count, first, true, device)?;
            let local = self.rope(count, first, false, device)?;
            let window = self.window_bias(count, device)?;
            let mut states = Vec::with_capacity(self.blocks.len() + 1);
            let mut x = x;
            for (block, sees_all) in self.blocks.iter().zip(&self.config.sees_all) {
                let next = match sees_all {
                    true => block.forward(&x, &full, None)?,
                    false => block.forward(&x, &local, window.as_ref())?,
                };
                states.push(std::mem::replace(&mut x, next));
            }
            states.push(self.final_norm.forward(&x)?);
            Ok(states)
        })
    }

    fn rope(&self, count: usize, first: usize, sees_all: bool, device: &Device) -> Result<Rope> {
        let config = &self.config;
        let (theta, factor) = match sees_all {
            true => (config.rope_theta, config.rope_factor),
            false => (config.rope_local_theta, 1.0),
        };
        let pairs = config.head_dim / 2;
        // Frequencies and angles are rounded to f32 where the reference rounds them.
        let frequencies: Vec<f32> = (0..pairs)
            .map(|i| {
                let power = theta.powf((2 * i) as f64 / config.head_dim as f64) as f32;
                (1.0 / power) / factor as f32
            })
            .collect();
        let angles: Vec<f32> = (first..first + count)
            .flat_map(|place| frequencies.iter().map(move |f| place as f32 * f))
            .collect();
        Rope::from_angles(&angles, count, Pairs::Halves, device)
    }

    /// −∞ for keys that are out of a query's window, (1, 1, tokens, tokens), where any is.
    fn window_bias(&self, count: usize, device: &Device) -> Result<Option<Tensor>> {
        let window = self.config.window;
        if count <= window {
            return Ok(None);
        }
        let bias: Vec<f32> = (0..count * count)
            .map(|i| {
                let (query, key) = (i / count, i % count);
                match key + window > query {
                    true => 0.0,
                    false => f32::NEG_INFINITY,
                }
            })
            .collect();
        Ok(Some(Tensor::from_vec(bias, (1, 1, count, count), device)?))
    }
}

#[derive(Debug)]
struct Block {
    norm_in: RmsNorm,
    /// Queries, keys and values as one layer.
    qkv: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    out: Linear,
    norm_attention: RmsNorm,
    norm_mlp_in: RmsNorm,
    /// The value's outputs, then the gate's.
    up: Linear,
    down: Linear,
    norm_mlp_out: RmsNorm,
    heads: usize,
    key_value_heads: usize,
    size: usize,
    scale: f32,
}

impl Block {
    fn load(weights: &Weights, config: &GemmaConfig) -> Result<Self> {
        let (hidden, wide) = (config.hidden, config.intermediate);
        let norm =
            |name: &str| RmsNorm::load_around_one(&weights.at(name), hidden, config.norm_eps);
        let own = weights.at("self_attn");
        let head_norm =
            |name: &str| RmsNorm::load_around_one(&own.at(name), config.head_dim, config.norm_eps);
        let queries = config.heads * config.head_dim;
        let keys = config.key_value_heads * config.head_dim;
        let mlp = weights.at("mlp");
        Ok(Self {
            norm_in: norm("input_layernorm")?,
            qkv: Linear::load_stacked_no_bias(
                &own,
                hidden,
                &[("q_proj", queries), ("k_proj", keys), ("v_proj", keys)],
            )?,
            norm_q: head_norm("q_norm")?,
            norm_k: head_norm("k_norm")?,
            out: Linear::load_no_bias(&own.at("o_proj"), queries, hidden)?,
            norm_attention: norm("post_attention_layernorm")?,
            norm_mlp_in: norm("pre_feedforward_layernorm")?,
            up: Linear::load_stacked_no_bias(
                &mlp,
                hidden,
                &[("up_proj", wide), ("gate_proj", wide)],
            )?,
            down: Linear::load_no_bias(&mlp.at("down_proj"), wide, hidden)?,
            norm_mlp_out: norm("post_feedforward_layernorm")?,
            heads: config.heads,
            key_value_heads: config.key_value_heads,
            size: config.head_dim,
            scale: config.query_scale.powf(-0.5) as f32,
        })
    }

    /// (1, tokens, width) → the same shape.
    fn forward(&self, x: &Tensor, rope: &Rope, bias: Option<&Tensor>) -> Result<Tensor> {
        let (_, tokens, _) = x.dims3()?;
        let qkv = self.qkv.forward(&self.norm_in.forward(x)?)?;
        let (queries, keys) = (self.heads * self.size, self.key_value_heads * self.size);
        let rotate = |first: usize, width: usize, norm: &RmsNorm| -> Result<Tensor> {
            let x = qkv.narrow(2, first, width)?;
            normalize_and_rotate(&[HeadPart { x: &x, norm }], width / self.size, rope)
        };
        let q = rotate(0, queries, &self.norm_q)?;
        let k = self.share(&rotate(queries, keys, &self.norm_k)?)?;
        let v = qkv.narrow(2, queries + keys, keys)?.contiguous()?;
        let v = self.share(&v.reshape((1, tokens, self.key_value_heads, self.size))?)?;
        let options = Attention {
            scale: Some(self.scale),
            bias,
            is_causal: true,
        };
        let seen = attention(&q, &k, &v, options)?.flatten_from(2)?;
        let seen = self.norm_attention.forward(&self.out.forward(&seen)?)?;
        let x = (x + seen)?;
        let wide = self.up.forward(&self.norm_mlp_in.forward(&x)?)?;
        let inner = gated_halves(Activation::GeluTanh, &wide)?;
        Ok((&x + self.norm_mlp_out.forward(&self.down.forward(&inner)?)?)?)
    }

    /// Heads of keys or values, each as often as heads of queries share it.
    fn share(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, heads, size) = x.dims4()?;
        let times = self.heads / heads;
        if times == 1 {
            return Ok(x.clone());
        }
        Ok(x.unsqueeze(3)?
            .broadcast_as((batch, tokens, heads, times, size))?
            .contiguous()?
            .reshape((batch, tokens, self.heads, size))?)
    }
}
