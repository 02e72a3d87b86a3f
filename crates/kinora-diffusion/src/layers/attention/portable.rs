//! Attention in candle's operations, for every device: runs of queries meet all keys, each run chosen
//! so that its scores stay small.

use candle_core::{D, DType, Tensor};

use super::{Backend, Call};
use crate::{
    Result,
    layers::{halves, softmax::softmax_portable},
};

/// For everything.
pub(super) struct Portable {
    /// Scores that are held at a time.
    pub most_scores: usize,
}

impl Portable {
    /// A gigabyte of scores.
    pub const USUAL: Self = Self {
        most_scores: 1 << 28,
    };
}

impl Backend for Portable {
    fn takes(&self, _: &Call) -> bool {
        true
    }

    fn attend(&self, call: &Call) -> Result<Tensor> {
        attend(call, self.most_scores)
    }
}

fn attend(call: &Call, most_scores: usize) -> Result<Tensor> {
    let Call { q, k, v, .. } = *call;
    let (batch, queries, heads, _) = q.dims4()?;
    let keys = k.dim(1)?;
    let heads_first = |t: &Tensor| t.transpose(1, 2)?.contiguous();
    let (q, k, v) = (heads_first(q)?, heads_first(k)?, heads_first(v)?);
    let k = k.transpose(D::Minus2, D::Minus1)?;
    let run = (most_scores / (batch * heads * keys).max(1)).clamp(1, queries.max(1));
    let mut parts = Vec::new();
    for first in (0..queries).step_by(run) {
        let count = run.min(queries - first);
        let products = halves::matmul(&q.narrow(2, first, count)?, &k)?;
        let mut scores = (products.to_dtype(DType::F32)? * f64::from(call.scale))?;
        if let Some(bias) = call.bias {
            let bias = bias.to_device(q.device())?.to_dtype(DType::F32)?;
            let bias = if bias.dim(2)? == 1 {
                bias
            } else {
                bias.narrow(2, first, count)?
            };
            scores = scores.broadcast_add(&bias)?;
        }
        if call.is_causal {
            let mask: Vec<f32> = (0..count * keys)
                .map(|i| {
                    if i % keys > first + i / keys {
                        f32::NEG_INFINITY
                    } else {
                        0.0
                    }
                })
                .collect();
            let mask = Tensor::from_vec(mask, (1, 1, count, keys), q.device())?;
            scores = scores.broadcast_add(&mask)?;
        }
        let shares = softmax_portable(&scores)?.to_dtype(v.dtype())?;
        parts.push(halves::matmul(&shares, &v)?);
    }
    Ok(Tensor::cat(&parts, 2)?.transpose(1, 2)?.contiguous()?)
}
