//! The real [`Runner`]: `kinora-diffusion`'s pipelines on this machine's device.

use candle_core::{DType, Device as Compute};
use kinora_core::{Plan, PlannedModel, WeightFile, engine::Device};
use kinora_diffusion::{
    Error, Result, memory,
    pipelines::{FluxOptions, ImageParams, Pipeline, RunLimits, SdOptions},
};
use kinora_weights::ModelLayout;

use crate::{
    device::DeviceChoice,
    models::ModelKey,
    runner::{Economy, Need, RunWatch, Runner},
};

/// Pipelines on one device.
pub struct DiffusionRunner {
    compute: Compute,
    device: Device,
    dtype: DType,
    /// The layout that was looked at last, and for which files it counts.
    layout: Option<(ModelKey, ModelLayout)>,
}

impl DiffusionRunner {
    /// Opens the device.
    pub fn open(choice: DeviceChoice) -> Result<Self> {
        let (compute, device) = choice.open()?;
        // Halves would be widened on a processor anyway, and on a GPU they are what it is made for.
        let dtype = if compute.is_cpu() {
            DType::F32
        } else {
            DType::BF16
        };
        Ok(Self {
            compute,
            device,
            dtype,
            layout: None,
        })
    }

    /// Recognises a model's files, unless they are the ones that were looked at last.
    fn layout(&mut self, model: &PlannedModel) -> Result<&ModelLayout> {
        let key = ModelKey::of(model);
        let known = self.layout.take().filter(|(known, _)| *known == key);
        let layout = match known {
            Some((_, layout)) => layout,
            None => {
                let layout = kinora_weights::detect(&model.root)?;
                check_files(model, &layout)?;
                layout
            }
        };
        Ok(&self.layout.insert((key, layout)).1)
    }
}

/// The files that lie there must be those that the plan names: its recipe will say so.
fn check_files(model: &PlannedModel, layout: &ModelLayout) -> Result<()> {
    let same = |a: &WeightFile, b: &WeightFile| {
        (&a.component, &a.file, a.bytes) == (&b.component, &b.file, b.bytes)
    };
    let is_listed =
        |file: &WeightFile, list: &[WeightFile]| list.iter().any(|other| same(file, other));
    let strange = (layout
        .weights
        .iter()
        .find(|file| !is_listed(file, &model.weights)))
    .or_else(|| {
        model
            .weights
            .iter()
            .find(|file| !is_listed(file, &layout.weights))
    });
    match strange {
        Some(file) => Err(Error::bad_weights(
            layout.weight_path(file),
            "it is not as it was when the job was queued",
        )),
        None => Ok(()),
    }
}

impl Runner for DiffusionRunner {
    type Model = Pipeline;

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> &str {
        self.dtype.as_str()
    }

    fn estimate(&mut self, plan: &Plan) -> Result<Need> {
        let bytes = self.dtype.size_in_bytes() as u64;
        let layout = self.layout(&plan.model)?;
        let size = (plan.size.width, plan.size.height);
        let estimate = memory::estimate(layout, size, plan.text_tokens as usize, 1, bytes);
        Ok(Need {
            weights: estimate.weights,
            work: estimate.minimum().saturating_sub(estimate.weights),
        })
    }

    fn open(&mut self, model: &PlannedModel, on_load: &mut dyn FnMut(f32)) -> Result<Pipeline> {
        let (compute, dtype) = (self.compute.clone(), self.dtype);
        Pipeline::open(self.layout(model)?, &compute, dtype, on_load)
    }

    fn weight_bytes(&self, model: &Pipeline) -> u64 {
        model.weight_bytes()
    }

    fn run(
        &mut self,
        model: &mut Pipeline,
        plans: &[&Plan],
        economy: Economy,
        watch: &mut dyn RunWatch,
    ) -> Result<()> {
        let jobs: Vec<ImageParams> = plans.iter().map(|plan| to_params(plan)).collect();
        let limits = RunLimits {
            memory: economy.budget.saturating_sub(model.weight_bytes()),
            is_frugal: economy.is_frugal,
        };
        // The times are taken by the watch, which also sees loading and saving.
        model.run(&jobs, limits, watch).map(drop)
    }

    fn release(&mut self) {
        // Memory of dropped tensors goes back to the driver when the device has caught up.
        if let Err(error) = self.compute.synchronize() {
            tracing::warn!(%error, "the device does not answer");
        }
    }
}

fn to_params(plan: &Plan) -> ImageParams {
    ImageParams {
        prompt: plan.prompt.clone(),
        negative_prompt: plan.negative_prompt.clone(),
        width: plan.size.width,
        height: plan.size.height,
        steps: plan.steps,
        guidance: plan.guidance,
        true_cfg: plan.true_cfg,
        seed: plan.seed.0,
        rng: plan.rng,
        text_tokens: plan.text_tokens as usize,
        latents: None,
        sampler: Some((plan.sampler, plan.schedule)),
        source: None,
        sd: SdOptions::default(),
        flux: FluxOptions::default(),
    }
}
