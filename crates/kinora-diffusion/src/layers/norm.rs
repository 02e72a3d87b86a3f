//! Normalisation: layer norm, RMS norm, group norm (with the activation that follows it).
//!
//! Moments are taken in f32 per row or chunk and joined in f64 where a group is long, whatever the
//! activations' number format is.

use candle_core::{D, DType, Device, Tensor};
use rayon::prelude::*;

use super::{
    adapt::{Adaptable, TensorChanges},
    affine::Affine,
    cpu::{f32s, for_rows, is_cpu_f32, tensor},
    math::{self, sum_by},
    simd,
    weights::Weights,
};
use crate::{
    Result,
    error::bail_shape,
    kernels::{groups, norms::RowNorm, pointwise},
};

/// (x − mean) / √(variance + eps) · weight + bias over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    affine: Affine,
    eps: f64,
}

impl LayerNorm {
    /// `weight` and `bias` below `weights`.
    pub fn load(weights: &Weights, size: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            affine: Affine::load(weights, size)?,
            eps,
        })
    }

    /// Shape in, shape out.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Affine { weight, bias, .. } = &self.affine;
        let size = weight.elem_count();
        if !is_cpu_f32(x) || x.dims().last() != Some(&size) {
            let norm = RowNorm {
                x,
                gain: Some(weight),
                shift: Some(bias),
                is_centred: true,
                is_around_one: false,
                eps: self.eps,
            };
            if let Some(y) = norm.run()? {
                return Ok(y);
            }
            let normal = layer_norm_portable(x, self.eps)?;
            let y = normal.broadcast_mul(weight)?.broadcast_add(bias)?;
            return Ok(y.to_dtype(x.dtype())?);
        }
        let x = x.contiguous()?;
        let (source, weight, bias) = (f32s(&x)?, f32s(weight)?, f32s(bias)?);
        // Slices of the exact length, once: what the loop indexes must not be checked in it.
        let (weight, bias, eps) = (&weight[..size], &bias[..size], self.eps);
        let mut out = vec![0f32; source.len()];
        for_rows(&mut out, size, 2, |first, rows| {
            for (row, out) in rows.chunks_exact_mut(size).enumerate() {
                let source = &source[(first + row) * size..][..size];
                simd::run(
                    #[inline(always)]
                    move || {
                        let (mean, scale) = layer_moments(source, eps);
                        for i in 0..size {
                            out[i] = (source[i] - mean) * scale * weight[i] + bias[i];
                        }
                    },
                );
            }
        });
        tensor(out, x.shape())
    }
}

/// Mean and 1/√(variance + eps) of a row.
#[inline(always)]
pub(crate) fn layer_moments(row: &[f32], eps: f64) -> (f32, f32) {
    let mean = sum_by(row, |v| v) / row.len() as f32;
    let variance = sum_by(row, |v| (v - mean) * (v - mean)) / row.len() as f32;
    (mean, (f64::from(variance) + eps).sqrt().recip() as f32)
}

/// 1/√(mean of squares + eps) of a row.
#[inline(always)]
pub(crate) fn rms_scale(row: &[f32], eps: f64) -> f32 {
    let square = sum_by(row, |v| v * v) / row.len() as f32;
    (f64::from(square) + eps).sqrt().recip() as f32
}

/// The layer norm without weights in candle operations; the result is f32.
pub(crate) fn layer_norm_portable(x: &Tensor, eps: f64) -> Result<Tensor> {
    let x = x.to_dtype(DType::F32)?;
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    Ok(centred.broadcast_div(&(variance + eps)?.sqrt()?)?)
}

impl Adaptable for LayerNorm {
    fn tensors(&self) -> Vec<String> {
        self.affine.tensors()
    }

    fn bytes(&self) -> u64 {
        self.affine.bytes()
    }

    fn adapt(&mut self, changes: &dyn TensorChanges) -> Result<()> {
        self.affine.adapt(changes)
    }
}

impl Adaptable for GroupNorm {
    fn tensors(&self) -> Vec<String> {
        self.affine.tensors()
    }

