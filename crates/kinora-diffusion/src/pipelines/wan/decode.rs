//! From latents to frames: whole, or in tiles where memory is short.

use std::time::Instant;

use kinora_core::Stage;
use kinora_weights::wan::{TILE_SHARED, TILE_SIDES};

use super::{VideoParams, WanPipeline, condition::to_frames, milliseconds, run::Row};
use crate::{
    Error, Result,
    pipelines::{JobTimings, RunLimits, RunWatch, picture},
    vae::WanTiles,
};

impl WanPipeline {
    /// The tiles that a clip's frames go through the VAE in. None: they go whole, which they do where
    /// nothing else is asked and memory is enough, or where they are no larger than a tile.
    pub(super) fn tiles(
        &self,
        params: &VideoParams,
        limits: RunLimits,
    ) -> Result<Option<WanTiles>> {
        let size = (params.width, params.height);
        let bytes = self.dtype.size_in_bytes() as u64;
        let needed = |side| {
            let parts = &self.parts;
            parts.tiled_decode(size, params.frames, side, bytes)
        };
        let estimate = self.parts.estimate(size, (params.frames, 1), bytes);
        let smallest = TILE_SIDES[TILE_SIDES.len() - 1];
        let side = if params.vae_tiling {
            // The reference's own.
            smallest
        } else if !limits.is_frugal && estimate.decode <= limits.memory {
            return Ok(None);
        } else {
            // After memory ran out the larger ones are not trusted.
            let sides = if limits.is_frugal {
                &TILE_SIDES[2..]
            } else {
                &TILE_SIDES[..]
            };
            match sides.iter().find(|side| needed(**side) <= limits.memory) {
                Some(side) => *side,
                None if estimate.decode <= limits.memory => return Ok(None),
                None => {
                    return Err(Error::OutOfMemory {
                        needed: needed(smallest).min(estimate.decode),
                        available: limits.memory,
                    });
                }
            }
        };
        let scale = self.parts.vae.scale();
        let tiles = WanTiles::of_pixels(side as usize, TILE_SHARED as usize, scale);
        let [_, rows, columns] = self.latent_grid(params);
        Ok(tiles.cuts(rows, columns).then_some(tiles))
    }

    /// One row's latents as frames, each told as soon as it is there.
    pub(super) fn decode(
        &self,
        row: &Row,
        limits: RunLimits,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<()> {
        let job = row.job;
        let clock = Instant::now();
        let latents = row.condition.keep_first(row.run.latents())?;
        picture::check("latents", &latents)?;
        let latents = self
            .vae
            .unscale(&to_frames(&latents)?)?
            .to_dtype(self.dtype)?;
        let (count, frames) = (latents.dim(0)?, row.params.frames);
        let mut told = picture::Frames::new(job, frames);
        if let Some(tiles) = self.tiles(row.params, limits)? {
            let (_, _, rows, columns) = latents.dims4()?;
            let total = (tiles.count(rows, columns) * count) as u32;
            let (width, height) = (row.params.width, row.params.height);
            let mut canvas = picture::Canvas::new(frames, width, height);
            let is_done = self.vae.decode_tiles(
                &latents,
                tiles,
                &mut |done| {
                    watch.stage(job, Stage::Decoding, done as u32, total);
                    !watch.is_cancelled(job)
                },
                &mut |part| canvas.put(part.frame, part.place, part.pixels),
            )?;
            if !is_done {
                return Ok(());
            }
            for frame in canvas.into_frames() {
                told.tell_ready(frame, watch)?;
            }
            told.finish()?;
            watch.stage(job, Stage::Decoding, total, total);
            timings[job].decoding_ms = milliseconds(clock);
            return Ok(());
        }
        let mut decoding = self.vae.decoding();
        for i in 0..count {
            watch.stage(job, Stage::Decoding, i as u32, count as u32);
            if watch.is_cancelled(job) {
                return Ok(());
            }
            told.tell(&decoding.push(&latents.narrow(0, i, 1)?)?, watch)?;
        }
        told.finish()?;
        watch.stage(job, Stage::Decoding, count as u32, count as u32);
        timings[job].decoding_ms = milliseconds(clock);
        Ok(())
    }
}
