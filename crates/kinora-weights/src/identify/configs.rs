//! The numbers of networks, from canonical names and shapes, and from published constants where
//! shapes do not tell.

use super::{Kind, NameLayout, Network};
use crate::{
    ClipConfig, ClipVisionConfig, Error, FluxConfig, GemmaConfig, LtxAudioConfig, LtxConfig,
    LtxRope, ReduxConfig, Result, SiglipConfig, T5Config, TextActivation, UnetConfig, VaeConfig,
    WanConfig, WanVaeConfig, WeightSet,
    config::ADDED_TIME_DIM,
    maps::{count_blocks, ldm_unet::UnetShape, ltx_vae::LtxVaeRelease},
};

/// A network with its numbers. `set` has canonical names.
pub(super) fn read(kind: Kind, names: NameLayout, set: &WeightSet) -> Result<Network> {
    let shapes = Shapes { set };
    let network = match kind {
        Kind::Unet => Network::Unet(shapes.checked(shapes.unet()?, UnetConfig::check)?),
        Kind::Flux => Network::Flux(shapes.checked(shapes.flux()?, FluxConfig::check)?),
        Kind::FluxRedux => {
            let config = ReduxConfig {
                image_dim: shapes.size("redux_up.weight", 1)?,
                text_dim: shapes.size("redux_down.weight", 0)?,
            };
            Network::FluxRedux(shapes.checked(config, ReduxConfig::check)?)
        }
        Kind::Wan => Network::Wan(shapes.checked(shapes.wan()?, WanConfig::check)?),
        Kind::Ltx => Network::Ltx(shapes.checked(shapes.ltx()?, LtxConfig::check)?),
        Kind::LtxConnectors => Network::LtxConnectors {
            is_per_modality: set.has("video_text_proj_in.weight"),
        },
        Kind::KlVae => Network::KlVae(shapes.checked(shapes.kl_vae()?, VaeConfig::check)?),
        Kind::WanVae => Network::WanVae(shapes.checked(shapes.wan_vae()?, WanVaeConfig::check)?),
        Kind::LtxVae => Network::LtxVae(match names {
            NameLayout::LtxVae(release) => release,
            _ => shapes.ltx_vae()?,
        }),
        Kind::LtxAudioVae => Network::LtxAudioVae,
        Kind::LtxVocoder => Network::LtxVocoder {
            has_second_stage: set.has("mel_stft.mel_basis"),
        },
        Kind::Clip => Network::Clip {
            config: shapes.checked(shapes.clip()?, ClipConfig::check)?,
            projection: set.shape("text_projection.weight").map(|shape| shape[0]),
        },
        Kind::ClipVision => {
            Network::ClipVision(shapes.checked(shapes.clip_vision()?, ClipVisionConfig::check)?)
        }
        Kind::Siglip => Network::Siglip(shapes.checked(shapes.siglip()?, SiglipConfig::check)?),
        Kind::T5 => Network::T5 {
            config: shapes.checked(shapes.t5()?, T5Config::check)?,
            is_umt5: set
                .has("encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"),
        },
        Kind::Gemma => Network::Gemma(shapes.checked(shapes.gemma()?, GemmaConfig::check)?),
    };
    Ok(network)
}

/// Groups of the norms: 32 in every published network, and in narrower ones what divides them. No
/// shape tells.
fn groups_of(channels: &[usize]) -> usize {
    let divides = |groups: &usize| channels.iter().all(|width| width % groups == 0);
    [32, 16, 8, 4, 2].into_iter().find(divides).unwrap_or(1)
}

/// Levels and blocks of a UNet under its authors' names.
pub(super) fn unet_shape(set: &WeightSet, prefix: &str) -> UnetShape {
    let places = count_blocks(set, &format!("{prefix}input_blocks."));
    let samplers: Vec<usize> = (1..places)
        .filter(|place| set.has(&format!("{prefix}input_blocks.{place}.0.op.weight")))
        .collect();
    // The first sampler ends the first level. Without any there is one level.
    let row = samplers.first().copied().unwrap_or(places.max(1));
    let depth = set
        .tensors()
        .filter_map(|(name, _)| {
            let (_, rest) = name
                .strip_prefix(prefix)?
                .split_once(".transformer_blocks.")?;
            rest.split('.').next()?.parse::<usize>().ok()
        })
        .max()
        .map_or(0, |last| last.saturating_add(1));
    UnetShape {
        levels: samplers.len() + 1,
        blocks: row - 1,
        depth,
    }
}

/// Shapes of a network under canonical names.
struct Shapes<'a> {
    set: &'a WeightSet,
}

