//! LoRA files and their relatives in the folder `loras` of a model folder: which there are, where
//! one lies, and what of it fits a model.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use kinora_core::Expert;
use kinora_weights::{
    Recognised,
    lora::{LoraFile, LoraReport},
};

use crate::{
    extra_paths::{Kind, list_places},
    folders::tree_of,
};

/// The folder inside a model folder that holds them.
pub const LORA_FOLDER: &str = "loras";

/// Names of such folders in the trees of other programs, in small letters.
const LORA_FOLDERS: [&str; 3] = [LORA_FOLDER, "lora", "lycoris"];

/// Whether a folder of this name, in small letters, holds adapters.
pub(crate) fn is_lora_folder(name: &str) -> bool {
    LORA_FOLDERS.contains(&name)
}

/// The folders of adapters in model folders, the first folder's first.
fn list_folders(model_folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // What is wrong with files of paths, the catalogue tells.
    for place in list_places(model_folders).0 {
        let root = match place.kind {
            Kind::Tree => tree_of(&place.path),
            Kind::Adapters => {
                found.push(place.path);
                continue;
            }
            Kind::Models | Kind::Parts => continue,
        };
        let Ok(entries) = fs::read_dir(&root) else {
            continue;
        };
        let mut own: Vec<_> = (entries.flatten())
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().to_lowercase();
                let place = LORA_FOLDERS.iter().position(|known| *known == name)?;
                Some((place, entry.path()))
            })
            .collect();
        own.sort();
        found.extend(own.into_iter().map(|(_, path)| path));
    }
    found
}

/// Folders below each other that are looked into.
const DEEPEST: usize = 6;
/// Files that are listed at most.
const MOST: usize = 10_000;
/// Endings of files that are shown: what can be used, and what people will look for in vain.
const ENDINGS: [&str; 5] = ["safetensors", "pt", "ckpt", "bin", "pth"];

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraEntry {
    /// Path below the folder, with `/` between its parts, without its ending.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// The family that it was trained for, by its names and shapes.
    pub base: Option<&'static str>,
    /// Ranks of its layers, ascending.
    pub ranks: Vec<usize>,
    /// Tensors in it.
    pub tensors: usize,
    /// The expert of Wan 2.2 that its name speaks of.
    pub expert: Option<Expert>,
    /// Why it cannot be used.
    pub fault: Option<String>,
}

/// Why a name leads to no file. Reads well after "failed to".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoraError {
    /// A name that is no path below the folder.
    #[error("use the LoRA name {0:?}: it is not a path inside the folder of LoRA files")]
    BadName(String),
    /// There is no such file.
    #[error("find the LoRA {0:?}")]
    Missing(String),
    /// The file cannot be used.
    #[error("use the LoRA {name}: {reason}")]
    Unusable {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
}

/// Every file below the folders of adapters (`loras`, `Lora`, `LyCORIS`) in these model folders, by name.
pub fn list_loras(model_folders: &[PathBuf]) -> Vec<LoraEntry> {
    let mut files = Vec::new();
    for folder in list_folders(model_folders) {
        walk(&folder, "", DEEPEST, &mut files);
    }
    // Stable: of the same names the first folder's stay first.
    files.sort_by(|a, b| a.0.cmp(&b.0));
    // The same name in two folders: the first one counts.
    files.dedup_by(|a, b| a.0 == b.0);
    files
        .into_iter()
        .map(|(name, path)| describe(name, path))
        .collect()
}

/// The file of a name; its ending may be left out.
pub fn find_lora(model_folders: &[PathBuf], name: &str) -> Result<LoraEntry, LoraError> {
    let relative = Path::new(name);
    let is_inside = !name.is_empty()
        && name.len() <= 1024
        && !name.contains(['\0', '\\'])
        && relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    if !is_inside {
        let shown = name.chars().take(80).collect();
        return Err(LoraError::BadName(shown));
    }
    let with_ending = |ending: &str| PathBuf::from(format!("{name}.{ending}"));
    let candidates = [relative.to_owned()]
        .into_iter()
        .chain(ENDINGS.into_iter().map(with_ending));
    let folders = list_folders(model_folders);
    for candidate in candidates {
        for folder in &folders {
            let path = folder.join(&candidate);
            if path.is_file() {
                let entry = describe(strip_ending(&candidate.to_string_lossy()), path);
                return match entry.fault {
                    Some(reason) => Err(LoraError::Unusable {
                        name: entry.name,
                        reason,
                    }),
                    None => Ok(entry),
                };
            }
        }
    }
    Err(LoraError::Missing(name.to_owned()))
}

