//! The catalogue over model folders on disk: what is installed, found, faulty, and planned.

#[path = "../../kinora-weights/tests/common/models.rs"]
mod common;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use common::{
    Tensors, bfl_transformer, clip, encode, ldm_vae, t5, write, write_folders, write_tokenizers,
};
use kinora_catalog::{Catalogue, Error, Folders, find_starter};
use kinora_core::{
    Family, ImageFormat, Mode, Model, ModelId, ModelSource, OutputPlan, Plan, PlannedModel, Rng,
    Sampler, Schedule, Seed, Size,
    plan::{NUMERICS, PLAN_VERSION},
};
use kinora_weights::{Component, HashCache, RunSize, WeightSet, detect};

/// A tiny FLUX.1 in the authors' layout.
fn write_model(root: &Path, has_guidance: bool) {
    write(
        &root.join("flux1.safetensors"),
        encode(&bfl_transformer(has_guidance)),
    );
    write(&root.join("ae.safetensors"), encode(&ldm_vae()));
    write(&root.join("clip_l.safetensors"), encode(&clip()));
    write(&root.join("t5.safetensors"), encode(&t5()));
    write_tokenizers(root);
}

fn load(models: &[&Path]) -> Catalogue {
    Catalogue::load(Folders {
        models: models.iter().map(|path| path.to_path_buf()).collect(),
        ..Folders::default()
    })
}

fn model<'a>(catalogue: &'a Catalogue, id: &str) -> &'a Model {
    catalogue.model(&ModelId::new(id)).unwrap()
}

fn describe(catalogue: &Catalogue, root: &Path) -> String {
    let mut text = String::new();
    for model in catalogue.models() {
        let state = match (&model.fault, model.is_installed) {
            (Some(fault), _) => format!("cannot be used: {fault}"),
            (None, true) => "installed".to_owned(),
            (None, false) => "not installed".to_owned(),
        };
        writeln!(
            text,
            "{} ({:?}, {}) {state}",
            model.id, model.source, model.variant
        )
        .unwrap();
    }
    for fault in catalogue.faults() {
        writeln!(text, "! {fault}").unwrap();
    }
    text.replace(root.to_str().unwrap(), "")
}

#[test]
fn the_built_in_entries_are_sound() {
    let catalogue = load(&[]);
    assert_eq!(catalogue.faults(), []);
    insta::assert_debug_snapshot!(catalogue.models().collect::<Vec<_>>());
    for id in ["flux-schnell", "flux-dev"] {
        let can = &model(&catalogue, id).capabilities;
        assert_eq!((can.steps.min, can.steps.max), (1, 100));
        assert_eq!((can.size.min, can.size.max), (256, 2048));
        assert_eq!(can.prompt_chars, 2000);
    }
    let guidance = model(&catalogue, "flux-dev").capabilities.guidance.unwrap();
    assert_eq!((guidance.min, guidance.max), (0.0, 20.0));
}

/// The model inside the repository is what its entry says, at the place where it is looked for.
#[test]
fn the_starter_is_installed() {
    let starter = find_starter(None, None).unwrap();
    let catalogue = Catalogue::load(Folders {
        starter: Some(starter),
        ..Folders::default()
    });
    let id = ModelId::new("starter");
    let starter = catalogue.model(&id).unwrap();
    assert_eq!(starter.fault, None);
    assert!(starter.is_installed && starter.source == ModelSource::BuiltIn);
    assert!(starter.bytes <= 16_000_000, "{} bytes", starter.bytes);
    let layout = catalogue.layout(&id).unwrap();
    let size = &starter.capabilities.size;
    assert_eq!(size.multiple % layout.size_step(), 0);
    assert_eq!((size.default.width, size.default.height), (256, 256));
    assert!(
        size.presets
            .iter()
            .any(|preset| (preset.width, preset.height) == (320, 192))
    );
    assert!(starter.capabilities.text_tokens as usize <= layout.max_text_tokens().unwrap());
    assert!(starter.capabilities.guidance.is_none());
}

/// The video model inside the repository is what its entry says: it needs a picture and no guidance.
#[test]
fn the_video_starter_is_installed() {
    let catalogue = Catalogue::load(Folders {
        starter: find_starter(None, None),
        ..Folders::default()
    });
    let id = ModelId::new("starter-video");
    let starter = catalogue.model(&id).unwrap();
    assert_eq!(starter.fault, None);
    assert!(starter.is_installed && starter.source == ModelSource::BuiltIn);
    assert!(starter.bytes <= 16_000_000, "{} bytes", starter.bytes);
    let layout = catalogue.layout(&id).unwrap();
    let can = &starter.capabilities;
    assert_eq!(can.size.multiple % layout.size_step(), 0);
    assert_eq!(can.modes, [Mode::ImageToVideo]);
    assert!(can.true_cfg.is_none() && can.guidance.is_none());
    let rule = can.video.as_ref().unwrap();
    assert_eq!((rule.frames.default, rule.frame_step), (33, 4));
}

