//! The pictures that a run is given: to start from, to paint in, to edit, or to follow. Each becomes
//! latents; where they go depends on the network.
//!
//! Random draws come in the reference's order, so that a seed gives the same picture.

use candle_core::{DType, Device, Tensor};
use kinora_weights::FluxKind;

use super::super::{ImageParams, RgbImage, packing::pack};
use crate::{
    Error, Result,
    noise::Generator,
    vae::KlVae,
    vision::resample::{self, Filter, resize},
};

/// What the network sees or the run needs besides text.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// Further channels of every token, (1, tokens, channels): Fill, Canny, Depth.
    pub channels: Option<Tensor>,
    /// Further tokens behind those of the new picture: Kontext.
    pub context: Option<Context>,
    /// What is put back after every step.
    pub put_back: Option<PutBack>,
}

/// Tokens of a picture beside the new one.
#[derive(Clone, Debug)]
pub(super) struct Context {
    /// (1, rows · columns, channels)
    pub tokens: Tensor,
    pub rows: usize,
    pub columns: usize,
}

/// What of a source stays, for networks that do not see the mask. All packed, (1, tokens, channels).
#[derive(Clone, Debug)]
pub(super) struct PutBack {
    /// 1 where it is painted anew.
    pub mask: Tensor,
    pub latents: Tensor,
    pub noise: Tensor,
}

/// What a run begins with.
#[derive(Clone, Debug)]
pub(super) struct Start {
    /// Packed latents of the source; None: the run begins with noise alone.
    pub source: Option<Tensor>,
    /// Packed noise.
    pub noise: Tensor,
    pub given: Given,
}

/// Fails unless the pictures are those that the network takes and fit the run.
pub(super) fn check(params: &ImageParams, kind: FluxKind) -> Result<()> {
    let refuse = |reason: &str| Err(Error::BadRequest(reason.to_owned()));
    let options = &params.flux;
    let is_wanted = |given: bool, wanted: bool, what: &str| match (given, wanted) {
        (true, false) => refuse(&format!("this model takes no {what}")),
        (false, true) => refuse(&format!("this model needs a {what}")),
        _ => Ok(()),
    };
    let has_control = options.control.is_some();
    is_wanted(
        has_control,
        kind == FluxKind::Control,
        "picture of edges or depths",
    )?;
    if kind != FluxKind::Kontext {
        is_wanted(options.context.is_some(), false, "picture to edit by words")?;
    }
    is_wanted(
        !options.likes.is_empty(),
        kind == FluxKind::Redux,
        "picture that the new one shall be like",
    )?;
    let likes = options.likes.iter().map(|like| &like.image);
    let others = [&options.control, &options.context].into_iter().flatten();
    for image in likes.chain(others) {
        resample::check(image)?;
    }
    let mut weights = (options.likes.iter()).flat_map(|like| [like.weight, like.pooled_weight]);
    if !weights.all(f32::is_finite) {
        return refuse("the weight of a picture must be a finite number");
    }
    let Some(source) = &params.source else {
        return is_wanted(false, kind == FluxKind::Fill, "picture with a mask");
    };
    match kind {
        FluxKind::Fill if source.mask.is_none() => return refuse("this model needs a mask"),
        FluxKind::Kontext | FluxKind::Control | FluxKind::Redux => {
            return refuse("this model does not start from a picture");
        }
        _ => {}
    }
    let (width, height) = (params.width, params.height);
    let pixels = width as usize * height as usize;
    let image = &source.image;
    let is_whole = image.rgb.len() == 3 * pixels && (image.width, image.height) == (width, height);
    let has_whole_mask = source.mask.as_ref().is_none_or(|mask| mask.len() == pixels);
    if !is_whole || !has_whole_mask {
        return refuse(&format!(
            "picture and mask must both be {width} × {height} pixels; the picture is {} × {}",
            image.width, image.height
        ));
    }
    if !(source.strength > 0.0 && source.strength <= 1.0) {
        return refuse(&format!(
            "a strength of {}; above 0 up to 1 is possible",
            source.strength
        ));
    }
    Ok(())
}

