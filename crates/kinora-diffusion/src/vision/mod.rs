//! Pictures that go into a model: resized as the reference library resizes them, and seen by the
//! vision side of CLIP.
//!
//! Not here: reading picture files; pixels come as 8-bit RGB.

mod clip;
pub mod crop;
pub mod resample;

pub use clip::ClipVision;