#[test]
fn folders_are_looked_through() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (first, second) = (root.join("first"), root.join("second"));
    // Entries, by one of their names, whatever the case, one of them a level deeper.
    write_model(&first.join("Flux.1-Schnell"), false);
    write_model(&first.join("black-forest-labs/FLUX.1-dev"), true);
    // The same model again, in a folder that comes later: found, under a name of its own.
    write_model(&second.join("flux-dev"), true);
    // What no entry speaks of.
    write_model(&second.join("My Own, Fine Tune!"), false);
    write_model(&second.join("my own fine tune"), true);
    // Neither models nor faults.
    write(&second.join("notes/readme.txt"), "hello");
    write_model(&second.join(".trash"), true);
    // Faults.
    write(
        &second.join("old.ckpt"),
        b"\x80\x02}q\x00X\x05\x00\x00\x00model",
    );
    write(
        &second.join("pickled/model.ckpt"),
        b"PK\x03\x04....data.pkl....",
    );
    write(
        &second.join("other/model_index.json"),
        r#"{"_class_name":"StableDiffusionXLPipeline"}"#,
    );
    let missing = root.join("missing");
    let catalogue = load(&[&first, &second, &missing]);
    insta::assert_snapshot!(describe(&catalogue, root));

    let found = model(&catalogue, "my-own-fine-tune");
    assert_eq!(found.name, "My Own, Fine Tune!");
    assert_eq!(found.capabilities, {
        let mut like = model(&catalogue, "flux-schnell").capabilities.clone();
        like.text_tokens = found.capabilities.text_tokens;
        like
    });
    assert!(
        model(&catalogue, "my-own-fine-tune-2")
            .capabilities
            .guidance
            .is_some()
    );
}

/// The cache that other programs fill: an entry's own repository is installed, an unknown pipeline
/// of a known family is found, and everything else in there is none of our business.
#[test]
fn the_download_cache_is_looked_through() {
    let folder = tempfile::tempdir().unwrap();
    let hub = folder.path();
    let add = |name: &str, revision: &str, has_guidance: bool| {
        let root = hub.join(name).join("snapshots").join(revision);
        write_model(&root, has_guidance);
        write(
            &root.join("model_index.json"),
            r#"{"_class_name":"FluxPipeline"}"#,
        );
        write(&hub.join(name).join("refs/main"), revision);
        root
    };
    let bfl = hub.join("bfl");
    write_model(&bfl, true);
    let bfl = detect(&bfl).unwrap();
    let sets = Component::CORE.map(|component| read_all(&bfl.open(component).unwrap()));
    let write_reference = |root: &Path| write_folders(root, sets.each_ref(), true);

    let dev = add("models--black-forest-labs--FLUX.1-dev", "0a1b2c", true);
    write_reference(&dev);
    let tune = add("models--someone--fine-tune", "ffff", true);
    write_reference(&tune);
    add("models--someone--half-a-download", "1234", true);
    write(&hub.join("models--someone--llm/refs/main"), "5678");
    write(
        &hub.join("models--someone--outside/refs/main"),
        "../../../dev",
    );
    fs::remove_dir_all(hub.join("bfl")).unwrap();
    let catalogue = Catalogue::load(Folders {
        hub: Some(hub.to_owned()),
        ..Folders::default()
    });
    insta::assert_snapshot!(describe(&catalogue, hub));
    assert_eq!(
        catalogue.layout(&ModelId::new("flux-dev")).unwrap().root(),
        dev
    );

    // A model that was named as if it were a model folder is found all the same.
    let catalogue = load(&[&tune]);
    assert_eq!(catalogue.faults(), []);
    assert!(model(&catalogue, "ffff").is_installed);
}

