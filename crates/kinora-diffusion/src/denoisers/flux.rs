//! The denoiser of FLUX.1: blocks with separate weights for text and picture, then blocks with
//! common ones, all modulated by time, guidance and the pooled prompt.
//!
//! Numbers and orders follow `FluxTransformer2DModel` of the diffusers library. Positions,
//! timesteps and norms are computed in f32 whatever the weights are.

use candle_core::Tensor;
use kinora_weights::FluxConfig;

use crate::{
    Result,
    layers::{
        Activation, Adaptable, Attention, Linear, RmsNorm, Rope, Weights, add_gated, attention,
        concat_gelu, layer_norm_modulated, normalize_and_rotate, on_workers, rope::HeadPart,
        sinusoid,
    },
    step_cache::StepCache,
};

/// Width of the sinusoidal embedding of a number.
const SINUSOID: usize = 256;
/// Of every norm.
const EPS: f64 = 1e-6;
/// Base of the rotation frequencies.
const THETA: f64 = 10_000.0;
/// Width of a feed-forward layer against the network's.
const MLP_RATIO: usize = 4;

/// What one call of the network sees.
pub struct FluxInput<'a> {
    /// (batch, picture tokens, latent channels · 4)
    pub latents: &'a Tensor,
    /// (batch, text tokens, T5 width)
    pub text: &'a Tensor,
    /// (batch, CLIP width)
    pub pooled: &'a Tensor,
    /// Time of the whole batch, 0 to 1000.
    pub timestep: f32,
    /// Distilled guidance of each row; empty for networks without it.
    pub guidance: &'a [f32],
    /// Positions of text and picture tokens, from [`FluxDenoiser::positions`].
    pub rope: &'a Rope,
}

/// The network.
#[derive(Debug)]
pub struct FluxDenoiser {
    config: FluxConfig,
    picture_in: Linear,
    text_in: Linear,
    time_in: Embedder,
    guidance_in: Option<Embedder>,
    pooled_in: Embedder,
    joint_blocks: Vec<JointBlock>,
    single_blocks: Vec<SingleBlock>,
    out_modulation: Linear,
    out: Linear,
}

