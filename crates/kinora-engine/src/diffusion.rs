//! The real [`Runner`]: `kinora-diffusion`'s pipelines on this machine's device.

mod clips;
mod prompts;

use std::sync::Arc;

use candle_core::{DType, Device as Compute};
use kinora_core::{Plan, PlannedLora, PlannedModel, WeightFile, engine::Device};
use kinora_diffusion::{
    Error, Result,
    adapters::{Adapter, Adaptive, WeightedAdapter},
    pipelines::{
        FluxOptions, ImageParams, Ltx2Pipeline, LtxPipeline, Pipeline, RunLimits, SdOptions, Shelf,
        TextCache, WanPipeline,
    },
};
use kinora_weights::{PartSources, Recognised, RunSize, recognise_with};

use crate::{
    device::DeviceChoice,
    models::ModelKey,
    runner::{Economy, Need, RunWatch, Runner},
    sources::{self, Stitching},
};

/// A model with its weights in memory.
pub struct Network {
    kind: Kind,
    /// Adapter files that were opened for it, and for which plan.
    adapters: Vec<(PlannedLora, Arc<Adapter>)>,
    /// What the networks are brought to.
    adapted: Vec<PlannedLora>,
}

enum Kind {
    /// Makes pictures.
    Pictures(Box<Pipeline>),
    /// Makes clips.
    Wan(Box<WanPipeline>),
    /// Makes clips.
    Ltx(Box<LtxPipeline>),
    /// Makes clips with sound.
    Ltx2(Box<Ltx2Pipeline>),
}

impl Network {
    /// Brings the networks to a plan's adapters, unless they are there.
    fn adapt(&mut self, loras: &[PlannedLora]) -> Result<()> {
        if self.adapted == loras {
            return Ok(());
        }
        let model: &mut dyn Adaptive = match &mut self.kind {
            Kind::Pictures(pipeline) => pipeline.adaptive(),
            Kind::Wan(pipeline) => &mut **pipeline,
            Kind::Ltx(pipeline) => &mut **pipeline,
            Kind::Ltx2(pipeline) => &mut **pipeline,
        };
        let is_same = |a: &PlannedLora, b: &PlannedLora| {
            (&a.path, a.bytes, &a.sha256) == (&b.path, b.bytes, &b.sha256)
        };
        self.adapters
            .retain(|(known, _)| loras.iter().any(|lora| is_same(lora, known)));
        let mut wanted = Vec::with_capacity(loras.len());
        for lora in loras {
            let known = self.adapters.iter().find(|(known, _)| is_same(known, lora));
            let adapter = match known {
                Some((_, adapter)) => Arc::clone(adapter),
                None => {
                    let adapter = Arc::new(model.open_adapter(&lora.path)?);
                    self.adapters.push((lora.clone(), Arc::clone(&adapter)));
                    adapter
                }
            };
            wanted.push(WeightedAdapter {
                adapter,
                weight: lora.weight,
                expert: lora.expert,
            });
        }
        // Half-changed networks are brought to the next plan's adapters from whatever they are.
        self.adapted.clear();
        model.set_adapters(wanted)?;
        self.adapted = loras.to_vec();
        Ok(())
    }
}

/// Pipelines on one device.
pub struct DiffusionRunner {
    compute: Compute,
    device: Device,
    dtype: DType,
    /// What encoders said before.
    texts: Option<Arc<TextCache>>,
    /// Encoders that loaded models share.
    shelf: Arc<Shelf>,
    /// The layout that was looked at last, and for which files it counts.
    layout: Option<(ModelKey, Recognised)>,
}

impl DiffusionRunner {
    /// Opens the device. Models keep what they encode in `texts`, and their encoders on `shelf`.
    pub fn open(choice: DeviceChoice, texts: Option<Arc<TextCache>>, shelf: Shelf) -> Result<Self> {
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
            texts,
            shelf: Arc::new(shelf),
            layout: None,
        })
    }

    /// Recognises a model's files, unless they are the ones that were looked at last.
    fn layout(&mut self, model: &PlannedModel) -> Result<&Recognised> {
        let key = ModelKey::of(model);
        let known = self.layout.take().filter(|(known, _)| *known == key);
        let layout = match known {
            Some((_, layout)) => layout,
            None => {
                // Parts that lie elsewhere are those that the plan names.
                let sources = PartSources {
                    chosen: model.parts.clone(),
                    shelf: Vec::new(),
                };
                let layout = recognise_with(&model.root, &sources)?;
                check_files(model, &layout)?;
                layout
            }
        };
        Ok(&self.layout.insert((key, layout)).1)
    }
}

