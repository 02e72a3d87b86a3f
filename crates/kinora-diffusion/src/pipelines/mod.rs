//! One family each, four stages from top to bottom: encode, prepare, denoise, decode.
//!
//! A run takes several jobs at once and works stage by stage: every distinct prompt is encoded
//! once, jobs of one shape go through the denoiser as true batches as large as memory allows, and
//! pictures are decoded one by one. A pipeline never imports a pipeline.

pub mod checkpoint;
pub(crate) mod clip;
pub mod flux;
pub mod ltx;
pub mod ltx2;
pub(crate) mod on_demand;
pub(crate) mod packing;
pub mod params;
mod picture;
pub mod sd;
pub mod sdxl;
pub mod shelf;
pub(crate) mod tensor_file;
pub mod text_cache;
pub(crate) mod unet;
pub mod wan;
pub mod watch;

use std::{sync::Arc, time::Instant};

use candle_core::{DType, Device};
use kinora_core::Family;
use kinora_weights::{ModelLayout, Parts};

pub use self::{
    checkpoint::Checkpoint,
    flux::FluxPipeline,
    ltx::{LtxParams, LtxPipeline},
    ltx2::{Ltx2Guidance, Ltx2Params, Ltx2Pipeline},
    params::{
        FluxOptions, ImageParams, JobTimings, LikeImage, PretendedSizes, PromptChange, RunLimits,
        SdOptions, SourceImage,
    },
    sd::SdPipeline,
    sdxl::SdxlPipeline,
    shelf::Shelf,
    text_cache::TextCache,
    wan::{Context, Switch, VideoParams, WanPipeline},
    watch::{RgbImage, RunWatch, Sound},
};
use crate::{Result, adapters::Adaptive};

/// A model with its weights in memory, of any family.
#[derive(Debug)]
pub enum Pipeline {
    /// FLUX.1.
    Flux(Box<FluxPipeline>),
    /// Stable Diffusion 1.x and 2.x.
    Sd(Box<SdPipeline>),
    /// Stable Diffusion XL.
    Sdxl(Box<SdxlPipeline>),
}

impl Pipeline {
    /// Reads every weight of a recognised model but those of its text encoders, which are read when
    /// the first text needs them. `on_load` is told the share that is done, 0 to 1.
    ///
    /// `dtype` is the number format of activations: f32 on the processor.
    pub fn open(
        layout: &ModelLayout,
        device: &Device,
        dtype: DType,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        match (&layout.parts, layout.family) {
            (Parts::Flux(_), _) => Ok(Self::Flux(Box::new(FluxPipeline::open(
                layout, device, dtype, on_load,
            )?))),
            (Parts::Sd(_), Family::Sdxl) => Ok(Self::Sdxl(Box::new(SdxlPipeline::open(
                layout, device, dtype, on_load,
            )?))),
            (Parts::Sd(_), _) => Ok(Self::Sd(Box::new(SdPipeline::open(
                layout, device, dtype, on_load,
            )?))),
        }
    }

    /// Keeps what is encoded, and looks there before anything is.
    pub fn keep_texts(&mut self, cache: Arc<TextCache>) {
        match self {
            Self::Flux(pipeline) => pipeline.keep_texts(cache),
            Self::Sd(pipeline) => pipeline.keep_texts(cache),
            Self::Sdxl(pipeline) => pipeline.keep_texts(cache),
        }
    }

    /// Has its encoders in memory together with other models.
    pub fn share_encoders(&mut self, shelf: &Arc<Shelf>) {
        match self {
            Self::Flux(pipeline) => pipeline.share_encoders(shelf),
            Self::Sd(pipeline) => pipeline.share_encoders(shelf),
            Self::Sdxl(pipeline) => pipeline.share_encoders(shelf),
        }
    }

    /// Makes the pictures; everything about them goes to `watch`.
    ///
    /// # Errors
    /// A job whose result is unusable does not stop the others: the first such error is returned
    /// after the last job, and the jobs that got neither a picture nor were cancelled are those
    /// that failed. Any other error ends the run at once.
    pub fn run(
        &mut self,
        jobs: &[ImageParams],
        limits: RunLimits,
        watch: &mut dyn RunWatch,
    ) -> Result<Vec<JobTimings>> {
        match self {
            Self::Flux(pipeline) => pipeline.run(jobs, limits, watch),
            Self::Sd(pipeline) => pipeline.run(jobs, limits, watch),
            Self::Sdxl(pipeline) => pipeline.run(jobs, limits, watch),
        }
    }

    /// The model as adapters see it.
    pub fn adaptive(&mut self) -> &mut dyn Adaptive {
        match self {
            Self::Flux(pipeline) => &mut **pipeline,
            Self::Sd(pipeline) => &mut **pipeline,
            Self::Sdxl(pipeline) => &mut **pipeline,
        }
    }

    /// Bytes that the weights occupy.
    pub fn weight_bytes(&self) -> u64 {
        match self {
            Self::Flux(pipeline) => pipeline.weight_bytes(),
            Self::Sd(pipeline) => pipeline.stage().weight_bytes(),
            Self::Sdxl(pipeline) => pipeline.stage().weight_bytes(),
        }
    }

    /// Widths and heights must be multiples of it, in pixels.
    pub fn size_step(&self) -> u32 {
        match self {
            Self::Flux(pipeline) => pipeline.size_step(),
            Self::Sd(pipeline) => pipeline.stage().size_step(),
            Self::Sdxl(pipeline) => pipeline.stage().size_step(),
        }
    }
}

/// Milliseconds since then.
fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
