//! Numbers in groups that have a scale each: nvfp4 (16 numbers of E2M1, a scale of E4M3, and one f32
//! for the whole tensor) and mxfp8 (32 numbers of E4M3, a scale of E8M0).
//!
//! The scales lie in the order that tensor cores read them in, tiles of 128 rows by 4 groups
//! (<https://docs.nvidia.com/cuda/cublas/index.html#d-block-scaling-factors-layout>), so that their
//! matrix is padded to whole tiles. They are put in rows when they are read: products go by rows.

use crate::{Dtype, decode::decode};

/// Rows and groups of a tile.
const TILE: (usize, usize) = (128, 4);

/// Scales of groups of numbers along the rows of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    /// Numbers that share a scale.
    pub len: usize,
    /// Number format of the scales.
    pub dtype: Dtype,
    /// One byte for each group: (rows, groups of a row).
    pub scales: Vec<u8>,
    /// Groups of a row; the last one may be of fewer numbers.
    pub per_row: usize,
    /// What every scale is multiplied by.
    pub factor: f32,
    /// What the numbers of each column are multiplied by besides; empty for nothing. Converters
    /// divide the weights of large inputs by it so that they suffer less from rounding.
    pub columns: Vec<f32>,
}

impl Groups {
    /// Scales the decoded numbers of a row from column `first` on.
    pub fn scale_row(&self, row: usize, first: usize, numbers: &mut [f32]) {
        let scales = &self.scales[row * self.per_row..][..self.per_row];
        let (mut at, mut rest) = (first, &mut *numbers);
        while !rest.is_empty() {
            let here = (self.len - at % self.len).min(rest.len());
            let (group, after) = rest.split_at_mut(here);
            let mut scale = [0.0];
            decode(self.dtype, &scales[at / self.len..][..1], &mut scale);
            let scale = self.factor * scale[0];
            group.iter_mut().for_each(|number| *number *= scale);
            (at, rest) = (at + here, after);
        }
        if !self.columns.is_empty() {
            let columns = &self.columns[first..][..numbers.len()];
            for (number, column) in numbers.iter_mut().zip(columns) {
                *number *= column;
            }
        }
    }

    /// The scales of the first rows and columns, of which the rest is padding.
    pub(crate) fn crop(&mut self, rows: usize, columns: usize) {
        let per_row = columns.div_ceil(self.len);
        let kept = self.scales.chunks_exact(self.per_row.max(1)).take(rows);
        self.scales = kept.flat_map(|row| &row[..per_row]).copied().collect();
        self.per_row = per_row;
        self.columns.truncate(columns);
    }
}

/// Bytes that the scales of a matrix occupy in tiles.
pub(crate) fn tiled_bytes(rows: usize, groups: usize) -> Option<usize> {
    let rows = rows.checked_next_multiple_of(TILE.0)?;
    rows.checked_mul(groups.checked_next_multiple_of(TILE.1)?)
}

/// The scales of some rows in order. `tiled` holds those of at least these rows.
pub(crate) fn in_rows(
    tiled: &[u8],
    rows: impl Iterator<Item = usize>,
    groups: usize,
) -> Option<Vec<u8>> {
    let across = groups.div_ceil(TILE.1);
    let mut scales = Vec::new();
    for row in rows {
        for group in 0..groups {
            let tile = row / TILE.0 * across + group / TILE.1;
            // Within a tile, 32 lines: rows that are 32 apart lie side by side, four groups each.
            let within = row % 32 * 16 + row % TILE.0 / 32 * TILE.1 + group % TILE.1;
            scales.push(*tiled.get(tile * TILE.0 * TILE.1 + within)?);
        }
    }
    Some(scales)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_read_row_by_row() {
        // 130 rows of 5 groups: two tiles below each other, two beside each other.
        assert_eq!(tiled_bytes(130, 5), Some(256 * 8));
        let mut tiled = vec![0; 256 * 8];
        // Row 33, group 1, and row 129, group 4.
        tiled[16 + 4 + 1] = 7;
        tiled[3 * 512 + 16] = 9;
        let scales = in_rows(&tiled, 0..130, 5).unwrap();
        assert_eq!((scales[33 * 5 + 1], scales[129 * 5 + 4]), (7, 9));
        assert_eq!(scales.iter().filter(|scale| **scale != 0).count(), 2);
        assert!(in_rows(&tiled[1..], 0..256, 8).is_none());
    }

    #[test]
    fn numbers_take_the_scale_of_their_group_wherever_a_piece_begins() {
        let mut groups = Groups {
            len: 16,
            dtype: Dtype::F8E8M0,
            scales: vec![127, 128, 129, 127, 126, 125],
            per_row: 3,
            factor: 1.0,
            columns: Vec::new(),
        };
        let scaled = |groups: &Groups, row, first, len| {
            let mut numbers = vec![1.0; len];
            groups.scale_row(row, first, &mut numbers);
            numbers
        };
        assert_eq!(scaled(&groups, 0, 14, 4), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(scaled(&groups, 1, 30, 4), [0.5, 0.5, 0.25, 0.25]);
        groups.columns = (0..40).map(|column| column as f32).collect();
        groups.crop(1, 20);
        assert_eq!((groups.scales.len(), groups.columns.len()), (2, 20));
        assert_eq!(scaled(&groups, 0, 15, 2), [15.0, 32.0]);
    }
}
