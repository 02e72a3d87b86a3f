//! The numbers of what only LTX-2 has: text connectors, sound VAE, vocoder.

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

/// What a vocoder's layers are joined by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ltx2Activation {
    /// x, or so much of it below zero.
    Leaky(f32),
    /// x + sin²(αx)/β at twice the rate, filtered on both ways.
    Snake,
}

/// What a vocoder does with its last numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ltx2Finish {
    /// Nothing.
    Nothing,
    /// tanh.
    Tanh,
    /// Cut off at ± 1.
    Clamp,
}

/// A stage of LTX-2's vocoder: a spectrogram to samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Ltx2StageConfig {
    /// Channels of the sound times columns of the spectrogram.
    pub in_channels: usize,
    /// Channels of the first layer; each level halves them.
    pub hidden: usize,
    /// Channels of the sound.
    pub out_channels: usize,
    /// Kernel and factor of each level.
    pub levels: Vec<(usize, usize)>,
    /// Kernel and dilations of each of the blocks that stand side by side.
    pub blocks: Vec<(usize, Vec<usize>)>,
    /// Between layers.
    pub activation: Ltx2Activation,
    /// At the end.
    pub finish: Ltx2Finish,
    /// Whether the last layer has a bias.
    pub has_bias: bool,
}

/// The second stage, which widens the band: version 2.3.
#[derive(Clone, Debug, PartialEq)]
pub struct Ltx2WideningConfig {
    /// From a spectrogram of the first stage's samples to what they lack.
    pub stage: Ltx2StageConfig,
    /// Samples that a row of that spectrogram sees.
    pub filter: usize,
    /// Samples from row to row.
    pub hop: usize,
    /// Samples of its window.
    pub window: usize,
    /// Its columns.
    pub mel_bins: usize,
    /// Samples of the result to one of the first stage.
    pub factor: usize,
}

/// LTX-2's vocoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Ltx2VocoderConfig {
    /// From the spectrogram to samples.
    pub stage: Ltx2StageConfig,
    /// What widens the band.
    pub widening: Option<Ltx2WideningConfig>,
    /// Samples a second of the result.
    pub sample_rate: usize,
}

#[derive(Deserialize)]
struct RawVocoder {
    #[serde(rename = "_class_name", default)]
    class: String,
    in_channels: Option<usize>,
    hidden_channels: Option<usize>,
    out_channels: Option<usize>,
    upsample_kernel_sizes: Option<Vec<usize>>,
    upsample_factors: Option<Vec<usize>>,
    resnet_kernel_sizes: Option<Vec<usize>>,
    resnet_dilations: Option<Vec<Vec<usize>>>,
    act_fn: Option<String>,
    leaky_relu_negative_slope: Option<f32>,
    antialias: Option<bool>,
    antialias_ratio: Option<usize>,
    antialias_kernel_size: Option<usize>,
    /// Null is an answer.
    #[serde(default, deserialize_with = "given")]
    final_act_fn: Option<Option<String>>,
    final_bias: Option<bool>,
    bwe_in_channels: Option<usize>,
    bwe_hidden_channels: Option<usize>,
    bwe_out_channels: Option<usize>,
    bwe_upsample_kernel_sizes: Option<Vec<usize>>,
    bwe_upsample_factors: Option<Vec<usize>>,
    bwe_resnet_kernel_sizes: Option<Vec<usize>>,
    bwe_resnet_dilations: Option<Vec<Vec<usize>>>,
    bwe_act_fn: Option<String>,
    bwe_leaky_relu_negative_slope: Option<f32>,
    bwe_antialias: Option<bool>,
    bwe_antialias_ratio: Option<usize>,
    bwe_antialias_kernel_size: Option<usize>,
    #[serde(default, deserialize_with = "given")]
    bwe_final_act_fn: Option<Option<String>>,
    bwe_final_bias: Option<bool>,
    filter_length: Option<usize>,
    hop_length: Option<usize>,
    window_length: Option<usize>,
    num_mel_channels: Option<usize>,
    input_sampling_rate: Option<usize>,
    output_sampling_rate: Option<usize>,
}

fn given<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

/// A stage as its file says it, without the class' defaults.
struct RawStage {
    in_channels: usize,
    hidden: usize,
    out_channels: usize,
    kernels: Vec<usize>,
    factors: Vec<usize>,
    block_kernels: Vec<usize>,
    dilations: Vec<Vec<usize>>,
    act_fn: String,
    slope: f32,
    is_antialiased: bool,
    filter: (usize, usize),
    finish: Option<String>,
    has_bias: bool,
}

