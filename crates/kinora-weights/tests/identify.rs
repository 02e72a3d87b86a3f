//! What a file is said to be: hints of names and headers, other families, GGUF and fp8 files whose
//! tensors are fused, text encoders in llama.cpp's names.

mod common;

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use common::{
    Tensors, add,
    gguf::{self, Stored},
    recorded::{Manifests, Table, read, unfold},
    write_sparse,
};
use kinora_weights::{
    Base, Container, Dtype, Error, NameLayout, Network, Prediction, WeightSet, identify,
    identify_set,
};
use serde_json::json;

#[test]
fn hints_of_names_and_headers_are_used() {
    let manifests: Manifests = read("manifests.json.gz");
    let folder = tempfile::tempdir().unwrap();
    let release = |name: &str, stored: &str| {
        let path = folder.path().join(name);
        write_sparse(
            &path,
            unfold(&manifests.files[stored].stored)
                .into_iter()
                .collect(),
        );
        let release = identify(&path).unwrap().release.unwrap();
        fs::remove_file(path).unwrap();
        (release.base, release.variants[0], release.prediction)
    };
    let (noise, velocity) = (Some(Prediction::Epsilon), Some(Prediction::Velocity));
    for (name, stored, expected) in [
        (
            "flux1-kontext-dev.safetensors",
            "flux_dev",
            (Base::Flux1, "kontext", None),
        ),
        (
            "flux1-depth-dev.safetensors",
            "flux_control",
            (Base::Flux1, "depth", None),
        ),
        (
            "flux1-dev.safetensors",
            "flux_dev",
            (Base::Flux1, "dev", None),
        ),
        (
            "sdxl_lightning_4step.safetensors",
            "sdxl",
            (Base::Sdxl, "lightning", noise),
        ),
        (
            "noobai-vpred-1.0.safetensors",
            "sdxl",
            (Base::Sdxl, "base", velocity),
        ),
        (
            "v2-1_768-ema-pruned.safetensors",
            "sd21",
            (Base::Sd2, "2.1", velocity),
        ),
        (
            "v2-1_512-ema-pruned.safetensors",
            "sd21",
            (Base::Sd2, "2.1", noise),
        ),
        ("model.safetensors", "sd21", (Base::Sd2, "2.1", None)),
        (
            "wan2.2_t2v_high_noise_14B.safetensors",
            "wan21_t2v_14b",
            (Base::Wan22, "t2v-a14b-high", None),
        ),
        (
            "wan2.2_t2v_low_noise_14B.safetensors",
            "wan21_t2v_14b",
            (Base::Wan22, "t2v-a14b-low", None),
        ),
        (
            "wan2.1_t2v_14B.safetensors",
            "wan21_t2v_14b",
            (Base::Wan21, "t2v-14b", None),
        ),
        (
            "wan2.2_i2v_low_noise_14B.safetensors",
            "wan22_i2v_a14b",
            (Base::Wan22, "i2v-a14b-low", None),
        ),
        (
            "ltxv-13b-0.9.7-distilled.safetensors",
            "ltx_13b_097",
            (Base::LtxVideo, "13b-distilled", None),
        ),
    ] {
        assert_eq!(release(name, stored), expected, "{name}");
    }
}

fn tensors_of(names: &[&str]) -> Tensors {
    let mut tensors = Tensors::new();
    for name in names {
        add(&mut tensors, *name, &[4, 4]);
    }
    tensors
}

