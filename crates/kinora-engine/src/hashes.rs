//! SHA-256 of weight files for recipes: computed beside the loading, once for each state of a file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    thread,
    time::SystemTime,
};

use kinora_core::{Failure, PlannedLora, PlannedModel, WeightFile};
use kinora_weights::HashCache;

use crate::{
    failures::{bad_weights, weights_failure},
    models::weight_path,
};

/// Hashes of weight files, shared with the thread that computes them.
#[derive(Clone, Debug, Default)]
pub struct WeightHashes {
    /// Held while a file is hashed.
    cache: Arc<Mutex<HashCache>>,
    /// What is known already, for those who do not wait.
    known: Arc<RwLock<HashCache>>,
    is_kept: bool,
}

impl WeightHashes {
    /// Remembers hashes in a file as well, where one is named.
    pub fn open(path: Option<&Path>) -> Self {
        let cache = path.map_or_else(HashCache::default, HashCache::load);
        Self {
            known: Arc::new(RwLock::new(cache.clone())),
            cache: Arc::new(Mutex::new(cache)),
            is_kept: path.is_some(),
        }
    }

    /// The hash of a file as it is now, where it is known; never waits for one.
    pub fn known(&self, path: &Path) -> Option<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(path).map(str::to_owned)
    }

    fn hash(&self, cache: &mut HashCache, path: &Path) -> kinora_weights::Result<String> {
        let is_new = cache.get(path).is_none();
        let sha256 = cache.hash(path)?;
        if is_new {
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = cache.clone();
        }
        Ok(sha256)
    }

    fn cache(&self) -> MutexGuard<'_, HashCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to hash a model's files while the model loads and runs.
    pub fn prepare(&self, model: &PlannedModel) {
        let Ok(paths) = list_paths(model) else {
            return; // Told when the hashes are asked for.
        };
        let hashes = self.clone();
        let started = thread::Builder::new()
            .name("hashes".to_owned())
            .spawn(move || {
                let mut cache = hashes.cache();
                for path in paths {
                    if let Err(error) = hashes.hash(&mut cache, &path) {
                        tracing::warn!(%error, "could not hash a weight file");
                    }
                }
                if hashes.is_kept
                    && let Err(error) = cache.save()
                {
                    tracing::warn!(%error, "could not remember the hashes of weight files");
                }
            });
        if let Err(error) = started {
            tracing::debug!(%error, "hashes will be computed when they are needed");
        }
    }

    /// Fills in the hashes of adapters.
    ///
    /// # Errors
    /// A file cannot be read, or is not the one that the plan was made for.
    pub fn complete_loras(&self, loras: &mut [PlannedLora]) -> Result<(), Box<Failure>> {
        let mut cache = self.cache();
        for lora in loras {
            let sha256 = (self.hash(&mut cache, &lora.path))
                .map_err(|error| Box::new(weights_failure(&error)))?;
            let sha256 = sha256.parse().map_err(|_| changed_lora(lora))?;
            if lora
                .sha256
                .as_ref()
                .is_some_and(|planned| *planned != sha256)
            {
                return Err(changed_lora(lora));
            }
            lora.sha256 = Some(sha256);
        }
        Ok(())
    }

    /// The model's files with their hashes; waits for them where they are still being computed.
    ///
    /// # Errors
    /// A file cannot be read, or is not the one that the plan was made for.
    pub fn complete(&self, model: &PlannedModel) -> Result<Vec<WeightFile>, Box<Failure>> {
        let paths = list_paths(model)?;
        let mut cache = self.cache();
        (model.weights.iter().zip(paths))
            .map(|(file, path)| {
                let sha256 =
                    (self.hash(&mut cache, &path)).map_err(|error| Box::new(weights_failure(&error)))?;
                match &file.sha256 {
                    Some(planned) if *planned != sha256 => Err(Box::new(bad_weights(format!(
                        "use {}: it is not the file that the job was made for (SHA-256 {}…, not {}…)",
                        path.display(),
                        &sha256[..12],
                        planned.get(..12).unwrap_or(planned),
                    )))),
                    _ => Ok(WeightFile {
                        sha256: Some(sha256),
                        ..file.clone()
                    }),
                }
            })
            .collect()
    }
}

