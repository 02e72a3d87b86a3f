//! Reading the UNet: which layers a configuration has, how wide they are, and what they are called.

use kinora_weights::UnetConfig;

use super::{
    Embedder, UnetDenoiser,
    blocks::{Level, Middle, PixelTransformer, ResidualBlock, Resize, TransformerBlock},
};
use crate::{
    Result,
    layers::{Conv2d, GroupNorm, LayerNorm, Linear, Padding, Weights},
};

/// Of the group norms of residual blocks.
const RESIDUAL_EPS: f64 = 1e-5;
/// Of the group norms before transformers.
const TRANSFORMER_EPS: f64 = 1e-6;
/// Of the layer norms inside of transformers.
const LAYER_EPS: f64 = 1e-5;
/// Width of a feed-forward layer against the network's.
const WIDENING: usize = 4;
/// Width of the time's embedding against the first level's.
const TIME_WIDENING: usize = 4;

/// Reads a network, block by block in the order of its run.
pub(super) struct Loader<'a> {
    weights: &'a Weights,
    config: &'a UnetConfig,
    on_load: &'a mut dyn FnMut(f32),
    loaded: usize,
    /// Layers that take the time, with their widths.
    times: Vec<(String, usize)>,
}

impl<'a> Loader<'a> {
    pub fn new(
        weights: &'a Weights,
        config: &'a UnetConfig,
        on_load: &'a mut dyn FnMut(f32),
    ) -> Self {
        Self {
            weights,
            config,
            on_load,
            loaded: 0,
            times: Vec::new(),
        }
    }

    pub fn load(mut self) -> Result<UnetDenoiser> {
        let (weights, config) = (self.weights, self.config);
        let widths = &config.block_out_channels;
        let (first, levels) = (widths[0], widths.len());
        let embedding = TIME_WIDENING * first;
        let conv_in = conv3(&weights.at("conv_in"), config.in_channels, first)?;
        // Channels of everything that the way down leaves for the way up.
        let mut skips = vec![first];
        let mut inputs = first;
        let mut down = Vec::with_capacity(levels);
        for (level, &outputs) in widths.iter().enumerate() {
            let place = format!("down_blocks.{level}");
            let mut blocks = Vec::with_capacity(config.layers_per_block);
            for i in 0..config.layers_per_block {
                blocks.push(self.pair(&place, i, (inputs, outputs), level)?);
                skips.push(outputs);
                inputs = outputs;
            }
            let resize = if level + 1 == levels {
                Resize::Keep
            } else {
                skips.push(outputs);
                let conv = weights.at(format!("{place}.downsamplers.0.conv"));
                Resize::Halve(Conv2d::load(
                    &conv,
                    outputs,
                    outputs,
                    3,
                    2,
                    Padding::all(1),
                )?)
            };
            down.push(Level { blocks, resize });
        }
        let middle = self.middle(inputs)?;
        let mut up = Vec::with_capacity(levels);
        for (i, (level, &outputs)) in widths.iter().enumerate().rev().enumerate() {
            let place = format!("up_blocks.{i}");
            let mut blocks = Vec::with_capacity(config.layers_per_block + 1);
            for block in 0..=config.layers_per_block {
                let joined = inputs + skips.pop().unwrap_or(0);
                blocks.push(self.pair(&place, block, (joined, outputs), level)?);
                inputs = outputs;
            }
            let resize = if i + 1 == levels {
                Resize::Keep
            } else {
                let conv = weights.at(format!("{place}.upsamplers.0.conv"));
                Resize::Double(Conv2d::load_enlarging(&conv, outputs, outputs)?)
            };
            up.push(Level { blocks, resize });
        }
        let times: Vec<(&str, usize)> = self
            .times
            .iter()
            .map(|(name, width)| (name.as_str(), *width))
            .collect();
        let added_in = config
            .added_dim
            .map(|dim| Embedder::load(&weights.at("add_embedding"), dim, embedding))
            .transpose()?;
        Ok(UnetDenoiser {
            conv_in,
            time_in: Embedder::load(&weights.at("time_embedding"), first, embedding)?,
            added_in,
            times: Linear::load_stacked(weights, embedding, &times)?,
            down,
            middle,
            up,
            norm_out: GroupNorm::load(
                &weights.at("conv_norm_out"),
                config.norm_groups,
                first,
                RESIDUAL_EPS,
            )?,
            conv_out: conv3(&weights.at("conv_out"), first, config.out_channels)?,
            config: config.clone(),
        })
    }

