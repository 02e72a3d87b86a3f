//! Trees of files as ComfyUI, A1111 and Forge keep them, at the true names, shapes and sizes of what
//! people have in them. The files are sparse: only their headers exist.

#[path = "../../kinora-weights/tests/common/models.rs"]
mod models;
#[allow(dead_code)]
#[path = "../../kinora-weights/tests/common/recorded.rs"]
mod recorded;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use kinora_catalog::{
    Catalogue, Error, Folders,
    loras::{find_lora, list_loras},
};
use kinora_core::{Family, ModelId, PlannedModel};
use kinora_weights::{HashCache, PartSources, recognise_with};
use models::{encode, write, write_sparse};
use recorded::{Manifests, read, unfold};

struct Tree {
    manifests: Manifests,
    folder: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        Self {
            manifests: read("manifests.json.gz"),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A published file under a name.
    fn add(&self, name: &str, file: &str) -> &Self {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut stored = unfold(&self.manifests.files[file].stored);
        if file == "umt5_xxl" {
            // As ComfyUI's files carry it.
            stored.insert("spiece_model".to_owned(), vec![1000]);
        }
        write_sparse(&path, stored.into_iter().collect());
        self
    }

    fn load(&self, roots: &[&str]) -> Catalogue {
        Catalogue::load(Folders {
            models: roots.iter().map(|root| self.root().join(root)).collect(),
            ..Folders::default()
        })
    }

    /// Faults without the folder's own name.
    fn faults(&self, catalogue: &Catalogue) -> Vec<String> {
        let root = format!("{}/", self.root().display());
        let faults = catalogue.faults().iter();
        faults
            .map(|fault| fault.to_string().replace(&root, ""))
            .collect()
    }
}

fn installed(catalogue: &Catalogue) -> Vec<(String, String)> {
    let mut found: Vec<_> = (catalogue.models())
        .filter(|model| model.is_installed)
        .map(|model| (model.id.to_string(), model.variant.clone()))
        .collect();
    found.sort();
    found
}

fn plan(catalogue: &Catalogue, id: &str) -> PlannedModel {
    let hashes = HashCache::default();
    catalogue.plan(&ModelId::new(id), &hashes).unwrap()
}

fn files(plan: &PlannedModel) -> Vec<(&str, &str)> {
    let weights = plan.weights.iter();
    weights
        .map(|file| (file.component.as_str(), file.file.as_str()))
        .collect()
}

fn lora() -> Vec<u8> {
    let name = "transformer.single_transformer_blocks.0.attn.to_q";
    let tensors = [("lora_A", [2, 4]), ("lora_B", [4, 2])].map(|(half, shape)| {
        let tensor = (shape.to_vec(), vec![0; 16]);
        (format!("{name}.{half}.weight"), tensor)
    });
    encode(&tensors.into_iter().collect())
}

fn comfy() -> Tree {
    let tree = Tree::new();
    tree.add("models/checkpoints/dreamshaper_8.safetensors", "sd15")
        .add("models/checkpoints/XL/juggernaut.safetensors", "sdxl")
        .add("models/checkpoints/XL/refiner.safetensors", "sdxl_refiner")
        .add(
            "models/checkpoints/ltxv-2b-0.9.6-dev.safetensors",
            "ltx_2b_095",
        )
        .add("models/diffusion_models/flux1-dev.safetensors", "flux_dev")
        .add("models/diffusion_models/flux-fill.safetensors", "flux_fill")
        .add(
            "models/diffusion_models/wan_t2v.safetensors",
            "wan21_t2v_1b",
        )
        .add(
            "models/diffusion_models/wan_i2v.safetensors",
            "wan21_i2v_14b_comfy",
        )
        .add(
            "models/diffusion_models/w22_high_noise.safetensors",
            "wan22_i2v_a14b",
        )
        .add(
            "models/diffusion_models/w22_low_noise.safetensors",
            "wan22_i2v_a14b",
        )
        .add(
            "models/diffusion_models/w22_5b.safetensors",
            "wan22_ti2v_5b",
        )
        .add("models/vae/ae.safetensors", "flux_vae")
        .add("models/vae/sdxl_vae.safetensors", "sd_vae")
        .add("models/vae/vae-ft-mse-840000.safetensors", "sd_vae")
        .add("models/vae/wan_2.1_vae.safetensors", "wan21_vae")
        .add("models/vae/wan2.2_vae.safetensors", "wan22_vae")
        .add("models/text_encoders/clip_l.safetensors", "clip_l")
        .add("models/text_encoders/t5xxl_fp16.safetensors", "t5_xxl")
        .add("models/text_encoders/t5xxl_other.safetensors", "t5_xxl")
        .add("models/text_encoders/umt5_xxl_fp16.safetensors", "umt5_xxl")
        .add(
            "models/clip_vision/clip_vision_h.safetensors",
            "clip_vision_h",
        );
    let models = tree.root().join("models");
    write(&models.join("loras/ink.safetensors"), lora());
    write(&models.join("upscale_models/4x.pth"), b"\x80\x02}q\x00.");
    write(&models.join("embeddings/style.pt"), b"\x80\x02}q\x00.");
    write(&models.join("checkpoints/old.ckpt"), b"\x80\x02}q\x00.");
    write(&models.join("checkpoints/put_checkpoints_here"), "");
    tree
}

#[test]
fn a_tree_of_comfyui_is_listed_and_its_models_take_parts_from_its_folders() {
    let tree = comfy();
    // Named by the program's folder, or by the one inside.
    for root in ["", "models"] {
        let catalogue = tree.load(&[root]);
        let found = installed(&catalogue);
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(id, variant)| (id.as_str(), variant.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("dreamshaper_8", "1.5"),
                ("flux-dev", "dev"),
                ("flux-fill", "fill"),
                ("juggernaut", "base"),
                ("ltxv-2b-0.9.6-dev", "2b-0.9.5"),
                ("refiner", "refiner"),
                ("w22_5b", "2.2-ti2v-5b"),
                ("w22_high_noise", "2.2-i2v-a14b"),
                ("wan_i2v", "2.1-i2v-14b"),
                ("wan_t2v", "2.1-t2v-1.3b"),
            ]
        );
        let faults = tree.faults(&catalogue);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("models/checkpoints/old.ckpt: failed to read"));
        assert!(faults[0].contains("it is a pickle"));