#[test]
fn what_is_not_run_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let mut answers = String::new();
    for names in [
        &["model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias"][..],
        &[
            "double_blocks.0.img_attn.qkv.weight",
            "distilled_guidance_layer.in_proj.weight",
        ],
        &[
            "double_blocks.0.img_attn.qkv.weight",
            "double_stream_modulation_img.lin.weight",
        ],
        &[
            "blocks.0.self_attn.norm_q.weight",
            "vace_blocks.0.after_proj.weight",
        ],
        &["transformer_blocks.0.img_mod.1.weight"],
        &["control_model.time_embed.0.weight"],
        &["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"],
        &["blocks.0.self_attn.q.lora_A.weight"],
        &["a", "b", "c", "d"],
        &[],
    ] {
        common::write(&path, common::encode(&tensors_of(names)));
        let error = identify(&path)
            .unwrap_err()
            .to_string()
            .replace(path.to_str().unwrap(), "x");
        writeln!(answers, "{}: {error}", names.join(" ")).unwrap();
    }
    // A mark alone is no network.
    common::write(
        &path,
        common::encode(&tensors_of(&["double_blocks.0.img_attn.qkv.weight"])),
    );
    let error = identify(&path).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    insta::assert_snapshot!(answers);
}

/// Numbers in Q8_0: a scale of 2⁻⁷ and levels that depend on name and place.
fn q8_0(name: &str, shape: &[usize]) -> Stored {
    let blocks = shape.iter().product::<usize>() / 32;
    let seed = name.len();
    let bytes = (0..blocks)
        .flat_map(|block| {
            let levels = (0..32).map(move |index| (block * 7 + index * 3 + seed) as u8);
            half::f16::from_f32(1.0 / 128.0)
                .to_le_bytes()
                .into_iter()
                .chain(levels)
        })
        .collect();
    (name.to_owned(), shape.to_vec(), 8, bytes)
}

fn f32s(name: &str, shape: &[usize]) -> Stored {
    let len = shape.iter().product::<usize>();
    let bytes = (0..len)
        .flat_map(|index| (index as f32 * 0.5).to_le_bytes())
        .collect();
    (name.to_owned(), shape.to_vec(), 0, bytes)
}

#[test]
fn a_gguf_of_flux_is_cut_along_its_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flux1-schnell-Q8_0.gguf");
    let shapes = common::bfl_transformer_shapes(
        &common::FluxSizes {
            joint: 32,
            ..common::TINY
        },
        false,
    );
    let tensors: Vec<Stored> = shapes
        .iter()
        .map(|(name, shape)| {
            if shape.len() == 2 {
                q8_0(name, shape)
            } else {
                f32s(name, shape)
            }
        })
        .collect();
    fs::write(&path, gguf::encode("flux", &tensors)).unwrap();
    let identity = identify(&path).unwrap();
    assert_eq!(identity.container, Container::Gguf);
    assert_eq!(identity.release.unwrap().variants, ["schnell"]);
    let [part] = &identity.parts[..] else {
        panic!("{:?}", identity.parts);
    };
    assert_eq!(
        (part.names, part.prefix.as_str()),
        (NameLayout::Original, "")
    );
    let set = WeightSet::open_file(&path).unwrap();
    let opened = part.open(&set).unwrap();
    assert!(opened.unknown.is_empty());
    let fused = set.read_f32("single_blocks.0.linear1.weight").unwrap();
    let width = common::HIDDEN * common::HIDDEN;
    for (at, len, name) in [
        (0, 1, "attn.to_q"),
        (1, 1, "attn.to_k"),
        (2, 1, "attn.to_v"),
        (3, 4, "proj_mlp"),
    ] {
        let name = format!("single_transformer_blocks.0.{name}.weight");
        let view = opened.set.get(&name).unwrap();
        assert_eq!(
            (view.dtype, view.shape.as_slice()),
            (Dtype::Q8_0, &[len * common::HIDDEN, common::HIDDEN][..])
        );
        assert_eq!(
            opened.set.read_f32(&name).unwrap(),
            fused[at * width..][..len * width]
        );
    }
    let last = set
        .read_f32("final_layer.adaLN_modulation.1.weight")
        .unwrap();
    let (shift, scale) = last.split_at(width);
    let swapped = opened.set.read_f32("norm_out.linear.weight").unwrap();
    assert_eq!(swapped, [scale, shift].concat());
}