    /// A residual block and the transformer behind it, where its level has any.
    fn pair(
        &mut self,
        place: &str,
        index: usize,
        widths: (usize, usize),
        level: usize,
    ) -> Result<(ResidualBlock, Option<PixelTransformer>)> {
        let block = self.residual(&format!("{place}.resnets.{index}"), widths)?;
        let depth = self.config.transformer_layers[level];
        let transformer = (depth > 0)
            .then(|| {
                let at = self.weights.at(format!("{place}.attentions.{index}"));
                self.transformer(&at, widths.1, self.config.heads[level], depth)
            })
            .transpose()?;
        self.loaded += 1;
        let per_level = 2 * self.config.layers_per_block + 1;
        let all = self.config.block_out_channels.len() * per_level + 1;
        (self.on_load)(self.loaded as f32 / all as f32);
        Ok((block, transformer))
    }

    fn middle(&mut self, width: usize) -> Result<Middle> {
        let heads = self.config.heads.last().copied().unwrap_or(1);
        let depth = self.config.mid_transformer_layers;
        let at = self.weights.at("mid_block.attentions.0");
        self.loaded += 1;
        Ok(Middle {
            first: self.residual("mid_block.resnets.0", (width, width))?,
            transformer: self.transformer(&at, width, heads, depth)?,
            last: self.residual("mid_block.resnets.1", (width, width))?,
        })
    }

    fn residual(
        &mut self,
        place: &str,
        (inputs, outputs): (usize, usize),
    ) -> Result<ResidualBlock> {
        let weights = self.weights.at(place);
        let groups = self.config.norm_groups;
        let time = self.times.iter().map(|(_, width)| width).sum();
        self.times.push((format!("{place}.time_emb_proj"), outputs));
        let shortcut = (inputs != outputs)
            .then(|| {
                let at = weights.at("conv_shortcut");
                Conv2d::load(&at, inputs, outputs, 1, 1, Padding::default())
            })
            .transpose()?;
        Ok(ResidualBlock {
            norm1: GroupNorm::load(&weights.at("norm1"), groups, inputs, RESIDUAL_EPS)?,
            conv1: conv3(&weights.at("conv1"), inputs, outputs)?,
            time: (time, outputs),
            norm2: GroupNorm::load(&weights.at("norm2"), groups, outputs, RESIDUAL_EPS)?,
            conv2: conv3(&weights.at("conv2"), outputs, outputs)?,
            shortcut,
        })
    }

    fn transformer(
        &self,
        weights: &Weights,
        width: usize,
        heads: usize,
        depth: usize,
    ) -> Result<PixelTransformer> {
        let project = |name| match self.config.has_linear_projection {
            true => Linear::load(&weights.at(name), width, width),
            false => Linear::load_pointwise(&weights.at(name), width, width),
        };
        let blocks = weights.at("transformer_blocks");
        Ok(PixelTransformer {
            norm: GroupNorm::load(
                &weights.at("norm"),
                self.config.norm_groups,
                width,
                TRANSFORMER_EPS,
            )?,
            project_in: project("proj_in")?,
            blocks: (0..depth)
                .map(|i| self.transformer_block(&blocks.at(i), width, heads))
                .collect::<Result<_>>()?,
            project_out: project("proj_out")?,
        })
    }

    fn transformer_block(
        &self,
        weights: &Weights,
        width: usize,
        heads: usize,
    ) -> Result<TransformerBlock> {
        let text = self.config.cross_attention_dim;
        let (own, cross) = (weights.at("attn1"), weights.at("attn2"));
        let norm = |name| LayerNorm::load(&weights.at(name), width, LAYER_EPS);
        let own_parts = ["to_q", "to_k", "to_v"].map(|name| (name, width));
        let text_parts = ["to_k", "to_v"].map(|name| (name, width));
        let wide = WIDENING * width;
        Ok(TransformerBlock {
            norm1: norm("norm1")?,
            qkv: Linear::load_stacked_no_bias(&own, width, &own_parts)?,
            out1: Linear::load(&own.at("to_out.0"), width, width)?,
            norm2: norm("norm2")?,
            query: Linear::load_no_bias(&cross.at("to_q"), width, width)?,
            key_value: Linear::load_stacked_no_bias(&cross, text, &text_parts)?,
            out2: Linear::load(&cross.at("to_out.0"), width, width)?,
            norm3: norm("norm3")?,
            wide: Linear::load(&weights.at("ff.net.0.proj"), width, 2 * wide)?,
            narrow: Linear::load(&weights.at("ff.net.2"), wide, width)?,
            heads,
        })
    }
}

/// A 3×3 convolution that keeps the size.
fn conv3(weights: &Weights, inputs: usize, outputs: usize) -> Result<Conv2d> {
    Conv2d::load(weights, inputs, outputs, 3, 1, Padding::all(1))
}