/// A file of an adapter that a plan names.
fn changed_lora(lora: &PlannedLora) -> Box<Failure> {
    Box::new(bad_weights(format!(
        "use the LoRA {}: it is not the file that the job was made for",
        lora.name
    )))
}

/// When a model's files were changed last; None when that cannot be told.
pub fn last_change(model: &PlannedModel) -> Option<SystemTime> {
    let paths = list_paths(model).ok()?;
    let times = paths.iter().map(|path| fs::metadata(path)?.modified());
    times
        .collect::<Result<Vec<_>, io::Error>>()
        .ok()?
        .into_iter()
        .max()
}

/// How far above a model's folder the base that it works with may lie: that is a folder beside it,
/// or another model of the download cache (`models--…/snapshots/…`).
const MOST_ABOVE: usize = 3;

/// Whether a plan may name this file: one in the model's folder, or a weight file of a base beside.
fn is_reachable(relative: &Path) -> bool {
    use std::path::Component;
    let is_above = |part: &Component<'_>| matches!(part, Component::ParentDir);
    let above = relative.components().take_while(is_above).count();
    let is_inside =
        (relative.components().skip(above)).all(|part| matches!(part, Component::Normal(_)));
    let has_weights_name = || {
        let ending = relative.extension().and_then(|ending| ending.to_str());
        matches!(ending, Some("safetensors" | "gguf"))
    };
    is_inside && (above == 0 || (above <= MOST_ABOVE && has_weights_name()))
}

/// Where a model's files lie; none of them anywhere but in its folder or in that of its base.
fn list_paths(model: &PlannedModel) -> Result<Vec<PathBuf>, Box<Failure>> {
    (model.weights.iter())
        .map(|file| {
            let relative = Path::new(&file.file);
            if is_reachable(relative) {
                Ok(weight_path(model, file))
            } else {
                Err(Box::new(bad_weights(format!(
                    "use the weight file {:?}: it lies outside the model's folder",
                    file.file
                ))))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use kinora_core::{Code, Family, ModelId};

    use super::*;

    fn model(root: &Path, file: &str, sha256: Option<&str>) -> PlannedModel {
        PlannedModel {
            components: Default::default(),
            parts: Default::default(),
            id: ModelId::new("m"),
            name: "m".to_owned(),
            family: Family::Flux,
            variant: String::new(),
            root: root.to_path_buf(),
            weights: vec![WeightFile {
                component: "vae".to_owned(),
                file: file.to_owned(),
                bytes: 3,
                sha256: sha256.map(str::to_owned),
            }],
        }
    }

    #[test]
    fn files_get_their_hash_and_a_changed_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("w"), "abc").unwrap();
        // SHA-256 of "abc", from the standard.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hashes = WeightHashes::default();
        let plain = model(folder.path(), "w", None);
        hashes.prepare(&plain);
        let files = hashes.complete(&plain).unwrap();
        assert_eq!(files[0].sha256.as_deref(), Some(abc));
        assert!(
            hashes
                .complete(&model(folder.path(), "w", Some(abc)))
                .is_ok()
        );

        fs::write(folder.path().join("w"), "abcd").unwrap();
        let refusal = hashes.complete(&model(folder.path(), "w", Some(abc)));
        assert_eq!(refusal.unwrap_err().code, Code::BadWeights);
        let missing = hashes.complete(&model(folder.path(), "v", None));
        assert_eq!(missing.unwrap_err().code, Code::BadWeights);
        let outside = hashes.complete(&model(folder.path(), "../w", None));
        assert_eq!(outside.unwrap_err().code, Code::BadWeights);
    }

    #[test]
    fn a_plan_names_files_of_its_model_and_of_a_base_beside_it() {
        for (file, is_allowed) in [
            ("w", true),
            ("vae/w.safetensors", true),
            ("../FLUX.1-dev/vae/w.safetensors", true),
            ("../../../models--a--b/snapshots/c/w.gguf", true),
            ("../../../../w.safetensors", false),
            ("../passwd", false),
            ("vae/../../w.safetensors", false),
            ("/w.safetensors", false),
            ("..", false),
        ] {
            assert_eq!(is_reachable(Path::new(file)), is_allowed, "{file}");
        }
    }
}
