//! The seam between the protocol and the mathematics: what can open models and run plans.
//!
//! The worker is written against [`Runner`]; the program uses [`DiffusionRunner`](crate::diffusion),
//! the tests one that fails on demand.

use kinora_core::{Plan, PlannedModel, engine::Device};
use kinora_diffusion::Result;
pub use kinora_diffusion::pipelines::{Checkpoint, RgbImage, RunWatch, Sound};

/// What a run needs, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Weights of the model.
    pub weights: u64,
    /// Everything else at the peak of the run.
    pub work: u64,
}

impl Need {
    /// Both together.
    pub fn total(self) -> u64 {
        self.weights.saturating_add(self.work)
    }
}

/// How a run may spend memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Economy {
    /// Bytes that the model and the work may occupy.
    pub budget: u64,
    /// Whether everything that can be done in pieces is done in pieces.
    pub is_frugal: bool,
}

/// Opens models and runs plans on one device. Lives on the GPU thread.
pub trait Runner {
    /// A model with its weights in memory.
    type Model;

    /// What it computes on.
    fn device(&self) -> &Device;

    /// Number format of the arithmetic, for recipes.
    fn dtype(&self) -> &str;

    /// What one picture of this plan needs at least.
    fn estimate(&mut self, plan: &Plan) -> Result<Need>;

    /// Reads a model's weights. `on_load` is told the share that is done, 0 to 1.
    fn open(&mut self, model: &PlannedModel, on_load: &mut dyn FnMut(f32)) -> Result<Self::Model>;

    /// Bytes that a model's weights occupy.
    fn weight_bytes(&self, model: &Self::Model) -> u64;

    /// Runs plans that are batchable with each other. Results and everything else go to the watch,
    /// with jobs numbered by their place in `plans`.
    fn run(
        &mut self,
        model: &mut Self::Model,
        plans: &[&Plan],
        economy: Economy,
        watch: &mut dyn RunWatch,
    ) -> Result<()>;

    /// Gives back what the device still holds for models that were dropped.
    fn release(&mut self);
}
