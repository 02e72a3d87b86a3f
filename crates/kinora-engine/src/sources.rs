//! The pictures of a plan: read, checked against the plan, and brought to where the network wants
//! them; and for painting inside of a mask, the way back into the source.

use std::fs;

use kinora_core::{Mode, Plan, PlannedPicture, Stage};
use kinora_diffusion::{
    Error, Result,
    pipelines::{ImageParams, LikeImage, SourceImage},
    vision::crop::{Crop, Mask, fill},
};
use kinora_weights::read_file_bounded;
use sha2::{Digest as _, Sha256};

use crate::runner::{Checkpoint, RgbImage, RunWatch};

/// Files of pictures that are handed in are never larger, in bytes.
const FILE_LIMIT: u64 = 256 << 20;

/// Reads a picture of a plan. It must be the one that the job was queued with.
pub fn read(picture: &PlannedPicture) -> Result<RgbImage> {
    let path = &picture.path;
    if fs::metadata(path).is_err() {
        return Err(Error::BadRequest(
            "a picture that the job starts from is gone; hand it in again".to_owned(),
        ));
    }
    let bytes = read_file_bounded(path, FILE_LIMIT)?;
    let digest = Sha256::digest(&bytes);
    let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    if found != picture.sha256.as_str() {
        return Err(Error::BadRequest(
            "a picture that the job starts from was changed; hand it in again".to_owned(),
        ));
    }
    let decoded = kinora_media::decode(&bytes)
        .map_err(|error| Error::BadRequest(format!("a picture cannot be used: {error}")))?;
    Ok(RgbImage {
        width: decoded.width,
        height: decoded.height,
        rgb: decoded.rgb,
    })
}

/// Gives a picture's parameters what the plan starts from. Some(..): the result goes back into it.
pub fn prepare(plan: &Plan, params: &mut ImageParams) -> Result<Option<Crop>> {
    let Some(source) = &plan.source else {
        return Ok(None);
    };
    let image = read(&source.image)?;
    let (width, height) = (plan.size.width, plan.size.height);
    match plan.mode {
        Mode::Edit => params.flux.context = Some(image),
        Mode::Control => params.flux.control = Some(fill(&image, width, height)?),
        Mode::Variation => {
            let like = |image, strength: Option<f32>| {
                // One number for words and pictures alike, as the reference has it where nothing
                // else is said.
                let weight = strength.unwrap_or(1.0);
                LikeImage {
                    image,
                    weight,
                    pooled_weight: weight,
                }
            };
            params.flux.likes.push(like(image, source.strength));
            for more in &source.more_images {
                let image = read(&more.image)?;
                params.flux.likes.push(like(image, more.strength));
            }
        }
        Mode::Inpaint => {
            let mask = source.mask.as_ref().ok_or_else(|| {
                Error::BadRequest("the plan paints inside of a mask and names none".to_owned())
            })?;
            let mask = Mask::of(&read(mask)?).resize(image.width, image.height);
            let crop = Crop::around(image, mask, (width, height))?;
            let (image, mask) = crop.cut()?;
            params.source = Some(SourceImage {
                image,
                strength: source.strength.unwrap_or(1.0),
                mask: Some(mask),
            });
            return Ok(Some(crop));
        }
        Mode::ImageToImage | Mode::TextToImage => {
            params.source = Some(SourceImage {
                image: fill(&image, width, height)?,
                strength: source.strength.unwrap_or(1.0),
                mask: None,
            });
        }
        Mode::TextToVideo | Mode::ImageToVideo => {
            return Err(Error::BadRequest(
                "a picture was asked for with a clip's plan".to_owned(),
            ));
        }
    }
    Ok(None)
}

/// A watch that sets finished pictures into the sources that they were cut from.
pub struct Stitching<'a> {
    watch: &'a mut dyn RunWatch,
    /// By job.
    crops: Vec<Option<Crop>>,
}

impl<'a> Stitching<'a> {
    /// Around the watch of the run.
    pub fn new(watch: &'a mut dyn RunWatch, crops: Vec<Option<Crop>>) -> Self {
        Self { watch, crops }
    }
}

impl RunWatch for Stitching<'_> {
    fn stage(&mut self, job: usize, stage: Stage, step: u32, steps: u32) {
        self.watch.stage(job, stage, step, steps);
    }

    fn is_cancelled(&mut self, job: usize) -> bool {
        self.watch.is_cancelled(job)
    }

    fn resume(&mut self, job: usize) -> Option<Checkpoint> {
        self.watch.resume(job)
    }

    fn wants_checkpoint(&mut self, job: usize) -> bool {
        self.watch.wants_checkpoint(job)
    }

    fn checkpoint(&mut self, job: usize, checkpoint: &Checkpoint) -> Result<()> {
        self.watch.checkpoint(job, checkpoint)
    }

    fn wants_preview(&mut self, job: usize) -> bool {
        self.watch.wants_preview(job)
    }

    fn preview(&mut self, job: usize, picture: RgbImage) {
        self.watch.preview(job, picture);
    }

    fn preview_clip(&mut self, job: usize, frames: Vec<RgbImage>) {
        self.watch.preview_clip(job, frames);
    }

    fn frame(&mut self, job: usize, index: u32, count: u32, picture: RgbImage) -> Result<()> {
        self.watch.frame(job, index, count, picture)
    }

    fn image(&mut self, job: usize, picture: RgbImage) -> Result<()> {
        let picture = match self.crops.get(job) {
            Some(Some(crop)) => crop.stitch(&picture)?,
            _ => picture,
        };
        self.watch.image(job, picture)
    }
}
