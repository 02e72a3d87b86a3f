//! What a clip with sound is made from.

use candle_core::Tensor;
use kinora_core::{Rng, Sampler, Schedule};

use crate::pipelines::RgbImage;

/// How far the picture, or the sound, is led away from what the network says with less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ltx2Guidance {
    /// Away from the negative prompt; 1: not at all.
    pub text: f32,
    /// Away from tokens that see themselves alone in some blocks; 0: not at all.
    pub blind: f32,
    /// Away from picture and sound that do not see each other; 1: not at all.
    pub alone: f32,
    /// How far the result is scaled back to the contrast of the unguided one, 0 to 1.
    pub rescale: f32,
}

impl Ltx2Guidance {
    /// Towards the prompt alone.
    pub fn text(scale: f32) -> Self {
        Self {
            text: scale,
            blind: 0.0,
            alone: 1.0,
            rescale: 0.0,
        }
    }
}

/// One clip with sound, fully decided.
#[derive(Clone, Debug)]
pub struct Ltx2Params {
    /// What to show, and what to hear.
    pub prompt: String,
    /// What to stay away from; counts only where a guidance by text is above 1.
    pub negative_prompt: String,
    /// Pixels; a multiple of the pipeline's [`size_step`](super::Ltx2Pipeline::size_step).
    pub width: u32,
    /// Pixels, likewise.
    pub height: u32,
    /// Frames; one more than a multiple of the pipeline's
    /// [`frame_step`](super::Ltx2Pipeline::frame_step).
    pub frames: u32,
    /// Frames a second. The network is told, and the sound is as long as the frames.
    pub frame_rate: f64,
    /// Denoising steps, at least 1.
    pub steps: u32,
    /// Guidance of the picture.
    pub guidance: Ltx2Guidance,
    /// Guidance of the sound.
    pub audio_guidance: Ltx2Guidance,
    /// Blocks in which tokens see themselves alone, where that guides.
    pub blind_blocks: Vec<usize>,
    /// Whether attention between picture and sound goes by the step's time rather than by each
    /// side's own, which differ where a frame is given; None: as the release does.
    pub is_crossed: Option<bool>,
    /// Step rule and spacing; None: the model's own.
    pub sampler: Option<(Sampler, Schedule)>,
    /// Steps reuse most of an earlier one while what their first block adds to picture and sound
    /// differs by no more than this share, see [`step_cache`](crate::step_cache). 0: none does.
    pub step_cache: f32,
    /// How far the times are shifted towards noise; None: as the model says.
    pub shift: Option<f64>,
    /// Seed of the noise.
    pub seed: u64,
    /// Generator of the noise.
    pub rng: Rng,
    /// Tokens of a text, which the connectors fill up: a multiple of their learned tokens.
    pub text_tokens: usize,
    /// Whether the sound is wanted too. It emerges with the picture either way; this saves its
    /// decoding.
    pub has_sound: bool,
    /// The clip begins with it.
    pub first_frame: Option<RgbImage>,
    /// Frames go through the VAE in tiles, of the reference's size, whatever memory there is.
    pub vae_tiling: bool,
    /// Starting noise of the picture that was drawn elsewhere, (1, tokens, channels), frame by frame
    /// and row by row; None: from the seed.
    pub latents: Option<Tensor>,
    /// The same of the sound, (1, tokens, channels).
    pub audio_latents: Option<Tensor>,
}

impl Ltx2Params {
    /// Calls of the network in each step.
    pub fn passes(&self) -> u32 {
        let weaker = [
            self.is_guided_by_text(),
            self.is_guided_by_blindness(),
            self.is_guided_by_solitude(),
        ];
        1 + weaker.into_iter().map(u32::from).sum::<u32>()
    }

    fn any(&self, is_wanted: impl Fn(&Ltx2Guidance) -> bool) -> bool {
        is_wanted(&self.guidance) || is_wanted(&self.audio_guidance)
    }

    /// Whether each step calls the network for the negative prompt too.
    pub fn is_guided_by_text(&self) -> bool {
        self.any(|guidance| guidance.text > 1.0)
    }

    /// Whether each step calls the network with blind tokens too.
    pub fn is_guided_by_blindness(&self) -> bool {
        self.any(|guidance| guidance.blind > 0.0)
    }

    /// Whether each step calls the network with picture and sound alone too.
    pub fn is_guided_by_solitude(&self) -> bool {
        self.any(|guidance| guidance.alone > 1.0)
    }
}
