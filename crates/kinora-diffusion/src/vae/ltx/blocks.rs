//! What the VAEs of LTX are built of: residual blocks of convolutions over frames, samplers that
//! change the resolution in space and time, and the memory of a clip.
//!
//! A decoder's convolutions see one frame ahead, so that each of them answers a frame late: a run of
//! frames may bring nothing out at all. The last run brings everything.

use candle_core::{Device, Tensor};
use kinora_weights::{LtxDownLevel, LtxFold, LtxShrink, LtxUpLevel, LtxVaeConfig};

use crate::{
    Result,
    error::bail_shape,
    layers::{
        CausalConv3d, ChannelNorm, Conv2d, Edges, History, LayerNorm, Linear, Padding,
        TimeEmbedding, Weights, depth_to_space, norm::After, space_to_depth,
    },
    noise::Generator,
    vae::shortcut::Shortcut,
};

/// Of the norms between convolutions.
const EPS: f64 = 1e-8;

/// What the layers of a clip remember, in the order in which they run.
#[derive(Debug, Default)]
pub(super) struct Memory {
    slots: Vec<Slot>,
    next: usize,
    /// What the residual blocks are given beside the frames, in their order.
    given: Vec<Given>,
    next_given: usize,
    /// Whether no frames come after these.
    is_last: bool,
}

/// Of one layer.
#[derive(Debug, Default)]
struct Slot {
    history: History,
    /// Frames that wait for those that will be added to them.
    waiting: Option<Tensor>,
    /// Whether frames have passed.
    has_begun: bool,
}

/// What a residual block is given for a whole clip.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Its norms with the time in them.
    norms: Option<[ChannelNorm; 2]>,
    /// Added after each convolution: (1, channels, height, width).
    noise: Option<[Tensor; 2]>,
}

impl Memory {
    pub fn new(given: Vec<Given>) -> Self {
        Self {
            given,
            ..Self::default()
        }
    }

    /// Before a run.
    pub fn begin(&mut self, is_last: bool) {
        self.next = 0;
        self.next_given = 0;
        self.is_last = is_last;
    }

    /// The place of the layer that runs next.
    fn slot(&mut self) -> &mut Slot {
        if self.slots.len() <= self.next {
            self.slots.resize_with(self.next + 1, Slot::default);
        }
        self.next += 1;
        &mut self.slots[self.next - 1]
    }

    /// What the residual block that runs next is given.
    fn given(&mut self) -> usize {
        if self.given.len() <= self.next_given {
            self.given.resize_with(self.next_given + 1, Given::default);
        }
        self.next_given += 1;
        self.next_given - 1
    }
}

impl Slot {
    fn wait(&mut self, frames: &Tensor) -> Result<()> {
        self.waiting = Some(match self.waiting.take() {
            Some(before) => Tensor::cat(&[&before, frames], 0)?,
            None => frames.clone(),
        });
        Ok(())
    }

    /// The first frames that wait.
    fn take(&mut self, count: usize) -> Result<Tensor> {
        let Some(waiting) = self.waiting.take() else {
            bail_shape!("{count} frames to add where none wait");
        };
        let rest = waiting.dim(0)?.checked_sub(count);
        match rest {
            None => bail_shape!("{count} frames to add where {:?} wait", waiting.dims()),
            Some(0) => return Ok(waiting),
            // A copy, so that what it was part of is not kept alive.
            Some(rest) => self.waiting = Some(waiting.narrow(0, count, rest)?.copy()?),
        }
        Ok(waiting.narrow(0, 0, count)?.contiguous()?)
    }
}

/// Frames that are added to a convolution's results, one to each.
struct Around {
    frames: Option<Tensor>,
    /// Their channels stand so often one after another.
    repeats: usize,
}

/// A convolution over three frames, of which the one before the first and the one behind the last
/// are copies of those.
#[derive(Debug)]
struct TimeConv {
    conv: CausalConv3d,
    /// Whether a result sees the frames before it only, not one on each side.
    is_causal: bool,
}

impl TimeConv {
    /// `conv` below `weights`.
    fn load(weights: &Weights, inputs: usize, outputs: usize, kind: Kind) -> Result<Self> {
        let conv = CausalConv3d::load(&weights.at("conv"), inputs, outputs, [3; 3], 1)?;
        Ok(Self {
            conv: conv.with_edges(kind.edges),
            is_causal: kind.is_causal,
        })
    }

