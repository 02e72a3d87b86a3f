//! Rotary position embeddings, with the RMS norm that precedes them fused in: on neighbouring
//! numbers or on the two halves of a head, by angles that all heads share or that go over the whole
//! row. Angles are given, or computed in f64 and rounded once.

use candle_core::{DType, Device, Tensor};

use super::{
    RmsNorm,
    cpu::{f32s, for_rows, is_cpu_f32, strided_f32s, tensor},
    norm::rms_scale,
    simd,
};
use crate::{Result, error::bail_shape, kernels};

/// Which numbers of a head are turned together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pairs {
    /// 2j and 2j + 1.
    #[default]
    Neighbours,
    /// j and j + half of the head.
    Halves,
}

/// Cosines and sines of every token and pair: of one head, or of a whole row of heads.
#[derive(Clone, Debug)]
pub struct Rope {
    /// (tokens, pairs), f32
    cos: Tensor,
    /// (tokens, pairs), f32
    sin: Tensor,
    pairs: Pairs,
}

impl Rope {
    /// Positions on several axes: axis `i` turns `axes[i] / 2` pairs by position · theta^(−2j/axes[i]).
    ///
    /// `positions`: for each token its position on each axis.
    pub fn new<const AXES: usize>(
        positions: &[[f32; AXES]],
        axes: &[usize; AXES],
        theta: f64,
        device: &Device,
    ) -> Result<Self> {
        let pairs: usize = axes.iter().map(|size| size / 2).sum();
        let mut cos = Vec::with_capacity(positions.len() * pairs);
        let mut sin = Vec::with_capacity(positions.len() * pairs);
        for token in positions {
            for (position, &size) in token.iter().zip(axes) {
                for j in 0..size / 2 {
                    let frequency = 1.0 / theta.powf((2 * j) as f64 / size as f64);
                    let angle = f64::from(*position) * frequency;
                    cos.push(angle.cos() as f32);
                    sin.push(angle.sin() as f32);
                }
            }
        }
        let shape = (positions.len(), pairs);
        Ok(Self {
            cos: Tensor::from_vec(cos, shape, device)?,
            sin: Tensor::from_vec(sin, shape, device)?,
            pairs: Pairs::Neighbours,
        })
    }

    /// Given angles, token after token: those of the pairs of one head, or of all heads one after
    /// another.
    pub fn from_angles(
        angles: &[f32],
        tokens: usize,
        pairs: Pairs,
        device: &Device,
    ) -> Result<Self> {
        if tokens == 0 || !angles.len().is_multiple_of(tokens) {
            bail_shape!("{} angles for {tokens} tokens", angles.len());
        }
        let shape = (tokens, angles.len() / tokens);
        let table = |of: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|a| of(f64::from(*a)) as f32).collect();
            Tensor::from_vec(values, shape, device)
        };
        Ok(Self {
            cos: table(f64::cos)?,
            sin: table(f64::sin)?,
            pairs,
        })
    }

    /// How many tokens it was made for.
    pub fn tokens(&self) -> usize {
        self.cos.dims()[0]
    }

    /// Angles of a token, when they suit rows of `width` numbers with heads of `size`.
    fn check(&self, tokens: usize, size: usize, width: usize) -> Result<usize> {
        let columns = self.cos.dims()[1];
        if tokens != self.tokens()
            || !size.is_multiple_of(2)
            || ![size, width].contains(&(2 * columns))
        {
            bail_shape!(
                "rotation of {tokens} tokens of {size} with a table of {:?}",
                self.cos.dims()
            );
        }
        Ok(columns)
    }
}

/// Some tokens' queries or keys before normalisation, and the norm that belongs to them.
#[derive(Clone, Copy)]
pub struct HeadPart<'a> {
    /// (batch, tokens, heads · head size), which may be columns of wider rows.
    pub x: &'a Tensor,
    /// Over the head size, or over all heads together.
    pub norm: &'a RmsNorm,
}

