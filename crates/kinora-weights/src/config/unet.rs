//! The numbers of the UNet of SD 1.x, 2.x and XL.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::check_sizes;
use crate::{Error, Result, json::read_config};

/// Most levels of a UNet; published ones have three or four.
const MAX_LEVELS: usize = 8;

/// A UNet with cross attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnetConfig {
    /// Channels of the input: 4, or 9 with a mask and a masked picture.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Channels of each level, full size first.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks on each level going down; one more going up.
    pub layers_per_block: usize,
    /// Transformer blocks after each residual block, by level; 0: no attention there.
    pub transformer_layers: Vec<usize>,
    /// Transformer blocks in the middle.
    pub mid_transformer_layers: usize,
    /// Width of the text embeddings.
    pub cross_attention_dim: usize,
    /// Attention heads by level.
    pub heads: Vec<usize>,
    /// Whether projections around transformers are linear layers; 1×1 convolutions otherwise.
    pub has_linear_projection: bool,
    /// Width of what is added to the time embedding (pooled text and sizes); None in SD 1.x and 2.x.
    pub added_dim: Option<usize>,
    /// Width of the embedding of one size in what is added.
    pub added_time_dim: usize,
    /// Groups of every group norm.
    pub norm_groups: usize,
}

/// The configuration as the reference library writes it, as far as it differs between networks that
/// run here.
#[derive(Deserialize)]
#[serde(default)]
struct Raw {
    in_channels: usize,
    out_channels: usize,
    block_out_channels: Vec<usize>,
    layers_per_block: OneOrMany,
    transformer_layers_per_block: OneOrMany,
    cross_attention_dim: OneOrMany,
    /// The number of heads, in spite of its name.
    attention_head_dim: OneOrMany,
    num_attention_heads: Option<OneOrMany>,
    use_linear_projection: bool,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    addition_embed_type: Option<String>,
    addition_time_embed_dim: Option<usize>,
    projection_class_embeddings_input_dim: Option<usize>,
    norm_num_groups: usize,
}

impl Default for Raw {
    fn default() -> Self {
        let types = |names: [&str; 4]| names.map(str::to_owned).to_vec();
        Self {
            in_channels: 4,
            out_channels: 4,
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: OneOrMany::One(2),
            transformer_layers_per_block: OneOrMany::One(1),
            cross_attention_dim: OneOrMany::One(1280),
            attention_head_dim: OneOrMany::One(8),
            num_attention_heads: None,
            use_linear_projection: false,
            down_block_types: types([ATTENDING_DOWN, ATTENDING_DOWN, ATTENDING_DOWN, PLAIN_DOWN]),
            up_block_types: types([PLAIN_UP, ATTENDING_UP, ATTENDING_UP, ATTENDING_UP]),
            addition_embed_type: None,
            addition_time_embed_dim: None,
            projection_class_embeddings_input_dim: None,
            norm_num_groups: 32,
        }
    }
}

const ATTENDING_DOWN: &str = "CrossAttnDownBlock2D";
const PLAIN_DOWN: &str = "DownBlock2D";
const ATTENDING_UP: &str = "CrossAttnUpBlock2D";
const PLAIN_UP: &str = "UpBlock2D";

