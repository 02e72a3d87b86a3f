//! The inner loop of every matrix product: some rows of numbers times one panel of 64 columns.
//!
//! What is added to a sum is one chain of fused multiply-adds in the order of the inner index,
//! whichever rows and columns share the tile; cutting the inner index continues the chain. So as long
//! as callers join sums at fixed places, a row comes out the same, bit by bit, alone and in a batch,
//! on one core and on many.
//!
//! Not here: who packs what, and how work is shared among the cores.

use pulp::Simd;

/// Columns of a panel.
pub(crate) const PANEL: usize = 64;
/// Rows that are multiplied together: with four vectors of columns their sums fill 24 of 32
/// registers, with two 12 of 16.
pub(crate) const ROWS: usize = 6;

/// The numbers of a panel that share an inner index; aligned so that no vector crosses a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [f32; PANEL]);

impl Line {
    pub const ZERO: Self = Self([0.0; PANEL]);
}

/// Rows of numbers, `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Numbers<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

impl<'a> Numbers<'a> {
    /// `len` numbers of row `row` from `first` on.
    #[inline(always)]
    pub fn row(&self, row: usize, first: usize, len: usize) -> &'a [f32] {
        &self.data[row * self.stride + first..][..len]
    }
}

/// Sums of a tile.
pub(crate) type Sums = [[f32; PANEL]; ROWS];

/// Adds rows `first_row..first_row + count` (at most [`ROWS`]) of `numbers`, from their element
/// `first` on, times `lines` to the first `width` columns of `sums`. Columns beyond may be touched.
#[inline(always)]
pub(crate) fn add_product<S: Simd>(
    simd: S,
    numbers: Numbers<'_>,
    (first_row, count): (usize, usize),
    first: usize,
    lines: &[Line],
    width: usize,
    sums: &mut Sums,
) {
    let row = |i: usize| numbers.row(first_row + i, first, lines.len());
    let mut done = 0;
    while done < count {
        let left = count - done;
        let (sums, i) = (&mut sums[done..], done);
        done += match left {
            6.. => {
                let rows = [
                    row(i),
                    row(i + 1),
                    row(i + 2),
                    row(i + 3),
                    row(i + 4),
                    row(i + 5),
                ];
                six(simd, rows, lines, width, sums);
                6
            }
            4.. => {
                let rows = [row(i), row(i + 1), row(i + 2), row(i + 3)];
                four(simd, rows, lines, width, sums);
                4
            }
            2.. => {
                two(simd, [row(i), row(i + 1)], lines, width, sums);
                2
            }
            _ => {
                one(simd, [row(i)], lines, width, sums);
                1
            }
        };
    }
}

/// A tile of some rows, in groups of four or two vectors of columns. Written out row by row and
/// vector by vector: sums that are reached through a loop variable stay in memory, where each
/// addition waits for a store.
macro_rules! define_tile {
    ($tile:ident, $wide:ident, $narrow:ident, $count:literal: $($row:literal $value:ident)+) => {
        #[inline(always)]
        fn $tile<S: Simd>(
            simd: S,
            rows: [&[f32]; $count],
            lines: &[Line],
            width: usize,
            sums: &mut [[f32; PANEL]],
        ) {
            let mut column = 0;
            while column < width {
                if S::REGISTER_COUNT >= 32 && width - column > 2 * S::F32_LANES {
                    $wide(simd, rows, lines, column, sums);
                    column += 4 * S::F32_LANES;
                } else {
                    $narrow(simd, rows, lines, column, sums);
                    column += 2 * S::F32_LANES;
                }
            }
        }

        #[inline(always)]
        fn $wide<S: Simd>(
            simd: S,
            rows: [&[f32]; $count],
            lines: &[Line],
            column: usize,
            sums: &mut [[f32; PANEL]],
        ) {
            let at = column / S::F32_LANES;
            let mut acc = [$({
                let (vectors, _) = S::as_simd_f32s(&sums[$row]);
                [vectors[at], vectors[at + 1], vectors[at + 2], vectors[at + 3]]
            }),+];
            // No statement of this loop may panic.
            for (position, line) in lines.iter().enumerate() {
                let (vectors, _) = S::as_simd_f32s(line.0.get(column..).unwrap_or(&[]));
                let Some(&[a, b, c, d]) = vectors.first_chunk::<4>() else {
                    continue;
                };
                $(
                    let $value = simd.splat_f32s(rows[$row].get(position).copied().unwrap_or(0.0));
                    acc[$row][0] = simd.mul_add_e_f32s($value, a, acc[$row][0]);
                    acc[$row][1] = simd.mul_add_e_f32s($value, b, acc[$row][1]);
                    acc[$row][2] = simd.mul_add_e_f32s($value, c, acc[$row][2]);
                    acc[$row][3] = simd.mul_add_e_f32s($value, d, acc[$row][3]);
                )+
            }
            $(
                let (vectors, _) = S::as_mut_simd_f32s(&mut sums[$row]);
                vectors[at..at + 4].copy_from_slice(&acc[$row]);
            )+
        }

        #[inline(always)]
        fn $narrow<S: Simd>(
            simd: S,
            rows: [&[f32]; $count],
            lines: &[Line],
            column: usize,
            sums: &mut [[f32; PANEL]],
        ) {
            let at = column / S::F32_LANES;
            let mut acc = [$({
                let (vectors, _) = S::as_simd_f32s(&sums[$row]);
                [vectors[at], vectors[at + 1]]
            }),+];
            for (position, line) in lines.iter().enumerate() {
                let (vectors, _) = S::as_simd_f32s(line.0.get(column..).unwrap_or(&[]));
                let Some(&[a, b]) = vectors.first_chunk::<2>() else {
                    continue;
                };
                $(
                    let $value = simd.splat_f32s(rows[$row].get(position).copied().unwrap_or(0.0));
                    acc[$row][0] = simd.mul_add_e_f32s($value, a, acc[$row][0]);
                    acc[$row][1] = simd.mul_add_e_f32s($value, b, acc[$row][1]);
                )+
            }
            $(
                let (vectors, _) = S::as_mut_simd_f32s(&mut sums[$row]);
                vectors[at..at + 2].copy_from_slice(&acc[$row]);
            )+
        }
    };
}

define_tile!(six, six_wide, six_narrow, 6: 0 v0 1 v1 2 v2 3 v3 4 v4 5 v5);
define_tile!(four, four_wide, four_narrow, 4: 0 v0 1 v1 2 v2 3 v3);
define_tile!(two, two_wide, two_narrow, 2: 0 v0 1 v1);
define_tile!(one, one_wide, one_narrow, 1: 0 v0);
