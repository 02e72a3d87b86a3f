//! Frames as video VAEs take them: 8-bit pictures as numbers, and the pixels of a square as channels
//! of one, first those of a column.

use candle_core::{DType, Device, Tensor};

use crate::{Result, error::bail_shape, pipelines::RgbImage};

/// 8-bit frames as a network takes them: −1 to 1, (frames, 3, height, width).
pub fn to_pixels(frames: &[RgbImage], device: &Device, dtype: DType) -> Result<Tensor> {
    let Some(first) = frames.first() else {
        bail_shape!("a clip without frames");
    };
    let (width, height) = (first.width as usize, first.height as usize);
    let plane = width * height;
    let mut values = vec![0f32; frames.len() * 3 * plane];
    for (frame, out) in frames.iter().zip(values.chunks_exact_mut(3 * plane)) {
        crate::vision::resample::check(frame)?;
        if (frame.width as usize, frame.height as usize) != (width, height) {
            bail_shape!("frames of different sizes");
        }
        for (i, pixel) in frame.rgb.as_chunks::<3>().0.iter().enumerate() {
            for (channel, value) in pixel.iter().enumerate() {
                out[channel * plane + i] = f32::from(*value) / 255.0 * 2.0 - 1.0;
            }
        }
    }
    let tensor = Tensor::from_vec(values, (frames.len(), 3, height, width), device)?;
    Ok(tensor.to_dtype(dtype)?)
}

/// (frames, channels, height · patch, width · patch) → (frames, channels · patch², height, width)
pub(super) fn fold_patches(x: &Tensor, patch: usize) -> Result<Tensor> {
    if patch == 1 {
        return Ok(x.clone());
    }
    let (frames, channels, height, width) = x.dims4()?;
    let (rows, columns) = (height / patch, width / patch);
    Ok(x.reshape(&[frames, channels, rows, patch, columns, patch])?
        .permute([0, 1, 5, 3, 2, 4])?
        .contiguous()?
        .reshape((frames, channels * patch * patch, rows, columns))?)
}

/// The way back.
pub(super) fn unfold_patches(x: &Tensor, patch: usize) -> Result<Tensor> {
    if patch == 1 {
        return Ok(x.clone());
    }
    let (frames, channels, height, width) = x.dims4()?;
    let channels = channels / patch / patch;
    Ok(x.reshape(&[frames, channels, patch, patch, height, width])?
        .permute([0, 1, 4, 3, 5, 2])?
        .contiguous()?
        .reshape((frames, channels, height * patch, width * patch))?)
}
