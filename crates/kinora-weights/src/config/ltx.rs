//! The numbers of the transformers of LTX-Video and LTX-2.

use std::path::Path;

use serde::Deserialize;

use super::check_sizes;
use crate::{Error, Result, json::read_config};

/// A transformer of LTX-Video or LTX-2.
#[derive(Clone, Debug, PartialEq)]
pub struct LtxConfig {
    /// Channels of a video token.
    pub in_channels: usize,
    /// Attention heads of the video's half.
    pub heads: usize,
    /// Width of one of them.
    pub head_dim: usize,
    /// Blocks.
    pub layers: usize,
    /// Width of the text embeddings that attention takes.
    pub cross_attention_dim: usize,
    /// Width of the text embeddings before their projection; None: they come projected (2.3).
    pub caption_channels: Option<usize>,
    /// How positions turn queries and keys.
    pub rope: LtxRope,
    /// The sound's half; None in LTX-Video.
    pub audio: Option<LtxAudioConfig>,
}

/// How positions turn queries and keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LtxRope {
    /// The halves of a head turn together, not neighbours.
    pub is_split: bool,
    /// Frequencies are worked out in f64.
    pub is_double: bool,
}

/// The sound's half of LTX-2.
#[derive(Clone, Debug, PartialEq)]
pub struct LtxAudioConfig {
    /// Channels of a sound token.
    pub in_channels: usize,
    /// Attention heads, those between picture and sound included.
    pub heads: usize,
    /// Width of one of them.
    pub head_dim: usize,
    /// Width of the text embeddings that attention takes.
    pub cross_attention_dim: usize,
    /// Whether each head's result is gated: version 2.3.
    pub is_gated: bool,
    /// Whether attention to the text is modulated by time on both sides: version 2.3.
    pub is_modulated: bool,
    /// Times of the gates between picture and sound, against those of everything else.
    pub gate_time_scale: f64,
    /// Samples a second of the sound that the spectrogram shows.
    pub sample_rate: usize,
    /// Samples from one row of the spectrogram to the next.
    pub hop: usize,
    /// Rows of the spectrogram to a token.
    pub scale: usize,
}

impl LtxConfig {
    /// Reads `transformer/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let class: ClassName = read_config(path)?;
        let config = match class.name.as_str() {
            "LTX2VideoTransformer3DModel" => read_config::<RawTwo>(path)?.resolve(),
            _ => read_config::<RawOne>(path)?.resolve(),
        };
        let config = config.map_err(|reason| Error::unsupported(path, reason))?;
        config
            .check()
            .map_err(|reason| Error::damaged(path, reason))?;
        Ok(config)
    }

    /// Width of the video's half.
    pub fn hidden(&self) -> usize {
        self.heads * self.head_dim
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("in_channels", self.in_channels),
            ("num_attention_heads", self.heads),
            ("attention_head_dim", self.head_dim),
            ("num_layers", self.layers),
            ("cross_attention_dim", self.cross_attention_dim),
            ("caption_channels", self.caption_channels.unwrap_or(1)),
        ])?;
        check_width(self.heads, self.head_dim)?;
        let Some(audio) = &self.audio else {
            return Ok(());
        };
        check_sizes(&[
            ("audio_in_channels", audio.in_channels),
            ("audio_num_attention_heads", audio.heads),
            ("audio_attention_head_dim", audio.head_dim),
            ("audio_cross_attention_dim", audio.cross_attention_dim),
            ("audio_sampling_rate", audio.sample_rate),
            ("audio_hop_length", audio.hop),
            ("audio_scale_factor", audio.scale),
        ])?;
        check_width(audio.heads, audio.head_dim)
    }
}

