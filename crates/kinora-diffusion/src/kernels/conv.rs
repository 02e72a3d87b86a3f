//! `conv_*.cu`: convolutions of pictures and of frames on tensor cores, without a matrix of patches.

use candle_core::{DType, Shape, Tensor};

use super::{Argument, Call, Launch, applies, suffix};
use crate::Result;

/// Shared memory that a block has on every GPU from compute capability 8.0 on.
const MOST_SHARED_BYTES: usize = 99 * 1024;
/// Images of a call at most.
const MOST_IMAGES: usize = 65_535;
/// As in conv.cuh.
const PIXELS: usize = 128;
const THREADS: u32 = 256;
const STAGES: usize = 3;
/// Below this many blocks of 128 outputs a GPU has cores without work: blocks of 32 then.
const FEW_BLOCKS: usize = 96;

/// A kernel's weights as blocks read them.
#[derive(Debug)]
pub(crate) struct Packed {
    /// (parts, frames · chunks of channels, taps, outputs, channels of a chunk)
    weights: Tensor,
    /// Of the activations.
    dtype: DType,
    /// Outputs, inputs, frames, rows, columns.
    shape: [usize; 5],
    /// Pixels from one result to the next.
    step: usize,
}

/// What a convolution is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    /// (images, inputs, height, width)
    pub x: &'a Tensor,
    /// The frames before x: (frames of the kernel − time step, inputs, height, width).
    pub past: Option<&'a Tensor>,
    /// (outputs), or (images of the result, outputs)
    pub bias: &'a Tensor,
    /// Of the result's shape.
    pub residual: Option<&'a Tensor>,
    /// Frames from one result to the next.
    pub time_step: usize,
    /// Zeros above, below, on the left and on the right.
    pub padding: [usize; 4],
    /// Whether pixels are seen twice as large.
    pub is_enlarged: bool,
    /// Whether the pixels go on mirrored instead of zeros.
    pub is_reflected: bool,
}

/// Channels that a block takes at a time: f32 numbers are two of bf16.
fn chunk(dtype: DType) -> usize {
    if dtype == DType::F32 { 16 } else { 32 }
}

fn parts(dtype: DType) -> usize {
    if dtype == DType::F32 { 2 } else { 1 }
}

/// Logarithms of the widths of a block's rectangle: narrow pictures, others, rows of pixels.
const NARROW: usize = 3;
const USUAL: usize = 4;
const FLAT: usize = 7;

/// What a kernel is told of sizes: rows and columns each.
#[derive(Clone, Copy, Debug)]
struct Rectangle {
    size: [usize; 2],
    out: [usize; 2],
    kernel: [usize; 2],
    /// Above and on the left.
    padding: [usize; 2],
}

impl Rectangle {
    /// Rows as columns.
    fn turned(self) -> Self {
        let turn = |[rows, columns]: [usize; 2]| [columns, rows];
        Self {
            size: turn(self.size),
            out: turn(self.out),
            kernel: turn(self.kernel),
            padding: turn(self.padding),
        }
    }
}

impl Packed {
    /// A kernel (outputs, inputs, frames, rows, columns); None where no kernel of the GPU applies.
    pub fn new(weight: &Tensor, step: usize) -> Result<Option<Self>> {
        let (outputs, inputs, frames, rows, columns) = weight.dims5()?;
        let dtype = weight.dtype();
        let shape = [outputs, inputs, frames, rows, columns];
        if suffix(dtype).is_none() || !applies(&[weight]) || weight.elem_count() == 0 || step == 0 {
            return Ok(None);
        }
        let size = chunk(dtype);
        let chunks = inputs.div_ceil(size);
        let weights = weight
            .pad_with_zeros(1, 0, chunks * size - inputs)?
            .reshape((outputs, chunks, size, frames, rows * columns))?
            .permute((3, 1, 4, 0, 2))?
            .contiguous()?;
        let weights = if dtype == DType::F32 {
            let high = weights.to_dtype(DType::BF16)?;
            let low = (weights - high.to_dtype(DType::F32)?)?.to_dtype(DType::BF16)?;
            Tensor::stack(&[high, low], 0)?
        } else {
            weights.unsqueeze(0)?
        };
        let packed = Self {
            weights: weights.contiguous()?,
            dtype,
            shape,
            step,
        };
        let fits = [NARROW, USUAL]
            .iter()
            .all(|shift| packed.shared_bytes(128, *shift, [rows, columns]) <= MOST_SHARED_BYTES);
        Ok(fits.then_some(packed))
    }

    /// The kernel as it was: (outputs, inputs, frames, rows, columns). Of f32 what two numbers of
    /// bf16 hold.
    pub fn dense(&self) -> Result<Tensor> {
        let [outputs, inputs, frames, rows, columns] = self.shape;
        let weights = self.weights.to_dtype(self.dtype)?.sum(0)?;
        let size = chunk(self.dtype);
        Ok(weights
            .reshape((frames, inputs.div_ceil(size), rows * columns, outputs, size))?
            .permute((3, 1, 4, 0, 2))?
            .reshape((outputs, inputs.div_ceil(size) * size, frames, rows, columns))?
            .narrow(1, 0, inputs)?
            .contiguous()?)
    }

    /// Bytes of its tensor.
    pub fn bytes(&self) -> u64 {
        (self.weights.elem_count() * self.weights.dtype().size_in_bytes()) as u64
    }

