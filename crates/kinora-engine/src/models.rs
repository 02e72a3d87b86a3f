//! Loaded models: the most recently used first, the least recently used leave when memory is needed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use kinora_core::{PlannedModel, WeightFile};

/// What makes two plans use the same weights in memory: the same files in the same state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelKey {
    root: PathBuf,
    parts: BTreeMap<String, PathBuf>,
    files: Vec<(String, u64, Option<FileState>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl ModelKey {
    /// The key of a plan's model as its files are now.
    pub fn of(model: &PlannedModel) -> Self {
        let files = (model.weights.iter())
            .map(|file| {
                let state = fs::metadata(weight_path(model, file)).ok();
                let state = state.map(|meta| FileState {
                    device: meta.dev(),
                    inode: meta.ino(),
                    bytes: meta.len(),
                    modified: (meta.mtime(), meta.mtime_nsec()),
                });
                (file.file.clone(), file.bytes, state)
            })
            .collect();
        Self {
            root: model.root.clone(),
            parts: model.parts.clone(),
            files,
        }
    }
}

/// The folder that a model's file names are relative to.
pub fn base_folder(root: &Path) -> &Path {
    if root.is_file() {
        root.parent().unwrap_or(Path::new(""))
    } else {
        root
    }
}

/// Where a weight file of a plan's model lies.
pub fn weight_path(model: &PlannedModel, file: &WeightFile) -> PathBuf {
    match model.parts.get(&file.component) {
        Some(path) => path.clone(),
        None => base_folder(&model.root).join(&file.file),
    }
}

/// One loaded model.
#[derive(Debug)]
pub struct Loaded<M> {
    key: ModelKey,
    /// Name for people.
    pub name: String,
    /// The model.
    pub model: M,
    /// Bytes of its weights.
    pub bytes: u64,
}

/// All loaded models.
#[derive(Debug)]
pub struct ModelCache<M> {
    /// Most recently used first.
    entries: Vec<Loaded<M>>,
}

impl<M> Default for ModelCache<M> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
        }
    }
}

impl<M> ModelCache<M> {
    /// Whether a model is loaded; if so it becomes the most recently used one.
    pub fn touch(&mut self, key: &ModelKey) -> bool {
        match self.entries.iter().position(|entry| entry.key == *key) {
            Some(place) => {
                self.entries[..=place].rotate_right(1);
                true
            }
            None => false,
        }
    }

    /// Adds a model as the most recently used one.
    pub fn insert(&mut self, key: ModelKey, name: String, model: M, bytes: u64) {
        self.entries.insert(
            0,
            Loaded {
                key,
                name,
                model,
                bytes,
            },
        );
    }

    /// The most recently used model.
    pub fn first(&mut self) -> Option<&mut Loaded<M>> {
        self.entries.first_mut()
    }

    /// Drops the least recently used model, but never the first `kept` ones.
    pub fn evict(&mut self, kept: usize) -> Option<String> {
        if self.entries.len() <= kept {
            return None;
        }
        self.entries.pop().map(|entry| entry.name)
    }

    /// Drops the most recently used model.
    pub fn drop_first(&mut self) {
        if !self.entries.is_empty() {
            self.entries.remove(0);
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Bytes of all weights, without those of the first `skipped` models.
    pub fn bytes_after(&self, skipped: usize) -> u64 {
        self.entries
            .iter()
            .skip(skipped)
            .map(|entry| entry.bytes)
            .sum()
    }

    /// Names, most recently used first.
    pub fn names(&self) -> Vec<String> {
        self.entries
            .iter()
            .map(|entry| entry.name.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ModelKey {
        ModelKey {
            root: PathBuf::from(name),
            parts: BTreeMap::new(),
            files: Vec::new(),
        }
    }

    #[test]
    fn the_least_recently_used_model_leaves_first() {
        let mut cache = ModelCache::default();
        for name in ["a", "b", "c"] {
            cache.insert(key(name), name.to_owned(), (), 10);
        }
        assert!(cache.touch(&key("a")));
        assert!(!cache.touch(&key("d")));
        assert_eq!(cache.names(), ["a", "c", "b"]);
        assert_eq!((cache.bytes_after(0), cache.bytes_after(1)), (30, 20));
        assert_eq!(cache.evict(1).as_deref(), Some("b"));
        assert_eq!(cache.evict(1).as_deref(), Some("c"));
        assert_eq!(cache.evict(1), None);
        assert_eq!(cache.names(), ["a"]);
        assert_eq!(cache.evict(0).as_deref(), Some("a"));
    }

    #[test]
    fn a_file_that_changed_is_another_model() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("w");
        fs::write(&file, "1").unwrap();
        let model = PlannedModel {
            components: Default::default(),
            parts: Default::default(),
            id: kinora_core::ModelId::new("m"),
            name: "m".to_owned(),
            family: kinora_core::Family::Flux,
            variant: String::new(),
            root: folder.path().to_path_buf(),
            weights: vec![kinora_core::WeightFile {
                component: "vae".to_owned(),
                file: "w".to_owned(),
                bytes: 1,
                sha256: None,
            }],
        };
        let before = ModelKey::of(&model);
        assert_eq!(ModelKey::of(&model), before);
        fs::write(&file, "22").unwrap();
        assert_ne!(ModelKey::of(&model), before);
    }
}
