//! Attention whose queries and keys are normalised over all heads together, as the networks of LTX
//! have it: of a sequence to itself, or to another one. Each head's result may be gated.

use candle_core::{DType, Tensor};

use super::{
    Adaptable, Attention, Linear, RmsNorm, Rope, Weights, attention, normalize_and_rotate,
    rope::HeadPart,
};
use crate::Result;

/// Sizes of an attention.
#[derive(Clone, Copy, Debug)]
pub struct HeadSizes {
    /// Heads.
    pub heads: usize,
    /// Width of one head.
    pub size: usize,
    /// Of the norms.
    pub eps: f64,
    /// Whether results are gated.
    pub is_gated: bool,
}

impl HeadSizes {
    fn width(&self) -> usize {
        self.heads * self.size
    }
}

/// A layer that gives twice the sigmoid of its result to each head.
#[derive(Debug)]
struct Gate(Linear);

impl Gate {
    fn load(weights: &Weights, inputs: usize, sizes: HeadSizes) -> Result<Option<Self>> {
        sizes
            .is_gated
            .then(|| Linear::load(&weights.at("to_gate_logits"), inputs, sizes.heads).map(Self))
            .transpose()
    }

    /// x: what queries were made from; seen: (batch, tokens, heads, size).
    fn forward(&self, x: &Tensor, seen: &Tensor) -> Result<Tensor> {
        let logits = self.0.forward(x)?.to_dtype(DType::F32)?;
        // 2 / (1 + e⁻ˣ)
        let gates = ((logits.neg()?.exp()? + 1.0)?.recip()? * 2.0)?;
        let gates = gates.unsqueeze(3)?.to_dtype(seen.dtype())?;
        Ok(seen.broadcast_mul(&gates)?)
    }
}

/// Attention of a sequence to itself.
#[derive(Debug)]
pub struct NormedSelfAttention {
    /// Queries, keys and values as one layer.
    qkv: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    gate: Option<Gate>,
    out: Linear,
    sizes: HeadSizes,
}

impl NormedSelfAttention {
    /// From sequences of `inputs` numbers to such.
    pub fn load(weights: &Weights, inputs: usize, sizes: HeadSizes) -> Result<Self> {
        let width = sizes.width();
        let qkv = ["to_q", "to_k", "to_v"].map(|name| (name, width));
        Ok(Self {
            qkv: Linear::load_stacked(weights, inputs, &qkv)?,
            norm_q: RmsNorm::load(&weights.at("norm_q"), width, sizes.eps)?,
            norm_k: RmsNorm::load(&weights.at("norm_k"), width, sizes.eps)?,
            gate: Gate::load(weights, inputs, sizes)?,
            out: Linear::load(&weights.at("to_out.0"), width, inputs)?,
            sizes,
        })
    }

    /// The layers that adapters may change.
    pub fn adaptables(&mut self) -> Vec<&mut dyn Adaptable> {
        let mut layers: Vec<&mut dyn Adaptable> = vec![
            &mut self.qkv,
            &mut self.norm_q,
            &mut self.norm_k,
            &mut self.out,
        ];
        if let Some(Gate(gate)) = &mut self.gate {
            layers.push(gate);
        }
        layers
    }

    /// (batch, tokens, inputs) → the same shape.
    pub fn forward(&self, x: &Tensor, rope: &Rope) -> Result<Tensor> {
        let width = self.sizes.width();
        let qkv = self.qkv.forward(x)?;
        let rotate = |column: usize, norm: &RmsNorm| -> Result<Tensor> {
            let x = qkv.narrow(2, column * width, width)?;
            normalize_and_rotate(&[HeadPart { x: &x, norm }], self.sizes.heads, rope)
        };
        let (q, k) = (rotate(0, &self.norm_q)?, rotate(1, &self.norm_k)?);
        let seen = attention(&q, &k, &self.values(&qkv)?, Attention::default())?;
        self.finish(x, seen)
    }

    /// The same where every token sees itself alone: what spatio-temporal guidance compares with.
    pub fn forward_blind(&self, x: &Tensor) -> Result<Tensor> {
        let values = self.values(&self.qkv.forward(x)?)?.contiguous()?;
        self.finish(x, values)
    }

    /// Heads of the values, which are columns of the wide rows.
    fn values(&self, qkv: &Tensor) -> Result<Tensor> {
        let (batch, tokens, _) = qkv.dims3()?;
        let heads = self.sizes.heads;
        Ok(qkv
            .reshape((batch, tokens, 3 * heads, self.sizes.size))?
            .narrow(2, 2 * heads, heads)?)
    }

    fn finish(&self, x: &Tensor, seen: Tensor) -> Result<Tensor> {
        let seen = match &self.gate {
            Some(gate) => gate.forward(x, &seen)?,
            None => seen,
        };
        self.out.forward(&seen.flatten_from(2)?)
    }
}

/// Attention of a sequence to another one.
#[derive(Debug)]
pub struct NormedCrossAttention {
    q: Linear,
    /// Keys and values as one layer.
    kv: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    gate: Option<Gate>,
    out: Linear,
    sizes: HeadSizes,
}

/// Keys and values, (batch, keys, heads, size) each.
#[derive(Clone, Debug)]
pub struct KeysAndValues {
    keys: Tensor,
    values: Tensor,
}

