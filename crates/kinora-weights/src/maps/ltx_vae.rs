//! The video VAEs of LTX-Video and LTX-2 under their authors' names.
//!
//! The authors count blocks and samplers in one row on each side; what stands at which place depends
//! on the release.

use crate::view::Part;

/// A release of the VAE, as far as its names depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LtxVaeRelease {
    /// LTX-Video 0.9.0.
    V090,
    /// LTX-Video 0.9.1: a decoder that is told the noise level.
    V091,
    /// LTX-Video 0.9.5 and later.
    V095,
    /// LTX-2.
    Two,
}

const ENCODER_090: [&str; 10] = [
    "down_blocks.0",
    "down_blocks.0.downsamplers.0",
    "down_blocks.0.conv_out",
    "down_blocks.1",
    "down_blocks.1.downsamplers.0",
    "down_blocks.1.conv_out",
    "down_blocks.2",
    "down_blocks.2.downsamplers.0",
    "down_blocks.3",
    "mid_block",
];

const ENCODER_095: [&str; 9] = [
    "down_blocks.0",
    "down_blocks.0.downsamplers.0",
    "down_blocks.1",
    "down_blocks.1.downsamplers.0",
    "down_blocks.2",
    "down_blocks.2.downsamplers.0",
    "down_blocks.3",
    "down_blocks.3.downsamplers.0",
    "mid_block",
];

const DECODER_090: [&str; 10] = [
    "mid_block",
    "up_blocks.0",
    "up_blocks.1.upsamplers.0",
    "up_blocks.1",
    "up_blocks.2.conv_in",
    "up_blocks.2.upsamplers.0",
    "up_blocks.2",
    "up_blocks.3.conv_in",
    "up_blocks.3.upsamplers.0",
    "up_blocks.3",
];

const DECODER_091: [&str; 9] = [
    "mid_block",
    "up_blocks.0.upsamplers.0",
    "up_blocks.0",
    "up_blocks.1.upsamplers.0",
    "up_blocks.1",
    "up_blocks.2.upsamplers.0",
    "up_blocks.2",
    "up_blocks.3.upsamplers.0",
    "up_blocks.3",
];

/// The canonical name of a stored one.
pub fn rename(release: LtxVaeRelease, name: &str) -> Option<(String, Part)> {
    let encoder: &[&str] = match release {
        LtxVaeRelease::V090 | LtxVaeRelease::V091 => &ENCODER_090,
        LtxVaeRelease::V095 | LtxVaeRelease::Two => &ENCODER_095,
    };
    let decoder: &[&str] = match release {
        LtxVaeRelease::V090 => &DECODER_090,
        _ => &DECODER_091,
    };
    let parts: Vec<&str> = name.split('.').collect();
    let canonical = match parts[..] {
        ["per_channel_statistics", "mean-of-means"] => "latents_mean".to_owned(),
        ["per_channel_statistics", "std-of-means"] => "latents_std".to_owned(),
        ["per_channel_statistics", ..] => return None,
        ["encoder", "down_blocks", place, ref rest @ ..] => {
            let block = encoder.get(place.parse::<usize>().ok()?)?;
            format!("encoder.{block}.{}", rename_tail(rest))
        }
        ["decoder", "up_blocks", place, ref rest @ ..] => {
            let block = decoder.get(place.parse::<usize>().ok()?)?;
            format!("decoder.{block}.{}", rename_tail(rest))
        }
        ["decoder", "last_time_embedder", ref rest @ ..] => {
            format!("decoder.time_embedder.{}", rest.join("."))
        }
        ["decoder", "last_scale_shift_table"] => "decoder.scale_shift_table".to_owned(),
        ["encoder" | "decoder", ..] => name.to_owned(),
        _ => return None,
    };
    Some((canonical, Part::Whole))
}

fn rename_tail(rest: &[&str]) -> String {
    let mut tail: Vec<&str> = Vec::with_capacity(rest.len() + 1);
    for part in rest {
        match (*part, tail.last()) {
            ("res_blocks", _) => tail.push("resnets"),
            ("conv_shortcut", _) => tail.extend(["conv_shortcut", "conv"]),
            // Its one convolution is not wrapped again.
            ("conv", Some(&"conv")) if tail.contains(&"conv_shortcut") => {}
            ("norm", Some(&"norm3")) => {}
            (other, _) => tail.push(other),
        }
    }
    tail.join(".")
}
