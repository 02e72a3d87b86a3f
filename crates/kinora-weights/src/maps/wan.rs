//! Wan 2.1 and 2.2 under their authors' names, which ComfyUI and GGUF converters keep.
//!
//! The authors apply their norms in the order 1, 3, 2; canonical names are in order.

use super::KeyMap;
use crate::view::Part;

const ENDS: [(&str, &str); 11] = [
    ("patch_embedding", "patch_embedding"),
    (
        "condition_embedder.time_embedder.linear_1",
        "time_embedding.0",
    ),
    (
        "condition_embedder.time_embedder.linear_2",
        "time_embedding.2",
    ),
    ("condition_embedder.time_proj", "time_projection.1"),
    (
        "condition_embedder.text_embedder.linear_1",
        "text_embedding.0",
    ),
    (
        "condition_embedder.text_embedder.linear_2",
        "text_embedding.2",
    ),
    ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    (
        "condition_embedder.image_embedder.ff.net.0.proj",
        "img_emb.proj.1",
    ),
    (
        "condition_embedder.image_embedder.ff.net.2",
        "img_emb.proj.3",
    ),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
    ("proj_out", "head.head"),
];

const ATTENTION: [(&str, &str); 6] = [
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
    ("to_out.0", "o"),
    ("norm_q", "norm_q"),
    ("norm_k", "norm_k"),
];

const BLOCK: [(&str, &str); 8] = [
    ("attn2.add_k_proj", "cross_attn.k_img"),
    ("attn2.add_v_proj", "cross_attn.v_img"),
    ("attn2.norm_added_k", "cross_attn.norm_k_img"),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    ("norm1", "norm1"),
    ("norm2", "norm3"),
    ("norm3", "norm2"),
];

/// A transformer with so many blocks.
pub fn transformer(layers: usize) -> KeyMap {
    let mut map = KeyMap::default();
    for (to, from) in ENDS {
        map.module(to, from);
    }
    // The leading 1 is lost in some conversions.
    map.tensor("scale_shift_table", "head.modulation", Part::Rank(3));
    map.tensor(
        "condition_embedder.image_embedder.pos_embed",
        "img_emb.emb_pos",
        Part::Rank(3),
    );
    for block in 0..layers {
        let block = format!("blocks.{block}");
        for (side, stored) in [("attn1", "self_attn"), ("attn2", "cross_attn")] {
            for (to, from) in ATTENTION {
                map.module(
                    format!("{block}.{side}.{to}"),
                    format!("{block}.{stored}.{from}"),
                );
            }
        }
        for (to, from) in BLOCK {
            map.module(format!("{block}.{to}"), format!("{block}.{from}"));
        }
        let (to, from) = (
            format!("{block}.scale_shift_table"),
            format!("{block}.modulation"),
        );
        map.tensor(to, from, Part::Rank(3));
    }
    map
}
