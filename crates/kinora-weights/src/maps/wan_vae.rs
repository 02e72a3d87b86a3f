//! The video VAEs of Wan 2.1 and 2.2 under their authors' names, which ComfyUI keeps.
//!
//! In 2.1 the blocks of the decoder are counted in one row, three residual blocks and a sampler for
//! each level; canonical names count levels. In 2.2 both sides have levels.

use crate::view::Part;

/// The canonical name of a stored one.
pub fn rename(name: &str) -> Option<(String, Part)> {
    let parts: Vec<&str> = name.split('.').collect();
    let canonical = match parts[..] {
        ["conv1", leaf] => format!("quant_conv.{leaf}"),
        ["conv2", leaf] => format!("post_quant_conv.{leaf}"),
        [side @ ("encoder" | "decoder"), "conv1", leaf] => format!("{side}.conv_in.{leaf}"),
        [side, "head", "0", leaf] => format!("{side}.norm_out.{leaf}"),
        [side, "head", "2", leaf] => format!("{side}.conv_out.{leaf}"),
        [side, "middle", "1", ref rest @ ..] => {
            format!("{side}.mid_block.attentions.0.{}", rest.join("."))
        }
        [side, "middle", block @ ("0" | "2"), ref rest @ ..] => {
            let block = if block == "0" { 0 } else { 1 };
            format!("{side}.mid_block.resnets.{block}.{}", rename_resnet(rest)?)
        }
        // 2.2: a level, then its residual blocks and its sampler in one row.
        [
            "encoder",
            "downsamples",
            level,
            "downsamples",
            block,
            ref rest @ ..,
        ] => {
            let level = format!("encoder.down_blocks.{level}");
            match rename_resnet(rest) {
                Some(rest) => format!("{level}.resnets.{block}.{rest}"),
                None => format!("{level}.downsampler.{}", rest.join(".")),
            }
        }
        [
            "decoder",
            "upsamples",
            level,
            "upsamples",
            block,
            ref rest @ ..,
        ] => {
            let level = format!("decoder.up_blocks.{level}");
            match rename_resnet(rest) {
                Some(rest) => format!("{level}.resnets.{block}.{rest}"),
                None => format!("{level}.upsampler.{}", rest.join(".")),
            }
        }
        // 2.1: the encoder's row keeps its numbers.
        ["encoder", "downsamples", block, ref rest @ ..] => {
            let rest = rename_resnet(rest).unwrap_or_else(|| rest.join("."));
            format!("encoder.down_blocks.{block}.{rest}")
        }
        ["decoder", "upsamples", place, ref rest @ ..] => {
            let place: usize = place.parse().ok()?;
            let level = format!("decoder.up_blocks.{}", place / 4);
            match rename_resnet(rest) {
                Some(rest) => format!("{level}.resnets.{}.{rest}", place % 4),
                None => format!("{level}.upsamplers.0.{}", rest.join(".")),
            }
        }
        _ => return None,
    };
    // Leading 1s are lost in no conversion: scales of norms have trailing ones.
    Some((canonical, Part::Whole))
}

/// A tensor of a residual block; None when it is of a sampler.
fn rename_resnet(rest: &[&str]) -> Option<String> {
    let (module, leaf) = match rest {
        ["residual", "0", leaf] => ("norm1", leaf),
        ["residual", "2", leaf] => ("conv1", leaf),
        ["residual", "3", leaf] => ("norm2", leaf),
        ["residual", "6", leaf] => ("conv2", leaf),
        ["shortcut", leaf] => ("conv_shortcut", leaf),
        _ => return None,
    };
    Some(format!("{module}.{leaf}"))
}
