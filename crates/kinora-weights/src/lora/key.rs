//! The names in adapter files: which component and layer a tensor belongs to, and what it is there.

/// A component that adapters change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LoraComponent {
    /// The denoiser.
    Denoiser,
    /// The first text encoder.
    TextEncoder,
    /// The second text encoder.
    TextEncoder2,
    /// The third text encoder.
    TextEncoder3,
    /// LTX-2's transformers between text and denoiser.
    Connectors,
}

/// What a tensor is to its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Piece {
    Down,
    Up,
    Mid,
    UpBias,
    Alpha,
    DoraScale,
    /// PEFT's: one length for each output, whatever its shape.
    Magnitude,
    Diff,
    DiffBias,
    Set,
    NormWeight,
    NormBias,
    HadaW1A,
    HadaW1B,
    HadaW2A,
    HadaW2B,
    HadaT1,
    HadaT2,
    LokrW1,
    LokrW1A,
    LokrW1B,
    LokrW2,
    LokrW2A,
    LokrW2B,
    LokrT2,
    /// Of OFT: (blocks, size, size); of BOFT: (stages, blocks, size, size).
    OftBlocks,
    /// Of both: one factor for each row.
    Rescale,
    GloraA1,
    GloraA2,
    GloraB1,
    GloraB2,
    GloraCore,
    /// Of (IA)³: one factor for each row or column.
    Ia3,
    /// Whether they are of the columns.
    OnInput,
    /// Of a kind that is not applied, with its name.
    Foreign(&'static str),
}

/// Endings of names. Of two that fit, the longer one comes first.
const ENDINGS: [(&str, Piece); 61] = [
    (".lora_linear_layer.down.weight", Piece::Down),
    (".lora_linear_layer.up.weight", Piece::Up),
    (".lora_magnitude_vector.default.weight", Piece::Magnitude),
    (".lora_magnitude_vector.default", Piece::Magnitude),
    (".lora_magnitude_vector.weight", Piece::Magnitude),
    (".lora_magnitude_vector", Piece::Magnitude),
    (".lora_A.default.weight", Piece::Down),
    (".lora_B.default.weight", Piece::Up),
    (".lora_A.default", Piece::Down),
    (".lora_B.default", Piece::Up),
    (".lora_B.default.bias", Piece::UpBias),
    (".lora_A.weight", Piece::Down),
    (".lora_B.weight", Piece::Up),
    (".lora_B.bias", Piece::UpBias),
    (".lora_A", Piece::Down),
    (".lora_B", Piece::Up),
    (".lora_down.weight", Piece::Down),
    (".lora_up.weight", Piece::Up),
    (".lora_up.bias", Piece::UpBias),
    (".lora_mid.weight", Piece::Mid),
    (".lora_down", Piece::Down),
    (".lora_up", Piece::Up),
    (".lora.down.weight", Piece::Down),
    (".lora.up.weight", Piece::Up),
    ("_lora.down.weight", Piece::Down),
    ("_lora.up.weight", Piece::Up),
    (".alpha", Piece::Alpha),
    (".dora_scale", Piece::DoraScale),
    (".diff_b", Piece::DiffBias),
    (".diff", Piece::Diff),
    (".set_weight", Piece::Set),
    (".w_norm", Piece::NormWeight),
    (".b_norm", Piece::NormBias),
    (".hada_w1_a", Piece::HadaW1A),
    (".hada_w1_b", Piece::HadaW1B),
    (".hada_w2_a", Piece::HadaW2A),
    (".hada_w2_b", Piece::HadaW2B),
    (".hada_t1", Piece::HadaT1),
    (".hada_t2", Piece::HadaT2),
    (".lokr_w1_a", Piece::LokrW1A),
    (".lokr_w1_b", Piece::LokrW1B),
    (".lokr_w2_a", Piece::LokrW2A),
    (".lokr_w2_b", Piece::LokrW2B),
    (".lokr_w1", Piece::LokrW1),
    (".lokr_w2", Piece::LokrW2),
    (".lokr_t2", Piece::LokrT2),
    (".oft_blocks", Piece::OftBlocks),
    (".rescale", Piece::Rescale),
    (".a1.weight", Piece::GloraA1),
    (".a2.weight", Piece::GloraA2),
    (".b1.weight", Piece::GloraB1),
    (".b2.weight", Piece::GloraB2),
    (".bm.weight", Piece::GloraCore),
    (".on_input", Piece::OnInput),
    (
        ".oft_diag",
        Piece::Foreign("OFT by its diagonal (oft_diag)"),
    ),
    (".oft_R.weight", Piece::Foreign(PEFT_OFT)),
    (".oft_R.default.weight", Piece::Foreign(PEFT_OFT)),
    (".oft_r.weight", Piece::Foreign(PEFT_OFT)),
    (".oft_R", Piece::Foreign(PEFT_OFT)),
    (".boft_R", Piece::Foreign("PEFT's BOFT (boft_R)")),
    (".boft_s", Piece::Foreign("PEFT's BOFT (boft_s)")),
];