/// The first of `steps` that is taken when a source is changed so strongly.
pub(super) fn first_step(steps: usize, strength: f32) -> usize {
    // The number that was written down, not the binary fraction that is nearest to it: 5 steps at
    // 0.6 are 3 steps.
    let strength: f64 = strength.to_string().parse().unwrap_or(1.0);
    let taken = (steps as f64 * strength).min(steps as f64);
    (steps as f64 - taken).max(0.0) as usize
}

/// Turns pictures into what a run begins with.
pub(super) struct Preparation<'a> {
    pub vae: &'a KlVae,
    pub kind: FluxKind,
    pub device: &'a Device,
    pub dtype: DType,
    /// Rows and columns of picture tokens.
    pub grid: (usize, usize),
}

impl Preparation<'_> {
    pub fn prepare(&self, params: &ImageParams) -> Result<Start> {
        let mut generator = Generator::new(params.rng, params.seed);
        let (rows, columns) = self.grid;
        let step = 2 * self.vae.config().scale();
        let mut channels = None;
        let mut context = None;
        if let Some(image) = &params.flux.control {
            let (width, height) = (columns * step, rows * step);
            let image = resize(image, width as u32, height as u32, Filter::Lanczos)?;
            channels = Some(self.draw_latents(&to_pixels(&image, None)?, &mut generator)?);
        }
        if let Some(image) = &params.flux.context {
            context = Some(self.edit(image, params.flux.keeps_context_size)?);
        }
        let source = match &params.source {
            Some(source) => {
                Some(self.draw_latents(&to_pixels(&source.image, None)?, &mut generator)?)
            }
            None => None,
        };
        let noise = match &params.latents {
            Some(latents) => latents.to_dtype(DType::F32)?.to_device(self.device)?,
            None => pack(&self.draw(2 * rows, 2 * columns, &mut generator)?)?,
        };
        let mut put_back = None;
        if let (Some(source), Some(latents)) = (&params.source, &source)
            && let Some(mask) = &source.mask
        {
            if self.kind == FluxKind::Fill {
                let kept = to_pixels(&source.image, Some(mask))?;
                let kept = self.draw_latents(&kept, &mut generator)?;
                channels = Some(Tensor::cat(&[kept, self.mask_channels(mask)?], 2)?);
            } else {
                put_back = Some(PutBack {
                    mask: self.mask_tokens(mask)?,
                    latents: latents.clone(),
                    noise: noise.clone(),
                });
            }
        }
        Ok(Start {
            source,
            noise,
            given: Given {
                channels,
                context,
                put_back,
            },
        })
    }

    /// Standard normals, (1, channels, rows, columns).
    fn draw(&self, rows: usize, columns: usize, generator: &mut Generator) -> Result<Tensor> {
        let channels = self.vae.config().latent_channels;
        let mut noise = vec![0f32; channels * rows * columns];
        generator.fill_normal(&mut noise);
        let shape = (1, channels, rows, columns);
        Ok(Tensor::from_vec(noise, shape, self.device)?)
    }

    /// Packed latents, drawn from where the VAE says they lie.
    fn draw_latents(&self, pixels: &Tensor, generator: &mut Generator) -> Result<Tensor> {
        let scale = self.vae.config().scale();
        let (_, _, height, width) = pixels.dims4()?;
        let noise = self.draw(height / scale, width / scale, generator)?;
        let pixels = pixels.to_device(self.device)?.to_dtype(self.dtype)?;
        pack(&self.vae.scale(&self.vae.encode_with(&pixels, &noise)?)?)
    }

    /// The tokens of a picture that is to be edited: its likeliest latents.
    fn edit(&self, image: &RgbImage, keeps_size: bool) -> Result<Context> {
        let step = 2 * self.vae.config().scale() as u32;
        let (width, height) = if keeps_size {
            (image.width / step * step, image.height / step * step)
        } else {
            preferred_size(image.width, image.height)
        };
        let image = resize(image, width, height, Filter::Lanczos)?;
        let pixels = to_pixels(&image, None)?;
        let pixels = pixels.to_device(self.device)?.to_dtype(self.dtype)?;
        let latents = self.vae.encode(&pixels)?.to_dtype(DType::F32)?;
        Ok(Context {
            tokens: pack(&self.vae.scale(&latents)?)?,
            rows: (height / step) as usize,
            columns: (width / step) as usize,
        })
    }

    /// The mask at the latents' resolution, the same for every channel: each latent takes the pixel
    /// in its upper left corner.
    fn mask_tokens(&self, mask: &[u8]) -> Result<Tensor> {
        let (rows, columns) = (2 * self.grid.0, 2 * self.grid.1);
        let config = self.vae.config();
        let scale = config.scale();
        let width = columns * scale;
        let is_new = |row: usize, column: usize| is_new(mask[row * scale * width + column * scale]);
        let plane: Vec<f32> = (0..rows)
            .flat_map(|row| (0..columns).map(move |column| is_new(row, column)))
            .collect();
        let mask = Tensor::from_vec(plane, (1, 1, rows, columns), self.device)?;
        let shape = (1, config.latent_channels, rows, columns);
        pack(&mask.broadcast_as(shape)?.contiguous()?)
    }

    /// Every pixel of the mask, as channels of the latent that it belongs to: what Fill sees.
    fn mask_channels(&self, mask: &[u8]) -> Result<Tensor> {
        let (rows, columns) = (2 * self.grid.0, 2 * self.grid.1);
        let scale = self.vae.config().scale();
        let values: Vec<f32> = mask.iter().map(|value| is_new(*value)).collect();
        let mask = Tensor::from_vec(values, &[rows, scale, columns, scale][..], self.device)?
            .permute([1, 3, 0, 2])?
            .contiguous()?
            .reshape((1, scale * scale, rows, columns))?;
        pack(&mask)
    }
}

