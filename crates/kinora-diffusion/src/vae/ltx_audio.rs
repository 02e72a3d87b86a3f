//! LTX-2's autoencoder between spectrograms and latents (`AutoencoderKLLTX2Audio` of the diffusers
//! library): two-dimensional convolutions that see nothing of later rows.
//!
//! Rows are times, columns frequencies. Latents go through the diffusion process as tokens, one for
//! each row, with the columns of a channel side by side.

use candle_core::{DType, Tensor};
use kinora_weights::Ltx2AudioVaeConfig;

use crate::{
    Result,
    error::bail_shape,
    layers::{ChannelNorm, Conv2d, Padding, Weights, norm::After, on_workers, upsample_nearest},
};

/// Of every norm.
const EPS: f64 = 1e-6;

/// Two rows of silence before the first one, and a column on either side.
const PADDING: Padding = Padding {
    top: 2,
    bottom: 0,
    left: 1,
    right: 1,
};

/// Spectrograms to latents and back.
#[derive(Debug)]
pub struct LtxAudioVae {
    config: Ltx2AudioVaeConfig,
    /// (channels · columns), f32: of a token.
    mean: Tensor,
    /// (channels · columns), f32
    std: Tensor,
    encoder: Encoder,
    decoder: Decoder,
}

impl LtxAudioVae {
    /// Reads every weight.
    pub fn load(weights: &Weights, config: &Ltx2AudioVaeConfig) -> Result<Self> {
        let token = config.token();
        Ok(Self {
            mean: weights.get_f32("latents_mean", &[token])?,
            std: weights.get_f32("latents_std", &[token])?,
            encoder: Encoder::load(&weights.at("encoder"), config)?,
            decoder: Decoder::load(&weights.at("decoder"), config)?,
            config: config.clone(),
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &Ltx2AudioVaeConfig {
        &self.config
    }

    /// Tokens of the diffusion process, (1, rows, channels · columns), from latents that tokens were
    /// made of.
    pub fn scale(&self, tokens: &Tensor) -> Result<Tensor> {
        Ok(tokens.broadcast_sub(&self.mean)?.broadcast_div(&self.std)?)
    }

    /// Tokens of the diffusion process as latents of the network: (batch, rows, channels · columns)
    /// → (batch, channels, rows, columns), f32.
    pub fn unscale(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, rows, _) = tokens.dims3()?;
        let tokens = tokens.to_dtype(DType::F32)?;
        let latents = tokens.broadcast_mul(&self.std)?.broadcast_add(&self.mean)?;
        Ok(latents
            .reshape((
                batch,
                rows,
                self.config.latent_channels,
                self.config.latent_bins(),
            ))?
            .transpose(1, 2)?
            .contiguous()?)
    }

    /// Spectrograms of latents: (batch, channels, rows, columns) →
    /// (batch, channels of the sound, rows, columns).
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let (_, channels, rows, _) = latents.dims4()?;
        if channels != self.config.latent_channels || rows == 0 {
            bail_shape!("a decoder of sound got latents of {:?}", latents.dims());
        }
        on_workers(latents.device(), || {
            let y = self.decoder.forward(&latents.contiguous()?)?;
            // As many rows and columns as the reference gives, zeros where there are too few.
            let y = fit(&y, 2, self.config.rows(rows))?;
            fit(&y, 3, self.config.mel_bins)
        })
    }

    /// Mean latents of spectrograms, (batch, channels of the sound, rows, columns).
    pub fn encode(&self, spectrogram: &Tensor) -> Result<Tensor> {
        let (_, channels, rows, _) = spectrogram.dims4()?;
        if channels != self.config.in_channels || rows == 0 {
            bail_shape!("an encoder of sound got {:?}", spectrogram.dims());
        }
        on_workers(spectrogram.device(), || {
            let moments = self.encoder.forward(&spectrogram.contiguous()?)?;
            let mean = moments.narrow(1, 0, self.config.latent_channels)?;
            Ok(mean.contiguous()?)
        })
    }
}

/// The first places of a dimension, with zeros where there are too few.
fn fit(x: &Tensor, dim: usize, size: usize) -> Result<Tensor> {
    let own = x.dim(dim)?;
    if own >= size {
        return Ok(x.narrow(dim, 0, size)?.contiguous()?);
    }
    Ok(x.pad_with_zeros(dim, 0, size - own)?)
}

fn load_conv(weights: &Weights, inputs: usize, outputs: usize) -> Result<Conv2d> {
    Conv2d::load(&weights.at("conv"), inputs, outputs, 3, 1, PADDING)
}

/// x + conv(silu(norm(conv(silu(norm(x)))))), with a layer over x where widths differ.
#[derive(Debug)]
struct ResidualBlock {
    norm1: ChannelNorm,
    conv1: Conv2d,
    norm2: ChannelNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl ResidualBlock {
    fn load(weights: &Weights, inputs: usize, outputs: usize) -> Result<Self> {
        let shortcut = (inputs != outputs)
            .then(|| {
                let weights = weights.at("nin_shortcut.conv");
                Conv2d::load(&weights, inputs, outputs, 1, 1, Padding::default())
            })
            .transpose()?;
        Ok(Self {
            norm1: ChannelNorm::rms(inputs, EPS, weights.device())?,
            conv1: load_conv(&weights.at("conv1"), inputs, outputs)?,
            norm2: ChannelNorm::rms(outputs, EPS, weights.device())?,
            conv2: load_conv(&weights.at("conv2"), outputs, outputs)?,
            shortcut,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.conv1.forward(&self.norm1.forward(x, After::Silu)?)?;
        let y = self.norm2.forward(&y, After::Silu)?;
        match &self.shortcut {
            Some(shortcut) => self.conv2.forward_add(&y, &shortcut.forward(x)?),
            None => self.conv2.forward_add(&y, x),
        }
    }
}

/// Blocks from one width to another.
fn load_row(
    weights: &Weights,
    count: usize,
    (inputs, outputs): (usize, usize),
) -> Result<Vec<ResidualBlock>> {
    (0..count)
        .map(|i| {
            let inputs = if i == 0 { inputs } else { outputs };
            ResidualBlock::load(&weights.at("block").at(i), inputs, outputs)
        })
        .collect()
}

/// The two blocks of the lowest resolution.
fn load_middle(weights: &Weights, width: usize) -> Result<[ResidualBlock; 2]> {
    let block = |name: &str| ResidualBlock::load(&weights.at("mid").at(name), width, width);
    Ok([block("block_1")?, block("block_2")?])
}

fn pass(blocks: &[ResidualBlock], x: Tensor) -> Result<Tensor> {
    blocks.iter().try_fold(x, |x, block| block.forward(&x))
}

#[derive(Debug)]
struct Encoder {
    conv_in: Conv2d,
    /// Blocks, and what halves rows and columns behind them.
    levels: Vec<(Vec<ResidualBlock>, Option<Conv2d>)>,
    middle: [ResidualBlock; 2],
    norm_out: ChannelNorm,
    conv_out: Conv2d,
}

impl Encoder {
    fn load(weights: &Weights, config: &Ltx2AudioVaeConfig) -> Result<Self> {
        let mut inputs = config.base_channels;
        let conv_in = load_conv(&weights.at("conv_in"), config.in_channels, inputs)?;
        let mut levels = Vec::with_capacity(config.multipliers.len());
        for (i, factor) in config.multipliers.iter().enumerate() {
            let outputs = factor * config.base_channels;
            let level = weights.at("down").at(i);
            let blocks = load_row(&level, config.blocks_per_level, (inputs, outputs))?;
            let is_last = i + 1 == config.multipliers.len();
            let halving = (!is_last)
                .then(|| {
                    let padding = Padding {
                        top: 2,
                        right: 1,
                        ..Padding::default()
                    };
                    let weights = level.at("downsample.conv");
                    Conv2d::load(&weights, outputs, outputs, 3, 2, padding)
                })
                .transpose()?;
            levels.push((blocks, halving));
            inputs = outputs;
        }
        Ok(Self {
            conv_in,
            levels,
            middle: load_middle(weights, inputs)?,
            norm_out: ChannelNorm::rms(inputs, EPS, weights.device())?,
            // Mean and logarithm of the variance.
            conv_out: load_conv(&weights.at("conv_out"), inputs, 2 * config.latent_channels)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(x)?;
        for (blocks, halving) in &self.levels {
            x = pass(blocks, x)?;
            if let Some(halving) = halving {
                x = halving.forward(&x)?;
            }
        }
        let x = pass(&self.middle, x)?;
        self.conv_out
            .forward(&self.norm_out.forward(&x, After::Silu)?)
    }
}

#[derive(Debug)]
struct Decoder {
    conv_in: Conv2d,
    middle: [ResidualBlock; 2],
    /// From the lowest resolution: blocks, and what follows the doubling behind them.
    levels: Vec<(Vec<ResidualBlock>, Option<Conv2d>)>,
    norm_out: ChannelNorm,
    conv_out: Conv2d,
}

impl Decoder {
    fn load(weights: &Weights, config: &Ltx2AudioVaeConfig) -> Result<Self> {
        let last = config.multipliers.last().copied().unwrap_or(1);
        let mut inputs = last * config.base_channels;
        let conv_in = load_conv(&weights.at("conv_in"), config.latent_channels, inputs)?;
        let middle = load_middle(weights, inputs)?;
        let mut levels = Vec::with_capacity(config.multipliers.len());
        for (i, factor) in config.multipliers.iter().enumerate().rev() {
            let outputs = factor * config.base_channels;
            let level = weights.at("up").at(i);
            let blocks = load_row(&level, config.blocks_per_level + 1, (inputs, outputs))?;
            let doubling = (i > 0)
                .then(|| load_conv(&level.at("upsample.conv"), outputs, outputs))
                .transpose()?;
            levels.push((blocks, doubling));
            inputs = outputs;
        }
        Ok(Self {
            conv_in,
            middle,
            levels,
            norm_out: ChannelNorm::rms(inputs, EPS, weights.device())?,
            conv_out: load_conv(&weights.at("conv_out"), inputs, config.output_channels)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = pass(&self.middle, self.conv_in.forward(x)?)?;
        for (blocks, doubling) in &self.levels {
            x = pass(blocks, x)?;
            if let Some(conv) = doubling {
                let y = conv.forward(&upsample_nearest(&x)?)?;
                // The first row stands for one, not for two.
                x = y.narrow(2, 1, y.dim(2)? - 1)?.contiguous()?;
            }
        }
        self.conv_out
            .forward(&self.norm_out.forward(&x, After::Silu)?)
    }
}
