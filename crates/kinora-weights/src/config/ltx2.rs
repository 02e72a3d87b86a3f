//! The numbers of what only LTX-2 has: text connectors and sound VAE; its vocoder is beside it.

use std::path::Path;

use serde::Deserialize;

use super::{LtxRope, check_sizes, read_checked};
use crate::{Error, Result, json::read_config};

/// The transformer between text encoder and denoiser for one of picture and sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ltx2ConnectorConfig {
    /// Attention heads.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Blocks.
    pub layers: usize,
    /// Learned tokens that stand in place of padding.
    pub registers: usize,
    /// Whether each head's result is gated.
    pub is_gated: bool,
}

impl Ltx2ConnectorConfig {
    /// Width of the network.
    pub fn hidden(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// LTX-2's text connectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Ltx2ConnectorsConfig {
    /// Width of the text encoder.
    pub caption_channels: usize,
    /// Layers of the text encoder whose results come in, its token table included.
    pub text_layers: usize,
    /// For the picture.
    pub video: Ltx2ConnectorConfig,
    /// For the sound.
    pub audio: Ltx2ConnectorConfig,
    /// Whether each has a projection of its own: version 2.3.
    pub is_per_modality: bool,
    /// Whether projections have a bias.
    pub has_bias: bool,
    /// How positions turn queries and keys.
    pub rope: LtxRope,
    /// Tokens that a position is a share of.
    pub rope_length: usize,
}

#[derive(Deserialize)]
#[serde(default)]
struct RawConnectors {
    caption_channels: usize,
    text_proj_in_factor: usize,
    video_connector_num_attention_heads: usize,
    video_connector_attention_head_dim: usize,
    video_connector_num_layers: usize,
    video_connector_num_learnable_registers: Option<usize>,
    video_gated_attn: bool,
    audio_connector_num_attention_heads: usize,
    audio_connector_attention_head_dim: usize,
    audio_connector_num_layers: usize,
    audio_connector_num_learnable_registers: Option<usize>,
    audio_gated_attn: bool,
    connector_rope_base_seq_len: usize,
    rope_theta: f64,
    rope_double_precision: bool,
    rope_type: String,
    per_modality_projections: bool,
    video_hidden_dim: usize,
    audio_hidden_dim: usize,
    proj_bias: bool,
}

impl Default for RawConnectors {
    fn default() -> Self {
        Self {
            caption_channels: 3840,
            text_proj_in_factor: 49,
            video_connector_num_attention_heads: 30,
            video_connector_attention_head_dim: 128,
            video_connector_num_layers: 2,
            video_connector_num_learnable_registers: Some(128),
            video_gated_attn: false,
            audio_connector_num_attention_heads: 30,
            audio_connector_attention_head_dim: 128,
            audio_connector_num_layers: 2,
            audio_connector_num_learnable_registers: Some(128),
            audio_gated_attn: false,
            connector_rope_base_seq_len: 4096,
            rope_theta: 10_000.0,
            rope_double_precision: true,
            rope_type: "interleaved".to_owned(),
            per_modality_projections: false,
            video_hidden_dim: 4096,
            audio_hidden_dim: 2048,
            proj_bias: false,
        }
    }
}

impl Ltx2ConnectorsConfig {
    /// The connectors of a published release: 2.3 with a projection for each side.
    pub fn published(is_per_modality: bool) -> Self {
        let side = |heads, head_dim, layers| Ltx2ConnectorConfig {
            heads,
            head_dim,
            layers,
            registers: 128,
            is_gated: is_per_modality,
        };
        let (video, audio) = match is_per_modality {
            true => (side(32, 128, 8), side(32, 64, 8)),
            false => (side(30, 128, 2), side(30, 128, 2)),
        };
        Self {
            caption_channels: 3840,
            text_layers: 49,
            video,
            audio,
            is_per_modality,
            has_bias: is_per_modality,
            rope: LtxRope {
                is_split: true,
                is_double: true,
            },
            rope_length: 4096,
        }
    }

    /// Reads `connectors/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let raw: RawConnectors = read_config(path)?;
        let config = raw
            .resolve()
            .map_err(|reason| Error::unsupported(path, reason))?;
        config
            .check()
            .map_err(|reason| Error::damaged(path, reason))?;
        Ok(config)
    }

    /// Numbers of a token of the text encoder.
    pub fn inputs(&self) -> usize {
        self.caption_channels * self.text_layers
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("caption_channels", self.caption_channels),
            ("text_proj_in_factor", self.text_layers),
            ("connector_rope_base_seq_len", self.rope_length),
        ])?;
        for side in [&self.video, &self.audio] {
            check_sizes(&[
                ("connector_num_attention_heads", side.heads),
                ("connector_attention_head_dim", side.head_dim),
                ("connector_num_layers", side.layers),
                ("connector_num_learnable_registers", side.registers),
            ])?;
            if !side.head_dim.is_multiple_of(2) || side.hidden() > 1 << 20 {
                return Err(format!(
                    "{} heads of {} cannot be",
                    side.heads, side.head_dim
                ));
            }
        }
        Ok(())
    }
}