/// 1 where a mask says that the pixel is painted anew.
fn is_new(value: u8) -> f32 {
    f32::from(u8::from(value >= 128))
}

/// 8-bit pixels as the VAE takes them: (1, 3, height, width) in −1 to 1; 0, which is grey, where the
/// mask says that they are painted anew.
fn to_pixels(image: &RgbImage, mask: Option<&Vec<u8>>) -> Result<Tensor> {
    let (width, height) = (image.width as usize, image.height as usize);
    let plane = width * height;
    let mut values = vec![0f32; 3 * plane];
    for (i, pixel) in image.rgb.chunks_exact(3).enumerate() {
        if mask.is_some_and(|mask| is_new(mask[i]) == 1.0) {
            continue;
        }
        for (channel, value) in pixel.iter().enumerate() {
            values[channel * plane + i] = 2.0 * (f32::from(*value) / 255.0) - 1.0;
        }
    }
    let shape = (1, 3, height, width);
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// The sizes that Kontext was trained on, by width; the first of two that are as near is taken.
const PREFERRED: [(u32, u32); 17] = [
    (672, 1568),
    (688, 1504),
    (720, 1456),
    (752, 1392),
    (800, 1328),
    (832, 1248),
    (880, 1184),
    (944, 1104),
    (1024, 1024),
    (1104, 944),
    (1184, 880),
    (1248, 832),
    (1328, 800),
    (1392, 752),
    (1456, 720),
    (1504, 688),
    (1568, 672),
];

/// The one of Kontext's sizes whose shape is nearest.
pub fn preferred_size(width: u32, height: u32) -> (u32, u32) {
    let shape = f64::from(width) / f64::from(height.max(1));
    let distance = |(w, h): &(u32, u32)| (shape - f64::from(*w) / f64::from(*h)).abs();
    PREFERRED
        .into_iter()
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
        .unwrap_or((1024, 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_steps_are_taken_as_the_strength_says() {
        for (steps, strength, first) in [
            (5, 0.6, 2),
            (4, 0.85, 0),
            (4, 0.8, 0),
            (50, 0.3, 35),
            (10, 0.1, 9),
            (28, 1.0, 0),
            (3, 0.01, 2),
        ] {
            assert_eq!(first_step(steps, strength), first, "{steps} at {strength}");
        }
    }

    #[test]
    fn a_picture_to_edit_takes_the_nearest_trained_shape() {
        assert_eq!(preferred_size(3000, 3000), (1024, 1024));
        assert_eq!(preferred_size(1920, 1080), (1392, 752));
        assert_eq!(preferred_size(1, 60_000), (672, 1568));
    }
}
