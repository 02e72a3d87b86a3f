//! Softmax over the last dimension, for the rare places that need it outside of attention.

use candle_core::{D, DType, Tensor};

use super::{
    cpu::{f32s, for_rows, is_cpu_f32, tensor},
    math, simd,
};
use crate::{Result, kernels::norms};

/// eˣ / Σeˣ over the last dimension; the shape stays.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if !is_cpu_f32(x) {
        return norms::softmax(x)?.map_or_else(|| softmax_portable(x), Ok);
    }
    let size = x.dim(D::Minus1)?;
    let x = x.contiguous()?;
    let source = f32s(&x)?;
    let mut out = vec![0f32; source.len()];
    for_rows(&mut out, size, 4, |first, rows| {
        for (row, out) in rows.chunks_exact_mut(size).enumerate() {
            let source = &source[(first + row) * size..][..size];
            simd::run(
                #[inline(always)]
                move || {
                    let max = math::max(source);
                    for i in 0..size {
                        out[i] = math::exp(source[i] - max);
                    }
                    let scale = 1.0 / math::sum_by(out, |v| v);
                    for value in out {
                        *value *= scale;
                    }
                },
            );
        }
    });
    tensor(out, x.shape())
}

/// The same in candle operations, in f32.
pub(crate) fn softmax_portable(x: &Tensor) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let shifted = wide.broadcast_sub(&wide.max_keepdim(D::Minus1)?)?.exp()?;
    let y = shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)?;
    Ok(y.to_dtype(x.dtype())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, wave};

    #[test]
    fn the_kernel_equals_candle() {
        for size in [1, 5, 64, 1000] {
            let x = wave(&[50, size]).affine(30.0, 500.0).unwrap();
            assert_close(&softmax(&x).unwrap(), &softmax_portable(&x).unwrap(), 1e-6);
        }
    }
}
