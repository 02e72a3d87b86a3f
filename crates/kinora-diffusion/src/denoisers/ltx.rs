//! The denoiser of LTX-Video: blocks of self attention over all tokens of a clip, attention to the
//! text, and a feed-forward layer, modulated by time.
//!
//! Numbers and orders follow `LTXVideoTransformer3DModel` of the diffusers library. Positions,
//! times, norms and modulations are computed in f32 whatever the weights are.
//!
//! What does not change from step to step is worked out once: [`LtxContext`] holds the keys and
//! values of the text, [`LtxTime`] a step's modulation, a [`Rope`] the positions.

use candle_core::{DType, Device, Tensor};
use kinora_weights::LtxConfig;

use crate::{
    Result,
    error::bail_shape,
    layers::{
        Activation, Adaptable, HeadSizes, KeysAndValues, Linear, Modulation, NormedCrossAttention,
        NormedSelfAttention, Pairs, Precision, Rope, TimeModulation, Weights, distinct_times,
        on_workers, rope_of_shares,
    },
    step_cache::StepCache,
};

/// Of the norms of the blocks.
const EPS: f64 = 1e-6;
/// Of the norms of queries and keys.
const HEAD_EPS: f64 = 1e-5;
/// Frames, rows and columns that a position is a share of: seconds, pixels, pixels.
const LENGTHS: [f32; 3] = [20.0, 2048.0, 2048.0];

/// What the blocks attend to besides the clip itself.
#[derive(Clone, Debug)]
pub struct LtxContext {
    blocks: Vec<KeysAndValues>,
    /// −∞ for keys that a shorter text does not have: (batch, 1, 1, keys).
    bias: Option<Tensor>,
}

/// A step's time as the blocks take it, for the whole clip or for each of its frames.
#[derive(Clone, Debug)]
pub struct LtxTime {
    /// (times, 6, hidden), f32
    modulation: Tensor,
    /// (times, 1, hidden), f32
    embedding: Tensor,
    /// Which time belongs to each frame of tokens. None: there is one time.
    frames: Option<Vec<u32>>,
}

/// What one call of the network sees.
pub struct LtxInput<'a> {
    /// (batch, tokens, channels), frame by frame and row by row.
    pub latents: &'a Tensor,
    /// From [`LtxDenoiser::prepare_context`], of the same batch.
    pub context: &'a LtxContext,
    /// From [`LtxDenoiser::embed_time`].
    pub time: &'a LtxTime,
    /// From [`LtxDenoiser::positions`].
    pub rope: &'a Rope,
}

/// The network.
#[derive(Debug)]
pub struct LtxDenoiser {
    config: LtxConfig,
    input: Linear,
    time: TimeModulation,
    text: [Linear; 2],
    blocks: Vec<Block>,
    /// (2, hidden), f32: shift and scale before the last layer.
    table: Tensor,
    out: Linear,
    dtype: DType,
}

