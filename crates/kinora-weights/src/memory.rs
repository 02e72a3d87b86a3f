//! What a run of a model needs in memory, from the sizes of its networks. The application asks
//! before it queues a plan, the engine before it runs one, and both get the same numbers.
//!
//! Estimates are of the peak of each stage and lean to the safe side; nothing is measured here.

use crate::{Component, FluxParts, ModelLayout, Parts, SdParts, UnetConfig, VaeConfig};

/// Bytes per stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Weights of all networks, in memory.
    pub weights: u64,
    /// Peak of text encoders and denoiser besides weights.
    pub activations: u64,
    /// Peak of decoding one whole picture besides weights.
    pub decode: u64,
    /// Peak of decoding one picture in the smallest tiles.
    pub tiled_decode: u64,
}

impl Estimate {
    /// The least that one picture can be made with.
    pub fn minimum(&self) -> u64 {
        self.weights
            .saturating_add(self.activations.max(self.tiled_decode))
    }
}

/// The smallest tile of a decode, in latents along each side.
pub const SMALLEST_TILE: u64 = 24;

/// Sides of the tiles that a clip's frames are decoded in, in pixels, the largest first; neighbours
/// share [`TILE_SHARED`].
pub const TILE_SIDES: [u32; 4] = [768, 512, 384, SMALLEST_SIDE];
/// The smallest of them.
pub const SMALLEST_SIDE: u32 = 256;
/// Pixels along an axis that neighbouring tiles of a clip share.
pub const TILE_SHARED: u32 = 64;

/// Bytes that wait while a clip of this size is decoded in tiles of `side` pixels, one after another
/// from the first frame to the last: every frame in 8 bits until its last tile is done, and the edges
/// that the next tiles fade from.
pub fn tiles_waiting((width, height): (u32, u32), frames: u32, side: u32) -> u64 {
    let (width, height) = (u64::from(width), u64::from(height));
    // Of a row of tiles, which share columns, and of a tile; f32.
    let edges = (3 * width / 2 + u64::from(side)).saturating_mul(u64::from(TILE_SHARED) * 3 * 4);
    let each_frame = (3 * width).saturating_mul(height).saturating_add(edges);
    each_frame.saturating_mul(frames.into())
}

/// A run: `batch` pictures at a time of width × height pixels with `text_tokens` tokens (of T5, where
/// there is one), in activations of `bytes_per_number`.
pub fn estimate(
    layout: &ModelLayout,
    (width, height): (u32, u32),
    text_tokens: usize,
    batch: usize,
    bytes_per_number: u64,
) -> Estimate {
    // Large matrices stay as stored. Small ones are widened to f32 and kept packed besides: eight
    // bytes for two.
    let weights = Component::ALL
        .iter()
        .map(|component| {
            let (bytes, elements) = (layout.bytes_of(*component), layout.elements_of(*component));
            match component {
                Component::Vae => elements.saturating_mul(bytes_per_number),
                _ => bytes.saturating_add(elements.min(WIDENED_AT_MOST).saturating_mul(6)),
            }
        })
        .fold(0, u64::saturating_add);
    let vae = layout.parts.vae();
    let scale = vae.scale() as u64;
    let (columns, rows) = (u64::from(width) / scale, u64::from(height) / scale);
    let tile = (SMALLEST_TILE.min(columns), SMALLEST_TILE.min(rows));
    let canvas = (u64::from(width) * u64::from(height)).saturating_mul(3 * 4 * 2);
    Estimate {
        weights,
        activations: match &layout.parts {
            Parts::Flux(parts) => activations(
                parts,
                columns * rows / 4,
                text_tokens,
                batch,
                bytes_per_number,
            ),
            // Two rows for each picture: with the prompt and without it.
            Parts::Sd(parts) => {
                unet_activations(parts, (columns, rows), 1, 2 * batch, bytes_per_number)
            }
        },
        decode: decode(vae, (columns, rows), bytes_per_number),
        tiled_decode: decode(vae, tile, bytes_per_number).saturating_add(canvas),
    }
}

/// Numbers that are widened when they are loaded because their matrices are small.
const WIDENED_AT_MOST: u64 = 1 << 26;

