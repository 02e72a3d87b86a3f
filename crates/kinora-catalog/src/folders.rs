//! Where models may lie, and what lies there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kinora_weights::read_file_bounded;

use crate::loras::LORA_FOLDER;

/// Folders with more things in them than this are no model folders.
const MAX_ENTRIES: usize = 10_000;

/// What marks a folder as the starters': all of them. A build of the window leaves a copy beside the
/// program, which may be of a time when there were fewer.
const STARTER_MARKS: [&str; 2] = ["image/model_index.json", "video/model_index.json"];

/// Where the catalogue looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders {
    /// The user's own `models.toml`; it need not exist.
    pub user_file: Option<PathBuf>,
    /// Model folders, the first one first. They need not exist.
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

/// Everything in the model folders and the download cache that looks like a model.
pub(crate) fn list_candidates(folders: &Folders) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = folders
        .models
        .iter()
        .flat_map(|folder| list_shelf(folder))
        .map(|path| Candidate {
            name: name_of(&path),
            path,
            repo: None,
        })
        .collect();
    found.extend(folders.hub.iter().flat_map(|hub| list_hub(hub)));
    found
}

/// Things in a model folder that look like models, in the order of their names: folders with a
/// `model_index.json` or weights, folders of such folders (`publisher/model`), and weight files.
fn list_shelf(folder: &Path) -> Vec<PathBuf> {
    // Someone named the model instead of the folder that it lies in.
    if folder.join("model_index.json").is_file() {
        return vec![folder.to_owned()];
    }
    let mut found = Vec::new();
    for path in list(folder) {
        if path.file_name().is_some_and(|name| name == LORA_FOLDER) {
            // Adapters are no models.
        } else if !path.is_dir() {
            if is_weight_file(&path) {
                found.push(path);
            }
        } else if is_model_folder(&path) {
            found.push(path);
        } else {
            found.extend(list(&path).into_iter().filter(|path| is_model_folder(path)));
        }
    }
    found
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

fn is_model_folder(path: &Path) -> bool {
    path.is_dir()
        && (path.join("model_index.json").is_file()
            || list(path).iter().any(|path| is_weight_file(path)))
}

/// By its ending; the content is looked at later. Pickles count, so that they are refused in words.
fn is_weight_file(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    matches!(ending, Some("safetensors" | "ckpt" | "pt" | "pth" | "gguf")) && path.is_file()
}
