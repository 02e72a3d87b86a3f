//! 3×3 convolution with a step of one in a quarter of the multiplications: Winograd's minimal
//! filtering F(4×4, 3×3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks").
//!
//! A tile of 4 × 4 results depends on a window of 6 × 6 pixels. Window and kernel, as polynomials in
//! two variables, are evaluated at 36 points, multiplied there, and the results are interpolated. At
//! each point the sum over the input channels is a matrix product: kernels (outputs × inputs) times
//! windows (inputs × tiles).
//!
//! The points of each axis are 0, ±√½, ±√2 and infinity. Their powers stay close to one, which
//! leaves a fourth of the rounding error of the usual 0, ±1, ±2: at 512 channels 8·10⁻⁶ of the
//! results' spread at most, where a plain sum has 1·10⁻⁶.
//!
//! A result is one chain of additions over the channels, whatever shares its panel and whichever
//! core makes it.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::direct::{BLOCK, Geometry, Image, Packed};
use crate::layers::simd;

/// Results of a tile along an axis.
const TILE: usize = 4;
/// Pixels that they depend on, and points at which products are taken, along an axis.
const WINDOW: usize = 6;
/// Points of a window.
const POINTS: usize = WINDOW * WINDOW;
/// Tiles that are computed together: three of the widest vectors.
const PANEL: usize = 48;
/// Vectors of tiles that are multiplied together.
const VECTORS: usize = 3;
/// Blocks of outputs whose products are interpolated together: enough to use a window well, few
/// enough to stay in the second-level cache.
const BLOCKS: usize = 6;
/// Outputs that a core takes at least: the windows are transformed once for each core's share.
const LEAST_SHARE: usize = 2 * BLOCKS * BLOCK;
/// Transformed numbers that are kept at a time, of each output of a block: 32 MB in all.
const KEPT: usize = 1 << 20;
/// Pixels of a row of windows, in whole vectors.
const COLUMNS: usize = TILE * PANEL + 16;

/// Channels below which the transformations cost more than they save.
const LEAST_CHANNELS: usize = 32;
/// Tiles below which transforming the kernels does.
const LEAST_TILES: usize = 64;

/// Whether this way is the faster one for a 3×3 kernel. Depends on nothing but sizes, so that a
/// picture comes out the same alone and in a batch.
pub(super) fn pays(inputs: usize, outputs: usize, geometry: &Geometry) -> bool {
    let tiles = geometry.out_height.div_ceil(TILE) * geometry.out_width.div_ceil(TILE);
    inputs >= LEAST_CHANNELS && outputs >= LEAST_CHANNELS && tiles >= LEAST_TILES
}

/// A panel of tiles: one number of each.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; PANEL]);

impl Line {
    const ZERO: Self = Self([0.0; PANEL]);
}

/// Some 3×3 kernels at all points: `[block][point][input][output within the block]`.
struct Kernels {
    values: Vec<[f32; BLOCK]>,
}

impl Kernels {
    /// How far points lie apart: not a power of two, or all of them would fall on the same places
    /// of a cache.
    fn distance(inputs: usize) -> usize {
        (inputs + 2) | 1
    }

    /// The blocks `first..first + count` of `packed`, which holds nine taps for each input.
    fn set(&mut self, packed: &Packed, inputs: usize, first: usize, count: usize) {
        let distance = Self::distance(inputs);
        self.values.resize(count * POINTS * distance, [0.0; BLOCK]);
        let per_block = inputs * 9 * BLOCK;
        self.values
            .par_chunks_exact_mut(POINTS * distance)
            .enumerate()
            .for_each_init(Vec::new, |wide, (block, values)| {
                let weights = packed.part((first + block) * per_block, per_block, wide);
                simd::run(
                    #[inline(always)]
                    || transform_kernels(weights, values, distance),
                );
            });
    }

    /// The kernels of a block at a point.
    fn at(&self, inputs: usize, block: usize, point: usize) -> &[[f32; BLOCK]] {
        let distance = Self::distance(inputs);
        &self.values[(block * POINTS + point) * distance..][..inputs]
    }
}

