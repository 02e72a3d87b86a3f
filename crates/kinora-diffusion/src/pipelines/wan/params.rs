//! What a clip is made from.

use candle_core::Tensor;
use kinora_core::{Rng, Sampler, Schedule};

use crate::pipelines::RgbImage;

/// One clip, fully decided.
#[derive(Clone, Debug)]
pub struct VideoParams {
    /// What to show.
    pub prompt: String,
    /// What to stay away from; counts only where guidance is above 1.
    pub negative_prompt: String,
    /// Pixels; a multiple of the pipeline's [`size_step`](super::WanPipeline::size_step).
    pub width: u32,
    /// Pixels, likewise.
    pub height: u32,
    /// Frames; one more than a multiple of the pipeline's
    /// [`frame_step`](super::WanPipeline::frame_step).
    pub frames: u32,
    /// Denoising steps, at least 1.
    pub steps: u32,
    /// Classifier-free guidance: above 1 each step calls the network for the negative prompt too.
    pub guidance: f32,
    /// The same for the expert of the steps with little noise; None: the same value.
    pub guidance_2: Option<f32>,
    /// Where the experts change, for models with two.
    pub switch: Switch,
    /// Steps reuse most of an earlier one while their first block differs by no more than this share,
    /// see [`step_cache`](crate::step_cache). 0: none does.
    pub step_cache: f32,
    /// How far the times are shifted towards noise; None: as the model says.
    pub shift: Option<f64>,
    /// Step rule and spacing; None: the model's own.
    pub sampler: Option<(Sampler, Schedule)>,
    /// Seed of the noise.
    pub seed: u64,
    /// Generator of the noise.
    pub rng: Rng,
    /// Length that prompts are cut or padded to, in tokens.
    pub text_tokens: usize,
    /// The clip begins with it.
    pub first_frame: Option<RgbImage>,
    /// The clip ends with it.
    pub last_frame: Option<RgbImage>,
    /// Starting noise that was drawn elsewhere, (1, channels, latent frames, rows, columns); None:
    /// from the seed.
    pub latents: Option<Tensor>,
    /// The windows in which a longer clip goes through the network; None: it sees the whole clip.
    pub context: Option<Context>,
    /// Whether frames go through the VAE in tiles, those of the reference, however much memory
    /// there is; else they do where the whole does not fit.
    pub vae_tiling: bool,
}

/// Windows in time, in frames of the clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Frames of a window; one more than a multiple of the pipeline's
    /// [`frame_step`](super::WanPipeline::frame_step), and more than one.
    pub frames: u32,
    /// Frames that neighbouring windows share at least; a multiple of the frame step, at least one
    /// and less than a window.
    pub overlap: u32,
}

/// Where a run changes from the expert of the noisy steps to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Switch {
    /// Where the model says.
    #[default]
    Model,
    /// At the first step whose time is below this share of the training's times.
    Boundary(f64),
    /// So that the other expert takes this share of the steps.
    LowShare(f64),
}

impl VideoParams {
    /// The guidance of an expert, where it means a second call of the network.
    pub fn active_guidance(&self, is_low: bool) -> Option<f32> {
        let scale = match self.guidance_2 {
            Some(scale) if is_low => scale,
            _ => self.guidance,
        };
        (scale > 1.0).then_some(scale)
    }

    /// Whether any step may need the negative prompt.
    pub fn is_guided(&self) -> bool {
        [false, true]
            .into_iter()
            .any(|is_low| self.active_guidance(is_low).is_some())
    }
}
