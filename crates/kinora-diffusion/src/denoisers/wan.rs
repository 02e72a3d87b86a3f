//! The denoiser of Wan 2.1 and 2.2: blocks of self attention over all tokens of a clip, attention to
//! the text (and to embeddings of given pictures), and a feed-forward layer, modulated by time.
//!
//! Numbers and orders follow `WanTransformer3DModel` of the diffusers library. Positions, times,
//! norms and modulations are computed in f32 whatever the weights are.
//!
//! What does not change from step to step is worked out once: [`WanContext`] holds the keys and
//! values of the text, [`WanTime`] a step's modulation, a [`Rope`] the positions.

use candle_core::{DType, Device, Tensor};
use kinora_weights::WanConfig;

use crate::{
    Result,
    error::bail_shape,
    layers::{
        Activation, Adaptable, Attention, LayerNorm, Linear, Modulation, RmsNorm, Rope, Weights,
        attention, distinct_times, normalize_and_rotate, on_workers, rope::HeadPart, sinusoid,
    },
    step_cache::StepCache,
};

/// Of every norm of the blocks.
const EPS: f64 = 1e-6;
/// Of the norms around the picture embeddings.
const IMAGE_EPS: f64 = 1e-5;
/// Base of the rotation frequencies.
const THETA: f64 = 10_000.0;

/// An encoded text: its real tokens, and how many of padding follow them.
#[derive(Clone, Debug)]
pub struct WanText {
    /// (1, tokens, width)
    pub tokens: Tensor,
    /// The network sees so many rows of zeros behind the tokens.
    pub padding: usize,
}

/// What the blocks attend to besides the clip itself.
#[derive(Clone, Debug)]
pub struct WanContext {
    blocks: Vec<BlockContext>,
    /// Weight of each key, as a logarithm: (batch, 1, 1, keys).
    bias: Option<Tensor>,
}

#[derive(Clone, Debug)]
struct BlockContext {
    text: KeysAndValues,
    image: Option<KeysAndValues>,
}

/// (batch, keys, heads, head size) each.
#[derive(Clone, Debug)]
struct KeysAndValues {
    keys: Tensor,
    values: Tensor,
}

/// A step's time as the blocks take it, for the whole clip or for each of its frames.
#[derive(Clone, Debug)]
pub struct WanTime {
    /// (times, 6, hidden), f32
    modulation: Tensor,
    /// (times, hidden), f32
    embedding: Tensor,
    /// Which time belongs to each frame of tokens. None: there is one time.
    frames: Option<Vec<u32>>,
}

/// What one call of the network sees.
pub struct WanInput<'a> {
    /// (batch, channels, frames, height, width)
    pub latents: &'a Tensor,
    /// From [`WanDenoiser::prepare_context`], of the same batch.
    pub context: &'a WanContext,
    /// From [`WanDenoiser::embed_time`].
    pub time: &'a WanTime,
    /// From [`WanDenoiser::positions`].
    pub rope: &'a Rope,
}

/// The network.
#[derive(Debug)]
pub struct WanDenoiser {
    config: WanConfig,
    patches: Linear,
    time_in: [Linear; 2],
    time_out: Linear,
    text_in: [Linear; 2],
    image_in: Option<ImageEmbedding>,
    blocks: Vec<Block>,
    /// (2, hidden), f32: shift and scale before the last layer.
    table: Tensor,
    out: Linear,
    dtype: DType,
}