    fn forward(
        &self,
        x: Option<Tensor>,
        memory: &mut Memory,
        around: Option<Around>,
    ) -> Result<Option<Tensor>> {
        let is_last = memory.is_last;
        let slot = memory.slot();
        if let Some(Around {
            frames: Some(frames),
            ..
        }) = &around
        {
            slot.wait(frames)?;
        }
        let Some(x) = x else {
            return Ok(None);
        };
        let count = x.dim(0)?;
        let mut first = 0;
        if slot.history.is_empty() {
            let edge = x.narrow(0, 0, 1)?;
            self.conv
                .skip(&Tensor::cat(&[&edge, &edge], 0)?, &mut slot.history)?;
            // Without a look ahead the first frame is still to come.
            first = usize::from(!self.is_causal);
        }
        let mut parts = Vec::with_capacity(2);
        if count > first {
            parts.push(x.narrow(0, first, count - first)?);
        }
        if is_last && !self.is_causal {
            parts.push(x.narrow(0, count - 1, 1)?);
        }
        let run = match parts.as_slice() {
            [] => return Ok(None),
            [only] => only.contiguous()?,
            several => Tensor::cat(several, 0)?,
        };
        let residual = match around {
            Some(around) => {
                let frames = slot.take(run.dim(0)?)?;
                Some(match around.repeats {
                    1 => frames,
                    repeats => Tensor::cat(&vec![frames; repeats], 1)?,
                })
            }
            None => None,
        };
        let y = self
            .conv
            .forward(&run, &mut slot.history, residual.as_ref())?;
        Ok(Some(y))
    }
}

/// What the convolutions of a coder have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    is_causal: bool,
    edges: Edges,
}

impl Kind {
    pub fn of_encoder(config: &LtxVaeConfig) -> Self {
        Self {
            is_causal: config.is_encoder_causal,
            edges: Edges::Zeros,
        }
    }

    pub fn of_decoder(config: &LtxVaeConfig) -> Self {
        Self {
            is_causal: config.is_decoder_causal,
            edges: match config.is_decoder_mirrored {
                true => Edges::Reflected,
                false => Edges::Zeros,
            },
        }
    }
}

/// x + conv(silu(norm(conv(silu(norm(x)))))), with a layer over x where widths differ.
#[derive(Debug)]
struct ResidualBlock {
    norm1: ChannelNorm,
    conv1: TimeConv,
    norm2: ChannelNorm,
    conv2: TimeConv,
    shortcut: Option<(LayerNorm, Linear)>,
    /// (4, channels), f32: what a time is added to.
    table: Option<Tensor>,
    /// How much noise goes to each channel, (channels, 1, 1), after each convolution.
    noise: Option<[Tensor; 2]>,
}

/// Which residual block it is.
#[derive(Clone, Copy)]
struct BlockKind {
    convs: Kind,
    norm_eps: f64,
    is_timed: bool,
    has_noise: bool,
}

impl ResidualBlock {
    fn load(weights: &Weights, inputs: usize, outputs: usize, kind: BlockKind) -> Result<Self> {
        let shortcut = (inputs != outputs)
            .then(|| -> Result<_> {
                let weights_of = weights.at("conv_shortcut.conv");
                let shape = [outputs, inputs, 1, 1, 1];
                let layer = Linear::new(
                    weights_of.get_flattened_matrix("weight", &shape)?,
                    Some(weights_of.get("bias", &[outputs])?),
                )?;
                let norm = LayerNorm::load(&weights.at("norm3"), inputs, kind.norm_eps)?;
                Ok((norm, layer))
            })
            .transpose()?;
        let table = kind
            .is_timed
            .then(|| weights.get_f32("scale_shift_table", &[4, inputs]))
            .transpose()?;
        let noise = kind
            .has_noise
            .then(|| -> Result<_> {
                let scale = |name| weights.get_f32(name, &[inputs, 1, 1]);
                Ok([scale("per_channel_scale1")?, scale("per_channel_scale2")?])
            })
            .transpose()?;
        let device = weights.device();
        Ok(Self {
            norm1: ChannelNorm::rms(inputs, EPS, device)?,
            conv1: TimeConv::load(&weights.at("conv1"), inputs, outputs, kind.convs)?,
            norm2: ChannelNorm::rms(outputs, EPS, device)?,
            conv2: TimeConv::load(&weights.at("conv2"), outputs, outputs, kind.convs)?,
            shortcut,
            table,
            noise,
        })
    }

