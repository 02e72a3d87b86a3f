//! LTX-2's way from every layer of Gemma 3 to the texts that its denoiser attends to, one for the
//! picture and one for the sound: a projection, then transformers in which learned tokens stand in
//! place of padding. After `LTX2TextConnectors` of the diffusers library.

use candle_core::{DType, Device, Tensor};
use kinora_weights::{Ltx2ConnectorConfig, Ltx2ConnectorsConfig};

use crate::{
    Error, Result,
    error::bail_shape,
    layers::{
        Activation, Adaptable, HeadSizes, Linear, NormedSelfAttention, Pairs, Precision, RmsNorm,
        Rope, Weights, on_workers, rope_of_shares,
    },
};

/// Of every norm.
const EPS: f64 = 1e-6;
/// Added to what is divided by.
const TINY: f64 = 1e-6;
/// Of the normalised layers in 2.0.
const SCALE: f64 = 8.0;

/// The texts of a clip.
#[derive(Clone, Debug)]
pub struct Ltx2Text {
    /// For the picture: (1, tokens, width)
    pub video: Tensor,
    /// For the sound: (1, tokens, width)
    pub audio: Tensor,
}

/// From the layers of the text encoder to the denoiser's texts.
#[derive(Debug)]
pub struct Ltx2Connectors {
    projection: Projection,
    video: Connector,
    audio: Connector,
    config: Ltx2ConnectorsConfig,
    dtype: DType,
}

#[derive(Debug)]
enum Projection {
    /// 2.0
    Shared(Linear),
    /// 2.3: for the picture, for the sound.
    Own(Linear, Linear),
}

impl Ltx2Connectors {
    /// Reads every weight.
    pub fn load(weights: &Weights, config: &Ltx2ConnectorsConfig) -> Result<Self> {
        let layer = |name: &str, outputs: usize| -> Result<Linear> {
            let weights = weights.at(name);
            match config.has_bias {
                true => Linear::load(&weights, config.inputs(), outputs),
                false => Linear::load_no_bias(&weights, config.inputs(), outputs),
            }
        };
        let projection = match config.is_per_modality {
            true => Projection::Own(
                layer("video_text_proj_in", config.video.hidden())?,
                layer("audio_text_proj_in", config.audio.hidden())?,
            ),
            false => Projection::Shared(layer("text_proj_in", config.caption_channels)?),
        };
        let connector = |name: &str, sizes: &Ltx2ConnectorConfig| {
            Connector::load(&weights.at(name), sizes, config)
        };
        Ok(Self {
            projection,
            video: connector("video_connector", &config.video)?,
            audio: connector("audio_connector", &config.audio)?,
            config: config.clone(),
            dtype: weights.dtype(),
        })
    }

    /// The layers that adapters may change.
    pub fn adaptables(&mut self) -> Vec<&mut dyn Adaptable> {
        let mut layers: Vec<&mut dyn Adaptable> = match &mut self.projection {
            Projection::Shared(layer) => vec![layer],
            Projection::Own(video, audio) => vec![video, audio],
        };
        for side in [&mut self.video, &mut self.audio] {
            for block in &mut side.blocks {
                layers.extend(block.attention.adaptables());
                layers.push(&mut block.mlp_in);
                layers.push(&mut block.mlp_out);
            }
        }
        layers
    }

    /// The texts of a prompt that the text encoder's `states` tell of, (1, real tokens, width) each,
    /// in `length` tokens, a multiple of the learned tokens.
    pub fn forward(&self, states: &[Tensor], length: usize) -> Result<Ltx2Text> {
        let Some(first) = states.first() else {
            bail_shape!("connectors got no layers");
        };
        let registers = [&self.video, &self.audio].map(|side| side.registers.dims()[0]);
        if states.len() != self.config.text_layers || first.dim(1)? > length {
            bail_shape!(
                "{} layers of {:?} as {length} tokens",
                states.len(),
                first.dims()
            );
        }
        if registers.iter().any(|count| !length.is_multiple_of(*count)) {
            return Err(Error::BadRequest(format!(
                "{length} text tokens; they must be a multiple of {}",
                registers[0].max(registers[1])
            )));
        }
        on_workers(first.device(), || {
            let (video, audio) = match &self.projection {
                Projection::Shared(layer) => {
                    let x = layer.forward(&self.normalize_layers(states)?)?;
                    (x.clone(), x)
                }
                Projection::Own(video, audio) => {
                    let x = self.normalize_tokens(states)?;
                    let width = self.config.caption_channels as f64;
                    let scaled = |layer: &Linear| -> Result<Tensor> {
                        let scale = (layer.outputs() as f64 / width).sqrt();
                        layer.forward(&(&x * scale)?)
                    };
                    (scaled(video)?, scaled(audio)?)
                }
            };
            Ok(Ltx2Text {
                video: self.video.forward(&video, length)?,
                audio: self.audio.forward(&audio, length)?,
            })
        })
    }

