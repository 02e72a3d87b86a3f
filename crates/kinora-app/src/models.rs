//! Models as hosts see them. Not here: folders, headers and hashes (kinora-catalog).

use std::{collections::BTreeMap, sync::Arc};

pub use kinora_catalog::{ComponentChoices, LoraReport, loras::LoraEntry};
use kinora_core::{
    Code, Event, Model, ModelId, Plan, PlannedLora, PlannedModel, Problem, WeightFile,
};
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

    /// Files in the model folders that cannot be used, and why.
    fn faults(&self) -> Vec<FileFault> {
        Vec::new()
    }

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

    /// The parts of a model for which files can be chosen.
    ///
    /// # Errors
    /// There is no such model, or it cannot be used.
    fn components(&self, model: &ModelId) -> std::result::Result<Vec<ComponentChoices>, Problem>;

    /// A model as plans name it, with files chosen for its parts by their names.
    ///
    /// # Errors
    /// As [`Catalogue::components`]; there is no such part or file, or the file is something else.
    fn with_components(
        &self,
        model: &ModelId,
        chosen: &BTreeMap<String, String>,
    ) -> std::result::Result<PlannedModel, Problem>;

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
    /// Files in the model folders that cannot be used, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FileFault>,
}

/// A file, or an entry of `models.toml`, that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileFault {
    /// Where it lies.
    pub path: String,
    /// Why, and what to do about it.
    pub reason: String,
}

/// A file that can stand for a part of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentFile {
    /// How requests name it.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// A part of a model for which a file can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelComponent {
    /// How requests name the part: `vae`, `text_encoder`.
    pub component: String,
    /// What it is, for people.
    pub title: String,
    /// The file that it has unless another is chosen.
    pub file: String,
    /// Files that fit.
    pub choices: Vec<ComponentFile>,
}

/// The parts of a model for which files can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelComponents {
    /// In the order of the model's parts.
    pub components: Vec<ModelComponent>,
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
    Ok(ModelList {
        models,
        default,
        faults: app.catalogue().faults(),
    })
}

/// One model and what it can do.
pub async fn get(app: &App, input: ModelRef) -> Result<Model> {
    let candidates = app.catalogue().candidates();
    let found = candidates.iter().find(|found| found.model.id == input.id);
    found
        .map(|found| found.model.clone())
        .ok_or_else(|| Error::not_found(format_args!("model \"{}\"", input.id)))
}

/// The parts of a model for which files can be chosen, and which files fit.
pub async fn components(app: &Arc<App>, input: ModelRef) -> Result<ModelComponents> {
    let catalogue = Arc::clone(app.catalogue());
    let work = move || catalogue.components(&input.id);
    let found = tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)??;
    let components = found.into_iter().map(|part| ModelComponent {
        component: part.component.to_owned(),
        title: title(part.component).to_owned(),
        file: part.file,
        choices: (part.choices.into_iter())
            .map(|(name, bytes)| ComponentFile { name, bytes })
            .collect(),
    });
    Ok(ModelComponents {
        components: components.collect(),
    })
}

fn title(component: &str) -> &'static str {
    match component {
        "vae" => "VAE",
        "text_encoder" => "Text encoder",
        "text_encoder_2" => "Second text encoder",
        "image_encoder" => "Image encoder",
        "transformer" => "High-noise network",
        "transformer_2" => "Low-noise network",
        _ => "Part",
    }
}

/// Why a model, or a part of one, is not to be had.
pub(crate) fn to_problem(error: &kinora_catalog::Error) -> Problem {
    use kinora_catalog::Error as E;
    let message = format!("failed to {error}");
    let list = |names: &[&str]| names.join(", ");
    match error {
        E::UnknownModel(_) => Problem::new(
            Code::UnknownModel,
            message,
            "See which there are on the page Models, or by `kinora models list`.",
        ),
        E::NotInstalled(_) => Problem::new(
            Code::ModelNotInstalled,
            message,
            "Put its files into the models folder.",
        ),
        E::Faulty { .. } => Problem::new(
            Code::BadWeights,
            message,
            "Replace its files, or choose others.",
        ),
        E::UnknownPart { part, known, .. } => {
            let hint = format!("It has {}.", list(known));
            Problem::in_field(&format!("components.{part}"), message, hint)
        }
        E::UnknownFile { part, choices, .. } => {
            let names: Vec<&str> = choices.iter().map(String::as_str).collect();
            let hint = match names.is_empty() {
                true => "No other file in the model folders fits there.".to_owned(),
                false => format!("These fit: {}.", list(&names)),
            };
            Problem::in_field(&format!("components.{part}"), message, hint)
        }
    }
}
