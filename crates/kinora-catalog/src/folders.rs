//! Where models may lie, and what lies there.
//!
//! A model folder may be Kinora's own, with a folder for each model, or the tree of another program:
//! ComfyUI's `models` and those of A1111 and Forge keep files by their kind (`checkpoints`,
//! `diffusion_models`, `vae`, `text_encoders`, `Stable-diffusion`). What a file is, its header tells;
//! names of folders only tell how the files in them belong together.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use kinora_weights::{Glance, Network, glance, read_file_bounded};

use crate::{
    extra_paths::{Kind, list_places},
    fault::Fault,
    loras::is_lora_folder,
};

/// Folders with more things in them than this are no model folders.
const MAX_ENTRIES: usize = 10_000;

/// Weight files that are looked at in all.
const MAX_FILES: usize = 20_000;

/// Folders below each other that are looked into.
const DEEPEST: usize = 6;

/// Folders of files that are models each, in small letters.
const MODEL_SHELVES: [&str; 6] = [
    "checkpoint",
    "checkpoints",
    "diffusion_models",
    "unet",
    "unet_gguf",
    "stable-diffusion",
];

/// Folders of parts that models share, in small letters. What is not known there is no fault.
const PART_SHELVES: [&str; 8] = [
    "vae",
    "clip",
    "clip_gguf",
    "clip_vision",
    "text_encoder",
    "text_encoders",
    "style_models",
    "latent_upscale_models",
];

/// Folders of other programs' trees in which nothing lies that is a model or a part of one, in small
/// letters.
const FOREIGN_SHELVES: [&str; 44] = [
    "adetailer",
    "animatediff_models",
    "animatediff_motion_lora",
    "annotators",
    "audio_encoders",
    "blip",
    "classifiers",
    "codeformer",
    "configs",
    "controlnet",
    "controlnetpreprocessor",
    "dat",
    "deepbooru",
    "deepdanbooru",
    "diffusion_engine",
    "embeddings",
    "esrgan",
    "facedetection",
    "facerestore_models",
    "gfpgan",
    "gligen",
    "grounding-dino",
    "hat",
    "hypernetworks",
    "insightface",
    "instantid",
    "ipadapter",
    "ipadapter-flux",
    "karlo",
    "ldsr",
    "llm",
    "llm_gguf",
    "model_patches",
    "onnx",
    "photomaker",
    "realesrgan",
    "rife",
    "sam",
    "sams",
    "scunet",
    "swinir",
    "ultralytics",
    "upscale_models",
    "vae_approx",
];

/// Parts of one model's folder, as the reference library names them. They belong to that model.
const PART_FOLDERS: [&str; 12] = [
    "audio_vae",
    "connectors",
    "feature_extractor",
    "image_encoder",
    "safety_checker",
    "scheduler",
    "text_encoder_2",
    "text_encoder_3",
    "tokenizer",
    "transformer",
    "transformer_2",
    "vocoder",
];

/// What marks a folder as the starters': all of them. A build of the window leaves a copy beside the
/// program, which may be of a time when there were fewer.
const STARTER_MARKS: [&str; 2] = ["image/model_index.json", "video/model_index.json"];

/// Where the catalogue looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders {
    /// The user's own `models.toml`; it need not exist.
    pub user_file: Option<PathBuf>,
    /// Model folders, the first one first, and files of ComfyUI's that list some
    /// (`extra_model_paths.yaml`). They need not exist.
    pub models: Vec<PathBuf>,
    /// The download cache that the `huggingface_hub` library fills: `$HF_HOME/hub`. It need not
    /// exist.
    pub hub: Option<PathBuf>,
    /// The folder of the starters; see [`find_starter`].
    pub starter: Option<PathBuf>,
}