/// The kernels of a block of outputs, `[input][tap][output]`, at all points.
#[inline(always)]
fn transform_kernels(weights: &[f32], values: &mut [[f32; BLOCK]], distance: usize) {
    let (taps, _) = weights.as_chunks::<BLOCK>();
    let (kernels, _) = taps.as_chunks::<9>();
    for (input, &[a, b, c, d, e, f, g, h, i]) in kernels.iter().enumerate() {
        // Rows of the kernel, then its columns.
        let left = kernel_points([a, d, g]);
        let middle = kernel_points([b, e, h]);
        let right = kernel_points([c, f, i]);
        for (row, ((a, b), c)) in left.into_iter().zip(middle).zip(right).enumerate() {
            let points = kernel_points([a, b, c]);
            for (column, value) in points.into_iter().enumerate() {
                if let Some(place) = values.get_mut((row * WINDOW + column) * distance + input) {
                    *place = value;
                }
            }
        }
    }
}

/// Three taps at the six points, each divided by the product of its distances from the others.
#[inline(always)]
fn kernel_points([a, b, c]: [[f32; BLOCK]; 3]) -> [[f32; BLOCK]; WINDOW] {
    let mut points = [[0f32; BLOCK]; WINDOW];
    for o in 0..BLOCK {
        let (even_near, odd_near) = (a[o] + 0.5 * c[o], FRAC_1_SQRT_2 * b[o]);
        let (even_far, odd_far) = (a[o] + 2.0 * c[o], SQRT_2 * b[o]);
        points[0][o] = a[o];
        points[1][o] = (even_near + odd_near) * (-2.0 / 3.0);
        points[2][o] = (even_near - odd_near) * (-2.0 / 3.0);
        points[3][o] = (even_far + odd_far) * (1.0 / 6.0);
        points[4][o] = (even_far - odd_far) * (1.0 / 6.0);
        points[5][o] = c[o];
    }
    points
}

/// factor · x + y
#[inline(always)]
fn times<S: Simd>(simd: S, factor: f32, x: S::f32s, y: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(factor), x, y)
}

/// factor · x
#[inline(always)]
fn scaled<S: Simd>(simd: S, factor: f32, x: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(factor), x)
}

/// Six pixels that follow each other at the six points.
#[inline(always)]
fn window_points<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; WINDOW]) -> [S::f32s; WINDOW] {
    let even_near = times(simd, -2.0, c, e);
    let odd_near = scaled(simd, FRAC_1_SQRT_2, times(simd, -2.0, b, d));
    let even_far = times(simd, -0.5, c, e);
    let odd_far = scaled(simd, SQRT_2, times(simd, -0.5, b, d));
    [
        times(simd, -2.5, c, simd.add_f32s(a, e)),
        simd.add_f32s(even_near, odd_near),
        simd.sub_f32s(even_near, odd_near),
        simd.add_f32s(even_far, odd_far),
        simd.sub_f32s(even_far, odd_far),
        times(simd, -2.5, d, simd.add_f32s(b, f)),
    ]
}

/// Four results from the products at the six points.
#[inline(always)]
fn interpolate<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; WINDOW]) -> [S::f32s; TILE] {
    let (near_sum, near_difference) = (simd.add_f32s(b, c), simd.sub_f32s(b, c));
    let (far_sum, far_difference) = (simd.add_f32s(d, e), simd.sub_f32s(d, e));
    let far_cubed = times(simd, 2.0 * SQRT_2, far_difference, f);
    let far_difference = scaled(simd, SQRT_2, far_difference);
    [
        simd.add_f32s(a, simd.add_f32s(near_sum, far_sum)),
        times(simd, FRAC_1_SQRT_2, near_difference, far_difference),
        times(simd, 0.5, near_sum, scaled(simd, 2.0, far_sum)),
        times(simd, 0.5 * FRAC_1_SQRT_2, near_difference, far_cubed),
    ]
}