    /// What it is given for a clip: an embedded time, (1, 4 · channels), and noise of its size.
    fn prepare(
        &self,
        time: Option<&Tensor>,
        (height, width): (usize, usize),
        generator: &mut Generator,
    ) -> Result<Given> {
        let norms = match (&self.table, time) {
            (Some(table), Some(time)) => {
                let rows = (time.reshape(table.shape())?.to_dtype(table.dtype())? + table)?;
                Some([
                    self.norm1.modulated(&rows.get(0)?, &rows.get(1)?)?,
                    self.norm2.modulated(&rows.get(2)?, &rows.get(3)?)?,
                ])
            }
            (None, _) => None,
            (Some(_), None) => bail_shape!("a decoder that was not told the noise level"),
        };
        let mut noise = None;
        if let Some(scales) = &self.noise {
            let mut planes = Vec::with_capacity(2);
            for scale in scales {
                let mut plane = vec![0f32; height * width];
                generator.fill_normal(&mut plane);
                let plane = Tensor::from_vec(plane, (1, height, width), scale.device())?;
                planes.push(scale.broadcast_mul(&plane)?.unsqueeze(0)?);
            }
            noise = planes.try_into().ok();
        }
        Ok(Given { norms, noise })
    }

    fn forward(&self, x: Option<Tensor>, memory: &mut Memory) -> Result<Option<Tensor>> {
        let given = memory.given();
        let norm = |which: usize, x: &Option<Tensor>, memory: &Memory| -> Result<Option<Tensor>> {
            let norm = match (&memory.given[given].norms, which) {
                (Some(norms), _) => &norms[which],
                (None, 0) => &self.norm1,
                (None, _) => &self.norm2,
            };
            x.as_ref().map(|x| norm.forward(x, After::Silu)).transpose()
        };
        let add_noise = |which: usize, x: Option<Tensor>, memory: &Memory| -> Result<_> {
            match (&memory.given[given].noise, x) {
                (Some(noise), Some(x)) => {
                    let noise = noise[which].to_dtype(x.dtype())?;
                    Ok(Some(x.broadcast_add(&noise)?))
                }
                (_, x) => Ok(x),
            }
        };
        let inner = self.conv1.forward(norm(0, &x, memory)?, memory, None)?;
        let inner = add_noise(0, inner, memory)?;
        let inner = norm(1, &inner, memory)?;
        let frames = match (&self.shortcut, x) {
            (Some((norm, layer)), Some(x)) => Some(widen(&x, norm, layer)?),
            (_, x) => x,
        };
        let around = Around { frames, repeats: 1 };
        let y = self.conv2.forward(inner, memory, Some(around))?;
        add_noise(1, y, memory)
    }
}

/// A norm and a layer over the channels of each pixel.
fn widen(x: &Tensor, norm: &LayerNorm, layer: &Linear) -> Result<Tensor> {
    let (frames, channels, height, width) = x.dims4()?;
    let tokens = x
        .reshape((frames, channels, height * width))?
        .transpose(1, 2)?
        .contiguous()?;
    let y = layer.forward(&norm.forward(&tokens)?)?;
    let y = y.transpose(1, 2)?.contiguous()?;
    Ok(y.reshape((frames, layer.outputs(), height, width))?)
}

/// Residual blocks of one width, told the noise level together.
#[derive(Debug)]
struct Row {
    time: Option<TimeEmbedding>,
    blocks: Vec<ResidualBlock>,
}

impl Row {
    fn load(weights: &Weights, width: usize, count: usize, kind: BlockKind) -> Result<Self> {
        let time = kind
            .is_timed
            .then(|| {
                let weights = weights.at("time_embedder.timestep_embedder");
                TimeEmbedding::load(&weights, 4 * width)
            })
            .transpose()?;
        let blocks = (0..count)
            .map(|i| ResidualBlock::load(&weights.at("resnets").at(i), width, width, kind))
            .collect::<Result<_>>()?;
        Ok(Self { time, blocks })
    }

    fn prepare(
        &self,
        time: f32,
        size: (usize, usize),
        generator: &mut Generator,
        device: &Device,
        given: &mut Vec<Given>,
    ) -> Result<()> {
        let time = self
            .time
            .as_ref()
            .map(|embedding| embedding.forward(&[time], device))
            .transpose()?;
        for block in &self.blocks {
            given.push(block.prepare(time.as_ref(), size, generator)?);
        }
        Ok(())
    }

