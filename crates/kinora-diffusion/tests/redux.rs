//! FLUX.1 Redux in the places where people have it: the folder of the reference library, the files
//! of its authors and of ComfyUI, the download cache; with the base model beside it.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{cases, copy_parts, open, params, read, run, transformer, write_safetensors};
use kinora_diffusion::pipelines::{FluxOptions, ImageParams, LikeImage, RgbImage};
use kinora_weights::{FluxKind, WeightSet, detect};
use serde_json::Value;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, target) = entry.map(|e| (e.path(), to.join(e.file_name()))).unwrap();
        match entry.is_dir() {
            true => copy(&entry, &target),
            false => drop(fs::copy(&entry, target).unwrap()),
        }
    }
}

fn case() -> PathBuf {
    cases().join("flux_redux")
}

/// The recorded model, with the numbers that no header tells as a header without a configuration is
/// read: heads of 64, and nothing of a picture that no patch covers.
fn write_folder(root: &Path) {
    copy(&case().join("model"), root);
    let path = root.join("image_encoder/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["num_attention_heads"] = 1.into();
    config["image_size"] = 28.into();
    fs::write(path, config.to_string()).unwrap();
}

/// The projection and the vision encoder as single files.
fn write_files(root: &Path) {
    fs::create_dir_all(root).unwrap();
    let folder = case().join("model");
    for (part, file) in [
        ("image_embedder", "flux1-redux-dev.safetensors"),
        ("image_encoder", "sigclip_vision_patch14_384.safetensors"),
    ] {
        let tensors = read(&WeightSet::open_folder(&folder.join(part)).unwrap());
        write_safetensors(&root.join(file), &tensors, Value::Null);
    }
}

fn write_base(root: &Path) {
    copy(&case().join("FLUX.1-dev"), root);
}

fn picture(width: u32, height: u32) -> RgbImage {
    let rgb = (0..width * height)
        .flat_map(|i| {
            let (x, y) = (i % width, i / width);
            [(x * 5) as u8, (y * 3) as u8, if x > y { 200 } else { 40 }]
        })
        .collect();
    RgbImage { width, height, rgb }
}

fn like(prompt: &str, pictures: &[(u32, u32)]) -> ImageParams {
    let likes = pictures.iter().map(|(width, height)| LikeImage {
        image: picture(*width, *height),
        weight: 0.75,
        pooled_weight: 0.5,
    });
    ImageParams {
        flux: FluxOptions {
            likes: likes.collect(),
            ..FluxOptions::default()
        },
        ..params(prompt)
    }
}

#[test]
fn every_place_gives_the_bits_of_the_folder() {
    let place = tempfile::tempdir().unwrap();
    let root = |name: &str| place.path().join(name);
    write_base(&root("FLUX.1-dev"));
    write_folder(&root("FLUX.1-Redux-dev"));
    write_files(&root("redux"));
    // Everything in one folder, called so.
    let all = root("all-of-redux");
    copy_parts(&case().join("FLUX.1-dev"), &all);
    let (canonical, _) = transformer(&case().join("FLUX.1-dev"));
    write_safetensors(&all.join("flux1-dev.safetensors"), &canonical, Value::Null);
    write_files(&all);
    // The download cache.
    let hub = root("hub");
    let revision = |name: &str| {
        let folder = hub.join(format!("models--black-forest-labs--{name}"));
        fs::create_dir_all(folder.join("refs")).unwrap();
        fs::write(folder.join("refs/main"), "0a1b\n").unwrap();
        folder.join("snapshots/0a1b")
    };
    write_base(&revision("FLUX.1-dev"));
    let cached = revision("FLUX.1-Redux-dev");
    write_folder(&cached);

    let wanted = like("a red car", &[(90, 60), (33, 47)]);
    let expected = run(&mut open(&root("FLUX.1-Redux-dev")), &wanted);
    assert!(!expected.is_empty() && expected.iter().all(|number| number.is_finite()));
    for place in [
        root("redux"),
        root("redux/flux1-redux-dev.safetensors"),
        all.clone(),
        cached,
    ] {
        let layout = detect(&place).unwrap();
        assert_eq!(layout.variant, "redux");
        for file in &layout.weights {
            let path = layout.weight_path(file);
            assert!(path.is_file() && !file.file.starts_with('/'), "{file:?}");
        }
        assert!(run(&mut open(&place), &wanted) == expected, "{place:?}");
    }
    // Words count, and so does every picture.
    let mut pipeline = open(&root("redux"));
    let mut others = vec![expected];
    for (prompt, pictures) in [
        ("", &[(90, 60), (33, 47)][..]),
        ("a red car", &[(90, 60)]),
        ("a red car", &[(33, 47)]),
    ] {
        let latents = run(&mut pipeline, &like(prompt, pictures));
        assert!(
            others.iter().all(|other| *other != latents),
            "{prompt} {pictures:?}"
        );
        others.push(latents);
    }
}

#[test]
fn what_is_missing_is_told() {
    let place = tempfile::tempdir().unwrap();
    let root = |name: &str| place.path().join(name);
    let fault = |path: &Path| detect(path).unwrap_err().to_string();
    write_folder(&root("FLUX.1-Redux-dev"));
    let error = fault(&root("FLUX.1-Redux-dev"));
    assert!(error.contains("FLUX.1 dev"), "{error}");

    write_base(&root("flux-DEV"));
    assert_eq!(
        detect(&root("FLUX.1-Redux-dev"))
            .unwrap()
            .flux()
            .unwrap()
            .kind,
        FluxKind::Redux
    );
    write_files(&root("files"));
    fs::remove_file(root("files/sigclip_vision_patch14_384.safetensors")).unwrap();
    let error = fault(&root("files"));
    assert!(error.contains("SigLIP"), "{error}");

    let config = root("FLUX.1-Redux-dev/image_encoder/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("\"hidden_size\":24", "\"hidden_size\":32"),
    )
    .unwrap();
    let error = fault(&root("FLUX.1-Redux-dev"));
    assert!(error.contains("32"), "{error}");
    fs::write(
        &config,
        text.replace("\"image_size\":28", "\"image_size\":3"),
    )
    .unwrap();
    assert!(fault(&root("FLUX.1-Redux-dev")).contains("image_size 3"));
}

