//! Rows of a weight, turned: OFT <https://arxiv.org/abs/2306.07280> and BOFT
//! <https://arxiv.org/abs/2311.06243>, as LyCORIS stores and applies them.
//!
//! A block B gives Q = B − Bᵀ and the rotation R = (1 + Q)(1 − Q)⁻¹ (Cayley). OFT turns runs of rows
//! by Rᵀ, each on its own. BOFT turns by R in stages; in stage i the rows of a block are those whose
//! numbers differ in the lowest bits and in bit i above them (a butterfly), so that after all stages
//! every row has a part of every other.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::{Result, error::bail_shape};

/// A rotation as it is stored.
pub(super) struct Rotation {
    /// (blocks, size, size), or (stages, blocks, size, size).
    pub blocks: Tensor,
    /// The largest length of Q; 0: any.
    pub most: f64,
    /// (rows)
    pub rescale: Option<Tensor>,
    /// BOFT.
    pub is_staged: bool,
}

impl Rotation {
    /// What is to be added to `base` so that it is turned. A weight goes between the unit matrix (0)
    /// and the rotation (1) in each stage, and so do the factors of rows.
    pub fn change(&self, base: &Tensor, weight: f64) -> Result<Tensor> {
        let size = self.blocks.dim(candle_core::D::Minus1)?;
        let rows = base.dim(0)?;
        let mut turned = base.reshape((rows, ()))?;
        let shape = (rows / size.max(1), size, size);
        for (stage, blocks) in self.rotations(weight)?.into_iter().enumerate() {
            let blocks = Tensor::from_vec(blocks, shape, base.device())?;
            turned = match self.is_staged {
                true => turn_butterfly(&turned, &blocks, stage)?,
                false => turn(&turned, &blocks.t()?.contiguous()?)?,
            };
        }
        if let Some(rescale) = &self.rescale {
            let factors = ((rescale.reshape((rows, 1))? - 1.0)? * weight)?;
            turned = turned.broadcast_mul(&(factors + 1.0)?)?;
        }
        Ok((turned.reshape(base.dims())? - base)?)
    }

    /// The rotations of each stage's blocks, one after another, as far from the unit matrix as the
    /// weight says.
    fn rotations(&self, weight: f64) -> Result<Vec<Vec<f32>>> {
        let dims = self.blocks.dims();
        let size = dims.last().copied().unwrap_or(0);
        let per_block = (size * size).max(1);
        let numbers = self.blocks.flatten_all()?.to_vec1::<f32>()?;
        let mut skew = Vec::with_capacity(numbers.len());
        for block in numbers.chunks_exact(per_block) {
            for row in 0..size {
                for column in 0..size {
                    let difference = block[row * size + column] - block[column * size + row];
                    skew.push(f64::from(difference));
                }
            }
        }
        let length = skew
            .iter()
            .map(|number| number * number)
            .sum::<f64>()
            .sqrt()
            + 1e-8;
        if self.most > 0.0 && length > self.most {
            skew.iter_mut()
                .for_each(|number| *number *= self.most / length);
        }
        let rotate = |skew: &[f64]| {
            let rotation = cayley(skew, size)?.into_iter().enumerate();
            let towards = |(at, number): (usize, f64)| {
                let unit = f64::from(u8::from(at / size == at % size));
                (unit + weight * (number - unit)) as f32
            };
            Some(rotation.map(towards).collect::<Vec<f32>>())
        };
        let rotations: Option<Vec<Vec<f32>>> =
            skew.par_chunks_exact(per_block).map(rotate).collect();
        let Some(rotations) = rotations else {
            bail_shape!("a block of a rotation that cannot be solved for");
        };
        let stages = match (self.is_staged, dims) {
            (true, [stages, ..]) => *stages,
            _ => 1,
        };
        let per_stage = (rotations.len() / stages.max(1)).max(1);
        Ok(rotations.chunks(per_stage).map(<[_]>::concat).collect())
    }
}