/// Finds the folder of the starters: where it was said to be, else beside the program as packages
/// install it (`../share/kinora/starter`), beside the program itself, above it in a source tree
/// (`target/release/kinora`), and where the program was built.
pub fn find_starter(configured: Option<&Path>, program: Option<&Path>) -> Option<PathBuf> {
    // What was said counts, even when nothing is there: silence would hide the mistake.
    if let Some(configured) = configured {
        return Some(configured.to_owned());
    }
    let beside = program.and_then(Path::parent).map(|folder| {
        [
            folder.join("../share/kinora/starter"),
            folder.join("starter"),
        ]
    });
    let above = program
        .into_iter()
        .flat_map(|program| program.ancestors().skip(2).take(4))
        .map(|folder| folder.join("starter"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter");
    beside
        .into_iter()
        .flatten()
        .chain(above)
        .chain([source])
        .find(|folder| STARTER_MARKS.iter().all(|mark| folder.join(mark).is_file()))
        .map(|folder| folder.canonicalize().unwrap_or(folder))
}

/// Something that may be a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Folder or file.
    pub path: PathBuf,
    /// What it is called there, without the ending of a file.
    pub name: String,
    /// `publisher/model`, for one in the download cache. Others than models lie there too, so
    /// what is not recognised in it is no fault.
    pub repo: Option<String>,
}

/// What the model folders and the download cache hold.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// What looks like a model, the first folder's first.
    pub candidates: Vec<Candidate>,
    /// Files with parts that any model may take.
    pub parts: Vec<PathBuf>,
    /// Files that cannot be used where they lie, and why.
    pub strays: Vec<(PathBuf, String)>,
    /// The folders that were looked through.
    pub folders: Vec<PathBuf>,
    /// What is wrong with files that list folders.
    pub faults: Vec<Fault>,
    /// Weight files that were looked at.
    seen: usize,
    /// Folders that were looked into: links may lead round in a circle, or to the same one twice.
    known: BTreeSet<PathBuf>,
}

/// How the files of a folder belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// A folder that was named as a model folder: each file is for itself.
    Root,
    /// As someone made it: one model and its parts, or anything.
    Free,
    /// Each file is a model.
    Models,
    /// Each file is a part that models share.
    Parts,
}

impl Order {
    /// What a folder's name says, in small letters.
    fn of(name: &str) -> Option<Self> {
        if MODEL_SHELVES.contains(&name) {
            Some(Self::Models)
        } else if PART_SHELVES.contains(&name) {
            Some(Self::Parts)
        } else {
            None
        }
    }
}

/// Looks through the model folders and the download cache.
pub(crate) fn list_shelf(folders: &Folders) -> Shelf {
    let mut shelf = Shelf::default();
    let (places, faults) = list_places(&folders.models);
    shelf.faults = faults;
    for place in places {
        let (root, order) = match place.kind {
            Kind::Tree => {
                let root = tree_of(&place.path);
                let name = root.file_name().unwrap_or_default().to_string_lossy();
                let order = Order::of(&name.to_lowercase()).unwrap_or(Order::Root);
                (root, order)
            }
            Kind::Models => (place.path, Order::Models),
            Kind::Parts => (place.path, Order::Parts),
            Kind::Adapters => continue,
        };
        shelf.look_into(&root, &root, order, DEEPEST);
        if place.kind == Kind::Tree {
            shelf.candidates.extend(list_hub(&root));
            shelf.folders.push(root);
        } else {
            // Names of files begin with the kind, as in trees.
            shelf.folders.extend(root.parent().map(Path::to_owned));
        }
    }
    let cached = folders.hub.iter().flat_map(|hub| list_hub(hub));
    shelf.candidates.extend(cached);
    shelf
}

/// The folder that models lie in, where the folder of a whole program was named: ComfyUI, A1111 and
/// Forge have one called `models`.
pub(crate) fn tree_of(folder: &Path) -> PathBuf {
    let inside = folder.join("models");
    let is_tree = [
        "checkpoints",
        "diffusion_models",
        "unet",
        "Stable-diffusion",
    ]
    .iter()
    .any(|name| inside.join(name).is_dir());
    match is_tree && !folder.join("model_index.json").is_file() {
        true => inside,
        false => folder.to_owned(),
    }
}

impl Shelf {
    fn look_into(&mut self, root: &Path, folder: &Path, order: Order, depth: usize) {
        let real = folder.canonicalize();
        if !self
            .known
            .insert(real.unwrap_or_else(|_| folder.to_owned()))
        {
            return;
        }
        // At the top: someone named the model instead of the folder that it lies in.
        if folder.join("model_index.json").is_file() {
            self.add(folder);
            return;
        }
        let paths = list(folder);
        let is_sharded = (paths.iter()).any(|path| ends_with(path, ".safetensors.index.json"));
        let mut files = Vec::new();
        for path in paths.iter().filter(|path| is_weight_file(path)) {
            // Shards are read by way of their index, as a part of one model.
            if self.seen < MAX_FILES && !(is_sharded && ends_with(path, ".safetensors")) {
                self.seen += 1;
                files.push((path, glance(path)));
            }
        }
        // What lies in a folder with one model is that model's own.
        if order == Order::Free && is_one_model(&files) {
            self.add(folder);
            return;
        }
        for (path, glance) in &files {
            self.sort(root, path, glance, order);
        }
        if depth == 0 {
            return;
        }
        // Beside models in files lie the folders of their parts.
        let has_models = files.iter().any(|(_, glance)| glance.is_model());
        for path in paths.iter().filter(|path| path.is_dir()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.to_lowercase();
            let is_own_part = PART_FOLDERS.contains(&name.as_str())
                || (has_models && path.join("config.json").is_file());
            if is_lora_folder(&name)
                || FOREIGN_SHELVES.contains(&name.as_str())
                || name.starts_with("models--")
                || (is_own_part && !path.join("model_index.json").is_file())
            {
                continue;
            }
            let inner = match order {
                Order::Models | Order::Parts => order,
                _ => Order::of(&name).unwrap_or(Order::Free),
            };
            self.look_into(root, path, inner, depth - 1);
        }
    }

