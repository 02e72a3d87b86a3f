//! Convolution with a step of one straight from a padded copy of the input.
//!
//! Lay the padded image out as one line per channel. A kernel tap is then a fixed offset into that
//! line, the same for every pixel, and a run of pixels times one tap is a run of vectors times one
//! number: the inner loop of a matrix product, without ever building the matrix of patches. The
//! few positions between the end of one image row and the start of the next are computed too and
//! thrown away.

use half::bf16;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    Padding,
    winograd::{self, Winograd},
};
use crate::layers::{cpu::for_rows, simd};

/// Output channels that are computed together where the processor has 32 vector registers.
pub(super) const BLOCK: usize = 8;
/// Vectors of pixels that are computed together.
const VECTORS: usize = 3;
/// Floats that a tile may read beyond the last channel: its own length on the widest vectors.
const SLACK: usize = VECTORS * 16 + 64;
/// The taps of a 3×3 kernel.
const SQUARE: [(usize, usize); 9] = [
    (0, 0),
    (0, 1),
    (0, 2),
    (1, 0),
    (1, 1),
    (1, 2),
    (2, 0),
    (2, 1),
    (2, 2),
];
/// Positions of a band: enough to keep a block's weights busy, few enough to stay in cache.
const BAND_POSITIONS: usize = 1024;

/// Where a convolution's pixels lie.
pub(super) struct Geometry {
    height: usize,
    width: usize,
    padding: Padding,
    pub padded_height: usize,
    pub padded_width: usize,
    pub out_height: usize,
    pub out_width: usize,
}

impl Geometry {
    /// The kernel must fit into the padded image.
    pub fn new(
        height: usize,
        width: usize,
        padding: Padding,
        kernel_height: usize,
        kernel_width: usize,
    ) -> Self {
        let padded_height = height + padding.top + padding.bottom;
        let padded_width = width + padding.left + padding.right;
        Self {
            height,
            width,
            padding,
            padded_height,
            padded_width,
            out_height: padded_height - kernel_height + 1,
            out_width: padded_width - kernel_width + 1,
        }
    }

    /// Numbers of a padded channel.
    pub fn plane(&self) -> usize {
        self.padded_height * self.padded_width
    }

    /// So many padded channels of zeros, with room for the last tile behind them.
    pub fn padded_zeros(&self, channels: usize) -> Vec<f32> {
        vec![0f32; channels * self.plane() + SLACK]
    }

    /// Fills the borders of padded channels with the pixels as far on the other side of the edge.
    /// The image must be larger than each border.
    pub fn reflect(&self, planes: &mut [f32]) {
        let (width, padding) = (self.padded_width, self.padding);
        for_rows(planes, self.plane(), 1, |_, planes| {
            for plane in planes.chunks_exact_mut(self.plane()) {
                let (top, left) = (padding.top, padding.left);
                for y in top..top + self.height {
                    let row = &mut plane[y * width..][..width];
                    for k in 1..=left {
                        row[left - k] = row[left + k];
                    }
                    let last = left + self.width - 1;
                    for k in 1..=padding.right {
                        row[last + k] = row[last - k];
                    }
                }
                for k in 1..=top {
                    plane.copy_within((top + k) * width..(top + k + 1) * width, (top - k) * width);
                }
                let last = top + self.height - 1;
                for k in 1..=padding.bottom {
                    let from = (last - k) * width;
                    plane.copy_within(from..from + width, (last + k) * width);
                }
            }
        });
    }

    /// Copies channels into the middle of padded ones, whose borders are zero.
    pub fn pad_into(&self, source: &[f32], planes: &mut [f32]) {
        for_rows(planes, self.plane(), 1, |first, planes| {
            for (channel, plane) in planes.chunks_exact_mut(self.plane()).enumerate() {
                let source = &source[(first + channel) * self.height * self.width..];
                for y in 0..self.height {
                    let start = (y + self.padding.top) * self.padded_width + self.padding.left;
                    plane[start..start + self.width]
                        .copy_from_slice(&source[y * self.width..][..self.width]);
                }
            }
        });
    }
}

/// Taps, as (row, column) of the kernel window, and their weights for all channels.
#[derive(Debug)]
struct Phase {
    taps: Vec<(usize, usize)>,
    packed: Packed,
}

/// `[block][input channel][tap][output channel within the block]`, in the format that the weights
/// are stored in. bf16 is widened block by block when it is needed.
#[derive(Debug)]
pub(super) enum Packed {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Packed {
    fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(values.as_slice()),
            Self::Bf16(values) => size_of_val(values.as_slice()),
        }
    }

    /// `count` weights from `first` on; `wide` is a place for those that must be widened.
    pub fn part<'a>(&'a self, first: usize, count: usize, wide: &'a mut Vec<f32>) -> &'a [f32] {
        match self {
            Self::F32(values) => &values[first..][..count],
            Self::Bf16(values) => {
                wide.resize(count, 0.0);
                let values = &values[first..][..count];
                simd::run(
                    #[inline(always)]
                    || {
                        for (wide, value) in wide.iter_mut().zip(values) {
                            *wide = f32::from_bits(u32::from(value.to_bits()) << 16);
                        }
                    },
                );
                wide
            }
        }
    }
}

