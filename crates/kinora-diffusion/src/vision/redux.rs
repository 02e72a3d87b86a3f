//! FLUX.1 Redux: what SigLIP sees of a picture, as tokens beside those of a text. After
//! `diffusers/pipelines/flux/modeling_flux.py`.

use candle_core::Tensor;
use kinora_weights::{ReduxConfig, ReduxParts};

use super::SiglipVision;
use crate::{
    Result,
    layers::{Activation, Linear, Weights, on_workers},
    pipelines::RgbImage,
};

/// The projection from SigLIP's width to T5's.
#[derive(Debug)]
pub struct ReduxEmbedder {
    up: Linear,
    down: Linear,
}

impl ReduxEmbedder {
    /// Loads it from the root of its weights.
    pub fn load(weights: &Weights, config: &ReduxConfig) -> Result<Self> {
        let wide = config.wide();
        Ok(Self {
            up: Linear::load(&weights.at("redux_up"), config.image_dim, wide)?,
            down: Linear::load(&weights.at("redux_down"), wide, config.text_dim)?,
        })
    }

    /// (batch, patches, SigLIP's width) → (batch, patches, T5's width).
    pub fn forward(&self, seen: &Tensor) -> Result<Tensor> {
        on_workers(seen.device(), || {
            let wide = Activation::Silu.forward(&self.up.forward(seen)?)?;
            self.down.forward(&wide)
        })
    }
}

/// What makes tokens of pictures.
#[derive(Debug)]
pub struct Redux {
    /// Pictures to rows.
    pub vision: SiglipVision,
    /// Rows to tokens.
    pub embedder: ReduxEmbedder,
    tokens: usize,
}

impl Redux {
    /// From the weights of the encoder and of the projection.
    pub fn load(vision: &Weights, embedder: &Weights, parts: &ReduxParts) -> Result<Self> {
        Ok(Self {
            vision: SiglipVision::load(vision, &parts.vision)?,
            embedder: ReduxEmbedder::load(embedder, &parts.embedder)?,
            tokens: parts.vision.tokens(),
        })
    }

    /// Tokens of a picture.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// A picture of any size as (1, tokens, T5's width).
    pub fn encode(&self, image: &RgbImage) -> Result<Tensor> {
        self.embedder
            .forward(&self.vision.forward(&self.vision.prepare(image)?)?)
    }
}
