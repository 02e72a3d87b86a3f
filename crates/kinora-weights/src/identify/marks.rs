//! The tensors by which networks and their layouts are known, and the families that are known by
//! name only.

use super::NameLayout as Names;
use crate::maps::ltx_vae::LtxVaeRelease;

/// What a mark stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unet,
    Flux,
    FluxRedux,
    Wan,
    Ltx,
    LtxConnectors,
    KlVae,
    WanVae,
    LtxVae,
    LtxAudioVae,
    LtxVocoder,
    Clip,
    ClipVision,
    Siglip,
    T5,
    Gemma,
}

/// A tensor by which a network is known. Others may be asked for besides.
pub(super) struct Mark {
    pub kind: Kind,
    pub names: Names,
    /// The end of the tensor's name; what stands before it is the network's prefix in the file.
    pub tensor: &'static str,
    /// Tensors that must be there as well.
    pub with: &'static [&'static str],
    /// Tensors that belong to another family with similar names.
    pub without: &'static [&'static str],
}

const fn mark(kind: Kind, names: Names, tensor: &'static str) -> Mark {
    Mark {
        kind,
        names,
        tensor,
        with: &[],
        without: &[],
    }
}

pub(super) const MARKS: [Mark; 29] = [
    mark(
        Kind::Unet,
        Names::Ldm,
        "input_blocks.1.0.in_layers.0.weight",
    ),
    Mark {
        with: &["time_embedding.linear_1.weight"],
        without: &[
            "controlnet_cond_embedding.conv_in.weight",
            "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight",
        ],
        ..mark(
            Kind::Unet,
            Names::Canonical,
            "down_blocks.0.resnets.0.time_emb_proj.weight",
        )
    },
    Mark {
        without: &[
            "distilled_guidance_layer.in_proj.weight",
            "double_stream_modulation_img.lin.weight",
        ],
        ..mark(
            Kind::Flux,
            Names::Original,
            "double_blocks.0.img_attn.qkv.weight",
        )
    },
    Mark {
        with: &[
            "time_text_embed.timestep_embedder.linear_1.weight",
            "single_transformer_blocks.0.proj_mlp.weight",
        ],
        without: &["controlnet_blocks.0.weight"],
        ..mark(
            Kind::Flux,
            Names::Canonical,
            "transformer_blocks.0.attn.add_q_proj.weight",
        )
    },
    Mark {
        with: &["redux_down.weight"],
        ..mark(Kind::FluxRedux, Names::Canonical, "redux_up.weight")
    },
    Mark {
        without: &[
            "vace_blocks.0.after_proj.weight",
            "motion_encoder.dec.direction.weight",
            "casual_audio_encoder.weights",
        ],
        ..mark(
            Kind::Wan,
            Names::Original,
            "blocks.0.self_attn.norm_q.weight",
        )
    },
    Mark {
        with: &["blocks.0.attn1.norm_q.weight"],
        without: &[
            "vace_blocks.0.proj_out.weight",
            "motion_encoder.motion_synthesis_weight",
        ],
        ..mark(
            Kind::Wan,
            Names::Canonical,
            "condition_embedder.time_proj.weight",
        )
    },
    Mark {
        with: &["adaln_single.emb.timestep_embedder.linear_1.weight"],
        ..mark(Kind::Ltx, Names::Original, "patchify_proj.weight")
    },
    Mark {
        with: &[
            "proj_in.weight",
            "transformer_blocks.0.attn1.norm_q.weight",
            "transformer_blocks.0.scale_shift_table",
        ],
        ..mark(
            Kind::Ltx,
            Names::Canonical,
            "time_embed.emb.timestep_embedder.linear_1.weight",
        )
    },
    mark(
        Kind::LtxConnectors,
        Names::Original,
        "video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q.weight",
    ),
    mark(
        Kind::LtxConnectors,
        Names::Canonical,
        "video_connector.transformer_blocks.0.attn1.to_q.weight",
    ),
    Mark {
        with: &["encoder.mid.block_1.conv1.weight"],
        ..mark(Kind::KlVae, Names::Ldm, "decoder.mid.attn_1.q.weight")
    },
    Mark {
        with: &["decoder.mid_block.attentions.0.group_norm.weight"],
        ..mark(
            Kind::KlVae,
            Names::Canonical,
            "encoder.mid_block.resnets.0.norm1.weight",
        )
    },
    mark(
        Kind::WanVae,
        Names::Original,
        "decoder.middle.0.residual.0.gamma",
    ),
    mark(
        Kind::WanVae,
        Names::Canonical,
        "decoder.mid_block.resnets.0.norm1.gamma",
    ),
    mark(
        Kind::LtxVae,
        Names::LtxVae(LtxVaeRelease::Two),
        "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight",
    ),
    mark(
        Kind::LtxVae,
        Names::Canonical,
        "decoder.mid_block.resnets.0.conv1.conv.weight",
    ),
    Mark {
        with: &["decoder.mid.block_1.conv1.conv.weight"],
        ..mark(
            Kind::LtxAudioVae,
            Names::Original,
            "encoder.mid.block_1.conv1.conv.weight",
        )
    },
    mark(
        Kind::LtxVocoder,
        Names::Original,
        "resblocks.0.convs1.0.weight",
    ),
    mark(
        Kind::LtxVocoder,
        Names::Canonical,
        "resnets.0.convs1.0.weight",
    ),
    mark(
        Kind::Clip,
        Names::Canonical,
        "embeddings.token_embedding.weight",
    ),
    mark(
        Kind::Clip,
        Names::OpenClip,
        "transformer.resblocks.0.attn.in_proj_weight",
    ),
    Mark {
        with: &["embeddings.class_embedding"],
        ..mark(
            Kind::ClipVision,
            Names::Canonical,
            "embeddings.patch_embedding.weight",
        )
    },
    Mark {
        with: &["embeddings.patch_embedding.bias", "post_layernorm.weight"],
        without: &["embeddings.class_embedding"],
        ..mark(
            Kind::Siglip,
            Names::Canonical,
            "embeddings.patch_embedding.weight",
        )
    },
    mark(
        Kind::T5,
        Names::Canonical,
        "encoder.block.0.layer.0.SelfAttention.q.weight",
    ),
    mark(Kind::T5, Names::Llama, "enc.blk.0.attn_q.weight"),
    Mark {
        with: &["token_embedding.weight"],
        ..mark(Kind::T5, Names::Original, "blocks.0.ffn.gate.0.weight")
    },
    mark(
        Kind::Gemma,
        Names::Canonical,
        "layers.0.pre_feedforward_layernorm.weight",
    ),
    Mark {
        with: &["token_embd.weight", "blk.0.attn_q_norm.weight"],
        ..mark(Kind::Gemma, Names::Llama, "blk.0.post_ffw_norm.weight")
    },
];

