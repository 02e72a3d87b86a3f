//! Point-wise activations.

use candle_core::{DType, Tensor};

use super::{
    cpu::{f32s, for_rows, is_cpu_f32, strided_f32s, tensor},
    math, simd,
};
use crate::{Result, error::bail_shape, kernels::pointwise};

/// A point-wise non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x)
    Silu,
    /// ½x(1 + tanh(√(2/π)(x + 0.044715x³))); `gelu_new`, `gelu_pytorch_tanh`
    GeluTanh,
    /// ½x(1 + erf(x/√2))
    GeluErf,
    /// x · sigmoid(1.702x)
    QuickGelu,
    /// max(x, 0)
    Relu,
}

impl Activation {
    /// The activation that model configurations of the transformers library call so.
    pub fn from_config(name: &str) -> Option<Self> {
        Some(match name {
            "silu" | "swish" => Self::Silu,
            "gelu_new" | "gelu_pytorch_tanh" => Self::GeluTanh,
            "gelu" => Self::GeluErf,
            "quick_gelu" => Self::QuickGelu,
            "relu" => Self::Relu,
            _ => return None,
        })
    }

    /// Applies it to every element.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        if !is_cpu_f32(x) {
            return pointwise::activate(self, x)?.map_or_else(|| self.forward_portable(x), Ok);
        }
        let x = x.contiguous()?;
        let source = f32s(&x)?;
        let mut out = vec![0f32; source.len()];
        for_rows(&mut out, 1, 2, |first, part| {
            let source = &source[first..first + part.len()];
            self.apply(source, part);
        });
        tensor(out, x.shape())
    }

    /// `out[i] = f(source[i])`.
    fn apply(self, source: &[f32], out: &mut [f32]) {
        match self {
            Self::Silu => map(source, out, math::silu),
            Self::GeluTanh => map(source, out, math::gelu_tanh),
            Self::GeluErf => map(source, out, math::gelu_erf),
            Self::QuickGelu => map(source, out, math::quick_gelu),
            Self::Relu => map(source, out, |v| if v < 0.0 { 0.0 } else { v }),
        }
    }

    /// The same in candle operations, in f32.
    pub(crate) fn forward_portable(self, x: &Tensor) -> Result<Tensor> {
        let dtype = x.dtype();
        let x = x.to_dtype(DType::F32)?;
        let y = match self {
            Self::Silu => x.silu()?,
            Self::GeluTanh => x.gelu()?,
            Self::GeluErf => x.gelu_erf()?,
            Self::QuickGelu => {
                let denominator = ((&x * -1.702)?.exp()? + 1.0)?;
                (&x / denominator)?
            }
            Self::Relu => x.relu()?,
        };
        Ok(y.to_dtype(dtype)?)
    }
}

#[inline(always)]
pub(crate) fn map(source: &[f32], out: &mut [f32], f: impl Fn(f32) -> f32) {
    simd::run(
        #[inline(always)]
        move || {
            for (out, &value) in out.iter_mut().zip(source) {
                *out = f(value);
            }
        },
    );
}

/// `activation(gate) · value`, the product of gated feed-forward layers, in one pass.
pub fn gated(activation: Activation, gate: &Tensor, value: &Tensor) -> Result<Tensor> {
    if !(is_cpu_f32(gate) && is_cpu_f32(value)) || gate.dims() != value.dims() {
        return match pointwise::gate_rows(activation, gate, value)? {
            Some(y) => Ok(y),
            None => Ok((activation.forward(gate)? * value)?),
        };
    }
    let (gate, value) = (gate.contiguous()?, value.contiguous()?);
    let (gates, values) = (f32s(&gate)?, f32s(&value)?);
    let mut out = vec![0f32; gates.len()];
    for_rows(&mut out, 1, 2, |first, part| {
        activation.apply(&gates[first..first + part.len()], part);
        for (out, &value) in part.iter_mut().zip(&values[first..]) {
            *out *= value;
        }
    });
    tensor(out, gate.shape())
}