/// Weights as they are stored: f32 or bf16.
#[derive(Clone, Copy)]
pub(super) enum Stored<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

/// A kernel ready for use: one phase for a plain convolution, four for one that enlarges by two
/// (phase 2a + b makes the pixels (2y + a, 2x + b)).
#[derive(Debug)]
pub(super) struct Direct {
    inputs: usize,
    outputs: usize,
    phases: Vec<Phase>,
}

impl Direct {
    /// `weight`: (outputs, inputs, kernel height, kernel width).
    pub fn plain(weight: Stored, shape: (usize, usize, usize, usize)) -> Self {
        let (outputs, inputs, kernel_height, kernel_width) = shape;
        let taps: Vec<_> = (0..kernel_height * kernel_width)
            .map(|tap| (tap / kernel_width, tap % kernel_width))
            .collect();
        let size = taps.len();
        let place = |output, input, tap| (output * inputs + input) * size + tap;
        let packed = match weight {
            Stored::F32(weight) => Packed::F32(pack(inputs, outputs, size, 0.0, |o, i, tap| {
                weight[place(o, i, tap)]
            })),
            Stored::Bf16(weight) => {
                let zero = bf16::ZERO;
                Packed::Bf16(pack(inputs, outputs, size, zero, |o, i, tap| {
                    weight[place(o, i, tap)]
                }))
            }
        };
        Self {
            inputs,
            outputs,
            phases: vec![Phase { taps, packed }],
        }
    }

    /// A 3×3 kernel over the image enlarged by two, as four 2×2 kernels over the image itself.
    ///
    /// The sums of weights are kept in f32.
    pub fn enlarging(weight: Stored, shape: (usize, usize, usize, usize)) -> Self {
        let (outputs, inputs, ..) = shape;
        let weight = |place: usize| match weight {
            Stored::F32(weight) => weight[place],
            Stored::Bf16(weight) => weight[place].to_f32(),
        };
        // Which kernel rows fall on the upper and the lower source row, for either parity.
        const ROWS: [[&[usize]; 2]; 2] = [[&[0], &[1, 2]], [&[0, 1], &[2]]];
        let phases = (0..4)
            .map(|phase| {
                let (a, b) = (phase / 2, phase % 2);
                let taps = (0..4).map(|tap| (a + tap / 2, b + tap % 2)).collect();
                let sum = |output: usize, input: usize, tap: usize| {
                    let kernel = (output * inputs + input) * 9;
                    let mut sum = 0.0;
                    for &row in ROWS[a][tap / 2] {
                        for &column in ROWS[b][tap % 2] {
                            sum += weight(kernel + row * 3 + column);
                        }
                    }
                    sum
                };
                let packed = Packed::F32(pack(inputs, outputs, 4, 0.0, sum));
                Phase { taps, packed }
            })
            .collect();
        Self {
            inputs,
            outputs,
            phases,
        }
    }

    /// Bytes of its weights.
    pub fn bytes(&self) -> usize {
        self.phases.iter().map(|phase| phase.packed.bytes()).sum()
    }

    /// The 3×3 kernel that an enlarging one was made of: its sums taken apart again, exact to
    /// rounding. None when it does not enlarge.
    pub fn plain_part(&self) -> Option<Self> {
        let [p00, p01, p10, p11] = self.phases.as_slice() else {
            return None;
        };
        let (inputs, outputs) = (self.inputs, self.outputs);
        let kernel = |output: usize, input: usize| {
            let at = |phase: &Phase, row: usize, column: usize| {
                let block = output / BLOCK * inputs + input;
                let place = (block * 4 + row * 2 + column) * BLOCK + output % BLOCK;
                match &phase.packed {
                    Packed::F32(values) => values[place],
                    Packed::Bf16(values) => values[place].to_f32(),
                }
            };
            // Corners stand alone, edges with a corner, the middle with three others.
            let (a, c) = (at(p00, 0, 0), at(p01, 0, 1));
            let (g, i) = (at(p10, 1, 0), at(p11, 1, 1));
            let (b, d) = (at(p01, 0, 0) - a, at(p10, 0, 0) - a);
            let (f, h) = (at(p11, 0, 1) - c, at(p11, 1, 0) - g);
            let e = at(p11, 0, 0) - (a + b + d);
            [a, b, c, d, e, f, g, h, i]
        };
        let size = 9;
        let packed = pack(inputs, outputs, size, 0.0, |o, i, tap| kernel(o, i)[tap]);
        Some(Self {
            inputs,
            outputs,
            phases: vec![Phase {
                taps: (0..size).map(|tap| (tap / 3, tap % 3)).collect(),
                packed: Packed::F32(packed),
            }],
        })
    }

