//! What a clip of Wan takes besides weights, estimated before it runs.

use super::WanParts;
use crate::WanVaeConfig;
use crate::memory::{SMALLEST_SIDE, tiles_waiting};

/// Rows of text and pictures that the blocks attend to, at most in practice.
const CONTEXT_ROWS: u64 = 512 + 514;

/// Bytes per stage of a clip, besides weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipEstimate {
    /// Peak of the denoiser.
    pub activations: u64,
    /// Peak of the decoder.
    pub decode: u64,
    /// Peak of the decoder in the smallest tiles; where that is more, of whole frames.
    pub tiled_decode: u64,
}

impl WanParts {
    /// What a run of a clip of this size needs besides weights, in activations of
    /// `bytes_per_number`: of all frames, and of those that the network sees at once. The decode
    /// grows with the size of a frame only.
    pub fn estimate(
        &self,
        (width, height): (u32, u32),
        (frames, seen): (u32, u32),
        bytes_per_number: u64,
    ) -> ClipEstimate {
        let scale = self.vae.scale() as u64;
        let (columns, rows) = (u64::from(width) / scale, u64::from(height) / scale);
        let time = self.vae.time_scale() as u64;
        let latent_frames = |frames: u32| u64::from(frames).saturating_sub(1) / time + 1;
        let latent = rows.saturating_mul(columns);
        let transformer = &self.transformer;
        let tokens =
            latent_frames(seen).saturating_mul(latent) / transformer.patch_len().max(1) as u64;
        // Stream, norm, queries, keys and values with their packed copies, attention, output; or
        // the inside of the feed-forward layer, twice.
        let hidden = transformer.hidden() as u64;
        let wide = (11 * hidden).max(3 * hidden + 2 * transformer.ffn_dim as u64);
        // Keys and values of two texts for every block.
        let context = (4 * CONTEXT_ROWS)
            .saturating_mul(hidden)
            .saturating_mul(transformer.layers as u64);
        let numbers = tokens.saturating_mul(wide).saturating_add(context);
        // Of a clip in windows the whole stays besides: what goes in, latents with what the sampler
        // remembers of them, and the blended answer, in f32.
        let whole = match seen < frames {
            true => latent_frames(frames).saturating_mul(latent).saturating_mul(
                (transformer.in_channels + 8 * self.vae.latent_channels) as u64 * 4,
            ),
            false => 0,
        };
        ClipEstimate {
            activations: numbers
                .saturating_mul(bytes_per_number)
                .saturating_add(whole)
                .saturating_add(64 << 20),
            decode: decode_bytes(&self.vae, latent, bytes_per_number),
            tiled_decode: self
                .tiled_decode((width, height), frames, SMALLEST_SIDE, bytes_per_number)
                .min(decode_bytes(&self.vae, latent, bytes_per_number)),
        }
    }

    /// What decoding takes in tiles of `side` pixels: one of them on its way, and what waits.
    pub fn tiled_decode(
        &self,
        (width, height): (u32, u32),
        frames: u32,
        side: u32,
        bytes_per_number: u64,
    ) -> u64 {
        let scale = (self.vae.scale() as u32).max(1);
        let latents = |length: u32| u64::from(side.min(length) / scale);
        let tile = latents(width).saturating_mul(latents(height));
        decode_bytes(&self.vae, tile, bytes_per_number).saturating_add(tiles_waiting(
            (width, height),
            frames,
            side,
        ))
    }
}

/// The decoder at its widest level: what is on its way of the frames of one latent frame, as it was
/// measured on the processor, and what every convolution remembers.
pub fn decode_bytes(vae: &WanVaeConfig, latents: u64, bytes_per_number: u64) -> u64 {
    let levels = vae.multipliers.len();
    let mut frames = 1u64;
    let (mut widest, mut remembered) = (0u64, 0u64);
    // Input, norm, padded and packed copies, results and sums of each frame; and, of residual
    // samplers, the way around.
    let copies = if vae.is_residual { 21 } else { 16 };
    for (i, factor) in vae.multipliers.iter().rev().enumerate() {
        let width = (factor * vae.decoder_base_dim) as u64;
        let pixels = latents.saturating_mul(1 << (2 * i));
        let row = pixels.saturating_mul(width);
        widest = widest.max(row.saturating_mul(copies * frames + 2));
        remembered =
            remembered.saturating_add(row.saturating_mul(4 * (vae.blocks_per_level as u64 + 1)));
        if i + 1 < levels && vae.halves_time[levels - 2 - i] {
            frames *= 2;
        }
    }
    widest
        .saturating_add(remembered)
        .saturating_mul(bytes_per_number)
        .saturating_add(32 << 20)
}