/// `value · activation(gate)` of one matrix product's two halves: (…, 2·size), the value first, the
/// gate behind it → (…, size). The halves are read in place.
pub fn gated_halves(activation: Activation, halves: &Tensor) -> Result<Tensor> {
    let mut shape = halves.dims().to_vec();
    let width = shape.pop().unwrap_or(0);
    if !width.is_multiple_of(2) || width == 0 {
        bail_shape!("two halves of {:?}", halves.dims());
    }
    let size = width / 2;
    shape.push(size);
    if !is_cpu_f32(halves) {
        let last = halves.rank() - 1;
        let value = halves.narrow(last, 0, size)?;
        let gate = halves.narrow(last, size, size)?;
        return match pointwise::gate_rows(activation, &gate, &value)? {
            Some(y) => Ok(y),
            None => Ok((value * activation.forward(&gate.contiguous()?)?)?),
        };
    }
    let halves = halves.contiguous()?;
    let source = strided_f32s(&halves)?;
    let mut out = vec![0f32; halves.elem_count() / 2];
    for_rows(&mut out, size, 3, |first, rows| {
        for (row, out) in rows.chunks_exact_mut(size).enumerate() {
            let (value, gate) = source[(first + row) * width..][..width].split_at(size);
            activation.apply(gate, out);
            for (out, &value) in out.iter_mut().zip(value) {
                *out *= value;
            }
        }
    });
    tensor(out, shape)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::layers::testing::{assert_close, wave};

    #[test]
    fn kernels_equal_candle() {
        let x = (wave(&[3, 70_001]) * 6.0).unwrap();
        for activation in [
            Activation::Silu,
            Activation::GeluTanh,
            Activation::GeluErf,
            Activation::QuickGelu,
            Activation::Relu,
        ] {
            let ours = activation.forward(&x).unwrap();
            assert_close(&ours, &activation.forward_portable(&x).unwrap(), 1e-6);
        }
    }

    #[test]
    fn gating_multiplies() {
        let (gate, value) = (wave(&[5, 33]), wave(&[5, 33]).affine(0.5, 1.0).unwrap());
        let expected = (Activation::GeluTanh.forward_portable(&gate).unwrap() * &value).unwrap();
        assert_close(
            &gated(Activation::GeluTanh, &gate, &value).unwrap(),
            &expected,
            1e-6,
        );
    }

    #[test]
    fn halves_are_multiplied_in_place() {
        let wide = wave(&[3, 7, 66]);
        let (value, gate) = (
            wide.narrow(2, 0, 33).unwrap(),
            wide.narrow(2, 33, 33).unwrap(),
        );
        let gate = Activation::GeluErf.forward_portable(&gate.contiguous().unwrap());
        assert_close(
            &gated_halves(Activation::GeluErf, &wide).unwrap(),
            &(value * gate.unwrap()).unwrap(),
            1e-6,
        );
        assert!(gated_halves(Activation::GeluErf, &wave(&[2, 3])).is_err());
        let half = wide.to_dtype(DType::BF16).unwrap();
        let ours = gated_halves(Activation::GeluErf, &half).unwrap();
        assert_eq!((ours.dtype(), ours.dims()), (DType::BF16, &[3, 7, 33][..]));
    }

    #[test]
    fn other_number_formats_take_the_portable_way() {
        let x = wave(&[8]).to_dtype(DType::BF16).unwrap();
        assert_eq!(Activation::Silu.forward(&x).unwrap().dtype(), DType::BF16);
        assert!(Activation::from_config("gelu_new") == Some(Activation::GeluTanh));
        assert!(Activation::from_config("mish").is_none());
        assert!(
            Activation::Silu
                .forward(&Tensor::zeros((0, 4), DType::F32, &Device::Cpu).unwrap())
                .is_ok()
        );
    }
}