impl RawStage {
    fn resolve(self) -> Result<Ltx2StageConfig, String> {
        let activation = match (self.act_fn.as_str(), self.is_antialiased) {
            ("leaky_relu", false) => Ltx2Activation::Leaky(self.slope),
            ("snakebeta", true) if self.filter == (2, 12) => Ltx2Activation::Snake,
            (other, _) => {
                return Err(format!(
                    "the vocoder's activation {other:?} is not known here"
                ));
            }
        };
        let finish = match self.finish.as_deref() {
            None => Ltx2Finish::Nothing,
            Some("tanh") => Ltx2Finish::Tanh,
            Some("clamp") => Ltx2Finish::Clamp,
            Some(other) => return Err(format!("the vocoder's end {other:?} is not known here")),
        };
        if self.kernels.len() != self.factors.len()
            || self.block_kernels.len() != self.dilations.len()
        {
            return Err("the vocoder's lists have different lengths".to_owned());
        }
        Ok(Ltx2StageConfig {
            in_channels: self.in_channels,
            hidden: self.hidden,
            out_channels: self.out_channels,
            levels: self.kernels.into_iter().zip(self.factors).collect(),
            blocks: self.block_kernels.into_iter().zip(self.dilations).collect(),
            activation,
            finish,
            has_bias: self.has_bias,
        })
    }
}

impl Ltx2StageConfig {
    /// Samples to a row of the spectrogram.
    pub fn factor(&self) -> usize {
        self.levels.iter().map(|(_, factor)| factor).product()
    }

    fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("in_channels", self.in_channels),
            ("hidden_channels", self.hidden),
            ("out_channels", self.out_channels),
        ])?;
        let levels_fit = (1..=12).contains(&self.levels.len())
            && self.hidden >> self.levels.len() > 0
            && self.levels.iter().all(|(kernel, factor)| {
                (1..=64).contains(factor) && (*factor..=256).contains(kernel)
            });
        let blocks_fit = (1..=16).contains(&self.blocks.len())
            && self.blocks.iter().all(|(kernel, dilations)| {
                kernel % 2 == 1
                    && *kernel <= 255
                    && dilations.len() <= 16
                    && dilations
                        .iter()
                        .all(|dilation| (1..=256).contains(dilation))
            });
        if levels_fit && blocks_fit {
            Ok(())
        } else {
            Err(format!(
                "levels {:?} and blocks {:?} cannot be",
                self.levels, self.blocks
            ))
        }
    }
}

impl Ltx2VocoderConfig {
    /// The vocoder of a published release.
    pub fn published(has_second_stage: bool) -> Self {
        let blocks = || [3, 7, 11].map(|kernel| (kernel, vec![1, 3, 5])).to_vec();
        let stage = |hidden: usize, levels: &[(usize, usize)]| Ltx2StageConfig {
            in_channels: 128,
            hidden,
            out_channels: 2,
            levels: levels.to_vec(),
            blocks: blocks(),
            activation: Ltx2Activation::Snake,
            finish: Ltx2Finish::Nothing,
            has_bias: false,
        };
        if !has_second_stage {
            let levels = [(16, 6), (15, 5), (8, 2), (4, 2), (4, 2)];
            return Self {
                stage: Ltx2StageConfig {
                    activation: Ltx2Activation::Leaky(0.1),
                    finish: Ltx2Finish::Tanh,
                    has_bias: true,
                    ..stage(1024, &levels)
                },
                widening: None,
                sample_rate: 24000,
            };
        }
        let first = [(11, 5), (4, 2), (4, 2), (4, 2), (4, 2), (4, 2)];
        let second = [(12, 6), (11, 5), (4, 2), (4, 2), (4, 2)];
        Self {
            stage: stage(1536, &first),
            widening: Some(Ltx2WideningConfig {
                stage: stage(512, &second),
                filter: 512,
                hop: 80,
                window: 512,
                mel_bins: 64,
                factor: 3,
            }),
            sample_rate: 48000,
        }
    }

    /// Reads `vocoder/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let raw: RawVocoder = read_config(path)?;
        let config = match raw.class.as_str() {
            "LTX2Vocoder" => raw.resolve(false),
            "LTX2VocoderWithBWE" => raw.resolve(true),
            other => Err(format!("it is a {other}, which is no vocoder of LTX-2")),
        };
        let config = config.map_err(|reason| Error::unsupported(path, reason))?;
        config
            .check()
            .map_err(|reason| Error::damaged(path, reason))?;
        Ok(config)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        self.stage.check()?;
        check_sizes(&[("output_sampling_rate", self.sample_rate)])?;
        let Some(widening) = &self.widening else {
            return Ok(());
        };
        widening.stage.check()?;
        check_sizes(&[
            ("filter_length", widening.filter),
            ("hop_length", widening.hop),
            ("window_length", widening.window),
            ("num_mel_channels", widening.mel_bins),
        ])?;
        // Both ways from samples to samples must meet.
        if widening.stage.factor() != widening.hop * widening.factor
            || widening.filter != widening.window
            || widening.filter < widening.hop
            || widening.stage.in_channels != self.stage.out_channels * widening.mel_bins
            || widening.stage.out_channels != self.stage.out_channels
        {
            return Err(format!(
                "its second stage {widening:?} does not fit its first"
            ));
        }
        Ok(())
    }
}

