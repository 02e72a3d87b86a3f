//! The numbers of the video VAEs of LTX-Video and LTX-2.

use std::path::Path;

use serde::Deserialize;

use super::{check_eps, check_sizes};
use crate::{Error, Result, json::read_config, maps::ltx_vae::LtxVaeRelease};

/// A step between two levels of an LTX VAE, by what it folds into channels or out of them:
/// frames, rows, columns.
pub type LtxFold = [usize; 3];

/// How the encoder of an LTX VAE shrinks after a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LtxShrink {
    /// Not at all.
    No,
    /// A convolution with a step of two in every direction.
    Conv,
    /// A convolution whose cubes become channels, with their averages beside it.
    Fold(LtxFold),
}

/// A level of the encoder, the one of the full size first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LtxDownLevel {
    /// Channels of its blocks.
    pub width: usize,
    /// Channels that it hands on.
    pub outputs: usize,
    /// Residual blocks.
    pub blocks: usize,
    /// What ends it.
    pub shrink: LtxShrink,
    /// Whether a block to other channels follows instead of the shrinking making them.
    pub has_block_out: bool,
}

/// A level of the decoder, the smallest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LtxUpLevel {
    /// Channels that it gets.
    pub inputs: usize,
    /// Channels of its blocks.
    pub width: usize,
    /// Residual blocks.
    pub blocks: usize,
    /// How it grows before them.
    pub grow: Option<LtxFold>,
    /// By how much growing divides the channels.
    pub factor: usize,
    /// Whether copies of the channels go around the growing.
    pub is_residual: bool,
    /// Whether its blocks add noise of their own.
    pub has_noise: bool,
}

/// A video VAE of LTX-Video or LTX-2.
#[derive(Clone, Debug, PartialEq)]
pub struct LtxVaeConfig {
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Pixels along each side that come as the channels of one.
    pub patch_size: usize,
    /// Channels of the encoder's first layer.
    pub encoder_width: usize,
    /// Levels of the encoder.
    pub down: Vec<LtxDownLevel>,
    /// Blocks behind them.
    pub encoder_middle: usize,
    /// Channels of the decoder's first layer.
    pub decoder_width: usize,
    /// Blocks behind it.
    pub decoder_middle: usize,
    /// Whether those add noise of their own.
    pub middle_has_noise: bool,
    /// Levels of the decoder.
    pub up: Vec<LtxUpLevel>,
    /// Whether the decoder is told how much noise its latents hold: 0.9.1 and later.
    pub is_timed: bool,
    /// Whether frames of the encoder see only frames before them.
    pub is_encoder_causal: bool,
    /// The same of the decoder.
    pub is_decoder_causal: bool,
    /// Whether the decoder's frames are surrounded by their mirror image: LTX-2.
    pub is_decoder_mirrored: bool,
    /// Of the norms before the blocks that change the number of channels.
    pub norm_eps: f64,
    /// Latents are divided by it after the decoder's mean and deviation.
    pub scaling_factor: f64,
}

/// `vae/config.json` of either class, as far as it is given.
#[derive(Deserialize)]
struct RawVae {
    #[serde(rename = "_class_name", default)]
    class: String,
    in_channels: Option<usize>,
    out_channels: Option<usize>,
    latent_channels: Option<usize>,
    block_out_channels: Option<Vec<usize>>,
    down_block_types: Option<Vec<String>>,
    decoder_block_out_channels: Option<Vec<usize>>,
    layers_per_block: Option<Vec<usize>>,
    decoder_layers_per_block: Option<Vec<usize>>,
    spatio_temporal_scaling: Option<Flags>,
    decoder_spatio_temporal_scaling: Option<Flags>,
    decoder_inject_noise: Option<Flags>,
    downsample_type: Option<Vec<String>>,
    upsample_type: Option<Vec<String>>,
    upsample_residual: Option<Flags>,
    upsample_factor: Option<Vec<usize>>,
    timestep_conditioning: Option<bool>,
    patch_size: Option<usize>,
    patch_size_t: Option<usize>,
    resnet_norm_eps: Option<f64>,
    scaling_factor: Option<f64>,
    encoder_causal: Option<bool>,
    decoder_causal: Option<bool>,
    encoder_spatial_padding_mode: Option<String>,
    decoder_spatial_padding_mode: Option<String>,
}

/// One answer for all levels, or one for each.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Flags {
    All(bool),
    Each(Vec<bool>),
}

impl Flags {
    fn each(self, count: usize) -> Vec<bool> {
        match self {
            Self::All(flag) => vec![flag; count],
            Self::Each(flags) => flags,
        }
    }
}