/// RMS norm per head or over all heads, then rotation, of parts that follow each other in the sequence:
/// → (batch, all tokens, heads, head size), contiguous.
pub fn normalize_and_rotate(parts: &[HeadPart], heads: usize, rope: &Rope) -> Result<Tensor> {
    let all_cpu = parts
        .iter()
        .all(|part| is_cpu_f32(part.x) && part.x.stride().last() == Some(&1));
    if !all_cpu {
        let angles = kernels::rope::Angles {
            cos: &rope.cos,
            sin: &rope.sin,
            is_halves: rope.pairs == Pairs::Halves,
        };
        return kernels::rope::normalize_and_rotate(parts, heads, &angles)?
            .map_or_else(|| normalize_and_rotate_portable(parts, heads, rope), Ok);
    }
    let (batch, _, width) = parts[0].x.dims3()?;
    let size = width / heads;
    let tokens: usize = parts.iter().map(|part| part.x.dims()[1]).sum();
    let columns = rope.check(tokens, size, width)?;
    let (cos, sin) = (f32s(&rope.cos)?, f32s(&rope.sin)?);
    let mut out = vec![0f32; batch * tokens * width];
    let mut first_token = 0;
    for part in parts {
        let part_tokens = part.x.dim(1)?;
        let normalised = part.norm.weight().elem_count();
        if part.x.dims() != [batch, part_tokens, width] || ![size, width].contains(&normalised) {
            bail_shape!("rotation of {:?} among {width} columns", part.x.dims());
        }
        let source = strided_f32s(part.x)?;
        let (per_batch, per_token) = (part.x.stride()[0], part.x.stride()[1]);
        let weight = f32s(part.norm.weight())?;
        for (b, out) in out.chunks_exact_mut(tokens * width).enumerate() {
            let out = &mut out[first_token * width..][..part_tokens * width];
            for_rows(out, width, 3, |first, rows| {
                for (token, out) in rows.chunks_exact_mut(width).enumerate() {
                    let token = first + token;
                    let source = &source[b * per_batch + token * per_token..][..width];
                    let angle = (first_token + token) * columns;
                    let (cos, sin) = (&cos[angle..][..columns], &sin[angle..][..columns]);
                    rotate_heads(
                        source,
                        out,
                        size,
                        (&weight, part.norm.eps()),
                        (cos, sin, rope.pairs),
                    );
                }
            });
        }
        first_token += part_tokens;
    }
    tensor(out, (batch, tokens, heads, size))
}

/// One token: every head normalised, scaled and rotated. Weights and angles for a whole row go on
/// from head to head; a norm of such weights is one over all heads.
fn rotate_heads(
    source: &[f32],
    out: &mut [f32],
    size: usize,
    (weight, eps): (&[f32], f64),
    (cos, sin, pairs): (&[f32], &[f32], Pairs),
) {
    let half = size / 2;
    simd::run(
        #[inline(always)]
        move || {
            let heads = source.chunks_exact(size).zip(out.chunks_exact_mut(size));
            let of_row = (weight.len() > size).then(|| rms_scale(source, eps));
            for (head, (source, out)) in heads.enumerate() {
                let scale = match of_row {
                    Some(scale) => scale,
                    None => rms_scale(source, eps),
                };
                let first = if of_row.is_some() { head * size } else { 0 };
                let weight = &weight[first..][..size];
                let angle = if cos.len() > half { head * half } else { 0 };
                let (cos, sin) = (&cos[angle..][..half], &sin[angle..][..half]);
                match pairs {
                    Pairs::Neighbours => {
                        let pairs = source
                            .as_chunks::<2>()
                            .0
                            .iter()
                            .zip(weight.as_chunks::<2>().0);
                        let angles = cos.iter().zip(sin);
                        for ((out, (x, w)), (&cos, &sin)) in
                            out.as_chunks_mut::<2>().0.iter_mut().zip(pairs).zip(angles)
                        {
                            let (real, imaginary) = (x[0] * scale * w[0], x[1] * scale * w[1]);
                            out[0] = real * cos - imaginary * sin;
                            out[1] = imaginary * cos + real * sin;
                        }
                    }
                    Pairs::Halves => {
                        let (left, right) = source.split_at(half);
                        let (left_weight, right_weight) = weight.split_at(half);
                        let (left_out, right_out) = out.split_at_mut(half);
                        for i in 0..half {
                            let real = left[i] * scale * left_weight[i];
                            let imaginary = right[i] * scale * right_weight[i];
                            left_out[i] = real * cos[i] - imaginary * sin[i];
                            right_out[i] = imaginary * cos[i] + real * sin[i];
                        }
                    }
                }
            }
        },
    );
}