impl RawVocoder {
    fn resolve(self, is_wide: bool) -> Result<Ltx2VocoderConfig, String> {
        let published = Ltx2VocoderConfig::published(is_wide);
        let act = if is_wide { "snakebeta" } else { "leaky_relu" };
        let lists = |stage: &Ltx2StageConfig| {
            let (kernels, factors) = stage.levels.iter().copied().unzip();
            let (block_kernels, dilations) = stage.blocks.iter().cloned().unzip();
            (kernels, factors, block_kernels, dilations)
        };
        let usual = lists(&published.stage);
        let stage = RawStage {
            in_channels: self.in_channels.unwrap_or(published.stage.in_channels),
            hidden: self.hidden_channels.unwrap_or(published.stage.hidden),
            out_channels: self.out_channels.unwrap_or(2),
            kernels: self.upsample_kernel_sizes.unwrap_or(usual.0),
            factors: self.upsample_factors.unwrap_or(usual.1),
            block_kernels: self.resnet_kernel_sizes.unwrap_or(usual.2),
            dilations: self.resnet_dilations.unwrap_or(usual.3),
            act_fn: self.act_fn.unwrap_or_else(|| act.to_owned()),
            slope: self.leaky_relu_negative_slope.unwrap_or(0.1),
            is_antialiased: self.antialias.unwrap_or(is_wide),
            filter: (
                self.antialias_ratio.unwrap_or(2),
                self.antialias_kernel_size.unwrap_or(12),
            ),
            finish: self
                .final_act_fn
                .unwrap_or_else(|| (!is_wide).then(|| "tanh".to_owned())),
            has_bias: self.final_bias.unwrap_or(!is_wide),
        }
        .resolve()?;
        let sample_rate = self.output_sampling_rate.unwrap_or(published.sample_rate);
        let Some(usual_widening) = published.widening else {
            return Ok(Ltx2VocoderConfig {
                stage,
                widening: None,
                sample_rate,
            });
        };
        let usual = lists(&usual_widening.stage);
        let second = RawStage {
            in_channels: self
                .bwe_in_channels
                .unwrap_or(usual_widening.stage.in_channels),
            hidden: self
                .bwe_hidden_channels
                .unwrap_or(usual_widening.stage.hidden),
            out_channels: self.bwe_out_channels.unwrap_or(2),
            kernels: self.bwe_upsample_kernel_sizes.unwrap_or(usual.0),
            factors: self.bwe_upsample_factors.unwrap_or(usual.1),
            block_kernels: self.bwe_resnet_kernel_sizes.unwrap_or(usual.2),
            dilations: self.bwe_resnet_dilations.unwrap_or(usual.3),
            act_fn: self.bwe_act_fn.unwrap_or_else(|| act.to_owned()),
            slope: self.bwe_leaky_relu_negative_slope.unwrap_or(0.1),
            is_antialiased: self.bwe_antialias.unwrap_or(true),
            filter: (
                self.bwe_antialias_ratio.unwrap_or(2),
                self.bwe_antialias_kernel_size.unwrap_or(12),
            ),
            finish: self.bwe_final_act_fn.unwrap_or(None),
            has_bias: self.bwe_final_bias.unwrap_or(false),
        }
        .resolve()?;
        let input_rate = self.input_sampling_rate.unwrap_or(16000);
        if input_rate == 0 || !sample_rate.is_multiple_of(input_rate) {
            return Err(format!("{input_rate} samples a second to {sample_rate}"));
        }
        Ok(Ltx2VocoderConfig {
            stage,
            widening: Some(Ltx2WideningConfig {
                stage: second,
                filter: self.filter_length.unwrap_or(usual_widening.filter),
                hop: self.hop_length.unwrap_or(usual_widening.hop),
                window: self.window_length.unwrap_or(usual_widening.window),
                mel_bins: self.num_mel_channels.unwrap_or(usual_widening.mel_bins),
                factor: sample_rate / input_rate,
            }),
            sample_rate,
        })
    }
}