#[test]
fn scales_of_fp8_follow_the_rows_of_a_fused_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let hidden = common::HIDDEN;
    for scales in [1, 3 * hidden] {
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        let mut put = |name: &str, dtype: &str, shape: &[usize], bytes: Vec<u8>| {
            let begin = data.len();
            data.extend(bytes);
            header.insert(
                name.into(),
                json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()] }),
            );
        };
        let fused = "double_blocks.0.img_attn.qkv";
        for (name, shape) in common::bfl_transformer_shapes(&common::TINY, true) {
            let len = shape.iter().product::<usize>();
            if name == format!("{fused}.weight") {
                put(
                    &name,
                    "F8_E4M3",
                    &shape,
                    (0..len).map(|index| (index % 120) as u8).collect(),
                );
            } else {
                put(&name, "BF16", &shape, vec![0; 2 * len]);
            }
        }
        let factors: Vec<f32> = (0..scales).map(|row| 1.0 + row as f32).collect();
        let bytes = factors
            .iter()
            .flat_map(|factor| factor.to_le_bytes())
            .collect();
        put(&format!("{fused}.scale_weight"), "F32", &[scales], bytes);
        put("scaled_fp8", "F8_E4M3", &[0], vec![]);
        common::write(
            &path,
            common::join(&serde_json::Value::Object(header).to_string(), &data),
        );

        let set = WeightSet::open_file(&path).unwrap();
        let whole = set.read_f32(&format!("{fused}.weight")).unwrap();
        let opened = identify_set(&set).unwrap().parts[0].open(&set).unwrap();
        assert!(opened.unknown.is_empty(), "{:?}", opened.unknown);
        for (part, name) in ["to_q", "to_k", "to_v"].iter().enumerate() {
            let name = format!("transformer_blocks.0.attn.{name}.weight");
            let scaling = opened.set.get(&name).unwrap().scaling.clone().unwrap();
            assert_eq!(
                scaling.scale.as_ref().unwrap().shape,
                [if scales == 1 { 1 } else { hidden }]
            );
            let len = hidden * hidden;
            assert_eq!(
                opened.set.read_f32(&name).unwrap(),
                whole[part * len..][..len]
            );
        }
    }
}

