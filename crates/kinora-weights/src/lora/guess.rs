//! Which family an adapter was trained for, from its names and shapes alone.

use super::key::{Key, LoraComponent, Piece};
use crate::Base;

/// The family; None when nothing typical is among the names. `tensors` are the parts of names with
/// the shapes of their tensors, `file_name` is in lower case.
pub(super) fn guess(tensors: &[(Key, &[usize])], file_name: &str) -> Option<Base> {
    let denoiser = || {
        tensors
            .iter()
            .filter(|(key, _)| key.component == LoraComponent::Denoiser)
    };
    let has = |part: &str| denoiser().any(|(key, _)| key.layer.contains(part));
    let begins = |part: &str| denoiser().any(|(key, _)| key.layer.starts_with(part));
    if begins("double_blocks_") || begins("single_blocks_") || begins("single_transformer_blocks_")
    {
        return Some(Base::Flux1);
    }
    // Width of what a layer takes in.
    let input_of = |ending: &str| {
        denoiser().find_map(|(key, shape)| {
            let is_inner = matches!(key.piece, Piece::Down | Piece::HadaW1B);
            (is_inner && key.layer.ends_with(ending)).then(|| shape.get(1).copied())?
        })
    };
    let is_unet = [
        "input_blocks_",
        "output_blocks_",
        "middle_block_",
        "down_blocks_",
        "up_blocks_",
        "mid_block_",
    ];
    if is_unet.iter().any(|part| begins(part)) {
        return Some(
            match input_of("attn2_to_k").or_else(|| input_of("attn2_to_v")) {
                Some(768) => Base::Sd1,
                Some(1024) => Base::Sd2,
                Some(2048) => Base::Sdxl,
                Some(1280) => Base::SdxlRefiner,
                _ if has("transformer_blocks_9_") => Base::Sdxl,
                _ if tensors
                    .iter()
                    .any(|(key, _)| key.component == LoraComponent::TextEncoder2) =>
                {
                    Base::Sdxl
                }
                _ => Base::Sd1,
            },
        );
    }
    if begins("blocks_")
        && (has("_self_attn_") || has("_cross_attn_") || has("_ffn_") || has("_attn1_to_"))
    {
        let width = input_of("self_attn_q").or_else(|| input_of("attn1_to_q"));
        let is_22 = [
            "2.2",
            "2_2",
            "wan22",
            "a14b",
            "high_noise",
            "low_noise",
            "highnoise",
            "lownoise",
        ]
        .iter()
        .any(|word| file_name.contains(word));
        return Some(if width == Some(3072) || is_22 {
            Base::Wan22
        } else {
            Base::Wan21
        });
    }
    if begins("transformer_blocks_") && (has("_attn1_to_") || has("_audio_") || has("_ff_net_")) {
        let is_two = has("_audio_")
            || has("audio_to_video")
            || ["ltx-2", "ltx2", "ltx_2"]
                .iter()
                .any(|word| file_name.contains(word));
        return Some(if is_two { Base::Ltx2 } else { Base::LtxVideo });
    }
    None
}