/// A convolution of padded images: `packed` holds a 3×3 kernel.
pub(super) struct Winograd<'a> {
    pub packed: &'a Packed,
    pub inputs: usize,
    pub outputs: usize,
    pub geometry: &'a Geometry,
}

impl Winograd<'_> {
    /// For each image, `out` (outputs, rows, columns) = convolution + bias (+ residual).
    pub fn run(&self, images: &mut [Image]) {
        let (rows, columns) = (self.geometry.out_height, self.geometry.out_width);
        let layout = Layout::new(rows, columns);
        let bands = rows.div_ceil(layout.band_rows);
        let blocks = self.outputs.div_ceil(BLOCK);
        let most = (KEPT / (POINTS * Kernels::distance(self.inputs))).max(LEAST_SHARE / BLOCK);
        let kept = blocks
            .div_ceil(blocks.div_ceil(most))
            .next_multiple_of(BLOCKS);
        let mut kernels = Kernels { values: Vec::new() };
        for first in (0..blocks).step_by(kept) {
            let count = kept.min(blocks - first);
            kernels.set(self.packed, self.inputs, first, count);
            let outputs = first * BLOCK..self.outputs.min((first + count) * BLOCK);
            // Shares of the outputs where bands alone leave cores without work.
            let wanted = (2 * rayon::current_num_threads()).div_ceil(bands * images.len().max(1));
            let share = outputs.len().div_ceil(wanted).max(LEAST_SHARE);
            let share = share.next_multiple_of(BLOCKS * BLOCK);
            let shares = outputs.len().div_ceil(share);
            let mut tasks = Vec::with_capacity(images.len() * bands * shares);
            for image in images.iter_mut() {
                let before = tasks.len();
                tasks.extend((0..bands * shares).map(|i| Task {
                    padded: image.padded,
                    bias: image.bias,
                    residual: image.residual,
                    band: i / shares,
                    first_block: i % shares * share / BLOCK,
                    first_output: outputs.start + i % shares * share,
                    planes: Vec::with_capacity(share),
                }));
                let planes = image.out.chunks_exact_mut(rows * columns);
                for (i, plane) in planes.skip(outputs.start).take(outputs.len()).enumerate() {
                    for (band, part) in plane.chunks_mut(layout.band_rows * columns).enumerate() {
                        tasks[before + band * shares + i / share].planes.push(part);
                    }
                }
            }
            tasks
                .par_iter_mut()
                .for_each_init(Scratch::default, |scratch, task| {
                    simd::run(Band {
                        kernels: &kernels,
                        inputs: self.inputs,
                        geometry: self.geometry,
                        layout,
                        scratch,
                        task,
                    });
                });
        }
    }
}

/// How tiles are shared out: bands of whole rows of tiles, whose tiles fill panels one after another.
#[derive(Clone, Copy)]
struct Layout {
    /// Tiles of a row.
    tiles: usize,
    /// Rows of pixels of a band.
    band_rows: usize,
}

impl Layout {
    fn new(rows: usize, columns: usize) -> Self {
        let (tiles, tile_rows) = (columns.div_ceil(TILE), rows.div_ceil(TILE));
        // The fewest rows whose panels waste least.
        let waste = |rows: &usize| {
            let used = rows * tiles;
            (used.next_multiple_of(PANEL) - used) * 1000 / used
        };
        let band = (1..=tile_rows.min(8)).min_by_key(waste).unwrap_or(1);
        Self {
            tiles,
            band_rows: band * TILE,
        }
    }
}

/// A band of rows of an image for some of its output channels.
struct Task<'a> {
    padded: &'a [f32],
    bias: &'a [f32],
    residual: Option<&'a [f32]>,
    band: usize,
    /// Among the kernels that are kept.
    first_block: usize,
    first_output: usize,
    /// The band's rows in each of the channels.
    planes: Vec<&'a mut [f32]>,
}

