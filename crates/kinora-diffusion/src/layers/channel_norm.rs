//! Normalisation of each pixel over its channels, with the activation that follows it: the norm of
//! Wan's VAE.

use candle_core::{DType, Tensor};

use super::{
    cpu::{f32s, for_rows, is_cpu_f32, tensor},
    math,
    norm::After,
    simd,
    weights::Weights,
};
use crate::{Result, error::bail_shape};

/// Shortest length that a pixel is divided by.
const SHORTEST: f32 = 1e-12;

/// x / ‖x‖ · √channels · γ at each pixel.
#[derive(Clone, Debug)]
pub struct ChannelNorm {
    /// (channels), f32
    gamma: Tensor,
}

impl ChannelNorm {
    /// `gamma` below `weights`, (channels, 1, …) with so many ones as the network writes.
    pub fn load(weights: &Weights, channels: usize, ones: usize) -> Result<Self> {
        let shape: Vec<usize> = std::iter::once(channels)
            .chain(std::iter::repeat_n(1, ones))
            .collect();
        let gamma = weights.get_f32("gamma", &shape)?;
        Ok(Self {
            gamma: gamma.reshape(channels)?.contiguous()?,
        })
    }

    /// (batch, channels, height, width) → the same shape.
    pub fn forward(&self, x: &Tensor, after: After) -> Result<Tensor> {
        let (_, channels, height, width) = x.dims4()?;
        if self.gamma.elem_count() != channels {
            bail_shape!(
                "a norm of {} channels got {:?}",
                self.gamma.elem_count(),
                x.dims()
            );
        }
        if !is_cpu_f32(x) {
            return self.forward_portable(x, after);
        }
        let pixels = height * width;
        let x = x.contiguous()?;
        let (source, gamma) = (f32s(&x)?, f32s(&self.gamma)?);
        if source.is_empty() {
            return Ok(x.clone());
        }
        let root = (channels as f64).sqrt() as f32;
        let mut scales = vec![0f32; source.len() / channels];
        for_rows(&mut scales, 1, channels, |first, part| {
            let (mut first, mut part) = (first, part);
            while !part.is_empty() {
                // As far as the picture goes.
                let (image, pixel) = (first / pixels, first % pixels);
                let (run, rest) = part.split_at_mut(part.len().min(pixels - pixel));
                let image = &source[image * channels * pixels..][..channels * pixels];
                simd::run(
                    #[inline(always)]
                    || {
                        for plane in image.chunks_exact(pixels) {
                            for (sum, value) in run.iter_mut().zip(&plane[pixel..]) {
                                *sum += value * value;
                            }
                        }
                        for sum in run.iter_mut() {
                            let length = sum.sqrt();
                            *sum = root / if length < SHORTEST { SHORTEST } else { length };
                        }
                    },
                );
                first += run.len();
                part = rest;
            }
        });
        let mut out = vec![0f32; source.len()];
        for_rows(&mut out, pixels, 2, |first, planes| {
            for (plane, out) in planes.chunks_exact_mut(pixels).enumerate() {
                let plane = first + plane;
                let source = &source[plane * pixels..][..pixels];
                let scales = &scales[plane / channels * pixels..][..pixels];
                let gamma = gamma[plane % channels];
                let values = out.iter_mut().zip(source.iter().zip(scales));
                simd::run(
                    #[inline(always)]
                    move || match after {
                        After::Nothing => {
                            for (out, (value, scale)) in values {
                                *out = value * scale * gamma;
                            }
                        }
                        After::Silu => {
                            for (out, (value, scale)) in values {
                                *out = math::silu(value * scale * gamma);
                            }
                        }
                    },
                );
            }
        });
        tensor(out, x.shape())
    }

    /// The same in candle operations, in f32.
    pub(crate) fn forward_portable(&self, x: &Tensor, after: After) -> Result<Tensor> {
        let channels = self.gamma.elem_count();
        let wide = x.to_dtype(DType::F32)?;
        let length = wide
            .sqr()?
            .sum_keepdim(1)?
            .sqrt()?
            .maximum(f64::from(SHORTEST))?;
        let y = (wide.broadcast_div(&length)? * (channels as f64).sqrt())?
            .broadcast_mul(&self.gamma.reshape((1, channels, 1, 1))?)?;
        let y = match after {
            After::Nothing => y,
            After::Silu => y.silu()?,
        };
        Ok(y.to_dtype(x.dtype())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, wave};

    #[test]
    fn the_kernel_equals_candle() {
        for shape in [[2, 7, 3, 5], [3, 96, 40, 50], [1, 16, 1, 1]] {
            let norm = ChannelNorm {
                gamma: wave(&[shape[1]]).affine(0.1, 1.0).unwrap(),
            };
            let x = wave(&shape).affine(3.0, 0.5).unwrap();
            for after in [After::Nothing, After::Silu] {
                let ours = norm.forward(&x, after).unwrap();
                assert_close(&ours, &norm.forward_portable(&x, after).unwrap(), 1e-5);
            }
            let zero = norm.forward(&(x * 0.0).unwrap(), After::Nothing).unwrap();
            assert_close(&zero, &(&zero * 0.0).unwrap(), 0.0);
        }
        let norm = ChannelNorm { gamma: wave(&[4]) };
        assert!(norm.forward(&wave(&[1, 5, 2, 2]), After::Nothing).is_err());
    }
}