impl Shapes<'_> {
    fn checked<T>(&self, config: T, check: impl Fn(&T) -> Result<(), String>) -> Result<T> {
        match check(&config) {
            Ok(()) => Ok(config),
            Err(reason) => Err(Error::damaged(self.set.path(), reason)),
        }
    }

    /// Size of one dimension of a tensor.
    fn size(&self, name: &str, dim: usize) -> Result<usize> {
        let shape = &self.set.get(name)?.shape;
        shape.get(dim).copied().ok_or_else(|| {
            Error::damaged(
                self.set.path(),
                format!("tensor {name:?} has the unusual shape {shape:?}"),
            )
        })
    }

    fn count(&self, prefix: &str) -> usize {
        count_blocks(self.set, prefix)
    }

    /// `total / part` when that is whole.
    fn divide(&self, total: usize, part: usize) -> Result<usize> {
        total
            .checked_div(part)
            .filter(|count| count * part == total)
            .ok_or_else(|| {
                Error::damaged(
                    self.set.path(),
                    format!("its width {total} is no multiple of its head width {part}"),
                )
            })
    }

    fn unet(&self) -> Result<UnetConfig> {
        let levels = self.count("down_blocks.");
        let block_out_channels = (0..levels)
            .map(|level| self.size(&format!("down_blocks.{level}.resnets.0.conv2.weight"), 0))
            .collect::<Result<Vec<_>>>()?;
        let depth = |place: &str| self.count(&format!("{place}.attentions.0.transformer_blocks."));
        // Every attention takes the same text.
        let text = self
            .set
            .tensors()
            .find(|(name, _)| name.ends_with(".attn2.to_k.weight"));
        let cross_attention_dim = text
            .and_then(|(_, view)| view.shape.get(1).copied())
            .unwrap_or(0);
        let has_linear_projection = self
            .set
            .shape("mid_block.attentions.0.proj_in.weight")
            .is_some_and(|shape| shape.len() == 2);
        let added_dim = self
            .set
            .shape("add_embedding.linear_1.weight")
            .and_then(|shape| shape.get(1).copied());
        // SD 1.x has 8 heads everywhere; later ones have heads of 64. Shapes do not tell.
        let is_first = cross_attention_dim == 768 && added_dim.is_none();
        let heads = |channels: &usize| if is_first { 8 } else { (channels / 64).max(1) };
        Ok(UnetConfig {
            in_channels: self.size("conv_in.weight", 1)?,
            out_channels: self.size("conv_out.weight", 0)?,
            layers_per_block: self.count("down_blocks.0.resnets."),
            transformer_layers: (0..levels)
                .map(|level| depth(&format!("down_blocks.{level}")))
                .collect(),
            mid_transformer_layers: depth("mid_block"),
            cross_attention_dim,
            heads: block_out_channels.iter().map(heads).collect(),
            has_linear_projection,
            added_dim,
            // Nothing tells; they are the same in every published network.
            added_time_dim: ADDED_TIME_DIM,
            norm_groups: groups_of(&block_out_channels),
            block_out_channels,
        })
    }

    fn flux(&self) -> Result<FluxConfig> {
        let hidden = self.size("x_embedder.weight", 0)?;
        let head_dim = self.size("transformer_blocks.0.attn.norm_q.weight", 0)?;
        // Nothing tells how a head is shared out among the axes; every published network does it
        // in these proportions.
        let picture_axis = head_dim / 16 * 7 / 2 * 2;
        let axes_dims = [head_dim - 2 * picture_axis, picture_axis, picture_axis];
        Ok(FluxConfig {
            layers: self.count("transformer_blocks."),
            single_layers: self.count("single_transformer_blocks."),
            heads: self.divide(hidden, head_dim)?,
            head_dim,
            axes_dims,
            in_channels: self.size("x_embedder.weight", 1)?,
            out_channels: Some(self.size("proj_out.weight", 0)?),
            joint_dim: self.size("context_embedder.weight", 1)?,
            pooled_dim: self.size("time_text_embed.text_embedder.linear_1.weight", 1)?,
            has_guidance: self
                .set
                .has("time_text_embed.guidance_embedder.linear_1.weight"),
            patch_size: 1,
        })
    }

    fn wan(&self) -> Result<WanConfig> {
        const HEAD: usize = 128;
        let patch = "patch_embedding.weight";
        let hidden = self.size(patch, 0)?;
        let patch_size = [
            self.size(patch, 2)?,
            self.size(patch, 3)?,
            self.size(patch, 4)?,
        ];
        let numbers = patch_size
            .iter()
            .try_fold(1_usize, |product, size| product.checked_mul(*size));
        let out = self.size("proj_out.weight", 0)?;
        Ok(WanConfig {
            in_channels: self.size(patch, 1)?,
            out_channels: out.checked_div(numbers.unwrap_or(0)).unwrap_or(0),
            patch_size,
            heads: self.divide(hidden, HEAD.min(hidden))?,
            head_dim: HEAD.min(hidden),
            layers: self.count("blocks."),
            ffn_dim: self.size("blocks.0.ffn.net.0.proj.weight", 0)?,
            freq_dim: self.size("condition_embedder.time_embedder.linear_1.weight", 1)?,
            text_dim: self.size("condition_embedder.text_embedder.linear_1.weight", 1)?,
            image_dim: self
                .set
                .shape("condition_embedder.image_embedder.norm1.weight")
                .map(|shape| shape[0]),
            image_positions: self
                .set
                .shape("condition_embedder.image_embedder.pos_embed")
                .and_then(|shape| shape.get(1).copied()),
        })
    }

    fn ltx(&self) -> Result<LtxConfig> {
        // Every published one has so many; no shape of LTX-Video tells.
        const HEADS: usize = 32;
        let heads_of = |gate: &str| -> usize {
            let gate = self.set.shape(&format!("transformer_blocks.0.{gate}"));
            gate.and_then(|shape| shape.first().copied())
                .unwrap_or(HEADS)
        };
        let block =
            |name: &str, dimension| self.size(&format!("transformer_blocks.0.{name}"), dimension);
        let audio = match self.set.has("audio_proj_in.weight") {
            true => {
                let heads = heads_of("audio_attn1.to_gate_logits.weight");
                Some(LtxAudioConfig {
                    in_channels: self.size("audio_proj_in.weight", 1)?,
                    heads,
                    head_dim: self.divide(self.size("audio_proj_in.weight", 0)?, heads)?,
                    cross_attention_dim: block("audio_attn2.to_k.weight", 1)?,
                    is_gated: self
                        .set
                        .has("transformer_blocks.0.attn1.to_gate_logits.weight"),
                    is_modulated: self
                        .set
                        .has("transformer_blocks.0.prompt_scale_shift_table"),
                    gate_time_scale: 1.0,
                    sample_rate: 16000,
                    hop: 160,
                    scale: 4,
                })
            }
            false => None,
        };
        let heads = heads_of("attn1.to_gate_logits.weight");
        let is_two = audio.is_some();
        Ok(LtxConfig {
            in_channels: self.size("proj_in.weight", 1)?,
            heads,
            head_dim: self.divide(self.size("proj_in.weight", 0)?, heads)?,
            layers: self.count("transformer_blocks."),
            cross_attention_dim: block("attn2.to_k.weight", 1)?,
            caption_channels: self
                .set
                .shape("caption_projection.linear_1.weight")
                .and_then(|shape| shape.get(1).copied()),
            rope: LtxRope {
                is_split: is_two,
                is_double: is_two,
            },
            audio,
        })
    }

    fn kl_vae(&self) -> Result<VaeConfig> {
        let levels = self.count("decoder.up_blocks.");
        let latent_channels = self.size("decoder.conv_in.weight", 1)?;
        // 4 channels are those of SD 1.x, which no shape tells from SDXL's; 16 are FLUX.1's.
        let (scaling_factor, shift_factor) = match latent_channels {
            16 => (0.3611, Some(0.1159)),
            _ => (0.18215, None),
        };
        let block_out_channels: Vec<usize> = (0..levels)
            .map(|level| {
                let name = format!(
                    "decoder.up_blocks.{}.resnets.0.conv1.weight",
                    levels - 1 - level
                );
                self.size(&name, 0)
            })
            .collect::<Result<_>>()?;
        Ok(VaeConfig {
            in_channels: self.size("encoder.conv_in.weight", 1)?,
            out_channels: self.size("decoder.conv_out.weight", 0)?,
            latent_channels,
            layers_per_block: self.count("decoder.up_blocks.0.resnets.").saturating_sub(1),
            norm_groups: groups_of(&block_out_channels),
            block_out_channels,
            scaling_factor,
            shift_factor,
            has_mid_attention: self.set.has("decoder.mid_block.attentions.0.to_q.weight"),
            has_quant_conv: self.set.has("quant_conv.weight"),
            has_post_quant_conv: self.set.has("post_quant_conv.weight"),
        })
    }

    fn wan_vae(&self) -> Result<WanVaeConfig> {
        let is_residual = self.set.has("encoder.down_blocks.0.resnets.0.norm1.gamma");
        let release = match is_residual {
            true => WanVaeConfig::wan22(),
            false => WanVaeConfig::wan21(),
        };
        Ok(WanVaeConfig {
            base_dim: self.size("encoder.conv_in.weight", 0)?,
            decoder_base_dim: self.size("decoder.conv_out.weight", 1)?,
            latent_channels: self.size("decoder.conv_in.weight", 1)?,
            ..release
        })
    }

    fn ltx_vae(&self) -> Result<LtxVaeRelease> {
        let is_timed = self
            .set
            .has("decoder.time_embedder.timestep_embedder.linear_1.weight");
        let is_wide = self.size("encoder.conv_out.conv.weight", 1)? == 2048;
        Ok(match (is_timed, is_wide) {
            (true, true) => LtxVaeRelease::V095,
            (true, false) => LtxVaeRelease::V091,
            (false, true) => LtxVaeRelease::Two,
            (false, false) => LtxVaeRelease::V090,
        })
    }

    fn clip(&self) -> Result<ClipConfig> {
        let hidden = self.size("embeddings.token_embedding.weight", 1)?;
        // OpenAI's CLIP is the one of width 768; the others were trained by OpenCLIP.
        let activation = match hidden {
            768 => TextActivation::QuickGelu,
            _ => TextActivation::Gelu,
        };
        Ok(ClipConfig {
            vocab: self.size("embeddings.token_embedding.weight", 0)?,
            hidden,
            intermediate: self.size("encoder.layers.0.mlp.fc1.weight", 0)?,
            layers: self.count("encoder.layers."),
            heads: (hidden / 64).max(1),
            max_positions: self.size("embeddings.position_embedding.weight", 0)?,
            eos_token_id: 2,
            activation,
            norm_eps: 1e-5,
        })
    }

    fn clip_vision(&self) -> Result<ClipVisionConfig> {
        Ok(ClipVisionConfig {
            hidden: self.size("embeddings.patch_embedding.weight", 0)?,
            intermediate: self.size("encoder.layers.0.mlp.fc1.weight", 0)?,
            layers: self.count("encoder.layers."),
            patch_size: self.size("embeddings.patch_embedding.weight", 2)?,
            positions: self.size("embeddings.position_embedding.weight", 0)?,
            projection: self
                .set
                .shape("visual_projection.weight")
                .map(|shape| shape[0]),
        })
    }

    fn siglip(&self) -> Result<SiglipConfig> {
        let hidden = self.size("embeddings.patch_embedding.weight", 0)?;
        let patch_size = self.size("embeddings.patch_embedding.weight", 2)?;
        let positions = self.size("embeddings.position_embedding.weight", 0)?;
        let side = positions.isqrt();
        if side * side != positions {
            return Err(Error::damaged(
                self.set.path(),
                format!("its {positions} positions are no square"),
            ));
        }
        Ok(SiglipConfig {
            hidden,
            intermediate: self.size("encoder.layers.0.mlp.fc1.weight", 0)?,
            layers: self.count("encoder.layers."),
            // Heads of 64 in every published network but this one. Shapes do not tell.
            heads: match hidden {
                1152 => 16,
                _ => (hidden / 64).max(1),
            },
            patch_size,
            // 6 of the 384 pixels are seen by no patch.
            image_size: match (patch_size, side) {
                (14, 27) => 384,
                _ => side.saturating_mul(patch_size),
            },
            activation: TextActivation::GeluTanh,
            norm_eps: 1e-6,
        })
    }

    fn t5(&self) -> Result<T5Config> {
        let attention = "encoder.block.0.layer.0.SelfAttention";
        let bias = format!("{attention}.relative_attention_bias.weight");
        let heads = self.size(&bias, 1)?;
        let width = self.size(&format!("{attention}.q.weight"), 0)?;
        Ok(T5Config {
            vocab: self.size("shared.weight", 0)?,
            hidden: self.size(&format!("{attention}.q.weight"), 1)?,
            head_dim: self.divide(width, heads)?,
            intermediate: self.size("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 0)?,
            layers: self.count("encoder.block."),
            heads,
            buckets: self.size(&bias, 0)?,
            feed_forward_proj: "gated-gelu".to_owned(),
            ..T5Config::default()
        })
    }

    fn gemma(&self) -> Result<GemmaConfig> {
        let attention = "layers.0.self_attn";
        let head_dim = self.size(&format!("{attention}.q_norm.weight"), 0)?;
        let heads_of = |name: &str| {
            let width = self.size(&format!("{attention}.{name}.weight"), 0)?;
            self.divide(width, head_dim)
        };
        Ok(GemmaConfig {
            vocab: self.size("embed_tokens.weight", 0)?,
            hidden: self.size("embed_tokens.weight", 1)?,
            intermediate: self.size("layers.0.mlp.gate_proj.weight", 0)?,
            layers: self.count("layers."),
            head_dim,
            heads: heads_of("q_proj")?,
            key_value_heads: heads_of("k_proj")?,
            norm_eps: 1e-6,
            query_scale: head_dim as f64,
            window: 1024,
            sees_all: GemmaConfig::published_pattern(self.count("layers.")),
            rope_theta: 1_000_000.0,
            rope_factor: 8.0,
            rope_local_theta: 10_000.0,
        })
    }
}