/// What a core needs for a panel.
#[derive(Default)]
struct Scratch {
    /// `[point][input]`, points as far apart as [`Kernels::distance`] says.
    windows: Vec<Line>,
    /// `[output][point]`
    products: Vec<Line>,
}

/// Tiles that follow each other in a row, and where they lie in a panel.
#[derive(Clone, Copy)]
struct Segment {
    tile_row: usize,
    first_tile: usize,
    count: usize,
    lane: usize,
}

/// A task with what all of them share.
struct Band<'a, 'b> {
    kernels: &'a Kernels,
    inputs: usize,
    geometry: &'a Geometry,
    layout: Layout,
    scratch: &'a mut Scratch,
    task: &'a mut Task<'b>,
}

impl WithSimd for Band<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            kernels,
            inputs,
            geometry,
            layout,
            ..
        } = self;
        let (scratch, task) = (self.scratch, self.task);
        let distance = Kernels::distance(inputs);
        scratch.windows.resize(POINTS * distance, Line::ZERO);
        scratch.products.resize(BLOCKS * BLOCK * POINTS, Line::ZERO);
        let columns = geometry.out_width;
        let tile_rows = (task.planes[0].len() / columns).div_ceil(TILE);
        let tiles = tile_rows * layout.tiles;
        let band_row = task.band * layout.band_rows;
        let plane = geometry.out_height * columns;
        let mut segments = Vec::with_capacity(PANEL);
        for first in (0..tiles).step_by(PANEL) {
            let width = PANEL.min(tiles - first);
            cut(first, width, layout.tiles, &mut segments);
            for input in 0..inputs {
                let source = &task.padded[input * geometry.plane()..];
                for segment in &segments {
                    let rows = window_rows(source, geometry, band_row, segment);
                    let lines = scratch.windows[input..].iter_mut().step_by(distance);
                    transform_windows(simd, &rows, segment, lines);
                }
            }
            for chunk in (0..task.planes.len()).step_by(BLOCKS * BLOCK) {
                let count = (BLOCKS * BLOCK).min(task.planes.len() - chunk);
                for point in 0..POINTS {
                    let lines = &scratch.windows[point * distance..][..inputs];
                    for block in 0..count.div_ceil(BLOCK) {
                        let first_block = task.first_block + chunk / BLOCK + block;
                        let product = Product {
                            kernels: kernels.at(inputs, first_block, point),
                            lines,
                            products: &mut scratch.products[block * BLOCK * POINTS + point..],
                        };
                        product.multiply(simd, width);
                    }
                }
                let products = scratch.products.chunks_exact(POINTS);
                for (i, products) in products.enumerate().take(count) {
                    let output = task.first_output + chunk + i;
                    let start = output * plane + band_row * columns;
                    let out = &mut *task.planes[chunk + i];
                    let residual = task.residual.map(|all| &all[start..][..out.len()]);
                    let results = interpolate_panel(simd, products, task.bias[output]);
                    for segment in &segments {
                        write(&results, segment, columns, residual, out);
                    }
                }
            }
        }
    }
}

/// The tiles `first..first + count` of a band, row by row.
#[inline(always)]
fn cut(first: usize, count: usize, tiles: usize, segments: &mut Vec<Segment>) {
    segments.clear();
    let mut lane = 0;
    while lane < count {
        let (tile_row, first_tile) = ((first + lane) / tiles, (first + lane) % tiles);
        let run = (tiles - first_tile).min(count - lane);
        segments.push(Segment {
            tile_row,
            first_tile,
            count: run,
            lane,
        });
        lane += run;
    }
}

/// The six rows of pixels that a segment's windows lie in. What is beyond the padded image is zero.
#[inline(always)]
fn window_rows(
    source: &[f32],
    geometry: &Geometry,
    band_row: usize,
    segment: &Segment,
) -> [[f32; COLUMNS]; WINDOW] {
    let (width, first) = (geometry.padded_width, segment.first_tile * TILE);
    let len = (segment.count * TILE + WINDOW - TILE).min(width - first);
    let mut rows = [[0f32; COLUMNS]; WINDOW];
    for (i, row) in rows.iter_mut().enumerate() {
        let y = band_row + segment.tile_row * TILE + i;
        if y < geometry.padded_height {
            row[..len].copy_from_slice(&source[y * width + first..][..len]);
        }
    }
    rows
}

