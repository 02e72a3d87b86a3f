//! The numbers of Wan's video transformers and VAEs, and what their latents are brought to.

use std::path::Path;

use serde::Deserialize;

use super::{check_sizes, read_checked};
use crate::{Error, Result, json::read_config};

/// A Wan transformer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WanConfig {
    /// Channels of the input: 16, 36 with mask and condition, 48 in the 5B.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Frames, rows and columns of a token.
    pub patch_size: [usize; 3],
    /// Attention heads of 128.
    #[serde(rename = "num_attention_heads")]
    pub heads: usize,
    /// Width of one head.
    #[serde(rename = "attention_head_dim")]
    pub head_dim: usize,
    /// Blocks.
    #[serde(rename = "num_layers")]
    pub layers: usize,
    /// Width inside the feed-forward layers.
    pub ffn_dim: usize,
    /// Width of the time embedding before its first layer.
    pub freq_dim: usize,
    /// Width of the text embeddings.
    pub text_dim: usize,
    /// Width of the picture embeddings of CLIP; None: it takes none.
    pub image_dim: Option<usize>,
    /// Learned positions of the picture embeddings (first and last frame).
    #[serde(rename = "pos_embed_seq_len")]
    pub image_positions: Option<usize>,
}

impl Default for WanConfig {
    fn default() -> Self {
        Self {
            in_channels: 16,
            out_channels: 16,
            patch_size: [1, 2, 2],
            heads: 40,
            head_dim: 128,
            layers: 40,
            ffn_dim: 13824,
            freq_dim: 256,
            text_dim: 4096,
            image_dim: None,
            image_positions: None,
        }
    }
}

/// What every published Wan transformer says and the network here takes for granted.
#[derive(Deserialize)]
#[serde(default)]
struct WanConstants {
    qk_norm: Option<String>,
    cross_attn_norm: bool,
    eps: f64,
}

impl Default for WanConstants {
    fn default() -> Self {
        Self {
            qk_norm: Some("rms_norm_across_heads".to_owned()),
            cross_attn_norm: true,
            eps: 1e-6,
        }
    }
}

impl WanConfig {
    /// Reads `transformer/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let constants: WanConstants = read_config(path)?;
        if constants.qk_norm.as_deref() != Some("rms_norm_across_heads")
            || !constants.cross_attn_norm
            || constants.eps != 1e-6
        {
            return Err(Error::unsupported(
                path,
                "its norms are not those of Wan (qk_norm, cross_attn_norm or eps)",
            ));
        }
        read_checked(path, Self::check)
    }

    /// Width of the network.
    pub fn hidden(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Numbers of a token.
    pub fn patch_len(&self) -> usize {
        self.patch_size.iter().product()
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("num_attention_heads", self.heads),
            ("attention_head_dim", self.head_dim),
            ("num_layers", self.layers),
            ("ffn_dim", self.ffn_dim),
            ("freq_dim", self.freq_dim),
            ("text_dim", self.text_dim),
            ("image_dim", self.image_dim.unwrap_or(1)),
            ("pos_embed_seq_len", self.image_positions.unwrap_or(1)),
        ])?;
        for size in self.patch_size {
            check_sizes(&[("patch_size", size)])?;
        }
        let odd = [self.head_dim, self.freq_dim]
            .iter()
            .any(|size| size % 2 != 0);
        if odd || self.patch_len() > 1 << 12 || self.hidden() > 1 << 20 {
            return Err(format!(
                "attention_head_dim {}, freq_dim {} and patch_size {:?} cannot be",
                self.head_dim, self.freq_dim, self.patch_size
            ));
        }
        Ok(())
    }
}

/// Wan's video VAE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WanVaeConfig {
    /// Channels of the encoder's first level.
    pub base_dim: usize,
    /// Channels of the decoder's last level.
    pub decoder_base_dim: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Whether samplers have shortcuts and pixels come in patches of 2×2: version 2.2.
    pub is_residual: bool,
    /// Width of each level against the base, the level of the full size first.
    pub multipliers: Vec<usize>,
    /// Residual blocks of a level of the encoder; the decoder has one more.
    pub blocks_per_level: usize,
    /// Which of the encoder's samplers halve the frames too.
    pub halves_time: Vec<bool>,
    /// Pixels along each side that come as the channels of one.
    pub patch_size: usize,
}

/// `vae/config.json`, with the reference's defaults.
#[derive(Deserialize)]
#[serde(default)]
struct RawWanVae {
    base_dim: usize,
    decoder_base_dim: Option<usize>,
    z_dim: usize,
    dim_mult: Vec<usize>,
    num_res_blocks: usize,
    attn_scales: Vec<f64>,
    temperal_downsample: Vec<bool>,
    is_residual: bool,
    in_channels: usize,
    out_channels: usize,
    patch_size: Option<usize>,
    scale_factor_temporal: Option<usize>,
    scale_factor_spatial: Option<usize>,
}

impl Default for RawWanVae {
    fn default() -> Self {
        Self {
            base_dim: 96,
            decoder_base_dim: None,
            z_dim: 16,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            attn_scales: Vec::new(),
            temperal_downsample: vec![false, true, true],
            is_residual: false,
            in_channels: 3,
            out_channels: 3,
            patch_size: None,
            scale_factor_temporal: Some(4),
            scale_factor_spatial: Some(8),
        }
    }
}

