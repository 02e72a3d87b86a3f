//! What clips of all families have in common beside their stories: what may be asked, what a
//! checkpoint holds, frames that are decoded in tiles.

mod check;
mod tiles;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

pub(crate) use self::{
    check::{ClipAsk, check_scales, check_share},
    tiles::{TileChoice, decode_in_tiles},
};
use super::{Checkpoint, RunWatch};
use crate::{Result, noise::Generator, samplers::Run, step_cache::Anchors, vae::TileSide};

/// A clip between two steps: everything that its checkpoints hold.
#[derive(Debug)]
pub(crate) struct ClipState {
    /// Its place in the list of jobs.
    pub job: usize,
    /// Latents on their way.
    pub run: Run,
    /// Where the noise stream stands.
    pub generator: Generator,
    /// Of its checkpoints.
    pub identity: String,
    /// The steps that later ones reuse.
    pub anchors: Anchors,
    /// How its frames go through the VAE: decided before the first step, so that a clip that is
    /// taken up again has the same frames however much memory there is then.
    pub tiles: TileSide,
    /// The same as the last checkpoint says it; None before there is one.
    pub kept_tiles: Option<TileSide>,
}

impl ClipState {
    /// A clip at its beginning, whose identity is still to be told.
    pub fn new(job: usize, run: Run, generator: Generator, tiles: TileSide) -> Self {
        Self {
            job,
            run,
            generator,
            identity: String::new(),
            anchors: Anchors::default(),
            tiles,
            kept_tiles: None,
        }
    }

    /// Whether no call of the network is left.
    pub fn is_done(&self) -> bool {
        self.run.call().is_none()
    }

    /// Takes over a checkpoint that was made by this very work; any other is left aside.
    pub fn resume(&mut self, checkpoint: &Checkpoint, device: &Device) -> Result<()> {
        let (state, own) = (&checkpoint.state, self.run.latents().dims());
        if checkpoint.identity != self.identity || state.shape != own {
            tracing::info!(
                job = self.job,
                "a checkpoint belongs to other work and is not used"
            );
            return Ok(());
        }
        if let Some(generator) = checkpoint.generator()? {
            self.generator = generator;
        }
        self.run = Run::resume(Arc::clone(self.run.program()), state, device)?;
        let done = self.run.done();
        self.anchors = Anchors::restore(&checkpoint.anchors, &state.shape, done, device)?;
        self.kept_tiles = checkpoint.tiles;
        Ok(())
    }

    /// Hands out a checkpoint of the steps that are done.
    pub fn keep(&mut self, watch: &mut dyn RunWatch) -> Result<()> {
        let checkpoint = Checkpoint {
            step: self.run.done() as u32,
            state: self.run.state(0)?,
            noise: self.generator.save(),
            anchors: self.anchors.store()?,
            tiles: Some(self.tiles),
            identity: self.identity.clone(),
        };
        watch.checkpoint(self.job, &checkpoint)?;
        self.kept_tiles = checkpoint.tiles;
        Ok(())
    }

    /// Before decoding: hands out a checkpoint unless the last one says how that is done.
    pub fn keep_tiles(&mut self, watch: &mut dyn RunWatch) -> Result<()> {
        match self.kept_tiles == Some(self.tiles) {
            true => Ok(()),
            false => self.keep(watch),
        }
    }
}

/// The times of the frames of tokens: a given first frame has no noise.
pub(crate) fn frame_times(has_first: bool, time: f32, frames: usize) -> Vec<f32> {
    match has_first {
        true => (0..frames)
            .map(|frame| if frame == 0 { 0.0 } else { time })
            .collect(),
        false => vec![time],
    }
}

/// A tensor's numbers, row by row.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}