    fn forward(&self, x: Option<Tensor>, memory: &mut Memory) -> Result<Option<Tensor>> {
        let mut x = x;
        for block in &self.blocks {
            x = block.forward(x, memory)?;
        }
        Ok(x)
    }
}

/// What ends a level of the encoder.
#[derive(Debug)]
enum Shrinking {
    /// A step of two in every direction, over the channels of three frames.
    Conv(Conv2d),
    Fold {
        conv: TimeConv,
        fold: LtxFold,
        shortcut: Shortcut,
    },
}

impl Shrinking {
    fn load(weights: &Weights, level: &LtxDownLevel, convs: Kind) -> Result<Option<Self>> {
        let weights = weights.at("downsamplers.0");
        Ok(match level.shrink {
            LtxShrink::No => None,
            LtxShrink::Conv => {
                let width = level.width;
                let size = (3, 3);
                Some(Self::Conv(Conv2d::load_frames(
                    &weights.at("conv"),
                    width,
                    width,
                    size,
                    2,
                    Padding::all(1),
                )?))
            }
            LtxShrink::Fold(fold) => {
                let [time, side, _] = fold;
                let outputs = level.outputs / fold.iter().product::<usize>();
                Some(Self::Fold {
                    conv: TimeConv::load(&weights.at("conv"), level.width, outputs, convs)?,
                    fold,
                    shortcut: Shortcut {
                        outputs: level.outputs,
                        time,
                        side,
                    },
                })
            }
        })
    }

    fn forward(&self, x: Option<Tensor>, memory: &mut Memory) -> Result<Option<Tensor>> {
        match self {
            Self::Conv(conv) => {
                let slot = memory.slot();
                if let Some(x) = &x {
                    if !slot.has_begun {
                        // Two copies of the first frame stand before it.
                        slot.has_begun = true;
                        let edge = x.narrow(0, 0, 1)?;
                        slot.wait(&Tensor::cat(&[&edge, &edge], 0)?)?;
                    }
                    slot.wait(x)?;
                }
                let count = match &slot.waiting {
                    Some(waiting) => waiting.dim(0)?.saturating_sub(1) / 2,
                    None => 0,
                };
                if count == 0 {
                    return Ok(None);
                }
                let frames = slot.take(2 * count + 1)?;
                // The last frame is the next window's first.
                let last = frames.narrow(0, 2 * count, 1)?.copy()?;
                slot.waiting = Some(match slot.waiting.take() {
                    Some(rest) => Tensor::cat(&[&last, &rest], 0)?,
                    None => last,
                });
                let (_, channels, height, width) = frames.dims4()?;
                let windows: Vec<u32> =
                    (0..3 * count as u32).map(|i| 2 * (i / 3) + i % 3).collect();
                let windows = Tensor::new(windows, frames.device())?;
                let windows = frames.index_select(&windows, 0)?.reshape((
                    count,
                    3 * channels,
                    height,
                    width,
                ))?;
                Ok(Some(conv.forward(&windows)?))
            }
            Self::Fold {
                conv,
                fold,
                shortcut,
            } => {
                let slot = memory.slot();
                let has_begun = std::mem::replace(&mut slot.has_begun, true);
                let x = match x {
                    // The first frame shares a cube with itself.
                    Some(x) if !has_begun && fold[0] > 1 => {
                        let edge = x.narrow(0, 0, 1)?;
                        let mut frames = vec![edge; fold[0] - 1];
                        frames.push(x);
                        Some(Tensor::cat(&frames, 0)?)
                    }
                    x => x,
                };
                let y = conv.forward(x.clone(), memory, None)?;
                match (x, y) {
                    (Some(x), Some(y)) => {
                        Ok(Some(shortcut.add_average(&space_to_depth(&y, *fold)?, &x)?))
                    }
                    _ => Ok(None),
                }
            }
        }
    }
}

/// One resolution of the encoder.
#[derive(Debug)]
struct DownLevel {
    row: Row,
    shrinking: Option<Shrinking>,
    out: Option<ResidualBlock>,
}

/// Frames to moments of latents.
#[derive(Debug)]
pub(super) struct Encoder {
    conv_in: TimeConv,
    levels: Vec<DownLevel>,
    middle: Row,
    norm_out: ChannelNorm,
    conv_out: TimeConv,
}

