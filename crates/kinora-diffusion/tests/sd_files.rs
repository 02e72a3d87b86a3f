//! A Stable Diffusion model in one file, as A1111 and ComfyUI keep it, paints the very picture of the
//! reference library's folder; and CLIP's own tokenizer, for files that come without one.

mod common;

use std::{fs, path::Path};

use common::{Tensors, cases, open, params, read, run, to_original, write_gguf, write_safetensors};
use kinora_diffusion::{pipelines::ImageParams, text::Tokenizer};
use kinora_weights::{
    Component, ModelLayout, WeightSet, detect,
    maps::{self, ldm_unet::UnetShape},
};
use serde_json::Value;

fn numbers(layout: &ModelLayout, component: Component) -> Tensors {
    read(&layout.open(component).unwrap())
}

fn prefixed(tensors: &Tensors, prefix: &str) -> Tensors {
    (tensors.iter())
        .map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone()))
        .collect()
}

fn unet(layout: &ModelLayout) -> Tensors {
    let config = &layout.sd().unwrap().unet;
    let deepest = config.transformer_layers.iter().max().copied().unwrap_or(0);
    let map = maps::ldm_unet::unet(UnetShape {
        levels: config.block_out_channels.len(),
        blocks: config.layers_per_block,
        depth: deepest.max(config.mid_transformer_layers),
    });
    prefixed(
        &to_original(&numbers(layout, Component::Transformer), &map),
        "model.diffusion_model.",
    )
}

fn vae(layout: &ModelLayout) -> Tensors {
    let config = &layout.sd().unwrap().vae;
    let map = maps::ldm_vae::vae(config.block_out_channels.len(), config.layers_per_block);
    prefixed(
        &to_original(&numbers(layout, Component::Vae), &map),
        "first_stage_model.",
    )
}

/// Configurations and tokenizers beside the file: no shape tells the heads of so small a network.
fn copy_rest(model: &Path, to: &Path) {
    for part in ["unet", "vae", "text_encoder", "text_encoder_2", "scheduler"] {
        for name in ["config.json", "scheduler_config.json"] {
            let from = model.join(part).join(name);
            if from.is_file() {
                fs::create_dir_all(to.join(part)).unwrap();
                fs::copy(from, to.join(part).join(name)).unwrap();
            }
        }
    }
    for part in ["tokenizer", "tokenizer_2"] {
        if model.join(part).is_dir() {
            fs::create_dir_all(to.join(part)).unwrap();
            for entry in fs::read_dir(model.join(part)).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), to.join(part).join(entry.file_name())).unwrap();
            }
        }
    }
}

fn painted(root: &Path) -> Vec<f32> {
    let params = ImageParams {
        true_cfg: Some(5.0),
        guidance: None,
        negative_prompt: "blurry".into(),
        width: 64,
        height: 64,
        ..params("a red car")
    };
    run(&mut open(root), &params)
}

#[test]
fn sd_1_in_one_file_paints_the_picture_of_the_folder() {
    let model = cases().join("sd15/model");
    let layout = detect(&model).unwrap();
    let mut tensors = unet(&layout);
    tensors.extend(vae(&layout));
    let clip = numbers(&layout, Component::TextEncoder);
    tensors.extend(prefixed(&clip, "cond_stage_model.transformer.text_model."));
    let folder = tempfile::tempdir().unwrap();
    copy_rest(&model, folder.path());
    let file = folder.path().join("checkpoint.safetensors");
    write_safetensors(&file, &tensors, Value::Null);
    let expected = painted(&model);
    assert!(expected.iter().all(|number| number.is_finite()));
    assert!(painted(&file) == expected);
    assert!(painted(folder.path()) == expected);
}

