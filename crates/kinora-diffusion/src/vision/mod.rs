//! Pictures that go into a model: resized as the reference library resizes them, and seen by the
//! vision sides of CLIP and SigLIP.
//!
//! Not here: reading picture files; pixels come as 8-bit RGB.

mod clip;
pub mod crop;
mod redux;
pub mod resample;
mod siglip;

pub use clip::ClipVision;
pub use redux::{Redux, ReduxEmbedder};
pub use siglip::SiglipVision;
