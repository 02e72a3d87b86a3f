//! Convolution along one dimension, plain or with gaps between its taps, and its transpose, which
//! makes a signal longer.
//!
//! A kernel with gaps of d over a signal is one without over d signals side by side, of which each
//! holds every d-th number: rows of a picture of d columns. A transpose by s is s convolutions, of
//! which each gives every s-th number. So the kernels of [`Conv2d`] serve both.

use candle_core::Tensor;

use super::{Conv2d, Packing, Padding};
use crate::{Result, error::bail_shape, layers::Weights};

/// A convolution of (batch, channels, length) that keeps the length.
#[derive(Debug)]
pub struct Conv1d {
    conv: Conv2d,
    gap: usize,
}

impl Conv1d {
    /// `weight`, (outputs, inputs, kernel) with an odd kernel, and, where it `has_bias`, `bias` below
    /// `weights`; so many numbers from tap to tap.
    pub fn load(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        (kernel, gap): (usize, usize),
        has_bias: bool,
    ) -> Result<Self> {
        if kernel.is_multiple_of(2) || gap == 0 {
            bail_shape!("a kernel of {kernel} with gaps of {gap}");
        }
        let weight = weights.get("weight", &[outputs, inputs, kernel])?;
        let bias = match has_bias {
            true => weights.get("bias", &[outputs])?,
            false => Tensor::zeros(outputs, weights.dtype(), weights.device())?,
        };
        let weight = weight.unsqueeze(3)?.contiguous()?;
        Ok(Self {
            conv: vertical(weight, bias, kernel / 2)?,
            gap,
        })
    }

    /// (batch, inputs, length) → (batch, outputs, length)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, inputs, length) = x.dims3()?;
        let rows = length.div_ceil(self.gap);
        let missing = rows * self.gap - length;
        let x = match missing {
            0 => x.clone(),
            _ => x.pad_with_zeros(2, 0, missing)?,
        };
        let y = self
            .conv
            .forward(&x.contiguous()?.reshape((batch, inputs, rows, self.gap))?)?;
        let outputs = y.dim(1)?;
        let y = y.reshape((batch, outputs, rows * self.gap))?;
        match missing {
            0 => Ok(y),
            _ => Ok(y.narrow(2, 0, length)?.contiguous()?),
        }
    }
}

/// A transposed convolution of (batch, channels, length) that makes it longer.
#[derive(Debug)]
pub struct Lengthening {
    conv: Conv2d,
    outputs: usize,
    factor: usize,
    /// Numbers that are cut off on each side.
    cut: usize,
    kernel: usize,
}

impl Lengthening {
    /// `weight`, (inputs, outputs, kernel), and `bias` below `weights`. What the kernel is longer
    /// than the factor is cut off, half on each side.
    pub fn load(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        (kernel, factor): (usize, usize),
    ) -> Result<Self> {
        if factor == 0 || kernel < factor {
            bail_shape!("a kernel of {kernel} that lengthens by {factor}");
        }
        let weight = weights.get("weight", &[inputs, outputs, kernel])?;
        let bias = weights.get("bias", &[outputs])?;
        let taps = kernel.div_ceil(factor);
        let missing = taps * factor - kernel;
        // Tap j of phase r is number r + factor · j; a convolution sees its taps backwards.
        let weight = match missing {
            0 => weight.contiguous()?,
            _ => weight.pad_with_zeros(2, 0, missing)?,
        };
        let backwards: Vec<u32> = (0..taps as u32).rev().collect();
        let backwards = Tensor::new(backwards, weight.device())?;
        let weight = weight
            .contiguous()?
            .reshape((inputs, outputs, taps, factor))?
            .permute((1, 3, 0, 2))?
            .contiguous()?
            .index_select(&backwards, 3)?
            .reshape((outputs * factor, inputs, taps, 1))?;
        let bias = bias
            .unsqueeze(1)?
            .broadcast_as((outputs, factor))?
            .contiguous()?
            .reshape(outputs * factor)?;
        Ok(Self {
            conv: vertical(weight, bias, taps - 1)?,
            outputs,
            factor,
            cut: (kernel - factor) / 2,
            kernel,
        })
    }