        assert_eq!(
            files(&plan(&catalogue, "flux-dev")),
            [
                ("transformer", "flux1-dev.safetensors"),
                ("vae", "vae/ae.safetensors"),
                ("text_encoder", "text_encoders/clip_l.safetensors"),
                ("text_encoder_2", "text_encoders/t5xxl_fp16.safetensors"),
            ]
        );
        assert_eq!(
            files(&plan(&catalogue, "w22_high_noise")),
            [
                ("transformer", "w22_high_noise.safetensors"),
                ("transformer_2", "w22_low_noise.safetensors"),
                ("vae", "vae/wan_2.1_vae.safetensors"),
                ("text_encoder", "text_encoders/umt5_xxl_fp16.safetensors"),
            ]
        );
        let plan = plan(&catalogue, "wan_i2v");
        assert_eq!(
            files(&plan)[3],
            ("image_encoder", "clip_vision/clip_vision_h.safetensors")
        );
        // The engine finds the very same files by what the plan says, without looking around.
        let sources = PartSources {
            chosen: plan.parts.clone(),
            shelf: Vec::new(),
        };
        let again = recognise_with(&plan.root, &sources).unwrap();
        assert_eq!(again.weights(), plan.weights);
        assert_eq!(again.elsewhere(), &plan.parts);
        // A whole checkpoint needs nothing from elsewhere.
        let whole = self::plan(&catalogue, "juggernaut");
        assert_eq!(files(&whole), [("unet", "juggernaut.safetensors")]);
        assert!(whole.parts.is_empty());
    }
}