/// Text encoders and denoiser at their widest: the feed-forward layers.
pub fn activations(
    parts: &FluxParts,
    picture_tokens: u64,
    text_tokens: usize,
    batch: usize,
    bytes_per_number: u64,
) -> u64 {
    // Of pictures that the new one shall be like: their tokens stand behind the text.
    let vision = parts.redux.as_ref().map(|redux| &redux.vision);
    let seen = vision.map_or(0, |vision| vision.tokens() as u64);
    let tokens = picture_tokens
        .saturating_add(text_tokens as u64)
        .saturating_add(seen);
    // Wide rows of a single block (3 + 4 hidden sizes), its joined rows (5), stream, norm, q, k,
    // attention, output.
    let denoiser = tokens.saturating_mul(20 * parts.transformer.hidden() as u64);
    let t5 = (text_tokens as u64)
        .saturating_mul(4 * parts.t5.intermediate as u64 + 8 * parts.t5.hidden as u64)
        .saturating_add(
            (text_tokens as u64)
                .saturating_pow(2)
                .saturating_mul(2 * parts.t5.heads as u64),
        );
    let siglip = vision.map_or(0, |vision| {
        let wide = 2 * vision.intermediate + 8 * vision.hidden;
        let rows = seen.saturating_mul(wide as u64);
        rows.saturating_add(seen.saturating_pow(2).saturating_mul(vision.heads as u64))
    });
    denoiser
        .saturating_mul(batch as u64)
        .max(t5)
        .max(siglip)
        .saturating_mul(bytes_per_number)
        .saturating_add(64 << 20)
}

/// Tokens of one chunk of a prompt for CLIP.
pub const CHUNK: u64 = 77;

/// Stable Diffusion's denoiser on `rows_at_once` rows of columns × rows latents, with prompts of
/// `chunks` chunks, and its text encoders.
pub fn unet_activations(
    parts: &SdParts,
    (columns, rows): (u64, u64),
    chunks: usize,
    rows_at_once: usize,
    bytes_per_number: u64,
) -> u64 {
    let unet = &parts.unet;
    let widths = &unet.block_out_channels;
    let pixels = |level: usize| (columns.saturating_mul(rows) >> (2 * level)).max(1);
    // What the way down leaves for the way up stays to the end.
    let skips: u64 = (0..widths.len())
        .map(|level| {
            let count = unet.layers_per_block as u64 + 1;
            pixels(level).saturating_mul(count * widths[level] as u64)
        })
        .fold(0, u64::saturating_add);
    let widest = (0..widths.len())
        .map(|level| {
            let width = widths[level] as u64;
            let below = *widths.get(level + 1).unwrap_or(&widths[level]) as u64;
            // Joined input, its norm, its padded copy; results. In transformers: tokens, queries,
            // keys and values twice, the wide feed-forward layer and its half.
            let residual = 3 * (width + width.max(below)) + 3 * width;
            let transformer = match unet.transformer_layers[level] {
                0 => 0,
                _ => 22 * width,
            };
            pixels(level).saturating_mul(residual.max(transformer))
        })
        .max()
        .unwrap_or(0);
    let per_row = skips
        .saturating_add(widest)
        .saturating_add(text_keys(unet).saturating_mul(CHUNK * chunks as u64));
    let encoders = [
        parts.clip.as_ref(),
        parts.clip_2.as_ref().map(|clip| &clip.config),
    ];
    let text = encoders
        .into_iter()
        .flatten()
        .map(|clip| CHUNK * (2 * clip.intermediate + 8 * clip.hidden) as u64)
        .max()
        .unwrap_or(0);
    per_row
        .saturating_mul(rows_at_once as u64)
        .max(text.saturating_mul(chunks as u64))
        .saturating_mul(bytes_per_number)
        .saturating_add(64 << 20)
}

/// Keys and values of all attentions over one token of text.
fn text_keys(unet: &UnetConfig) -> u64 {
    let both_ways = 2 * unet.layers_per_block + 1;
    let levels = unet.block_out_channels.iter().zip(&unet.transformer_layers);
    let widest = unet.block_out_channels.last().copied().unwrap_or(0);
    let numbers: usize = levels
        .map(|(width, depth)| both_ways * depth * width)
        .sum::<usize>()
        + unet.mid_transformer_layers * widest;
    2 * numbers as u64
}

/// The decoder at its widest level: input, padded copy, result and residual of one convolution.
pub fn decode(vae: &VaeConfig, (columns, rows): (u64, u64), bytes_per_number: u64) -> u64 {
    let widths = &vae.block_out_channels;
    let levels = widths.len();
    (0..levels)
        .map(|level| {
            // Level 0 has the full size; what comes into a level is as wide as the one below.
            let enlargement = 1u64 << (2 * (levels - 1 - level));
            let width = widths[level].max(*widths.get(level + 1).unwrap_or(&widths[level])) as u64;
            columns
                .saturating_mul(rows)
                .saturating_mul(enlargement)
                .saturating_mul(5 * width)
                .saturating_mul(bytes_per_number)
        })
        .max()
        .unwrap_or(0)
        .saturating_add(32 << 20)
}
