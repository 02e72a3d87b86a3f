//! The UNet of latent diffusion (SD 1.x, 2.x, XL) under its authors' names.
//!
//! They count residual blocks and samplers in one row; canonical names count levels, and blocks on
//! each level.

use super::KeyMap;

const RESNET: [(&str, &str); 6] = [
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
];

const ENDS: [(&str, &str); 9] = [
    ("conv_in", "input_blocks.0.0"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
    ("mid_block.attentions.0.norm", "middle_block.1.norm"),
    ("mid_block.attentions.0.proj_in", "middle_block.1.proj_in"),
];

/// Modules of a transformer block; both layouts agree on them.
const TRANSFORMER: [&str; 13] = [
    "norm1",
    "norm2",
    "norm3",
    "attn1.to_q",
    "attn1.to_k",
    "attn1.to_v",
    "attn1.to_out.0",
    "attn2.to_q",
    "attn2.to_k",
    "attn2.to_v",
    "attn2.to_out.0",
    "ff.net.0.proj",
    "ff.net.2",
];

/// How deep and wide a UNet is, as far as its names depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnetShape {
    /// Resolutions.
    pub levels: usize,
    /// Residual blocks on each level going down; one more going up.
    pub blocks: usize,
    /// The most transformer blocks in one place.
    pub depth: usize,
}

/// A UNet. The table lists attention everywhere; what a network lacks is never asked for.
pub fn unet(shape: UnetShape) -> KeyMap {
    // Far above any network, and small enough that the product of the three stays a table.
    let (levels, blocks) = (shape.levels.min(8), shape.blocks.min(8));
    let depth = shape.depth.min(64);
    let mut map = KeyMap::default();
    for (to, from) in ENDS {
        map.module(to, from);
    }
    map.module("mid_block.attentions.0.proj_out", "middle_block.1.proj_out");
    transformers(&mut map, "mid_block.attentions.0", "middle_block.1", depth);
    for block in 0..2 {
        let to = format!("mid_block.resnets.{block}");
        resnet(&mut map, &to, &format!("middle_block.{}", 2 * block));
    }
    let row = blocks + 1;
    for level in 0..levels {
        for block in 0..blocks {
            let to = format!("down_blocks.{level}");
            let from = format!("input_blocks.{}", 1 + level * row + block);
            place(&mut map, (&to, block), &from, depth);
        }
        map.module(
            format!("down_blocks.{level}.downsamplers.0.conv"),
            format!("input_blocks.{}.0.op", (level + 1) * row),
        );
        for block in 0..row {
            let to = format!("up_blocks.{level}");
            let from = format!("output_blocks.{}", level * row + block);
            place(&mut map, (&to, block), &from, depth);
        }
        // It follows the attention, where there is one.
        for position in [1, 2] {
            map.module(
                format!("up_blocks.{level}.upsamplers.0.conv"),
                format!("output_blocks.{}.{position}.conv", level * row + blocks),
            );
        }
    }
    map
}

/// A residual block and the attention after it.
fn place(map: &mut KeyMap, (to, block): (&str, usize), from: &str, depth: usize) {
    resnet(map, &format!("{to}.resnets.{block}"), &format!("{from}.0"));
    let (to, from) = (format!("{to}.attentions.{block}"), format!("{from}.1"));
    for name in ["norm", "proj_in", "proj_out"] {
        map.module(format!("{to}.{name}"), format!("{from}.{name}"));
    }
    transformers(map, &to, &from, depth);
}

fn resnet(map: &mut KeyMap, to: &str, from: &str) {
    for (canonical, stored) in RESNET {
        map.module(format!("{to}.{canonical}"), format!("{from}.{stored}"));
    }
}

fn transformers(map: &mut KeyMap, to: &str, from: &str, depth: usize) {
    for block in 0..depth {
        for name in TRANSFORMER {
            let tail = format!("transformer_blocks.{block}.{name}");
            map.module(format!("{to}.{tail}"), format!("{from}.{tail}"));
        }
    }
}