impl FluxDenoiser {
    /// Reads every weight. `on_load` is told the share of the blocks that is done, 0 to 1.
    pub fn load(
        weights: &Weights,
        config: &FluxConfig,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        let hidden = config.hidden();
        let blocks = (config.layers + config.single_layers) as f32;
        let mut loaded = 0.0;
        let mut count = || {
            loaded += 1.0;
            on_load(loaded / blocks);
        };
        let embed = weights.at("time_text_embed");
        let guidance_in = config
            .has_guidance
            .then(|| Embedder::load(&embed.at("guidance_embedder"), SINUSOID, hidden))
            .transpose()?;
        Ok(Self {
            config: config.clone(),
            picture_in: Linear::load(&weights.at("x_embedder"), config.in_channels, hidden)?,
            text_in: Linear::load(&weights.at("context_embedder"), config.joint_dim, hidden)?,
            time_in: Embedder::load(&embed.at("timestep_embedder"), SINUSOID, hidden)?,
            guidance_in,
            pooled_in: Embedder::load(&embed.at("text_embedder"), config.pooled_dim, hidden)?,
            joint_blocks: (0..config.layers)
                .map(|i| JointBlock::load(&weights.at("transformer_blocks").at(i), config))
                .inspect(|_| count())
                .collect::<Result<_>>()?,
            single_blocks: (0..config.single_layers)
                .map(|i| SingleBlock::load(&weights.at("single_transformer_blocks").at(i), config))
                .inspect(|_| count())
                .collect::<Result<_>>()?,
            out_modulation: Linear::load(&weights.at("norm_out.linear"), hidden, 2 * hidden)?,
            out: Linear::load(&weights.at("proj_out"), hidden, config.out_width())?,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &FluxConfig {
        &self.config
    }

    /// Width of a picture token: the configuration's, unless an adapter widened it.
    pub fn in_channels(&self) -> usize {
        self.picture_in.inputs()
    }

    /// The layers that adapters may change.
    pub fn adaptables(&mut self) -> Vec<&mut dyn Adaptable> {
        let mut layers: Vec<&mut dyn Adaptable> = vec![
            &mut self.picture_in,
            &mut self.text_in,
            &mut self.out_modulation,
            &mut self.out,
        ];
        let embedders = [&mut self.time_in, &mut self.pooled_in];
        for Embedder(first, second) in embedders.into_iter().chain(&mut self.guidance_in) {
            layers.extend([first, second].map(|linear| linear as &mut dyn Adaptable));
        }
        for JointBlock { picture, text, .. } in &mut self.joint_blocks {
            for stream in [picture, text] {
                let norms = [&mut stream.norm_q, &mut stream.norm_k];
                layers.extend(norms.map(|norm| norm as &mut dyn Adaptable));
                let linears = [
                    &mut stream.modulation,
                    &mut stream.qkv,
                    &mut stream.attention_out,
                    &mut stream.mlp_in,
                    &mut stream.mlp_out,
                ];
                layers.extend(linears.map(|linear| linear as &mut dyn Adaptable));
            }
        }
        for block in &mut self.single_blocks {
            let norms = [&mut block.norm_q, &mut block.norm_k];
            layers.extend(norms.map(|norm| norm as &mut dyn Adaptable));
            let linears = [&mut block.modulation, &mut block.project, &mut block.out];
            layers.extend(linears.map(|linear| linear as &mut dyn Adaptable));
        }
        layers
    }

    /// The positions of `text_tokens` text tokens, all zero, and of `rows` × `columns` picture
    /// tokens: (0, row, column).
    pub fn positions(
        &self,
        text_tokens: usize,
        rows: usize,
        columns: usize,
        device: &candle_core::Device,
    ) -> Result<Rope> {
        self.positions_beside(text_tokens, (rows, columns), None, device)
    }

    /// The same with the tokens of a given picture behind those of the new one, told apart by the
    /// first number: (1, row, column).
    pub fn positions_beside(
        &self,
        text_tokens: usize,
        grid: (usize, usize),
        given: Option<(usize, usize)>,
        device: &candle_core::Device,
    ) -> Result<Rope> {
        let mut positions = vec![[0.0; 3]; text_tokens];
        let grids = [Some((0.0, grid)), given.map(|given| (1.0, given))];
        for (first, (rows, columns)) in grids.into_iter().flatten() {
            for row in 0..rows {
                positions.extend((0..columns).map(|column| [first, row as f32, column as f32]));
            }
        }
        Rope::new(&positions, &self.config.axes_dims, THETA, device)
    }

    /// The predicted velocity, (batch, picture tokens, latent channels · 4).
    pub fn forward(&self, input: &FluxInput) -> Result<Tensor> {
        self.forward_reusing(input, None)
    }

    /// The same, with what the blocks behind the first one add taken from an earlier step where that
    /// is as good.
    pub fn forward_reusing(
        &self,
        input: &FluxInput,
        cache: Option<&mut StepCache>,
    ) -> Result<Tensor> {
        on_workers(input.latents.device(), || self.predict(input, cache))
    }

    fn predict(&self, input: &FluxInput, cache: Option<&mut StepCache>) -> Result<Tensor> {
        let text_tokens = input.text.dim(1)?;
        let picture_tokens = input.latents.dim(1)?;
        let condition = self.embed_condition(input)?;
        let mut picture = self.picture_in.forward(input.latents)?;
        let mut text = self.text_in.forward(input.text)?;
        let before = cache.is_some().then(|| picture.clone());
        let (first, others) = match self.joint_blocks.split_first() {
            Some((first, others)) => (Some(first), others),
            None => (None, &[][..]),
        };
        if let Some(block) = first {
            (picture, text) = block.forward(picture, text, &condition, input.rope)?;
        }
        let rest = |picture: Tensor| -> Result<Tensor> {
            let (mut picture, mut text) = (picture, text);
            for block in others {
                (picture, text) = block.forward(picture, text, &condition, input.rope)?;
            }
            let mut joint = Tensor::cat(&[&text, &picture], 1)?;
            for block in &self.single_blocks {
                joint = block.forward(joint, &condition, input.rope)?;
            }
            Ok(joint.narrow(1, text_tokens, picture_tokens)?.contiguous()?)
        };
        let picture = match (cache, before) {
            // Only the picture comes out of the network.
            (Some(cache), Some(before)) => cache.run(&before, picture, rest)?,
            _ => rest(picture)?,
        };
        // The last modulation alone has the scale first.
        let modulation = Modulation(self.out_modulation.forward(&condition)?, 2);
        let picture =
            layer_norm_modulated(&picture, &modulation.part(1)?, &modulation.part(0)?, EPS)?;
        self.out.forward(&picture)
    }

    /// silu(time + guidance + pooled text), (batch, hidden): the input of every modulation.
    fn embed_condition(&self, input: &FluxInput) -> Result<Tensor> {
        let batch = input.latents.dim(0)?;
        let embed = |numbers: &[f32]| -> Result<Tensor> {
            let table = sinusoid(numbers, SINUSOID, input.latents.device())?;
            Ok(table.to_dtype(input.latents.dtype())?)
        };
        // The pipeline divides by 1000 and the network multiplies again; both round.
        let time = input.timestep / 1000.0 * 1000.0;
        let mut condition = self.time_in.forward(&embed(&vec![time; batch])?)?;
        if let Some(guidance_in) = &self.guidance_in {
            if input.guidance.len() != batch {
                return Err(crate::Error::BadRequest(
                    "this model needs a guidance value".into(),
                ));
            }
            let scaled: Vec<f32> = input.guidance.iter().map(|value| value * 1000.0).collect();
            condition = (condition + guidance_in.forward(&embed(&scaled)?)?)?;
        }
        condition = (condition + self.pooled_in.forward(input.pooled)?)?;
        Activation::Silu.forward(&condition)
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

/// The output of a modulation layer: (batch, parts · hidden) and the number of parts.
struct Modulation(Tensor, usize);

impl Modulation {
    /// Part `i`, (batch, hidden).
    fn part(&self, i: usize) -> Result<Tensor> {
        let hidden = self.0.dim(1)? / self.1;
        Ok(self.0.narrow(1, i * hidden, hidden)?)
    }
}

/// One stream of a joint block: text or picture.
#[derive(Debug)]
struct Stream {
    modulation: Linear,
    /// Queries, keys and values as one layer.
    qkv: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    attention_out: Linear,
    mlp_in: Linear,
    mlp_out: Linear,
}

/// The names of a stream's layers.
struct StreamNames {
    modulation: &'static str,
    qkv: [&'static str; 3],
    norms: [&'static str; 2],
    attention_out: &'static str,
    mlp: &'static str,
}

const PICTURE: StreamNames = StreamNames {
    modulation: "norm1.linear",
    qkv: ["to_q", "to_k", "to_v"],
    norms: ["norm_q", "norm_k"],
    attention_out: "to_out.0",
    mlp: "ff",
};
const TEXT: StreamNames = StreamNames {
    modulation: "norm1_context.linear",
    qkv: ["add_q_proj", "add_k_proj", "add_v_proj"],
    norms: ["norm_added_q", "norm_added_k"],
    attention_out: "to_add_out",
    mlp: "ff_context",
};

impl Stream {
    fn load(weights: &Weights, config: &FluxConfig, names: &StreamNames) -> Result<Self> {
        let hidden = config.hidden();
        let attention = weights.at("attn");
        let mlp = weights.at(names.mlp);
        let qkv = names.qkv.map(|name| (name, hidden));
        Ok(Self {
            modulation: Linear::load(&weights.at(names.modulation), hidden, 6 * hidden)?,
            qkv: Linear::load_stacked(&attention, hidden, &qkv)?,
            norm_q: RmsNorm::load(&attention.at(names.norms[0]), config.head_dim, EPS)?,
            norm_k: RmsNorm::load(&attention.at(names.norms[1]), config.head_dim, EPS)?,
            attention_out: Linear::load(&attention.at(names.attention_out), hidden, hidden)?,
            mlp_in: Linear::load(&mlp.at("net.0.proj"), hidden, MLP_RATIO * hidden)?,
            mlp_out: Linear::load(&mlp.at("net.2"), MLP_RATIO * hidden, hidden)?,
        })
    }

    /// Queries, keys and values of the modulated input: (batch, tokens, 3 · hidden).
    fn project(&self, x: &Tensor, modulation: &Modulation) -> Result<Tensor> {
        let x = layer_norm_modulated(x, &modulation.part(0)?, &modulation.part(1)?, EPS)?;
        self.qkv.forward(&x)
    }

    /// The rest of the block, once the attention is known.
    fn finish(&self, x: &Tensor, attention: &Tensor, modulation: &Modulation) -> Result<Tensor> {
        let attention = self.attention_out.forward(attention)?;
        let x = add_gated(x, &modulation.part(2)?, &attention)?;
        let normal = layer_norm_modulated(&x, &modulation.part(3)?, &modulation.part(4)?, EPS)?;
        let inner = Activation::GeluTanh.forward(&self.mlp_in.forward(&normal)?)?;
        add_gated(&x, &modulation.part(5)?, &self.mlp_out.forward(&inner)?)
    }
}

/// Text and picture with weights of their own and one attention over both.
#[derive(Debug)]
struct JointBlock {
    picture: Stream,
    text: Stream,
    heads: usize,
}

impl JointBlock {
    fn load(weights: &Weights, config: &FluxConfig) -> Result<Self> {
        Ok(Self {
            picture: Stream::load(weights, config, &PICTURE)?,
            text: Stream::load(weights, config, &TEXT)?,
            heads: config.heads,
        })
    }

    /// (picture, text) in and out.
    fn forward(
        &self,
        picture: Tensor,
        text: Tensor,
        condition: &Tensor,
        rope: &Rope,
    ) -> Result<(Tensor, Tensor)> {
        let picture_modulation = Modulation(self.picture.modulation.forward(condition)?, 6);
        let text_modulation = Modulation(self.text.modulation.forward(condition)?, 6);
        let picture_qkv = self.picture.project(&picture, &picture_modulation)?;
        let text_qkv = self.text.project(&text, &text_modulation)?;
        let (batch, text_tokens, _) = text.dims3()?;
        let (_, picture_tokens, hidden) = picture.dims3()?;
        let rotate = |column: usize, text_norm: &RmsNorm, picture_norm: &RmsNorm| {
            let text = text_qkv.narrow(2, column * hidden, hidden)?;
            let picture = picture_qkv.narrow(2, column * hidden, hidden)?;
            let parts = [
                HeadPart {
                    x: &text,
                    norm: text_norm,
                },
                HeadPart {
                    x: &picture,
                    norm: picture_norm,
                },
            ];
            normalize_and_rotate(&parts, self.heads, rope)
        };
        let q = rotate(0, &self.text.norm_q, &self.picture.norm_q)?;
        let k = rotate(1, &self.text.norm_k, &self.picture.norm_k)?;
        let values = |qkv: &Tensor| qkv.narrow(2, 2 * hidden, hidden)?.contiguous();
        let v = Tensor::cat(&[values(&text_qkv)?, values(&picture_qkv)?], 1)?;
        let tokens = text_tokens + picture_tokens;
        let v = v.reshape((batch, tokens, self.heads, hidden / self.heads))?;
        let joint =
            attention(&q, &k, &v, Attention::default())?.reshape((batch, tokens, hidden))?;
        let text_attention = joint.narrow(1, 0, text_tokens)?;
        let picture_attention = joint.narrow(1, text_tokens, picture_tokens)?;
        Ok((
            self.picture
                .finish(&picture, &picture_attention, &picture_modulation)?,
            self.text.finish(&text, &text_attention, &text_modulation)?,
        ))
    }
}

/// Common weights for text and picture; attention and feed-forward side by side.
#[derive(Debug)]
struct SingleBlock {
    modulation: Linear,
    /// Queries, keys, values and the feed-forward branch as one layer.
    project: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    out: Linear,
    heads: usize,
}

impl SingleBlock {
    fn load(weights: &Weights, config: &FluxConfig) -> Result<Self> {
        let hidden = config.hidden();
        let parts = [
            ("attn.to_q", hidden),
            ("attn.to_k", hidden),
            ("attn.to_v", hidden),
            ("proj_mlp", MLP_RATIO * hidden),
        ];
        let attention = weights.at("attn");
        Ok(Self {
            modulation: Linear::load(&weights.at("norm.linear"), hidden, 3 * hidden)?,
            project: Linear::load_stacked(weights, hidden, &parts)?,
            norm_q: RmsNorm::load(&attention.at("norm_q"), config.head_dim, EPS)?,
            norm_k: RmsNorm::load(&attention.at("norm_k"), config.head_dim, EPS)?,
            out: Linear::load(&weights.at("proj_out"), (1 + MLP_RATIO) * hidden, hidden)?,
            heads: config.heads,
        })
    }

    fn forward(&self, x: Tensor, condition: &Tensor, rope: &Rope) -> Result<Tensor> {
        let (batch, tokens, hidden) = x.dims3()?;
        let modulation = Modulation(self.modulation.forward(condition)?, 3);
        let normal = layer_norm_modulated(&x, &modulation.part(0)?, &modulation.part(1)?, EPS)?;
        let wide = self.project.forward(&normal)?;
        let columns = |first: usize, count: usize| wide.narrow(2, first * hidden, count * hidden);
        let (q, k) = (columns(0, 1)?, columns(1, 1)?);
        let rotate = |x, norm| normalize_and_rotate(&[HeadPart { x, norm }], self.heads, rope);
        let (q, k) = (rotate(&q, &self.norm_q)?, rotate(&k, &self.norm_k)?);
        // Values are read in place: heads are columns of the wide rows.
        let size = hidden / self.heads;
        let v = wide
            .reshape((batch, tokens, wide.dim(2)? / size, size))?
            .narrow(2, 2 * self.heads, self.heads)?;
        let attention =
            attention(&q, &k, &v, Attention::default())?.reshape((batch, tokens, hidden))?;
        let joined = concat_gelu(&attention, &columns(3, MLP_RATIO)?)?;
        add_gated(&x, &modulation.part(2)?, &self.out.forward(&joined)?)
    }
}
