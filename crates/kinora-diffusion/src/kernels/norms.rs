//! `norms.cu`: norms over the last dimension, softmax.

use candle_core::{D, DType, Tensor};

use super::{Argument, Call, Launch, applies, blocks, chunk_len, columns, suffix, threads_for};
use crate::Result;

/// Chunks of a row that a thread holds, as in `norms.cu`.
const HELD: usize = 4;

/// (x − mean) / √(variance + eps) · gain + shift over the last dimension, or without the mean.
pub(crate) struct RowNorm<'a> {
    pub x: &'a Tensor,
    /// (groups of rows, size), or (size) for all rows.
    pub gain: Option<&'a Tensor>,
    /// Like the gain.
    pub shift: Option<&'a Tensor>,
    /// The mean is taken off: layer norm. Otherwise RMS norm.
    pub is_centred: bool,
    /// 1 is added to the gain.
    pub is_around_one: bool,
    pub eps: f64,
}

impl RowNorm<'_> {
    /// The shape of x; None where no kernel applies.
    pub fn run(&self) -> Result<Option<Tensor>> {
        let dtype = self.x.dtype();
        let (Some(suffix_of_x), Ok(size)) = (suffix(dtype), self.x.dim(D::Minus1)) else {
            return Ok(None);
        };
        let given: Vec<&Tensor> = self.gain.into_iter().chain(self.shift).collect();
        let all: Vec<&Tensor> = given.iter().copied().chain([self.x]).collect();
        let most = 1024 * HELD * chunk_len(dtype);
        if !applies(&all) || self.x.elem_count() == 0 || size > most {
            return Ok(None);
        }
        let rows = self.x.elem_count() / size;
        let groups = given.first().map_or(1, |t| t.elem_count() / size);
        let suits = |t: &&Tensor| t.dims().last() == Some(&size) && t.elem_count() == groups * size;
        if groups == 0 || !rows.is_multiple_of(groups) || !given.iter().all(suits) {
            return Ok(None);
        }
        // Gain and shift are read in one format.
        let is_alike = given.iter().all(|t| t.dtype() == dtype);
        let of = if is_alike { dtype } else { DType::F32 };
        let convert = |t: Option<&Tensor>| t.map(|t| columns(t, of)).transpose();
        let (gain, shift) = (convert(self.gain)?, convert(self.shift)?);
        let x = self.x.contiguous()?;
        let flags = i32::from(self.is_centred)
            | i32::from(gain.is_some()) << 1
            | i32::from(self.is_around_one) << 2
            | i32::from(shift.is_some()) << 3;
        let suffix_of_columns = suffix(of).unwrap_or(suffix_of_x);
        let call = Call {
            source: "norms",
            outputs: vec![(dtype, x.shape().clone())],
            launches: vec![Launch {
                entry: format!("normalize_{suffix_of_x}_{suffix_of_columns}"),
                grid: blocks(rows)?,
                block: [
                    threads_for(size, dtype, HELD, 1024).max(threads_for(size, dtype, 2, 256)),
                    1,
                    1,
                ],
                shared_bytes: 0,
                arguments: vec![
                    Argument::In(&x),
                    // What is not there is not read.
                    Argument::In(gain.as_ref().unwrap_or(&x)),
                    Argument::In(shift.as_ref().unwrap_or(&x)),
                    Argument::Out(0),
                    Argument::size(size)?,
                    Argument::size(rows / groups)?,
                    Argument::Int(flags),
                    Argument::Float(self.eps as f32),
                ],
            }],
        };
        Ok(Some(call.run_for_one()?))
    }
}

/// Softmax over the last dimension.
pub(crate) fn softmax(x: &Tensor) -> Result<Option<Tensor>> {
    let (Some(suffix), Ok(size)) = (suffix(x.dtype()), x.dim(D::Minus1)) else {
        return Ok(None);
    };
    if !applies(&[x]) || x.elem_count() == 0 {
        return Ok(None);
    }
    let x = x.contiguous()?;
    let call = Call {
        source: "norms",
        outputs: vec![(x.dtype(), x.shape().clone())],
        launches: vec![Launch {
            entry: format!("softmax_{suffix}"),
            grid: blocks(x.elem_count() / size)?,
            block: [threads_for(size, x.dtype(), 2, 256), 1, 1],
            shared_bytes: 0,
            arguments: vec![Argument::In(&x), Argument::Out(0), Argument::size(size)?],
        }],
    };
    Ok(Some(call.run_for_one()?))
}
