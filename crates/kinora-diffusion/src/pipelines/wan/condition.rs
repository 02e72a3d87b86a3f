//! Given frames on their way into the network: as channels beside the noise, or in its place.

use candle_core::{Device, Tensor};

use crate::{
    Result,
    pipelines::RgbImage,
    vae::{WanVae, to_pixels},
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
        match self {
            Self::FirstFrame(_) => (0..frames)
                .map(|frame| if frame == 0 { 0.0 } else { time })
                .collect(),
            _ => vec![time],
        }
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

/// The first latent frame from a picture. `like` has the device and the format of the VAE.
pub(super) fn encode_first(
    vae: &WanVae,
    image: &RgbImage,
    (width, height): (u32, u32),
    like: &Tensor,
) -> Result<Condition> {
    let latents = vae.encode(&fit(image, width, height, like)?)?;
    Ok(Condition::FirstFrame(to_clip(
        &vae.scale(&widen(&latents)?)?,
    )?))
}

/// Mask and latents of a clip of `frames` frames whose first one, or first and last one, are given;
/// the others are grey.
pub(super) fn encode_channels(
    vae: &WanVae,
    (first, last): (&RgbImage, Option<&RgbImage>),
    (width, height): (u32, u32),
    frames: usize,
    like: &Tensor,
    mut is_cancelled: impl FnMut() -> bool,
) -> Result<Option<Condition>> {
    let step = vae.config().time_scale();
    let mut encoding = vae.encoding();
    let start = fit(first, width, height, like)?;
    let mut latents = vec![encoding.push(&start)?];
    let end = last
        .map(|last| fit(last, width, height, like))
        .transpose()?;
    let grey = |count: usize| {
        Tensor::zeros(
            (count, 3, height as usize, width as usize),
            like.dtype(),
            like.device(),
        )
    };
    let runs = (frames - 1) / step;
    for run in 0..runs {
        if is_cancelled() {
            return Ok(None);
        }
        let pixels = match &end {
            Some(end) if run + 1 == runs => {
                let before = grey(step - 1)?;
                Tensor::cat(&[&before, end], 0)?
            }
            _ => grey(step)?,
        };
        latents.push(encoding.push(&pixels)?);
    }
    let latents = vae.scale(&widen(&Tensor::cat(&latents, 0)?)?)?;
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
