//! This machine's models for the application: the catalogue, and the hashes of weight files that
//! are known so far.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::SystemTime,
};

use kinora_catalog::{
    ComponentChoices, Folders, HashCache, LoraReport, find_starter,
    loras::{LoraEntry, check_lora, find_lora, list_loras},
};
use kinora_core::{Code, ModelId, Plan, PlannedLora, PlannedModel, Problem, WeightFile};

use crate::{
    config::Config,
    error::{Error, Result},
    loras,
    models::{self, Catalogue, FileFault},
    resolve::Candidate,
};

/// The catalogue of this machine.
pub struct LocalCatalogue {
    hashes_path: PathBuf,
    state: RwLock<State>,
    /// Held while files are read, so that two askers do not read them twice.
    hashes: Mutex<HashCache>,
    /// The model folders.
    models: Vec<PathBuf>,
    /// What of which file fits which model, as the file was.
    reports: Mutex<HashMap<ReportKey, LoraReport>>,
}

/// A model, a file, its size and when it was changed.
type ReportKey = (ModelId, PathBuf, u64, Option<SystemTime>);

struct State {
    catalogue: kinora_catalog::Catalogue,
    candidates: Arc<Vec<Candidate>>,
}

impl LocalCatalogue {
    /// Reads the entries and looks through the folders.
    pub fn open(config: &Config) -> Self {
        let program = std::env::current_exe().ok();
        let catalogue = kinora_catalog::Catalogue::load(Folders {
            user_file: Some(config.data_dir.join("models.toml")),
            models: config.model_folders(),
            hub: Some(config.hf_home.join("hub")),
            starter: find_starter(None, program.as_deref()),
        });
        for fault in catalogue.faults() {
            tracing::warn!("{fault}");
        }
        let hashes_path = config.hashes();
        let hashes = HashCache::load(&hashes_path);
        let candidates = Arc::new(list_candidates(&catalogue, &hashes));
        Self {
            hashes_path,
            state: RwLock::new(State {
                catalogue,
                candidates,
            }),
            hashes: Mutex::new(hashes),
            models: config.model_folders(),
            reports: Mutex::default(),
        }
    }

    /// What of a file fits a model; looked up once for each state of the file.
    fn report(
        &self,
        model: &ModelId,
        entry: &LoraEntry,
    ) -> std::result::Result<LoraReport, Problem> {
        let changed = fs::metadata(&entry.path).and_then(|metadata| metadata.modified());
        let key = (model.clone(), entry.path.clone(), entry.bytes, changed.ok());
        let lock = || self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&key) {
            return Ok(known.clone());
        }
        let layout = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            state.catalogue.layout(model).cloned()
        };
        let layout = layout.ok_or_else(|| {
            Problem::new(
                Code::ModelNotInstalled,
                format!("the model {model} is not on this machine"),
                "Put its files into the models folder.",
            )
        })?;
        let report = check_lora(entry, &layout).map_err(|error| loras::to_problem(&error))?;
        lock().insert(key, report.clone());
        Ok(report)
    }
}

/// Every model, with its files where it can be used.
fn list_candidates(catalogue: &kinora_catalog::Catalogue, hashes: &HashCache) -> Vec<Candidate> {
    let models = catalogue.models();
    models
        .map(|model| Candidate {
            planned: catalogue.plan(&model.id, hashes).ok(),
            model: model.clone(),
        })
        .collect()
}