    fn add(&mut self, path: &Path) {
        self.candidates.push(Candidate {
            name: name_of(path),
            path: path.to_owned(),
            repo: None,
        });
    }

    /// Puts one file where it belongs.
    fn sort(&mut self, root: &Path, path: &Path, glance: &Glance, order: Order) {
        match glance {
            Glance::Networks(_) if glance.is_model() => self.add(path),
            Glance::Networks(_) => self.parts.push(path.to_owned()),
            Glance::Adapter => {
                let folder = root.join(crate::loras::LORA_FOLDER);
                let reason = format!(
                    "it is a LoRA (or another adapter), which changes a model; put it into {}",
                    folder.display()
                );
                self.strays.push((path.to_owned(), reason));
            }
            // Text encoders and VAEs of models that are not run here lie there too.
            Glance::Refused(reason) if order != Order::Parts || reason.contains("pickle") => {
                self.strays
                    .push((path.to_owned(), format!("failed to {reason}")));
            }
            Glance::Refused(_) => {}
        }
    }
}

/// Whether the files of a folder make up one model: one denoiser, or the two of Wan 2.2.
fn is_one_model(files: &[(&PathBuf, std::sync::Arc<Glance>)]) -> bool {
    let mut models = files.iter().filter(|(_, glance)| glance.is_model());
    match (models.next(), models.next(), models.next()) {
        (Some(_), None, _) => true,
        (Some((a, first)), Some((b, second)), None) => {
            let says = |path: &Path, word: &str| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.to_lowercase().contains(word)
            };
            let is_wan = |glance: &Glance| {
                (glance.networks().iter()).any(|part| matches!(part.network, Network::Wan(_)))
            };
            is_wan(first)
                && is_wan(second)
                && (says(a, "high") && says(b, "low") || says(a, "low") && says(b, "high"))
        }
        _ => false,
    }
}

/// Pipelines in the cache of the `huggingface_hub` library: `models--publisher--model/refs/main`
/// names the folder below `snapshots/` that is current.
fn list_hub(hub: &Path) -> Vec<Candidate> {
    list(hub)
        .into_iter()
        .filter_map(|folder| {
            let name = folder.file_name()?.to_str()?.strip_prefix("models--")?;
            let (publisher, model) = name.split_once("--")?;
            let revision = read_file_bounded(&folder.join("refs/main"), 128).ok()?;
            let revision = str::from_utf8(&revision).ok()?.trim();
            // A name with parts could leave the cache.
            if revision.is_empty() || !revision.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return None;
            }
            let path = folder.join("snapshots").join(revision);
            path.join("model_index.json").is_file().then(|| Candidate {
                path,
                name: model.to_owned(),
                repo: Some(format!("{publisher}/{model}")),
            })
        })
        .collect()
}

/// A folder's name; a file's without its ending.
fn name_of(path: &Path) -> String {
    let name = if path.is_file() {
        path.file_stem()
    } else {
        path.file_name()
    };
    name.map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// What lies in a folder, sorted, without hidden names. A folder that cannot be read is empty.
fn list(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .take(MAX_ENTRIES)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| !is_hidden(path))
        .collect();
    paths.sort();
    paths
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// By its ending; the content is looked at later. Pickles count, so that they are refused in words.
fn is_weight_file(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let known = ["safetensors", "sft", "ckpt", "pt", "pth", "gguf"];
    known
        .iter()
        .any(|known| ending.is_some_and(|ending| ending.eq_ignore_ascii_case(known)))
        && path.is_file()
}

fn ends_with(path: &Path, ending: &str) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().ends_with(ending)
}
