//! What this studio can do, in one answer: for programs that draw a form, or choose a model, without
//! knowing Kinora. Not here: the rules themselves (each model's
//! [`Capabilities`]) and the limits of the transport.

use kinora_core::{
    Capabilities, Family, ImageFormat, Mode, ModelDefaults, ModelId, Priority, Rng, Sampler,
    Schedule,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    bulk::{self, Combine, ListFormat},
    commands::NoInput,
    error::Result,
    models,
};

/// What one model can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelAbility {
    /// Name in requests.
    pub id: ModelId,
    /// Name for people.
    pub name: String,
    /// Architecture.
    pub family: Family,
    /// Which of the architecture's releases.
    pub variant: String,
    /// Whether a request may name it at the moment.
    pub is_usable: bool,
    /// Kinds of work, and the limits of every member of a request.
    pub capabilities: Capabilities,
    /// What a request without these members gets.
    pub defaults: ModelDefaults,
}

/// Limits of prompt lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListLimits {
    /// Longest list in bytes.
    pub bytes: u64,
    /// Most rows, and most pictures.
    pub rows: u64,
    /// Most columns.
    pub columns: u64,
}

/// What this studio can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudioCapabilities {
    /// Version of Kinora.
    pub version: String,
    /// Kinds of work that a usable model does.
    pub modes: Vec<Mode>,
    /// Step rules that a usable model has.
    pub samplers: Vec<Sampler>,
    /// Schedules that a usable model has.
    pub schedules: Vec<Schedule>,
    /// Generators of the noise.
    pub rngs: Vec<Rng>,
    /// Formats of files.
    pub formats: Vec<ImageFormat>,
    /// Who goes first, the last first.
    pub priorities: Vec<Priority>,
    /// How prompt lists may be written.
    pub list_formats: Vec<ListFormat>,
    /// How several values in several columns combine.
    pub list_combinations: Vec<Combine>,
    /// Limits of prompt lists.
    pub list_limits: ListLimits,
    /// The model that a request without one gets; None: none is usable.
    pub default_model: Option<ModelId>,
    /// Every model, usable ones first.
    pub models: Vec<ModelAbility>,
}

/// What this studio can do.
pub async fn get(app: &App, _: NoInput) -> Result<StudioCapabilities> {
    let listed = models::list(app, NoInput {}).await?;
    let mut models: Vec<ModelAbility> = listed
        .models
        .into_iter()
        .map(|model| ModelAbility {
            is_usable: model.is_installed && model.fault.is_none(),
            id: model.id,
            name: model.name,
            family: model.family,
            variant: model.variant,
            capabilities: model.capabilities,
            defaults: model.defaults,
        })
        .collect();
    models.sort_by_key(|model| !model.is_usable);
    let usable = || models.iter().filter(|model| model.is_usable);
    Ok(StudioCapabilities {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        modes: union(usable().map(|model| &model.capabilities.modes)),
        samplers: union(usable().map(|model| &model.capabilities.samplers)),
        schedules: union(usable().map(|model| &model.capabilities.schedules)),
        rngs: vec![Rng::Cpu, Rng::Cuda],
        formats: vec![ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp],
        priorities: vec![Priority::Bulk, Priority::Interactive, Priority::Urgent],
        list_formats: vec![
            ListFormat::Lines,
            ListFormat::Csv,
            ListFormat::Tsv,
            ListFormat::Jsonl,
        ],
        list_combinations: vec![Combine::Product, Combine::Zip],
        list_limits: bulk::limits(),
        default_model: listed.default,
        models,
    })
}

/// Everything that is in one of the lists, once, in the order in which it comes.
fn union<'a, T: Copy + PartialEq + 'a>(lists: impl Iterator<Item = &'a Vec<T>>) -> Vec<T> {
    let mut all = Vec::new();
    for value in lists.flatten() {
        if !all.contains(value) {
            all.push(*value);
        }
    }
    all
}