    /// Shared memory of a block, for a kernel of (rows, columns).
    fn shared_bytes(&self, block: usize, shift: usize, [rows, columns]: [usize; 2]) -> usize {
        let (across, down) = (1 << shift, PIXELS >> shift);
        let patch = ((across - 1) * self.step + columns) * ((down - 1) * self.step + rows);
        parts(self.dtype) * chunk(self.dtype) * 2 * (STAGES * block + 2 * patch)
    }

    /// → (images, outputs, height, width); None where the kernel does not apply.
    pub fn run(&self, input: &Input) -> Result<Option<Tensor>> {
        let [outputs, inputs, frames, rows, columns] = self.shape;
        let Input { x, time_step, .. } = *input;
        let (images, channels, height, width) = x.dims4()?;
        let (Some(suffix), true) = (suffix(self.dtype), x.dtype() == self.dtype) else {
            return Ok(None);
        };
        let mut all = vec![&self.weights, x, input.bias];
        all.extend(input.past.iter().chain(&input.residual));
        let enlargement = usize::from(input.is_enlarged);
        let [top, bottom, left, right] = input.padding;
        let (tall, wide) = (
            (height << enlargement) + top + bottom,
            (width << enlargement) + left + right,
        );
        let results = images / time_step.max(1);
        let fits = applies(&all)
            && channels == inputs
            && results > 0
            && results <= MOST_IMAGES
            && (1..=frames).contains(&time_step)
            && tall >= rows
            && wide >= columns
            && [input.past, input.residual]
                .iter()
                .flatten()
                .all(|other| other.dtype() == self.dtype);
        if !fits || x.elem_count() == 0 {
            return Ok(None);
        }
        let shape = (
            results,
            outputs,
            (tall - rows) / self.step + 1,
            (wide - columns) / self.step + 1,
        );
        let bias = input.bias.to_dtype(DType::F32)?.contiguous()?;
        let reach = frames - time_step;
        let is_one_each = bias.elem_count() == results * outputs && bias.rank() == 2;
        if input
            .residual
            .is_some_and(|other| other.dims() != [shape.0, shape.1, shape.2, shape.3])
            || input
                .past
                .is_some_and(|past| past.dims() != [reach, inputs, height, width])
            || !(is_one_each || bias.dims() == [outputs])
        {
            return Ok(None);
        }
        // A kernel of one pixel sees no neighbours: all pixels are one row. A column under a kernel of
        // one column is a row under one of one row, and a row is tiled as such.
        let is_pointwise = (rows, columns, self.step, enlargement) == (1, 1, 1, 0)
            && input.padding == [0; 4]
            && height * width <= i32::MAX as usize - PIXELS;
        let is_column = columns == 1 && width == 1 && shape.3 == 1 && enlargement == 0;
        let mut plan = Rectangle {
            size: [height, width],
            out: [shape.2, shape.3],
            kernel: [rows, columns],
            padding: [top, left],
        };
        if is_pointwise {
            plan.size = [1, height * width];
            plan.out = plan.size;
        } else if is_column {
            plan = plan.turned();
        }
        let [height, width] = plan.size;
        let [out_height, out_width] = plan.out;
        let [rows, columns] = plan.kernel;
        let [top, left] = plan.padding;
        let shift = match (rows, out_height, out_width) {
            (1, 1, _) => FLAT,
            (_, _, ..=8) => NARROW,
            _ => USUAL,
        };
        let tiles = out_height.div_ceil(PIXELS >> shift) * out_width.div_ceil(1 << shift);
        let is_small = outputs <= 64 || tiles * outputs.div_ceil(128) * results < FEW_BLOCKS;
        let block = if is_small { 32 } else { 128 };
        let blocks = tiles * outputs.div_ceil(block);
        if blocks > i32::MAX as usize {
            return Ok(None);
        }
        let x = x.contiguous()?;
        let past = input.past.map(Tensor::contiguous).transpose()?;
        let residual = input.residual.map(Tensor::contiguous).transpose()?;
        let mut arguments = vec![
            Argument::In(&x),
            // These two are read only where there are some.
            Argument::In(past.as_ref().unwrap_or(&x)),
            Argument::In(&self.weights),
            Argument::In(&bias),
            Argument::In(residual.as_ref().unwrap_or(&x)),
            Argument::Out(0),
        ];
        for value in [
            inputs,
            height,
            width,
            outputs,
            out_height,
            out_width,
            frames,
            rows,
            columns,
            self.step,
            time_step,
            reach,
            top,
            left,
            enlargement,
        ] {
            arguments.push(Argument::size(value)?);
        }
        arguments.extend([
            Argument::flag(input.is_reflected),
            Argument::size(if is_one_each { outputs } else { 0 })?,
            Argument::size(shift)?,
            Argument::flag(past.is_some()),
            Argument::flag(residual.is_some()),
        ]);
        let call = Call {
            source: match self.dtype {
                DType::BF16 => "conv_bf16",
                DType::F16 => "conv_f16",
                _ => "conv_f32",
            },
            outputs: vec![(self.dtype, Shape::from(shape))],
            launches: vec![Launch {
                entry: format!("conv_{suffix}_{block}"),
                grid: [blocks as u32, 1, results as u32],
                block: [THREADS, 1, 1],
                shared_bytes: self.shared_bytes(block, shift, plan.kernel) as u32,
                arguments,
            }],
        };
        Ok(Some(call.run_for_one()?))
    }
}
