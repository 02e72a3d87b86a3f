//! Given frames on their way into the network: as channels beside the noise, or in its place.

use candle_core::{Device, Tensor};

use crate::{
    Result,
    pipelines::{RgbImage, clip::frame_times},
    vae::{ClipTiles, Region, WanVae, to_pixels},
    vision::resample::{Filter, resize},
};

/// What the network is given of a clip beforehand.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// Nothing.
    None,
    /// Channels beside the noise: a mask, then latents. (1, channels, frames, rows, columns)
    Channels(Tensor),
    /// The first latent frame itself. (1, channels, 1, rows, columns)
    FirstFrame(Tensor),
}

impl Condition {
    /// The latents with what is given.
    pub fn apply(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::None => latents.clone(),
            Self::Channels(channels) => Tensor::cat(&[latents, channels], 1)?,
            Self::FirstFrame(_) => return self.keep_first(latents),
        })
    }

    /// The latents with the first frame as it was given, where it stands in place of noise.
    pub fn keep_first(&self, latents: &Tensor) -> Result<Tensor> {
        let Self::FirstFrame(first) = self else {
            return Ok(latents.clone());
        };
        let frames = latents.dim(2)?;
        if frames == 1 {
            return Ok(first.clone());
        }
        Ok(Tensor::cat(
            &[first, &latents.narrow(2, 1, frames - 1)?.contiguous()?],
            2,
        )?)
    }

    /// The times of the frames of tokens: a given frame has no noise.
    pub fn times(&self, time: f32, frames: usize) -> Vec<f32> {
        frame_times(matches!(self, Self::FirstFrame(_)), time, frames)
    }

    /// What there is to identify it by.
    pub fn tensor(&self) -> Option<&Tensor> {
        match self {
            Self::None => None,
            Self::Channels(tensor) | Self::FirstFrame(tensor) => Some(tensor),
        }
    }
}

/// A picture in the clip's size, (1, 3, height, width).
fn fit(image: &RgbImage, width: u32, height: u32, like: &Tensor) -> Result<Tensor> {
    let image = resize(image, width, height, Filter::Lanczos)?;
    to_pixels(&[image], like.device(), like.dtype())
}

fn crop(frames: &Tensor, [(top, height), (left, width)]: Region) -> Result<Tensor> {
    let rows = frames.narrow(2, top, height)?;
    Ok(rows.narrow(3, left, width)?.contiguous()?)
}

/// Latents of a clip that comes in runs, whole or in tiles; none when the job was cancelled.
fn encode(
    vae: &WanVae,
    tiles: Option<ClipTiles>,
    (width, height): (u32, u32),
    runs: usize,
    is_cancelled: &mut dyn FnMut() -> bool,
    pixels: &mut dyn FnMut(usize, Region) -> Result<Tensor>,
) -> Result<Option<Tensor>> {
    let [height, width] = [height, width].map(|side| side as usize);
    if let Some(tiles) = tiles {
        let grid = [height, width].map(|side| side / vae.config().scale());
        return vae.encode_tiles(grid, runs, tiles, &mut || !is_cancelled(), pixels);
    }
    let mut encoding = vae.encoding();
    let mut latents = Vec::with_capacity(runs);
    for run in 0..runs {
        if is_cancelled() {
            return Ok(None);
        }
        latents.push(encoding.push(&pixels(run, [(0, height), (0, width)])?)?);
    }
    Ok(Some(Tensor::cat(&latents, 0)?))
}

/// The first latent frame from a picture; none when the job was cancelled. `like` has the device
/// and the format of the VAE.
pub(super) fn encode_first(
    vae: &WanVae,
    tiles: Option<ClipTiles>,
    image: &RgbImage,
    (width, height): (u32, u32),
    like: &Tensor,
    mut is_cancelled: impl FnMut() -> bool,
) -> Result<Option<Condition>> {
    let image = fit(image, width, height, like)?;
    let mut pixels = |_, region| crop(&image, region);
    let latents = encode(
        vae,
        tiles,
        (width, height),
        1,
        &mut is_cancelled,
        &mut pixels,
    )?;
    let scaled = |latents: Tensor| to_clip(&vae.scale(&widen(&latents)?)?);
    Ok(latents.map(scaled).transpose()?.map(Condition::FirstFrame))
}

/// Mask and latents of a clip of `frames` frames whose first one, or first and last one, are given;
/// the others are grey.
pub(super) fn encode_channels(
    vae: &WanVae,
    tiles: Option<ClipTiles>,
    (first, last): (&RgbImage, Option<&RgbImage>),
    (width, height): (u32, u32),
    frames: usize,
    like: &Tensor,
    mut is_cancelled: impl FnMut() -> bool,
) -> Result<Option<Condition>> {
    let step = vae.config().time_scale();
    let start = fit(first, width, height, like)?;
    let end = last
        .map(|last| fit(last, width, height, like))
        .transpose()?;
    let runs = 1 + (frames - 1) / step;
    let mut pixels = |run: usize, region: Region| -> Result<Tensor> {
        let [(_, height), (_, width)] = region;
        let grey = |count: usize| {
            let shape = (count, 3, height, width);
            Tensor::zeros(shape, like.dtype(), like.device())
        };
        Ok(match &end {
            _ if run == 0 => crop(&start, region)?,
            Some(end) if run + 1 == runs => {
                Tensor::cat(&[&grey(step - 1)?, &crop(end, region)?], 0)?
            }
            _ => grey(step)?,
        })
    };
    let Some(latents) = encode(
        vae,
        tiles,
        (width, height),
        runs,
        &mut is_cancelled,
        &mut pixels,
    )?
    else {
        return Ok(None);
    };
    let latents = vae.scale(&widen(&latents)?)?;
    let (count, _, rows, columns) = latents.dims4()?;
    // One channel for each frame of a latent frame; the first frame stands for a whole one.
    let mask: Vec<f32> = (0..step * count)
        .map(|i| {
            let (channel, frame) = (i / count, i % count);
            let is_end = end.is_some() && frame + 1 == count && channel + 1 == step;
            f32::from(u8::from(frame == 0 || is_end))
        })
        .collect();
    let mask = Tensor::from_vec(mask, (1, step, count, 1, 1), latents.device())?
        .broadcast_as((1, step, count, rows, columns))?
        .contiguous()?;
    let channels = Tensor::cat(&[&mask, &to_clip(&latents)?], 1)?;
    Ok(Some(Condition::Channels(channels)))
}

fn widen(latents: &Tensor) -> Result<Tensor> {
    Ok(latents.to_dtype(candle_core::DType::F32)?)
}

/// (frames, channels, rows, columns) → (1, channels, frames, rows, columns)
pub(super) fn to_clip(frames: &Tensor) -> Result<Tensor> {
    Ok(frames.transpose(0, 1)?.contiguous()?.unsqueeze(0)?)
}

/// The way back for a clip alone.
pub(super) fn to_frames(clip: &Tensor) -> Result<Tensor> {
    Ok(clip.squeeze(0)?.transpose(0, 1)?.contiguous()?)
}

/// A number with the device and the format of a network.
pub(super) fn like(device: &Device, dtype: candle_core::DType) -> Result<Tensor> {
    Ok(Tensor::zeros((), dtype, device)?)
}