/// Its settings, without which its numbers are not understood, lie in another file.
const PEFT_OFT: &str = "PEFT's OFT (oft_R)";

/// The tensor that tells of factors of rows or columns that a `.weight` beside it is no weight.
const IA3_MARK: &str = ".on_input";

/// Endings of XLabs' names that no longer ending fits.
const XLABS_ENDINGS: [(&str, Piece); 2] =
    [(".down.weight", Piece::Down), (".up.weight", Piece::Up)];

/// What stands before the names of layers. Of two that fit, the longer one comes first.
const PREFIXES: [(&str, LoraComponent); 26] = [
    ("lora_unet__", LoraComponent::Denoiser),
    ("lora_unet_", LoraComponent::Denoiser),
    ("lora_prior_unet_", LoraComponent::Denoiser),
    ("lora_transformer_", LoraComponent::Denoiser),
    ("lycoris_unet_", LoraComponent::Denoiser),
    ("lycoris_", LoraComponent::Denoiser),
    ("lora_te1_", LoraComponent::TextEncoder),
    ("lora_te2_", LoraComponent::TextEncoder2),
    ("lora_te3_", LoraComponent::TextEncoder3),
    ("lora_te_", LoraComponent::TextEncoder),
    (
        "text_encoders.clip_l.transformer.",
        LoraComponent::TextEncoder,
    ),
    (
        "text_encoders.clip_h.transformer.",
        LoraComponent::TextEncoder,
    ),
    (
        "text_encoders.clip_g.transformer.",
        LoraComponent::TextEncoder2,
    ),
    (
        "text_encoders.t5xxl.transformer.",
        LoraComponent::TextEncoder2,
    ),
    ("text_encoder_3.", LoraComponent::TextEncoder3),
    ("text_encoder_2.", LoraComponent::TextEncoder2),
    ("text_encoder.", LoraComponent::TextEncoder),
    ("cond_stage_model.transformer.", LoraComponent::TextEncoder),
    ("connectors.", LoraComponent::Connectors),
    ("text_embedding_projection.", LoraComponent::Connectors),
    ("model.diffusion_model.", LoraComponent::Denoiser),
    ("diffusion_model.", LoraComponent::Denoiser),
    ("transformer_2.", LoraComponent::Denoiser),
    ("transformer.", LoraComponent::Denoiser),
    ("unet.", LoraComponent::Denoiser),
    ("model.", LoraComponent::Denoiser),
];

/// A name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub component: LoraComponent,
    /// The layer, with every dot as an underscore: writers disagree on which is which.
    pub layer: String,
    pub piece: Piece,
}

/// Takes a name apart; None when it does not end like an adapter's.
pub(super) fn parse(name: &str) -> Option<Key> {
    let find = |endings: &[(&str, Piece)]| {
        endings
            .iter()
            .find_map(|(ending, piece)| Some((name.strip_suffix(ending)?, *piece)))
    };
    // The short endings mean an adapter only below a processor.
    let (path, piece) = find(&ENDINGS)
        .or_else(|| find(&XLABS_ENDINGS).filter(|(path, _)| rename_xlabs(path).is_some()))?;
    let (component, layer) = split_prefix(path);
    Some(Key {
        component,
        layer: flatten_layer(component, layer),
        piece,
    })
}

