//! One Wan model in every kind of file that people have makes one clip: plain formats the very
//! frames of the reference library's folder, quantised ones those of the widened numbers.

mod common;

use std::{fs, path::Path};

use candle_core::{DType, Device};
use common::{Tensor, Tensors, cases, read, to_original, write_gguf, write_safetensors};
use half::f16;
use kinora_core::{Rng, Stage};
use kinora_diffusion::{
    Result,
    pipelines::{Checkpoint, RgbImage, RunLimits, RunWatch, Switch, VideoParams, WanPipeline},
};
use kinora_weights::{
    Dtype, maps,
    wan::{WanComponent, WanLayout, detect_wan},
};
use serde_json::{Value, json};

struct Frames(Vec<RgbImage>);

impl RunWatch for Frames {
    fn stage(&mut self, _: usize, _: Stage, _: u32, _: u32) {}

    fn is_cancelled(&mut self, _: usize) -> bool {
        false
    }

    fn resume(&mut self, _: usize) -> Option<Checkpoint> {
        None
    }

    fn wants_checkpoint(&mut self, _: usize) -> bool {
        false
    }

    fn checkpoint(&mut self, _: usize, _: &Checkpoint) -> Result<()> {
        Ok(())
    }

    fn wants_preview(&mut self, _: usize) -> bool {
        false
    }

    fn preview(&mut self, _: usize, _: RgbImage) {}

    fn image(&mut self, _: usize, _: RgbImage) -> Result<()> {
        panic!("a clip is no picture");
    }

    fn frame(&mut self, _: usize, _: u32, _: u32, picture: RgbImage) -> Result<()> {
        self.0.push(picture);
        Ok(())
    }
}

