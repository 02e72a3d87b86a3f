//! LoRA files as hosts see them: which there are, and what of one fits a model.
//! Not here: headers and names of layers (kinora-weights), the arithmetic (the engine).

use std::sync::Arc;

use kinora_catalog::loras::{LoraEntry, LoraError};
use kinora_core::{Code, Expert, ModelId, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    commands::NoInput,
    error::{Error, Result},
};

/// Tensors without a place that an answer lists.
const LISTED: usize = 50;

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoraInfo {
    /// How requests name it: its path below the folder, without its ending.
    pub name: String,
    /// Size of the file.
    pub bytes: u64,
    /// The family that it was trained for, as far as its tensors tell.
    pub base: Option<String>,
    /// Ranks of its layers, ascending.
    pub ranks: Vec<usize>,
    /// Tensors in it.
    pub tensors: usize,
    /// The one of two networks that it seems to be for, as its name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expert: Option<Expert>,
    /// Why it cannot be used.
    pub fault: Option<String>,
}

/// Every file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoraList {
    /// By name.
    pub loras: Vec<LoraInfo>,
    /// Where they are put.
    pub folder: String,
}

/// A file and the model that it shall change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraQuery {
    /// The file.
    pub name: String,
    /// The model.
    pub model: ModelId,
}

/// A tensor that is not applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnmatchedTensor {
    /// Its name in the file.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// What of a file fits a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoraCheck {
    /// Tensors that are applied.
    pub applied: usize,
    /// Tensors in the file.
    pub tensors: usize,
    /// Ranks, ascending.
    pub ranks: Vec<usize>,
    /// Kinds of changes: `LoRA`, `LoHa`, `diff`.
    pub kinds: Vec<String>,
    /// The family that it was trained for.
    pub base: Option<String>,
    /// Tensors that are not applied, and why; the first 50.
    pub unmatched: Vec<UnmatchedTensor>,
    /// How many are not applied.
    pub unmatched_count: usize,
    /// Tensors for parts that this model does not have and that the file works well without.
    pub ignored: usize,
}

/// Every LoRA file of this machine.
pub async fn list(app: &Arc<App>, _: NoInput) -> Result<LoraList> {
    let catalogue = Arc::clone(app.catalogue());
    let entries = tokio::task::spawn_blocking(move || catalogue.loras())
        .await
        .map_err(Error::internal)?;
    let folder = (app.config().models_dir).join(kinora_catalog::loras::LORA_FOLDER);
    Ok(LoraList {
        loras: entries.into_iter().map(to_info).collect(),
        folder: folder.display().to_string(),
    })
}

/// What of a file fits a model, before anything is run.
pub async fn check(app: &Arc<App>, input: LoraQuery) -> Result<LoraCheck> {
    let catalogue = Arc::clone(app.catalogue());
    let work = move || catalogue.check_lora(&input.model, &input.name);
    let report = tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)??;
    Ok(LoraCheck {
        applied: report.applied,
        tensors: report.keys,
        ranks: report.ranks,
        kinds: report.kinds.into_iter().map(str::to_owned).collect(),
        base: report.base.map(|base| base.title().to_owned()),
        unmatched_count: report.unmatched.len(),
        unmatched: report
            .unmatched
            .into_iter()
            .take(LISTED)
            .map(|tensor| UnmatchedTensor {
                key: tensor.key,
                reason: tensor.reason,
            })
            .collect(),
        ignored: report.ignored.len(),
    })
}

fn to_info(entry: LoraEntry) -> LoraInfo {
    LoraInfo {
        name: entry.name,
        bytes: entry.bytes,
        base: entry.base.map(str::to_owned),
        ranks: entry.ranks,
        tensors: entry.tensors,
        expert: entry.expert,
        fault: entry.fault,
    }
}

/// A name that leads to nothing usable, for people.
pub(crate) fn to_problem(error: &LoraError) -> Problem {
    let message = format!("failed to {error}");
    match error {
        LoraError::BadName(_) => Problem::new(
            Code::InvalidInput,
            message,
            "Name it as the list of LoRA files does.",
        ),
        LoraError::Missing(_) => Problem::new(
            Code::NotFound,
            message,
            "Put the file into the folder loras of the models folder.",
        ),
        LoraError::Unusable { .. } => Problem::new(
            Code::BadWeights,
            message,
            "Use another file, or a model of the family that it was trained for.",
        ),
    }
}
