//! `attention_*.cu`: attention on tensor cores that keeps no scores.

use candle_core::{DType, Shape, Tensor};

use super::{Argument, Call, Launch, applies, suffix};
use crate::Result;

/// Blocks along y and z at most.
const MOST_BLOCKS: usize = 65_535;

/// What one kernel makes; equal to the lists in `kernels/attention_*.cu`.
#[derive(Clone, Copy, Debug)]
struct Tiles {
    /// Widest head that it takes; narrower ones are filled with zeros.
    size: usize,
    /// Columns of the values that a block makes.
    values: usize,
    /// Queries of a warp.
    warp_queries: usize,
    warps: usize,
    /// Keys that a block meets at a time.
    keys: usize,
}

const fn tiles(size: usize, values: usize, rows: usize, warps: usize, keys: usize) -> Tiles {
    Tiles {
        size,
        values,
        warp_queries: rows * 16,
        warps,
        keys,
    }
}

/// For bf16 and f16.
const HALVES: [Tiles; 8] = [
    tiles(48, 48, 2, 4, 64),
    tiles(64, 64, 2, 4, 64),
    tiles(80, 80, 2, 4, 64),
    tiles(96, 96, 2, 4, 32),
    tiles(128, 128, 2, 4, 32),
    tiles(160, 160, 1, 4, 32),
    tiles(256, 256, 1, 4, 32),
    tiles(512, 256, 1, 4, 16),
];

/// For f32, of which every number is two in shared memory.
const FULL: [Tiles; 8] = [
    tiles(48, 48, 1, 4, 32),
    tiles(64, 64, 1, 4, 32),
    tiles(80, 80, 1, 4, 32),
    tiles(96, 96, 1, 4, 32),
    tiles(128, 128, 1, 4, 32),
    tiles(160, 160, 1, 4, 32),
    tiles(256, 256, 1, 4, 16),
    tiles(512, 256, 1, 1, 16),
];

impl Tiles {
    /// The narrowest that take heads of this size.
    fn of(size: usize, dtype: DType) -> Option<Self> {
        let all = if dtype == DType::F32 { FULL } else { HALVES };
        all.into_iter().find(|tiles| size <= tiles.size)
    }

    fn queries(self) -> usize {
        self.warp_queries * self.warps
    }

    /// Shared memory of a block.
    fn bytes(self, dtype: DType) -> usize {
        let parts = if dtype == DType::F32 { 2 } else { 1 };
        let (wide, narrow) = (row_bytes(self.size), row_bytes(self.values));
        parts * ((self.queries() + self.keys) * wide + self.keys * narrow)
    }
}

/// Bytes from one row of 16-bit numbers to the next (`Rows` in tiles.cuh).
fn row_bytes(columns: usize) -> usize {
    let pieces = columns / 8;
    match pieces % 8 {
        0 => pieces * 16,
        _ => (pieces | 1) * 16,
    }
}

/// An attention whose shapes fit together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention<'a> {
    /// (batch, queries, heads, size)
    pub q: &'a Tensor,
    /// (batch, keys, heads, size)
    pub k: &'a Tensor,
    /// (batch, keys, heads, size)
    pub v: &'a Tensor,
    /// Factor of the scores.
    pub scale: f32,
    /// (1 or batch, 1 or heads, 1 or queries, keys)
    pub bias: Option<&'a Tensor>,
    /// Whether query i sees only keys up to i.
    pub is_causal: bool,
}

impl Attention<'_> {
    /// Whether a kernel computes it.
    pub fn applies(&self) -> bool {
        let Self { q, k, v, .. } = *self;
        let (&[batch, _, heads, size], &[_, _, _, value_size]) = (q.dims(), v.dims()) else {
            return false;
        };
        let dtype = q.dtype();
        let (Some(_), Some(tiles)) = (suffix(dtype), Tiles::of(size, dtype)) else {
            return false;
        };
        let is_dense = |x: &&Tensor| x.dtype() == dtype && (size == 1 || x.stride()[3] == 1);
        applies(&[q, k, v])
            && [q, k, v].iter().all(is_dense)
            && value_size == size
            && q.elem_count() > 0
            && k.elem_count() > 0
            && batch <= MOST_BLOCKS
            && heads * (tiles.size / tiles.values) <= MOST_BLOCKS
    }

    /// → (batch, queries, heads, size); None where no kernel applies.
    pub fn run(&self) -> Result<Option<Tensor>> {
        let Self { q, k, v, .. } = *self;
        let (batch, queries, heads, size) = q.dims4()?;
        let dtype = q.dtype();
        let (true, Some(suffix), Some(tiles)) =
            (self.applies(), suffix(dtype), Tiles::of(size, dtype))
        else {
            return Ok(None);
        };
        let bias = match self.bias {
            Some(bias) => {
                let bias = bias.to_device(q.device())?.to_dtype(DType::F32)?;
                Some(bias.contiguous()?)
            }
            None => None,
        };
        let is_aligned = [q, k, v].into_iter().all(is_aligned);
        let mut arguments = vec![
            Argument::In(q),
            Argument::In(k),
            Argument::In(v),
            Argument::Out(0),
            // Read only where there is one.
            Argument::In(bias.as_ref().unwrap_or(q)),
        ];
        for x in [q, k, v] {
            arguments.extend(x.stride()[..3].iter().map(|stride| Argument::long(*stride)));
        }
        for dim in 0..3 {
            arguments.push(Argument::long(match &bias {
                Some(bias) if bias.dim(dim)? > 1 => bias.stride()[dim],
                _ => 0,
            }));
        }
        arguments.extend([
            Argument::size(queries)?,
            Argument::size(k.dim(1)?)?,
            Argument::size(heads)?,
            Argument::size(size)?,
            Argument::Float(self.scale),
            Argument::flag(self.is_causal),
            Argument::flag(bias.is_some()),
            Argument::flag(is_aligned),
        ]);
        let blocks = [
            queries.div_ceil(tiles.queries()),
            heads * (tiles.size / tiles.values),
            batch,
        ];
        let call = Call {
            source: match dtype {
                DType::BF16 => "attention_bf16",
                DType::F16 => "attention_f16",
                _ => "attention_f32",
            },
            outputs: vec![(dtype, Shape::from((batch, queries, heads, size)))],
            launches: vec![Launch {
                entry: format!("attention_{suffix}_{}", tiles.size),
                grid: blocks.map(|count| count as u32),
                block: [tiles.warps as u32 * 32, 1, 1],
                shared_bytes: tiles.bytes(dtype) as u32,
                arguments,
            }],
        };
        Ok(Some(call.run_for_one()?))
    }
}

/// Whether each row starts at a multiple of 16 bytes and is one long: memory itself starts so.
fn is_aligned(x: &Tensor) -> bool {
    let bytes = x.dtype().size_in_bytes();
    let rows = x.dims().iter().zip(x.stride()).take(3);
    let is_whole = |numbers: usize| (numbers * bytes).is_multiple_of(16);
    is_whole(x.layout().start_offset())
        && x.dims().last().is_some_and(|size| is_whole(*size))
        && rows
            .filter(|(count, _)| **count > 1)
            .all(|(_, stride)| is_whole(*stride))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_fits_where_shared_memory_is_shortest() {
        // Compute capabilities 8.6, 8.9, 12.0 and 12.1.
        const LEAST: usize = 99 * 1024;
        for (all, dtype) in [(HALVES, DType::BF16), (FULL, DType::F32)] {
            for tiles in all {
                assert!(tiles.bytes(dtype) <= LEAST, "{tiles:?}");
            }
        }
    }
}
