//! FLUX.1 in the files of Black Forest Labs, of ComfyUI and of GGUF converters.
//!
//! A fused `qkv` or `linear1` is several canonical tensors. The modulation of the last layer is
//! stored as (shift, scale); canonical is (scale, shift).

use super::KeyMap;
use crate::view::Part;

/// Modules of a double block that are stored whole: canonical name, stored name.
const DOUBLE: [(&str, &str); 8] = [
    ("norm1.linear", "img_mod.lin"),
    ("norm1_context.linear", "txt_mod.lin"),
    ("attn.to_out.0", "img_attn.proj"),
    ("attn.to_add_out", "txt_attn.proj"),
    ("ff.net.0.proj", "img_mlp.0"),
    ("ff.net.2", "img_mlp.2"),
    ("ff_context.net.0.proj", "txt_mlp.0"),
    ("ff_context.net.2", "txt_mlp.2"),
];

/// Norms call their one tensor `scale`.
const DOUBLE_NORMS: [(&str, &str); 4] = [
    ("attn.norm_q", "img_attn.norm.query_norm"),
    ("attn.norm_k", "img_attn.norm.key_norm"),
    ("attn.norm_added_q", "txt_attn.norm.query_norm"),
    ("attn.norm_added_k", "txt_attn.norm.key_norm"),
];

/// Modules outside of the blocks: canonical name, stored name.
const ENDS: [(&str, &str); 9] = [
    (
        "time_text_embed.timestep_embedder.linear_1",
        "time_in.in_layer",
    ),
    (
        "time_text_embed.timestep_embedder.linear_2",
        "time_in.out_layer",
    ),
    (
        "time_text_embed.text_embedder.linear_1",
        "vector_in.in_layer",
    ),
    (
        "time_text_embed.text_embedder.linear_2",
        "vector_in.out_layer",
    ),
    (
        "time_text_embed.guidance_embedder.linear_1",
        "guidance_in.in_layer",
    ),
    (
        "time_text_embed.guidance_embedder.linear_2",
        "guidance_in.out_layer",
    ),
    ("context_embedder", "txt_in"),
    ("x_embedder", "img_in"),
    ("proj_out", "final_layer.linear"),
];

/// The transformer with so many double and single blocks.
pub fn transformer(layers: usize, single_layers: usize) -> KeyMap {
    let mut map = KeyMap::default();
    for (to, from) in ENDS {
        map.module(to, from);
    }
    map.module_part(
        "norm_out.linear",
        "final_layer.adaLN_modulation.1",
        Part::SwappedHalves,
    );
    for block in 0..layers {
        let to = |name: &str| format!("transformer_blocks.{block}.{name}");
        let from = |name: &str| format!("double_blocks.{block}.{name}");
        for (canonical, stored) in DOUBLE {
            map.module(to(canonical), from(stored));
        }
        for (canonical, stored) in DOUBLE_NORMS {
            let (to, from) = (to(canonical) + ".weight", from(stored) + ".scale");
            map.tensor(to, from, Part::Whole);
        }
        map.fused(
            &["attn.to_q", "attn.to_k", "attn.to_v"].map(to),
            &from("img_attn.qkv"),
        );
        map.fused(
            &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"].map(to),
            &from("txt_attn.qkv"),
        );
    }
    for block in 0..single_layers {
        let to = |name: &str| format!("single_transformer_blocks.{block}.{name}");
        let from = |name: &str| format!("single_blocks.{block}.{name}");
        map.module(to("norm.linear"), from("modulation.lin"));
        map.module(to("proj_out"), from("linear2"));
        for (canonical, stored) in [
            ("attn.norm_q", "norm.query_norm"),
            ("attn.norm_k", "norm.key_norm"),
        ] {
            let (to, from) = (to(canonical) + ".weight", from(stored) + ".scale");
            map.tensor(to, from, Part::Whole);
        }
        // Query, key and value are as wide as the network, the hidden layer is four times that.
        for (name, start, len) in [
            ("attn.to_q", 0, 1),
            ("attn.to_k", 1, 1),
            ("attn.to_v", 2, 1),
            ("proj_mlp", 3, 4),
        ] {
            map.module_part(to(name), from("linear1"), Part::Rows { start, len, of: 7 });
        }
    }
    map
}