/// What is the same in every network that runs here. A file that leaves one out, or says null, means
/// this value too.
const FIXED: [(&str, &str); 27] = [
    ("act_fn", r#""silu""#),
    ("attention_type", r#""default""#),
    ("center_input_sample", "false"),
    ("class_embed_type", "null"),
    ("class_embeddings_concat", "false"),
    ("conv_in_kernel", "3"),
    ("conv_out_kernel", "3"),
    ("cross_attention_norm", "null"),
    ("downsample_padding", "1"),
    ("dual_cross_attention", "false"),
    ("encoder_hid_dim", "null"),
    ("encoder_hid_dim_type", "null"),
    ("flip_sin_to_cos", "true"),
    ("freq_shift", "0"),
    ("mid_block_only_cross_attention", "null"),
    ("mid_block_scale_factor", "1"),
    ("mid_block_type", r#""UNetMidBlock2DCrossAttn""#),
    ("norm_eps", "1e-5"),
    ("num_class_embeds", "null"),
    ("only_cross_attention", "false"),
    ("resnet_out_scale_factor", "1"),
    ("resnet_skip_time_act", "false"),
    ("resnet_time_scale_shift", r#""default""#),
    ("reverse_transformer_layers_per_block", "null"),
    ("time_cond_proj_dim", "null"),
    ("time_embedding_type", r#""positional""#),
    ("timestep_post_act", "null"),
];

/// One number for all levels, or one for each.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(usize),
    Many(Vec<usize>),
}

impl OneOrMany {
    fn of_levels(&self, name: &str, levels: usize) -> Result<Vec<usize>, String> {
        match self {
            Self::One(number) => Ok(vec![*number; levels]),
            Self::Many(numbers) if numbers.len() == levels => Ok(numbers.clone()),
            Self::Many(numbers) => Err(format!("{name} {numbers:?} is not for {levels} levels")),
        }
    }

    fn of_all_levels(&self, name: &str, levels: usize) -> Result<usize, String> {
        let numbers = self.of_levels(name, levels)?;
        match numbers.first() {
            Some(first) if numbers.iter().all(|number| number == first) => Ok(*first),
            _ => Err(format!("{name} {numbers:?} differs between levels")),
        }
    }
}

impl UnetConfig {
    /// Reads `unet/config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let fields: Map<String, Value> = read_config(path)?;
        Self::parse(fields).map_err(|reason| Error::damaged(path, reason))
    }

    /// From the fields of a `config.json`. The error reads well after the file's name and a colon.
    fn parse(fields: Map<String, Value>) -> Result<Self, String> {
        for (name, known) in FIXED {
            let value = fields.get(name).unwrap_or(&Value::Null);
            let known: Value = serde_json::from_str(known).map_err(|error| error.to_string())?;
            let is_same = match (value.as_f64(), known.as_f64()) {
                (Some(value), Some(known)) => value == known,
                _ => *value == known,
            };
            if !value.is_null() && !is_same {
                return Err(format!("{name} is {value}, only {known} is known"));
            }
        }
        let raw: Raw =
            serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())?;
        raw.resolve()
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("layers_per_block", self.layers_per_block),
            ("cross_attention_dim", self.cross_attention_dim),
            ("the number of levels", self.block_out_channels.len()),
            ("norm_num_groups", self.norm_groups),
            ("addition_time_embed_dim", self.added_time_dim),
            (
                "projection_class_embeddings_input_dim",
                self.added_dim.unwrap_or(1),
            ),
            ("transformer_layers_per_block", self.mid_transformer_layers),
        ])?;
        let levels = self.block_out_channels.len();
        if levels > MAX_LEVELS {
            return Err(format!("block_out_channels has {levels} levels"));
        }
        if self.transformer_layers.len() != levels || self.heads.len() != levels {
            return Err(format!(
                "transformer_layers_per_block {:?} and attention_head_dim {:?} are not for {levels} \
                 levels",
                self.transformer_layers, self.heads
            ));
        }
        for ((channels, heads), depth) in self
            .block_out_channels
            .iter()
            .zip(&self.heads)
            .zip(&self.transformer_layers)
        {
            check_sizes(&[("block_out_channels", *channels)])?;
            if *depth > 0 {
                check_sizes(&[("transformer_layers_per_block", *depth)])?;
            }
            if channels % self.norm_groups != 0 {
                return Err(format!(
                    "{channels} of block_out_channels is not a multiple of norm_num_groups {}",
                    self.norm_groups
                ));
            }
            if *heads == 0 || channels % heads != 0 {
                return Err(format!(
                    "attention_head_dim is {:?}: {channels} channels cannot have {heads} heads",
                    self.heads
                ));
            }
        }
        Ok(())
    }
}

