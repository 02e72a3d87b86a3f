//! From latents to frames: whole, or in tiles where memory is short.

use std::time::Instant;

use kinora_core::Stage;
use kinora_weights::memory::TILE_SHARED;

use super::{VideoParams, WanPipeline, condition::to_frames, run::Row};
use crate::{
    Result,
    pipelines::{
        JobTimings, RunLimits, RunWatch,
        clip::{TileChoice, decode_in_tiles},
        milliseconds, picture,
    },
    vae::{ClipTiles, TileSide},
};

/// The side of the reference's own tiles, in pixels.
const OWN_SIDE: u32 = 256;

impl WanPipeline {
    /// How a clip's frames go through the VAE; `earlier` is what an earlier attempt decided.
    pub(super) fn choose_tiles(
        &self,
        params: &VideoParams,
        limits: RunLimits,
        earlier: Option<TileSide>,
    ) -> Result<TileSide> {
        let size = (params.width, params.height);
        let bytes = self.dtype.size_in_bytes() as u64;
        let choice = TileChoice {
            asked: params.vae_tiling.then_some(OWN_SIDE),
            whole: self.parts.estimate(size, (params.frames, 1), bytes).decode,
            tiled: &|side| (self.parts).tiled_decode(size, params.frames, side, bytes),
        };
        choice.choose(limits, earlier)
    }

    /// Tiles of that side; None where frames are no larger than one.
    pub(super) fn tiles(&self, params: &VideoParams, tiles: TileSide) -> Option<ClipTiles> {
        let TileSide::Of(side) = tiles else {
            return None;
        };
        let scale = self.parts.vae.scale();
        let tiles = ClipTiles::of_pixels(side as usize, TILE_SHARED as usize, scale);
        let [_, rows, columns] = self.latent_grid(params);
        tiles.cuts(rows, columns).then_some(tiles)
    }

    /// One row's latents as frames, each told as soon as it is there.
    pub(super) fn decode(
        &self,
        row: &mut Row,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<()> {
        let job = row.state.job;
        let clock = Instant::now();
        let latents = row.condition.keep_first(row.state.run.latents())?;
        picture::check("latents", &latents)?;
        row.state.keep_tiles(watch)?;
        let latents = self
            .vae
            .unscale(&to_frames(&latents)?)?
            .to_dtype(self.dtype)?;
        let (count, frames) = (latents.dim(0)?, row.params.frames);
        if let Some(tiles) = self.tiles(row.params, row.state.tiles) {
            let (_, _, rows, columns) = latents.dims4()?;
            let total = (tiles.count(rows, columns) * count) as u32;
            let clip = (frames, (row.params.width, row.params.height));
            let is_done = decode_in_tiles(job, clip, total, watch, |go_on, put| {
                self.vae.decode_tiles(&latents, tiles, go_on, put)
            })?;
            if is_done {
                timings[job].decoding_ms = milliseconds(clock);
            }
            return Ok(());
        }
        let mut told = picture::Frames::new(job, frames);
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
