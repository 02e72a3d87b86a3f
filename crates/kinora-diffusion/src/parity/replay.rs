//! A recorded call again and again, for those who time it.

use std::path::Path;

use kinora_core::Stage;

use super::{Target, case::Case, ltx, ltx2, unet, wan};
use crate::{
    Result,
    pipelines::{
        Checkpoint, FluxPipeline, ImageParams, Ltx2Params, Ltx2Pipeline, LtxParams, LtxPipeline,
        RgbImage, RunLimits, RunWatch, Sound, VideoParams, WanPipeline,
    },
};

/// The pipeline of a recorded case, loaded on the processor in f32, with what it was called with.
pub struct Replay(Loaded);

enum Loaded {
    Flux(Box<FluxPipeline>, Vec<ImageParams>),
    Unet(unet::Model, Vec<ImageParams>),
    Wan(Box<WanPipeline>, Vec<VideoParams>),
    Ltx(Box<LtxPipeline>, Box<LtxParams>),
    Ltx2(Box<Ltx2Pipeline>, Box<Ltx2Params>),
}

impl Replay {
    /// Loads the case's model.
    ///
    /// # Errors
    /// The folder holds no case of a family that is known here.
    pub fn open(case_dir: &Path) -> Result<Self> {
        let target = Target::PROCESSOR;
        let case = Case::open(case_dir, &target)?;
        let (device, dtype, on_load) = (&target.device, target.dtype, &mut |_| {});
        let model = case_dir.join("model");
        let class = case.description.pipeline.as_str();
        Ok(Self(if kinora_weights::wan::CLASSES.contains(&class) {
            let layout = kinora_weights::wan::detect_wan(&model)?;
            let pipeline = WanPipeline::open(&layout, device, dtype, on_load)?;
            Loaded::Wan(Box::new(pipeline), wan::read_jobs(&case)?)
        } else if kinora_weights::ltx::CLASSES.contains(&class) {
            let layout = kinora_weights::ltx::detect_ltx(&model)?;
            let pipeline = LtxPipeline::open(&layout, device, dtype, on_load)?;
            Loaded::Ltx(Box::new(pipeline), Box::new(ltx::read_job(&case)?))
        } else if kinora_weights::ltx2::CLASSES.contains(&class) {
            let layout = kinora_weights::ltx2::detect_ltx2(&model)?;
            let pipeline = Ltx2Pipeline::open(&layout, device, dtype, on_load)?;
            let job = ltx2::read_job(&case, &pipeline)?;
            Loaded::Ltx2(Box::new(pipeline), Box::new(job))
        } else {
            let layout = kinora_weights::detect(&model)?;
            if let Some(parts) = layout.sd() {
                let is_xl = parts.clip_2.is_some();
                let model = unet::Model::open(&layout, &target)?;
                Loaded::Unet(model, unet::read_jobs(&case, is_xl)?)
            } else {
                let pipeline = FluxPipeline::open(&layout, device, dtype, on_load)?;
                let jobs = case.jobs(pipeline.parts().vae.latent_channels)?;
                Loaded::Flux(Box::new(pipeline), jobs)
            }
        }))
    }

    /// The recorded call, from the prompts to the pixels.
    pub fn run(&mut self) -> Result<()> {
        let (limits, watch) = (RunLimits::NONE, &mut Idle);
        match &mut self.0 {
            Loaded::Flux(pipeline, jobs) => pipeline.run(jobs, limits, watch).map(drop),
            Loaded::Unet(model, jobs) => model.run(jobs, watch),
            Loaded::Wan(pipeline, jobs) => pipeline.run(jobs, limits, watch).map(drop),
            Loaded::Ltx(pipeline, job) => {
                let jobs = std::slice::from_ref(&**job);
                pipeline.run(jobs, limits, watch).map(drop)
            }
            Loaded::Ltx2(pipeline, job) => {
                let jobs = std::slice::from_ref(&**job);
                pipeline.run(jobs, limits, watch).map(drop)
            }
        }
    }
}

/// Takes the results and wants nothing else.
struct Idle;

impl RunWatch for Idle {
    fn stage(&mut self, _: usize, _: Stage, _: u32, _: u32) {}

    fn is_cancelled(&mut self, _: usize) -> bool {
        false
    }

    fn resume(&mut self, _: usize) -> Option<Checkpoint> {
        None
    }

    fn wants_checkpoint(&mut self, _: usize) -> bool {
        false
    }

    fn checkpoint(&mut self, _: usize, _: &Checkpoint) -> Result<()> {
        Ok(())
    }

    fn wants_preview(&mut self, _: usize) -> bool {
        false
    }

    fn preview(&mut self, _: usize, _: RgbImage) {}

    fn frame(&mut self, _: usize, _: u32, _: u32, _: RgbImage) -> Result<()> {
        Ok(())
    }

    fn sound(&mut self, _: usize, _: Sound) -> Result<()> {
        Ok(())
    }

    fn image(&mut self, _: usize, _: RgbImage) -> Result<()> {
        Ok(())
    }
}
