//! What a picture is made from, and where its time went.

use candle_core::Tensor;
use kinora_core::{Rng, Sampler, Schedule};

use super::RgbImage;

/// One picture, fully decided.
#[derive(Clone, Debug)]
pub struct ImageParams {
    /// What to paint.
    pub prompt: String,
    /// What to stay away from; counts only with `true_cfg`.
    pub negative_prompt: String,
    /// Pixels; a multiple of the pipeline's [`size_step`](super::Pipeline::size_step).
    pub width: u32,
    /// Pixels, likewise.
    pub height: u32,
    /// Denoising steps, at least 1.
    pub steps: u32,
    /// Distilled guidance; networks without such an input ignore it.
    pub guidance: Option<f32>,
    /// Classifier-free guidance scale: above 1 each step calls the network a second time with the
    /// negative prompt.
    pub true_cfg: Option<f32>,
    /// Seed of the noise.
    pub seed: u64,
    /// Generator of the noise.
    pub rng: Rng,
    /// Length that the T5 side pads or cuts the prompt to.
    pub text_tokens: usize,
    /// Starting noise that was drawn elsewhere: for FLUX.1 packed, (1, tokens, channels), else
    /// (1, channels, height, width). None: from the seed. With [`SdOptions::begins_at`] no noise but
    /// what another run left.
    pub latents: Option<Tensor>,
    /// Step rule and spacing of the noise levels; None: the checkpoint's own. FLUX.1 has its own
    /// always.
    pub sampler: Option<(Sampler, Schedule)>,
    /// The picture that the run starts from.
    pub source: Option<SourceImage>,
    /// What only Stable Diffusion knows.
    pub sd: SdOptions,
    /// What only FLUX.1 knows.
    pub flux: FluxOptions,
}

/// A picture to start from.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceImage {
    /// Of the run's size.
    pub image: RgbImage,
    /// How much of the run is taken, 0 to 1: at 1 little is left of the picture.
    pub strength: f32,
    /// One byte a pixel, rows from the top: from 128 on the pixel is painted anew, else it stays.
    /// None: all are.
    pub mask: Option<Vec<u8>>,
}

/// What only FLUX.1 knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FluxOptions {
    /// Edges or depths for the networks that follow them, in any size.
    pub control: Option<RgbImage>,
    /// The picture that Kontext edits, in any size.
    pub context: Option<RgbImage>,
    /// Whether that picture keeps its size, cut to whole tokens. Otherwise it takes the nearest of
    /// the shapes that Kontext was trained on.
    pub keeps_context_size: bool,
    /// Steps reuse most of an earlier one while their first block differs by no more than this share,
    /// see [`step_cache`](crate::step_cache). 0: none does.
    pub step_cache: f32,
    /// Pictures that the new one shall be like, for Redux. With them an empty prompt is no text at
    /// all: zeros stand in its place, and the text encoders are not asked.
    pub likes: Vec<LikeImage>,
}

/// A picture that the new one shall be like.
#[derive(Clone, Debug, PartialEq)]
pub struct LikeImage {
    /// In any size and shape; it is seen as a square.
    pub image: RgbImage,
    /// What its tokens and the text's are multiplied by before those of all pictures are added up;
    /// the reference's `prompt_embeds_scale`.
    pub weight: f32,
    /// The same for the pooled text; the reference's `pooled_prompt_embeds_scale`.
    pub pooled_weight: f32,
}

/// What only Stable Diffusion knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SdOptions {
    /// How far the guided prediction is scaled back to the contrast of the unguided one, 0 to 1:
    /// S. Lin et al., "Common diffusion noise schedules and sample steps are flawed", 3.4.
    pub guidance_rescale: f32,
    /// Blocks of the text encoders that are left out at the end, besides those that always are. For
    /// the prompt alone: the reference encodes the negative prompt in full.
    pub clip_skip: u32,
    /// XL: what the picture pretends to be. None: its own size, not cropped.
    pub sizes: Option<PretendedSizes>,
    /// XL: the same for the negative prompt. None: the same sizes.
    pub negative_sizes: Option<PretendedSizes>,
    /// XL's refiner: how beautiful the picture shall be, with and without the prompt, 0 to 10.
    pub aesthetic_scores: Option<(f32, f32)>,
    /// The share of the noise levels that another run has gone through already, 0 to 1.
    pub begins_at: Option<f32>,
    /// The share of the noise levels after which the run stops and leaves the rest to another.
    pub ends_at: Option<f32>,
    /// What the prompts become at later steps, in the order of the steps.
    pub changes: Vec<PromptChange>,
}

/// Prompts that change between steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptChange {
    /// Steps of the run that are done before; 1 or more.
    pub step: u32,
    /// The prompt from then on.
    pub prompt: String,
    /// The negative prompt from then on.
    pub negative_prompt: String,
}

/// What XL is told about a picture's making. Pixels, heights first as the network has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PretendedSizes {
    /// Height and width before it was scaled.
    pub original: (u32, u32),
    /// What was cut off above and on the left.
    pub crop: (u32, u32),
    /// Height and width now.
    pub target: (u32, u32),
}

impl ImageParams {
    /// What is said from which step on: the prompts, then their changes. The negative prompt is None
    /// where nothing is guided.
    pub(crate) fn sayings(&self) -> impl Iterator<Item = (u32, &str, Option<&str>)> {
        let is_guided = self.active_cfg().is_some();
        let first = (0, &self.prompt, &self.negative_prompt);
        let changes = (self.sd.changes.iter())
            .map(|change| (change.step, &change.prompt, &change.negative_prompt));
        std::iter::once(first)
            .chain(changes)
            .map(move |(step, prompt, negative)| {
                let negative = is_guided.then_some(negative.as_str());
                (step, prompt.as_str(), negative)
            })
    }

    /// The scale of the second network call, where there is one.
    pub fn active_cfg(&self) -> Option<f32> {
        self.true_cfg.filter(|scale| *scale > 1.0)
    }
}

/// Where the time of one job went, in milliseconds; of what ran for several jobs at once, a job
/// bears its share.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JobTimings {
    /// Text encoders.
    pub encoding_ms: f64,
    /// Denoiser.
    pub generating_ms: f64,
    /// VAE.
    pub decoding_ms: f64,
    /// How many jobs began to go through the denoiser together.
    pub batch: u32,
    /// Steps that a checkpoint saved.
    pub resumed_steps: u32,
}

/// What a run may occupy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimits {
    /// Bytes for everything but the weights.
    pub memory: u64,
    /// Whether everything that can be done in pieces is done in pieces, whatever `memory` says:
    /// the second try after memory ran out.
    pub is_frugal: bool,
}

impl RunLimits {
    /// As much as there is.
    pub const NONE: Self = Self {
        memory: u64::MAX,
        is_frugal: false,
    };
}
