//! Clips in tiles: a frame is cut into overlapping squares, each of which goes through the network
//! alone, from the first frame to the last, and fades into its neighbours.
//!
//! What convolutions remember of the frames before is most of what decoding takes, and it is as
//! large as a frame. So one tile passes through time after another, and only its memory is there;
//! side by side, frame by frame, the memories of all tiles would be larger than that of the whole.
//! In return finished parts of all frames wait for the last tile: `put` gets them as they come.
//!
//! Places and fades are those of `AutoencoderKLWan.tiled_decode` and `tiled_encode` of the
//! diffusers library: tiles begin at multiples of the stride; over the rows that a tile shares with
//! the one above it the weight grows as 0, 1/n … (n − 1)/n, then the same over shared columns with
//! the tile to the left, whose own fades are done. Each tile keeps its first `stride` rows and
//! columns.

use candle_core::{DType, Tensor};

use super::WanVae;
use crate::{Error, Result, error::bail_shape, vae::patches::unfold_patches};

/// Square tiles, in latents along each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WanTiles {
    /// Latents of a tile.
    pub size: usize,
    /// Latents from one tile to the next, less than `size`.
    pub stride: usize,
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

impl WanTiles {
    /// Tiles of `pixels` along each side, `shared` of which neighbours share, for a VAE that makes
    /// `scale` pixels of a latent.
    pub fn of_pixels(pixels: usize, shared: usize, scale: usize) -> Self {
        let size = (pixels / scale.max(1)).max(2);
        let shared = (shared / scale.max(1)).clamp(1, size - 1);
        Self {
            size,
            stride: size - shared,
        }
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
        (0..total)
            .step_by(stride)
            .map(|start| {
                let len = self.size.min(total - start);
                Span {
                    start,
                    len,
                    kept: len.min(stride),
                }
            })
            .collect()
    }
}

impl WanVae {
    /// Decodes a clip tile by tile: (latent frames, channels, rows, columns) as the network gives
    /// them. Every part goes to `put` once. `go_on` is asked before each latent frame of each tile,
    /// with how many of all of them are done; the answer no ends the work, and then the result is
    /// no.
    pub fn decode_tiles(
        &self,
        latents: &Tensor,
        tiles: WanTiles,
        go_on: &mut dyn FnMut(usize) -> bool,
        put: &mut dyn FnMut(FinishedPart<'_>) -> Result<()>,
    ) -> Result<bool> {
        let (count, _, rows, columns) = latents.dims4()?;
        let (rows, columns) = (tiles.spans(rows), tiles.spans(columns));
        let (scale, patch) = (self.config.scale(), self.config.patch_size);
        // Where fades are counted: before the last step, which unfolds patches.
        let unit = scale / patch;
        let shared = (tiles.size - tiles.stride) * unit;
        let mut done = 0;
        // The last rows of the tiles above, by column and run of frames.
        let mut above: Vec<Vec<Tensor>> = Vec::new();
        for row in &rows {
            let mut below = Vec::with_capacity(columns.len());
            // The last columns of the tile to the left, by run of frames.
            let mut left: Vec<Tensor> = Vec::new();
            for (c, column) in columns.iter().enumerate() {
                let mut decoding = self.decoding();
                let (mut bottoms, mut rights) = (Vec::new(), Vec::new());
                let mut frame = 0;
                for run in 0..count {
                    if !go_on(done) {
                        return Ok(false);
                    }
                    let part = cut(&latents.narrow(0, run, 1)?, row, column)?;
                    let mut part = decoding.push_folded(&part)?.to_dtype(DType::F32)?;
                    if let Some(above) = above.get(c) {
                        part = fade(&above[run], &part, 2, shared)?;
                    }
                    if c > 0 {
                        part = fade(&left[run], &part, 3, shared)?;
                    }
                    bottoms.push(tail(&part, 2, shared)?);
                    rights.push(tail(&part, 3, shared)?);
                    let part =
                        part.narrow(2, 0, row.kept * unit)?
                            .narrow(3, 0, column.kept * unit)?;
                    let part = unfold_patches(&part, patch)?.clamp(-1f32, 1f32)?;
                    for i in 0..part.dim(0)? {
                        put(FinishedPart {
                            frame,
                            place: [row.start * scale, column.start * scale],
                            pixels: &part.get(i)?.contiguous()?,
                        })?;
                        frame += 1;
                    }
                    done += 1;
                }
                below.push(bottoms);
                left = rights;
            }
            above = below;
        }
        Ok(true)
    }

    /// Encodes a clip tile by tile: the mean latents of `runs` runs of frames, (latent frames,
    /// channels, rows, columns). `pixels` gives the frames of a run, (frames, 3, height, width),
    /// for a region of them: rows and columns, each as where it begins and how long it is, in
    /// pixels. None: `go_on`, asked before each run of each tile, said no.
    pub fn encode_tiles(
        &self,
        [rows, columns]: [usize; 2],
        runs: usize,
        tiles: WanTiles,
        go_on: &mut dyn FnMut() -> bool,
        pixels: &mut dyn FnMut(usize, [(usize, usize); 2]) -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        let scale = self.config.scale();
        let shared = tiles.size - tiles.stride;
        let region = |span: &Span| (span.start * scale, span.len * scale);
        let mut joined: Vec<Tensor> = Vec::new();
        let mut above: Vec<Tensor> = Vec::new();
        for row in tiles.spans(rows) {
            let mut line: Vec<Tensor> = Vec::new();
            let mut kept = Vec::new();
            for (c, column) in tiles.spans(columns).into_iter().enumerate() {
                let mut encoding = self.encoding();
                let mut part = Vec::with_capacity(runs);
                for run in 0..runs {
                    if !go_on() {
                        return Ok(None);
                    }
                    part.push(encoding.push(&pixels(run, [region(&row), region(&column)])?)?);
                }
                let mut part = Tensor::cat(&part, 0)?.to_dtype(DType::F32)?;
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
