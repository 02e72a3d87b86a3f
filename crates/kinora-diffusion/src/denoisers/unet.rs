//! The denoiser of SD 1.x, 2.x and XL: residual blocks and transformers on a few resolutions, down
//! and up again, with every stage of the way down joined to the one beside it on the way up.
//!
//! Numbers and orders follow `UNet2DConditionModel` of the diffusers library. What depends on the
//! text alone is worked out once for all steps ([`UnetDenoiser::prepare`]).

mod blocks;
mod load;

use candle_core::Tensor;
use kinora_weights::UnetConfig;

use self::{
    blocks::{Keys, Level, Middle, Times},
    load::Loader,
};
use crate::{
    Result,
    error::bail_shape,
    layers::{
        Activation, Adaptable, Conv2d, GroupNorm, Linear, Weights, norm::After, on_workers,
        sinusoid,
    },
};

/// What one call of the network sees.
pub struct UnetInput<'a> {
    /// (batch, channels, height, width)
    pub latents: &'a Tensor,
    /// Time of the whole batch, 0 to 1000.
    pub timestep: f32,
    /// Of as many rows.
    pub text: &'a UnetText,
}

/// What the network makes of text (and sizes) once for all steps.
#[derive(Clone, Debug)]
pub struct UnetText {
    /// Keys and values of each attention over the text, in the order of the blocks:
    /// (batch, text tokens, 2 · width).
    keys: Vec<Tensor>,
    /// Added to the embedding of the time: (batch, 4 · first width).
    added: Option<Tensor>,
}

/// The network.
#[derive(Debug)]
pub struct UnetDenoiser {
    config: UnetConfig,
    conv_in: Conv2d,
    time_in: Embedder,
    added_in: Option<Embedder>,
    /// The time as every residual block takes it, side by side.
    times: Linear,
    down: Vec<Level>,
    middle: Middle,
    up: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl UnetDenoiser {
    /// Reads every weight. `on_load` is told the share of the blocks that is done, 0 to 1.
    pub fn load(
        weights: &Weights,
        config: &UnetConfig,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        Loader::new(weights, config, on_load).load()
    }

    /// Its sizes.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// The layers that adapters may change.
    pub fn adaptables(&mut self) -> Vec<&mut dyn Adaptable> {
        let mut layers: Vec<&mut dyn Adaptable> = vec![
            &mut self.conv_in,
            &mut self.times,
            &mut self.norm_out,
            &mut self.conv_out,
        ];
        for Embedder(first, second) in [&mut self.time_in].into_iter().chain(&mut self.added_in) {
            layers.extend([first, second].map(|linear| linear as &mut dyn Adaptable));
        }
        for level in self.down.iter_mut().chain(&mut self.up) {
            level.add_adaptables(&mut layers);
        }
        self.middle.add_adaptables(&mut layers);
        layers
    }

    /// How often it halves the picture: heights and widths that are multiples of 2 to the power of
    /// this stay whole all the way down.
    pub fn halvings(&self) -> usize {
        self.config.block_out_channels.len() - 1
    }

    /// What XL is told besides the text: the pooled text (batch, width) and each row's sizes, as
    /// (batch, [`UnetConfig::added_dim`]).
    pub fn describe(&self, pooled: &Tensor, sizes: &[Vec<f32>]) -> Result<Tensor> {
        let (batch, width) = pooled.dims2()?;
        let time_dim = self.config.added_time_dim;
        let count = sizes.first().map_or(0, Vec::len);
        if self.config.added_dim != Some(width + count * time_dim)
            || sizes.len() != batch
            || sizes.iter().any(|row| row.len() != count)
        {
            bail_shape!(
                "{count} sizes of {} rows with pooled text of {:?} for a network that takes {:?}",
                sizes.len(),
                pooled.dims(),
                self.config.added_dim
            );
        }
        let table = sinusoid(&sizes.concat(), time_dim, pooled.device())?;
        let table = table
            .reshape((batch, count * time_dim))?
            .to_dtype(pooled.dtype())?;
        Ok(Tensor::cat(&[pooled, &table], 1)?)
    }

    /// What depends on the text alone: tokens (batch, text tokens, width), and for XL what
    /// [`describe`](Self::describe) gave.
    pub fn prepare(&self, tokens: &Tensor, described: Option<&Tensor>) -> Result<UnetText> {
        let added = match (&self.added_in, described) {
            (Some(added_in), Some(described)) => Some(added_in.forward(described)?),
            (None, None) => None,
            _ => bail_shape!("sizes and pooled text belong to XL, and XL needs them"),
        };
        on_workers(tokens.device(), || {
            let mut keys = Vec::new();
            for level in &self.down {
                level.prepare(tokens, &mut keys)?;
            }
            self.middle.prepare(tokens, &mut keys)?;
            for level in &self.up {
                level.prepare(tokens, &mut keys)?;
            }
            Ok(UnetText { keys, added })
        })
    }

    /// The prediction, (batch, channels, height, width).
    pub fn forward(&self, input: &UnetInput) -> Result<Tensor> {
        on_workers(input.latents.device(), || self.predict(input))
    }

    fn predict(&self, input: &UnetInput) -> Result<Tensor> {
        let time = self.embed_time(input)?;
        let times = Times(&time);
        let mut keys = Keys(input.text.keys.iter());
        let mut x = self.conv_in.forward(input.latents)?;
        let mut skips = vec![x.clone()];
        for level in &self.down {
            x = level.go_down(x, &times, &mut keys, &mut skips)?;
        }
        x = self.middle.forward(&x, &times, &mut keys)?;
        for level in &self.up {
            x = level.go_up(x, &times, &mut keys, &mut skips)?;
        }
        self.conv_out
            .forward(&self.norm_out.forward(&x, After::Silu)?)
    }

    /// What the time, and the sizes of XL, add in every residual block, side by side.
    fn embed_time(&self, input: &UnetInput) -> Result<Tensor> {
        let like = input.latents;
        let numbers = vec![input.timestep; like.dim(0)?];
        let size = self.config.block_out_channels[0];
        let table = sinusoid(&numbers, size, like.device())?.to_dtype(like.dtype())?;
        let mut time = self.time_in.forward(&table)?;
        if let Some(added) = &input.text.added {
            time = (time + added)?;
        }
        self.times.forward(&Activation::Silu.forward(&time)?)
    }
}

/// linear, SiLU, linear.
#[derive(Debug)]
struct Embedder(Linear, Linear);

impl Embedder {
    fn load(weights: &Weights, inputs: usize, hidden: usize) -> Result<Self> {
        Ok(Self(
            Linear::load(&weights.at("linear_1"), inputs, hidden)?,
            Linear::load(&weights.at("linear_2"), hidden, hidden)?,
        ))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.1
            .forward(&Activation::Silu.forward(&self.0.forward(x)?)?)
    }
}
