//! The authors' files of LTX-Video and LTX-2 at their true sizes, with the text encoder beside them:
//! every component is found, at the names and shapes of the reference's own state dict. The files
//! are sparse: only their headers exist.

mod common;

use std::{fs, path::Path};

use common::{
    recorded::{Manifests, Table, read, unfold},
    write_sparse,
};
use kinora_core::Family;
use kinora_weights::{
    WeightSet,
    ltx::{LtxComponent, detect_ltx, is_ltx},
    ltx2::{Ltx2Component, detect_ltx2, is_ltx2},
    recognise,
};

fn names_and_shapes(set: &WeightSet) -> Table {
    set.tensors()
        .map(|(name, view)| (name.to_owned(), view.shape.clone()))
        .collect()
}

/// A published file, its text encoder, and an empty tokenizer, whose content is not looked at.
fn write(manifests: &Manifests, root: &Path, file: &str, text: &str, tokenizer: &str) {
    for (name, file) in [("model.safetensors", file), ("text.safetensors", text)] {
        let stored = unfold(&manifests.files[file].stored).into_iter().collect();
        write_sparse(&root.join(name), stored);
    }
    fs::create_dir(root.join("tokenizer")).unwrap();
    fs::write(root.join("tokenizer").join(tokenizer), "{}").unwrap();
}

#[test]
fn ltx_video_in_one_file() {
    let manifests: Manifests = read("manifests.json.gz");
    for (file, variant, transformer, vae) in [
        ("ltx_2b_090", "2b-0.9.0", "ltx_2b", "vae_ltx"),
        ("ltx_2b_091", "2b-0.9.1", "ltx_2b", "vae_ltx_091"),
        ("ltx_2b_095", "2b-0.9.5", "ltx_2b", "vae_ltx_095"),
        ("ltx_13b_097", "13b-0.9.7", "ltx_13b", "vae_ltx_095"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(&manifests, root, file, "t5_xxl", "spiece.model");
        for place in [root.to_owned(), root.join("model.safetensors")] {
            assert!(is_ltx(&place) && !is_ltx2(&place));
            let layout = detect_ltx(&place).unwrap();
            assert_eq!(layout.variant, variant);
            assert_eq!(layout.scheduler_path(), None);
            let found = recognise(&place).unwrap();
            assert_eq!((found.family(), found.variant()), (Family::Ltx, variant));
            assert_eq!(found.size_step(), 32);
            for (component, network) in [
                (LtxComponent::Transformer, transformer),
                (LtxComponent::Vae, vae),
                (LtxComponent::TextEncoder, "t5_xxl"),
            ] {
                let ours = names_and_shapes(&layout.open(component).unwrap());
                assert_eq!(ours, unfold(&manifests.networks[network]), "{network}");
            }
            let files: Vec<_> = layout.weights.iter().map(|file| &file.file).collect();
            assert_eq!(files, ["model.safetensors", "text.safetensors"]);
        }
        assert!(detect_ltx2(&root.join("model.safetensors")).is_err());
    }
}

#[test]
fn a_file_with_the_published_t5_needs_no_tokenizer_beside_it() {
    let manifests: Manifests = read("manifests.json.gz");
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(&manifests, root, "ltx_2b_095", "t5_xxl", "spiece.model");
    assert!(detect_ltx(root).unwrap().has_tokenizer_files());
    fs::remove_dir_all(root.join("tokenizer")).unwrap();
    assert!(!detect_ltx(root).unwrap().has_tokenizer_files());
}

#[test]
fn ltx_2_in_one_file() {
    let manifests: Manifests = read("manifests.json.gz");
    for (file, variant, connectors, vocoder) in [
        ("ltx2", "2.0", "ltx2_connectors", "ltx2_vocoder"),
        ("ltx23", "2.3", "ltx23_connectors", "ltx23_vocoder"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(&manifests, root, file, "gemma3_12b", "tokenizer.json");
        assert!(is_ltx2(root) && !is_ltx(root));
        let layout = detect_ltx2(root).unwrap();
        assert_eq!(layout.variant, variant);
        assert_eq!(layout.parts.vae.is_decoder_mirrored, variant == "2.0");
        let found = recognise(root).unwrap();
        assert_eq!((found.family(), found.variant()), (Family::Ltx2, variant));
        assert_eq!(found.total_bytes(), layout.total_bytes());
        for (component, network) in [
            (Ltx2Component::Transformer, file),
            (Ltx2Component::Vae, "vae_ltx2"),
            (Ltx2Component::TextEncoder, "gemma3_12b"),
            (Ltx2Component::Connectors, connectors),
            (Ltx2Component::AudioVae, "vae_ltx2_audio"),
            (Ltx2Component::Vocoder, vocoder),
        ] {
            let ours = names_and_shapes(&layout.open(component).unwrap());
            assert_eq!(ours, unfold(&manifests.networks[network]), "{network}");
        }
        assert!(detect_ltx(&root.join("model.safetensors")).is_err());

        // Files for ComfyUI carry the tokenizer.
        assert_eq!(layout.read_stored_tokenizer().unwrap(), None);
        fs::remove_dir_all(root.join("tokenizer")).unwrap();
        assert!(detect_ltx2(root).is_err());
        let mut stored = unfold(&manifests.files["gemma3_12b"].stored);
        stored.insert("spiece_model".to_owned(), vec![6]);
        write_sparse(&root.join("text.safetensors"), stored.into_iter().collect());
        let layout = detect_ltx2(root).unwrap();
        let (file, bytes) = layout.read_stored_tokenizer().unwrap().unwrap();
        assert_eq!((file, bytes.len()), (root.join("text.safetensors"), 12));
    }
}

#[test]
fn what_is_missing_is_named() {
    let manifests: Manifests = read("manifests.json.gz");
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(&manifests, root, "ltx_2b_095", "t5_xxl", "spiece.model");
    fs::hard_link(root.join("model.safetensors"), root.join("two.safetensors")).unwrap();
    let error = recognise(root).unwrap_err().to_string();
    assert!(error.contains("several transformers"), "{error}");
    fs::remove_file(root.join("two.safetensors")).unwrap();
    fs::remove_file(root.join("text.safetensors")).unwrap();
    let error = detect_ltx(root).unwrap_err().to_string();
    assert!(error.contains("T5"), "{error}");
    fs::remove_file(root.join("model.safetensors")).unwrap();
    assert!(!is_ltx(root) && detect_ltx(root).is_err());
}