impl Raw {
    fn resolve(self) -> Result<UnetConfig, String> {
        let levels = self.block_out_channels.len();
        if levels == 0 || self.down_block_types.len() != levels {
            return Err(format!(
                "down_block_types {:?} are not for {levels} levels",
                self.down_block_types
            ));
        }
        let depths = self
            .transformer_layers_per_block
            .of_levels("transformer_layers_per_block", levels)?;
        let mut transformer_layers = Vec::with_capacity(levels);
        for (level, (kind, depth)) in self.down_block_types.iter().zip(&depths).enumerate() {
            let (expected, depth) = match kind.as_str() {
                ATTENDING_DOWN => (ATTENDING_UP, *depth),
                PLAIN_DOWN => (PLAIN_UP, 0),
                other => return Err(format!("down_block_types: {other} is not known")),
            };
            let up = self.up_block_types.get(levels - 1 - level);
            if up.is_none_or(|up| up != expected) || self.up_block_types.len() != levels {
                return Err(format!(
                    "up_block_types {:?} do not mirror down_block_types {:?}",
                    self.up_block_types, self.down_block_types
                ));
            }
            transformer_layers.push(depth);
        }
        let added_dim = match self.addition_embed_type.as_deref() {
            None => None,
            Some("text_time") => Some(self.projection_class_embeddings_input_dim.ok_or(
                "projection_class_embeddings_input_dim is missing beside addition_embed_type",
            )?),
            Some(other) => return Err(format!("addition_embed_type {other:?} is not known")),
        };
        let heads = self
            .num_attention_heads
            .as_ref()
            .unwrap_or(&self.attention_head_dim);
        let config = UnetConfig {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            layers_per_block: self
                .layers_per_block
                .of_all_levels("layers_per_block", levels)?,
            transformer_layers,
            mid_transformer_layers: depths[levels - 1],
            cross_attention_dim: self
                .cross_attention_dim
                .of_all_levels("cross_attention_dim", levels)?,
            heads: heads.of_levels("attention_head_dim", levels)?,
            has_linear_projection: self.use_linear_projection,
            added_dim,
            added_time_dim: self.addition_time_embed_dim.unwrap_or(ADDED_TIME_DIM),
            norm_groups: self.norm_num_groups,
            block_out_channels: self.block_out_channels,
        };
        config.check()?;
        Ok(config)
    }
}

/// Of every published network.
pub(crate) const ADDED_TIME_DIM: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<UnetConfig, String> {
        UnetConfig::parse(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn one_number_counts_for_every_level() {
        let config = parse(
            r#"{"cross_attention_dim": 768, "norm_eps": 1e-05, "mid_block_scale_factor": 1,
            "class_embed_type": null, "sample_size": 64}"#,
        )
        .unwrap();
        assert_eq!(config.heads, [8; 4]);
        assert_eq!(config.transformer_layers, [1, 1, 1, 0]);
        assert_eq!(config.mid_transformer_layers, 1);
        assert_eq!((config.added_dim, config.norm_groups), (None, 32));
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (json, word) in [
            (r#"{"act_fn": "gelu"}"#, "act_fn"),
            (r#"{"time_cond_proj_dim": 256}"#, "time_cond_proj_dim"),
            (r#"{"num_class_embeds": 1000}"#, "num_class_embeds"),
            (r#"{"attention_head_dim": [5, 10]}"#, "attention_head_dim"),
            (r#"{"attention_head_dim": 7}"#, "7 heads"),
            (r#"{"attention_head_dim": 0}"#, "0 heads"),
            (r#"{"layers_per_block": [2, 2, 2, 1]}"#, "layers_per_block"),
            (r#"{"block_out_channels": []}"#, "0 levels"),
            (r#"{"block_out_channels": [8, 8]}"#, "2 levels"),
            (r#"{"norm_num_groups": 33}"#, "norm_num_groups"),
            (r#"{"addition_embed_type": "image"}"#, "addition_embed_type"),
            (
                r#"{"addition_embed_type": "text_time"}"#,
                "projection_class",
            ),
            (r#"{"up_block_types": ["UpBlock2D"]}"#, "mirror"),
            (r#"{"in_channels": 0}"#, "in_channels"),
            (r#"{"in_channels": -4}"#, "invalid value"),
        ] {
            let reason = parse(json).unwrap_err();
            assert!(reason.contains(word), "{json}: {reason}");
        }
    }
}
