//! The picture that a run starts from, and the mask that says what of it stays.

use candle_core::{DType, Device, Tensor};

use crate::{Error, Result, noise::Generator, pipelines::SourceImage, vae::KlVae};

/// What a run with a mask keeps of its source.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    /// For networks that see it: mask and latents of what stays, (1, 1 + channels, height, width).
    Seen(Tensor),
    /// For the others: what stays is put back after every step.
    PutBack(PutBack),
}

/// What is put back after every step.
#[derive(Clone, Debug)]
pub(crate) struct PutBack {
    /// 1 where it is painted anew, (1, 1, height, width).
    pub mask: Tensor,
    /// Latents of the whole source, (1, channels, height, width).
    pub latents: Tensor,
    /// The noise that it gets, of the same shape.
    pub noise: Tensor,
}

/// Fails unless picture and mask have the run's size and the strength makes sense.
pub(super) fn check(source: &SourceImage, (width, height): (u32, u32)) -> Result<()> {
    let refuse = |reason: String| Err(Error::BadRequest(reason));
    let image = &source.image;
    let pixels = width as usize * height as usize;
    if (image.width, image.height) != (width, height) || image.rgb.len() != 3 * pixels {
        return refuse(format!(
            "a source of {} × {} pixels for a picture of {width} × {height}",
            image.width, image.height
        ));
    }
    if source
        .mask
        .as_ref()
        .is_some_and(|mask| mask.len() != pixels)
    {
        return refuse(format!("a mask that is not of {width} × {height} pixels"));
    }
    if !(source.strength > 0.0 && source.strength <= 1.0) {
        return refuse(format!(
            "a strength of {}; above 0 up to 1 is possible",
            source.strength
        ));
    }
    Ok(())
}

/// 8-bit pixels as the VAE takes them: (1, 3, height, width) in −1 to 1. Where `is_hidden` says so,
/// 0 instead, which is grey.
fn to_pixels(source: &SourceImage, is_hidden: impl Fn(usize) -> bool) -> Result<Tensor> {
    let (width, height) = (source.image.width as usize, source.image.height as usize);
    let plane = width * height;
    let mut values = vec![0f32; 3 * plane];
    for (i, pixel) in source.image.rgb.chunks_exact(3).enumerate() {
        if is_hidden(i) {
            continue;
        }
        for (channel, value) in pixel.iter().enumerate() {
            values[channel * plane + i] = 2.0 * (f32::from(*value) / 255.0) - 1.0;
        }
    }
    Ok(Tensor::from_vec(
        values,
        (1, 3, height, width),
        &Device::Cpu,
    )?)
}

/// Turns pixels into latents of the diffusion process, with noise from the run's own stream.
pub(super) struct Encoder<'a> {
    pub vae: &'a KlVae,
    pub device: &'a Device,
    pub dtype: DType,
    /// (1, channels, height, width) of the latents.
    pub shape: [usize; 4],
}

impl Encoder<'_> {
    /// Standard normals of the latents' shape.
    pub fn draw(&self, generator: &mut Generator) -> Result<Tensor> {
        let mut noise = vec![0f32; self.shape.iter().product()];
        generator.fill_normal(&mut noise);
        Ok(Tensor::from_vec(noise, &self.shape, self.device)?)
    }

    /// The whole source.
    pub fn encode(&self, source: &SourceImage, generator: &mut Generator) -> Result<Tensor> {
        self.encode_pixels(&to_pixels(source, |_| false)?, generator)
    }

    /// What the mask leaves of the source, grey elsewhere.
    pub fn encode_kept(&self, source: &SourceImage, generator: &mut Generator) -> Result<Tensor> {
        let mask = source.mask.as_deref();
        let is_hidden = |i: usize| mask.is_none_or(|mask| mask[i] >= 128);
        self.encode_pixels(&to_pixels(source, is_hidden)?, generator)
    }

    /// A picture of nothing, as networks for inpainting see it when there is no source.
    pub fn encode_nothing(&self, generator: &mut Generator) -> Result<Tensor> {
        let scale = self.vae.config().scale();
        let [_, _, rows, columns] = self.shape;
        let shape = (1, 3, rows * scale, columns * scale);
        let grey = Tensor::zeros(shape, DType::F32, &Device::Cpu)?;
        self.encode_pixels(&grey, generator)
    }

    fn encode_pixels(&self, pixels: &Tensor, generator: &mut Generator) -> Result<Tensor> {
        let pixels = pixels.to_device(self.device)?.to_dtype(self.dtype)?;
        let noise = self.draw(generator)?;
        self.vae.scale(&self.vae.encode_with(&pixels, &noise)?)
    }

    /// The mask at the latents' resolution, 1 where it is painted anew: each latent takes the pixel
    /// in its upper left corner.
    pub fn mask(&self, source: Option<&SourceImage>) -> Result<Tensor> {
        let scale = self.vae.config().scale();
        let [_, _, rows, columns] = self.shape;
        let width = columns * scale;
        let mask = source.and_then(|source| source.mask.as_deref());
        let is_new = |row: usize, column: usize| {
            mask.is_none_or(|mask| mask[row * scale * width + column * scale] >= 128)
        };
        let values: Vec<f32> = (0..rows * columns)
            .map(|i| f32::from(u8::from(is_new(i / columns, i % columns))))
            .collect();
        Ok(Tensor::from_vec(
            values,
            (1, 1, rows, columns),
            self.device,
        )?)
    }
}
