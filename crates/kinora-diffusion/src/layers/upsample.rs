//! Nearest-neighbour enlargement by two.

use candle_core::Tensor;

use super::cpu::{f32s, for_rows, is_cpu_f32, tensor};
use crate::{Result, kernels::pointwise};

/// (batch, channels, height, width) → (batch, channels, 2·height, 2·width)
pub fn upsample_nearest(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    if !is_cpu_f32(x) {
        return match pointwise::enlarge_nearest(x)? {
            Some(y) => Ok(y),
            None => Ok(x.upsample_nearest2d(2 * height, 2 * width)?),
        };
    }
    let x = x.contiguous()?;
    let source = f32s(&x)?;
    let mut out = vec![0f32; 4 * source.len()];
    // One row of the source makes two of the result.
    for_rows(&mut out, 4 * width, 1, |first, rows| {
        for (row, out) in rows.chunks_exact_mut(4 * width).enumerate() {
            let source = &source[(first + row) * width..][..width];
            let (upper, lower) = out.split_at_mut(2 * width);
            for (pair, &value) in upper.as_chunks_mut::<2>().0.iter_mut().zip(source) {
                *pair = [value; 2];
            }
            lower.copy_from_slice(upper);
        }
    });
    tensor(out, (batch, channels, 2 * height, 2 * width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, wave};

    #[test]
    fn the_kernel_equals_candle() {
        let x = wave(&[2, 3, 70, 65]);
        assert_close(
            &upsample_nearest(&x).unwrap(),
            &x.upsample_nearest2d(140, 130).unwrap(),
            0.0,
        );
    }
}
