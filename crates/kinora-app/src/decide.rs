//! What decisions about requests depend on at one moment: catalogue, settings, time, memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Zoned;
use kinora_core::{ModelId, Plan, PlannedModel, Problem};
use kinora_prompts::Library;
use rand::Rng as _;

use crate::{
    app::App,
    inputs,
    models::Catalogue,
    prompts,
    resolve::{Candidate, Context},
    settings::Settings,
};

/// A moment's state, held while requests are resolved.
pub(crate) struct Decisions {
    catalogue: Arc<dyn Catalogue>,
    candidates: Arc<Vec<Candidate>>,
    settings: Settings,
    now: Zoned,
    /// Bytes that models and work may occupy together.
    pub memory_available: Option<u64>,
    /// Bytes of one number of an activation on the engine's device.
    bytes_per_number: u64,
    batch_tag: String,
    app: Arc<App>,
    library: Library,
    /// Models with chosen parts, as far as they were asked for: the rows of a list mostly ask for
    /// the same ones, and each answer looks through folders and headers.
    with_parts: Mutex<HashMap<Parts, Result<PlannedModel, Problem>>>,
}

/// A model and the files that were chosen for its parts.
type Parts = (ModelId, BTreeMap<String, String>);

impl Decisions {
    /// The state as it is now.
    pub fn gather(app: &Arc<App>) -> Self {
        let device = app.engine_status().device;
        let is_gpu = device.is_some_and(|device| device.kind != "cpu");
        let bytes_per_number = if is_gpu { 2 } else { 4 };
        Self {
            catalogue: Arc::clone(app.catalogue()),
            candidates: app.catalogue().candidates(),
            settings: app.settings(),
            now: Zoned::now(),
            memory_available: app.memory_budget(),
            bytes_per_number,
            batch_tag: format!("{:08x}", rand::rng().random::<u32>()),
            app: Arc::clone(app),
            library: prompts::library(app),
            with_parts: Mutex::default(),
        }
    }

    /// A short random word, the same for everything that is asked for together.
    pub fn batch_tag(&self) -> &str {
        &self.batch_tag
    }

    /// Bytes of memory that a plan needs at its peak.
    pub fn memory_needed(&self, plan: &Plan) -> u64 {
        let needed = self.catalogue.memory_needed(plan, self.bytes_per_number);
        needed.unwrap_or(0)
    }

    fn with_components(
        &self,
        model: &ModelId,
        chosen: &BTreeMap<String, String>,
    ) -> Result<PlannedModel, Problem> {
        let lock = || (self.with_parts.lock()).unwrap_or_else(PoisonError::into_inner);
        let parts = (model.clone(), chosen.clone());
        if let Some(known) = lock().get(&parts) {
            return known.clone();
        }
        let found = self.catalogue.with_components(model, chosen);
        lock().insert(parts, found.clone());
        found
    }

    /// Runs `work` with the state as `resolve` takes it.
    pub fn with<T>(&self, work: impl FnOnce(&Context<'_>) -> T) -> T {
        work(&Context {
            models: &self.candidates,
            settings: &self.settings,
            now: &self.now,
            memory_available: self.memory_available,
            memory_needed: &|plan| self.memory_needed(plan),
            picture: &|reference| inputs::find(&self.app, reference),
            lora: &|model, name| self.catalogue.lora(model, name),
            components: &|model, chosen| self.with_components(model, chosen),
            random_seed: &|| rand::rng().random(),
            library: &self.library,
        })
    }
}