impl LtxAudioConfig {
    /// Width of the sound's half.
    pub fn hidden(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Tokens of so many frames of video.
    pub fn tokens(&self, frames: u32, frame_rate: f64) -> usize {
        let seconds = f64::from(frames) / frame_rate;
        let rate = self.sample_rate as f64 / self.hop as f64 / self.scale as f64;
        (seconds * rate).round_ties_even() as usize
    }
}

fn check_width(heads: usize, head_dim: usize) -> Result<(), String> {
    if !head_dim.is_multiple_of(2) || heads * head_dim > 1 << 20 {
        return Err(format!("{heads} heads of {head_dim} cannot be"));
    }
    Ok(())
}

#[derive(Deserialize)]
struct ClassName {
    #[serde(rename = "_class_name", default)]
    name: String,
}

/// LTX-Video's `transformer/config.json`.
#[derive(Deserialize)]
#[serde(default)]
struct RawOne {
    in_channels: usize,
    out_channels: Option<usize>,
    patch_size: usize,
    patch_size_t: usize,
    num_attention_heads: usize,
    attention_head_dim: usize,
    cross_attention_dim: usize,
    num_layers: usize,
    activation_fn: String,
    qk_norm: String,
    norm_elementwise_affine: bool,
    norm_eps: f64,
    caption_channels: usize,
    attention_bias: bool,
    attention_out_bias: bool,
}

impl Default for RawOne {
    fn default() -> Self {
        Self {
            in_channels: 128,
            out_channels: None,
            patch_size: 1,
            patch_size_t: 1,
            num_attention_heads: 32,
            attention_head_dim: 64,
            cross_attention_dim: 2048,
            num_layers: 28,
            activation_fn: "gelu-approximate".to_owned(),
            qk_norm: "rms_norm_across_heads".to_owned(),
            norm_elementwise_affine: false,
            norm_eps: 1e-6,
            caption_channels: 4096,
            attention_bias: true,
            attention_out_bias: true,
        }
    }
}

impl RawOne {
    fn resolve(self) -> Result<LtxConfig, String> {
        let is_known = self.patch_size == 1
            && self.patch_size_t == 1
            && self
                .out_channels
                .is_none_or(|channels| channels == self.in_channels)
            && self.activation_fn == "gelu-approximate"
            && self.qk_norm == "rms_norm_across_heads"
            && !self.norm_elementwise_affine
            && self.norm_eps == 1e-6
            && self.attention_bias
            && self.attention_out_bias;
        if !is_known {
            return Err("its layers are not those of LTX-Video".to_owned());
        }
        Ok(LtxConfig {
            in_channels: self.in_channels,
            heads: self.num_attention_heads,
            head_dim: self.attention_head_dim,
            layers: self.num_layers,
            cross_attention_dim: self.cross_attention_dim,
            caption_channels: Some(self.caption_channels),
            rope: LtxRope::default(),
            audio: None,
        })
    }
}

/// LTX-2's `transformer/config.json`.
#[derive(Deserialize)]
#[serde(default)]
struct RawTwo {
    in_channels: usize,
    out_channels: Option<usize>,
    patch_size: usize,
    patch_size_t: usize,
    num_attention_heads: usize,
    attention_head_dim: usize,
    cross_attention_dim: usize,
    vae_scale_factors: [usize; 3],
    pos_embed_max_pos: usize,
    base_height: usize,
    base_width: usize,
    gated_attn: bool,
    cross_attn_mod: bool,
    audio_in_channels: usize,
    audio_out_channels: Option<usize>,
    audio_patch_size: usize,
    audio_patch_size_t: usize,
    audio_num_attention_heads: usize,
    audio_attention_head_dim: usize,
    audio_cross_attention_dim: usize,
    audio_scale_factor: usize,
    audio_pos_embed_max_pos: usize,
    audio_sampling_rate: usize,
    audio_hop_length: usize,
    audio_gated_attn: bool,
    audio_cross_attn_mod: bool,
    num_layers: usize,
    activation_fn: String,
    qk_norm: String,
    norm_elementwise_affine: bool,
    norm_eps: f64,
    caption_channels: usize,
    attention_bias: bool,
    attention_out_bias: bool,
    rope_theta: f64,
    rope_double_precision: bool,
    causal_offset: usize,
    timestep_scale_multiplier: f64,
    cross_attn_timestep_scale_multiplier: f64,
    rope_type: String,
    use_prompt_embeddings: bool,
    ff_bias: bool,
    audio_ff_bias: bool,
    use_prompt_adaln_single: bool,
    use_keyframes_abs_pos_embedding: bool,
}

impl Default for RawTwo {
    fn default() -> Self {
        Self {
            in_channels: 128,
            out_channels: None,
            patch_size: 1,
            patch_size_t: 1,
            num_attention_heads: 32,
            attention_head_dim: 128,
            cross_attention_dim: 4096,
            vae_scale_factors: [8, 32, 32],
            pos_embed_max_pos: 20,
            base_height: 2048,
            base_width: 2048,
            gated_attn: false,
            cross_attn_mod: false,
            audio_in_channels: 128,
            audio_out_channels: None,
            audio_patch_size: 1,
            audio_patch_size_t: 1,
            audio_num_attention_heads: 32,
            audio_attention_head_dim: 64,
            audio_cross_attention_dim: 2048,
            audio_scale_factor: 4,
            audio_pos_embed_max_pos: 20,
            audio_sampling_rate: 16000,
            audio_hop_length: 160,
            audio_gated_attn: false,
            audio_cross_attn_mod: false,
            num_layers: 48,
            activation_fn: "gelu-approximate".to_owned(),
            qk_norm: "rms_norm_across_heads".to_owned(),
            norm_elementwise_affine: false,
            norm_eps: 1e-6,
            caption_channels: 3840,
            attention_bias: true,
            attention_out_bias: true,
            rope_theta: 10_000.0,
            rope_double_precision: true,
            causal_offset: 1,
            timestep_scale_multiplier: 1000.0,
            cross_attn_timestep_scale_multiplier: 1000.0,
            rope_type: "interleaved".to_owned(),
            use_prompt_embeddings: true,
            ff_bias: true,
            audio_ff_bias: true,
            use_prompt_adaln_single: true,
            use_keyframes_abs_pos_embedding: false,
        }
    }
}

impl RawTwo {
    fn resolve(self) -> Result<LtxConfig, String> {
        let same = |out: Option<usize>, inputs: usize| out.is_none_or(|out| out == inputs);
        let is_known = [
            self.patch_size,
            self.patch_size_t,
            self.audio_patch_size,
            self.audio_patch_size_t,
            self.causal_offset,
        ] == [1; 5]
            && same(self.out_channels, self.in_channels)
            && same(self.audio_out_channels, self.audio_in_channels)
            && self.vae_scale_factors == [8, 32, 32]
            && [self.pos_embed_max_pos, self.audio_pos_embed_max_pos] == [20; 2]
            && [self.base_height, self.base_width] == [2048; 2]
            && self.gated_attn == self.audio_gated_attn
            && self.cross_attn_mod == self.audio_cross_attn_mod
            && self.activation_fn == "gelu-approximate"
            && self.qk_norm == "rms_norm_across_heads"
            && !self.norm_elementwise_affine
            && self.norm_eps == 1e-6
            && self.attention_bias
            && self.attention_out_bias
            && self.rope_theta == 10_000.0
            && ["split", "interleaved"].contains(&self.rope_type.as_str())
            && self.timestep_scale_multiplier > 0.0
            && self.cross_attn_timestep_scale_multiplier > 0.0
            && self.ff_bias
            && self.audio_ff_bias
            && self.use_prompt_adaln_single
            && !self.use_keyframes_abs_pos_embedding;
        if !is_known {
            return Err(
                "its layers are not those of LTX-2 or 2.3; 2.5 is not built yet".to_owned(),
            );
        }
        Ok(LtxConfig {
            in_channels: self.in_channels,
            heads: self.num_attention_heads,
            head_dim: self.attention_head_dim,
            layers: self.num_layers,
            cross_attention_dim: self.cross_attention_dim,
            caption_channels: self.use_prompt_embeddings.then_some(self.caption_channels),
            rope: LtxRope {
                is_split: self.rope_type == "split",
                is_double: self.rope_double_precision,
            },
            audio: Some(LtxAudioConfig {
                in_channels: self.audio_in_channels,
                heads: self.audio_num_attention_heads,
                head_dim: self.audio_attention_head_dim,
                cross_attention_dim: self.audio_cross_attention_dim,
                is_gated: self.gated_attn,
                is_modulated: self.cross_attn_mod,
                gate_time_scale: self.cross_attn_timestep_scale_multiplier
                    / self.timestep_scale_multiplier,
                sample_rate: self.audio_sampling_rate,
                hop: self.audio_hop_length,
                scale: self.audio_scale_factor,
            }),
        })
    }
}
