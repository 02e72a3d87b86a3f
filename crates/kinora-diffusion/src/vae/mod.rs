//! Autoencoders between pixels and latents, one file each.

mod blocks;
pub mod kl;
mod tiling;
pub mod wan;

pub use kl::KlVae;
pub use tiling::Tiling;
pub use wan::{WanDecoding, WanEncoding, WanVae};