/// Who keeps the projection beside a whole model still has that model.
#[test]
fn a_model_stays_what_it_is_beside_the_projection() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("flux-dev");
    copy_parts(&case().join("FLUX.1-dev"), &root);
    let (canonical, _) = transformer(&case().join("FLUX.1-dev"));
    write_safetensors(&root.join("flux1-dev.safetensors"), &canonical, Value::Null);
    write_files(&root);
    assert_eq!(detect(&root).unwrap().variant, "dev");
    let named = detect(&root.join("flux1-redux-dev.safetensors")).unwrap();
    assert_eq!(named.variant, "redux");
}

#[test]
fn only_redux_takes_pictures_to_be_like() {
    let refuse = |root: &Path, params: &ImageParams| {
        let mut last = common::Last::default();
        let jobs = std::slice::from_ref(params);
        let limits = kinora_diffusion::pipelines::RunLimits::NONE;
        let error = open(root).run(jobs, limits, &mut last).unwrap_err();
        error.to_string()
    };
    let error = refuse(&cases().join("flux_dev/model"), &like("x", &[(8, 8)]));
    assert!(error.contains("takes no picture"), "{error}");
    let root = case().join("model");
    let error = refuse(&root, &params("x"));
    assert!(error.contains("needs a picture"), "{error}");
    let mut broken = like("x", &[(8, 8)]);
    broken.flux.likes[0].weight = f32::NAN;
    assert!(refuse(&root, &broken).contains("finite"));
    broken = like("x", &[(8, 8)]);
    broken.flux.likes[0].image.rgb.pop();
    assert!(refuse(&root, &broken).contains("8 × 8"));
}
