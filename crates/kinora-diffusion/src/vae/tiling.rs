//! Decoding in overlapping tiles, so that memory does not grow with the picture.
//!
//! What looks at the whole picture (attention) has run before on the small features; only the
//! enlarging convolutions run tile by tile. Their group norms see a tile's own statistics, so that
//! neighbouring tiles differ a little; over the overlap each fades into the other, which leaves no
//! edge to see.

use std::{fmt, num::ParseIntError, str::FromStr};

use candle_core::{DType, Tensor};

use crate::{Error, Result, memory::SMALLEST_TILE};

/// How a result goes through its VAE, in few words: checkpoints say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileSide {
    /// Whole.
    Whole,
    /// In square tiles of this side: latents of a picture, pixels of a clip.
    Of(u32),
}

impl fmt::Display for TileSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("whole"),
            Self::Of(side) => side.fmt(f),
        }
    }
}

impl FromStr for TileSide {
    type Err = ParseIntError;

    fn from_str(text: &str) -> std::result::Result<Self, ParseIntError> {
        match text {
            "whole" => Ok(Self::Whole),
            side => side.parse().map(Self::Of),
        }
    }
}

/// How much is decoded at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiling {
    /// The whole picture.
    Whole,
    /// Tiles of at most `size` × `size` latents, of which at least `overlap` are shared with each
    /// neighbour.
    Tiles {
        /// Latents along each side.
        size: usize,
        /// Latents, less than `size`.
        overlap: usize,
    },
}

impl Tiling {
    /// Tiles of `size` latents with a quarter of overlap.
    pub fn of_size(size: usize) -> Self {
        let size = size.max(8);
        Self::Tiles {
            size,
            overlap: (size / 4).max(4),
        }
    }

    /// The whole picture of width × height latents if it fits into `memory` bytes, else the largest
    /// tiles that do. `is_frugal`: small ones, not the largest that an optimistic estimate allows.
    /// `needed` tells the bytes for width × height. What an `earlier` attempt decided stays where it
    /// fits, so that the picture is the same.
    pub fn choose(
        (width, height): (u64, u64),
        (memory, is_frugal): (u64, bool),
        earlier: Option<TileSide>,
        needed: impl Fn(u64, u64) -> u64,
    ) -> Result<Self> {
        let sizes = [128, 96, 64, 48, 32, SMALLEST_TILE];
        let of_size = |size: u64| needed(size.min(width), size.min(height));
        if let Some(TileSide::Of(size)) = earlier.filter(|_| !is_frugal)
            && sizes.contains(&u64::from(size))
            && of_size(size.into()) <= memory
        {
            return Ok(Self::of_size(size as usize));
        }
        if !is_frugal && needed(width, height) <= memory {
            return Ok(Self::Whole);
        }
        let sizes = if is_frugal { &sizes[3..] } else { &sizes[..] };
        match sizes.iter().find(|size| of_size(**size) <= memory) {
            Some(size) => Ok(Self::of_size(*size as usize)),
            None => Err(Error::OutOfMemory {
                needed: of_size(SMALLEST_TILE),
                available: memory,
            }),
        }
    }

    /// The same in few words.
    pub fn side(self) -> TileSide {
        match self {
            Self::Whole => TileSide::Whole,
            Self::Tiles { size, .. } => TileSide::Of(size as u32),
        }
    }

    /// Runs `decode` over (batch, channels, height, width) features; it enlarges by `scale`.
    pub(super) fn apply(
        self,
        features: &Tensor,
        scale: usize,
        decode: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (batch, _, height, width) = features.dims4()?;
        let Self::Tiles { size, overlap } = self else {
            return decode(features);
        };
        if height <= size && width <= size {
            return decode(features);
        }
        let rows = spans(height, size, overlap);
        let columns = spans(width, size, overlap);
        let mut canvas: Option<Canvas> = None;
        for (r, row) in rows.iter().enumerate() {
            for (c, column) in columns.iter().enumerate() {
                let tile = features
                    .narrow(2, row.start, row.len)?
                    .narrow(3, column.start, column.len)?
                    .contiguous()?;
                let tile = decode(&tile)?;
                let vertical = fades(&rows, r, scale);
                let horizontal = fades(&columns, c, scale);
                let channels = tile.dim(1)?;
                let canvas = canvas.get_or_insert_with(|| {
                    Canvas::new([batch, channels, height * scale, width * scale])
                });
                canvas.add(
                    &tile,
                    [row.start * scale, column.start * scale],
                    &vertical,
                    &horizontal,
                )?;
            }
        }
        match canvas {
            Some(canvas) => canvas.into_tensor(features),
            None => decode(features),
        }
    }
}

/// A run of latents along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: usize,
    len: usize,
}

/// Evenly placed runs of at most `size` that cover `total`; neighbours share at least `overlap`.
fn spans(total: usize, size: usize, overlap: usize) -> Vec<Span> {
    if total <= size {
        return vec![Span {
            start: 0,
            len: total,
        }];
    }
    let stride = size.saturating_sub(overlap).max(1);
    let count = (total - size).div_ceil(stride) + 1;
    (0..count)
        .map(|i| Span {
            start: i * (total - size) / (count - 1).max(1),
            len: size,
        })
        .collect()
}

