//! The image VAE of latent diffusion (SD 1.x to FLUX.1) under its authors' names.
//!
//! The decoder counts its levels from the full size downwards; canonical is upwards. Projections of
//! the attention are 1×1 convolutions; canonical are linear layers.

use super::KeyMap;
use crate::view::Part;

const RESNET: [(&str, &str); 5] = [
    ("norm1", "norm1"),
    ("conv1", "conv1"),
    ("norm2", "norm2"),
    ("conv2", "conv2"),
    ("conv_shortcut", "nin_shortcut"),
];

const ATTENTION: [(&str, &str); 5] = [
    ("group_norm", "norm"),
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
    ("to_out.0", "proj_out"),
];

/// A VAE with so many levels and `blocks` residual blocks on each (one more when decoding).
pub fn vae(levels: usize, blocks: usize) -> KeyMap {
    // Far above any network, and small enough that the product of the two stays a table.
    let (levels, blocks) = (levels.min(16), blocks.min(16));
    let mut map = KeyMap::default();
    for name in ["quant_conv", "post_quant_conv"] {
        map.module(name, name);
    }
    let resnet = |map: &mut KeyMap, to: String, from: String| {
        for (canonical, stored) in RESNET {
            map.module(format!("{to}.{canonical}"), format!("{from}.{stored}"));
        }
    };
    for side in ["encoder", "decoder"] {
        for (canonical, stored) in [
            ("conv_in", "conv_in"),
            ("conv_out", "conv_out"),
            ("conv_norm_out", "norm_out"),
        ] {
            map.module(format!("{side}.{canonical}"), format!("{side}.{stored}"));
        }
        for block in 0..2 {
            let to = format!("{side}.mid_block.resnets.{block}");
            resnet(&mut map, to, format!("{side}.mid.block_{}", block + 1));
        }
        for (canonical, stored) in ATTENTION {
            map.module_part(
                format!("{side}.mid_block.attentions.0.{canonical}"),
                format!("{side}.mid.attn_1.{stored}"),
                Part::Squeezed,
            );
        }
    }
    for level in 0..levels {
        let up = levels - 1 - level;
        for block in 0..blocks {
            let to = format!("encoder.down_blocks.{level}.resnets.{block}");
            resnet(&mut map, to, format!("encoder.down.{level}.block.{block}"));
        }
        for block in 0..=blocks {
            let to = format!("decoder.up_blocks.{up}.resnets.{block}");
            resnet(&mut map, to, format!("decoder.up.{level}.block.{block}"));
        }
        map.module(
            format!("encoder.down_blocks.{level}.downsamplers.0.conv"),
            format!("encoder.down.{level}.downsample.conv"),
        );
        map.module(
            format!("decoder.up_blocks.{up}.upsamplers.0.conv"),
            format!("decoder.up.{level}.upsample.conv"),
        );
    }
    map
}

/// The canonical name of a tensor in the folders of the reference library, whose older releases
/// called the projections of the attention differently.
pub fn rename_old(name: &str) -> Option<(String, Part)> {
    let is_own = ["encoder.", "decoder.", "quant_conv.", "post_quant_conv."];
    if !is_own.iter().any(|begin| name.starts_with(begin)) {
        return None;
    }
    let to = if name.contains(".attentions.") {
        name.replace(".query.", ".to_q.")
            .replace(".key.", ".to_k.")
            .replace(".value.", ".to_v.")
            .replace(".proj_attn.", ".to_out.0.")
    } else {
        name.to_owned()
    };
    let is_linear = name.contains(".attentions.") && name.ends_with(".weight");
    Some((
        to,
        if is_linear {
            Part::Squeezed
        } else {
            Part::Whole
        },
    ))
}
