//! Models as hosts see them. Not here: folders, headers and hashes (kinora-catalog).

use std::sync::Arc;

pub use kinora_catalog::{LoraReport, loras::LoraEntry};
use kinora_core::{Event, Model, ModelId, Plan, PlannedLora, PlannedModel, Problem, WeightFile};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    commands::NoInput,
    error::{Error, Result},
    resolve::{Candidate, default_model},
};

/// The models of this machine, as the application asks for them.
pub trait Catalogue: Send + Sync {
    /// Every model, with its files where it can be used. Cheap: called for every request.
    fn candidates(&self) -> Arc<Vec<Candidate>>;

    /// Looks through the folders again; whether a model came, went or changed. Blocks.
    fn refresh(&self) -> bool;

    /// Bytes of memory that the least run of a plan needs, weights included, when one number of an
    /// activation has so many bytes. None: the model is not installed.
    fn memory_needed(&self, plan: &Plan, bytes_per_number: u64) -> Option<u64>;

    /// Every LoRA file. Reads headers: blocks.
    fn loras(&self) -> Vec<LoraEntry>;

    /// A LoRA file as plans name it, with its hash as far as it is known, if it changes this model.
    /// Its expert is the one that its name speaks of.
    ///
    /// # Errors
    /// There is no such file, it cannot be used, or fits nothing of the model.
    fn lora(&self, model: &ModelId, name: &str) -> std::result::Result<PlannedLora, Problem>;

    /// What of a LoRA file fits a model. Reads headers: blocks.
    ///
    /// # Errors
    /// As [`Catalogue::lora`].
    fn check_lora(&self, model: &ModelId, name: &str) -> std::result::Result<LoraReport, Problem>;

    /// The weight files of a model with their SHA-256. Reads files that were not read since they
    /// last changed.
    ///
    /// # Errors
    /// What the file system reports.
    fn hash_weights(&self, model: &PlannedModel) -> Result<Vec<WeightFile>>;
}

/// Names a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// Catalogue entry.
    pub id: ModelId,
}

/// The catalogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelList {
    /// Every model, installed ones first.
    pub models: Vec<Model>,
    /// The one that a request without a model gets; None: nothing is installed.
    pub default: Option<ModelId>,
}

/// Every model of the catalogue; looks through the folders again.
pub async fn list(app: &App, _: NoInput) -> Result<ModelList> {
    let catalogue = Arc::clone(app.catalogue());
    let is_changed = tokio::task::spawn_blocking(move || catalogue.refresh())
        .await
        .map_err(Error::internal)?;
    if is_changed {
        app.queue().tell(Event::ModelsChanged);
    }
    let candidates = app.catalogue().candidates();
    let default = default_model(&candidates, &app.settings()).cloned();
    let mut models: Vec<Model> = candidates.iter().map(|found| found.model.clone()).collect();
    models.sort_by_key(|model| !model.is_installed);
    Ok(ModelList { models, default })
}

/// One model and what it can do.
pub async fn get(app: &App, input: ModelRef) -> Result<Model> {
    let candidates = app.catalogue().candidates();
    let found = candidates.iter().find(|found| found.model.id == input.id);
    found
        .map(|found| found.model.clone())
        .ok_or_else(|| Error::not_found(format_args!("model \"{}\"", input.id)))
}
