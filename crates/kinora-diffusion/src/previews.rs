//! What a picture is going to look like, from its latents, for next to nothing.
//!
//! To a good approximation a pixel's colour is a linear function of the latents at its place. The
//! function is fitted to the model's own VAE when it is loaded, so that it suits every VAE: smooth
//! random latents are decoded, the pixels averaged over each latent's square, and the colours
//! regressed on the latents by least squares.

use candle_core::{DType, Device, Tensor};

use crate::{
    Result,
    noise::Generator,
    pipelines::RgbImage,
    vae::{KlVae, Tiling},
};

/// Latents along each side of the decoded example.
const EXAMPLE: usize = 16;
/// Seed of the example; any will do.
const SEED: u64 = 20_260_101;
/// Against directions in which the example does not vary.
const RIDGE: f64 = 1e-3;

/// A linear map from the latents of the diffusion process to colours in −1 to 1.
#[derive(Clone, Debug)]
pub struct LatentPreview {
    /// For each colour, a factor per latent channel and an offset at the end.
    factors: [Vec<f32>; 3],
}

impl LatentPreview {
    /// Fits the map to a VAE with three colours.
    pub fn fit(vae: &KlVae, device: &Device, dtype: DType) -> Result<Self> {
        let config = vae.config();
        Self::fit_with(config.latent_channels, config.scale(), device, |latents| {
            vae.decode(&vae.unscale(&latents.to_dtype(dtype)?)?, Tiling::Whole)
        })
    }

    /// Fits the map to whatever decodes (1, channels, height, width) latents of the diffusion
    /// process, in f32, to pixels of three colours, `scale` times as large.
    pub fn fit_with(
        channels: usize,
        scale: usize,
        device: &Device,
        decode: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        let latents = smooth_noise(channels);
        let shape = (1, channels, EXAMPLE, EXAMPLE);
        let pixels = decode(&Tensor::from_slice(&latents, shape, device)?)?;
        let colours = pixels
            .to_dtype(DType::F32)?
            .avg_pool2d(scale)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let places = EXAMPLE * EXAMPLE;
        let row = |place: usize| -> Vec<f64> {
            (0..channels)
                .map(|channel| f64::from(latents[channel * places + place]))
                .chain([1.0])
                .collect()
        };
        let size = channels + 1;
        let mut normal = vec![0f64; size * size];
        let mut right = [vec![0f64; size], vec![0f64; size], vec![0f64; size]];
        for place in 0..places {
            let row = row(place);
            for i in 0..size {
                for j in 0..size {
                    normal[i * size + j] += row[i] * row[j];
                }
                for (colour, right) in right.iter_mut().enumerate() {
                    right[i] += row[i] * f64::from(colours[colour * places + place]);
                }
            }
        }
        for i in 0..size {
            normal[i * size + i] += RIDGE * places as f64;
        }
        Ok(Self {
            factors: right.map(|right| solve(normal.clone(), right)),
        })
    }

    /// (1, channels, height, width) latents of the diffusion process → a picture of that size.
    pub fn render(&self, latents: &Tensor) -> Result<RgbImage> {
        let (_, channels, height, width) = latents.dims4()?;
        let values = latents
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let places = height * width;
        let mut rgb = vec![0; 3 * places];
        for (place, pixel) in rgb.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            for (value, factors) in pixel.iter_mut().zip(&self.factors) {
                let mut sum = factors[channels];
                for channel in 0..channels {
                    sum += factors[channel] * values[channel * places + place];
                }
                // NaN becomes black.
                *value = ((sum / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0) as u8;
            }
        }
        Ok(RgbImage {
            width: width as u32,
            height: height as u32,
            rgb,
        })
    }
}

/// Noise of unit variance that changes over about three latents, channel by channel.
fn smooth_noise(channels: usize) -> Vec<f32> {
    let side = EXAMPLE + 2;
    let mut rough = vec![0f32; channels * side * side];
    Generator::new(kinora_core::Rng::Cpu, SEED).fill_normal(&mut rough);
    let kernel = [0.25f32, 0.5, 0.25];
    // The variance of the sum is the square of the kernel's power, (¼² + ½² + ¼²)².
    let norm = 1.0 / 0.375;
    let mut smooth = Vec::with_capacity(channels * EXAMPLE * EXAMPLE);
    for plane in rough.chunks_exact(side * side) {
        for y in 0..EXAMPLE {
            for x in 0..EXAMPLE {
                let mut sum = 0.0;
                for (dy, a) in kernel.iter().enumerate() {
                    for (dx, b) in kernel.iter().enumerate() {
                        sum += a * b * plane[(y + dy) * side + x + dx];
                    }
                }
                smooth.push(sum * norm);
            }
        }
    }
    smooth
}

/// Solves a symmetric positive definite system by elimination.
fn solve(mut matrix: Vec<f64>, mut right: Vec<f64>) -> Vec<f32> {
    let size = right.len();
    for pivot in 0..size {
        for row in pivot + 1..size {
            let factor = matrix[row * size + pivot] / matrix[pivot * size + pivot];
            for column in pivot..size {
                matrix[row * size + column] -= factor * matrix[pivot * size + column];
            }
            right[row] -= factor * right[pivot];
        }
    }
    for row in (0..size).rev() {
        for column in row + 1..size {
            right[row] -= matrix[row * size + column] * right[column];
        }
        right[row] /= matrix[row * size + row];
    }
    right.into_iter().map(|value| value as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved() {
        let matrix = vec![4.0, 1.0, 0.0, 1.0, 3.0, 1.0, 0.0, 1.0, 2.0];
        assert_eq!(solve(matrix, vec![6.0, 10.0, 8.0]), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn example_latents_have_unit_variance() {
        let values = smooth_noise(32);
        let power = values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64;
        assert!((power - 1.0).abs() < 0.15, "{power}");
    }
}