impl NormedCrossAttention {
    /// From sequences of `inputs` numbers to such, seeing sequences of `others`.
    pub fn load(weights: &Weights, inputs: usize, others: usize, sizes: HeadSizes) -> Result<Self> {
        let width = sizes.width();
        Ok(Self {
            q: Linear::load(&weights.at("to_q"), inputs, width)?,
            kv: Linear::load_stacked(weights, others, &[("to_k", width), ("to_v", width)])?,
            norm_q: RmsNorm::load(&weights.at("norm_q"), width, sizes.eps)?,
            norm_k: RmsNorm::load(&weights.at("norm_k"), width, sizes.eps)?,
            gate: Gate::load(weights, inputs, sizes)?,
            out: Linear::load(&weights.at("to_out.0"), width, inputs)?,
            sizes,
        })
    }

    /// The layers that adapters may change.
    pub fn adaptables(&mut self) -> Vec<&mut dyn Adaptable> {
        let mut layers: Vec<&mut dyn Adaptable> = vec![
            &mut self.q,
            &mut self.kv,
            &mut self.norm_q,
            &mut self.norm_k,
            &mut self.out,
        ];
        if let Some(Gate(gate)) = &mut self.gate {
            layers.push(gate);
        }
        layers
    }

    /// What of a sequence, (batch, keys, others), is seen.
    pub fn prepare(&self, other: &Tensor, rope: Option<&Rope>) -> Result<KeysAndValues> {
        let (batch, keys, _) = other.dims3()?;
        let (width, heads) = (self.sizes.width(), self.sizes.heads);
        let kv = self.kv.forward(other)?;
        let shape = (batch, keys, heads, self.sizes.size);
        let part = |i: usize| kv.narrow(2, i * width, width);
        Ok(KeysAndValues {
            keys: self.turn(&part(0)?, &self.norm_k, rope)?,
            values: part(1)?.contiguous()?.reshape(shape)?,
        })
    }

    /// (batch, tokens, inputs) → the same shape. `bias` as in [`Attention`].
    pub fn forward(
        &self,
        x: &Tensor,
        seen: &KeysAndValues,
        rope: Option<&Rope>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let q = self.turn(&self.q.forward(x)?, &self.norm_q, rope)?;
        let options = Attention {
            bias,
            ..Attention::default()
        };
        let y = attention(&q, &seen.keys, &seen.values, options)?;
        let y = match &self.gate {
            Some(gate) => gate.forward(x, &y)?,
            None => y,
        };
        self.out.forward(&y.flatten_from(2)?)
    }

    fn turn(&self, x: &Tensor, norm: &RmsNorm, rope: Option<&Rope>) -> Result<Tensor> {
        let heads = self.sizes.heads;
        if let Some(rope) = rope {
            return normalize_and_rotate(&[HeadPart { x, norm }], heads, rope);
        }
        let (batch, tokens, _) = x.dims3()?;
        let normal = norm.forward(&x.contiguous()?)?;
        Ok(normal.reshape((batch, tokens, heads, self.sizes.size))?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::Device;

    use super::*;
    use crate::layers::{
        Pairs,
        testing::{assert_close, wave},
        weights::Loaded,
    };

    fn weights(load: impl Fn(&Weights)) -> Weights {
        let survey = Weights::survey();
        load(&survey);
        let tensors: HashMap<String, Tensor> = survey
            .asked()
            .into_iter()
            .map(|(name, shape)| (name, (wave(&shape) * 0.3).unwrap()))
            .collect();
        Weights::new(Loaded::new("test", tensors), &Device::Cpu, DType::F32)
    }

    fn sizes(is_gated: bool) -> HeadSizes {
        HeadSizes {
            heads: 3,
            size: 8,
            eps: 1e-6,
            is_gated,
        }
    }

    #[test]
    fn a_sequence_that_sees_itself_as_another_sees_the_same() {
        let angles: Vec<f32> = (0..7 * 12).map(|i| i as f32 * 0.21).collect();
        let rope = Rope::from_angles(&angles, 7, Pairs::Halves, &Device::Cpu).unwrap();
        let x = wave(&[2, 7, 20]);
        for is_gated in [false, true] {
            let own = weights(|weights| {
                NormedSelfAttention::load(weights, 20, sizes(is_gated)).unwrap();
            });
            let this = NormedSelfAttention::load(&own, 20, sizes(is_gated)).unwrap();
            let other = NormedCrossAttention::load(&own, 20, 20, sizes(is_gated)).unwrap();
            let seen = other.prepare(&x, Some(&rope)).unwrap();
            let theirs = other.forward(&x, &seen, Some(&rope), None).unwrap();
            let ours = this.forward(&x, &rope).unwrap();
            assert_close(&ours, &theirs, 1e-5);
            // A lone token sees itself whether it looks or not.
            let alone = x.narrow(1, 3, 1).unwrap().contiguous().unwrap();
            let turn = Rope::from_angles(&angles[..12], 1, Pairs::Halves, &Device::Cpu).unwrap();
            let looking = this.forward(&alone, &turn).unwrap();
            assert_close(&this.forward_blind(&alone).unwrap(), &looking, 1e-5);
        }
    }
}