/// Levels of a VAE, far above any.
const MAX_LEVELS: usize = 8;
/// Blocks of a level, far above any.
const MAX_BLOCKS: usize = 64;

impl LtxVaeConfig {
    /// The VAE of a published release.
    pub fn published(release: LtxVaeRelease) -> Self {
        let widths = [128, 256, 512];
        let folds = [[1, 2, 2], [2, 1, 1], [2, 2, 2], [2, 2, 2]];
        let encoder_widths = match release {
            LtxVaeRelease::V090 | LtxVaeRelease::V091 => vec![128, 256, 512, 512],
            LtxVaeRelease::V095 | LtxVaeRelease::Two => vec![128, 256, 512, 1024, 2048],
        };
        let conv = |i: usize, blocks: usize| LtxDownLevel {
            width: encoder_widths[i],
            outputs: *encoder_widths.get(i + 1).unwrap_or(&encoder_widths[i]),
            blocks,
            shrink: if i < 3 {
                LtxShrink::Conv
            } else {
                LtxShrink::No
            },
            has_block_out: i < 2,
        };
        let fold = |i: usize, blocks: usize| LtxDownLevel {
            width: encoder_widths[i],
            outputs: encoder_widths[i + 1],
            blocks,
            shrink: LtxShrink::Fold(folds[i]),
            has_block_out: false,
        };
        let (down, encoder_middle) = match release {
            LtxVaeRelease::V090 | LtxVaeRelease::V091 => {
                let blocks = [4, 3, 3, 3];
                ((0..4).map(|i| conv(i, blocks[i])).collect(), 4)
            }
            LtxVaeRelease::V095 | LtxVaeRelease::Two => {
                let blocks = [4, 6, 6, 2];
                ((0..4).map(|i| fold(i, blocks[i])).collect(), 2)
            }
        };
        let up_from = |blocks: [usize; 3], noisy: [bool; 3]| -> Vec<LtxUpLevel> {
            (0..3)
                .map(|i| LtxUpLevel {
                    inputs: 2 * widths[2 - i],
                    width: widths[2 - i],
                    blocks: blocks[i],
                    grow: Some([2, 2, 2]),
                    factor: 2,
                    is_residual: true,
                    has_noise: noisy[i],
                })
                .map(|level| LtxUpLevel {
                    // The level before it has halved them already.
                    inputs: level.width,
                    ..level
                })
                .collect()
        };
        let (decoder_width, decoder_middle, up) = match release {
            LtxVaeRelease::V090 => {
                let widths = [512, 512, 256, 128];
                let inputs = [512, 512, 512, 256];
                let up = (0..4)
                    .map(|i| LtxUpLevel {
                        inputs: inputs[i],
                        width: widths[i],
                        blocks: 3,
                        grow: (i > 0).then_some([2, 2, 2]),
                        factor: 1,
                        is_residual: false,
                        has_noise: false,
                    })
                    .map(|level| LtxUpLevel {
                        blocks: if level.width == 128 { 4 } else { level.blocks },
                        ..level
                    })
                    .collect();
                (512, 4, up)
            }
            LtxVaeRelease::V091 => (1024, 8, up_from([7, 6, 5], [true; 3])),
            LtxVaeRelease::V095 | LtxVaeRelease::Two => (1024, 5, up_from([5; 3], [false; 3])),
        };
        let is_two = release == LtxVaeRelease::Two;
        Self {
            latent_channels: 128,
            patch_size: 4,
            encoder_width: encoder_widths[0],
            down,
            encoder_middle,
            decoder_width,
            decoder_middle,
            middle_has_noise: false,
            up,
            is_timed: matches!(release, LtxVaeRelease::V091 | LtxVaeRelease::V095),
            is_encoder_causal: true,
            is_decoder_causal: false,
            is_decoder_mirrored: is_two,
            norm_eps: 1e-6,
            scaling_factor: 1.0,
        }
    }

