//! What Wan's VAEs are built of: residual blocks of causal convolutions, attention within a frame,
//! samplers that change the resolution in space and time, and the memory of a clip.

use candle_core::Tensor;
use kinora_weights::WanVaeConfig;

use crate::{
    Result,
    layers::{
        Attention, CausalConv3d, ChannelNorm, Conv2d, Enlarging, History, Linear, Padding, Weights,
        attention, norm::After,
    },
    vae::shortcut::Shortcut,
};

/// Kernels: frames, rows, columns.
const CUBE: [usize; 3] = [3, 3, 3];
const LINE: [usize; 3] = [3, 1, 1];
pub(super) const POINT: [usize; 3] = [1, 1, 1];

/// The frames that the convolutions of a clip have seen, in the order in which they run.
#[derive(Debug, Default)]
pub(super) struct Memory {
    slots: Vec<History>,
    next: usize,
    runs: usize,
}

impl Memory {
    /// Whether the clip's first run is at work or still to come.
    pub fn is_first(&self) -> bool {
        self.runs == 0
    }

    /// Before a run.
    pub fn begin(&mut self) {
        self.next = 0;
    }

    /// After a run.
    pub fn end(&mut self) {
        self.runs += 1;
    }

    /// The place of the convolution that runs next.
    pub fn slot(&mut self) -> &mut History {
        if self.slots.len() <= self.next {
            self.slots.resize_with(self.next + 1, History::default);
        }
        self.next += 1;
        &mut self.slots[self.next - 1]
    }
}

/// x + conv(silu(norm(conv(silu(norm(x)))))), with a convolution of x where widths differ.
#[derive(Debug)]
struct ResidualBlock {
    norm1: ChannelNorm,
    conv1: CausalConv3d,
    norm2: ChannelNorm,
    conv2: CausalConv3d,
    shortcut: Option<CausalConv3d>,
}

impl ResidualBlock {
    fn load(weights: &Weights, inputs: usize, outputs: usize) -> Result<Self> {
        let shortcut = (inputs != outputs)
            .then(|| CausalConv3d::load(&weights.at("conv_shortcut"), inputs, outputs, POINT, 1))
            .transpose()?;
        Ok(Self {
            norm1: ChannelNorm::load(&weights.at("norm1"), inputs, 3)?,
            conv1: CausalConv3d::load(&weights.at("conv1"), inputs, outputs, CUBE, 1)?,
            norm2: ChannelNorm::load(&weights.at("norm2"), outputs, 3)?,
            conv2: CausalConv3d::load(&weights.at("conv2"), outputs, outputs, CUBE, 1)?,
            shortcut,
        })
    }

    fn forward(&self, x: Tensor, memory: &mut Memory) -> Result<Tensor> {
        let inner = self.norm1.forward(&x, After::Silu)?;
        let inner = self.conv1.forward(&inner, memory.slot(), None)?;
        let inner = self.norm2.forward(&inner, After::Silu)?;
        let x = match &self.shortcut {
            Some(shortcut) => shortcut.forward(&x, memory.slot(), None)?,
            None => x,
        };
        self.conv2.forward(&inner, memory.slot(), Some(&x))
    }
}

/// Attention of every pixel of a frame over all of them, with one head.
#[derive(Debug)]
struct FrameAttention {
    norm: ChannelNorm,
    qkv: Linear,
    out: Linear,
}

