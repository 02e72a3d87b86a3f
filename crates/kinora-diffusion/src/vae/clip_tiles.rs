//! Clips in tiles: a frame is cut into overlapping squares, each of which goes through the network
//! alone, from the first frame to the last, and fades into its neighbours.
//!
//! What convolutions remember of the frames before is most of what decoding takes, and it is as
//! large as a frame. So one tile passes through time after another, and only its memory is there;
//! side by side, frame by frame, the memories of all tiles would be larger than that of the whole.
//! In return finished parts of all frames wait for the last tile: `put` gets them as they come.
//!
//! Places and fades are those of `tiled_decode` and `tiled_encode` of the video autoencoders of the
//! diffusers library (`AutoencoderKLWan`, `AutoencoderKLLTXVideo`, `AutoencoderKLLTX2Video`): tiles
//! begin at multiples of the stride; over the rows that a tile shares with the one above it the
//! weight grows as 0, 1/n … (n − 1)/n, then the same over shared columns with the tile to the left,
//! whose own fades are done. Each tile keeps its first `stride` rows and columns.

use std::collections::VecDeque;

use candle_core::{DType, Tensor};

use crate::{Error, Result, error::bail_shape};

/// Square tiles, in latents along each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipTiles {
    /// Latents of a tile.
    pub size: usize,
    /// Latents from one tile to the next, less than `size`.
    pub stride: usize,
    /// Fewer latents than these at an end are left to the tile before, which has them too: 2 where
    /// edges are padded with what lies behind them, which a single row does not have; else 1.
    pub least: usize,
}

/// A part of a frame that is finished: where it lies, and its pixels.
#[derive(Debug)]
pub struct FinishedPart<'a> {
    /// The frame.
    pub frame: usize,
    /// First row and column, in pixels.
    pub place: [usize; 2],
    /// (3, height, width) in −1 to 1, f32
    pub pixels: &'a Tensor,
}

/// A run of latents along one axis: where it begins, how long it is, and how much of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: usize,
    len: usize,
    kept: usize,
}

impl ClipTiles {
    /// Tiles of `pixels` along each side, `shared` of which neighbours share, for a VAE that makes
    /// `scale` pixels of a latent.
    pub fn of_pixels(pixels: usize, shared: usize, scale: usize) -> Self {
        let size = (pixels / scale.max(1)).max(2);
        let shared = (shared / scale.max(1)).clamp(1, size - 1);
        Self {
            size,
            stride: size - shared,
            least: 1,
        }
    }

    /// Latents that neighbours share.
    fn shared(self) -> usize {
        self.size.saturating_sub(self.stride)
    }

    /// Whether a frame of so many rows and columns of latents is more than one tile.
    pub fn cuts(self, rows: usize, columns: usize) -> bool {
        rows > self.size || columns > self.size
    }

    /// How many tiles such a frame has.
    pub fn count(self, rows: usize, columns: usize) -> usize {
        match self.cuts(rows, columns) {
            true => self.spans(rows).len() * self.spans(columns).len(),
            false => 1,
        }
    }

    fn spans(self, total: usize) -> Vec<Span> {
        let stride = self.stride.clamp(1, self.size.max(1));
        // What is left out is no more than neighbours share.
        let least = self.least.clamp(1, self.shared() + 1);
        let starts = (0..total).step_by(stride);
        let starts: Vec<usize> = starts
            .filter(|start| *start == 0 || total - start >= least)
            .collect();
        let last = starts.len().saturating_sub(1);
        (0..)
            .zip(starts)
            .map(|(i, start)| {
                let len = self.size.min(total - start);
                Span {
                    start,
                    len,
                    kept: if i == last { len } else { len.min(stride) },
                }
            })
            .collect()
    }
}

/// What a network's pixels and latents have to do with each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales {
    /// Pixels along each side of a latent.
    pub pixels: usize,
    /// Of what the network itself gives, where fades are counted: before patches become pixels.
    pub unit: usize,
}