/// The files that lie there must be those that the plan names: its recipe will say so.
fn check_files(model: &PlannedModel, layout: &Recognised) -> Result<()> {
    let same = |a: &WeightFile, b: &WeightFile| {
        (&a.component, &a.file, a.bytes) == (&b.component, &b.file, b.bytes)
    };
    let is_listed =
        |file: &WeightFile, list: &[WeightFile]| list.iter().any(|other| same(file, other));
    let strange = (layout
        .weights()
        .iter()
        .find(|file| !is_listed(file, &model.weights)))
    .or_else(|| {
        model
            .weights
            .iter()
            .find(|file| !is_listed(file, layout.weights()))
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
    type Model = Network;

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> &str {
        self.dtype.as_str()
    }

    fn estimate(&mut self, plan: &Plan) -> Result<Need> {
        let bytes_per_number = self.dtype.size_in_bytes() as u64;
        let layout = self.layout(&plan.model)?;
        let estimate = layout.estimate(RunSize {
            size: (plan.size.width, plan.size.height),
            frames: plan.video.map_or(1, |video| video.frames),
            seen_frames: plan.video.map_or(1, |video| video.seen_frames()),
            fps: plan.video.map_or(1, |video| video.fps),
            text_tokens: plan.text_tokens as usize,
            batch: 1,
            bytes_per_number,
            kept_passes: plan.kept_passes(),
        });
        Ok(Need {
            weights: estimate.weights,
            work: estimate.minimum().saturating_sub(estimate.weights),
        })
    }

    fn open(&mut self, model: &PlannedModel, on_load: &mut dyn FnMut(f32)) -> Result<Network> {
        let (compute, dtype) = (self.compute.clone(), self.dtype);
        let mut kind = match self.layout(model)? {
            Recognised::Pictures(layout) => {
                Kind::Pictures(Box::new(Pipeline::open(layout, &compute, dtype, on_load)?))
            }
            Recognised::Wan(layout) => Kind::Wan(Box::new(WanPipeline::open(
                layout, &compute, dtype, on_load,
            )?)),
            Recognised::Ltx(layout) => Kind::Ltx(Box::new(LtxPipeline::open(
                layout, &compute, dtype, on_load,
            )?)),
            Recognised::Ltx2(layout) => Kind::Ltx2(Box::new(Ltx2Pipeline::open(
                layout, &compute, dtype, on_load,
            )?)),
        };
        if let Some(texts) = &self.texts {
            let texts = Arc::clone(texts);
            match &mut kind {
                Kind::Pictures(pipeline) => pipeline.keep_texts(texts),
                Kind::Wan(pipeline) => pipeline.keep_texts(texts),
                Kind::Ltx(pipeline) => pipeline.keep_texts(texts),
                Kind::Ltx2(pipeline) => pipeline.keep_texts(texts),
            }
        }
        match &mut kind {
            Kind::Pictures(pipeline) => pipeline.share_encoders(&self.shelf),
            Kind::Wan(pipeline) => pipeline.share_encoders(&self.shelf),
            Kind::Ltx(pipeline) => pipeline.share_encoders(&self.shelf),
            Kind::Ltx2(pipeline) => pipeline.share_encoders(&self.shelf),
        }
        Ok(Network {
            kind,
            adapters: Vec::new(),
            adapted: Vec::new(),
        })
    }

    fn weight_bytes(&self, model: &Network) -> u64 {
        match &model.kind {
            Kind::Pictures(pipeline) => pipeline.weight_bytes(),
            Kind::Wan(pipeline) => pipeline.weight_bytes(),
            Kind::Ltx(pipeline) => pipeline.weight_bytes(),
            Kind::Ltx2(pipeline) => pipeline.weight_bytes(),
        }
    }

    fn run(
        &mut self,
        model: &mut Network,
        plans: &[&Plan],
        economy: Economy,
        watch: &mut dyn RunWatch,
    ) -> Result<()> {
        // Plans of a group have the same adapters.
        model.adapt(plans.first().map_or(&[], |plan| &plan.loras))?;
        let limits = RunLimits {
            memory: economy.budget.saturating_sub(self.weight_bytes(model)),
            is_frugal: economy.is_frugal,
        };
        // The times are taken by the watch, which also sees loading and saving.
        match &mut model.kind {
            Kind::Pictures(pipeline) => {
                let mut jobs = Vec::with_capacity(plans.len());
                let mut crops = Vec::with_capacity(plans.len());
                for plan in plans {
                    let mut params = to_params(plan);
                    prompts::say(plan, &mut params);
                    crops.push(sources::prepare(plan, &mut params)?);
                    jobs.push(params);
                }
                let mut watch = Stitching::new(watch, crops);
                pipeline.run(&jobs, limits, &mut watch).map(drop)
            }
            Kind::Wan(pipeline) => {
                let jobs = clips::each(plans, clips::wan)?;
                pipeline.run(&jobs, limits, watch).map(drop)
            }
            Kind::Ltx(pipeline) => {
                let jobs = clips::each(plans, |plan| clips::ltx(plan, pipeline.parts()))?;
                pipeline.run(&jobs, limits, watch).map(drop)
            }
            Kind::Ltx2(pipeline) => {
                let jobs = clips::each(plans, |plan| clips::ltx2(plan, pipeline.parts()))?;
                pipeline.run(&jobs, limits, watch).map(drop)
            }
        }
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
        flux: FluxOptions {
            step_cache: plan.step_cache.unwrap_or(0.0),
            ..FluxOptions::default()
        },
    }
}
