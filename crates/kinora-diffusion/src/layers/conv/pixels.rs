//! A kernel matrix times a matrix whose columns are pixels or patches.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::layers::{
    product::{Line, Numbers, PANEL, ROWS, Sums, add_product},
    simd,
};

/// `out (outputs, columns) += weight (outputs, inner) · matrix (inner, columns)`, all row-major.
/// On all cores, a panel of columns at a time, or on the calling one.
pub(super) fn add_columns(
    weight: &[f32],
    matrix: &[f32],
    columns: usize,
    out: &mut [f32],
    is_parallel: bool,
) {
    if columns == 0 || out.is_empty() {
        return;
    }
    let (outputs, inner) = (out.len() / columns, matrix.len() / columns);
    let mut tasks: Vec<Task> = (0..columns.div_ceil(PANEL))
        .map(|i| Task {
            first: i * PANEL,
            rows: Vec::with_capacity(outputs),
        })
        .collect();
    for row in out.chunks_exact_mut(columns) {
        for (task, part) in tasks.iter_mut().zip(row.chunks_mut(PANEL)) {
            task.rows.push(part);
        }
    }
    let run = |task: &mut Task| {
        simd::run(Columns {
            weight: Numbers {
                data: weight,
                stride: inner,
            },
            inner,
            matrix,
            columns,
            task,
        });
    };
    if is_parallel {
        tasks.par_iter_mut().for_each(run);
    } else {
        tasks.iter_mut().for_each(run);
    }
}

/// A panel of columns.
struct Task<'a> {
    first: usize,
    rows: Vec<&'a mut [f32]>,
}

struct Columns<'a, 'b> {
    weight: Numbers<'a>,
    inner: usize,
    matrix: &'a [f32],
    columns: usize,
    task: &'a mut Task<'b>,
}

impl WithSimd for Columns<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Task { first, rows } = self.task;
        let width = rows.first().map_or(0, |row| row.len());
        let mut lines = vec![Line::ZERO; self.inner];
        for (line, row) in lines.iter_mut().zip(self.matrix.chunks_exact(self.columns)) {
            line.0[..width].copy_from_slice(&row[*first..*first + width]);
        }
        for (tile, rows) in rows.chunks_mut(ROWS).enumerate() {
            let mut sums: Sums = [[0f32; PANEL]; ROWS];
            let tile = (tile * ROWS, rows.len());
            add_product(simd, self.weight, tile, 0, &lines, width, &mut sums);
            for (row, sums) in rows.iter_mut().zip(&sums) {
                for (out, sum) in row.iter_mut().zip(sums) {
                    *out += sum;
                }
            }
        }
    }
}
