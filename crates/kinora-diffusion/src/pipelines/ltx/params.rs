//! What a clip is made from.

use candle_core::Tensor;
use kinora_core::{Rng, Sampler, Schedule};

use crate::pipelines::RgbImage;

/// One clip, fully decided.
#[derive(Clone, Debug)]
pub struct LtxParams {
    /// What to show.
    pub prompt: String,
    /// What to stay away from; counts only where guidance is above 1.
    pub negative_prompt: String,
    /// Pixels; a multiple of the pipeline's [`size_step`](super::LtxPipeline::size_step).
    pub width: u32,
    /// Pixels, likewise.
    pub height: u32,
    /// Frames; one more than a multiple of the pipeline's
    /// [`frame_step`](super::LtxPipeline::frame_step).
    pub frames: u32,
    /// Frames a second. The network is told: motion is made for this rate.
    pub frame_rate: f64,
    /// Denoising steps, at least 1.
    pub steps: u32,
    /// Classifier-free guidance: above 1 each step calls the network for the negative prompt too.
    pub guidance: f32,
    /// How far the guided prediction is scaled back to the contrast of the unguided one, 0 to 1.
    pub guidance_rescale: f32,
    /// Step rule and spacing; None: the model's own.
    pub sampler: Option<(Sampler, Schedule)>,
    /// Steps reuse most of an earlier one while their first block differs by no more than this share,
    /// see [`step_cache`](crate::step_cache). 0: none does.
    pub step_cache: f32,
    /// How far the times are shifted towards noise; None: as the model says.
    pub shift: Option<f64>,
    /// How much noise a decoder that can be told so is told to be left, 0 to 1.
    pub decode_time: f32,
    /// How much noise is mixed into the latents before such a decoder; None: as much as it is told.
    pub decode_noise: Option<f32>,
    /// Seed of the noise.
    pub seed: u64,
    /// Generator of the noise.
    pub rng: Rng,
    /// Length that prompts are cut to, in tokens.
    pub text_tokens: usize,
    /// The clip begins with it.
    pub first_frame: Option<RgbImage>,
    /// Frames go through the VAE in tiles, of the reference's size, whatever memory there is.
    pub vae_tiling: bool,
    /// Starting noise that was drawn elsewhere, (1, tokens, channels), frame by frame and row by
    /// row; None: from the seed.
    pub latents: Option<Tensor>,
}

impl LtxParams {
    /// The guidance, where it means a second call of the network.
    pub fn active_guidance(&self) -> Option<f32> {
        (self.guidance > 1.0).then_some(self.guidance)
    }
}
