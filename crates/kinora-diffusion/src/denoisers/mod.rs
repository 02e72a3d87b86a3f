//! The networks that turn noise into latents, one file each. A denoiser never imports a denoiser.

pub mod flux;
pub mod ltx;
pub mod ltx2;
pub mod unet;
pub mod wan;

pub use flux::{FluxDenoiser, FluxInput};
pub use ltx::{LtxContext, LtxDenoiser, LtxInput, LtxTime};
pub use ltx2::{Ltx2Blindness, Ltx2Context, Ltx2Denoiser, Ltx2Input, Ltx2Positions, Ltx2Time};
pub use unet::{UnetDenoiser, UnetInput, UnetText};
pub use wan::{WanContext, WanDenoiser, WanInput, WanText, WanTime};
