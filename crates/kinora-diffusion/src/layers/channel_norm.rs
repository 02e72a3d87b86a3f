//! Normalisation of each pixel over its channels, with the activation that follows it: the norms of
//! the video VAEs.

use candle_core::{DType, Device, Tensor};

use super::{
    cpu::{f32s, for_rows, is_cpu_f32, tensor},
    math,
    norm::After,
    simd,
    weights::Weights,
};
use crate::{
    Result,
    error::bail_shape,
    kernels::{groups, pointwise},
};

/// Shortest length that a pixel is divided by.
const SHORTEST: f32 = 1e-12;

/// x / ‖x‖ · √channels · γ at each pixel, or x / √(mean(x²) + eps) · γ + β.
#[derive(Clone, Debug)]
pub struct ChannelNorm {
    /// (channels), f32
    gamma: Tensor,
    /// (channels), f32
    beta: Option<Tensor>,
    /// Added to the mean of the squares; None: the length is cut off below instead.
    eps: Option<f64>,
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
            beta: None,
            eps: None,
        })
    }

    /// An RMS norm without weights of its own.
    pub fn rms(channels: usize, eps: f64, device: &Device) -> Result<Self> {
        Ok(Self {
            gamma: Tensor::ones(channels, DType::F32, device)?,
            beta: None,
            eps: Some(eps),
        })
    }

    /// The same norm, scaled by 1 + `scale` and shifted by `shift`: (channels) each.
    pub fn modulated(&self, shift: &Tensor, scale: &Tensor) -> Result<Self> {
        let gamma = (scale.to_dtype(DType::F32)? + 1.0)?;
        if shift.dims() != self.gamma.dims() || gamma.dims() != self.gamma.dims() {
            bail_shape!(
                "a norm of {:?} modulated by {:?} and {:?}",
                self.gamma.dims(),
                shift.dims(),
                scale.dims()
            );
        }
        Ok(Self {
            gamma: (&self.gamma * gamma)?,
            beta: Some(shift.to_dtype(DType::F32)?.contiguous()?),
            eps: self.eps,
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
            let norm = groups::ChannelNorm {
                gamma: &self.gamma,
                beta: self.beta.as_ref(),
                eps: self.eps,
                shortest: SHORTEST,
                function: pointwise::number_after(after),
            };
            return norm
                .run(x)?
                .map_or_else(|| self.forward_portable(x, after), Ok);
        }
        let pixels = height * width;
        let x = x.contiguous()?;
        let (source, gamma) = (f32s(&x)?, f32s(&self.gamma)?);
        if source.is_empty() {
            return Ok(x.clone());
        }
        let root = (channels as f64).sqrt() as f32;
        let beta = self.beta.as_ref().map(f32s).transpose()?;
        let (eps, share) = (self.eps.map(|eps| eps as f32), 1.0 / channels as f32);
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
                        match eps {
                            Some(eps) => {
                                for sum in run.iter_mut() {
                                    *sum = 1.0 / (*sum * share + eps).sqrt();
                                }
                            }
                            None => {
                                for sum in run.iter_mut() {
                                    let length = sum.sqrt();
                                    *sum = root / if length < SHORTEST { SHORTEST } else { length };
                                }
                            }
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
                let beta = beta.as_ref().map_or(0.0, |beta| beta[plane % channels]);
                let values = out.iter_mut().zip(source.iter().zip(scales));
                simd::run(
                    #[inline(always)]
                    move || match after {
                        After::Nothing => {
                            for (out, (value, scale)) in values {
                                *out = value * scale * gamma + beta;
                            }
                        }
                        After::Silu => {
                            for (out, (value, scale)) in values {
                                *out = math::silu(value * scale * gamma + beta);
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
        let squares = wide.sqr()?;
        let normal = match self.eps {
            Some(eps) => wide.broadcast_div(&(squares.mean_keepdim(1)? + eps)?.sqrt()?)?,
            None => {
                let length = squares.sum_keepdim(1)?.sqrt()?;
                let length = length.maximum(f64::from(SHORTEST))?;
                (wide.broadcast_div(&length)? * (channels as f64).sqrt())?
            }
        };
        let row = |t: &Tensor| t.reshape((1, channels, 1, 1));
        let y = normal.broadcast_mul(&row(&self.gamma)?)?;
        let y = match &self.beta {
            Some(beta) => y.broadcast_add(&row(beta)?)?,
            None => y,
        };
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
            let by_length = ChannelNorm {
                gamma: wave(&[shape[1]]).affine(0.1, 1.0).unwrap(),
                beta: None,
                eps: None,
            };
            let plain = ChannelNorm::rms(shape[1], 1e-8, &Device::Cpu).unwrap();
            let rows = wave(&[2, shape[1]]);
            let row = |i| rows.get(i).unwrap();
            let modulated = plain.modulated(&row(0), &row(1)).unwrap();
            let x = wave(&shape).affine(3.0, 0.5).unwrap();
            for norm in [&by_length, &plain, &modulated] {
                for after in [After::Nothing, After::Silu] {
                    let ours = norm.forward(&x, after).unwrap();
                    assert_close(&ours, &norm.forward_portable(&x, after).unwrap(), 1e-5);
                }
            }
            for norm in [&by_length, &plain] {
                let zero = norm.forward(&(&x * 0.0).unwrap(), After::Nothing).unwrap();
                assert_close(&zero, &(&zero * 0.0).unwrap(), 0.0);
            }
        }
        let norm = ChannelNorm::rms(4, 1e-6, &Device::Cpu).unwrap();
        assert!(norm.modulated(&wave(&[5]), &wave(&[4])).is_err());
        assert!(norm.forward(&wave(&[1, 5, 2, 2]), After::Nothing).is_err());
    }
}