/// What of a file would change a model. Nothing is computed.
///
/// # Errors
/// It fits nothing of the model, or one of the two cannot be read.
pub fn check_lora(entry: &LoraEntry, model: &Recognised) -> Result<LoraReport, LoraError> {
    let unusable = |error: kinora_weights::Error| LoraError::Unusable {
        name: entry.name.clone(),
        reason: format!("failed to {error}"),
    };
    let targets = model.lora_targets().map_err(unusable)?;
    let file = LoraFile::open(&entry.path).map_err(unusable)?;
    Ok(file.bind(&targets).map_err(unusable)?.report)
}

fn describe(name: String, path: PathBuf) -> LoraEntry {
    let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    let mut entry = LoraEntry {
        name,
        bytes,
        base: None,
        ranks: Vec::new(),
        tensors: 0,
        expert: None,
        fault: None,
        path,
    };
    match LoraFile::open(&entry.path) {
        Ok(file) => {
            entry.base = file.base().map(|base| base.title());
            entry.ranks = file.ranks();
            entry.tensors = file.key_count();
            entry.expert = file.expert();
        }
        Err(error) => entry.fault = Some(format!("failed to {error}")),
    }
    entry
}

fn walk(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<(String, PathBuf)>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let file_name = entry.file_name();
        // A name that is not text could not be named in a request.
        let Some(file_name) = file_name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let name = format!("{prefix}{file_name}");
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() && depth > 0 {
            walk(&path, &format!("{name}/"), depth - 1, files);
        } else if metadata.is_file() && has_ending(&path) && files.len() < MOST {
            files.push((strip_ending(&name), path));
        }
    }
}

fn has_ending(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| {
        ENDINGS
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    })
}

fn strip_ending(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, _)) if has_ending(Path::new(name)) => stem.to_owned(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lora_file() -> Vec<u8> {
        let header = serde_json::json!({
            "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight":
                { "dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32] },
            "transformer.single_transformer_blocks.0.attn.to_q.lora_B.weight":
                { "dtype": "F32", "shape": [4, 2], "data_offsets": [32, 64] },
        })
        .to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 64]);
        bytes
    }

    #[test]
    fn files_are_listed_by_name_and_pickles_say_why_they_cannot_be_used() {
        let models = tempfile::tempdir().unwrap();
        let folder = models.path().join(LORA_FOLDER).join("styles");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ink v1.0.safetensors"), lora_file()).unwrap();
        // A pickle, whatever its name says.
        fs::write(folder.join("old.safetensors"), b"\x80\x02}q\x00.").unwrap();
        fs::write(folder.join("notes.txt"), "no").unwrap();
        let folders = [models.path().to_owned()];
        let listed = list_loras(&folders);
        let names: Vec<&str> = listed.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["styles/ink v1.0", "styles/old"]);
        assert_eq!(listed[0].ranks, [2]);
        assert_eq!((listed[0].tensors, &listed[0].fault), (2, &None));
        let fault = listed[1].fault.as_deref().unwrap();
        assert!(fault.contains("pickle"), "{fault}");

        for name in ["styles/ink v1.0", "styles/ink v1.0.safetensors"] {
            assert_eq!(find_lora(&folders, name).unwrap(), listed[0]);
        }
        let refuse = |name: &str| find_lora(&folders, name).unwrap_err();
        assert!(matches!(refuse("styles/old"), LoraError::Unusable { .. }));
        assert!(matches!(refuse("styles/new"), LoraError::Missing(_)));
        for name in ["", "../x", "/etc/passwd", "a\\b", "styles/../../x", "./x"] {
            assert!(matches!(refuse(name), LoraError::BadName(_)), "{name}");
        }
    }
}