    fn bytes(&self) -> u64 {
        self.affine.bytes()
    }

    fn adapt(&mut self, changes: &dyn TensorChanges) -> Result<()> {
        self.affine.adapt(changes)
    }
}

impl Adaptable for RmsNorm {
    fn tensors(&self) -> Vec<String> {
        let origin = self.origin.iter();
        origin.map(|weights| weights.full_name("weight")).collect()
    }

    fn bytes(&self) -> u64 {
        4 * self.weight.elem_count() as u64
    }

    fn adapt(&mut self, changes: &dyn TensorChanges) -> Result<()> {
        let Some(weights) = &self.origin else {
            return Ok(());
        };
        let name = weights.full_name("weight");
        let is_changed = changes.is_changed(&name);
        if is_changed || self.is_merged {
            let mut scales = weights.get_plain("weight", self.weight.dims())?;
            if is_changed {
                scales = changes.apply(&name, scales)?;
            }
            self.weight = scales.to_device(weights.device())?;
            self.is_merged = is_changed;
        }
        Ok(())
    }
}

/// x / √(mean(x²) + eps) · weight over the last dimension.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
    /// Where it was read.
    origin: Option<Weights>,
    /// Whether adapters changed it.
    is_merged: bool,
}

impl RmsNorm {
    /// `weight` below `weights`.
    pub fn load(weights: &Weights, size: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: weights.get_f32("weight", &[size])?,
            eps,
            origin: Some(weights.clone()),
            is_merged: false,
        })
    }

    /// A norm whose stored weights say by how much its scales differ from 1 (Gemma).
    pub fn load_around_one(weights: &Weights, size: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: (weights.get_f32("weight", &[size])? + 1.0)?,
            eps,
            origin: None,
            is_merged: false,
        })
    }

    /// A norm without weights.
    pub fn plain(size: usize, eps: f64, device: &Device) -> Result<Self> {
        Ok(Self {
            weight: Tensor::ones(size, DType::F32, device)?,
            eps,
            origin: None,
            is_merged: false,
        })
    }

    /// The scales, f32.
    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    pub(crate) fn eps(&self) -> f64 {
        self.eps
    }

    /// Shape in, shape out.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let size = self.weight.elem_count();
        if !is_cpu_f32(x) || x.dims().last() != Some(&size) {
            let norm = RowNorm {
                x,
                gain: Some(&self.weight),
                shift: None,
                is_centred: false,
                is_around_one: false,
                eps: self.eps,
            };
            return norm.run()?.map_or_else(|| self.forward_portable(x), Ok);
        }
        let x = x.contiguous()?;
        let (source, weight) = (f32s(&x)?, f32s(&self.weight)?);
        let (weight, eps) = (&weight[..size], self.eps);
        let mut out = vec![0f32; source.len()];
        for_rows(&mut out, size, 2, |first, rows| {
            for (row, out) in rows.chunks_exact_mut(size).enumerate() {
                let source = &source[(first + row) * size..][..size];
                simd::run(
                    #[inline(always)]
                    move || {
                        let scale = rms_scale(source, eps);
                        for i in 0..size {
                            out[i] = source[i] * scale * weight[i];
                        }
                    },
                );
            }
        });
        tensor(out, x.shape())
    }

    /// The same in candle operations, in f32.
    pub(crate) fn forward_portable(&self, x: &Tensor) -> Result<Tensor> {
        let wide = x.to_dtype(DType::F32)?;
        let square = wide.sqr()?.mean_keepdim(D::Minus1)?;
        let y = wide
            .broadcast_div(&(square + self.eps)?.sqrt()?)?
            .broadcast_mul(&self.weight)?;
        Ok(y.to_dtype(x.dtype())?)
    }
}

/// What a group norm applies to its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Nothing,
    /// SiLU.
    Silu,
}

/// Normalises each of `groups` runs of channels over all their pixels, then weight and bias per
/// channel.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    affine: Affine,
    groups: usize,
    eps: f64,
}