impl Encoder {
    pub fn load(weights: &Weights, config: &LtxVaeConfig) -> Result<Self> {
        let convs = Kind::of_encoder(config);
        let kind = BlockKind {
            convs,
            norm_eps: config.norm_eps,
            is_timed: false,
            has_noise: false,
        };
        let first = config.encoder_width;
        let mut levels = Vec::with_capacity(config.down.len());
        for (i, level) in config.down.iter().enumerate() {
            let weights = weights.at("down_blocks").at(i);
            let out = level
                .has_block_out
                .then(|| {
                    let weights = weights.at("conv_out");
                    ResidualBlock::load(&weights, level.width, level.outputs, kind)
                })
                .transpose()?;
            levels.push(DownLevel {
                row: Row::load(&weights, level.width, level.blocks, kind)?,
                shrinking: Shrinking::load(&weights, level, convs)?,
                out,
            });
        }
        let last = config.down.last().map_or(first, |level| level.outputs);
        let moments = config.latent_channels + 1;
        Ok(Self {
            conv_in: TimeConv::load(
                &weights.at("conv_in"),
                config.pixel_channels(),
                first,
                convs,
            )?,
            levels,
            middle: Row::load(&weights.at("mid_block"), last, config.encoder_middle, kind)?,
            norm_out: ChannelNorm::rms(last, EPS, weights.device())?,
            conv_out: TimeConv::load(&weights.at("conv_out"), last, moments, convs)?,
        })
    }

    pub fn forward(&self, x: Tensor, memory: &mut Memory) -> Result<Option<Tensor>> {
        let mut x = self.conv_in.forward(Some(x), memory, None)?;
        for level in &self.levels {
            x = level.row.forward(x, memory)?;
            if let Some(shrinking) = &level.shrinking {
                x = shrinking.forward(x, memory)?;
            }
            if let Some(out) = &level.out {
                x = out.forward(x, memory)?;
            }
        }
        let x = self.middle.forward(x, memory)?;
        let x = x
            .map(|x| self.norm_out.forward(&x, After::Silu))
            .transpose()?;
        self.conv_out.forward(x, memory, None)
    }
}

/// How a level of the decoder grows.
#[derive(Debug)]
struct Growing {
    conv: TimeConv,
    fold: LtxFold,
    /// Copies of the channels around it; 0: none.
    repeats: usize,
}

impl Growing {
    fn load(weights: &Weights, level: &LtxUpLevel, convs: Kind) -> Result<Option<Self>> {
        let Some(fold) = level.grow else {
            return Ok(None);
        };
        let cube: usize = fold.iter().product();
        let inputs = level.width * level.factor;
        let weights = weights.at("upsamplers.0.conv");
        Ok(Some(Self {
            conv: TimeConv::load(&weights, inputs, inputs * cube / level.factor, convs)?,
            fold,
            repeats: match level.is_residual {
                true => cube / level.factor,
                false => 0,
            },
        }))
    }

    fn forward(&self, x: Option<Tensor>, memory: &mut Memory) -> Result<Option<Tensor>> {
        let slot = memory.slot();
        let has_begun = slot.has_begun;
        let place = memory.next - 1;
        // Channels that are added before they become pixels are added to the same pixels.
        let around = (self.repeats > 0).then(|| Around {
            frames: x.clone(),
            repeats: self.repeats,
        });
        let Some(y) = self.conv.forward(x, memory, around)? else {
            return Ok(None);
        };
        memory.slots[place].has_begun = true;
        let y = depth_to_space(&y, self.fold)?;
        let dropped = self.fold[0] - 1;
        if has_begun || dropped == 0 {
            return Ok(Some(y));
        }
        // The clip's first frame grows no others before it.
        let count = y.dim(0)? - dropped;
        Ok(Some(y.narrow(0, dropped, count)?.contiguous()?))
    }
}

/// One resolution of the decoder.
#[derive(Debug)]
struct UpLevel {
    block_in: Option<ResidualBlock>,
    growing: Option<Growing>,
    row: Row,
}

/// Latents to frames.
#[derive(Debug)]
pub(super) struct Decoder {
    conv_in: TimeConv,
    middle: Row,
    levels: Vec<UpLevel>,
    norm_out: ChannelNorm,
    /// The scale of times, their embedding, and what it is added to, (2, channels), f32.
    time: Option<(f32, TimeEmbedding, Tensor)>,
    conv_out: TimeConv,
}