    /// Reads `vae/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let raw: RawVae = read_config(path)?;
        let config = match raw.class.as_str() {
            "AutoencoderKLLTXVideo" | "AutoencoderKLLTX2Video" => raw.resolve(),
            other => Err(format!("it is a {other}, which is no VAE of LTX")),
        };
        let config = config.map_err(|reason| Error::unsupported(path, reason))?;
        config
            .check()
            .map_err(|reason| Error::damaged(path, reason))?;
        Ok(config)
    }

    /// Pixels per latent, along each side.
    pub fn scale(&self) -> usize {
        self.up
            .iter()
            .filter_map(|level| level.grow)
            .fold(self.patch_size, |scale, [_, rows, _]| scale * rows)
    }

    /// Frames per latent frame, but for the first one.
    pub fn time_scale(&self) -> usize {
        self.up
            .iter()
            .filter_map(|level| level.grow)
            .fold(1, |scale, [frames, ..]| scale * frames)
    }

    /// Channels of a picture inside the network: three for each pixel of a patch.
    pub fn pixel_channels(&self) -> usize {
        3 * self.patch_size * self.patch_size
    }

    /// Channels before the last layer.
    pub fn last_width(&self) -> usize {
        self.up
            .last()
            .map_or(self.decoder_width, |level| level.width)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("latent_channels", self.latent_channels),
            ("block_out_channels", self.encoder_width),
            ("decoder_block_out_channels", self.decoder_width),
        ])?;
        check_eps("resnet_norm_eps", self.norm_eps)?;
        let folds = |[frames, rows, columns]: LtxFold| frames * rows * columns;
        for level in &self.down {
            check_sizes(&[
                ("block_out_channels", level.width),
                ("block_out_channels", level.outputs),
            ])?;
            if let LtxShrink::Fold(fold) = level.shrink {
                let cube = folds(fold);
                if !level.outputs.is_multiple_of(cube)
                    || !(level.width * cube).is_multiple_of(level.outputs)
                {
                    return Err(format!(
                        "{} channels cannot be folded to {}",
                        level.width, level.outputs
                    ));
                }
            }
        }
        for level in &self.up {
            check_sizes(&[
                ("decoder_block_out_channels", level.inputs),
                ("decoder_block_out_channels", level.width),
                ("upsample_factor", level.factor),
            ])?;
            if let Some(fold) = level.grow {
                let cube = folds(fold);
                let wide = level.width * level.factor;
                let is_even = level.factor <= cube && cube.is_multiple_of(level.factor);
                if !is_even || (level.is_residual && !wide.is_multiple_of(cube)) {
                    return Err(format!("{wide} channels cannot be unfolded by {cube}"));
                }
            }
        }
        let blocks = self.down.iter().map(|level| level.blocks);
        let blocks = blocks.chain(self.up.iter().map(|level| level.blocks));
        let most = blocks
            .chain([self.encoder_middle, self.decoder_middle])
            .max()
            .unwrap_or(0);
        let is_good = (1..=MAX_LEVELS).contains(&self.down.len())
            && (1..=MAX_LEVELS).contains(&self.up.len())
            && most <= MAX_BLOCKS
            && (1..=16).contains(&self.patch_size)
            && self.scaling_factor.is_finite()
            && self.scaling_factor > 0.0;
        if !is_good {
            return Err(format!(
                "{} and {} levels, up to {most} blocks, a patch of {} and a scaling factor of {} \
                 cannot be",
                self.down.len(),
                self.up.len(),
                self.patch_size,
                self.scaling_factor
            ));
        }
        Ok(())
    }
}

