//! The files of Wan's authors, ComfyUI and GGUF converters at their true sizes, with the other parts
//! beside them: every component is found, at the names and shapes of the reference's own state dict,
//! and so is the other half of a pair of experts. The files are sparse: only their headers exist.

mod common;

use std::{fs, path::Path};

use common::{
    recorded::{Manifests, Table, read, unfold},
    write_sparse,
};
use kinora_core::Family;
use kinora_weights::{
    WeightSet, recognise,
    wan::{WanComponent, WanInput, detect_wan, is_wan},
};

fn names_and_shapes(set: &WeightSet) -> Table {
    set.tensors()
        .map(|(name, view)| (name.to_owned(), view.shape.clone()))
        .collect()
}

fn write(manifests: &Manifests, root: &Path, name: &str, file: &str) {
    let stored = unfold(&manifests.files[file].stored).into_iter().collect();
    write_sparse(&root.join(name), stored);
}

/// The parts beside a transformer, and an empty tokenizer, whose content is not looked at.
fn write_others(manifests: &Manifests, root: &Path, vae: &str) {
    write(manifests, root, "vae.safetensors", vae);
    write(manifests, root, "umt5_xxl.safetensors", "umt5_xxl");
    fs::create_dir(root.join("tokenizer")).unwrap();
    fs::write(root.join("tokenizer/spiece.model"), "").unwrap();
}

#[test]
fn one_transformer_with_its_parts_beside_it() {
    let manifests: Manifests = read("manifests.json.gz");
    for (file, variant, network, vae, input) in [
        (
            "wan21_t2v_1b",
            "2.1-t2v-1.3b",
            "wan21_t2v_1b",
            1,
            WanInput::Text,
        ),
        (
            "wan21_t2v_14b",
            "2.1-t2v-14b",
            "wan21_t2v_14b",
            1,
            WanInput::Text,
        ),
        (
            "wan21_i2v_14b",
            "2.1-i2v-14b",
            "wan21_i2v_14b",
            1,
            WanInput::Channels,
        ),
        (
            "wan21_i2v_14b_comfy",
            "2.1-i2v-14b",
            "wan21_i2v_14b",
            1,
            WanInput::Channels,
        ),
        (
            "wan21_flf2v_14b",
            "2.1-flf2v-14b",
            "wan21_flf2v_14b",
            1,
            WanInput::Channels,
        ),
        (
            "wan22_ti2v_5b",
            "2.2-ti2v-5b",
            "wan22_ti2v_5b",
            2,
            WanInput::FirstFrame,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(&manifests, root, "model.safetensors", file);
        write_others(&manifests, root, &format!("wan2{vae}_vae"));
        if input == WanInput::Channels {
            write(&manifests, root, "clip.safetensors", "clip_vision_h");
        }
        for place in [root.to_owned(), root.join("model.safetensors")] {
            assert!(is_wan(&place));
            assert_eq!(recognise(&place).unwrap().family(), Family::Wan);
            let layout = detect_wan(&place).unwrap();
            assert_eq!(
                (layout.variant.as_str(), layout.parts.input),
                (variant, input)
            );
            assert_eq!(
                (layout.parts.boundary, layout.scheduler_path()),
                (None, None)
            );
            assert_eq!(layout.parts.stats.mean.len(), [16, 48][vae - 1]);
            let vision = (WanComponent::ImageEncoder, "clip_vision_h");
            let parts = [
                (WanComponent::Transformer, network),
                (WanComponent::Vae, &format!("vae_wan2{vae}")),
                (WanComponent::TextEncoder, "umt5_xxl"),
            ];
            let has_vision = layout.parts.vision.is_some();
            for (component, network) in parts.into_iter().chain(has_vision.then_some(vision)) {
                let mut ours = names_and_shapes(&layout.open(component).unwrap());
                let mut theirs = unfold(&manifests.networks[network]);
                // Two tensors that Wan does not use.
                for name in ["visual_projection.weight", "embeddings.position_ids"] {
                    ours.remove(name);
                    theirs.remove(name);
                }
                assert_eq!(ours, theirs, "{network}");
            }
            assert_eq!(has_vision, input == WanInput::Channels);
        }
    }
}

#[test]
fn experts_come_in_pairs_by_their_names() {
    let manifests: Manifests = read("manifests.json.gz");
    for (high, low) in [
        (
            "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors",
            "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors",
        ),
        (
            "Wan2.2-I2V-A14B-HighNoise-Q4.safetensors",
            "Wan2.2-I2V-A14B-LowNoise-Q4.safetensors",
        ),
        (
            "Wan2_2-I2V-A14B-HIGH_bf16.safetensors",
            "Wan2_2-I2V-A14B-LOW_bf16.safetensors",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write_others(&manifests, root, "wan21_vae");
        write(&manifests, root, high, "wan22_i2v_a14b");
        let error = detect_wan(&root.join(high)).unwrap_err().to_string();
        assert!(
            error.contains("low-noise") && error.contains(high),
            "{error}"
        );
        write(&manifests, root, low, "wan22_i2v_a14b");
        for place in [root.to_owned(), root.join(high), root.join(low)] {
            let layout = detect_wan(&place).unwrap();
            assert_eq!(layout.variant, "2.2-i2v-a14b");
            assert_eq!(layout.parts.boundary, Some(0.9));
            let files: Vec<_> = (layout.weights.iter())
                .map(|file| (file.component.as_str(), file.file.as_str()))
                .collect();
            assert_eq!(files[..2], [("transformer", high), ("transformer_2", low)]);
        }
        // Others beside them: the partner is the file with the same name but for the word.
        write(
            &manifests,
            root,
            "other_low_noise.safetensors",
            "wan22_i2v_a14b",
        );
        assert!(detect_wan(root).is_err());
        let layout = detect_wan(&root.join(high)).unwrap();
        assert_eq!(layout.weights[1].file, low);
        fs::remove_file(root.join(low)).unwrap();
        write(
            &manifests,
            root,
            "another_low_noise.safetensors",
            "wan22_i2v_a14b",
        );
        let error = detect_wan(&root.join(high)).unwrap_err().to_string();
        assert!(error.contains("several low-noise"), "{error}");
    }
}

#[test]
fn text_experts_have_their_own_boundary() {
    let manifests: Manifests = read("manifests.json.gz");
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_others(&manifests, root, "wan21_vae");
    for half in ["high", "low"] {
        write(
            &manifests,
            root,
            &format!("wan_{half}_noise.safetensors"),
            "wan21_t2v_14b",
        );
    }
    let layout = detect_wan(root).unwrap();
    assert_eq!(layout.variant, "2.2-t2v-a14b");
    assert_eq!(layout.parts.boundary, Some(0.875));
}

#[test]
fn what_is_missing_is_named() {
    let manifests: Manifests = read("manifests.json.gz");
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    assert!(!is_wan(root));
    write(&manifests, root, "wan.safetensors", "wan21_i2v_14b");
    write_others(&manifests, root, "wan21_vae");
    let error = || detect_wan(root).unwrap_err().to_string();
    assert!(error().contains("CLIP image encoder"), "{}", error());
    write(&manifests, root, "clip.safetensors", "clip_vision_h");
    detect_wan(root).unwrap();
    fs::remove_file(root.join("tokenizer/spiece.model")).unwrap();
    assert!(error().contains("spiece.model"), "{}", error());
    fs::remove_file(root.join("umt5_xxl.safetensors")).unwrap();
    assert!(error().contains("UMT5"), "{}", error());
    fs::remove_file(root.join("vae.safetensors")).unwrap();
    assert!(error().contains("VAE"), "{}", error());
}
