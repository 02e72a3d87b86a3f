//! The fused steps of modulated transformer blocks: normalise and modulate, add with a gate, join
//! attention with the activated feed-forward branch; and the rows of modulation that tokens share.

use candle_core::{D, DType, Tensor};

use super::{
    Activation,
    cpu::{f32s, for_rows, is_cpu_f32, strided_f32s, tensor},
    math,
    norm::{layer_moments, layer_norm_portable, rms_scale},
    simd,
};
use crate::{
    Result,
    error::bail_shape,
    kernels::{norms::RowNorm, pointwise},
};

/// `layer_norm(x) · (1 + scale) + shift` without weights of its own.
///
/// x: (batch, tokens, size); shift, scale: (batch, size).
pub fn layer_norm_modulated(
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let (batch, tokens, size) = x.dims3()?;
    if !(is_cpu_f32(x) && is_cpu_f32(shift) && is_cpu_f32(scale)) {
        return run_norm(x, shift, scale, true, eps)?
            .map_or_else(|| layer_norm_modulated_portable(x, shift, scale, eps), Ok);
    }
    check_rows(shift, batch, size)?;
    check_rows(scale, batch, size)?;
    let (x, shift, scale) = (x.contiguous()?, shift.contiguous()?, scale.contiguous()?);
    let (source, shifts, scales) = (f32s(&x)?, f32s(&shift)?, f32s(&scale)?);
    let mut out = vec![0f32; source.len()];
    for_rows(&mut out, size, 2, |first, rows| {
        for (row, out) in rows.chunks_exact_mut(size).enumerate() {
            let row = first + row;
            let source = &source[row * size..][..size];
            let shift = &shifts[row / tokens * size..][..size];
            let scale = &scales[row / tokens * size..][..size];
            simd::run(
                #[inline(always)]
                move || {
                    let (mean, norm) = layer_moments(source, eps);
                    for i in 0..size {
                        out[i] = (source[i] - mean) * norm * (1.0 + scale[i]) + shift[i];
                    }
                },
            );
        }
    });
    tensor(out, x.shape())
}

