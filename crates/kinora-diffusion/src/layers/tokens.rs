//! From the pixels of a picture to the tokens of a transformer and back: both only turn the order of
//! the numbers around, which is done on the way of a step that touches them anyway.

use candle_core::Tensor;

use super::{
    cpu::{f32s, for_rows, is_cpu_f32, tensor},
    norm::{After, GroupNorm},
};
use crate::{Result, error::bail_shape};

/// Pixels, or channels, that are turned around together: one cache line.
const BLOCK: usize = 16;

/// The normalised pixels as tokens: (batch, channels, height, width) → (batch, pixels, channels).
pub fn normalize_to_tokens(norm: &GroupNorm, x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let pixels = height * width;
    if channels != norm.channels() {
        bail_shape!(
            "group norm of {} channels got {:?}",
            norm.channels(),
            x.dims()
        );
    }
    if !is_cpu_f32(x) || pixels * batch == 0 {
        let normal = norm.forward(x, After::Nothing)?;
        let tokens = normal.reshape((batch, channels, pixels))?.transpose(1, 2)?;
        return Ok(tokens.contiguous()?);
    }
    let x = x.contiguous()?;
    let source = f32s(&x)?;
    let lines = norm.lines(&source, pixels)?;
    let mut out = vec![0f32; source.len()];
    for_rows(&mut out, channels, 4, |first, tokens| {
        for (block, tokens) in tokens.chunks_mut(BLOCK * channels).enumerate() {
            let first = first + block * BLOCK;
            let count = tokens.len() / channels;
            let mut done = 0;
            // A block may reach from one picture into the next.
            while done < count {
                let (image, pixel) = ((first + done) / pixels, (first + done) % pixels);
                let run = (count - done).min(pixels - pixel);
                let tokens = &mut tokens[done * channels..][..run * channels];
                for channel in 0..channels {
                    let row = image * channels + channel;
                    let (factor, offset) = lines[row];
                    let values = &source[row * pixels + pixel..][..run];
                    for (token, value) in tokens.chunks_exact_mut(channels).zip(values) {
                        token[channel] = value * factor + offset;
                    }
                }
                done += run;
            }
        }
    });
    tensor(out, (batch, pixels, channels))
}

/// Tokens back at their pixels, plus a residual: (batch, pixels, channels) and (batch, channels,
/// height, width) → the shape of the residual.
pub fn add_tokens(residual: &Tensor, tokens: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = residual.dims4()?;
    let pixels = height * width;
    if tokens.dims() != [batch, pixels, channels] {
        bail_shape!("tokens of {:?} on {:?}", tokens.dims(), residual.dims());
    }
    if !(is_cpu_f32(residual) && is_cpu_f32(tokens)) {
        let tokens = tokens.transpose(1, 2)?.reshape(residual.shape())?;
        return Ok((residual + tokens)?);
    }
    let (residual, tokens) = (residual.contiguous()?, tokens.contiguous()?);
    let (left, right) = (f32s(&residual)?, f32s(&tokens)?);
    let mut out = vec![0f32; left.len()];
    for_rows(&mut out, pixels, 4, |first, planes| {
        for (block, planes) in planes.chunks_mut(BLOCK * pixels).enumerate() {
            let first = first + block * BLOCK;
            let count = planes.len() / pixels;
            planes.copy_from_slice(&left[first * pixels..][..count * pixels]);
            let mut done = 0;
            while done < count {
                let (image, channel) = ((first + done) / channels, (first + done) % channels);
                let run = (count - done).min(channels - channel);
                let planes = &mut planes[done * pixels..][..run * pixels];
                for pixel in 0..pixels {
                    let token = (image * pixels + pixel) * channels + channel;
                    let values = &right[token..][..run];
                    for (plane, value) in planes.chunks_exact_mut(pixels).zip(values) {
                        plane[pixel] += value;
                    }
                }
                done += run;
            }
        }
    });
    tensor(out, (batch, channels, height, width))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device};

    use super::*;
    use crate::layers::{
        Weights,
        testing::{assert_close, wave},
        weights::Loaded,
    };

    #[test]
    fn pixels_become_tokens_and_tokens_pixels() {
        for (shape, groups) in [([3, 20, 5, 7], 4), ([2, 48, 33, 40], 16), ([1, 4, 1, 1], 2)] {
            let channels = shape[1];
            let tensors = HashMap::from([
                ("weight".to_owned(), wave(&[channels])),
                (
                    "bias".to_owned(),
                    wave(&[channels]).affine(0.3, 0.1).unwrap(),
                ),
            ]);
            let weights = Weights::new(Loaded::new("norm", tensors), &Device::Cpu, DType::F32);
            let norm = GroupNorm::load(&weights, groups, channels, 1e-6).unwrap();
            let x = wave(&shape).affine(2.0, -1.0).unwrap();
            let pixels = shape[2] * shape[3];
            let normal = norm.forward(&x, After::Nothing).unwrap();
            let turned = normal.reshape((shape[0], channels, pixels)).unwrap();
            let expected = turned.transpose(1, 2).unwrap().contiguous().unwrap();
            let tokens = normalize_to_tokens(&norm, &x).unwrap();
            assert_close(&tokens, &expected, 0.0);
            let back = add_tokens(&x, &tokens).unwrap();
            assert_close(&back, &(&x + normal).unwrap(), 0.0);
            assert!(add_tokens(&x, &x).is_err());
        }
    }
}