/// The weight of each pixel line of span `i`: it rises linearly over the overlap with the span
/// before and falls over the one with the span after, so that weights add up to one.
fn fades(spans: &[Span], i: usize, scale: usize) -> Vec<f32> {
    let span = spans[i];
    let mut weights = vec![1f32; span.len * scale];
    if let Some(before) = i.checked_sub(1).map(|i| spans[i]) {
        let shared = (before.start + before.len).saturating_sub(span.start) * scale;
        for (k, weight) in weights.iter_mut().take(shared).enumerate() {
            *weight *= (k as f32 + 0.5) / shared as f32;
        }
    }
    if let Some(after) = spans.get(i + 1) {
        let shared = (span.start + span.len).saturating_sub(after.start) * scale;
        for (k, weight) in weights.iter_mut().rev().take(shared).enumerate() {
            *weight *= (k as f32 + 0.5) / shared as f32;
        }
    }
    weights
}

/// The picture that tiles are added to, with the sum of their weights.
struct Canvas {
    shape: [usize; 4],
    pixels: Vec<f32>,
    weights: Vec<f32>,
}

impl Canvas {
    fn new(shape: [usize; 4]) -> Self {
        Self {
            shape,
            pixels: vec![0.0; shape.iter().product()],
            weights: vec![0.0; shape[2] * shape[3]],
        }
    }

    fn add(
        &mut self,
        tile: &Tensor,
        [top, left]: [usize; 2],
        vertical: &[f32],
        horizontal: &[f32],
    ) -> Result<()> {
        let [_, _, height, width] = self.shape;
        let (_, _, tile_height, tile_width) = tile.dims4()?;
        let data = tile.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        for (plane, data) in data.chunks_exact(tile_height * tile_width).enumerate() {
            for (y, line) in data.chunks_exact(tile_width).enumerate() {
                let start = (plane * height + top + y) * width + left;
                let out = &mut self.pixels[start..start + tile_width];
                for ((out, value), fade) in out.iter_mut().zip(line).zip(horizontal) {
                    *out += value * fade * vertical[y];
                }
            }
        }
        for (y, down) in vertical.iter().enumerate() {
            let start = (top + y) * width + left;
            let out = &mut self.weights[start..start + tile_width];
            for (out, fade) in out.iter_mut().zip(horizontal) {
                *out += fade * down;
            }
        }
        Ok(())
    }

    fn into_tensor(mut self, like: &Tensor) -> Result<Tensor> {
        for plane in self.pixels.chunks_exact_mut(self.weights.len()) {
            for (value, weight) in plane.iter_mut().zip(&self.weights) {
                *value /= weight;
            }
        }
        let tensor = Tensor::from_vec(self.pixels, &self.shape, like.device())?;
        Ok(tensor.to_dtype(like.dtype())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{
        testing::{assert_close, wave},
        upsample_nearest,
    };

    #[test]
    fn spans_cover_everything_with_their_overlap() {
        for total in 1..200 {
            for (size, overlap) in [(8, 4), (17, 5), (64, 16)] {
                let spans = spans(total, size, overlap);
                assert_eq!(spans[0].start, 0);
                let last = spans[spans.len() - 1];
                assert_eq!(last.start + last.len, total);
                for pair in spans.windows(2) {
                    assert!(pair[1].start + overlap <= pair[0].start + pair[0].len);
                    assert!(pair[1].start > pair[0].start);
                }
            }
        }
    }

    #[test]
    fn what_was_decided_before_stays_while_it_fits() {
        let needed = |width, height| width * height;
        let choose = |memory, is_frugal, earlier| {
            Tiling::choose((160, 100), (memory, is_frugal), earlier, needed)
                .ok()
                .map(Tiling::side)
        };
        use TileSide::{Of, Whole};
        assert_eq!(choose(16_000, false, None), Some(Whole));
        assert_eq!(choose(15_999, false, None), Some(Of(128)));
        assert_eq!(choose(16_000, false, Some(Of(48))), Some(Of(48)));
        assert_eq!(choose(2000, false, Some(Of(48))), Some(Of(32)));
        assert_eq!(choose(2000, false, Some(Whole)), Some(Of(32)));
        // A size that nobody chooses comes from elsewhere.
        assert_eq!(choose(16_000, false, Some(Of(9))), Some(Whole));
        assert_eq!(choose(16_000, true, Some(Of(128))), Some(Of(48)));
        for side in [Whole, Of(512)] {
            assert_eq!(side.to_string().parse(), Ok(side));
        }
        assert!("wide".parse::<TileSide>().is_err());
    }

    #[test]
    fn tiles_of_a_local_operation_join_to_the_whole() {
        let x = wave(&[2, 3, 21, 30]);
        for tiling in [
            Tiling::Tiles {
                size: 8,
                overlap: 3,
            },
            Tiling::of_size(16),
            Tiling::Whole,
        ] {
            let joined = tiling.apply(&x, 2, upsample_nearest).unwrap();
            assert_close(&joined, &upsample_nearest(&x).unwrap(), 1e-6);
        }
    }
}