/// `rms_norm(x) · (1 + scale) + shift` without weights of its own.
///
/// x: (batch, tokens, size); shift, scale: (batch, size).
pub fn rms_norm_modulated(x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Result<Tensor> {
    let (batch, tokens, size) = x.dims3()?;
    if !(is_cpu_f32(x) && is_cpu_f32(shift) && is_cpu_f32(scale)) {
        return run_norm(x, shift, scale, false, eps)?
            .map_or_else(|| rms_norm_modulated_portable(x, shift, scale, eps), Ok);
    }
    check_rows(shift, batch, size)?;
    check_rows(scale, batch, size)?;
    let (x, shift, scale) = (x.contiguous()?, shift.contiguous()?, scale.contiguous()?);
    let (source, shifts, scales) = (f32s(&x)?, f32s(&shift)?, f32s(&scale)?);
    let mut out = vec![0f32; source.len()];
    for_rows(&mut out, size, 2, |first, rows| {
        for (row, out) in rows.chunks_exact_mut(size).enumerate() {
            let row = first + row;
            let source = &source[row * size..][..size];
            let shift = &shifts[row / tokens * size..][..size];
            let scale = &scales[row / tokens * size..][..size];
            simd::run(
                #[inline(always)]
                move || {
                    let norm = rms_scale(source, eps);
                    for i in 0..size {
                        out[i] = source[i] * norm * (1.0 + scale[i]) + shift[i];
                    }
                },
            );
        }
    });
    tensor(out, x.shape())
}

/// The norm by the kernel of a GPU.
fn run_norm(
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
    is_centred: bool,
    eps: f64,
) -> Result<Option<Tensor>> {
    let norm = RowNorm {
        x,
        gain: Some(scale),
        shift: Some(shift),
        is_centred,
        is_around_one: true,
        eps,
    };
    norm.run()
}

/// The same in candle operations, in f32.
pub(crate) fn rms_norm_modulated_portable(
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let wide = |rows: &Tensor| rows.unsqueeze(1)?.to_dtype(DType::F32);
    let y = x.to_dtype(DType::F32)?;
    let square = y.sqr()?.mean_keepdim(D::Minus1)?;
    let y = y
        .broadcast_div(&(square + eps)?.sqrt()?)?
        .broadcast_mul(&(wide(scale)? + 1.0)?)?
        .broadcast_add(&wide(shift)?)?;
    Ok(y.to_dtype(x.dtype())?)
}

/// Rows of shifts, scales and gates, of which each belongs to a group of tokens: a sequence, or a
/// frame of it.
#[derive(Clone, Debug)]
pub struct Modulation {
    /// (groups of tokens, parts, hidden), f32
    rows: Tensor,
}

impl Modulation {
    /// `rows`: (times, parts, hidden), of one time for all tokens, or of one time for each sequence.
    /// With `groups`: the time of each group of a sequence's tokens, for `batch` alike sequences.
    pub fn new(rows: Tensor, groups: Option<&[u32]>, batch: usize) -> Result<Self> {
        let rows = match groups {
            Some(groups) => {
                let groups = Tensor::new(groups.repeat(batch), rows.device())?;
                rows.index_select(&groups, 0)?
            }
            None => rows,
        };
        Ok(Self { rows })
    }

    fn part(&self, i: usize) -> Result<Tensor> {
        Ok(self.rows.narrow(1, i, 1)?.squeeze(1)?.contiguous()?)
    }

    /// (batch, tokens, hidden) with the tokens of a group in a row of their own.
    fn group(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = x.dim(2)?;
        Ok(x.reshape((self.rows.dim(0)?, (), hidden))?)
    }

    /// Layer norm, scaled and shifted by these parts.
    pub fn layer_norm(&self, x: &Tensor, shift: usize, scale: usize, eps: f64) -> Result<Tensor> {
        let y = layer_norm_modulated(&self.group(x)?, &self.part(shift)?, &self.part(scale)?, eps)?;
        Ok(y.reshape(x.shape())?)
    }

    /// RMS norm, scaled and shifted by these parts.
    pub fn rms_norm(&self, x: &Tensor, shift: usize, scale: usize, eps: f64) -> Result<Tensor> {
        let y = rms_norm_modulated(&self.group(x)?, &self.part(shift)?, &self.part(scale)?, eps)?;
        Ok(y.reshape(x.shape())?)
    }

    /// `x · (1 + scale) + shift`
    pub fn scale_and_shift(&self, x: &Tensor, shift: usize, scale: usize) -> Result<Tensor> {
        let (shifts, scales) = (self.part(shift)?, self.part(scale)?);
        if let Some(y) = pointwise::modulate(&self.group(x)?, &shifts, &scales)? {
            return Ok(y.reshape(x.shape())?);
        }
        let wide = self.group(&x.to_dtype(DType::F32)?)?;
        let y = wide
            .broadcast_mul(&(scales.unsqueeze(1)? + 1.0)?)?
            .broadcast_add(&shifts.unsqueeze(1)?)?;
        Ok(y.reshape(x.shape())?.to_dtype(x.dtype())?)
    }

    /// `x + gate · y`
    pub fn add(&self, x: &Tensor, gate: usize, y: &Tensor) -> Result<Tensor> {
        let sum = add_gated(&self.group(x)?, &self.part(gate)?, &self.group(y)?)?;
        Ok(sum.reshape(x.shape())?)
    }
}

fn check_rows(rows: &Tensor, batch: usize, size: usize) -> Result<()> {
    if rows.dims() != [batch, size] {
        bail_shape!(
            "modulation of ({batch}, {size}) expected, got {:?}",
            rows.dims()
        );
    }
    Ok(())
}

/// The same in candle operations, in f32.
pub(crate) fn layer_norm_modulated_portable(
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let wide = |rows: &Tensor| rows.unsqueeze(1)?.to_dtype(candle_core::DType::F32);
    let y = layer_norm_portable(x, eps)?
        .broadcast_mul(&(wide(scale)? + 1.0)?)?
        .broadcast_add(&wide(shift)?)?;
    Ok(y.to_dtype(x.dtype())?)
}

/// `x + gate · y`. x, y: (batch, tokens, size); gate: (batch, size).
pub fn add_gated(x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (batch, tokens, size) = x.dims3()?;
    if !(is_cpu_f32(x) && is_cpu_f32(y) && is_cpu_f32(gate)) {
        if let Some(sum) = pointwise::add_gated(x, gate, y)? {
            return Ok(sum);
        }
        let gate = gate.unsqueeze(1)?;
        if gate.dtype() == x.dtype() {
            return Ok((x + y.broadcast_mul(&gate)?)?);
        }
        // A gate in f32 asks for arithmetic in f32.
        let wide = |t: &Tensor| t.to_dtype(gate.dtype());
        let sum = (wide(x)? + wide(y)?.broadcast_mul(&gate)?)?;
        return Ok(sum.to_dtype(x.dtype())?);
    }
    check_rows(gate, batch, size)?;
    if y.dims() != x.dims() {
        bail_shape!("gated addition of {:?} and {:?}", x.dims(), y.dims());
    }
    let (x, gate, y) = (x.contiguous()?, gate.contiguous()?, y.contiguous()?);
    let (left, gates, right) = (f32s(&x)?, f32s(&gate)?, f32s(&y)?);
    let mut out = vec![0f32; left.len()];
    for_rows(&mut out, size, 1, |first, rows| {
        for (row, out) in rows.chunks_exact_mut(size).enumerate() {
            let row = first + row;
            let left = &left[row * size..][..size];
            let right = &right[row * size..][..size];
            let gate = &gates[row / tokens * size..][..size];
            simd::run(
                #[inline(always)]
                move || {
                    for i in 0..size {
                        out[i] = left[i] + gate[i] * right[i];
                    }
                },
            );
        }
    });
    tensor(out, x.shape())
}

/// `[attention, gelu_tanh(mlp)]` along the last dimension: the input of a parallel block's output
/// layer. attention: (batch, tokens, a); mlp: (batch, tokens, m), which may be part of wider rows.
pub fn concat_gelu(attention: &Tensor, mlp: &Tensor) -> Result<Tensor> {
    let (batch, tokens, a) = attention.dims3()?;
    let m = mlp.dim(2)?;
    if !(is_cpu_f32(attention) && is_cpu_f32(mlp)) || mlp.stride()[2] != 1 {
        if let Some(joint) = pointwise::join_activated(Activation::GeluTanh, attention, mlp)? {
            return Ok(joint);
        }
        let mlp = Activation::GeluTanh.forward(mlp)?;
        return Ok(Tensor::cat(&[attention, &mlp], 2)?);
    }
    if mlp.dims() != [batch, tokens, m] {
        bail_shape!("joining {:?} with {:?}", attention.dims(), mlp.dims());
    }
    let attention = attention.contiguous()?;
    let (left, right) = (f32s(&attention)?, strided_f32s(mlp)?);
    let (per_batch, per_token) = (mlp.stride()[0], mlp.stride()[1]);
    let width = a + m;
    let mut out = vec![0f32; batch * tokens * width];
    for_rows(&mut out, width, 2, |first, rows| {
        for (row, out) in rows.chunks_exact_mut(width).enumerate() {
            let row = first + row;
            let (head, tail) = out.split_at_mut(a);
            head.copy_from_slice(&left[row * a..][..a]);
            let start = row / tokens * per_batch + row % tokens * per_token;
            super::activation::map(&right[start..][..m], tail, math::gelu_tanh);
        }
    });
    tensor(out, (batch, tokens, width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, wave};

    #[test]
    fn kernels_equal_candle_row_by_row() {
        let (batch, tokens, size) = (2, 201, 96);
        let x = wave(&[batch, tokens, size]);
        let modulation = wave(&[batch, 3 * size]);
        let part = |i: usize| modulation.narrow(1, i * size, size).unwrap();
        let ours = layer_norm_modulated(&x, &part(0), &part(1), 1e-6).unwrap();
        let theirs = layer_norm_modulated_portable(&x, &part(0), &part(1), 1e-6).unwrap();
        assert_close(&ours, &theirs, 1e-5);
        let y = wave(&[batch, tokens, size]).affine(0.3, 0.1).unwrap();
        let expected = (&x + y.broadcast_mul(&part(2).unsqueeze(1).unwrap()).unwrap()).unwrap();
        assert_close(&add_gated(&x, &part(2), &y).unwrap(), &expected, 1e-6);
        assert!(add_gated(&x, &modulation, &y).is_err());
    }

    #[test]
    fn an_rms_norm_is_modulated_group_by_group() {
        let (batch, tokens, size) = (2, 12, 40);
        let x = wave(&[batch, tokens, size]);
        let rows = wave(&[3, 2, size]).affine(0.4, 0.1).unwrap();
        let shared = Modulation::new(rows.narrow(0, 1, 1).unwrap(), None, batch).unwrap();
        let part = |row: usize, i: usize| {
            let row = rows.narrow(0, row, 1).unwrap().narrow(1, i, 1).unwrap();
            row.squeeze(1).unwrap().broadcast_as((batch, size)).unwrap()
        };
        let expected = rms_norm_modulated_portable(&x, &part(1, 0), &part(1, 1), 1e-6).unwrap();
        assert_close(&shared.rms_norm(&x, 0, 1, 1e-6).unwrap(), &expected, 1e-5);
        // Three frames of four tokens, of which the last has the first one's time.
        let frames = Modulation::new(rows.clone(), Some(&[0, 2, 0]), batch).unwrap();
        let whole = frames.rms_norm(&x, 0, 1, 1e-6).unwrap();
        for (frame, row) in [(0, 0), (1, 2), (2, 0)] {
            let cut = |t: &Tensor| t.narrow(1, 4 * frame, 4).unwrap().contiguous().unwrap();
            let expected =
                rms_norm_modulated_portable(&cut(&x), &part(row, 0), &part(row, 1), 1e-6).unwrap();
            assert_close(&cut(&whole), &expected, 1e-5);
        }
        let plain = shared.scale_and_shift(&x, 0, 1).unwrap();
        let by_hand = x
            .broadcast_mul(&(part(1, 1).unsqueeze(1).unwrap() + 1.0).unwrap())
            .unwrap()
            .broadcast_add(&part(1, 0).unsqueeze(1).unwrap())
            .unwrap();
        assert_close(&plain, &by_hand, 1e-6);
    }

    #[test]
    fn the_feed_forward_branch_may_be_a_column_of_wider_rows() {
        let wide = wave(&[2, 50, 40]);
        let (attention, mlp) = (wave(&[2, 50, 8]), wide.narrow(2, 12, 28).unwrap());
        let expected = Tensor::cat(
            &[
                &attention,
                &Activation::GeluTanh
                    .forward_portable(&mlp.contiguous().unwrap())
                    .unwrap(),
            ],
            2,
        )
        .unwrap();
        assert_close(&concat_gelu(&attention, &mlp).unwrap(), &expected, 1e-6);
    }
}