#[test]
fn a_file_can_be_chosen_for_a_part_by_its_name() {
    let tree = comfy();
    let catalogue = tree.load(&[""]);
    let id = ModelId::new("juggernaut");
    let parts = catalogue.components(&id).unwrap();
    let names: Vec<&str> = parts.iter().map(|part| part.component).collect();
    assert_eq!(names, ["vae", "text_encoder", "text_encoder_2"]);
    let names: Vec<&str> = (parts[0].choices.iter())
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("vae/"))
        .collect();
    assert_eq!(
        names,
        [
            "vae/sdxl_vae.safetensors",
            "vae/vae-ft-mse-840000.safetensors"
        ]
    );
    assert_eq!(parts[0].file, "juggernaut.safetensors");
    let choose = |id: &str, part: &str, name: &str| {
        let chosen = BTreeMap::from([(part.to_owned(), name.to_owned())]);
        catalogue.plan_with(&ModelId::new(id), &chosen, &HashCache::default())
    };
    for name in [
        "vae/sdxl_vae.safetensors",
        "sdxl_vae.safetensors",
        "SDXL_vae",
    ] {
        let plan = choose("juggernaut", "vae", name).unwrap();
        assert_eq!(
            files(&plan),
            [
                ("unet", "juggernaut.safetensors"),
                ("vae", "vae/sdxl_vae.safetensors")
            ]
        );
        assert_eq!(plan.components["vae"], "vae/sdxl_vae.safetensors");
        let path: &PathBuf = &plan.parts["vae"];
        assert!(path.ends_with("models/vae/sdxl_vae.safetensors"));
        let sources = PartSources {
            chosen: plan.parts.clone(),
            shelf: Vec::new(),
        };
        let again = recognise_with(&plan.root, &sources).unwrap();
        assert_eq!(
            (again.weights(), again.family()),
            (&*plan.weights, Family::Sdxl)
        );
    }
    let other = choose("flux-dev", "text_encoder_2", "t5xxl_other").unwrap();
    assert_eq!(
        files(&other)[3],
        ("text_encoder_2", "text_encoders/t5xxl_other.safetensors")
    );
    // One of the two experts.
    let halves = choose("w22_high_noise", "transformer_2", "w22_high_noise").unwrap();
    assert_eq!(halves.parts["transformer_2"], halves.root);

    let refuse = |id: &str, part: &str, name: &str| choose(id, part, name).unwrap_err();
    assert!(matches!(
        refuse("flux-dev", "transformer", "flux1-dev"),
        Error::UnknownPart { known, .. } if known == ["vae", "text_encoder", "text_encoder_2"]
    ));
    for (part, name, why) in [
        ("vae", "nothing", "there is no such file"),
        ("vae", "../../etc/passwd", "there is no such file"),
        (
            "vae",
            "sdxl_vae",
            "it holds a picture VAE, which does not fit there",
        ),
        (
            "vae",
            "clip_l",
            "it holds a CLIP text encoder, which does not fit there",
        ),
        (
            "text_encoder_2",
            "umt5_xxl_fp16",
            "it holds a T5 text encoder, which",
        ),
    ] {
        let Error::UnknownFile { reason, .. } = refuse("flux-dev", part, name) else {
            panic!("{part} {name}");
        };
        assert!(reason.starts_with(why), "{name}: {reason}");
    }
}

#[test]
fn a_tree_of_a1111_and_one_of_its_own_are_searched_together() {
    let tree = Tree::new();
    tree.add("webui/models/Stable-diffusion/anime.safetensors", "sd15")
        .add("webui/models/Stable-diffusion/sub/xl.safetensors", "sdxl")
        .add("webui/models/VAE/vae-ft-mse.safetensors", "sd_vae")
        .add("webui/models/VAE/ae.safetensors", "flux_vae")
        .add("webui/models/text_encoder/clip_l.safetensors", "clip_l")
        .add("webui/models/text_encoder/t5xxl_fp16.safetensors", "t5_xxl")
        .add("own/flux1-schnell.safetensors", "flux_schnell");
    write(
        &tree.root().join("webui/models/Lora/ink.safetensors"),
        lora(),
    );
    write(&tree.root().join("own/loras/ink.safetensors"), lora());
    write(&tree.root().join("own/loras/paint.safetensors"), lora());
    let catalogue = tree.load(&["own", "webui"]);
    assert_eq!(tree.faults(&catalogue), Vec::<String>::new());
    let found = installed(&catalogue);
    let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["anime", "flux-schnell", "xl"]);
    assert_eq!(
        files(&plan(&catalogue, "flux-schnell"))[1..],
        [
            ("vae", "VAE/ae.safetensors"),
            ("text_encoder", "text_encoder/clip_l.safetensors"),
            ("text_encoder_2", "text_encoder/t5xxl_fp16.safetensors"),
        ]
    );
    // Adapters of both; the first folder's counts where names are the same.
    let folders = ["own", "webui"].map(|name| tree.root().join(name));
    let names: Vec<_> = list_loras(&folders)
        .into_iter()
        .map(|lora| lora.name)
        .collect();
    assert_eq!(names, ["ink", "paint"]);
    let ink = find_lora(&folders, "ink").unwrap();
    assert!(ink.path.starts_with(tree.root().join("own")));
}