/// Where the row that a stage puts at `row` lies. Runs of 2^(stage) · size rows are two halves of
/// which the stage takes one row each in turn.
fn butterfly(row: usize, stage: usize, size: usize) -> usize {
    let half = (size / 2) << stage;
    let (run, within) = (row / (2 * half), row % (2 * half));
    run * 2 * half + within % 2 * half + within / 2
}

/// Turns a matrix, (rows, columns), by blocks of its rows, (blocks, size, size).
fn turn(matrix: &Tensor, blocks: &Tensor) -> Result<Tensor> {
    let (count, size, _) = blocks.dims3()?;
    let (rows, columns) = matrix.dims2()?;
    let parts = matrix.reshape((count, size, columns))?;
    Ok(blocks.matmul(&parts)?.reshape((rows, columns))?)
}

/// The same for blocks of a stage, whose rows lie apart.
fn turn_butterfly(matrix: &Tensor, blocks: &Tensor, stage: usize) -> Result<Tensor> {
    let (rows, size) = (matrix.dim(0)?, blocks.dim(1)?);
    let mut places = vec![0u32; rows];
    let mut back = vec![0u32; rows];
    for (row, place) in places.iter_mut().enumerate() {
        let at = butterfly(row, stage, size);
        *place = at as u32;
        back[at] = row as u32;
    }
    let index = |rows: Vec<u32>| Tensor::new(rows, matrix.device());
    let turned = turn(&matrix.index_select(&index(places)?, 0)?, blocks)?;
    Ok(turned.index_select(&index(back)?, 0)?)
}

/// (1 + Q)(1 − Q)⁻¹ of a skew matrix Q, row by row; None when numbers are not finite. The two factors
/// commute, so that it is the solution R of (1 − Q) · R = 1 + Q. 1 − Q has an inverse: its numerical
/// range lies on the line of real part 1.
fn cayley(skew: &[f64], size: usize) -> Option<Vec<f64>> {
    let unit = |at: usize| f64::from(u8::from(at / size == at % size));
    let mut left: Vec<f64> = (0..size * size).map(|at| unit(at) - skew[at]).collect();
    let mut right: Vec<f64> = (0..size * size).map(|at| unit(at) + skew[at]).collect();
    for column in 0..size {
        let pivot = (column..size).max_by(|a, b| {
            let of = |row: &usize| left[row * size + column].abs();
            of(a).total_cmp(&of(b))
        })?;
        for at in 0..size {
            left.swap(column * size + at, pivot * size + at);
            right.swap(column * size + at, pivot * size + at);
        }
        let divisor = left[column * size + column];
        if divisor == 0.0 || !divisor.is_finite() {
            return None;
        }
        for at in 0..size {
            left[column * size + at] /= divisor;
            right[column * size + at] /= divisor;
        }
        for row in (0..size).filter(|row| *row != column) {
            let factor = left[row * size + column];
            for at in 0..size {
                left[row * size + at] -= factor * left[column * size + at];
                right[row * size + at] -= factor * right[column * size + at];
            }
        }
    }
    right
        .iter()
        .all(|number| number.is_finite())
        .then_some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_keeps_lengths_and_a_plane_turns_by_twice_the_arc() {
        // Q = [[0, -t], [t, 0]] turns by 2·atan(t).
        let t = 0.3f64;
        let rotation = cayley(&[0.0, -t, t, 0.0], 2).unwrap();
        let angle = 2.0 * t.atan();
        let expected = [angle.cos(), -angle.sin(), angle.sin(), angle.cos()];
        for (ours, theirs) in rotation.iter().zip(expected) {
            assert!((ours - theirs).abs() < 1e-12);
        }
    }

    #[test]
    fn a_stage_takes_each_row_once() {
        for stage in 0..3 {
            let mut places: Vec<usize> = (0..32).map(|row| butterfly(row, stage, 4)).collect();
            places.sort_unstable();
            assert_eq!(places, (0..32).collect::<Vec<_>>());
        }
        assert_eq!(butterfly(1, 0, 4), 2);
    }
}
