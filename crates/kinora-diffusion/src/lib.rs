//! Networks, samplers and pipelines over candle tensors.
//!
//! Read from the outside in: [`pipelines`] tell a family's story in four stages; [`text`],
//! [`vision`], [`denoisers`] and [`vae`] are its networks; [`samplers`] and [`noise`] the numbers
//! that drive them; [`step_cache`] lets steps reuse most of an earlier one; [`adapters`] change loaded networks (LoRA); [`layers`] the operations that all
//! networks share, with fast kernels for processors, [`kernels`] for NVIDIA GPUs and candle's
//! operations elsewhere. [`parity`] holds a pipeline to recordings of the reference
//! library; [`memory`] foresees what a run needs.
//!
//! Everything here is synchronous. Deliberately absent: networking, databases, async runtimes,
//! and foreign tensor names (those live in `kinora-weights`).

pub mod adapters;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod denoisers;
pub mod error;
mod guidance;
pub mod kernels;
pub mod layers;
pub mod memory;
pub mod noise;
pub mod parity;
pub mod pipelines;
pub mod previews;
pub mod samplers;
pub mod step_cache;
pub mod text;
pub mod vae;
pub mod vision;

pub use error::{Error, Result};