#[test]
fn a_flat_folder_lists_each_checkpoint_and_says_where_a_lora_belongs() {
    let tree = Tree::new();
    tree.add("one.safetensors", "sd15")
        .add("two.safetensors", "sdxl")
        .add("three.safetensors", "flux_dev_comfy")
        .add("nested/four.safetensors", "sd21")
        .add("nested/five.safetensors", "sd15_inpaint")
        .add("ae.safetensors", "flux_vae")
        .add("clip_l.safetensors", "clip_l")
        .add("t5.safetensors", "t5_xxl");
    write(&tree.root().join("ink.safetensors"), lora());
    let catalogue = tree.load(&[""]);
    let found = installed(&catalogue);
    let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["five", "four", "one", "three", "two"]);
    let faults = tree.faults(&catalogue);
    assert_eq!(
        faults,
        [
            "ink.safetensors: it is a LoRA (or another adapter), which changes a model; put it into loras"
        ]
    );
}

/// A collection that lies apart, listed in ComfyUI's own file of paths.
fn collection(tree: &Tree, yaml: &str) {
    tree.add("lib/ckpt/dreamshaper_8.safetensors", "sd15")
        .add("lib/unets/flux1-dev.safetensors", "flux_dev")
        .add("lib/parts/ae.safetensors", "flux_vae")
        .add("lib/te/clip_l.safetensors", "clip_l")
        .add("more te/t5xxl_fp16.safetensors", "t5_xxl");
    write(&tree.root().join("lib/styles/ink.safetensors"), lora());
    write(&tree.root().join("lib/nets/canny.pth"), b"\x80\x02}q\x00.");
    write(
        &tree.root().join(yaml),
        "\
# As ComfyUI's example is, with what people change in it.
library:
    base_path: ../lib/
    is_default: true
    checkpoints: ckpt
    diffusion_models: |
        unets/
    vae: parts
    text_encoders: |
        te/
        ../more te  # of another disk
    loras: styles
    controlnet: nets
a1111:
    base_path: path/to/stable-diffusion-webui/
    checkpoints: models/Stable-diffusion
    vae: models/VAE
here:
    loras: missing
    clip: [a, b]
",
    );
}

#[test]
fn a_file_of_paths_is_a_folder_as_well_and_one_in_comfyuis_folder_is_found() {
    let tree = Tree::new();
    collection(&tree, "ComfyUI/extra_model_paths.yaml");
    tree.add("ComfyUI/models/checkpoints/xl.safetensors", "sdxl");
    let own = ("dreamshaper_8", "flux-dev", "xl");
    let faults = [
        "ComfyUI/extra_model_paths.yaml: line 15: there is no folder \
         ComfyUI/path/to/stable-diffusion-webui/ (base of a1111)",
        "ComfyUI/extra_model_paths.yaml: line 19: there is no folder ComfyUI/missing (loras of here)",
        "ComfyUI/extra_model_paths.yaml: line 20: clip of here is no text of paths",
    ];
    for roots in [
        &["ComfyUI"][..],
        &["ComfyUI/models"],
        &["ComfyUI", "ComfyUI/extra_model_paths.yaml"],
        &["ComfyUI/extra_model_paths.yaml"],
    ] {
        let catalogue = tree.load(roots);
        let names: Vec<String> = installed(&catalogue)
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        for name in [own.0, own.1] {
            assert!(names.iter().any(|id| id == name), "{roots:?}: {names:?}");
        }
        let has_own_tree = roots[0] != "ComfyUI/extra_model_paths.yaml";
        assert_eq!(names.iter().any(|id| id == own.2), has_own_tree);
        assert_eq!(names.len(), 2 + usize::from(has_own_tree), "{names:?}");
        let mut told = tree.faults(&catalogue);
        told.sort();
        assert_eq!(told, faults, "{roots:?}");
        // Parts from three folders.
        let plan = plan(&catalogue, own.1);
        assert_eq!(plan.weights.len(), 4, "{:?}", files(&plan));
        let paths: Vec<PathBuf> = roots.iter().map(|root| tree.root().join(root)).collect();
        let loras: Vec<_> = list_loras(&paths)
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(loras, ["ink"]);
        assert!(find_lora(&paths, "ink").is_ok());
        let choices = catalogue.components(&ModelId::new(own.1)).unwrap();
        let vae = choices
            .iter()
            .find(|choice| choice.component == "vae")
            .unwrap();
        assert_eq!(vae.choices[0].0, "parts/ae.safetensors");
    }
}