/// Elements whose moments are taken at once in f32.
const MOMENT_CHUNK: usize = 8 * 1024;

impl GroupNorm {
    /// `weight` and `bias` below `weights`. `groups` must divide `channels`.
    pub fn load(weights: &Weights, groups: usize, channels: usize, eps: f64) -> Result<Self> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(crate::Error::bad_weights(
                weights.path(),
                format!("{channels} channels cannot be normalised in {groups} groups"),
            ));
        }
        Ok(Self {
            affine: Affine::load(weights, channels)?,
            groups,
            eps,
        })
    }

    /// (batch, channels, …) → the same shape.
    pub fn forward(&self, x: &Tensor, after: After) -> Result<Tensor> {
        let channels = self.affine.weight.elem_count();
        if x.rank() < 3 || x.dim(1)? != channels {
            bail_shape!("group norm of {channels} channels got {:?}", x.dims());
        }
        if !is_cpu_f32(x) {
            let norm = groups::GroupNorm {
                weight: &self.affine.weight,
                bias: &self.affine.bias,
                groups: self.groups,
                eps: self.eps,
                function: pointwise::number_after(after),
            };
            return norm
                .run(x)?
                .map_or_else(|| self.forward_portable(x, after), Ok);
        }
        let x = x.contiguous()?;
        let source = f32s(&x)?;
        let pixels: usize = x.dims()[2..].iter().product();
        if source.is_empty() {
            return Ok(x.clone());
        }
        let lines = self.lines(&source, pixels)?;
        let mut out = vec![0f32; source.len()];
        let cost = if after == After::Silu { 3 } else { 1 };
        for_rows(&mut out, pixels, cost, |first, rows| {
            for (row, out) in rows.chunks_exact_mut(pixels).enumerate() {
                let row = first + row;
                let (factor, offset) = lines[row];
                let source = &source[row * pixels..][..pixels];
                match after {
                    After::Nothing => {
                        super::activation::map(source, out, move |v| v * factor + offset)
                    }
                    After::Silu => {
                        super::activation::map(source, out, move |v| {
                            math::silu(v * factor + offset)
                        });
                    }
                }
            }
        });
        tensor(out, x.shape())
    }

    /// How many channels it normalises.
    pub(crate) fn channels(&self) -> usize {
        self.affine.weight.elem_count()
    }

    /// What the norm does to each channel of each image, as factor and offset. `source` holds whole
    /// images, channel after channel of `pixels` numbers, at least one.
    pub(super) fn lines(&self, source: &[f32], pixels: usize) -> Result<Vec<(f32, f32)>> {
        let channels = self.channels();
        let per_group = channels / self.groups;
        let moments: Vec<(f32, f32)> = source
            .chunks_exact(per_group * pixels)
            .map(|group| group_moments(group, self.eps))
            .collect();
        let (weight, bias) = (f32s(&self.affine.weight)?, f32s(&self.affine.bias)?);
        let line = |row: usize| {
            let (mean, scale) = moments[row / per_group];
            let factor = scale * weight[row % channels];
            (factor, bias[row % channels] - mean * factor)
        };
        Ok((0..moments.len() * per_group).map(line).collect())
    }

    /// The same in candle operations, in f32.
    pub(crate) fn forward_portable(&self, x: &Tensor, after: After) -> Result<Tensor> {
        let channels = self.affine.weight.elem_count();
        let (batch, dtype) = (x.dim(0)?, x.dtype());
        let flat = x.to_dtype(DType::F32)?.reshape((batch, self.groups, ()))?;
        let normal = layer_norm_portable(&flat, self.eps)?.reshape((batch, channels, ()))?;
        let y = normal
            .broadcast_mul(&self.affine.weight.reshape((1, channels, 1))?)?
            .broadcast_add(&self.affine.bias.reshape((1, channels, 1))?)?;
        let y = match after {
            After::Nothing => y,
            After::Silu => y.silu()?,
        };
        Ok(y.reshape(x.shape())?.to_dtype(dtype)?)
    }
}

