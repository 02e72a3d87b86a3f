//! The networks that turn noise into latents, one file each. A denoiser never imports a denoiser.

pub mod flux;
pub mod unet;
pub mod wan;

pub use flux::{FluxDenoiser, FluxInput};
pub use unet::{UnetDenoiser, UnetInput, UnetText};
pub use wan::{WanContext, WanDenoiser, WanInput, WanText, WanTime};