impl FrameAttention {
    fn load(weights: &Weights, channels: usize) -> Result<Self> {
        let layer = |name: &str, outputs: usize| -> Result<Linear> {
            let weights = weights.at(name);
            Linear::new(
                weights.get_flattened_matrix("weight", &[outputs, channels, 1, 1])?,
                Some(weights.get("bias", &[outputs])?),
            )
        };
        Ok(Self {
            norm: ChannelNorm::load(&weights.at("norm"), channels, 2)?,
            qkv: layer("to_qkv", 3 * channels)?,
            out: layer("proj", channels)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (frames, channels, height, width) = x.dims4()?;
        let pixels = height * width;
        let tokens = self
            .norm
            .forward(x, After::Nothing)?
            .reshape((frames, channels, pixels))?
            .transpose(1, 2)?
            .contiguous()?;
        let qkv = self
            .qkv
            .forward(&tokens)?
            .reshape((frames, pixels, 3, channels))?;
        let part = |i| qkv.narrow(2, i, 1);
        let y = attention(&part(0)?, &part(1)?, &part(2)?, Attention::default())?;
        let y = self.out.forward(&y.reshape((frames, pixels, channels))?)?;
        let y = y.transpose(1, 2)?.contiguous()?.reshape(x.shape())?;
        Ok((x + y)?)
    }
}

/// Residual, attention, residual at the lowest resolution.
#[derive(Debug)]
struct Middle {
    first: ResidualBlock,
    attention: FrameAttention,
    last: ResidualBlock,
}

impl Middle {
    fn load(weights: &Weights, channels: usize) -> Result<Self> {
        let resnets = weights.at("resnets");
        Ok(Self {
            first: ResidualBlock::load(&resnets.at(0), channels, channels)?,
            attention: FrameAttention::load(&weights.at("attentions.0"), channels)?,
            last: ResidualBlock::load(&resnets.at(1), channels, channels)?,
        })
    }

    fn forward(&self, x: Tensor, memory: &mut Memory) -> Result<Tensor> {
        let x = self.first.forward(x, memory)?;
        self.last.forward(self.attention.forward(&x)?, memory)
    }
}

/// What ends a level of the encoder: half the size, and half the frames with `time`.
#[derive(Debug)]
struct Halving {
    conv: Conv2d,
    time: Option<CausalConv3d>,
}

impl Halving {
    fn load(weights: &Weights, channels: usize, halves_time: bool) -> Result<Self> {
        let time = halves_time
            .then(|| CausalConv3d::load(&weights.at("time_conv"), channels, channels, LINE, 2))
            .transpose()?;
        Ok(Self {
            conv: Conv2d::load(
                &weights.at("resample.1"),
                channels,
                channels,
                3,
                2,
                Padding::bottom_right(1),
            )?,
            time,
        })
    }

    fn forward(&self, x: &Tensor, memory: &mut Memory) -> Result<Tensor> {
        let x = self.conv.forward(x)?;
        let Some(time) = &self.time else {
            return Ok(x);
        };
        if memory.is_first() {
            // The first frame stays as it is and is the past of the others.
            time.skip(&x, memory.slot())?;
            return Ok(x);
        }
        time.forward(&x, memory.slot(), None)
    }
}

/// What ends a level of the decoder: twice the size, and twice the frames with `time`.
#[derive(Debug)]
struct Doubling {
    conv: Enlarging,
    time: Option<CausalConv3d>,
}

impl Doubling {
    fn load(weights: &Weights, inputs: usize, outputs: usize, doubles_time: bool) -> Result<Self> {
        let time = doubles_time
            .then(|| CausalConv3d::load(&weights.at("time_conv"), inputs, 2 * inputs, LINE, 1))
            .transpose()?;
        Ok(Self {
            conv: Conv2d::load_enlarging(&weights.at("resample.1"), inputs, outputs)?,
            time,
        })
    }

    fn forward(&self, x: &Tensor, memory: &mut Memory) -> Result<Tensor> {
        let Some(time) = &self.time else {
            return self.conv.forward(x);
        };
        let is_first = memory.is_first();
        let slot = memory.slot();
        if is_first {
            // The first frame makes one frame and is no past of the others.
            return self.conv.forward(x);
        }
        let (frames, channels, height, width) = x.dims4()?;
        // The two halves of the channels are two frames.
        let twice = time.forward(x, slot, None)?;
        self.conv
            .forward(&twice.reshape((2 * frames, channels, height, width))?)
    }
}

/// Residual blocks from one width to another.
fn load_row(
    count: usize,
    (inputs, outputs): (usize, usize),
    weights: impl Fn(usize) -> Weights,
) -> Result<Vec<ResidualBlock>> {
    (0..count)
        .map(|i| {
            let inputs = if i == 0 { inputs } else { outputs };
            ResidualBlock::load(&weights(i), inputs, outputs)
        })
        .collect()
}

/// One resolution of the encoder.
#[derive(Debug)]
struct DownLevel {
    blocks: Vec<ResidualBlock>,
    halving: Option<Halving>,
    /// Version 2.2.
    shortcut: Option<Shortcut>,
}

impl DownLevel {
    fn forward(&self, x: Tensor, memory: &mut Memory) -> Result<Tensor> {
        let input = self.shortcut.map(|shortcut| (shortcut, x.clone()));
        let mut x = x;
        for block in &self.blocks {
            x = block.forward(x, memory)?;
        }
        if let Some(halving) = &self.halving {
            x = halving.forward(&x, memory)?;
        }
        match input {
            Some((shortcut, input)) => shortcut.add_average(&x, &input),
            None => Ok(x),
        }
    }
}

/// Frames to mean and variance of latents, but for the last point-wise layer.
#[derive(Debug)]
pub(super) struct Encoder {
    conv_in: CausalConv3d,
    levels: Vec<DownLevel>,
    middle: Middle,
    norm_out: ChannelNorm,
    conv_out: CausalConv3d,
}

impl Encoder {
    pub fn load(weights: &Weights, config: &WanVaeConfig) -> Result<Self> {
        let widths: Vec<usize> = config
            .multipliers
            .iter()
            .map(|factor| factor * config.base_dim)
            .collect();
        let first = config.base_dim;
        let last = widths.last().copied().unwrap_or(first);
        let conv_in = CausalConv3d::load(
            &weights.at("conv_in"),
            config.pixel_channels(),
            first,
            CUBE,
            1,
        )?;
        let mut inputs = first;
        let mut levels = Vec::with_capacity(widths.len());
        // In 2.1 blocks and samplers are counted in one row.
        let mut place = 0;
        let down = weights.at("down_blocks");
        for (i, &outputs) in widths.iter().enumerate() {
            let halves_time = config.halves_time.get(i).copied();
            let (blocks, halving) = if config.is_residual {
                let level = down.at(i);
                let blocks = load_row(config.blocks_per_level, (inputs, outputs), |block| {
                    level.at("resnets").at(block)
                })?;
                let halving = halves_time
                    .map(|time| Halving::load(&level.at("downsampler"), outputs, time))
                    .transpose()?;
                (blocks, halving)
            } else {
                let blocks = load_row(config.blocks_per_level, (inputs, outputs), |block| {
                    down.at(place + block)
                })?;
                place += config.blocks_per_level;
                let halving = halves_time
                    .map(|time| Halving::load(&down.at(place), outputs, time))
                    .transpose()?;
                place += 1;
                (blocks, halving)
            };
            let shortcut = config.is_residual.then_some(Shortcut {
                outputs,
                time: if halves_time == Some(true) { 2 } else { 1 },
                side: if halves_time.is_some() { 2 } else { 1 },
            });
            levels.push(DownLevel {
                blocks,
                halving,
                shortcut,
            });
            inputs = outputs;
        }
        Ok(Self {
            conv_in,
            levels,
            middle: Middle::load(&weights.at("mid_block"), last)?,
            norm_out: ChannelNorm::load(&weights.at("norm_out"), last, 3)?,
            conv_out: CausalConv3d::load(
                &weights.at("conv_out"),
                last,
                2 * config.latent_channels,
                CUBE,
                1,
            )?,
        })
    }

    pub fn forward(&self, x: Tensor, memory: &mut Memory) -> Result<Tensor> {
        let mut x = self.conv_in.forward(&x, memory.slot(), None)?;
        for level in &self.levels {
            x = level.forward(x, memory)?;
        }
        let x = self.middle.forward(x, memory)?;
        let x = self.norm_out.forward(&x, After::Silu)?;
        self.conv_out.forward(&x, memory.slot(), None)
    }
}

/// One resolution of the decoder.
#[derive(Debug)]
struct UpLevel {
    blocks: Vec<ResidualBlock>,
    doubling: Option<Doubling>,
    /// Version 2.2.
    shortcut: Option<Shortcut>,
}

impl UpLevel {
    fn forward(&self, x: Tensor, memory: &mut Memory) -> Result<Tensor> {
        let is_first = memory.is_first();
        let input = self.shortcut.map(|shortcut| (shortcut, x.clone()));
        let mut x = x;
        for block in &self.blocks {
            x = block.forward(x, memory)?;
        }
        if let Some(doubling) = &self.doubling {
            x = doubling.forward(&x, memory)?;
        }
        match input {
            Some((shortcut, input)) => shortcut.add_copies(&x, &input, is_first),
            None => Ok(x),
        }
    }
}

/// Latents to frames, but for the first point-wise layer.
#[derive(Debug)]
pub(super) struct Decoder {
    conv_in: CausalConv3d,
    middle: Middle,
    levels: Vec<UpLevel>,
    norm_out: ChannelNorm,
    conv_out: CausalConv3d,
}

impl Decoder {
    pub fn load(weights: &Weights, config: &WanVaeConfig) -> Result<Self> {
        let widths: Vec<usize> = config
            .multipliers
            .iter()
            .rev()
            .map(|factor| factor * config.decoder_base_dim)
            .collect();
        let first = widths.first().copied().unwrap_or(config.decoder_base_dim);
        let last = widths.last().copied().unwrap_or(first);
        let conv_in = CausalConv3d::load(
            &weights.at("conv_in"),
            config.latent_channels,
            first,
            CUBE,
            1,
        )?;
        let middle = Middle::load(&weights.at("mid_block"), first)?;
        let mut inputs = first;
        let mut levels = Vec::with_capacity(widths.len());
        for (i, &outputs) in widths.iter().enumerate() {
            let level = weights.at("up_blocks").at(i);
            let blocks = load_row(config.blocks_per_level + 1, (inputs, outputs), |block| {
                level.at("resnets").at(block)
            })?;
            // Samplers in the order of the encoder's, from the last.
            let doubles_time = config.halves_time.iter().rev().nth(i).copied();
            let (name, narrowed) = match config.is_residual {
                true => ("upsampler", outputs),
                false => ("upsamplers.0", outputs / 2),
            };
            let doubling = doubles_time
                .map(|time| Doubling::load(&level.at(name), outputs, narrowed, time))
                .transpose()?;
            let shortcut = doubles_time
                .filter(|_| config.is_residual)
                .map(|time| Shortcut {
                    outputs,
                    time: if time { 2 } else { 1 },
                    side: 2,
                });
            inputs = if doubling.is_some() {
                narrowed
            } else {
                outputs
            };
            levels.push(UpLevel {
                blocks,
                doubling,
                shortcut,
            });
        }
        Ok(Self {
            conv_in,
            middle,
            levels,
            norm_out: ChannelNorm::load(&weights.at("norm_out"), last, 3)?,
            conv_out: CausalConv3d::load(
                &weights.at("conv_out"),
                last,
                config.pixel_channels(),
                CUBE,
                1,
            )?,
        })
    }

    pub fn forward(&self, x: Tensor, memory: &mut Memory) -> Result<Tensor> {
        let x = self.conv_in.forward(&x, memory.slot(), None)?;
        let mut x = self.middle.forward(x, memory)?;
        for level in &self.levels {
            x = level.forward(x, memory)?;
        }
        let x = self.norm_out.forward(&x, After::Silu)?;
        self.conv_out.forward(&x, memory.slot(), None)
    }
}