/// Mean and 1/√(variance + eps) of a long run: moments of short chunks about their own means,
/// joined by the formula of Chan, Golub and LeVeque in f64.
fn group_moments(group: &[f32], eps: f64) -> (f32, f32) {
    let of_chunk = |chunk: &[f32]| -> (f64, f64, f64) {
        simd::run(
            #[inline(always)]
            move || {
                let mean = sum_by(chunk, |v| v) / chunk.len() as f32;
                let squares = sum_by(chunk, |v| (v - mean) * (v - mean));
                (chunk.len() as f64, f64::from(mean), f64::from(squares))
            },
        )
    };
    let join = |a: (f64, f64, f64), b: (f64, f64, f64)| {
        let count = a.0 + b.0;
        let delta = b.1 - a.1;
        let mean = a.1 + delta * b.0 / count;
        (count, mean, a.2 + b.2 + delta * delta * a.0 * b.0 / count)
    };
    let chunks: Vec<(f64, f64, f64)> = if group.len() < 8 * MOMENT_CHUNK {
        group.chunks(MOMENT_CHUNK).map(of_chunk).collect()
    } else {
        group.par_chunks(MOMENT_CHUNK).map(of_chunk).collect()
    };
    // Joined in order, so that the result does not depend on which core was first.
    let (count, mean, squares) = chunks.into_iter().reduce(join).unwrap_or((1.0, 0.0, 0.0));
    (mean as f32, (squares / count + eps).sqrt().recip() as f32)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::layers::testing::{assert_close, wave};

    fn affine(size: usize) -> (Tensor, Tensor) {
        (wave(&[size]).affine(0.1, 1.0).unwrap(), wave(&[size]))
    }

    #[test]
    fn layer_and_rms_norm_equal_candle() {
        let x = wave(&[2, 301, 96]).affine(3.0, 20.0).unwrap();
        let (weight, bias) = affine(96);
        let layer = LayerNorm {
            affine: Affine::new(weight.clone(), bias.clone()),
            eps: 1e-6,
        };
        let expected = layer_norm_portable(&x, 1e-6)
            .and_then(|y| Ok(y.broadcast_mul(&weight)?.broadcast_add(&bias)?))
            .unwrap();
        assert_close(&layer.forward(&x).unwrap(), &expected, 2e-5);
        let rms = RmsNorm {
            weight,
            eps: 1e-6,
            origin: None,
            is_merged: false,
        };
        assert_close(
            &rms.forward(&x).unwrap(),
            &rms.forward_portable(&x).unwrap(),
            1e-5,
        );
    }

    #[test]
    fn group_norm_equals_candle_with_one_group_and_many() {
        let (weight, bias) = affine(16);
        for groups in [1, 4, 16] {
            for shape in [[2, 16, 3, 5], [1, 16, 120, 130]] {
                let x = wave(&shape).affine(2.0, -7.0).unwrap();
                let norm = GroupNorm {
                    affine: Affine::new(weight.clone(), bias.clone()),
                    groups,
                    eps: 1e-6,
                };
                for after in [After::Nothing, After::Silu] {
                    let ours = norm.forward(&x, after).unwrap();
                    assert_close(&ours, &norm.forward_portable(&x, after).unwrap(), 3e-5);
                }
            }
        }
    }

    #[test]
    fn a_far_mean_does_not_drown_the_variance() {
        let (weight, bias) = (
            Tensor::ones(4, DType::F32, &Device::Cpu).unwrap(),
            Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap(),
        );
        let norm = GroupNorm {
            affine: Affine::new(weight, bias),
            groups: 2,
            eps: 1e-12,
        };
        let x = wave(&[1, 4, 300, 100]).affine(1.0, 5000.0).unwrap();
        let y = norm.forward(&x, After::Nothing).unwrap();
        let power = y
            .sqr()
            .unwrap()
            .mean_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!((power - 1.0).abs() < 1e-3, "{power}");
    }
}