impl RawVae {
    fn resolve(self) -> Result<LtxVaeConfig, String> {
        let is_two = self.class == "AutoencoderKLLTX2Video";
        let pick = |given: Option<Vec<usize>>, one: &[usize], two: &[usize]| {
            given.unwrap_or_else(|| if is_two { two } else { one }.to_vec())
        };
        let widths = pick(
            self.block_out_channels,
            &[128, 256, 512, 512],
            &[256, 512, 1024, 2048],
        );
        let layers = pick(self.layers_per_block, &[4, 3, 3, 3, 4], &[4, 6, 6, 2, 2]);
        let decoder_widths = pick(
            self.decoder_block_out_channels,
            &[128, 256, 512, 512],
            &[256, 512, 1024],
        );
        let decoder_layers = pick(
            self.decoder_layers_per_block,
            &[4, 3, 3, 3, 4],
            &[5, 5, 5, 5],
        );
        let latent_channels = self.latent_channels.unwrap_or(128);
        // A level less than widths where the last one only says what is handed on.
        let is_folded = is_two
            || self
                .down_block_types
                .as_ref()
                .and_then(|types| types.last())
                .is_some_and(|kind| kind == "LTXVideo095DownBlock3D");
        let levels = match is_folded && !is_two {
            true => widths.len().saturating_sub(1),
            false => widths.len(),
        };
        let ups = decoder_widths.len();
        let too_few = || "its lists of levels have different lengths".to_owned();
        if levels == 0 || ups == 0 || levels.max(ups) > MAX_LEVELS {
            return Err(too_few());
        }
        let flags = |given: Option<Flags>, one: Flags, two: Flags, count: usize| {
            given.unwrap_or(if is_two { two } else { one }).each(count)
        };
        let all = Flags::All;
        let shrinks = flags(
            self.spatio_temporal_scaling,
            Flags::Each(vec![true, true, true, false]),
            all(true),
            levels,
        );
        let grows = flags(
            self.decoder_spatio_temporal_scaling,
            Flags::Each(vec![true, true, true, false]),
            all(true),
            ups,
        );
        let noise = flags(self.decoder_inject_noise, all(false), all(false), ups + 1);
        let residual = flags(self.upsample_residual, all(false), all(true), ups);
        let factors = self
            .upsample_factor
            .unwrap_or_else(|| vec![if is_two { 2 } else { 1 }; ups]);
        let kinds = self.downsample_type.unwrap_or_else(|| {
            let two = ["spatial", "temporal", "spatiotemporal", "spatiotemporal"];
            let one = ["conv"; 4];
            let kinds = if is_two { two } else { one };
            kinds.map(str::to_owned).to_vec()
        });
        let enough = layers.len() > levels
            && shrinks.len() >= levels
            && kinds.len() >= levels
            && decoder_layers.len() == ups + 1
            && [grows.len(), residual.len(), factors.len()]
                .iter()
                .all(|len| *len >= ups)
            && noise.len() > ups;
        if !enough {
            return Err(too_few());
        }
        let fold_of = |kind: &str| -> Result<LtxFold, String> {
            Ok(match kind {
                "spatial" => [1, 2, 2],
                "temporal" => [2, 1, 1],
                "spatiotemporal" => [2, 2, 2],
                other => return Err(format!("a sampler of the kind {other:?} is not known here")),
            })
        };
        let encoder_width = if is_two { latent_channels } else { widths[0] };
        let mut width = encoder_width;
        let mut down = Vec::with_capacity(levels);
        for i in 0..levels {
            let outputs = match (is_two, is_folded) {
                (true, _) => widths[i],
                (false, true) => widths[i + 1],
                (false, false) => *widths.get(i + 1).unwrap_or(&widths[i]),
            };
            let shrink = match (shrinks[i], is_folded) {
                (false, _) => LtxShrink::No,
                (true, false) => LtxShrink::Conv,
                (true, true) if kinds[i] == "conv" => LtxShrink::Conv,
                (true, true) => LtxShrink::Fold(fold_of(&kinds[i])?),
            };
            down.push(LtxDownLevel {
                width,
                outputs,
                blocks: layers[i],
                shrink,
                has_block_out: !is_folded && width != outputs,
            });
            width = outputs;
        }
        // From the smallest level on.
        let up_kinds = self.upsample_type.filter(|_| is_two).unwrap_or_default();
        let last = ups - 1;
        let decoder_width = decoder_widths[last];
        let mut width = decoder_width;
        let mut up = Vec::with_capacity(ups);
        for i in 0..ups {
            let factor = factors[last - i];
            if factor == 0 {
                return Err("an upsample_factor is 0".to_owned());
            }
            // Kinds are listed from the smallest level on, unlike everything else.
            let fold = match up_kinds.get(i) {
                Some(kind) => fold_of(kind)?,
                None => [2, 2, 2],
            };
            let inputs = width / factor;
            width = decoder_widths[last - i] / factor;
            up.push(LtxUpLevel {
                inputs,
                width,
                blocks: decoder_layers[last - i],
                grow: grows[last - i].then_some(fold),
                factor,
                is_residual: residual[last - i],
                has_noise: noise[last - i],
            });
        }
        let mirrored = |mode: Option<&str>, usual: bool| match mode {
            None => Ok(usual),
            Some("zeros") => Ok(false),
            Some("reflect") => Ok(true),
            Some(other) => Err(format!("padding by {other:?} is not known here")),
        };
        let encoder_mode = self.encoder_spatial_padding_mode.as_deref();
        if mirrored(encoder_mode, false)?
            || self.patch_size_t.unwrap_or(1) != 1
            || self.in_channels.unwrap_or(3) != 3
            || self.out_channels.unwrap_or(3) != 3
        {
            return Err("its pictures are not taken as LTX takes them".to_owned());
        }
        Ok(LtxVaeConfig {
            latent_channels,
            patch_size: self.patch_size.unwrap_or(4),
            encoder_width,
            down,
            encoder_middle: layers[layers.len() - 1],
            decoder_width,
            decoder_middle: decoder_layers[ups],
            middle_has_noise: noise[ups],
            up,
            is_timed: self.timestep_conditioning.unwrap_or(false),
            is_encoder_causal: self.encoder_causal.unwrap_or(true),
            is_decoder_causal: self.decoder_causal.unwrap_or(is_two),
            is_decoder_mirrored: mirrored(self.decoder_spatial_padding_mode.as_deref(), is_two)?,
            norm_eps: self.resnet_norm_eps.unwrap_or(1e-6),
            scaling_factor: self.scaling_factor.unwrap_or(1.0),
        })
    }
}