/// A decoder of clips that goes through one tile after another.
pub(super) trait TileDecoder {
    /// Begins a tile of so many rows and columns of latents.
    fn begin(&mut self, size: (usize, usize)) -> Result<()>;

    /// Tells the frames that the next latent frame brings out, (frames, channels, rows, columns):
    /// for every tile in the same runs.
    fn push(
        &mut self,
        latents: &Tensor,
        is_last: bool,
        tell: &mut dyn FnMut(Tensor) -> Result<()>,
    ) -> Result<()>;
}

/// Decodes a clip tile by tile: (latent frames, channels, rows, columns) as the network takes them.
/// `finish` makes pixels of what the network gives once it is joined. Every part goes to `put`
/// once. `go_on` is asked before each latent frame of each tile, with how many of all of them are
/// done; the answer no ends the work, and then the result is no.
pub(super) fn decode(
    decoder: &mut dyn TileDecoder,
    latents: &Tensor,
    (tiles, scales): (ClipTiles, Scales),
    finish: &dyn Fn(&Tensor) -> Result<Tensor>,
    go_on: &mut dyn FnMut(usize) -> bool,
    put: &mut dyn FnMut(FinishedPart<'_>) -> Result<()>,
) -> Result<bool> {
    let (count, _, rows, columns) = latents.dims4()?;
    let (rows, columns) = (tiles.spans(rows), tiles.spans(columns));
    let shared = tiles.shared() * scales.unit;
    let mut done = 0;
    // The last rows of the tiles above, by column and run of frames. Edges go as they are used:
    // there are as many of them as frames.
    let mut above: Vec<VecDeque<Tensor>> = Vec::new();
    for (r, row) in rows.iter().enumerate() {
        let mut below = Vec::with_capacity(columns.len());
        // The last columns of the tile to the left, by run of frames.
        let mut left: VecDeque<Tensor> = VecDeque::new();
        for (c, column) in columns.iter().enumerate() {
            decoder.begin((row.len, column.len))?;
            let (mut bottoms, mut rights) = (VecDeque::new(), VecDeque::new());
            let (has_below, has_right) = (r + 1 < rows.len(), c + 1 < columns.len());
            let mut frame = 0;
            let mut join = |part: Tensor| -> Result<()> {
                let mut part = part.to_dtype(DType::F32)?;
                if let Some(above) = above.get_mut(c).and_then(VecDeque::pop_front) {
                    part = fade(&above, &part, 2, shared)?;
                }
                if let Some(left) = left.pop_front() {
                    part = fade(&left, &part, 3, shared)?;
                }
                if has_below {
                    bottoms.push_back(tail(&part, 2, shared)?);
                }
                if has_right {
                    rights.push_back(tail(&part, 3, shared)?);
                }
                let part = part.narrow(2, 0, row.kept * scales.unit)?.narrow(
                    3,
                    0,
                    column.kept * scales.unit,
                )?;
                let part = finish(&part)?;
                for i in 0..part.dim(0)? {
                    put(FinishedPart {
                        frame,
                        place: [row.start, column.start].map(|start| start * scales.pixels),
                        pixels: &part.get(i)?.contiguous()?,
                    })?;
                    frame += 1;
                }
                Ok(())
            };
            for i in 0..count {
                if !go_on(done) {
                    return Ok(false);
                }
                let part = cut(&latents.narrow(0, i, 1)?, row, column)?;
                decoder.push(&part, i + 1 == count, &mut join)?;
                done += 1;
            }
            below.push(bottoms);
            left = rights;
        }
        above = below;
    }
    Ok(true)
}

/// Where pixels of a frame lie: rows and columns, each as where they begin and how many they are.
pub type Region = [(usize, usize); 2];

/// Encodes a clip tile by tile: (latent frames, channels, rows, columns), f32, for a frame of so
/// many rows and columns of latents. `encode` makes the latents of the whole clip in a region of
/// its frames; None from it ends the work, and then the result is none.
pub(super) fn encode(
    [rows, columns]: [usize; 2],
    (tiles, scales): (ClipTiles, Scales),
    encode: &mut dyn FnMut(Region) -> Result<Option<Tensor>>,
) -> Result<Option<Tensor>> {
    let shared = tiles.shared();
    let region = |span: &Span| (span.start * scales.pixels, span.len * scales.pixels);
    let mut joined: Vec<Tensor> = Vec::new();
    let mut above: Vec<Tensor> = Vec::new();
    for row in tiles.spans(rows) {
        let mut line: Vec<Tensor> = Vec::new();
        let mut kept = Vec::new();
        for (c, column) in tiles.spans(columns).into_iter().enumerate() {
            let Some(part) = encode([region(&row), region(&column)])? else {
                return Ok(None);
            };
            let mut part = part.to_dtype(DType::F32)?;
            if let Some(above) = above.get(c) {
                part = fade(&tail(above, 2, shared)?, &part, 2, shared)?;
            }
            if let Some(left) = line.last() {
                part = fade(&tail(left, 3, shared)?, &part, 3, shared)?;
            }
            kept.push(part.narrow(2, 0, row.kept)?.narrow(3, 0, column.kept)?);
            line.push(part);
        }
        joined.push(Tensor::cat(&kept, 3)?);
        above = line;
    }
    if joined.is_empty() {
        return Err(Error::BadRequest("a frame without pixels".to_owned()));
    }
    Ok(Some(Tensor::cat(&joined, 2)?))
}

fn cut(latents: &Tensor, row: &Span, column: &Span) -> Result<Tensor> {
    let part = latents.narrow(2, row.start, row.len)?;
    Ok(part.narrow(3, column.start, column.len)?.contiguous()?)
}

/// The last lines along a dimension, at most `count`.
fn tail(x: &Tensor, dim: usize, count: usize) -> Result<Tensor> {
    let len = x.dim(dim)?;
    let count = count.min(len);
    // A copy: the tile itself must go.
    Ok(x.narrow(dim, len - count, count)?.force_contiguous()?)
}

/// The first lines of `x` as they come out of the last ones of `before`: the weight of line y of n
/// is y/n. Where either has fewer lines than are shared, n is that many.
fn fade(before: &Tensor, x: &Tensor, dim: usize, shared: usize) -> Result<Tensor> {
    let len = x.dim(dim)?;
    let n = shared.min(before.dim(dim)?).min(len);
    if n == 0 {
        return Ok(x.clone());
    }
    if dim > 3 || before.rank() != 4 {
        bail_shape!("a fade of {:?}", before.dims());
    }
    let mut shape = [1; 4];
    shape[dim] = n;
    let weights = |of: &dyn Fn(f64) -> f64| -> Result<Tensor> {
        let weights: Vec<f32> = (0..n).map(|y| of(y as f64 / n as f64) as f32).collect();
        Ok(Tensor::from_vec(weights, &shape[..], x.device())?)
    };
    let before = tail(before, dim, n)?.broadcast_mul(&weights(&|w| 1.0 - w)?)?;
    let after = x.narrow(dim, 0, n)?.broadcast_mul(&weights(&|w| w)?)?;
    let faded = (before + after)?;
    if n == len {
        return Ok(faded);
    }
    Ok(Tensor::cat(
        &[&faded, &x.narrow(dim, n, len - n)?.contiguous()?],
        dim,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latent_is_kept_by_one_tile() {
        for least in [1, 2] {
            for total in 1..80 {
                for (size, stride) in [(4, 3), (16, 14), (8, 6), (5, 5)] {
                    let tiles = ClipTiles {
                        size,
                        stride,
                        least,
                    };
                    let spans = tiles.spans(total);
                    let mut next = 0;
                    for span in &spans {
                        assert_eq!(span.start, next, "{total} {tiles:?}");
                        assert!(span.kept <= span.len && span.len <= size);
                        next += span.kept;
                    }
                    assert_eq!(next, total, "{tiles:?}");
                    let shortest = spans.iter().map(|span| span.len).min();
                    let bound = least.min(size - stride + 1).min(total);
                    assert!(shortest >= Some(bound), "{total} {tiles:?}");
                }
            }
        }
    }
}
