//! What the encoder and the decoder of a KL autoencoder are built of: residual blocks, the
//! attention in the middle, one resolution's level of either direction.

use candle_core::Tensor;
use kinora_weights::VaeConfig;

use crate::{
    Result,
    layers::{
        Attention, Conv2d, Enlarging, GroupNorm, Linear, Padding, Weights, attention, norm::After,
    },
};

/// Of every group norm.
pub(super) const EPS: f64 = 1e-6;

/// A 3×3 convolution that keeps the size.
pub(super) fn conv3(weights: &Weights, inputs: usize, outputs: usize) -> Result<Conv2d> {
    Conv2d::load(weights, inputs, outputs, 3, 1, Padding::all(1))
}

/// A 1×1 convolution.
pub(super) fn conv1(weights: &Weights, inputs: usize, outputs: usize) -> Result<Conv2d> {
    Conv2d::load(weights, inputs, outputs, 1, 1, Padding::default())
}

/// x + conv(silu(norm(conv(silu(norm(x)))))), with a 1×1 convolution of x where widths differ.
#[derive(Debug)]
pub(super) struct ResidualBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl ResidualBlock {
    pub fn load(weights: &Weights, groups: usize, inputs: usize, outputs: usize) -> Result<Self> {
        let shortcut = (inputs != outputs)
            .then(|| conv1(&weights.at("conv_shortcut"), inputs, outputs))
            .transpose()?;
        Ok(Self {
            norm1: GroupNorm::load(&weights.at("norm1"), groups, inputs, EPS)?,
            conv1: conv3(&weights.at("conv1"), inputs, outputs)?,
            norm2: GroupNorm::load(&weights.at("norm2"), groups, outputs, EPS)?,
            conv2: conv3(&weights.at("conv2"), outputs, outputs)?,
            shortcut,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let inner = self.conv1.forward(&self.norm1.forward(x, After::Silu)?)?;
        let inner = self.norm2.forward(&inner, After::Silu)?;
        match &self.shortcut {
            Some(shortcut) => self.conv2.forward_add(&inner, &shortcut.forward(x)?),
            None => self.conv2.forward_add(&inner, x),
        }
    }
}

/// Attention of every pixel over all pixels, with one head.
#[derive(Debug)]
struct PixelAttention {
    norm: GroupNorm,
    qkv: Linear,
    out: Linear,
}

impl PixelAttention {
    fn load(weights: &Weights, groups: usize, channels: usize) -> Result<Self> {
        let parts = ["to_q", "to_k", "to_v"].map(|name| (name, channels));
        Ok(Self {
            norm: GroupNorm::load(&weights.at("group_norm"), groups, channels, EPS)?,
            qkv: Linear::load_stacked(weights, channels, &parts)?,
            out: Linear::load(&weights.at("to_out.0"), channels, channels)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let pixels = height * width;
        let tokens = self
            .norm
            .forward(x, After::Nothing)?
            .reshape((batch, channels, pixels))?
            .transpose(1, 2)?
            .contiguous()?;
        let qkv = self
            .qkv
            .forward(&tokens)?
            .reshape((batch, pixels, 3, channels))?;
        let part = |i| qkv.narrow(2, i, 1);
        let y = attention(&part(0)?, &part(1)?, &part(2)?, Attention::default())?;
        let y = self.out.forward(&y.reshape((batch, pixels, channels))?)?;
        let y = y.transpose(1, 2)?.contiguous()?.reshape(x.shape())?;
        Ok((x + y)?)
    }
}

/// Residual, attention, residual at the lowest resolution.
#[derive(Debug)]
pub(super) struct Middle {
    first: ResidualBlock,
    attention: Option<PixelAttention>,
    last: ResidualBlock,
}

impl Middle {
    pub fn load(weights: &Weights, config: &VaeConfig, channels: usize) -> Result<Self> {
        let groups = config.norm_groups;
        let resnets = weights.at("resnets");
        Ok(Self {
            first: ResidualBlock::load(&resnets.at(0), groups, channels, channels)?,
            attention: config
                .has_mid_attention
                .then(|| PixelAttention::load(&weights.at("attentions.0"), groups, channels))
                .transpose()?,
            last: ResidualBlock::load(&resnets.at(1), groups, channels, channels)?,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.first.forward(x)?;
        let x = match &self.attention {
            Some(attention) => attention.forward(&x)?,
            None => x,
        };
        self.last.forward(&x)
    }
}

/// What ends a level.
#[derive(Debug)]
enum Resize {
    /// The level keeps its size.
    Keep,
    /// Enlarge to the nearest pixel, then 3×3.
    Double(Enlarging),
    /// 3×3 with a step of two.
    Halve(Conv2d),
}

/// Residual blocks of one width, then a change of resolution.
#[derive(Debug)]
pub(super) struct Level {
    blocks: Vec<ResidualBlock>,
    resize: Resize,
}

/// Which way a level changes the resolution.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

impl Level {
    /// `count` blocks from `inputs` to `outputs` channels; the last level of a side does not resize.
    pub fn load(
        weights: &Weights,
        groups: usize,
        count: usize,
        (inputs, outputs): (usize, usize),
        direction: Direction,
        is_last: bool,
    ) -> Result<Self> {
        let blocks = (0..count)
            .map(|i| {
                let inputs = if i == 0 { inputs } else { outputs };
                ResidualBlock::load(&weights.at("resnets").at(i), groups, inputs, outputs)
            })
            .collect::<Result<_>>()?;
        let resize = match direction {
            _ if is_last => Resize::Keep,
            Direction::Up => Resize::Double(Conv2d::load_enlarging(
                &weights.at("upsamplers.0.conv"),
                outputs,
                outputs,
            )?),
            Direction::Down => Resize::Halve(Conv2d::load(
                &weights.at("downsamplers.0.conv"),
                outputs,
                outputs,
                3,
                2,
                Padding::bottom_right(1),
            )?),
        };
        Ok(Self { blocks, resize })
    }

    pub fn forward(&self, mut x: Tensor) -> Result<Tensor> {
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        match &self.resize {
            Resize::Keep => Ok(x),
            Resize::Double(conv) => conv.forward(&x),
            Resize::Halve(conv) => conv.forward(&x),
        }
    }
}
