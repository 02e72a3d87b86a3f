//! The activation of vocoders that keeps what it makes below the highest frequency: the signal at
//! twice its rate, x + sin²(αx)/β, and back, each change of rate through a short filter. After
//! BigVGAN (Lee et al.) and `AntiAliasAct1d` of the reference library.

use candle_core::{DType, Tensor};

use super::{
    Weights,
    cpu::{f32s, for_rows, is_cpu_f32, tensor},
};
use crate::{Result, error::bail_shape};

/// Taps of both filters.
const TAPS: usize = 12;
/// Numbers that a filter reaches beyond an end at twice the rate: 5 before, 6 behind.
const BEFORE: usize = TAPS / 2 - 1;
/// Added to what is divided by.
const TINY: f64 = 1e-9;

/// x + sin²(αx)/β at twice the rate.
#[derive(Debug)]
pub struct Snake {
    /// (channels), f32
    alpha: Tensor,
    /// 1/β, (channels), f32
    strength: Tensor,
    /// (taps), f32, with the gain of 2 in it.
    up: Tensor,
    /// (taps), f32
    down: Tensor,
}

impl Snake {
    /// `act.alpha` and `act.beta`, which are logarithms, and `upsample.filter` and
    /// `downsample.filter` below `weights`.
    pub fn load(weights: &Weights, channels: usize) -> Result<Self> {
        let number = |name: &str| weights.at("act").get_f32(name, &[channels]);
        let filter = |name: &str| -> Result<Tensor> {
            let filter = weights.at(name).get_f32("filter", &[1, 1, TAPS])?;
            Ok(filter.flatten_all()?.contiguous()?)
        };
        Ok(Self {
            alpha: number("alpha")?.exp()?,
            strength: (number("beta")?.exp()? + TINY)?.recip()?,
            up: (filter("upsample")? * 2.0)?,
            down: filter("downsample")?,
        })
    }

    /// (batch, channels, length) → the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, channels, length) = x.dims3()?;
        if channels != self.alpha.elem_count() || length == 0 {
            bail_shape!(
                "an activation of {} channels got {:?}",
                self.alpha.elem_count(),
                x.dims()
            );
        }
        if !is_cpu_f32(x) {
            return self.forward_portable(x);
        }
        let x = x.contiguous()?;
        let (source, alpha, strength) = (f32s(&x)?, f32s(&self.alpha)?, f32s(&self.strength)?);
        let (up, down) = (f32s(&self.up)?, f32s(&self.down)?);
        let (up, down) = (&up[..TAPS], &down[..TAPS]);
        let mut out = vec![0f32; source.len()];
        for_rows(&mut out, length, 40, |first, rows| {
            // The first and the last number stand beyond the ends too.
            let reach = TAPS / 2;
            let mut wide = vec![0f32; length + 2 * reach];
            let mut twice = vec![0f32; 2 * length + TAPS];
            for (row, out) in rows.chunks_exact_mut(length).enumerate() {
                let row = first + row;
                let source = &source[row * length..][..length];
                let (alpha, strength) = (alpha[row % channels], strength[row % channels]);
                wide[..reach].fill(source[0]);
                wide[reach..reach + length].copy_from_slice(source);
                wide[reach + length..].fill(source[length - 1]);
                for (i, pair) in twice[BEFORE..BEFORE + 2 * length]
                    .as_chunks_mut::<2>()
                    .0
                    .iter_mut()
                    .enumerate()
                {
                    // Even numbers meet the odd taps, odd ones the even taps.
                    let (mut even, mut odd) = (0f32, 0f32);
                    for j in 0..reach {
                        even += wide[i + reach - 3 + j] * up[TAPS - 1 - 2 * j];
                        odd += wide[i + reach - 2 + j] * up[TAPS - 2 - 2 * j];
                    }
                    *pair = [even, odd].map(|x| {
                        let sine = (x * alpha).sin();
                        x + strength * (sine * sine)
                    });
                }
                let (begin, end) = (twice[BEFORE], twice[BEFORE + 2 * length - 1]);
                twice[..BEFORE].fill(begin);
                twice[BEFORE + 2 * length..].fill(end);
                for (i, out) in out.iter_mut().enumerate() {
                    let window = &twice[2 * i..][..TAPS];
                    *out = window.iter().zip(down).map(|(x, tap)| x * tap).sum();
                }
            }
        });
        tensor(out, x.shape())
    }

    /// The same in candle operations, in f32.
    pub(crate) fn forward_portable(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, length) = x.dims3()?;
        let lines = x
            .to_dtype(DType::F32)?
            .contiguous()?
            .reshape((batch * channels, 1, length))?;
        // Five copies of each end; then what they make is cut off.
        let wide = widen(&lines, BEFORE, BEFORE)?;
        let up = self.up.reshape((1, 1, TAPS))?;
        let twice = wide.conv_transpose1d(&up, 0, 0, 2, 1, 1)?;
        let cut = BEFORE * 2 + (TAPS - 2) / 2;
        let twice = twice
            .narrow(2, cut, 2 * length)?
            .reshape((batch, channels, 2 * length))?;
        let row = |t: &Tensor| t.reshape((1, channels, 1));
        let sine = twice.broadcast_mul(&row(&self.alpha)?)?.sin()?;
        let bent = sine.sqr()?.broadcast_mul(&row(&self.strength)?)?;
        let twice = (twice + bent)?.reshape((batch * channels, 1, 2 * length))?;
        let wide = widen(&twice, BEFORE, TAPS / 2)?;
        let down = self.down.reshape((1, 1, TAPS))?;
        let y = wide.conv1d(&down, 0, 2, 1, 1)?;
        Ok(y.reshape(x.shape())?.to_dtype(x.dtype())?)
    }
}

/// Copies of the first and the last number beyond the ends: (lines, 1, length).
pub fn widen(lines: &Tensor, before: usize, behind: usize) -> Result<Tensor> {
    let (count, _, length) = lines.dims3()?;
    let edge = |place: usize, copies: usize| -> Result<Tensor> {
        let edge = lines.narrow(2, place, 1)?;
        Ok(edge.broadcast_as((count, 1, copies))?.contiguous()?)
    };
    Ok(Tensor::cat(
        &[&edge(0, before)?, lines, &edge(length - 1, behind)?],
        2,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, wave};

    #[test]
    fn the_kernel_equals_candle() {
        let snake = Snake {
            alpha: wave(&[5]).exp().unwrap(),
            strength: wave(&[5]).affine(0.5, 1.0).unwrap(),
            up: wave(&[TAPS]),
            down: wave(&[TAPS]).affine(0.3, 0.1).unwrap(),
        };
        for length in [1, 2, 7, 3000] {
            let x = wave(&[2, 5, length]);
            let ours = snake.forward(&x).unwrap();
            let theirs = snake.forward_portable(&x).unwrap();
            assert_close(&ours, &theirs, 2e-5);
        }
        assert!(snake.forward(&wave(&[2, 4, 9])).is_err());
    }
}