/// The same in candle operations, in f32.
pub(crate) fn normalize_and_rotate_portable(
    parts: &[HeadPart],
    heads: usize,
    rope: &Rope,
) -> Result<Tensor> {
    let dtype = parts[0].x.dtype();
    let normal = parts
        .iter()
        .map(|part| {
            let (batch, tokens, width) = part.x.dims3()?;
            let split = (batch, tokens, heads, width / heads);
            let x = part.x.to_dtype(DType::F32)?;
            if part.norm.weight().elem_count() == width {
                return Ok(part.norm.forward_portable(&x)?.reshape(split)?);
            }
            part.norm.forward_portable(&x.reshape(split)?)
        })
        .collect::<Result<Vec<_>>>()?;
    let joint = Tensor::cat(&normal, 1)?;
    let (batch, tokens, heads, size) = joint.dims4()?;
    let columns = rope.check(tokens, size, heads * size)?;
    let half = size / 2;
    let own_heads = if columns == half { 1 } else { heads };
    let table = |t: &Tensor| t.reshape((1, tokens, own_heads, half));
    let (cos, sin) = (table(&rope.cos)?, table(&rope.sin)?);
    let (axis, pairs) = match rope.pairs {
        Pairs::Neighbours => (4, joint.reshape((batch, tokens, heads, half, 2))?),
        Pairs::Halves => (3, joint.reshape((batch, tokens, heads, 2, half))?),
    };
    let part = |i| pairs.narrow(axis, i, 1)?.squeeze(axis);
    let (real, imaginary) = (part(0)?, part(1)?);
    let turned_real = (real.broadcast_mul(&cos)? - imaginary.broadcast_mul(&sin)?)?;
    let turned_imaginary = (imaginary.broadcast_mul(&cos)? + real.broadcast_mul(&sin)?)?;
    let turned = Tensor::stack(&[turned_real, turned_imaginary], axis)?;
    Ok(turned
        .reshape((batch, tokens, heads, size))?
        .to_dtype(dtype)?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::layers::{
        Weights,
        testing::{assert_close, wave},
        weights::Loaded,
    };

    fn norm(size: usize) -> RmsNorm {
        let weight = wave(&[size]).affine(0.2, 1.0).unwrap();
        let source = Loaded::new("test", HashMap::from([("weight".to_string(), weight)]));
        RmsNorm::load(&Weights::new(source, &Device::Cpu, DType::F32), size, 1e-6).unwrap()
    }

    #[test]
    fn the_kernel_equals_candle_over_two_parts() {
        let (batch, heads, size) = (2, 3, 16);
        let positions: Vec<[f32; 2]> = (0..40).map(|i| [(i / 8) as f32, (i % 8) as f32]).collect();
        let rope = Rope::new(&positions, &[4, 12], 10_000.0, &Device::Cpu).unwrap();
        let (text, wide) = (wave(&[batch, 7, heads * size]), wave(&[batch, 33, 150]));
        let image = wide.narrow(2, 50, heads * size).unwrap();
        let (text_norm, image_norm) = (norm(size), norm(size));
        let parts = [
            HeadPart {
                x: &text,
                norm: &text_norm,
            },
            HeadPart {
                x: &image,
                norm: &image_norm,
            },
        ];
        let ours = normalize_and_rotate(&parts, heads, &rope).unwrap();
        let contiguous = image.contiguous().unwrap();
        let parts = [
            parts[0],
            HeadPart {
                x: &contiguous,
                norm: &image_norm,
            },
        ];
        let theirs = normalize_and_rotate_portable(&parts, heads, &rope).unwrap();
        assert_eq!(ours.dims(), [batch, 40, heads, size]);
        assert_close(&ours, &theirs, 1e-5);
    }

    #[test]
    fn a_norm_may_go_over_all_heads() {
        let (heads, size) = (3, 8);
        let positions: Vec<[f32; 1]> = (0..20).map(|i| [i as f32]).collect();
        let rope = Rope::new(&positions, &[8], 10_000.0, &Device::Cpu).unwrap();
        let (x, norm) = (wave(&[2, 20, heads * size]), norm(heads * size));
        let parts = [HeadPart { x: &x, norm: &norm }];
        let ours = normalize_and_rotate(&parts, heads, &rope).unwrap();
        let theirs = normalize_and_rotate_portable(&parts, heads, &rope).unwrap();
        assert_close(&ours, &theirs, 1e-5);
        let first = ours.narrow(1, 0, 1).unwrap().flatten_from(2).unwrap();
        let plain = norm.forward(&x.narrow(1, 0, 1).unwrap()).unwrap();
        assert_close(&first, &plain, 1e-6);
    }

    #[test]
    fn angles_may_go_over_all_heads_and_turn_halves() {
        let (heads, size, tokens) = (3, 8, 20);
        let x = wave(&[2, tokens, heads * size]);
        for columns in [size / 2, heads * size / 2] {
            let angles: Vec<f32> = (0..tokens * columns).map(|i| i as f32 * 0.37).collect();
            for pairs in [Pairs::Neighbours, Pairs::Halves] {
                let rope = Rope::from_angles(&angles, tokens, pairs, &Device::Cpu).unwrap();
                for norm in [norm(size), norm(heads * size)] {
                    let parts = [HeadPart { x: &x, norm: &norm }];
                    let ours = normalize_and_rotate(&parts, heads, &rope).unwrap();
                    let theirs = normalize_and_rotate_portable(&parts, heads, &rope).unwrap();
                    assert_close(&ours, &theirs, 1e-5);
                }
            }
        }
        // Half a turn by a quarter: the second half comes first, with its sign turned.
        let quarter = vec![std::f32::consts::FRAC_PI_2; 4];
        let rope = Rope::from_angles(&quarter, 1, Pairs::Halves, &Device::Cpu).unwrap();
        let (x, norm) = (wave(&[1, 1, 8]), norm(8));
        let y = normalize_and_rotate(&[HeadPart { x: &x, norm: &norm }], 1, &rope).unwrap();
        let plain = norm.forward(&x).unwrap().unsqueeze(2).unwrap();
        let half = |t: &Tensor, first| t.narrow(3, first, 4).unwrap();
        assert_close(&half(&y, 4), &half(&plain, 0), 1e-5);
        assert_close(&half(&y, 0), &half(&plain, 4).neg().unwrap(), 1e-5);
        assert!(Rope::from_angles(&quarter, 3, Pairs::Halves, &Device::Cpu).is_err());
    }

    #[test]
    fn a_position_of_zero_turns_nothing_and_lengths_are_kept() {
        let positions = [[0.0], [1234.0]];
        let rope = Rope::new(&positions, &[8], 10_000.0, &Device::Cpu).unwrap();
        let norm = norm(8);
        let x = wave(&[1, 2, 8]);
        let y = normalize_and_rotate(&[HeadPart { x: &x, norm: &norm }], 1, &rope).unwrap();
        let plain = norm.forward(&x).unwrap();
        assert_close(
            &y.narrow(1, 0, 1).unwrap().squeeze(2).unwrap(),
            &plain.narrow(1, 0, 1).unwrap(),
            1e-6,
        );
        let length = |t: &Tensor| {
            t.sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        assert!((length(&y) - length(&plain)).abs() < 1e-4);
        assert!(
            normalize_and_rotate(
                &[HeadPart {
                    x: &wave(&[1, 3, 8]),
                    norm: &norm
                }],
                1,
                &rope
            )
            .is_err()
        );
    }
}