impl LtxDenoiser {
    /// Reads every weight. `on_load` is told the share of the blocks that is done, 0 to 1.
    pub fn load(
        weights: &Weights,
        config: &LtxConfig,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        let hidden = config.hidden();
        let text = weights.at("caption_projection");
        let channels = config.caption_channels.unwrap_or(hidden);
        let mut blocks = Vec::with_capacity(config.layers);
        for i in 0..config.layers {
            blocks.push(Block::load(
                &weights.at("transformer_blocks").at(i),
                config,
            )?);
            on_load((i + 1) as f32 / config.layers as f32);
        }
        Ok(Self {
            input: Linear::load(&weights.at("proj_in"), config.in_channels, hidden)?,
            time: TimeModulation::load(&weights.at("time_embed"), hidden, 6)?,
            text: [
                Linear::load(&text.at("linear_1"), channels, hidden)?,
                Linear::load(&text.at("linear_2"), hidden, hidden)?,
            ],
            blocks,
            table: weights.get_f32("scale_shift_table", &[2, hidden])?,
            out: Linear::load(&weights.at("proj_out"), hidden, config.in_channels)?,
            config: config.clone(),
            dtype: weights.dtype(),
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &LtxConfig {
        &self.config
    }

    /// The layers that adapters may change.
    pub fn adaptables(&mut self) -> Vec<&mut dyn Adaptable> {
        let [first, second] = &mut self.text;
        let mut layers: Vec<&mut dyn Adaptable> =
            vec![&mut self.input, first, second, &mut self.out];
        layers.extend(self.time.adaptables());
        for block in &mut self.blocks {
            layers.extend(block.own.adaptables());
            layers.extend(block.cross.adaptables());
            layers.push(&mut block.mlp_in);
            layers.push(&mut block.mlp_out);
        }
        layers
    }

    /// The positions of so many latent frames, rows and columns. `spacing`: seconds from one latent
    /// frame to the next, pixels from row to row and from column to column.
    pub fn positions(
        &self,
        [frames, rows, columns]: [usize; 3],
        spacing: [f64; 3],
        device: &Device,
    ) -> Result<Rope> {
        let share = |i: usize, axis: usize| i as f32 * spacing[axis] as f32 / LENGTHS[axis];
        let mut shares = Vec::with_capacity(frames * rows * columns);
        for frame in 0..frames {
            for row in 0..rows {
                shares.extend(
                    (0..columns).map(|column| [share(frame, 0), share(row, 1), share(column, 2)]),
                );
            }
        }
        let rope = self.config.rope;
        let precision = match rope.is_double {
            true => Precision::Double,
            false => Precision::Single,
        };
        let pairs = match rope.is_split {
            true => Pairs::Halves,
            false => Pairs::Neighbours,
        };
        rope_of_shares(&shares, self.config.hidden(), precision, pairs, device)
    }

    /// Keys and values for every block, for one text of each row: (1, tokens, width) without
    /// padding, which is not attended to.
    pub fn prepare_context(&self, texts: &[&Tensor]) -> Result<LtxContext> {
        let Some(first) = texts.first() else {
            bail_shape!("a context without a text");
        };
        let device = first.device().clone();
        on_workers(&device, || {
            let (text, bias) = join_texts(texts)?;
            let text = self.text[0].forward(&text.to_dtype(self.dtype)?)?;
            let text = self.text[1].forward(&Activation::GeluTanh.forward(&text)?)?;
            let blocks = self
                .blocks
                .iter()
                .map(|block| block.cross.prepare(&text, None))
                .collect::<Result<_>>()?;
            Ok(LtxContext { blocks, bias })
        })
    }

    /// The modulation of a step. `times`: 0 to 1000, one for the clip or one for each of its frames
    /// of tokens.
    pub fn embed_time(&self, times: &[f32], device: &Device) -> Result<LtxTime> {
        let (distinct, frames) = distinct_times(times);
        on_workers(device, || {
            let (modulation, embedding) = self.time.forward(&distinct, device)?;
            Ok(LtxTime {
                modulation,
                embedding,
                frames: (distinct.len() > 1).then_some(frames),
            })
        })
    }

    /// The predicted velocity, (batch, tokens, channels).
    pub fn forward(&self, input: &LtxInput) -> Result<Tensor> {
        self.forward_reusing(input, None)
    }

    /// The same, with what the blocks behind the first one add taken from an earlier step where that
    /// is as good.
    pub fn forward_reusing(
        &self,
        input: &LtxInput,
        cache: Option<&mut StepCache>,
    ) -> Result<Tensor> {
        on_workers(input.latents.device(), || self.predict(input, cache))
    }

    fn predict(&self, input: &LtxInput, cache: Option<&mut StepCache>) -> Result<Tensor> {
        let (batch, tokens, _) = input.latents.dims3()?;
        let groups = input.time.frames.as_deref();
        if input.context.blocks.len() != self.blocks.len()
            || groups.is_some_and(|frames| !tokens.is_multiple_of(frames.len()))
        {
            bail_shape!(
                "latents of {:?} and a context of {} blocks",
                input.latents.dims(),
                input.context.blocks.len()
            );
        }
        let mut x = self.input.forward(input.latents)?;
        let mut blocks = self.blocks.iter().zip(&input.context.blocks);
        let before = cache.is_some().then(|| x.clone());
        if let Some((block, context)) = blocks.next() {
            x = block.forward(x, context, input)?;
        }
        let mut rest =
            |x: Tensor| blocks.try_fold(x, |x, (block, context)| block.forward(x, context, input));
        let x = match (cache, before) {
            (Some(cache), Some(before)) => cache.run(&before, x, rest)?,
            _ => rest(x)?,
        };
        let rows = self
            .table
            .unsqueeze(0)?
            .broadcast_add(&input.time.embedding)?;
        let rows = Modulation::new(rows, groups, batch)?;
        self.out.forward(&rows.layer_norm(&x, 0, 1, EPS)?)
    }
}

/// Texts side by side, (batch, keys, width), and −∞ where one has no key.
fn join_texts(texts: &[&Tensor]) -> Result<(Tensor, Option<Tensor>)> {
    let lens = texts
        .iter()
        .map(|text| Ok(text.dim(1)?))
        .collect::<Result<Vec<_>>>()?;
    let longest = lens.iter().copied().max().unwrap_or(0);
    if lens.iter().all(|len| *len == longest) {
        return Ok((Tensor::cat(texts, 0)?, None));
    }
    let rows = texts
        .iter()
        .zip(&lens)
        .map(|(text, len)| Ok(text.pad_with_zeros(1, 0, longest - len)?))
        .collect::<Result<Vec<_>>>()?;
    let bias: Vec<f32> = lens
        .iter()
        .flat_map(|len| {
            (0..longest).map(move |key| if key < *len { 0.0 } else { f32::NEG_INFINITY })
        })
        .collect();
    let bias = Tensor::from_vec(bias, (texts.len(), 1, 1, longest), texts[0].device())?;
    Ok((Tensor::cat(&rows, 0)?, Some(bias)))
}

#[derive(Debug)]
struct Block {
    /// (6, hidden), f32: shift, scale and gate of attention, then of the feed-forward layer.
    table: Tensor,
    own: NormedSelfAttention,
    cross: NormedCrossAttention,
    mlp_in: Linear,
    mlp_out: Linear,
}

impl Block {
    fn load(weights: &Weights, config: &LtxConfig) -> Result<Self> {
        let hidden = config.hidden();
        let text = config.cross_attention_dim;
        let sizes = HeadSizes {
            heads: config.heads,
            size: config.head_dim,
            eps: HEAD_EPS,
            is_gated: false,
        };
        Ok(Self {
            table: weights.get_f32("scale_shift_table", &[6, hidden])?,
            own: NormedSelfAttention::load(&weights.at("attn1"), hidden, sizes)?,
            cross: NormedCrossAttention::load(&weights.at("attn2"), hidden, text, sizes)?,
            mlp_in: Linear::load(&weights.at("ff.net.0.proj"), hidden, 4 * hidden)?,
            mlp_out: Linear::load(&weights.at("ff.net.2"), 4 * hidden, hidden)?,
        })
    }

    /// (batch, tokens, hidden) → the same shape.
    fn forward(&self, x: Tensor, text: &KeysAndValues, input: &LtxInput) -> Result<Tensor> {
        let rows = self
            .table
            .unsqueeze(0)?
            .broadcast_add(&input.time.modulation)?;
        let modulation = Modulation::new(rows, input.time.frames.as_deref(), x.dim(0)?)?;
        let normal = modulation.rms_norm(&x, 0, 1, EPS)?;
        let x = modulation.add(&x, 2, &self.own.forward(&normal, input.rope)?)?;
        // The text is looked at without a norm.
        let bias = input.context.bias.as_ref();
        let x = (&x + self.cross.forward(&x, text, None, bias)?)?;
        let inner = self.mlp_in.forward(&modulation.rms_norm(&x, 3, 4, EPS)?)?;
        let inner = Activation::GeluTanh.forward(&inner)?;
        modulation.add(&x, 5, &self.mlp_out.forward(&inner)?)
    }
}