impl RawConnectors {
    fn resolve(self) -> Result<Ltx2ConnectorsConfig, String> {
        let registers = |given: Option<usize>| {
            given.ok_or_else(|| "its connectors keep the padding, which no LTX-2 does".to_owned())
        };
        let video = Ltx2ConnectorConfig {
            heads: self.video_connector_num_attention_heads,
            head_dim: self.video_connector_attention_head_dim,
            layers: self.video_connector_num_layers,
            registers: registers(self.video_connector_num_learnable_registers)?,
            is_gated: self.video_gated_attn,
        };
        let audio = Ltx2ConnectorConfig {
            heads: self.audio_connector_num_attention_heads,
            head_dim: self.audio_connector_attention_head_dim,
            layers: self.audio_connector_num_layers,
            registers: registers(self.audio_connector_num_learnable_registers)?,
            is_gated: self.audio_gated_attn,
        };
        let widths = match self.per_modality_projections {
            true => [self.video_hidden_dim, self.audio_hidden_dim],
            false => [self.caption_channels; 2],
        };
        let is_known = self.rope_theta == 10_000.0
            && ["split", "interleaved"].contains(&self.rope_type.as_str())
            && widths == [video.hidden(), audio.hidden()];
        if !is_known {
            return Err("its connectors are not those of LTX-2 or 2.3".to_owned());
        }
        Ok(Ltx2ConnectorsConfig {
            caption_channels: self.caption_channels,
            text_layers: self.text_proj_in_factor,
            video,
            audio,
            is_per_modality: self.per_modality_projections,
            has_bias: self.proj_bias,
            rope: LtxRope {
                is_split: self.rope_type == "split",
                is_double: self.rope_double_precision,
            },
            rope_length: self.connector_rope_base_seq_len,
        })
    }
}

/// LTX-2's sound VAE, which works on spectrograms.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ltx2AudioVaeConfig {
    /// Channels of the first level.
    pub base_channels: usize,
    /// Channels of the sound.
    pub output_channels: usize,
    /// Width of each level against the base, the level of the full size first.
    #[serde(rename = "ch_mult")]
    pub multipliers: Vec<usize>,
    /// Residual blocks of a level of the encoder; the decoder has one more.
    #[serde(rename = "num_res_blocks")]
    pub blocks_per_level: usize,
    /// Channels of the sound as it comes in.
    pub in_channels: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Columns of the spectrogram.
    pub mel_bins: usize,
    /// Samples a second of the sound that the spectrogram shows.
    pub sample_rate: usize,
    /// Samples from one row of the spectrogram to the next.
    #[serde(rename = "mel_hop_length")]
    pub hop: usize,
    norm_type: String,
    causality_axis: Option<String>,
    attn_resolutions: Option<Vec<usize>>,
    mid_block_add_attention: bool,
    double_z: bool,
}

impl Default for Ltx2AudioVaeConfig {
    fn default() -> Self {
        Self {
            base_channels: 128,
            output_channels: 2,
            multipliers: vec![1, 2, 4],
            blocks_per_level: 2,
            in_channels: 2,
            latent_channels: 8,
            mel_bins: 64,
            sample_rate: 16000,
            hop: 160,
            norm_type: "pixel".to_owned(),
            causality_axis: Some("height".to_owned()),
            attn_resolutions: None,
            mid_block_add_attention: false,
            double_z: true,
        }
    }
}

impl Ltx2AudioVaeConfig {
    /// Rows of the spectrogram to a latent, whatever the levels are.
    pub const TIME_SCALE: usize = 4;

    /// Reads `audio_vae/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let config: Self = read_checked(path, Self::check)?;
        if !config.is_known() {
            return Err(Error::unsupported(
                path,
                "its layers are not those of LTX-2's sound VAE",
            ));
        }
        Ok(config)
    }

    /// Columns of the latents.
    pub fn latent_bins(&self) -> usize {
        self.mel_bins / Self::TIME_SCALE
    }

    /// Numbers of a token: channels and columns of a row of latents.
    pub fn token(&self) -> usize {
        self.latent_channels * self.latent_bins()
    }

    /// Rows of the spectrogram of so many latents.
    pub fn rows(&self, latents: usize) -> usize {
        (latents * Self::TIME_SCALE)
            .saturating_sub(Self::TIME_SCALE - 1)
            .max(1)
    }

    fn is_known(&self) -> bool {
        self.norm_type == "pixel"
            && self.causality_axis.as_deref() == Some("height")
            && self.attn_resolutions.as_ref().is_none_or(Vec::is_empty)
            && !self.mid_block_add_attention
            && self.double_z
            // What the reference does not tie together and every published one does.
            && self.token() == self.base_channels
    }

    fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("base_channels", self.base_channels),
            ("output_channels", self.output_channels),
            ("num_res_blocks", self.blocks_per_level),
            ("in_channels", self.in_channels),
            ("latent_channels", self.latent_channels),
            ("mel_bins", self.mel_bins),
            ("sample_rate", self.sample_rate),
            ("mel_hop_length", self.hop),
        ])?;
        if !(1..=8).contains(&self.multipliers.len())
            || self.blocks_per_level > 64
            || !self.mel_bins.is_multiple_of(Self::TIME_SCALE)
            || self.multipliers.iter().any(|m| !(1..=64).contains(m))
        {
            return Err(format!(
                "ch_mult {:?}, num_res_blocks {} and mel_bins {} cannot be",
                self.multipliers, self.blocks_per_level, self.mel_bins
            ));
        }
        Ok(())
    }
}