/// The frames of a short clip. The shift is told, as plans do: files know none.
fn make(root: &Path) -> Vec<RgbImage> {
    let layout = detect_wan(root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut pipeline = WanPipeline::open(&layout, &Device::Cpu, DType::F32, &mut |_| {}).unwrap();
    let params = VideoParams {
        prompt: "waves crashing at sunset".into(),
        negative_prompt: "blurry".into(),
        width: 48,
        height: 32,
        frames: 5,
        steps: 4,
        guidance: 4.0,
        guidance_2: Some(3.0),
        switch: Switch::Model,
        step_cache: 0.0,
        shift: Some(3.0),
        sampler: None,
        seed: 3,
        rng: Rng::Cpu,
        text_tokens: 32,
        first_frame: None,
        last_frame: None,
        latents: None,
        context: None,
        vae_tiling: false,
    };
    let mut frames = Frames(Vec::new());
    pipeline
        .run(&[params], RunLimits::NONE, &mut frames)
        .unwrap();
    assert_eq!(frames.0.len(), 5);
    frames.0
}

fn case() -> WanLayout {
    detect_wan(&cases().join("wan22_t2v_a14b/model")).unwrap()
}

/// An expert under the names of its authors.
fn expert(layout: &WanLayout, component: WanComponent) -> Tensors {
    let map = maps::wan::transformer(layout.parts.transformer.layers);
    to_original(&read(&layout.open(component).unwrap()), &map)
}

/// The other parts of the case: the VAE and the text encoder as files, and the configurations that
/// tell what the shapes of so small a model do not.
fn write_others(layout: &WanLayout, to: &Path) {
    for (component, file) in [
        (WanComponent::Vae, "wan_vae.safetensors"),
        (WanComponent::TextEncoder, "umt5.safetensors"),
    ] {
        let tensors = read(&layout.open(component).unwrap());
        write_safetensors(&to.join(file), &tensors, Value::Null);
    }
    for file in [
        "vae/config.json",
        "text_encoder/config.json",
        "transformer/config.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    ] {
        fs::create_dir_all(to.join(file).parent().unwrap()).unwrap();
        fs::copy(layout.root.join(file), to.join(file)).unwrap();
    }
}

/// The clip of the case whose experts are written by `write`, which is given their tensors and the
/// stem of their file.
fn make_written(write: &dyn Fn(&Path, &Tensors)) -> Vec<RgbImage> {
    let layout = case();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_others(&layout, root);
    for (component, half) in [
        (WanComponent::Transformer, "high"),
        (WanComponent::Transformer2, "low"),
    ] {
        let stem = root.join(format!("wan2.2_t2v_{half}_noise_14B"));
        write(&stem, &expert(&layout, component));
    }
    make(root)
}

fn prefixed(tensors: &Tensors, prefix: &str) -> Tensors {
    let with = |(name, tensor): (&String, &Tensor)| (format!("{prefix}{name}"), tensor.clone());
    tensors.iter().map(with).collect()
}

fn plain(stem: &Path, tensors: &Tensors) {
    write_safetensors(
        &stem.with_added_extension("safetensors"),
        tensors,
        Value::Null,
    );
}

fn gguf(stem: &Path, tensors: &Tensors) {
    write_gguf(&stem.with_added_extension("gguf"), tensors, Some("wan"));
}

/// What becomes of the matrices of the blocks; converters leave the others as they are.
fn change_matrices(tensors: &Tensors, change: impl Fn(&Tensor) -> Tensor) -> Tensors {
    let new = |(name, tensor): (&String, &Tensor)| {
        let is_wanted =
            name.starts_with("blocks.") && name.ends_with(".weight") && tensor.shape.len() == 2;
        let tensor = if is_wanted {
            change(tensor)
        } else {
            tensor.clone()
        };
        (name.clone(), tensor)
    };
    tensors.iter().map(new).collect()
}

fn widened(tensor: &Tensor) -> Tensor {
    Tensor::f32(&tensor.shape, &tensor.numbers())
}

#[test]
fn plain_files_of_every_layout_give_the_frames_of_the_folder() {
    let expected = make(&case().root);
    assert!(make_written(&plain) == expected);
    let comfy = |stem: &Path, tensors: &Tensors| {
        plain(stem, &prefixed(tensors, "model.diffusion_model."));
    };
    assert!(make_written(&comfy) == expected);
    assert!(make_written(&gguf) == expected);
}

fn halve(tensor: &Tensor) -> Tensor {
    let numbers = tensor.numbers();
    let bytes = numbers
        .iter()
        .flat_map(|n| f16::from_f32(n / 3.0).to_le_bytes());
    Tensor {
        dtype: Dtype::F16,
        shape: tensor.shape.clone(),
        bytes: bytes.collect(),
    }
}

#[test]
fn gguf_gives_the_frames_of_the_widened_numbers() {
    let wide = |stem: &Path, tensors: &Tensors| {
        plain(
            stem,
            &change_matrices(&change_matrices(tensors, halve), widened),
        );
    };
    let narrow = |stem: &Path, tensors: &Tensors| gguf(stem, &change_matrices(tensors, halve));
    let ours = make_written(&narrow);
    assert!(ours == make_written(&wide));
    assert!(ours != make(&case().root));
}

/// Truncation to E4M3 by trying all numbers, so that no rounding rule is assumed.
fn quantise_e4m3(tensor: &Tensor, scale: f32) -> Tensor {
    let all: Vec<(u8, f32)> = (0..=255u8)
        .map(|byte| (byte, kinora_weights::decode::decode_e4m3(byte)))
        .filter(|(_, number)| number.is_finite())
        .collect();
    let nearest = |n: f32| {
        let distance = |(_, number): &&(u8, f32)| (number - n / scale).abs();
        all.iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            .unwrap()
            .0
    };
    Tensor {
        dtype: Dtype::F8E4M3,
        shape: tensor.shape.clone(),
        bytes: tensor.numbers().into_iter().map(nearest).collect(),
    }
}

const SCALE: f32 = 0.0078125;

#[test]
fn scaled_fp8_gives_the_frames_of_the_widened_numbers() {
    // As ComfyUI's repackaged files do it: a marker, and a scale for each matrix.
    let scaled = |stem: &Path, tensors: &Tensors| {
        let mut stored = change_matrices(tensors, |tensor| quantise_e4m3(tensor, SCALE));
        let narrow: Vec<String> = (stored.iter())
            .filter(|(_, tensor)| tensor.dtype == Dtype::F8E4M3)
            .map(|(name, _)| name.replace(".weight", ".scale_weight"))
            .collect();
        for name in narrow {
            stored.insert(name, Tensor::f32(&[1], &[SCALE]));
        }
        let marker = Tensor {
            dtype: Dtype::F8E4M3,
            shape: vec![2],
            bytes: vec![0; 2],
        };
        stored.insert("scaled_fp8".into(), marker);
        plain(stem, &stored);
    };
    let wide = |stem: &Path, tensors: &Tensors| {
        let widen = |tensor: &Tensor| {
            let numbers = quantise_e4m3(tensor, SCALE).numbers();
            let numbers: Vec<f32> = numbers.iter().map(|n| n * SCALE).collect();
            Tensor::f32(&tensor.shape, &numbers)
        };
        plain(stem, &change_matrices(tensors, widen));
    };
    assert!(make_written(&scaled) == make_written(&wide));
    // The newer way: a note in the header for each layer.
    let noted = |stem: &Path, tensors: &Tensors| {
        let mut stored = change_matrices(tensors, |tensor| quantise_e4m3(tensor, SCALE));
        let layers: Vec<String> = (stored.iter())
            .filter(|(_, tensor)| tensor.dtype == Dtype::F8E4M3)
            .map(|(name, _)| name.trim_end_matches(".weight").to_owned())
            .collect();
        let mut notes = serde_json::Map::new();
        for layer in layers {
            let scale = Tensor::f32(&[], &[SCALE]);
            stored.insert(format!("{layer}.weight_scale"), scale);
            notes.insert(layer, json!({ "format": "float8_e4m3fn" }));
        }
        let notes = json!({ "layers": notes }).to_string();
        write_safetensors(
            &stem.with_added_extension("safetensors"),
            &stored,
            json!({ "_quantization_metadata": notes }),
        );
    };
    assert!(make_written(&noted) == make_written(&wide));
}

#[test]
fn the_vae_and_the_text_encoder_may_have_their_authors_names() {
    let layout = case();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_others(&layout, root);
    plain(
        &root.join("wan_high"),
        &expert(&layout, WanComponent::Transformer),
    );
    plain(
        &root.join("wan_low"),
        &expert(&layout, WanComponent::Transformer2),
    );
    // UMT5 as the authors name it.
    let canonical = read(&layout.open(WanComponent::TextEncoder).unwrap());
    let renamed: Tensors = (canonical.iter())
        .map(|(name, tensor)| (to_umt5_wan(name), tensor.clone()))
        .collect();
    write_safetensors(&root.join("umt5.safetensors"), &renamed, Value::Null);
    assert!(make(root) == make(&layout.root));
}

fn to_umt5_wan(name: &str) -> String {
    if let Some(leaf) = name.strip_prefix("shared.") {
        return format!("token_embedding.{leaf}");
    }
    if let Some(leaf) = name.strip_prefix("encoder.final_layer_norm.") {
        return format!("norm.{leaf}");
    }
    let mut name = name.replace("encoder.block.", "blocks.");
    for (from, to) in [
        (
            "layer.0.SelfAttention.relative_attention_bias",
            "pos_embedding.embedding",
        ),
        ("layer.0.SelfAttention.", "attn."),
        ("layer.0.layer_norm", "norm1"),
        ("layer.1.DenseReluDense.wi_0", "ffn.gate.0"),
        ("layer.1.DenseReluDense.wi_1", "ffn.fc1"),
        ("layer.1.DenseReluDense.wo", "ffn.fc2"),
        ("layer.1.layer_norm", "norm2"),
    ] {
        name = name.replace(from, to);
    }
    name
}

#[test]
fn a_damaged_tokenizer_in_the_text_encoders_file_is_an_error() {
    let layout = case();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_others(&layout, root);
    fs::remove_dir_all(root.join("tokenizer")).unwrap();
    plain(
        &root.join("wan_high"),
        &expert(&layout, WanComponent::Transformer),
    );
    plain(
        &root.join("wan_low"),
        &expert(&layout, WanComponent::Transformer2),
    );
    assert!(detect_wan(root).is_err());
    let mut tensors = read(&layout.open(WanComponent::TextEncoder).unwrap());
    let stored = Tensor {
        dtype: Dtype::U8,
        shape: vec![3],
        bytes: vec![255; 3],
    };
    tensors.insert("spiece_model".into(), stored);
    write_safetensors(&root.join("umt5.safetensors"), &tensors, Value::Null);
    let layout = detect_wan(root).unwrap();
    let opened = WanPipeline::open(&layout, &Device::Cpu, DType::F32, &mut |_| {});
    let error = opened.unwrap_err().to_string();
    assert!(error.contains("umt5.safetensors"), "{error}");
}
