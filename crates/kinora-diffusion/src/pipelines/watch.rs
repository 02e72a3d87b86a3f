//! The other side of a run: who is told how far it is, and who may stop it.

use kinora_core::{Stage, StagePart};

use super::Checkpoint;
use crate::Result;

/// An 8-bit picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Red, green, blue; rows from the top, without gaps.
    pub rgb: Vec<u8>,
}

/// Sound, as much of it as a clip is long.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// Samples a second.
    pub sample_rate: u32,
    /// Samples of each channel, −1 to 1, all of one length; left before right.
    pub channels: Vec<Vec<f32>>,
}

/// Follows a run. Jobs are named by their place in the list that the run was given. Every call
/// comes from the thread that runs.
pub trait RunWatch {
    /// A job entered a stage or finished a step of it. `steps` is 0 where they cannot be counted.
    fn stage(&mut self, job: usize, stage: Stage, step: u32, steps: u32);

    /// Which part of its stages a job is in from now on. Who shows no parts ignores it.
    fn part(&mut self, job: usize, part: Option<StagePart>) {
        let _ = (job, part);
    }

    /// Whether the job should stop. Asked before each stage and at every step; a job that stops
    /// leaves its batch and gets no picture.
    fn is_cancelled(&mut self, job: usize) -> bool;

    /// What an earlier attempt left. It counts only if it was made by the same parameters, text and
    /// weights; then the pixels are those of an unbroken run.
    fn resume(&mut self, job: usize) -> Option<Checkpoint>;

    /// Whether to hand out a checkpoint after this step. Asked before `is_cancelled` of that step.
    fn wants_checkpoint(&mut self, job: usize) -> bool;

    /// The state after the step that was just told.
    fn checkpoint(&mut self, job: usize, checkpoint: &Checkpoint) -> Result<()>;

    /// Whether to compute a preview after this step.
    fn wants_preview(&mut self, job: usize) -> bool;

    /// What the result is going to look like, at the latents' resolution.
    fn preview(&mut self, job: usize, picture: RgbImage);

    /// What a clip is going to look like: one picture for each latent frame, at the latents'
    /// resolution. Who shows no moving pictures is shown the middle one.
    fn preview_clip(&mut self, job: usize, mut frames: Vec<RgbImage>) {
        if !frames.is_empty() {
            self.preview(job, frames.swap_remove(frames.len() / 2));
        }
    }

    /// The next of a clip's `count` frames, as it is decoded: finite. Frames come in order, from
    /// index 0.
    ///
    /// # Errors
    /// Who takes pictures only refuses.
    fn frame(&mut self, job: usize, index: u32, count: u32, picture: RgbImage) -> Result<()> {
        let _ = (job, picture);
        Err(crate::Error::BadRequest(format!(
            "frame {index} of {count} came where pictures alone are taken"
        )))
    }

    /// The sound of a clip, finite; it comes before the clip's first frame.
    ///
    /// # Errors
    /// Who takes no sound refuses.
    fn sound(&mut self, job: usize, sound: Sound) -> Result<()> {
        let seconds = sound.channels.first().map_or(0, Vec::len) as u32 / sound.sample_rate.max(1);
        Err(crate::Error::BadRequest(format!(
            "sound of {seconds} seconds came with clip {job} where none is taken"
        )))
    }

    /// The result: finite, not one colour.
    fn image(&mut self, job: usize, picture: RgbImage) -> Result<()>;
}
