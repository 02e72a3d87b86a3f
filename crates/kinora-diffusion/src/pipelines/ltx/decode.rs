//! From latents to frames: whole frames, or tiles where memory is short.

use std::time::Instant;

use kinora_core::Stage;
use kinora_weights::{
    ltx::{decode_bytes, tiled_decode},
    memory::TILE_SHARED,
};

use super::{LtxParams, LtxPipeline, run::Row};
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
const OWN_SIDE: u32 = 512;

impl LtxPipeline {
    /// How a clip's frames go through the VAE; `earlier` is what an earlier attempt decided.
    pub(super) fn choose_tiles(
        &self,
        params: &LtxParams,
        limits: RunLimits,
        earlier: Option<TileSide>,
    ) -> Result<TileSide> {
        let size = (params.width, params.height);
        let bytes = self.dtype.size_in_bytes() as u64;
        let choice = TileChoice {
            asked: params.vae_tiling.then_some(OWN_SIDE),
            whole: decode_bytes(&self.parts.vae, size, bytes),
            tiled: &|side| tiled_decode(&self.parts.vae, size, params.frames, side, bytes),
        };
        choice.choose(limits, earlier)
    }

    /// Tiles of that side; None where frames are no larger than one.
    pub(super) fn tiles(&self, params: &LtxParams, tiles: TileSide) -> Option<ClipTiles> {
        let TileSide::Of(side) = tiles else {
            return None;
        };
        let tiles = self.vae.tiles(side as usize, TILE_SHARED as usize);
        let [_, rows, columns] = self.token_grid(params);
        tiles.cuts(rows, columns).then_some(tiles)
    }

    /// One row's latents as frames, each frame told as soon as it is there.
    pub(super) fn decode(
        &self,
        row: &mut Row,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<()> {
        let job = row.state.job;
        let clock = Instant::now();
        let latents = row.keep_first(row.state.run.latents())?;
        picture::check("latents", &latents)?;
        row.state.keep_tiles(watch)?;
        let latents = self.decoder_input(&latents, row.params, &mut row.state.generator)?;
        let (count, _, height, width) = latents.dims4()?;
        if let Some(tiles) = self.tiles(row.params, row.state.tiles) {
            let total = (tiles.count(height, width) * count) as u32;
            let clip = (row.params.frames, (row.params.width, row.params.height));
            let noise = (row.params.decode_time, &mut row.state.generator);
            let is_done = decode_in_tiles(job, clip, total, watch, |go_on, put| {
                self.vae.decode_tiles(&latents, tiles, noise, go_on, put)
            })?;
            if is_done {
                timings[job].decoding_ms = milliseconds(clock);
            }
            return Ok(());
        }
        let generator = &mut row.state.generator;
        let mut decoding =
            (self.vae).decoding(row.params.decode_time, (height, width), generator)?;
        let mut told = picture::Frames::new(job, row.params.frames);
        for i in 0..count {
            watch.stage(job, Stage::Decoding, i as u32, count as u32);
            if watch.is_cancelled(job) {
                return Ok(());
            }
            let latents = latents.narrow(0, i, 1)?;
            decoding.push(&latents, i + 1 == count, &mut |run| told.tell(&run, watch))?;
        }
        told.finish()?;
        watch.stage(job, Stage::Decoding, count as u32, count as u32);
        timings[job].decoding_ms = milliseconds(clock);
        Ok(())
    }
}