/// Networks that are known but not run: the end of a tensor's name, what it is.
pub(super) const FOREIGN: [(&str, &str); 24] = [
    (
        "joint_blocks.0.context_block.adaLN_modulation.1.bias",
        "Stable Diffusion 3",
    ),
    ("distilled_guidance_layer.in_proj.weight", "Chroma"),
    ("double_stream_modulation_img.lin.weight", "FLUX.2"),
    ("early_stream_modulations.image.lin.weight", "FLUX.3"),
    (
        "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias",
        "HunyuanVideo",
    ),
    ("vace_blocks.0.after_proj.weight", "Wan VACE"),
    ("motion_encoder.dec.direction.weight", "Wan Animate"),
    ("casual_audio_encoder.weights", "Wan S2V"),
    ("transformer_blocks.0.img_mod.1.weight", "Qwen-Image"),
    ("layers.0.adaLN_modulation.0.weight", "Z-Image"),
    ("cap_embedder.0.weight", "Lumina 2"),
    ("blocks.0.attn.qkv_x.weight", "Mochi"),
    ("control_model.time_embed.0.weight", "a ControlNet"),
    ("controlnet_cond_embedding.conv_in.weight", "a ControlNet"),
    ("controlnet_blocks.0.weight", "a ControlNet"),
    ("x_embedder.proj.1.weight", "Cosmos"),
    (
        "double_stream_blocks.0.block.adaLN_modulation.1.bias",
        "HiDream",
    ),
    ("cond_seq_linear.weight", "AuraFlow"),
    (
        "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight",
        "AnimateDiff",
    ),
    (
        "down_blocks.0.temp_attentions.0.norm.weight",
        "a video UNet",
    ),
    ("clip_txt_mapper.weight", "Stable Cascade"),
    ("ip_adapter.1.to_k_ip.weight", "an IP-Adapter"),
    ("txtfusion.projector.weight", "KREA 2"),
    ("patch_embed.text_proj.weight", "CogVideoX"),
];
