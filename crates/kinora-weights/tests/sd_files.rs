//! Checkpoints of Stable Diffusion in one file at their true sizes: every component is found, at the
//! names and shapes of the reference's own state dict, and the release is told. The files are sparse:
//! only their headers exist.

mod common;

use std::path::Path;

use common::{
    recorded::{Manifests, Table, read, unfold},
    write_sparse,
};
use kinora_core::Family;
use kinora_weights::{Component, ModelLayout, WeightSet, detect};
use serde_json::Value;

fn names_and_shapes(set: &WeightSet) -> Table {
    set.tensors()
        .map(|(name, view)| (name.to_owned(), view.shape.clone()))
        .collect()
}

fn write(manifests: &Manifests, path: &Path, file: &str) {
    let stored = unfold(&manifests.files[file].stored).into_iter().collect();
    write_sparse(path, stored);
}

fn schedule(layout: &ModelLayout) -> Value {
    serde_json::from_str(&layout.sd().unwrap().scheduler).unwrap()
}

#[test]
fn a_checkpoint_needs_nothing_beside_it() {
    let manifests: Manifests = read("manifests.json.gz");
    let (noise, velocity) = ("epsilon", "v_prediction");
    for (file, name, family, variant, networks, scale, prediction) in [
        (
            "sd15",
            "dreamshaper_8.safetensors",
            Family::Sd1,
            "1.5",
            ["sd15", "vae_sd", "clip_l", ""],
            0.18215,
            noise,
        ),
        (
            "sd15_inpaint",
            "sd-v1-5-inpainting.safetensors",
            Family::Sd1,
            "inpaint",
            ["sd15_inpaint", "vae_sd", "clip_l", ""],
            0.18215,
            noise,
        ),
        (
            "sd21",
            "v2-1_768-ema-pruned.safetensors",
            Family::Sd2,
            "2.1",
            ["sd21", "vae_sd", "clip_h", ""],
            0.18215,
            velocity,
        ),
        (
            "sdxl",
            "juggernautXL.safetensors",
            Family::Sdxl,
            "base",
            ["sdxl", "vae_sd", "clip_l", "clip_g"],
            0.13025,
            noise,
        ),
        (
            "sdxl",
            "someXL_lightning_8step.safetensors",
            Family::Sdxl,
            "lightning",
            ["sdxl", "vae_sd", "clip_l", "clip_g"],
            0.13025,
            noise,
        ),
        (
            "sdxl_vpred",
            "noobai.safetensors",
            Family::Sdxl,
            "v-prediction",
            ["sdxl", "vae_sd", "clip_l", "clip_g"],
            0.13025,
            velocity,
        ),
        (
            "sdxl_refiner",
            "sd_xl_refiner_1.0.safetensors",
            Family::Sdxl,
            "refiner",
            ["sdxl_refiner", "vae_sd", "", "clip_g"],
            0.13025,
            noise,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        write(&manifests, &path, file);
        for place in [folder.path(), &path] {
            let layout = detect(place).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(
                (layout.family, layout.variant.as_str()),
                (family, variant),
                "{name}"
            );
            let parts = layout.sd().unwrap();
            assert_eq!(parts.vae.scaling_factor, scale, "{name}");
            assert_eq!(parts.takes_aesthetic_score, variant == "refiner");
            assert_eq!(schedule(&layout)["prediction_type"], prediction, "{name}");
            let weights: Vec<_> = layout.weights.iter().map(|file| &file.file).collect();
            assert_eq!(weights, [name]);
            for (component, network) in Component::CORE.into_iter().zip(networks) {
                if network.is_empty() {
                    assert_eq!(layout.bytes_of(component), 0);
                    continue;
                }
                let ours = names_and_shapes(&layout.open(component).unwrap());
                let mut theirs = unfold(&manifests.networks[network]);
                if family == Family::Sd2 && component == Component::TextEncoder {
                    // The last block is never used, nor is what follows it.
                    theirs.retain(|name, _| ours.contains_key(name));
                }
                assert!(!ours.is_empty());
                assert_eq!(ours, theirs, "{name}: {network}");
            }
        }
    }
}

#[test]
fn what_a_name_says_of_the_schedule_is_used() {
    let manifests: Manifests = read("manifests.json.gz");
    let folder = tempfile::tempdir().unwrap();
    for (file, name, class, spacing) in [
        ("sdxl", "a.safetensors", "EulerDiscreteScheduler", "leading"),
        (
            "sdxl",
            "a_turbo.safetensors",
            "EulerAncestralDiscreteScheduler",
            "trailing",
        ),
        (
            "sdxl",
            "a_lightning.safetensors",
            "EulerDiscreteScheduler",
            "trailing",
        ),
        ("sd15", "a_lcm.safetensors", "LCMScheduler", "leading"),
        ("sd15", "a_plain.safetensors", "PNDMScheduler", "leading"),
    ] {
        let path = folder.path().join(name);
        write(&manifests, &path, file);
        let schedule = schedule(&detect(&path).unwrap());
        assert_eq!(schedule["_class_name"], class, "{name}");
        assert_eq!(schedule["timestep_spacing"], spacing, "{name}");
    }
    // Several checkpoints in a folder: none of them is the folder's.
    let error = detect(folder.path()).unwrap_err().to_string();
    assert!(error.contains("several checkpoints"), "{error}");
}

#[test]
fn what_is_missing_is_named() {
    let manifests: Manifests = read("manifests.json.gz");
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(&manifests, &root.join("unet.safetensors"), "sdxl_diffusers");
    let error = || {
        detect(&root.join("unet.safetensors"))
            .unwrap_err()
            .to_string()
    };
    assert!(error().contains("VAE"), "{}", error());
    write(&manifests, &root.join("vae.safetensors"), "sd_vae");
    assert!(error().contains("CLIP-L"), "{}", error());
    write(&manifests, &root.join("clip_l.safetensors"), "clip_l");
    assert!(error().contains("OpenCLIP"), "{}", error());
    write(&manifests, &root.join("clip_g.safetensors"), "clip_g");
    detect(root).unwrap();
}