impl Decoder {
    pub fn load(weights: &Weights, config: &LtxVaeConfig) -> Result<Self> {
        let convs = Kind::of_decoder(config);
        let kind = |has_noise| BlockKind {
            convs,
            norm_eps: config.norm_eps,
            is_timed: config.is_timed,
            has_noise,
        };
        let first = config.decoder_width;
        let mut levels = Vec::with_capacity(config.up.len());
        for (i, level) in config.up.iter().enumerate() {
            let weights = weights.at("up_blocks").at(i);
            let kind = kind(level.has_noise);
            let block_in = (level.inputs != level.width)
                .then(|| {
                    let weights = weights.at("conv_in");
                    ResidualBlock::load(&weights, level.inputs, level.width, kind)
                })
                .transpose()?;
            levels.push(UpLevel {
                block_in,
                growing: Growing::load(&weights, level, convs)?,
                row: Row::load(&weights, level.width, level.blocks, kind)?,
            });
        }
        let last = config.last_width();
        let time = config
            .is_timed
            .then(|| -> Result<_> {
                let scale = weights.get_f32("timestep_scale_multiplier", &[])?;
                let embedder = weights.at("time_embedder.timestep_embedder");
                Ok((
                    scale.to_scalar::<f32>()?,
                    TimeEmbedding::load(&embedder, 2 * last)?,
                    weights.get_f32("scale_shift_table", &[2, last])?,
                ))
            })
            .transpose()?;
        Ok(Self {
            conv_in: TimeConv::load(&weights.at("conv_in"), config.latent_channels, first, convs)?,
            middle: Row::load(
                &weights.at("mid_block"),
                first,
                config.decoder_middle,
                kind(config.middle_has_noise),
            )?,
            levels,
            norm_out: ChannelNorm::rms(last, EPS, weights.device())?,
            time,
            conv_out: TimeConv::load(
                &weights.at("conv_out"),
                last,
                config.pixel_channels(),
                convs,
            )?,
        })
    }

    /// Parts of the way, each of which makes its frames of those of the one before.
    pub fn stages(&self) -> usize {
        self.levels.len() + 2
    }

    /// What the parts remember of a clip at its start, and the last norm: for latents of this size
    /// that hold this share of noise.
    pub fn prepare(
        &self,
        share: f32,
        (height, width): (usize, usize),
        generator: &mut Generator,
        device: &Device,
    ) -> Result<(Vec<Memory>, ChannelNorm)> {
        let time = self.time.as_ref().map_or(0.0, |(scale, ..)| share * scale);
        let mut size = (height, width);
        let mut memories = Vec::with_capacity(self.stages());
        let mut given = Vec::new();
        self.middle
            .prepare(time, size, generator, device, &mut given)?;
        memories.push(Memory::new(given));
        for level in &self.levels {
            let mut given = Vec::new();
            if let Some(block) = &level.block_in {
                given.push(block.prepare(None, size, generator)?);
            }
            if let Some(growing) = &level.growing {
                let [_, rows, columns] = growing.fold;
                size = (size.0 * rows, size.1 * columns);
            }
            level
                .row
                .prepare(time, size, generator, device, &mut given)?;
            memories.push(Memory::new(given));
        }
        memories.push(Memory::default());
        let norm = match &self.time {
            Some((_, embedding, table)) => {
                let time = embedding.forward(&[time], device)?;
                let rows = (time.reshape(table.shape())?.to_dtype(table.dtype())? + table)?;
                self.norm_out.modulated(&rows.get(0)?, &rows.get(1)?)?
            }
            None => self.norm_out.clone(),
        };
        Ok((memories, norm))
    }

    /// A part of the way: latents through the middle, a level, or the last layer.
    pub fn forward(
        &self,
        stage: usize,
        x: Tensor,
        norm_out: &ChannelNorm,
        memory: &mut Memory,
    ) -> Result<Option<Tensor>> {
        if stage == 0 {
            let x = self.conv_in.forward(Some(x), memory, None)?;
            return self.middle.forward(x, memory);
        }
        let Some(level) = self.levels.get(stage - 1) else {
            let x = norm_out.forward(&x, After::Silu)?;
            return self.conv_out.forward(Some(x), memory, None);
        };
        let mut x = Some(x);
        if let Some(block) = &level.block_in {
            x = block.forward(x, memory)?;
        }
        if let Some(growing) = &level.growing {
            x = growing.forward(x, memory)?;
        }
        level.row.forward(x, memory)
    }

    /// How many frames of a part's result the next one takes at a time: as many as one latent frame
    /// makes.
    pub fn piece(&self, stage: usize) -> usize {
        let grown = self.levels.iter().take(stage);
        grown
            .filter_map(|level| level.growing.as_ref())
            .fold(1, |count, growing| count * growing.fold[0])
    }
}
