//! `groups.cu`: norms of pictures.

use candle_core::{DType, Shape, Tensor};

use super::{Argument, Call, Launch, applies, blocks, chunk_len, suffix, threads_for};
use crate::Result;

/// Numbers of a group whose moments one block takes, about.
const SLICE: usize = 32 * 1024;
/// Slices of a group at most.
const MOST_SLICES: usize = 256;
/// Numbers of a group that one block normalises.
const PART: usize = 8 * 1024;
/// Threads of a block in both passes.
const THREADS: usize = 256;

/// What a group norm is told beside the tensor.
pub(crate) struct GroupNorm<'a> {
    /// (channels), f32
    pub weight: &'a Tensor,
    /// (channels), f32
    pub bias: &'a Tensor,
    pub groups: usize,
    pub eps: f64,
    /// Number of the point-wise function that follows.
    pub function: i32,
}

impl GroupNorm<'_> {
    /// (batch, channels, …) → the same shape; None where no kernel applies.
    pub fn run(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(suffix) = suffix(x.dtype()) else {
            return Ok(None);
        };
        let (batch, channels) = (x.dims()[0], x.dims()[1]);
        let per_group = channels / self.groups.max(1);
        let pixels: usize = x.dims()[2..].iter().product();
        let len = per_group * pixels;
        let is_f32 = |t: &Tensor| t.dtype() == DType::F32;
        let is_there = applies(&[x, self.weight, self.bias]);
        if !(is_there && is_f32(self.weight) && is_f32(self.bias))
            || x.elem_count() == 0
            || len > i32::MAX as usize / 2
        {
            return Ok(None);
        }
        let x = x.contiguous()?;
        let (weight, bias) = (self.weight.contiguous()?, self.bias.contiguous()?);
        let all = batch * self.groups;
        let slices = len.div_ceil(SLICE).min(MOST_SLICES);
        let slice = len.div_ceil(slices).next_multiple_of(chunk_len(x.dtype()));
        let slices = len.div_ceil(slice);
        let parts = len.div_ceil(PART);
        let call = Call {
            source: "groups",
            outputs: vec![
                (DType::F32, Shape::from((all, slices, 3))),
                (x.dtype(), x.shape().clone()),
            ],
            launches: vec![
                Launch {
                    entry: format!("group_moments_{suffix}"),
                    grid: blocks(all * slices)?,
                    block: [threads_for(slice, x.dtype(), 1, THREADS), 1, 1],
                    shared_bytes: 0,
                    arguments: vec![
                        Argument::In(&x),
                        Argument::Out(0),
                        Argument::size(len)?,
                        Argument::size(slice)?,
                        Argument::size(slices)?,
                    ],
                },
                Launch {
                    entry: format!("group_norm_{suffix}"),
                    grid: blocks(all * parts)?,
                    block: [threads_for(len.min(PART), x.dtype(), 1, THREADS), 1, 1],
                    shared_bytes: 0,
                    arguments: vec![
                        Argument::In(&x),
                        Argument::Out(0),
                        Argument::In(&weight),
                        Argument::In(&bias),
                        Argument::Out(1),
                        Argument::size(self.groups)?,
                        Argument::size(per_group)?,
                        Argument::size(pixels)?,
                        Argument::size(slices)?,
                        Argument::size(parts)?,
                        Argument::size(PART)?,
                        Argument::Int(self.function),
                        Argument::Float(self.eps as f32),
                    ],
                },
            ],
        };
        Ok(Some(call.run_for_one()?))
    }
}

/// What a norm over channels is told beside the tensor.
pub(crate) struct ChannelNorm<'a> {
    /// (channels), f32
    pub gamma: &'a Tensor,
    /// (channels), f32
    pub beta: Option<&'a Tensor>,
    /// Added to the mean of the squares; None: the length is cut off at `shortest`.
    pub eps: Option<f64>,
    pub shortest: f32,
    /// Number of the point-wise function that follows.
    pub function: i32,
}

impl ChannelNorm<'_> {
    /// (images, channels, height, width) → the same shape; None where no kernel applies.
    pub fn run(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(suffix) = suffix(x.dtype()) else {
            return Ok(None);
        };
        let (images, channels, height, width) = x.dims4()?;
        if !applies(&[x, self.gamma, self.beta.unwrap_or(self.gamma)]) || x.elem_count() == 0 {
            return Ok(None);
        }
        let x = x.contiguous()?;
        let pixels = height * width;
        let blocks_of_pixels = pixels.div_ceil(32 * chunk_len(x.dtype()));
        let call = Call {
            source: "groups",
            outputs: vec![(x.dtype(), x.shape().clone())],
            launches: vec![Launch {
                entry: format!("channel_norm_{suffix}"),
                grid: blocks(images * blocks_of_pixels)?,
                block: [32, 8, 1],
                shared_bytes: 0,
                arguments: vec![
                    Argument::In(&x),
                    Argument::In(self.gamma),
                    Argument::In(self.beta.unwrap_or(self.gamma)),
                    Argument::Out(0),
                    Argument::size(channels)?,
                    Argument::size(pixels)?,
                    Argument::size(blocks_of_pixels)?,
                    Argument::flag(self.beta.is_some()),
                    Argument::Int(self.function),
                    Argument::Float(self.eps.unwrap_or(0.0) as f32),
                    Argument::Float(if self.eps.is_some() {
                        0.0
                    } else {
                        self.shortest
                    }),
                ],
            }],
        };
        Ok(Some(call.run_for_one()?))
    }
}