/// The windows of a channel at all points, in one line for each.
#[inline(always)]
fn transform_windows<'a, S: Simd>(
    simd: S,
    pixels: &[[f32; COLUMNS]; WINDOW],
    segment: &Segment,
    mut lines: impl Iterator<Item = &'a mut Line>,
) {
    let count = segment.count;
    let mut rows = [[0f32; COLUMNS]; WINDOW];
    points_of_rows(simd, pixels, &mut rows, count * TILE + WINDOW - TILE);
    for row in &rows {
        // Every fourth pixel; a tile's last two are the next one's first two.
        let mut every = [[0f32; COLUMNS / TILE]; WINDOW];
        let [e0, e1, e2, e3, e4, e5] = &mut every;
        let (tiles, _) = row.as_chunks::<TILE>();
        let lanes = (e0.iter_mut().zip(&mut *e1)).zip(e2.iter_mut().zip(&mut *e3));
        for (((a, b), (c, d)), tile) in lanes.zip(tiles) {
            [*a, *b, *c, *d] = *tile;
        }
        e4[..PANEL].copy_from_slice(&e0[1..=PANEL]);
        e5[..PANEL].copy_from_slice(&e1[1..=PANEL]);
        let mut points = [[0f32; COLUMNS / TILE]; WINDOW];
        points_of_rows(simd, &every, &mut points, count);
        for point in &points {
            let Some(line) = lines.next() else { return };
            if count == PANEL {
                line.0.copy_from_slice(&point[..PANEL]);
            } else {
                line.0[segment.lane..][..count].copy_from_slice(&point[..count]);
            }
        }
    }
}

/// Six lines of numbers at the six points, the first `count` of each and what shares their vectors.
#[inline(always)]
fn points_of_rows<S: Simd, const N: usize>(
    simd: S,
    rows: &[[f32; N]; WINDOW],
    points: &mut [[f32; N]; WINDOW],
    count: usize,
) {
    let [a, b, c, d, e, f] = rows;
    let (a, b, c) = (vectors::<S>(a), vectors::<S>(b), vectors::<S>(c));
    let (d, e, f) = (vectors::<S>(d), vectors::<S>(e), vectors::<S>(f));
    let [p0, p1, p2, p3, p4, p5] = points;
    let (p0, _) = S::as_mut_simd_f32s(p0);
    let (p1, _) = S::as_mut_simd_f32s(p1);
    let (p2, _) = S::as_mut_simd_f32s(p2);
    let (p3, _) = S::as_mut_simd_f32s(p3);
    let (p4, _) = S::as_mut_simd_f32s(p4);
    let (p5, _) = S::as_mut_simd_f32s(p5);
    for v in 0..count.div_ceil(S::F32_LANES) {
        let values = window_points(simd, [a[v], b[v], c[v], d[v], e[v], f[v]]);
        [p0[v], p1[v], p2[v], p3[v], p4[v], p5[v]] = values;
    }
}

#[inline(always)]
fn vectors<S: Simd>(numbers: &[f32]) -> &[S::f32s] {
    S::as_simd_f32s(numbers).0
}

/// A block of outputs times a panel of tiles at one point.
struct Product<'a> {
    kernels: &'a [[f32; BLOCK]],
    lines: &'a [Line],
    /// The first output's line; the next one's is [`POINTS`] further.
    products: &'a mut [Line],
}

impl Product<'_> {
    #[inline(always)]
    fn multiply<S: Simd>(mut self, simd: S, width: usize) {
        for column in (0..width).step_by(VECTORS * S::F32_LANES) {
            // Accumulators must stay in registers: 8·3 of them with 32 registers, 4·3 with 16.
            if S::REGISTER_COUNT >= 32 {
                self.tile_of_8(simd, column, 0);
            } else {
                self.tile_of_4(simd, column, 0);
                self.tile_of_4(simd, column, 4);
            }
        }
    }
}

