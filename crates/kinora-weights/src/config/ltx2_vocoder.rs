//! The numbers of LTX-2's vocoder.

use std::path::Path;

use serde::Deserialize;

use super::check_sizes;
use crate::{Error, Result, json::read_config};

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