/// Tiny models of the reference library under the names of published ones.
#[test]
fn ltx_models_are_installed_with_their_sound() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (case, name) in [
        ("ltx_video", "LTX-Video"),
        ("ltx_video_095", "LTX-Video-0.9.5"),
        ("ltx_video_095", "LTX-Video-0.9.6-distilled"),
        ("ltx2", "LTX-2"),
        ("ltx2", "our LTX-2 tune (distilled)"),
        ("ltx23", "LTX-2.3-Diffusers"),
        // Not what its name says.
        ("ltx23", "LTX-2-19b-distilled"),
    ] {
        let case = format!("../../tools/goldens/cases/{case}/model");
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join(case);
        copy(&case, &root.join(name));
    }
    let catalogue = load(&[root]);
    assert_eq!(catalogue.faults(), []);
    for (id, sound, schedule) in [
        ("ltx-video-0.9", false, Schedule::Automatic),
        ("ltx-video-0.9.5", false, Schedule::LinearQuadratic),
        (
            "ltx-video-0.9.6-distilled",
            false,
            Schedule::LinearQuadratic,
        ),
        ("ltx-2", true, Schedule::Automatic),
        ("our-ltx-2-tune-distilled", true, Schedule::LinearQuadratic),
        ("ltx-2.3", true, Schedule::Automatic),
    ] {
        let found = model(&catalogue, id);
        assert!(found.is_installed, "{id}: {:?}", found.fault);
        let can = &found.capabilities;
        let rule = can.video.as_ref().unwrap();
        assert_eq!((rule.sound, rule.frame_step), (sound, 8), "{id}");
        assert_eq!((can.size.multiple, can.schedules[0]), (32, schedule));
        assert_eq!(can.modes, [Mode::ImageToVideo, Mode::TextToVideo]);
        // Distilled weights are not guided.
        assert_eq!(can.true_cfg.is_none(), id.contains("distilled"), "{id}");
    }
    let fault = model(&catalogue, "ltx-2-distilled").fault.clone();
    assert!(fault.unwrap().contains("the files are LTX-2 2.3"));

    // Longer clips, and slower ones, whose sound is longer, need more.
    let need = |frames, fps| {
        let layout = catalogue.layout(&ModelId::new("ltx-2")).unwrap();
        layout.estimate(RunSize {
            size: (768, 512),
            frames,
            seen_frames: frames,
            fps,
            text_tokens: 1024,
            batch: 1,
            bytes_per_number: 2,
            kept_passes: 0,
        })
    };
    assert!(need(241, 24).activations > need(121, 24).activations);
    assert!(need(121, 12).activations > need(121, 24).activations);
    // Tiles take less, but what waits for the last of them grows with the clip.
    assert!(need(1, 24).tiled_decode < need(1, 24).decode);
    assert!(need(121, 24).tiled_decode <= need(121, 24).decode);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => fs::copy(entry.path(), target).map(drop).unwrap(),
        }
    }
}

fn read_all(set: &WeightSet) -> Tensors {
    set.tensors()
        .map(|(name, view)| {
            let bytes = set.read(name).unwrap();
            (name.to_owned(), (view.shape.clone(), bytes))
        })
        .collect()
}

#[test]
fn a_model_that_comes_or_goes_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalogue = load(&[folder.path()]);
    assert!(!model(&catalogue, "flux-dev").is_installed);
    write_model(&folder.path().join("flux-dev"), true);
    catalogue.reload();
    let dev = model(&catalogue, "flux-dev");
    assert!(dev.is_installed && dev.fault.is_none());
    // The files' own size, no longer the announced one.
    assert!(dev.bytes < 10_000_000);
    assert_eq!(dev.source, ModelSource::Catalogue);
    fs::remove_dir_all(folder.path().join("flux-dev")).unwrap();
    catalogue.reload();
    assert!(!model(&catalogue, "flux-dev").is_installed);
    assert_eq!(model(&catalogue, "flux-dev").bytes, 33_700_000_000);
}

#[test]
fn an_entry_with_the_wrong_or_broken_files_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_model(&root.join("flux-dev"), false);
    write_model(&root.join("flux-schnell"), false);
    fs::remove_file(root.join("flux-schnell/ae.safetensors")).unwrap();
    let catalogue = load(&[root]);
    insta::assert_snapshot!(describe(&catalogue, root));
    let error = catalogue
        .plan(&ModelId::new("flux-dev"), &HashCache::default())
        .unwrap_err();
    assert!(matches!(error, Error::Faulty { .. }));
}

#[test]
fn an_entry_becomes_part_of_a_plan() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("flux-schnell");
    write_model(&root, false);
    let catalogue = load(&[folder.path()]);
    let id = ModelId::new("flux-schnell");
    let mut hashes = HashCache::load(&folder.path().join("hashes.json"));
    let sha256 = hashes.hash(&root.join("ae.safetensors")).unwrap();
    let plan = catalogue.plan(&id, &hashes).unwrap();
    assert_eq!(plan.root, root);
    assert_eq!(
        (plan.name.as_str(), plan.variant.as_str()),
        ("FLUX.1 schnell", "schnell")
    );
    assert_eq!(plan.weights.len(), 4);
    for file in &plan.weights {
        assert_eq!(
            file.bytes,
            fs::metadata(root.join(&file.file)).unwrap().len()
        );
        let known = (file.component == "vae").then(|| sha256.clone());
        assert_eq!(file.sha256, known, "{}", file.file);
    }
    let plan = |id: &str| catalogue.plan(&ModelId::new(id), &hashes);
    assert_eq!(
        plan("flux-dev"),
        Err(Error::NotInstalled(ModelId::new("flux-dev")))
    );
    assert_eq!(
        plan("nothing"),
        Err(Error::UnknownModel(ModelId::new("nothing")))
    );
}