/// Takes the factors of (IA)³ apart, which are named like weights; `has` tells which names the file
/// has beside them.
pub(super) fn parse_ia3(name: &str, has: impl Fn(&str) -> bool) -> Option<Key> {
    let mark = format!("{}{IA3_MARK}", name.strip_suffix(".weight")?);
    let mut key = parse(&mark).filter(|_| has(&mark))?;
    key.piece = Piece::Ia3;
    Some(key)
}

/// The component that a name speaks of, and the rest.
pub(super) fn split_prefix(path: &str) -> (LoraComponent, &str) {
    let path = path.strip_prefix("base_model.model.").unwrap_or(path);
    let found = PREFIXES
        .iter()
        .find_map(|(prefix, component)| Some((*component, path.strip_prefix(prefix)?)));
    let (component, layer) = found.unwrap_or((LoraComponent::Denoiser, path));
    // The connectors of a file with everything lie below its denoiser.
    if layer.contains("embeddings_connector") {
        return (LoraComponent::Connectors, layer);
    }
    (component, layer)
}

/// A layer's name with underscores only, and without what older writers put in between.
pub(super) fn flatten_layer(component: LoraComponent, layer: &str) -> String {
    let layer = rename_xlabs(layer).unwrap_or_else(|| layer.replace(".processor.", "."));
    let layer = match component {
        LoraComponent::TextEncoder | LoraComponent::TextEncoder2 | LoraComponent::TextEncoder3 => {
            let layer = layer.strip_prefix("text_model.").unwrap_or(&layer);
            let layer = layer.strip_prefix("text_model_").unwrap_or(layer);
            layer
                .replace("self_attn.to_q", "self_attn.q_proj")
                .replace("self_attn.to_k", "self_attn.k_proj")
                .replace("self_attn.to_v", "self_attn.v_proj")
                .replace("self_attn.to_out", "self_attn.out_proj")
        }
        _ => layer,
    };
    flatten(&layer)
}

/// Dots as underscores.
pub(super) fn flatten(name: &str) -> String {
    name.replace('.', "_")
}

/// XLabs hang their FLUX adapters on a processor beside the layers.
fn rename_xlabs(layer: &str) -> Option<String> {
    let (block, layer) = layer.split_once(".processor.")?;
    let name = match layer {
        "qkv_lora1" | "qkv1" => "img_attn.qkv",
        "qkv_lora2" | "qkv2" => "txt_attn.qkv",
        "proj_lora1" | "proj1" => "img_attn.proj",
        "proj_lora2" | "proj2" => "txt_attn.proj",
        "qkv_lora" | "qkv" if block.contains("single_blocks") => "linear1_qkv",
        "proj_lora" | "proj" if block.contains("single_blocks") => "linear2",
        _ => return None,
    };
    Some(format!("{block}.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_encoder_has_one_name_whoever_writes_it() {
        let layer = "encoder_layers_3_self_attn_q_proj";
        for (name, component) in [
            (
                "lora_te_text_model_encoder_layers_3_self_attn_q_proj",
                LoraComponent::TextEncoder,
            ),
            (
                "lora_te2_text_model_encoder_layers_3_self_attn_q_proj",
                LoraComponent::TextEncoder2,
            ),
            (
                "text_encoder_2.text_model.encoder.layers.3.self_attn.q_proj",
                LoraComponent::TextEncoder2,
            ),
            (
                "text_encoder.text_model.encoder.layers.3.self_attn.to_q",
                LoraComponent::TextEncoder,
            ),
            (
                "text_encoders.clip_l.transformer.text_model.encoder.layers.3.self_attn.q_proj",
                LoraComponent::TextEncoder,
            ),
            (
                "text_encoders.clip_g.transformer.text_model.encoder.layers.3.self_attn.q_proj",
                LoraComponent::TextEncoder2,
            ),
        ] {
            let key = parse(&format!("{name}.lora_down.weight")).unwrap();
            assert_eq!(
                (key.component, key.layer.as_str()),
                (component, layer),
                "{name}"
            );
        }
    }
}