#[test]
fn sdxl_in_one_file_paints_the_picture_of_the_folder() {
    let model = cases().join("sdxl/model");
    let layout = detect(&model).unwrap();
    let mut tensors = unet(&layout);
    tensors.extend(vae(&layout));
    let clip = numbers(&layout, Component::TextEncoder);
    tensors.extend(prefixed(
        &clip,
        "conditioner.embedders.0.transformer.text_model.",
    ));
    let second = numbers(&layout, Component::TextEncoder2);
    let layers = layout.sd().unwrap().clip_2.as_ref().unwrap().config.layers;
    let second = to_open_clip(&second, layers);
    tensors.extend(prefixed(&second, "conditioner.embedders.1.model."));
    let folder = tempfile::tempdir().unwrap();
    copy_rest(&model, folder.path());
    let file = folder.path().join("checkpoint.safetensors");
    write_safetensors(&file, &tensors, Value::Null);
    let expected = painted(&model);
    assert!(painted(&file) == expected);
    // The UNet as GGUF, the rest beside it.
    fs::remove_file(&file).unwrap();
    write_gguf(
        &folder.path().join("unet.gguf"),
        &unet(&layout),
        Some("sdxl"),
    );
    let rest: Tensors = (tensors.iter())
        .filter(|(name, _)| !name.starts_with("model.diffusion_model."))
        .map(|(name, tensor)| (name.clone(), tensor.clone()))
        .collect();
    write_safetensors(&folder.path().join("rest.safetensors"), &rest, Value::Null);
    assert!(painted(folder.path()) == expected);
}

/// OpenCLIP's names. Query, key and value are one tensor, and the projection is turned.
fn to_open_clip(canonical: &Tensors, layers: usize) -> Tensors {
    let map = maps::text::open_clip(layers);
    let mut stored = to_original(canonical, &map);
    let projection = stored.get_mut("text_projection").unwrap();
    let [rows, columns] = projection.shape[..] else {
        panic!("a projection is a matrix");
    };
    let size = projection.bytes.len() / (rows * columns);
    let from = projection.bytes.clone();
    for row in 0..rows {
        for column in 0..columns {
            let (a, b) = (
                (row * columns + column) * size,
                (column * rows + row) * size,
            );
            projection.bytes[b..b + size].copy_from_slice(&from[a..a + size]);
        }
    }
    projection.shape = vec![columns, rows];
    stored.remove("text_projection.weight");
    stored
}

/// Recorded from `transformers.CLIPTokenizer` 5.23.0 with OpenAI's files.
#[test]
fn the_built_in_tokenizer_is_that_of_clip() {
    let openai = Tokenizer::clip("<|endoftext|>").unwrap();
    let open_clip = Tokenizer::clip("!").unwrap();
    for (text, ids, is_cut_short) in [
        (
            "a photo of a cat, 4k",
            &[49406, 320, 1125, 539, 320, 2368, 267, 275, 330, 49407][..],
            false,
        ),
        (
            "Ein Mädchen läuft über die Straße!",
            &[
                49406, 24524, 76, 10896, 67, 8983, 75, 10896, 84, 981, 6522, 1516, 2082, 1894, 127,
                253, 324, 256, 49407,
            ],
            true,
        ),
        (
            "it's 1984; don't panic…",
            &[
                49406, 585, 568, 272, 280, 279, 275, 282, 847, 713, 14124, 959, 49407,
            ],
            false,
        ),
        (
            "猫と🤖 in the rain",
            &[
                49406, 163, 234, 104, 4813, 357, 46146, 530, 518, 2443, 49407,
            ],
            false,
        ),
        ("", &[49406, 49407], false),
    ] {
        let mut expected = ids.to_vec();
        expected.resize(24, 49407);
        assert_eq!(openai.encode(text, 24).unwrap(), expected, "{text}");
        let mut expected = ids.to_vec();
        if is_cut_short {
            // The letter that OpenCLIP pads with is its own token.
            expected[17] = 0;
        }
        expected.resize(24, 0);
        assert_eq!(open_clip.encode(text, 24).unwrap(), expected, "{text}");
    }
}

#[test]
fn a_checkpoint_without_a_tokenizer_is_opened_with_the_built_in_one() {
    // The case's own table of words is not that of CLIP: the model opens, and its text is refused
    // where an id lies beyond the table, not before.
    let model = cases().join("sd15/model");
    let layout = detect(&model).unwrap();
    let mut tensors = unet(&layout);
    tensors.extend(vae(&layout));
    let clip = numbers(&layout, Component::TextEncoder);
    tensors.extend(prefixed(&clip, "cond_stage_model.transformer.text_model."));
    let folder = tempfile::tempdir().unwrap();
    copy_rest(&model, folder.path());
    fs::remove_dir_all(folder.path().join("tokenizer")).unwrap();
    let file = folder.path().join("checkpoint.safetensors");
    write_safetensors(&file, &tensors, Value::Null);
    assert!(WeightSet::open_file(&file).is_ok());
    let layout = detect(&file).unwrap();
    assert_eq!(layout.weights.len(), 1);
    open(&file);
}