impl Catalogue for LocalCatalogue {
    fn candidates(&self) -> Arc<Vec<Candidate>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&state.candidates)
    }

    fn faults(&self) -> Vec<FileFault> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        (state.catalogue.faults().iter())
            .map(|fault| {
                let path = fault.path.display().to_string();
                let said = fault.to_string();
                // The path stands beside it.
                let reason = said.strip_prefix(&format!("{path}: ")).unwrap_or(&said);
                let reason = reason
                    .strip_prefix(&format!("failed to read {path}: "))
                    .unwrap_or(reason);
                FileFault {
                    reason: reason.to_owned(),
                    path,
                }
            })
            .collect()
    }

    fn refresh(&self) -> bool {
        // The engine adds the hashes of what it loads.
        let hashes = HashCache::load(&self.hashes_path);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.catalogue.reload();
        let candidates = list_candidates(&state.catalogue, &hashes);
        let models = |list: &[Candidate]| -> Vec<_> {
            list.iter().map(|found| found.model.clone()).collect()
        };
        let is_changed = models(&candidates) != models(&state.candidates);
        state.candidates = Arc::new(candidates);
        drop(state);
        *self.hashes.lock().unwrap_or_else(PoisonError::into_inner) = hashes;
        is_changed
    }

    fn components(&self, model: &ModelId) -> std::result::Result<Vec<ComponentChoices>, Problem> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        (state.catalogue.components(model)).map_err(|error| models::to_problem(&error))
    }

    fn with_components(
        &self,
        model: &ModelId,
        chosen: &BTreeMap<String, String>,
    ) -> std::result::Result<PlannedModel, Problem> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        (state.catalogue.plan_with(model, chosen, &hashes))
            .map_err(|error| models::to_problem(&error))
    }

    fn hash_weights(&self, model: &PlannedModel) -> Result<Vec<WeightFile>> {
        let mut files = Vec::with_capacity(model.weights.len());
        {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            let layout = state.catalogue.layout(&model.id).ok_or_else(|| {
                Problem::new(
                    Code::ModelNotInstalled,
                    format!("{} is not on this machine", model.name),
                    "Put its files into the models folder.",
                )
            })?;
            for file in &model.weights {
                let path = match model.parts.get(&file.component) {
                    Some(path) => path.clone(),
                    None => layout.weight_path(file),
                };
                files.push((file.clone(), path));
            }
        }
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut weights = Vec::with_capacity(files.len());
        for (mut file, path) in files {
            let sha256 = hashes.hash(&path).map_err(unreadable)?;
            file.sha256 = Some(sha256);
            weights.push(file);
        }
        if let Err(error) = hashes.save() {
            // They are computed again the next time.
            tracing::warn!(%error, "cannot remember the hashes of weight files");
        }
        Ok(weights)
    }

    fn loras(&self) -> Vec<LoraEntry> {
        list_loras(&self.models)
    }

    fn lora(&self, model: &ModelId, name: &str) -> std::result::Result<PlannedLora, Problem> {
        let entry = find_lora(&self.models, name).map_err(|error| loras::to_problem(&error))?;
        self.report(model, &entry)?;
        let hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        let sha256 = hashes.get(&entry.path).and_then(|hash| hash.parse().ok());
        Ok(PlannedLora {
            name: entry.name,
            weight: 1.0,
            expert: entry.expert,
            bytes: entry.bytes,
            sha256,
            path: entry.path,
        })
    }

    fn check_lora(&self, model: &ModelId, name: &str) -> std::result::Result<LoraReport, Problem> {
        let entry = find_lora(&self.models, name).map_err(|error| loras::to_problem(&error))?;
        self.report(model, &entry)
    }

    fn memory_needed(&self, plan: &Plan, bytes_per_number: u64) -> Option<u64> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let estimate = state.catalogue.estimate(plan, 1, bytes_per_number)?;
        Some(estimate.minimum())
    }
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    let message = format!("failed to {error}");
    Problem::new(Code::BadWeights, message, "Replace the model's files.").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_model_is_found_planned_hashed_and_estimated() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::below(folder.path()).unwrap();
        let catalogue = LocalCatalogue::open(&config);
        let candidates = catalogue.candidates();
        let starter = candidates
            .iter()
            .find(|found| found.model.id.as_str() == "starter")
            .unwrap();
        let planned = starter.planned.as_ref().unwrap();
        let weights = catalogue.hash_weights(planned).unwrap();
        assert_eq!(weights.len(), planned.weights.len());
        assert!(
            weights
                .iter()
                .all(|file| file.sha256.as_ref().is_some_and(|hash| hash.len() == 64))
        );
        assert!(!catalogue.refresh(), "nothing came or went");
        // What was hashed is known from now on.
        let candidates = catalogue.candidates();
        let again = candidates
            .iter()
            .find(|found| found.model.id.as_str() == "starter");
        assert_eq!(again.unwrap().planned.as_ref().unwrap().weights, weights);
    }
}
