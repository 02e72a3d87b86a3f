//! The KL autoencoder of Stable Diffusion and FLUX.1 (`AutoencoderKL` of the diffusers library).
//! Every size comes from its configuration. Tiles are cut and joined in `tiling`.

use candle_core::{DType, Tensor};
use kinora_weights::VaeConfig;

use super::{
    blocks::{Direction, EPS, Level, Middle, conv1, conv3},
    tiling::Tiling,
};
use crate::{
    Result,
    error::bail_shape,
    layers::{Conv2d, GroupNorm, Weights, norm::After, on_workers},
};

/// Pixels to latents and back.
#[derive(Debug)]
pub struct KlVae {
    config: VaeConfig,
    encoder: Encoder,
    decoder: Decoder,
}

impl KlVae {
    /// Reads every weight.
    pub fn load(weights: &Weights, config: &VaeConfig) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            encoder: Encoder::load(weights, config)?,
            decoder: Decoder::load(weights, config)?,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Mean latents of a picture, as the network gives them: (batch, channels, height, width) in
    /// −1 to 1 → (batch, latent channels, height/scale, width/scale).
    pub fn encode(&self, pixels: &Tensor) -> Result<Tensor> {
        let moments = self.encode_moments(pixels)?;
        Ok(moments
            .narrow(1, 0, self.config.latent_channels)?
            .contiguous()?)
    }

    /// Latents drawn from where the network says they lie, with standard normals of their shape:
    /// mean + e^(½ ln variance) · noise.
    pub fn encode_with(&self, pixels: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let moments = self.encode_moments(pixels)?.to_dtype(DType::F32)?;
        let channels = self.config.latent_channels;
        let mean = moments.narrow(1, 0, channels)?;
        let deviation = (moments
            .narrow(1, channels, channels)?
            .clamp(-30f32, 20f32)?
            * 0.5)?;
        Ok((mean + (deviation.exp()? * noise)?)?)
    }

    fn encode_moments(&self, pixels: &Tensor) -> Result<Tensor> {
        let scale = self.config.scale();
        let (_, _, height, width) = pixels.dims4()?;
        if height % scale != 0 || width % scale != 0 || height == 0 || width == 0 {
            bail_shape!("a picture of {width}×{height} does not divide by {scale}");
        }
        on_workers(pixels.device(), || self.encoder.forward(pixels))
    }

    /// Pixels, about −1 to 1, of latents as the network takes them: the inverse of
    /// [`encode`](Self::encode). `tiling` bounds how much is decoded at once.
    pub fn decode(&self, latents: &Tensor, tiling: Tiling) -> Result<Tensor> {
        on_workers(latents.device(), || {
            let features = self.decoder.start(latents)?;
            let scale = self.config.scale();
            tiling.apply(&features, scale, |tile| self.decoder.finish(tile))
        })
    }

    /// Latents of the diffusion process → latents of the network: z / scaling + shift.
    pub fn unscale(&self, latents: &Tensor) -> Result<Tensor> {
        let shift = self.config.shift_factor.unwrap_or(0.0);
        // Two roundings, as in the reference.
        Ok(((latents / self.config.scaling_factor)? + shift)?)
    }

    /// Latents of the network → latents of the diffusion process: (z − shift) · scaling.
    pub fn scale(&self, latents: &Tensor) -> Result<Tensor> {
        let shift = self.config.shift_factor.unwrap_or(0.0);
        Ok(((latents - shift)? * self.config.scaling_factor)?)
    }
}

#[derive(Debug)]
struct Encoder {
    conv_in: Conv2d,
    levels: Vec<Level>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    quant: Option<Conv2d>,
}

impl Encoder {
    fn load(weights: &Weights, config: &VaeConfig) -> Result<Self> {
        let encoder = weights.at("encoder");
        let widths = &config.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let mut inputs = first;
        let mut levels = Vec::with_capacity(widths.len());
        for (i, &outputs) in widths.iter().enumerate() {
            levels.push(Level::load(
                &encoder.at("down_blocks").at(i),
                config.norm_groups,
                config.layers_per_block,
                (inputs, outputs),
                Direction::Down,
                i + 1 == widths.len(),
            )?);
            inputs = outputs;
        }
        // Mean and logarithm of the variance.
        let moments = 2 * config.latent_channels;
        Ok(Self {
            conv_in: conv3(&encoder.at("conv_in"), config.in_channels, first)?,
            levels,
            middle: Middle::load(&encoder.at("mid_block"), config, last)?,
            norm_out: GroupNorm::load(&encoder.at("conv_norm_out"), config.norm_groups, last, EPS)?,
            conv_out: conv3(&encoder.at("conv_out"), last, moments)?,
            quant: config
                .has_quant_conv
                .then(|| conv1(&weights.at("quant_conv"), moments, moments))
                .transpose()?,
        })
    }

    /// Means and logarithms of the variances, channel after channel.
    fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(pixels)?;
        for level in &self.levels {
            x = level.forward(x)?;
        }
        let x = self
            .norm_out
            .forward(&self.middle.forward(&x)?, After::Silu)?;
        let x = self.conv_out.forward(&x)?;
        match &self.quant {
            Some(quant) => quant.forward(&x),
            None => Ok(x),
        }
    }
}

#[derive(Debug)]
struct Decoder {
    post_quant: Option<Conv2d>,
    conv_in: Conv2d,
    middle: Middle,
    levels: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    fn load(weights: &Weights, config: &VaeConfig) -> Result<Self> {
        let decoder = weights.at("decoder");
        let widths = &config.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let latent = config.latent_channels;
        let mut inputs = last;
        let mut levels = Vec::with_capacity(widths.len());
        for (i, &outputs) in widths.iter().rev().enumerate() {
            levels.push(Level::load(
                &decoder.at("up_blocks").at(i),
                config.norm_groups,
                config.layers_per_block + 1,
                (inputs, outputs),
                Direction::Up,
                i + 1 == widths.len(),
            )?);
            inputs = outputs;
        }
        Ok(Self {
            post_quant: config
                .has_post_quant_conv
                .then(|| conv1(&weights.at("post_quant_conv"), latent, latent))
                .transpose()?,
            conv_in: conv3(&decoder.at("conv_in"), latent, last)?,
            middle: Middle::load(&decoder.at("mid_block"), config, last)?,
            levels,
            norm_out: GroupNorm::load(
                &decoder.at("conv_norm_out"),
                config.norm_groups,
                first,
                EPS,
            )?,
            conv_out: conv3(&decoder.at("conv_out"), first, config.out_channels)?,
        })
    }

    /// What runs at the latents' resolution, attention over the whole picture among it.
    fn start(&self, latents: &Tensor) -> Result<Tensor> {
        let x = match &self.post_quant {
            Some(post_quant) => post_quant.forward(latents)?,
            None => latents.clone(),
        };
        self.middle.forward(&self.conv_in.forward(&x)?)
    }

    /// What enlarges.
    fn finish(&self, features: &Tensor) -> Result<Tensor> {
        let mut x = features.clone();
        for level in &self.levels {
            x = level.forward(x)?;
        }
        self.conv_out
            .forward(&self.norm_out.forward(&x, After::Silu)?)
    }
}