    /// Output pixels per input pixel and axis.
    pub fn enlargement(&self) -> usize {
        if self.phases.len() == 4 { 2 } else { 1 }
    }

    /// For each image, `out` (outputs, rows, columns) = convolution + bias (+ residual).
    pub fn run(&self, geometry: &Geometry, images: &mut [Image]) {
        if let [Phase { taps, packed }] = self.phases.as_slice()
            && taps.iter().copied().eq(SQUARE)
            && winograd::pays(self.inputs, self.outputs, geometry)
        {
            let winograd = Winograd {
                packed,
                inputs: self.inputs,
                outputs: self.outputs,
                geometry,
            };
            winograd.run(images);
        } else {
            for image in images {
                self.run_one(geometry, image);
            }
        }
    }

    fn run_one(&self, geometry: &Geometry, image: &mut Image) {
        let Image {
            padded,
            bias,
            residual,
            out,
        } = image;
        let factor = self.enlargement();
        let columns = geometry.out_width * factor;
        let plane = geometry.out_height * factor * columns;
        let band_rows = (BAND_POSITIONS / geometry.padded_width).clamp(1, geometry.out_height);
        let bands = geometry.out_height.div_ceil(band_rows);
        let blocks = self.outputs.div_ceil(BLOCK);
        // Every task owns a band of rows in each channel of its block. Tasks of one band follow
        // each other, so that its pixels are still in cache.
        let mut tasks: Vec<Task> = (0..bands * blocks)
            .map(|i| Task {
                band: i / blocks,
                block: i % blocks,
                rows: Vec::with_capacity(BLOCK),
            })
            .collect();
        for (channel, plane) in out.chunks_exact_mut(plane).enumerate() {
            for (band, rows) in plane.chunks_mut(band_rows * factor * columns).enumerate() {
                tasks[band * blocks + channel / BLOCK].rows.push(rows);
            }
        }
        let offsets: Vec<Vec<usize>> = self
            .phases
            .iter()
            .map(|phase| {
                let offset = |&(row, column): &(usize, usize)| row * geometry.padded_width + column;
                phase.taps.iter().map(offset).collect()
            })
            .collect();
        tasks.par_iter_mut().for_each_init(Vec::new, |wide, task| {
            let rows = task.rows[0].len() / (factor * columns);
            let positions = rows * geometry.padded_width;
            let stride = positions.next_multiple_of(VECTORS * 16) + VECTORS * 16;
            let mut results = vec![0f32; self.phases.len() * BLOCK * stride];
            for ((phase, offsets), results) in self
                .phases
                .iter()
                .zip(&offsets)
                .zip(results.chunks_exact_mut(BLOCK * stride))
            {
                let per_block = self.inputs * offsets.len() * BLOCK;
                let weights = phase.packed.part(task.block * per_block, per_block, wide);
                simd::run(Band {
                    padded: &padded[task.band * band_rows * geometry.padded_width..],
                    plane: geometry.plane(),
                    offsets,
                    weights,
                    positions,
                    results,
                    stride,
                });
            }
            let layout = Lines {
                stride,
                padded_width: geometry.padded_width,
                factor,
                columns,
            };
            for (o, out) in task.rows.iter_mut().enumerate() {
                let channel = task.block * BLOCK + o;
                let first = channel * plane + task.band * band_rows * factor * columns;
                let residual = residual.map(|data| &data[first..first + out.len()]);
                let (bias, results) = (bias[channel], &results[o * stride..]);
                simd::run(
                    #[inline(always)]
                    move || layout.write(results, bias, residual, out),
                );
            }
        });
    }
}

/// An image and what becomes of it.
pub(super) struct Image<'a> {
    /// (inputs, rows, columns), padded, with further numbers behind it
    /// ([`Geometry::padded_zeros`]).
    pub padded: &'a [f32],
    /// (outputs)
    pub bias: &'a [f32],
    /// Added to the result: of its shape.
    pub residual: Option<&'a [f32]>,
    /// (outputs, rows, columns)
    pub out: &'a mut [f32],
}

/// How the results of a band become lines of pixels.
#[derive(Clone, Copy)]
struct Lines {
    /// Distance of output channels in the results.
    stride: usize,
    padded_width: usize,
    /// Pixels per position and axis.
    factor: usize,
    columns: usize,
}