impl WanDenoiser {
    /// Reads every weight. `on_load` is told the share of the blocks that is done, 0 to 1.
    pub fn load(
        weights: &Weights,
        config: &WanConfig,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        let hidden = config.hidden();
        let embedder = weights.at("condition_embedder");
        let pair = |name: &str, inputs: usize| -> Result<[Linear; 2]> {
            let layers = embedder.at(name);
            Ok([
                Linear::load(&layers.at("linear_1"), inputs, hidden)?,
                Linear::load(&layers.at("linear_2"), hidden, hidden)?,
            ])
        };
        let patch = weights.at("patch_embedding");
        let [frames, rows, columns] = config.patch_size;
        let shape = [hidden, config.in_channels, frames, rows, columns];
        let image_in = config
            .image_dim
            .map(|inputs| ImageEmbedding::load(&embedder.at("image_embedder"), config, inputs))
            .transpose()?;
        let mut blocks = Vec::with_capacity(config.layers);
        for i in 0..config.layers {
            blocks.push(Block::load(&weights.at("blocks").at(i), config)?);
            on_load((i + 1) as f32 / config.layers as f32);
        }
        Ok(Self {
            patches: Linear::load_flattened(&patch, &shape)?,
            time_in: pair("time_embedder", config.freq_dim)?,
            time_out: Linear::load(&embedder.at("time_proj"), hidden, 6 * hidden)?,
            text_in: pair("text_embedder", config.text_dim)?,
            image_in,
            blocks,
            table: weights
                .get_f32("scale_shift_table", &[1, 2, hidden])?
                .squeeze(0)?,
            out: Linear::load(
                &weights.at("proj_out"),
                hidden,
                config.out_channels * config.patch_len(),
            )?,
            config: config.clone(),
            dtype: weights.dtype(),
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &WanConfig {
        &self.config
    }

    /// The layers that adapters may change.
    pub fn adaptables(&mut self) -> Vec<&mut dyn Adaptable> {
        let mut layers: Vec<&mut dyn Adaptable> =
            vec![&mut self.patches, &mut self.time_out, &mut self.out];
        let pairs = self.time_in.iter_mut().chain(&mut self.text_in);
        layers.extend(pairs.map(|linear| linear as &mut dyn Adaptable));
        if let Some(image) = &mut self.image_in {
            layers.extend(
                [&mut image.norm1, &mut image.norm2].map(|norm| norm as &mut dyn Adaptable),
            );
            let linears = image.layers.iter_mut();
            layers.extend(linears.map(|linear| linear as &mut dyn Adaptable));
        }
        for block in &mut self.blocks {
            let cross = &mut block.cross;
            layers.push(&mut block.cross_norm);
            let mut norms = vec![
                &mut block.norm_q,
                &mut block.norm_k,
                &mut cross.norm_q,
                &mut cross.norm_k,
            ];
            let mut linears = vec![
                &mut block.qkv,
                &mut block.attention_out,
                &mut block.mlp_in,
                &mut block.mlp_out,
                &mut cross.q,
                &mut cross.kv,
                &mut cross.out,
            ];
            if let Some((linear, norm)) = &mut cross.image {
                linears.push(linear);
                norms.push(norm);
            }
            layers.extend(norms.into_iter().map(|norm| norm as &mut dyn Adaptable));
            layers.extend(
                linears
                    .into_iter()
                    .map(|linear| linear as &mut dyn Adaptable),
            );
        }
        layers
    }

    /// The positions of so many frames, rows and columns of tokens.
    pub fn positions(&self, [frames, rows, columns]: [usize; 3], device: &Device) -> Result<Rope> {
        let side = 2 * (self.config.head_dim / 6);
        let axes = [self.config.head_dim - 2 * side, side, side];
        let mut positions = Vec::with_capacity(frames * rows * columns);
        for frame in 0..frames {
            for row in 0..rows {
                positions
                    .extend((0..columns).map(|column| [frame as f32, row as f32, column as f32]));
            }
        }
        Rope::new(&positions, &axes, THETA, device)
    }

    /// Keys and values for every block, for one text of each row, and for the embeddings of given
    /// pictures (pictures, rows of CLIP, width), which all rows share.
    ///
    /// Rows of padding are all the same, so that they are worked out once and counted.
    pub fn prepare_context(
        &self,
        texts: &[&WanText],
        images: Option<&Tensor>,
    ) -> Result<WanContext> {
        if images.is_some() != self.image_in.is_some() {
            bail_shape!(
                "picture embeddings are {} for this network",
                if images.is_some() {
                    "given and not known"
                } else {
                    "missing"
                }
            );
        }
        let Some(first) = texts.first() else {
            bail_shape!("a context without a text");
        };
        let device = first.tokens.device().clone();
        on_workers(&device, || {
            let (text, bias) = self.join_texts(texts)?;
            let text = self.text_in[0].forward(&text)?;
            let text = self.text_in[1].forward(&Activation::GeluTanh.forward(&text)?)?;
            let image = match (&self.image_in, images) {
                (Some(embedding), Some(images)) => {
                    let image = embedding.forward(images)?;
                    let (_, tokens, hidden) = image.dims3()?;
                    let rows = image.broadcast_as((texts.len(), tokens, hidden))?;
                    Some(rows.contiguous()?)
                }
                _ => None,
            };
            let blocks = self
                .blocks
                .iter()
                .map(|block| block.cross.prepare(&text, image.as_ref()))
                .collect::<Result<_>>()?;
            Ok(WanContext { blocks, bias })
        })
    }

    /// Texts side by side, (batch, keys, width), and the logarithm of how often each key counts.
    fn join_texts(&self, texts: &[&WanText]) -> Result<(Tensor, Option<Tensor>)> {
        let keys_of = |text: &WanText| -> Result<usize> {
            Ok(text.tokens.dim(1)? + usize::from(text.padding > 0))
        };
        let lens = texts
            .iter()
            .map(|text| keys_of(text))
            .collect::<Result<Vec<_>>>()?;
        let longest = lens.iter().copied().max().unwrap_or(0);
        let mut bias = Vec::with_capacity(texts.len() * longest);
        let mut rows = Vec::with_capacity(texts.len());
        for text in texts {
            let tokens = text.tokens.dim(1)?;
            for key in 0..longest {
                bias.push(match key {
                    _ if key < tokens => 0.0,
                    _ if key == tokens && text.padding > 0 => (text.padding as f32).ln(),
                    _ => f32::NEG_INFINITY,
                });
            }
            rows.push(text.tokens.pad_with_zeros(1, 0, longest - tokens)?);
        }
        let device = texts[0].tokens.device();
        let bias = bias
            .iter()
            .any(|weight| *weight != 0.0)
            .then(|| Tensor::from_vec(bias, (texts.len(), 1, 1, longest), device))
            .transpose()?;
        Ok((Tensor::cat(&rows, 0)?.to_dtype(self.dtype)?, bias))
    }

    /// The modulation of a step. `times`: 0 to 1000, one for the clip or one for each of its frames
    /// of tokens.
    pub fn embed_time(&self, times: &[f32], device: &Device) -> Result<WanTime> {
        let (distinct, frames) = distinct_times(times);
        let table = sinusoid(&distinct, self.config.freq_dim, device)?.to_dtype(self.dtype)?;
        on_workers(device, || {
            let embedding = self.time_in[0].forward(&table)?;
            let embedding = self.time_in[1].forward(&Activation::Silu.forward(&embedding)?)?;
            let modulation = self
                .time_out
                .forward(&Activation::Silu.forward(&embedding)?)?;
            let hidden = self.config.hidden();
            Ok(WanTime {
                modulation: modulation
                    .reshape((distinct.len(), 6, hidden))?
                    .to_dtype(DType::F32)?,
                embedding: embedding.to_dtype(DType::F32)?,
                frames: (distinct.len() > 1).then_some(frames),
            })
        })
    }

    /// The predicted velocity, (batch, latent channels, frames, height, width).
    pub fn forward(&self, input: &WanInput) -> Result<Tensor> {
        self.forward_reusing(input, None)
    }

    /// The same, with what the blocks behind the first one add taken from an earlier step where that
    /// is as good.
    pub fn forward_reusing(
        &self,
        input: &WanInput,
        cache: Option<&mut StepCache>,
    ) -> Result<Tensor> {
        on_workers(input.latents.device(), || self.predict(input, cache))
    }

    fn predict(&self, input: &WanInput, cache: Option<&mut StepCache>) -> Result<Tensor> {
        let (batch, _, frames, height, width) = input.latents.dims5()?;
        let [p, q, r] = self.config.patch_size;
        let grid = [frames / p, height / q, width / r];
        if [frames % p, height % q, width % r] != [0; 3]
            || input.context.blocks.len() != self.blocks.len()
        {
            bail_shape!(
                "latents of {:?} and a context of {} blocks",
                input.latents.dims(),
                input.context.blocks.len()
            );
        }
        let mut x = self.patches.forward(&self.cut(input.latents, grid)?)?;
        let mut blocks = self.blocks.iter().zip(&input.context.blocks);
        let before = cache.is_some().then(|| x.clone());
        if let Some((block, context)) = blocks.next() {
            x = block.forward(x, context, input, grid[0])?;
        }
        let mut rest = |x: Tensor| {
            blocks.try_fold(x, |x, (block, context)| {
                block.forward(x, context, input, grid[0])
            })
        };
        let x = match (cache, before) {
            (Some(cache), Some(before)) => cache.run(&before, x, rest)?,
            _ => rest(x)?,
        };
        let time = input.time;
        let table = self.table.unsqueeze(0)?;
        let rows = table.broadcast_add(&time.embedding.unsqueeze(1)?)?;
        let rows = modulate(rows, time, batch, grid[0])?;
        let normal = rows.layer_norm(&x, 0, 1, EPS)?;
        self.join(&self.out.forward(&normal)?, grid)
    }

    /// Latents as tokens, frame by frame and row by row: (batch, tokens, numbers of a token).
    fn cut(&self, latents: &Tensor, [frames, rows, columns]: [usize; 3]) -> Result<Tensor> {
        let (batch, channels, ..) = latents.dims5()?;
        let [p, q, r] = self.config.patch_size;
        Ok(latents
            .reshape(&[batch, channels, frames, p, rows, q, columns, r])?
            .permute([0, 2, 4, 6, 1, 3, 5, 7])?
            .contiguous()?
            .reshape((batch, frames * rows * columns, channels * p * q * r))?)
    }

    /// The way back, where a token's channels come last.
    fn join(&self, tokens: &Tensor, [frames, rows, columns]: [usize; 3]) -> Result<Tensor> {
        let batch = tokens.dim(0)?;
        let [p, q, r] = self.config.patch_size;
        let channels = self.config.out_channels;
        Ok(tokens
            .reshape(&[batch, frames, rows, columns, p, q, r, channels])?
            .permute([0, 7, 1, 4, 2, 5, 3, 6])?
            .contiguous()?
            .reshape((batch, channels, frames * p, rows * q, columns * r))?)
    }
}

/// Rows of shifts, scales and gates, (times, parts, hidden), for the tokens of each time.
fn modulate(rows: Tensor, time: &WanTime, batch: usize, frames: usize) -> Result<Modulation> {
    if let Some(groups) = &time.frames
        && groups.len() != frames
    {
        bail_shape!("{} times for {frames} frames of tokens", groups.len());
    }
    Modulation::new(rows, time.frames.as_deref(), batch)
}

/// Embeddings of CLIP for the blocks.
#[derive(Debug)]
struct ImageEmbedding {
    /// (1, rows of all pictures, width): only where a first and a last frame are told apart.
    positions: Option<Tensor>,
    norm1: LayerNorm,
    layers: [Linear; 2],
    norm2: LayerNorm,
}

impl ImageEmbedding {
    fn load(weights: &Weights, config: &WanConfig, inputs: usize) -> Result<Self> {
        let hidden = config.hidden();
        Ok(Self {
            positions: config
                .image_positions
                .map(|rows| weights.get("pos_embed", &[1, rows, inputs]))
                .transpose()?,
            norm1: LayerNorm::load(&weights.at("norm1"), inputs, IMAGE_EPS)?,
            layers: [
                Linear::load(&weights.at("ff.net.0.proj"), inputs, inputs)?,
                Linear::load(&weights.at("ff.net.2"), inputs, hidden)?,
            ],
            norm2: LayerNorm::load(&weights.at("norm2"), hidden, IMAGE_EPS)?,
        })
    }

    /// (pictures, rows, width) → (1, rows of all, hidden)
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let (pictures, rows, width) = images.dims3()?;
        let x = images.reshape((1, pictures * rows, width))?;
        let x = match &self.positions {
            Some(positions) if positions.dims() == x.dims() => (x + positions)?,
            None if pictures == 1 => x,
            _ => bail_shape!("embeddings of {pictures} pictures for this network"),
        };
        let x = self.layers[0].forward(&self.norm1.forward(&x)?)?;
        let x = self.layers[1].forward(&Activation::GeluErf.forward(&x)?)?;
        self.norm2.forward(&x)
    }
}

#[derive(Debug)]
struct Block {
    /// (6, hidden), f32: shift, scale and gate of attention, then of the feed-forward layer.
    table: Tensor,
    /// Queries, keys and values as one layer.
    qkv: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    attention_out: Linear,
    cross_norm: LayerNorm,
    cross: CrossAttention,
    mlp_in: Linear,
    mlp_out: Linear,
    heads: usize,
}

impl Block {
    fn load(weights: &Weights, config: &WanConfig) -> Result<Self> {
        let hidden = config.hidden();
        let own = weights.at("attn1");
        let qkv = ["to_q", "to_k", "to_v"].map(|name| (name, hidden));
        Ok(Self {
            table: weights
                .get_f32("scale_shift_table", &[1, 6, hidden])?
                .squeeze(0)?,
            qkv: Linear::load_stacked(&own, hidden, &qkv)?,
            norm_q: RmsNorm::load(&own.at("norm_q"), hidden, EPS)?,
            norm_k: RmsNorm::load(&own.at("norm_k"), hidden, EPS)?,
            attention_out: Linear::load(&own.at("to_out.0"), hidden, hidden)?,
            cross_norm: LayerNorm::load(&weights.at("norm2"), hidden, EPS)?,
            cross: CrossAttention::load(&weights.at("attn2"), config)?,
            mlp_in: Linear::load(&weights.at("ffn.net.0.proj"), hidden, config.ffn_dim)?,
            mlp_out: Linear::load(&weights.at("ffn.net.2"), config.ffn_dim, hidden)?,
            heads: config.heads,
        })
    }

    /// (batch, tokens, hidden) → the same shape.
    fn forward(
        &self,
        x: Tensor,
        context: &BlockContext,
        input: &WanInput,
        frames: usize,
    ) -> Result<Tensor> {
        let (batch, tokens, hidden) = x.dims3()?;
        let size = hidden / self.heads;
        let rows = self
            .table
            .unsqueeze(0)?
            .broadcast_add(&input.time.modulation)?;
        let modulation = modulate(rows, input.time, batch, frames)?;
        let qkv = self.qkv.forward(&modulation.layer_norm(&x, 0, 1, EPS)?)?;
        let rotate = |column: usize, norm: &RmsNorm| -> Result<Tensor> {
            let x = qkv.narrow(2, column * hidden, hidden)?;
            normalize_and_rotate(&[HeadPart { x: &x, norm }], self.heads, input.rope)
        };
        let (q, k) = (rotate(0, &self.norm_q)?, rotate(1, &self.norm_k)?);
        // Values are read in place: heads are columns of the wide rows.
        let v = qkv.reshape((batch, tokens, 3 * self.heads, size))?.narrow(
            2,
            2 * self.heads,
            self.heads,
        )?;
        let seen = attention(&q, &k, &v, Attention::default())?.reshape((batch, tokens, hidden))?;
        drop((q, k, v, qkv));
        let x = modulation.add(&x, 2, &self.attention_out.forward(&seen)?)?;
        let normal = self.cross_norm.forward(&x)?;
        let x = (x + self
            .cross
            .forward(&normal, context, input.context.bias.as_ref())?)?;
        let inner = self
            .mlp_in
            .forward(&modulation.layer_norm(&x, 3, 4, EPS)?)?;
        let inner = Activation::GeluTanh.forward(&inner)?;
        modulation.add(&x, 5, &self.mlp_out.forward(&inner)?)
    }
}

/// Attention of the clip's tokens to the text, and to given pictures.
#[derive(Debug)]
struct CrossAttention {
    q: Linear,
    /// Keys and values as one layer.
    kv: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    image: Option<(Linear, RmsNorm)>,
    out: Linear,
    heads: usize,
}

impl CrossAttention {
    fn load(weights: &Weights, config: &WanConfig) -> Result<Self> {
        let hidden = config.hidden();
        let pair = |names: [&'static str; 2]| names.map(|name| (name, hidden));
        let image = config
            .image_dim
            .map(|_| -> Result<_> {
                let kv =
                    Linear::load_stacked(weights, hidden, &pair(["add_k_proj", "add_v_proj"]))?;
                let norm = RmsNorm::load(&weights.at("norm_added_k"), hidden, EPS)?;
                Ok((kv, norm))
            })
            .transpose()?;
        Ok(Self {
            q: Linear::load(&weights.at("to_q"), hidden, hidden)?,
            kv: Linear::load_stacked(weights, hidden, &pair(["to_k", "to_v"]))?,
            norm_q: RmsNorm::load(&weights.at("norm_q"), hidden, EPS)?,
            norm_k: RmsNorm::load(&weights.at("norm_k"), hidden, EPS)?,
            image,
            out: Linear::load(&weights.at("to_out.0"), hidden, hidden)?,
            heads: config.heads,
        })
    }

    /// Keys and values of embedded text and pictures, (batch, keys, hidden).
    fn prepare(&self, text: &Tensor, image: Option<&Tensor>) -> Result<BlockContext> {
        let split = |x: &Tensor, kv: &Linear, norm: &RmsNorm| -> Result<KeysAndValues> {
            let (batch, keys, hidden) = x.dims3()?;
            let kv = kv.forward(x)?;
            let heads = (batch, keys, self.heads, hidden / self.heads);
            let part = |i| kv.narrow(2, i * hidden, hidden)?.contiguous();
            Ok(KeysAndValues {
                keys: norm.forward(&part(0)?)?.reshape(heads)?,
                values: part(1)?.reshape(heads)?,
            })
        };
        Ok(BlockContext {
            text: split(text, &self.kv, &self.norm_k)?,
            image: match (&self.image, image) {
                (Some((kv, norm)), Some(image)) => Some(split(image, kv, norm)?),
                _ => None,
            },
        })
    }

    fn forward(&self, x: &Tensor, context: &BlockContext, bias: Option<&Tensor>) -> Result<Tensor> {
        let (batch, tokens, hidden) = x.dims3()?;
        let q = self.norm_q.forward(&self.q.forward(x)?)?;
        let q = q.reshape((batch, tokens, self.heads, hidden / self.heads))?;
        let look = |at: &KeysAndValues, bias: Option<&Tensor>| {
            let options = Attention {
                bias,
                ..Attention::default()
            };
            attention(&q, &at.keys, &at.values, options)
        };
        let mut seen = look(&context.text, bias)?;
        if let Some(image) = &context.image {
            seen = (seen + look(image, None)?)?;
        }
        self.out.forward(&seen.reshape((batch, tokens, hidden))?)
    }
}