    /// (batch, inputs, length) → (batch, outputs, length · factor), one more where the kernel's
    /// surplus is odd.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, _, length) = x.dims3()?;
        let y = self.conv.forward(&x.unsqueeze(3)?.contiguous()?)?;
        let rows = y.dim(2)?;
        let y = y
            .reshape((batch, self.outputs, self.factor, rows))?
            .transpose(2, 3)?
            .contiguous()?
            .reshape((batch, self.outputs, rows * self.factor))?;
        let result = (length - 1) * self.factor + self.kernel - 2 * self.cut;
        Ok(y.narrow(2, self.cut, result)?.contiguous()?)
    }
}

/// A kernel of one column, (outputs, inputs, kernel, 1).
fn vertical(weight: Tensor, bias: Tensor, rows: usize) -> Result<Conv2d> {
    let padding = Padding {
        top: rows,
        bottom: rows,
        ..Padding::default()
    };
    Conv2d::new(weight, bias, 1, padding)?.packed(Packing::Plain)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device};

    use super::*;
    use crate::layers::{
        testing::{assert_close, wave},
        weights::Loaded,
    };

    fn weights(shape: &[usize], outputs: usize) -> (Weights, Tensor, Tensor) {
        let weight = (wave(shape) * 0.2).unwrap();
        let bias = wave(&[outputs]);
        let tensors = HashMap::from([
            ("weight".to_owned(), weight.clone()),
            ("bias".to_owned(), bias.clone()),
        ]);
        let loaded = Loaded::new("test", tensors);
        let weights = Weights::new(loaded, &Device::Cpu, DType::F32);
        (weights, weight, bias)
    }

    #[test]
    fn gaps_and_lengthening_equal_candle() {
        for (kernel, gap, length) in [(3, 1, 50), (7, 3, 50), (11, 5, 48), (3, 5, 4)] {
            let (weights, weight, bias) = weights(&[6, 4, kernel], 6);
            let conv = Conv1d::load(&weights, 4, 6, (kernel, gap), true).unwrap();
            let x = wave(&[2, 4, length]);
            let theirs = x.conv1d(&weight, gap * (kernel / 2), 1, gap, 1).unwrap();
            let theirs = theirs.broadcast_add(&bias.reshape((1, 6, 1)).unwrap());
            assert_close(&conv.forward(&x).unwrap(), &theirs.unwrap(), 1e-5);
        }
        for (kernel, factor) in [(16, 6), (15, 5), (4, 2), (11, 5), (3, 2), (2, 2)] {
            let (weights, weight, bias) = weights(&[4, 3, kernel], 3);
            let conv = Lengthening::load(&weights, 4, 3, (kernel, factor)).unwrap();
            let x = wave(&[2, 4, 21]);
            let cut = (kernel - factor) / 2;
            let ours = conv.forward(&x).unwrap();
            for row in 0..2 {
                // Alone: candle 0.11 mixes the rows of a batch up where nothing is cut off.
                let x = x.narrow(0, row, 1).unwrap().contiguous().unwrap();
                let theirs = x.conv_transpose1d(&weight, cut, 0, factor, 1, 1).unwrap();
                let theirs = theirs.broadcast_add(&bias.reshape((1, 3, 1)).unwrap());
                assert_close(&ours.narrow(0, row, 1).unwrap(), &theirs.unwrap(), 1e-5);
            }
        }
        let (weights, ..) = weights(&[6, 4, 4], 6);
        assert!(Conv1d::load(&weights, 4, 6, (4, 1), true).is_err());
        assert!(Lengthening::load(&weights, 6, 4, (4, 5)).is_err());
    }
}
