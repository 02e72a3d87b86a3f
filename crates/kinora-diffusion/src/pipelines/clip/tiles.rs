//! Which tiles a clip's frames go through the VAE in, and frames from tiles.

use kinora_core::Stage;
use kinora_weights::memory::TILE_SIDES;

use crate::{
    Error, Result,
    pipelines::{RgbImage, RunLimits, RunWatch, picture},
    vae::{FinishedPart, TileSide},
};

/// What decides how a clip's frames go through the VAE.
pub(crate) struct TileChoice<'a> {
    /// The side of the tiles that are asked for, in pixels.
    pub asked: Option<u32>,
    /// Bytes for whole frames.
    pub whole: u64,
    /// Bytes for tiles of a side.
    pub tiled: &'a dyn Fn(u32) -> u64,
}

impl TileChoice<'_> {
    /// What is asked for; else what an earlier attempt decided, where that still fits; else whole
    /// frames or the largest tiles that fit.
    pub fn choose(&self, limits: RunLimits, earlier: Option<TileSide>) -> Result<TileSide> {
        if let Some(side) = self.asked {
            return Ok(TileSide::Of(side));
        }
        let fits = |tiles: &TileSide| match tiles {
            TileSide::Whole => self.whole <= limits.memory,
            TileSide::Of(side) => TILE_SIDES.contains(side) && (self.tiled)(*side) <= limits.memory,
        };
        // After memory ran out neither whole frames nor the larger tiles are trusted.
        let sides = match limits.is_frugal {
            true => &TILE_SIDES[2..],
            false => &TILE_SIDES[..],
        };
        let first = [earlier, Some(TileSide::Whole)];
        let first = first.into_iter().flatten().filter(|_| !limits.is_frugal);
        let tiles = sides.iter().map(|side| TileSide::Of(*side));
        let last = [TileSide::Whole];
        match first.chain(tiles).chain(last).find(fits) {
            Some(tiles) => Ok(tiles),
            None => Err(Error::OutOfMemory {
                needed: (self.tiled)(TILE_SIDES[TILE_SIDES.len() - 1]).min(self.whole),
                available: limits.memory,
            }),
        }
    }
}

/// Decodes a clip of frames in `size` (width, height) in tiles, and tells the frames. `decode` asks
/// its first argument whether to go on, with how many of `total` parts are done, and gives finished
/// parts to its second; it answers whether it came to the end, and so does this.
pub(crate) fn decode_in_tiles(
    job: usize,
    (frames, size): (u32, (u32, u32)),
    total: u32,
    watch: &mut dyn RunWatch,
    decode: impl FnOnce(
        &mut dyn FnMut(usize) -> bool,
        &mut dyn FnMut(FinishedPart<'_>) -> Result<()>,
    ) -> Result<bool>,
) -> Result<bool> {
    let mut canvas = picture::Canvas::new(frames, size.0, size.1);
    let mut go_on = |done: usize| {
        watch.stage(job, Stage::Decoding, done as u32, total);
        !watch.is_cancelled(job)
    };
    let mut put = |part: FinishedPart<'_>| canvas.put(part.frame, part.place, part.pixels);
    if !decode(&mut go_on, &mut put)? {
        return Ok(false);
    }
    let mut told = picture::Frames::new(job, frames);
    canvas
        .into_frames()
        .into_iter()
        .try_for_each(|frame: RgbImage| told.tell_ready(frame, watch))?;
    told.finish()?;
    watch.stage(job, Stage::Decoding, total, total);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_choice_stays_while_it_fits() {
        let tiled = |side: u32| u64::from(side);
        let choice = TileChoice {
            asked: None,
            whole: 1000,
            tiled: &tiled,
        };
        let choose = |memory, is_frugal, earlier| {
            let limits = RunLimits { memory, is_frugal };
            choice.choose(limits, earlier).ok()
        };
        use TileSide::{Of, Whole};
        assert_eq!(choose(1000, false, None), Some(Whole));
        assert_eq!(choose(999, false, None), Some(Of(768)));
        assert_eq!(choose(400, false, None), Some(Of(384)));
        assert_eq!(choose(100, false, None), None);
        // With more memory than before, or less.
        assert_eq!(choose(5000, false, Some(Of(384))), Some(Of(384)));
        assert_eq!(choose(600, false, Some(Of(384))), Some(Of(384)));
        assert_eq!(choose(300, false, Some(Of(384))), Some(Of(256)));
        assert_eq!(choose(600, false, Some(Whole)), Some(Of(512)));
        // A side that nobody chooses comes from elsewhere.
        assert_eq!(choose(5000, false, Some(Of(3))), Some(Whole));
        // After memory ran out, what was decided before is not trusted.
        assert_eq!(choose(5000, true, Some(Whole)), Some(Of(384)));
        assert_eq!(choose(5000, true, Some(Of(768))), Some(Of(384)));
        let asked = TileChoice {
            asked: Some(512),
            ..choice
        };
        assert_eq!(asked.choose(RunLimits::NONE, Some(Whole)).unwrap(), Of(512));
    }
}