/// One tile for some output channels. Written out channel by channel: sums that are reached through
/// a loop variable stay in memory, where each addition waits for a store.
macro_rules! define_tile {
    ($name:ident: $($channel:literal)+) => {
        #[inline(always)]
        fn $name<S: Simd>(&mut self, simd: S, column: usize, first: usize) {
            let zero = simd.splat_f32s(0.0);
            let mut sums = [$({ const _: usize = $channel; [zero, zero, zero] }),+];
            // No statement of this loop may panic either.
            for (weights, line) in self.kernels.iter().zip(self.lines) {
                let (vectors, _) = S::as_simd_f32s(line.0.get(column..).unwrap_or(&[]));
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
            $(
                let line = &mut self.products[(first + $channel) * POINTS].0[column..];
                let (out, _) = S::as_mut_simd_f32s(line);
                out[..VECTORS].copy_from_slice(&sums[$channel]);
            )+
        }
    };
}

impl Product<'_> {
    define_tile!(tile_of_8: 0 1 2 3 4 5 6 7);
    define_tile!(tile_of_4: 0 1 2 3);
}

/// The results of a panel of tiles plus the bias, by their place in the tile.
#[inline(always)]
fn interpolate_panel<S: Simd>(
    simd: S,
    products: &[Line],
    bias: f32,
) -> [[[f32; PANEL]; TILE]; TILE] {
    let mut results = [[[0f32; PANEL]; TILE]; TILE];
    let bias = simd.splat_f32s(bias);
    for v in 0..PANEL / S::F32_LANES {
        let zero = simd.splat_f32s(0.0);
        let mut halves = [[zero; TILE]; WINDOW];
        for (column, half) in halves.iter_mut().enumerate() {
            let mut rows = [zero; WINDOW];
            for (row, value) in rows.iter_mut().enumerate() {
                *value = vectors::<S>(&products[row * WINDOW + column].0)[v];
            }
            *half = interpolate(simd, rows);
        }
        let [a, b, c, d, e, f] = halves;
        for (y, result) in results.iter_mut().enumerate() {
            let values = interpolate(simd, [a[y], b[y], c[y], d[y], e[y], f[y]]);
            for (result, value) in result.iter_mut().zip(values) {
                S::as_mut_simd_f32s(result).0[v] = simd.add_f32s(value, bias);
            }
        }
    }
    results
}

/// The tiles of a segment as lines of pixels.
#[inline(always)]
fn write(
    results: &[[[f32; PANEL]; TILE]; TILE],
    segment: &Segment,
    columns: usize,
    residual: Option<&[f32]>,
    out: &mut [f32],
) {
    let first = segment.first_tile * TILE;
    let len = (segment.count * TILE).min(columns - first);
    let lanes = segment.lane..segment.lane + segment.count;
    for (i, result) in results.iter().enumerate() {
        let start = (segment.tile_row * TILE + i) * columns + first;
        let Some(line) = out.get_mut(start..start + len) else {
            break;
        };
        let [a, b, c, d] = result;
        let (a, b) = (&a[lanes.clone()], &b[lanes.clone()]);
        let (c, d) = (&c[lanes.clone()], &d[lanes.clone()]);
        let (tiles, rest) = line.as_chunks_mut::<TILE>();
        let values = (a.iter().zip(b)).zip(c.iter().zip(d));
        for (tile, ((a, b), (c, d))) in tiles.iter_mut().zip(values) {
            *tile = [*a, *b, *c, *d];
        }
        let last = segment.count - 1;
        for (pixel, value) in rest.iter_mut().zip([a[last], b[last], c[last], d[last]]) {
            *pixel = value;
        }
        if let Some(residual) = residual {
            for (pixel, add) in line.iter_mut().zip(&residual[start..]) {
                *pixel += add;
            }
        }
    }
}
