//! Text encoders and the vision side of CLIP under foreign names: OpenCLIP, llama.cpp's T5 and
//! Gemma, and the UMT5 of Wan's authors.

use super::KeyMap;
use crate::view::Part;

/// OpenCLIP's text side with so many blocks. Query, key and value are stored as one; the projection
/// is stored turned.
pub fn open_clip(layers: usize) -> KeyMap {
    let mut map = KeyMap::default();
    map.module("embeddings.token_embedding", "token_embedding");
    map.tensor(
        "embeddings.position_embedding.weight",
        "positional_embedding",
        Part::Whole,
    );
    map.module("final_layer_norm", "ln_final");
    map.tensor(
        "text_projection.weight",
        "text_projection",
        Part::Transposed,
    );
    // Some converters turned it already.
    map.tensor(
        "text_projection.weight",
        "text_projection.weight",
        Part::Whole,
    );
    for layer in 0..layers {
        let to = |name: &str| format!("encoder.layers.{layer}.{name}");
        let from = |name: &str| format!("transformer.resblocks.{layer}.{name}");
        for (canonical, stored) in [
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
            ("self_attn.out_proj", "attn.out_proj"),
        ] {
            map.module(to(canonical), from(stored));
        }
        for ending in ["weight", "bias"] {
            for (start, name) in ["q_proj", "k_proj", "v_proj"].iter().enumerate() {
                map.tensor(
                    to(&format!("self_attn.{name}.{ending}")),
                    from(&format!("attn.in_proj_{ending}")),
                    Part::Rows {
                        start,
                        len: 1,
                        of: 3,
                    },
                );
            }
        }
    }
    map
}

/// CLIP of the transformers library, with or without the prefix of older releases.
pub fn rename_clip(name: &str) -> Option<(String, Part)> {
    let name = name.strip_prefix("text_model.").unwrap_or(name);
    let is_own = [
        "embeddings.",
        "encoder.",
        "final_layer_norm.",
        "text_projection.",
    ];
    (name != "embeddings.position_ids" && is_own.iter().any(|begin| name.starts_with(begin)))
        .then(|| (name.to_owned(), Part::Whole))
}

/// The vision side, with or without the prefix of older releases.
pub fn rename_clip_vision(name: &str) -> Option<(String, Part)> {
    let name = name.strip_prefix("vision_model.").unwrap_or(name);
    let is_own = [
        "embeddings.",
        "encoder.",
        "pre_layrnorm.",
        "post_layernorm.",
        "visual_projection.",
        "head.",
    ];
    (name != "embeddings.position_ids" && is_own.iter().any(|begin| name.starts_with(begin)))
        .then(|| (name.to_owned(), Part::Whole))
}

/// T5 and UMT5 of the transformers library. The token table is stored under one of two names, or
/// under both.
pub fn rename_t5(name: &str) -> Option<(String, Part)> {
    let to = match name {
        "encoder.embed_tokens.weight" => "shared.weight",
        name if name == "shared.weight" || name.starts_with("encoder.") => name,
        _ => return None,
    };
    Some((to.to_owned(), Part::Whole))
}

/// T5 and UMT5 in llama.cpp's files.
pub fn rename_t5_llama(name: &str) -> Option<(String, Part)> {
    let parts: Vec<&str> = name.split('.').collect();
    let to = match parts[..] {
        ["token_embd", leaf] => format!("shared.{leaf}"),
        ["enc", "output_norm", leaf] => format!("encoder.final_layer_norm.{leaf}"),
        ["enc", "blk", block, module, leaf] => {
            let module = match module {
                "attn_q" => "0.SelfAttention.q",
                "attn_k" => "0.SelfAttention.k",
                "attn_v" => "0.SelfAttention.v",
                "attn_o" => "0.SelfAttention.o",
                "attn_rel_b" => "0.SelfAttention.relative_attention_bias",
                "attn_norm" => "0.layer_norm",
                "ffn_gate" => "1.DenseReluDense.wi_0",
                "ffn_up" => "1.DenseReluDense.wi_1",
                "ffn_down" => "1.DenseReluDense.wo",
                "ffn_norm" => "1.layer_norm",
                _ => return None,
            };
            format!("encoder.block.{block}.layer.{module}.{leaf}")
        }
        _ => return None,
    };
    Some((to, Part::Whole))
}

/// UMT5 under the names of Wan's authors.
pub fn rename_umt5_wan(name: &str) -> Option<(String, Part)> {
    let parts: Vec<&str> = name.split('.').collect();
    let to = match parts[..] {
        ["token_embedding", leaf] => format!("shared.{leaf}"),
        ["norm", leaf] => format!("encoder.final_layer_norm.{leaf}"),
        ["blocks", block, ref module @ .., leaf] => {
            let module = match module {
                ["attn", name @ ("q" | "k" | "v" | "o")] => format!("0.SelfAttention.{name}"),
                ["pos_embedding", "embedding"] => {
                    "0.SelfAttention.relative_attention_bias".to_owned()
                }
                ["norm1"] => "0.layer_norm".to_owned(),
                ["ffn", "gate", "0"] => "1.DenseReluDense.wi_0".to_owned(),
                ["ffn", "fc1"] => "1.DenseReluDense.wi_1".to_owned(),
                ["ffn", "fc2"] => "1.DenseReluDense.wo".to_owned(),
                ["norm2"] => "1.layer_norm".to_owned(),
                _ => return None,
            };
            format!("encoder.block.{block}.layer.{module}.{leaf}")
        }
        _ => return None,
    };
    Some((to, Part::Whole))
}

/// Gemma 3, the text side of the transformers library.
pub fn rename_gemma(name: &str) -> Option<(String, Part)> {
    let is_own = ["embed_tokens.", "layers.", "norm."];
    is_own
        .iter()
        .any(|begin| name.starts_with(begin))
        .then(|| (name.to_owned(), Part::Whole))
}

/// Gemma 3 in llama.cpp's files, where the scales of norms are stored with 1 added.
pub fn rename_gemma_llama(name: &str) -> Option<(String, Part)> {
    let parts: Vec<&str> = name.split('.').collect();
    let to = match parts[..] {
        ["token_embd", leaf] => format!("embed_tokens.{leaf}"),
        ["output_norm", leaf] => format!("norm.{leaf}"),
        ["blk", block, module, leaf] => {
            let module = match module {
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "attn_q_norm" => "self_attn.q_norm",
                "attn_k_norm" => "self_attn.k_norm",
                "attn_norm" => "input_layernorm",
                "post_attention_norm" => "post_attention_layernorm",
                "ffn_norm" => "pre_feedforward_layernorm",
                "post_ffw_norm" => "post_feedforward_layernorm",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                _ => return None,
            };
            format!("layers.{block}.{module}.{leaf}")
        }
        _ => return None,
    };
    let part = if to.contains("norm") {
        Part::MinusOne
    } else {
        Part::Whole
    };
    Some((to, part))
}