impl Lines {
    /// All lines of one channel: results + bias (+ residual).
    #[inline(always)]
    fn write(self, results: &[f32], bias: f32, residual: Option<&[f32]>, out: &mut [f32]) {
        for (y, line) in out.chunks_exact_mut(self.columns).enumerate() {
            let row = y / self.factor * self.padded_width;
            let of_phase = |phase: usize| &results[phase * BLOCK * self.stride + row..];
            if self.factor == 2 {
                let (even, odd) = (of_phase(y % 2 * 2), of_phase(y % 2 * 2 + 1));
                for ((pair, even), odd) in line.as_chunks_mut::<2>().0.iter_mut().zip(even).zip(odd)
                {
                    *pair = [even + bias, odd + bias];
                }
            } else if let Some(residual) = residual {
                let residual = &residual[y * self.columns..];
                for ((out, value), add) in line.iter_mut().zip(of_phase(0)).zip(residual) {
                    *out = value + bias + add;
                }
            } else {
                for (out, value) in line.iter_mut().zip(of_phase(0)) {
                    *out = value + bias;
                }
            }
        }
    }
}

struct Task<'a> {
    band: usize,
    block: usize,
    /// The band's rows in each output channel of the block.
    rows: Vec<&'a mut [f32]>,
}

/// Weights in the order of [`Packed`].
fn pack<T: Copy + Send + Sync>(
    inputs: usize,
    outputs: usize,
    taps: usize,
    zero: T,
    weight: impl Fn(usize, usize, usize) -> T + Sync,
) -> Vec<T> {
    let per_block = inputs * taps * BLOCK;
    let mut packed = vec![zero; outputs.div_ceil(BLOCK) * per_block];
    packed
        .par_chunks_mut(per_block.max(1))
        .enumerate()
        .for_each(|(block, chunk)| {
            for (i, chunk) in chunk.chunks_exact_mut(BLOCK).enumerate() {
                for (o, value) in chunk.iter_mut().enumerate() {
                    let output = block * BLOCK + o;
                    if output < outputs {
                        *value = weight(output, i / taps, i % taps);
                    }
                }
            }
        });
    packed
}

/// The positions of a band for one block of output channels.
struct Band<'a> {
    /// From the band's first position on.
    padded: &'a [f32],
    /// Distance of input channels.
    plane: usize,
    offsets: &'a [usize],
    /// `[input channel][tap][output channel within the block]`
    weights: &'a [f32],
    positions: usize,
    /// `[output channel within the block][position]`
    results: &'a mut [f32],
    stride: usize,
}

impl WithSimd for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let tile = VECTORS * S::F32_LANES;
        for start in (0..self.positions).step_by(tile) {
            // Accumulators must stay in registers: 8·3 of them with 32 registers, 4·3 with 16.
            if S::REGISTER_COUNT >= 32 {
                self.tile_of_8(simd, start, 0);
            } else {
                self.tile_of_4(simd, start, 0);
                self.tile_of_4(simd, start, 4);
            }
        }
    }
}

/// One tile of positions for some output channels. Written out channel by channel: sums that are
/// reached through a loop variable stay in memory, where each addition waits for a store.
macro_rules! define_tile {
    ($name:ident: $($channel:literal)+) => {
        #[inline(always)]
        fn $name<S: Simd>(&mut self, simd: S, start: usize, first: usize) {
            let zero = simd.splat_f32s(0.0);
            let mut sums = [$({ const _: usize = $channel; [zero, zero, zero] }),+];
            let (weights, _) = self.weights.as_chunks::<BLOCK>();
            // No statement of these loops may panic either.
            for (input, weights) in weights.chunks_exact(self.offsets.len()).enumerate() {
                let line = self.padded.get(input * self.plane + start..).unwrap_or(&[]);
                for (weights, &offset) in weights.iter().zip(self.offsets) {
                    let (vectors, _) = S::as_simd_f32s(line.get(offset..).unwrap_or(&[]));
                    let Some(&[a, b, c]) = vectors.first_chunk::<VECTORS>() else {
                        continue;
                    };
                    $(
                        let weight = simd.splat_f32s(weights[(first + $channel) % BLOCK]);
                        sums[$channel][0] = simd.mul_add_e_f32s(weight, a, sums[$channel][0]);
                        sums[$channel][1] = simd.mul_add_e_f32s(weight, b, sums[$channel][1]);
                        sums[$channel][2] = simd.mul_add_e_f32s(weight, c, sums[$channel][2]);
                    )+
                }
            }
            let tile = VECTORS * S::F32_LANES;
            $(
                let out = (first + $channel) * self.stride + start;
                let (out, _) = S::as_mut_simd_f32s(&mut self.results[out..out + tile]);
                out[0] = sums[$channel][0];
                out[1] = sums[$channel][1];
                out[2] = sums[$channel][2];
            )+
        }
    };
}

impl Band<'_> {
    define_tile!(tile_of_8: 0 1 2 3 4 5 6 7);
    define_tile!(tile_of_4: 0 1 2 3);
}