/// A text encoder's full-size names in another layout, from pairs of a canonical part and a
/// foreign one.
fn renamed(table: &Table, pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<usize>> {
    let rename = |name: &String| {
        pairs
            .iter()
            .fold(name.clone(), |name, (from, to)| name.replace(from, to))
    };
    table
        .iter()
        .map(|(name, shape)| (rename(name), shape.clone()))
        .collect()
}

const T5_LLAMA: [(&str, &str); 14] = [
    ("encoder.block.", "enc.blk."),
    ("encoder.final_layer_norm", "enc.output_norm"),
    ("shared", "token_embd"),
    (
        "layer.0.SelfAttention.relative_attention_bias",
        "attn_rel_b",
    ),
    ("layer.0.SelfAttention.q", "attn_q"),
    ("layer.0.SelfAttention.k", "attn_k"),
    ("layer.0.SelfAttention.v", "attn_v"),
    ("layer.0.SelfAttention.o", "attn_o"),
    ("layer.0.layer_norm", "attn_norm"),
    ("layer.1.layer_norm", "ffn_norm"),
    ("layer.1.DenseReluDense.wi_0", "ffn_gate"),
    ("layer.1.DenseReluDense.wi_1", "ffn_up"),
    ("layer.1.DenseReluDense.wo", "ffn_down"),
    ("layer.1.", ""),
];

const UMT5_WAN: [(&str, &str); 14] = [
    ("encoder.block.", "blocks."),
    ("encoder.final_layer_norm", "norm"),
    ("shared", "token_embedding"),
    (
        "layer.0.SelfAttention.relative_attention_bias",
        "pos_embedding.embedding",
    ),
    ("layer.0.SelfAttention.q", "attn.q"),
    ("layer.0.SelfAttention.k", "attn.k"),
    ("layer.0.SelfAttention.v", "attn.v"),
    ("layer.0.SelfAttention.o", "attn.o"),
    ("layer.0.layer_norm", "norm1"),
    ("layer.1.layer_norm", "norm2"),
    ("layer.1.DenseReluDense.wi_0", "ffn.gate.0"),
    ("layer.1.DenseReluDense.wi_1", "ffn.fc1"),
    ("layer.1.DenseReluDense.wo", "ffn.fc2"),
    ("layer.1.", ""),
];

#[test]
fn text_encoders_in_foreign_names_arrive_complete() {
    let manifests: Manifests = read("manifests.json.gz");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    for (network, pairs, names, is_umt5) in [
        ("t5_xxl", T5_LLAMA, NameLayout::Llama, false),
        ("umt5_xxl", T5_LLAMA, NameLayout::Llama, true),
        ("umt5_xxl", UMT5_WAN, NameLayout::Original, true),
    ] {
        let canonical = unfold(&manifests.networks[network]);
        write_sparse(&path, renamed(&canonical, &pairs).into_iter().collect());
        let identity = identify(&path).unwrap();
        let [part] = &identity.parts[..] else {
            panic!("{:?}", identity.parts);
        };
        assert_eq!(part.names, names);
        assert!(matches!(&part.network, Network::T5 { is_umt5: found, .. } if *found == is_umt5));
        assert_eq!(names_and_shapes(&path, part), canonical);
    }
}

fn names_and_shapes(path: &Path, part: &kinora_weights::FilePart) -> Table {
    let opened = part.open(&WeightSet::open_file(path).unwrap()).unwrap();
    assert!(opened.unknown.is_empty(), "{:?}", opened.unknown);
    opened
        .set
        .tensors()
        .map(|(name, view)| (name.to_owned(), view.shape.clone()))
        .collect()
}

#[test]
fn gemmas_norms_lose_the_one_that_llama_cpp_adds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gemma.gguf");
    let mut tensors = vec![
        q8_0("token_embd.weight", &[8, 32]),
        f32s("output_norm.weight", &[32]),
    ];
    for (name, shape) in [
        ("attn_q", &[64, 32][..]),
        ("attn_k", &[32, 32]),
        ("attn_v", &[32, 32]),
        ("attn_output", &[32, 64]),
        ("ffn_gate", &[64, 32]),
        ("ffn_up", &[64, 32]),
        ("ffn_down", &[32, 64]),
    ] {
        tensors.push(q8_0(&format!("blk.0.{name}.weight"), shape));
    }
    for name in ["attn_q_norm", "attn_k_norm"] {
        tensors.push(f32s(&format!("blk.0.{name}.weight"), &[16]));
    }
    for name in [
        "attn_norm",
        "post_attention_norm",
        "ffn_norm",
        "post_ffw_norm",
    ] {
        tensors.push(f32s(&format!("blk.0.{name}.weight"), &[32]));
    }
    fs::write(&path, gguf::encode("gemma3", &tensors)).unwrap();
    let identity = identify(&path).unwrap();
    let [part] = &identity.parts[..] else {
        panic!("{:?}", identity.parts);
    };
    let Network::Gemma(config) = &part.network else {
        panic!("{part:?}");
    };
    assert_eq!(
        (
            config.heads,
            config.key_value_heads,
            config.head_dim,
            config.layers
        ),
        (4, 2, 16, 1)
    );
    let opened = part.open(&WeightSet::open_file(&path).unwrap()).unwrap();
    assert!(opened.unknown.is_empty());
    let expected: Vec<f32> = (0..32).map(|index| index as f32 * 0.5 - 1.0).collect();
    for name in [
        "norm",
        "layers.0.input_layernorm",
        "layers.0.post_attention_layernorm",
        "layers.0.pre_feedforward_layernorm",
        "layers.0.post_feedforward_layernorm",
    ] {
        assert_eq!(
            opened.set.read_f32(&format!("{name}.weight")).unwrap(),
            expected,
            "{name}"
        );
    }
    assert_eq!(opened.set.tensors().count(), tensors.len());
}
