//! LTX-Video and LTX-2 under their authors' names: transformers, text connectors, audio VAE,
//! vocoders. The video VAEs are in [`super::ltx_vae`].

use super::KeyMap;
use crate::view::Part;

/// What the layouts call differently inside of an attention.
const ATTENTION: [(&str, &str); 7] = [
    ("norm_q", "q_norm"),
    ("norm_k", "k_norm"),
    ("to_q", "to_q"),
    ("to_k", "to_k"),
    ("to_v", "to_v"),
    ("to_out.0", "to_out.0"),
    ("to_gate_logits", "to_gate_logits"),
];

/// Modulations: canonical name, stored name.
const MODULATIONS: [(&str, &str); 8] = [
    ("time_embed", "adaln_single"),
    ("audio_time_embed", "audio_adaln_single"),
    ("prompt_adaln", "prompt_adaln_single"),
    ("audio_prompt_adaln", "audio_prompt_adaln_single"),
    (
        "av_cross_attn_video_scale_shift",
        "av_ca_video_scale_shift_adaln_single",
    ),
    (
        "av_cross_attn_audio_scale_shift",
        "av_ca_audio_scale_shift_adaln_single",
    ),
    (
        "av_cross_attn_video_a2v_gate",
        "av_ca_a2v_gate_adaln_single",
    ),
    (
        "av_cross_attn_audio_v2a_gate",
        "av_ca_v2a_gate_adaln_single",
    ),
];

/// A transformer of either generation with so many blocks. What LTX-Video lacks is never asked for.
pub fn transformer(layers: usize) -> KeyMap {
    let mut map = KeyMap::default();
    for (to, from) in [
        ("proj_in", "patchify_proj"),
        ("audio_proj_in", "audio_patchify_proj"),
        ("proj_out", "proj_out"),
        ("audio_proj_out", "audio_proj_out"),
        ("caption_projection.linear_1", "caption_projection.linear_1"),
        ("caption_projection.linear_2", "caption_projection.linear_2"),
        (
            "audio_caption_projection.linear_1",
            "audio_caption_projection.linear_1",
        ),
        (
            "audio_caption_projection.linear_2",
            "audio_caption_projection.linear_2",
        ),
    ] {
        map.module(to, from);
    }
    for (to, from) in MODULATIONS {
        for part in [
            "emb.timestep_embedder.linear_1",
            "emb.timestep_embedder.linear_2",
            "linear",
        ] {
            map.module(format!("{to}.{part}"), format!("{from}.{part}"));
        }
    }
    for name in ["scale_shift_table", "audio_scale_shift_table"] {
        map.tensor(name, name, Part::Whole);
    }
    for block in 0..layers {
        let block = format!("transformer_blocks.{block}");
        for attention in [
            "attn1",
            "attn2",
            "audio_attn1",
            "audio_attn2",
            "audio_to_video_attn",
            "video_to_audio_attn",
        ] {
            for (to, from) in ATTENTION {
                map.module(
                    format!("{block}.{attention}.{to}"),
                    format!("{block}.{attention}.{from}"),
                );
            }
        }
        for name in [
            "ff.net.0.proj",
            "ff.net.2",
            "audio_ff.net.0.proj",
            "audio_ff.net.2",
        ] {
            let name = format!("{block}.{name}");
            map.module(name.clone(), name);
        }
        for (to, from) in [
            ("scale_shift_table", "scale_shift_table"),
            ("audio_scale_shift_table", "audio_scale_shift_table"),
            ("prompt_scale_shift_table", "prompt_scale_shift_table"),
            (
                "audio_prompt_scale_shift_table",
                "audio_prompt_scale_shift_table",
            ),
            (
                "video_a2v_cross_attn_scale_shift_table",
                "scale_shift_table_a2v_ca_video",
            ),
            (
                "audio_a2v_cross_attn_scale_shift_table",
                "scale_shift_table_a2v_ca_audio",
            ),
        ] {
            map.tensor(
                format!("{block}.{to}"),
                format!("{block}.{from}"),
                Part::Whole,
            );
        }
    }
    map
}

/// Where the connectors' names begin, in a file with everything or of their own.
pub(crate) const CONNECTOR_PREFIXES: [&str; 2] = ["model.diffusion_model.", ""];

/// The canonical name of a text connector's tensor in a file with everything.
pub fn rename_connector(name: &str) -> Option<(String, Part)> {
    let swap = |name: &str| {
        name.replace(".q_norm.", ".norm_q.")
            .replace(".k_norm.", ".norm_k.")
    };
    if let Some(rest) = name.strip_prefix("text_embedding_projection.") {
        let (module, leaf) = rest.rsplit_once('.')?;
        let to = match module {
            "aggregate_embed" => "text_proj_in",
            "video_aggregate_embed" => "video_text_proj_in",
            "audio_aggregate_embed" => "audio_text_proj_in",
            _ => return None,
        };
        return Some((format!("{to}.{leaf}"), Part::Whole));
    }
    let own = CONNECTOR_PREFIXES
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    for side in ["video", "audio"] {
        if let Some(rest) = own.strip_prefix(&format!("{side}_embeddings_connector.")) {
            let rest = rest.replace("transformer_1d_blocks.", "transformer_blocks.");
            return Some((format!("{side}_connector.{}", swap(&rest)), Part::Whole));
        }
    }
    None
}

/// The canonical name of a tensor of the audio VAE.
pub fn rename_audio_vae(name: &str) -> Option<(String, Part)> {
    let to = match name {
        "per_channel_statistics.mean-of-means" => "latents_mean",
        "per_channel_statistics.std-of-means" => "latents_std",
        _ if name.starts_with("per_channel_statistics.") => return None,
        other => other,
    };
    Some((to.to_owned(), Part::Whole))
}

/// The canonical name of a vocoder's tensor, of 2.0 or of 2.3 with its second stage.
pub fn rename_vocoder(name: &str) -> Option<(String, Part)> {
    let to: Vec<&str> = name
        .split('.')
        .filter(|part| *part != "lowpass")
        .map(|part| match part {
            "ups" => "upsamplers",
            "resblocks" => "resnets",
            "conv_pre" => "conv_in",
            "conv_post" => "conv_out",
            "act_post" => "act_out",
            other => other,
        })
        .collect();
    Some((to.join("."), Part::Whole))
}
