//! Autoencoders between pixels or sounds and latents, and what makes samples of spectrograms, one
//! file each.

mod blocks;
mod clip_tiles;
pub mod kl;
pub mod ltx;
mod ltx_audio;
mod patches;
mod shortcut;
mod tiling;
mod vocoder;
pub mod wan;

pub use clip_tiles::{ClipTiles, FinishedPart, Region};
pub use kl::KlVae;
pub use ltx::{LtxDecoding, LtxEncoding, LtxVae};
pub use ltx_audio::LtxAudioVae;
pub use patches::to_pixels;
pub use tiling::{TileSide, Tiling};
pub use vocoder::Vocoder;
pub use wan::{WanDecoding, WanEncoding, WanVae};