#[test]
fn a_file_of_paths_that_is_none_is_told_and_the_others_are_read() {
    let tree = Tree::new();
    tree.add("models/checkpoints/xl.safetensors", "sdxl");
    for (text, words) in [
        ("a:\n  vae: \"x\n", "it is not YAML"),
        ("- vae\n", "it is no table of sections"),
        ("a: 3\n", "is no table of folders"),
    ] {
        write(&tree.root().join("p.yaml"), text);
        let catalogue = tree.load(&["p.yaml", "models"]);
        assert_eq!(installed(&catalogue).len(), 1);
        let faults = tree.faults(&catalogue);
        assert!(
            faults[0].starts_with("p.yaml: line ") && faults[0].contains(words),
            "{faults:?}"
        );
    }
    write(&tree.root().join("p.yaml"), vec![0xff; 4]);
    assert_eq!(
        tree.faults(&tree.load(&["p.yaml"])),
        ["p.yaml: it is not UTF-8 text"]
    );
    let faults = tree.faults(&tree.load(&["gone.yaml"]));
    assert!(
        faults[0].starts_with("gone.yaml: failed to read"),
        "{faults:?}"
    );
    // Folders that lead round in a circle end somewhere.
    let root = tree.root();
    std::os::unix::fs::symlink(root, root.join("models/checkpoints/round")).unwrap();
    write(
        &root.join("p.yaml"),
        "a:\n  checkpoints: |\n    models/checkpoints/\n    .\n",
    );
    let catalogue = tree.load(&["p.yaml"]);
    assert_eq!(installed(&catalogue).len(), 1);
}

/// A quantised file is a model like any other, and its card says how it is stored.
#[test]
fn a_card_says_how_its_model_is_stored() {
    let tree = comfy();
    let manifests: Manifests = read("manifests.json.gz");
    let path = tree
        .root()
        .join("models/diffusion_models/flux1-dev-nvfp4.safetensors");
    let mut header = serde_json::Map::new();
    let mut layers = serde_json::Map::new();
    let mut end = 0u64;
    let mut put = |name: &str, dtype: &str, shape: &[usize], size: u64| {
        let bytes = size * shape.iter().map(|side| *side as u64).product::<u64>();
        let entry = serde_json::json!({
            "dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes],
        });
        header.insert(name.to_owned(), entry);
        end += bytes;
    };
    for (name, shape) in unfold(&manifests.files["flux_dev"].stored) {
        let layer = name
            .strip_suffix(".weight")
            .filter(|_| name.contains("_blocks."));
        match (layer, shape.as_slice()) {
            (Some(layer), [rows, columns]) => {
                put(&name, "U8", &[*rows, columns / 2], 1);
                let tiles = [
                    rows.next_multiple_of(128),
                    (columns / 16).next_multiple_of(4),
                ];
                put(&format!("{layer}.weight_scale"), "F8_E4M3", &tiles, 1);
                put(&format!("{layer}.weight_scale_2"), "F32", &[], 4);
                layers.insert(layer.to_owned(), serde_json::json!({ "format": "nvfp4" }));
            }
            _ => put(&name, "BF16", &shape, 2),
        }
    }
    let notes = serde_json::json!({ "layers": layers }).to_string();
    header.insert(
        "__metadata__".into(),
        serde_json::json!({ "_quantization_metadata": notes }),
    );
    let header = serde_json::Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    write(&path, &bytes);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(bytes.len() as u64 + end).unwrap();

    let catalogue = tree.load(&["."]);
    let tags = |id: &str| catalogue.model(&ModelId::new(id)).unwrap().tags.clone();
    let model = catalogue.model(&ModelId::new("flux1-dev-nvfp4")).unwrap();
    assert_eq!(
        (model.variant.as_str(), model.family),
        ("dev", Family::Flux)
    );
    assert_eq!(model.fault, None);
    assert!(
        tags("flux1-dev-nvfp4").contains(&"nvfp4".to_owned()),
        "{:?}",
        tags("flux1-dev-nvfp4")
    );
    assert!(
        tags("dreamshaper_8").is_empty(),
        "{:?}",
        tags("dreamshaper_8")
    );
    // More than a quarter of bf16's 24 GB.
    let denoiser = plan(&catalogue, "flux1-dev-nvfp4").weights[0].bytes;
    assert!((6 << 30..8 << 30).contains(&denoiser), "{denoiser}");
}