impl WanVaeConfig {
    /// The VAE of Wan 2.1, which the larger models of 2.2 use too.
    pub fn wan21() -> Self {
        Self {
            base_dim: 96,
            decoder_base_dim: 96,
            latent_channels: 16,
            is_residual: false,
            multipliers: vec![1, 2, 4, 4],
            blocks_per_level: 2,
            halves_time: vec![false, true, true],
            patch_size: 1,
        }
    }

    /// The VAE of Wan 2.2 TI2V-5B.
    pub fn wan22() -> Self {
        Self {
            base_dim: 160,
            decoder_base_dim: 256,
            latent_channels: 48,
            is_residual: true,
            patch_size: 2,
            ..Self::wan21()
        }
    }

    /// Reads `vae/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let raw: RawWanVae = read_config(path)?;
        let config = Self {
            base_dim: raw.base_dim,
            decoder_base_dim: raw.decoder_base_dim.unwrap_or(raw.base_dim),
            latent_channels: raw.z_dim,
            is_residual: raw.is_residual,
            multipliers: raw.dim_mult,
            blocks_per_level: raw.num_res_blocks,
            halves_time: raw.temperal_downsample,
            patch_size: raw.patch_size.unwrap_or(1),
        };
        config
            .check()
            .map_err(|reason| Error::damaged(path, reason))?;
        let channels = config.pixel_channels();
        if !raw.attn_scales.is_empty()
            || [raw.in_channels, raw.out_channels] != [channels, channels]
            || raw
                .scale_factor_spatial
                .is_some_and(|scale| scale != config.scale())
            || raw
                .scale_factor_temporal
                .is_some_and(|scale| scale != config.time_scale())
        {
            return Err(Error::unsupported(
                path,
                "its channels, scales or attention are not those of Wan's VAEs",
            ));
        }
        Ok(config)
    }

    /// Pixels per latent, along each side.
    pub fn scale(&self) -> usize {
        self.patch_size << (self.multipliers.len() - 1)
    }

    /// Frames per latent frame, but for the first one.
    pub fn time_scale(&self) -> usize {
        1 << self.halves_time.iter().filter(|halves| **halves).count()
    }

    /// Channels of a picture inside the network: three for each pixel of a patch.
    pub fn pixel_channels(&self) -> usize {
        3 * self.patch_size * self.patch_size
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("base_dim", self.base_dim),
            ("decoder_base_dim", self.decoder_base_dim),
            ("z_dim", self.latent_channels),
            ("num_res_blocks", self.blocks_per_level),
        ])?;
        if !(1..=8).contains(&self.multipliers.len())
            || self.halves_time.len() + 1 != self.multipliers.len()
            || self.blocks_per_level > 64
            || !(1..=8).contains(&self.patch_size)
            || self
                .multipliers
                .iter()
                .any(|factor| !(1..=64).contains(factor))
        {
            return Err(format!(
                "dim_mult {:?}, temperal_downsample {:?}, num_res_blocks {} and patch_size {} \
                 cannot be",
                self.multipliers, self.halves_time, self.blocks_per_level, self.patch_size
            ));
        }
        Ok(())
    }
}

/// Mean and standard deviation of each channel of a VAE's latents: the diffusion process runs on
/// latents that these bring to 0 and 1.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct LatentStats {
    /// One number for each channel.
    #[serde(rename = "latents_mean")]
    pub mean: Vec<f64>,
    /// One number for each channel.
    #[serde(rename = "latents_std")]
    pub std: Vec<f64>,
}

/// Wan 2.1.
const MEAN_21: [f64; 16] = [
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517,
    -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
];
const STD_21: [f64; 16] = [
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579,
    1.6382, 1.1253, 2.8251, 1.9160,
];

/// Wan 2.2, the small model's (`wan/modules/vae2_2.py` of the authors).
const MEAN_22: [f64; 48] = [
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813,
    0.0891, 0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108,
    -0.2158, 0.2502, -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313,
    -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944,
    0.3573, -0.0548, -0.1681, -0.0667,
];
const STD_22: [f64; 48] = [
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
];

impl LatentStats {
    /// Of the published VAE with these numbers; None: there is none.
    pub fn published(vae: &WanVaeConfig) -> Option<Self> {
        match (vae.latent_channels, vae.is_residual) {
            (16, false) => Some(Self::wan21()),
            (48, true) => Some(Self {
                mean: MEAN_22.to_vec(),
                std: STD_22.to_vec(),
            }),
            _ => None,
        }
    }

    /// Of the VAE of Wan 2.1.
    pub fn wan21() -> Self {
        Self {
            mean: MEAN_21.to_vec(),
            std: STD_21.to_vec(),
        }
    }

    /// Reads them from `vae/config.json`; what does not tell is Wan 2.1.
    pub fn read(path: &Path, channels: usize) -> Result<Self> {
        #[derive(Deserialize)]
        struct Raw {
            latents_mean: Option<Vec<f64>>,
            latents_std: Option<Vec<f64>>,
        }
        let raw: Raw = read_config(path)?;
        let published = Self::wan21();
        let stats = Self {
            mean: raw.latents_mean.unwrap_or(published.mean),
            std: raw.latents_std.unwrap_or(published.std),
        };
        stats
            .check(channels)
            .map_err(|reason| Error::damaged(path, reason))?;
        Ok(stats)
    }

    fn check(&self, channels: usize) -> Result<(), String> {
        let is_good = self.mean.len() == channels
            && self.std.len() == channels
            && self.mean.iter().all(|mean| mean.is_finite())
            && self.std.iter().all(|std| std.is_finite() && *std > 0.0);
        if is_good {
            Ok(())
        } else {
            Err(format!(
                "latents_mean and latents_std are not {channels} usable numbers each"
            ))
        }
    }
}