    /// 2.0: each layer less its mean, over its range, times 8. Layers are the fastest dimension.
    fn normalize_layers(&self, states: &[Tensor]) -> Result<Tensor> {
        let normal = states
            .iter()
            .map(|state| {
                let x = state.to_dtype(DType::F32)?;
                let flat = x.flatten_all()?;
                let count = flat.elem_count() as f64;
                let sum = f64::from(x.sum(2)?.sum_all()?.to_scalar::<f32>()?);
                let highest = flat.max(0)?.to_scalar::<f32>()?;
                let lowest = flat.min(0)?.to_scalar::<f32>()?;
                let mean = sum / (count + TINY);
                let range = f64::from(highest - lowest) + TINY;
                Ok(((x - mean)? * (SCALE / range))?)
            })
            .collect::<Result<Vec<_>>>()?;
        self.interleave(&normal)
    }

    /// 2.3: each token of each layer by the root of its mean square.
    fn normalize_tokens(&self, states: &[Tensor]) -> Result<Tensor> {
        let normal = states
            .iter()
            .map(|state| {
                let x = state.to_dtype(DType::F32)?;
                let root = (x.sqr()?.mean_keepdim(2)? + TINY)?.sqrt()?;
                Ok(x.broadcast_div(&root)?)
            })
            .collect::<Result<Vec<_>>>()?;
        self.interleave(&normal)
    }

    /// (1, tokens, width · layers) in the network's format.
    fn interleave(&self, states: &[Tensor]) -> Result<Tensor> {
        let all = Tensor::stack(states, 3)?;
        Ok(all.flatten_from(2)?.to_dtype(self.dtype)?)
    }
}

/// A transformer over the tokens of a text.
#[derive(Debug)]
struct Connector {
    /// (registers, width)
    registers: Tensor,
    blocks: Vec<Block>,
    norm: RmsNorm,
    sizes: Ltx2ConnectorConfig,
    config: Ltx2ConnectorsConfig,
}

impl Connector {
    fn load(
        weights: &Weights,
        sizes: &Ltx2ConnectorConfig,
        config: &Ltx2ConnectorsConfig,
    ) -> Result<Self> {
        let hidden = sizes.hidden();
        Ok(Self {
            registers: weights.get("learnable_registers", &[sizes.registers, hidden])?,
            blocks: (0..sizes.layers)
                .map(|i| Block::load(&weights.at("transformer_blocks").at(i), sizes))
                .collect::<Result<_>>()?,
            norm: RmsNorm::plain(hidden, EPS, weights.device())?,
            sizes: *sizes,
            config: config.clone(),
        })
    }

    /// (1, real tokens, width) → (1, length, width)
    fn forward(&self, x: &Tensor, length: usize) -> Result<Tensor> {
        let real = x.dim(1)?;
        let mut x = x.clone();
        if real < length {
            // Each stands at its own places, as if they filled the whole text.
            let count = self.sizes.registers;
            let places: Vec<u32> = (real..length).map(|i| (i % count) as u32).collect();
            let places = Tensor::new(places, x.device())?;
            let rest = self.registers.index_select(&places, 0)?.unsqueeze(0)?;
            x = Tensor::cat(&[&x, &rest.to_dtype(x.dtype())?], 1)?;
        }
        let rope = self.rope(length, x.device())?;
        for block in &self.blocks {
            x = block.forward(&x, &self.norm, &rope)?;
        }
        self.norm.forward(&x)
    }

    fn rope(&self, length: usize, device: &Device) -> Result<Rope> {
        let share = |place: usize| [place as f32 / self.config.rope_length as f32];
        let shares: Vec<[f32; 1]> = (0..length).map(share).collect();
        let precision = match self.config.rope.is_double {
            true => Precision::Double,
            false => Precision::Single,
        };
        let pairs = match self.config.rope.is_split {
            true => Pairs::Halves,
            false => Pairs::Neighbours,
        };
        rope_of_shares(&shares, self.sizes.hidden(), precision, pairs, device)
    }
}

#[derive(Debug)]
struct Block {
    attention: NormedSelfAttention,
    mlp_in: Linear,
    mlp_out: Linear,
}

impl Block {
    fn load(weights: &Weights, sizes: &Ltx2ConnectorConfig) -> Result<Self> {
        let hidden = sizes.hidden();
        let heads = HeadSizes {
            heads: sizes.heads,
            size: sizes.head_dim,
            eps: EPS,
            is_gated: sizes.is_gated,
        };
        Ok(Self {
            attention: NormedSelfAttention::load(&weights.at("attn1"), hidden, heads)?,
            mlp_in: Linear::load(&weights.at("ff.net.0.proj"), hidden, 4 * hidden)?,
            mlp_out: Linear::load(&weights.at("ff.net.2"), 4 * hidden, hidden)?,
        })
    }

    fn forward(&self, x: &Tensor, norm: &RmsNorm, rope: &Rope) -> Result<Tensor> {
        let x = (x + self.attention.forward(&norm.forward(x)?, rope)?)?;
        let inner = Activation::GeluTanh.forward(&self.mlp_in.forward(&norm.forward(&x)?)?)?;
        self.mlp_out.forward_add(&inner, &x)
    }
}