#[test]
fn the_need_for_memory_grows_with_the_work() {
    let folder = tempfile::tempdir().unwrap();
    write_model(&folder.path().join("flux-dev"), true);
    let catalogue = load(&[folder.path()]);
    let plan = |id: &str, side: u32, text_tokens: u32| Plan {
        version: PLAN_VERSION,
        numerics: NUMERICS.to_owned(),
        mode: Mode::TextToImage,
        model: PlannedModel {
            id: ModelId::new(id),
            ..catalogue
                .plan(&ModelId::new("flux-dev"), &HashCache::default())
                .unwrap()
        },
        prompt: "a cat".to_owned(),
        template: None,
        negative_prompt: String::new(),
        source: None,
        draft: None,
        parent: None,
        loras: Vec::new(),
        video: None,
        size: Size {
            width: side,
            height: side,
        },
        steps: 4,
        guidance: Some(3.5),
        true_cfg: None,
        step_cache: None,
        seed: Seed(0),
        rng: Rng::Cpu,
        text_tokens,
        sampler: Sampler::Euler,
        schedule: Schedule::FlowMatch,
        output: OutputPlan {
            stem: "cat".to_owned(),
            format: ImageFormat::Png.into(),
        },
    };
    let need = |side, batch, bytes| {
        let plan = plan("flux-dev", side, 512);
        catalogue.estimate(&plan, batch, bytes).unwrap()
    };
    let one = need(1024, 1, 4);
    assert!(one.weights >= model(&catalogue, "flux-dev").memory_bytes);
    assert!(one.minimum() >= one.weights + one.activations);
    assert!(need(1024, 4, 4).activations > 2 * one.activations);
    assert!(need(2048, 1, 4).decode > one.decode);
    assert!(need(1024, 1, 2).decode < one.decode);
    assert!(one.tiled_decode < one.decode);
    // Nothing overflows, whatever is asked.
    let most = catalogue.estimate(&plan("flux-dev", u32::MAX, u32::MAX), usize::MAX, u64::MAX);
    assert_eq!(most.unwrap().minimum(), u64::MAX);
    assert_eq!(catalogue.estimate(&plan("flux-schnell", 64, 1), 1, 4), None);
}

#[test]
fn the_starter_is_found_beside_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let found = |program: &str| find_starter(None, Some(&root.join(program))).unwrap();
    let add = |starter: &str| {
        for part in ["image", "video"] {
            write(
                &root.join(starter).join(part).join("model_index.json"),
                "{}",
            );
        }
        root.join(starter)
    };
    // In a source tree, above the build folder.
    let tree = add("tree/starter");
    fs::create_dir_all(root.join("tree/target/release")).unwrap();
    assert_eq!(found("tree/target/release/kinora"), tree);
    // Installed by a package.
    let shared = add("usr/share/kinora/starter");
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    assert_eq!(found("usr/bin/kinora"), shared);
    // Unpacked from an archive.
    let beside = add("unpacked/starter");
    // A copy of a time when there was one starter only is passed over.
    let old = root.join("tree/target/release/starter/image/model_index.json");
    write(&old, "{}");
    assert_eq!(found("tree/target/release/kinora"), tree);
    assert_eq!(found("unpacked/kinora"), beside);
    // What was said counts, even when nothing is there.
    let said = PathBuf::from("/nowhere");
    assert_eq!(
        find_starter(Some(&said), Some(&root.join("usr/bin/kinora"))),
        Some(said)
    );
}

#[test]
fn the_two_halves_of_a_pair_are_one_model() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tools/goldens/cases/wan22_t2v_a14b/model");
    let models = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        let to = models.path().join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(case.join(from), to).unwrap();
    };
    let weights = "diffusion_pytorch_model.safetensors";
    copy(
        &format!("transformer/{weights}"),
        "wan_high_noise.safetensors",
    );
    copy(
        &format!("transformer_2/{weights}"),
        "wan_low_noise.safetensors",
    );
    copy("transformer/config.json", "transformer/config.json");
    copy("tokenizer/tokenizer.json", "tokenizer/tokenizer.json");
    for part in ["vae/config.json", "text_encoder/config.json"] {
        copy(part, part);
    }
    copy(&format!("vae/{weights}"), &format!("vae/{weights}"));
    copy(
        "text_encoder/model.safetensors",
        "text_encoder/model.safetensors",
    );
    let catalogue = load(&[models.path()]);
    let installed: Vec<_> = (catalogue.models())
        .filter(|model| model.family == Family::Wan && model.is_installed)
        .map(|model| model.name.clone())
        .collect();
    assert_eq!(installed.len(), 1, "{installed:?}");
}
