//! What decoding a clip of Wan takes, by its length, whole and in tiles:
//! `wan_decode WIDTH HEIGHT FRAMES…` prints, for each number of frames, megabytes besides weights at
//! the peak. The VAE is Wan 2.1's with a quarter of its width, its weights are noise: memory does not
//! depend on them, and that of the full width is four times as much.

mod timing;

use std::{collections::HashMap, error::Error};

use candle_core::{DType, Device, Tensor};
use kinora_diffusion::{
    layers::{Weights, weights::Loaded},
    vae::{WanTiles, WanVae},
};
use kinora_weights::{LatentStats, WanVaeConfig};

use timing::{forget_peak, memory};

fn main() -> Result<(), Box<dyn Error>> {
    let numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let numbers = numbers.collect::<Result<Vec<_>, _>>();
    let usage = "usage: wan_decode WIDTH HEIGHT FRAMES…";
    let Ok([width, height, lengths @ ..]) = numbers.as_deref() else {
        return Err(usage.into());
    };
    let config = WanVaeConfig {
        base_dim: 24,
        decoder_base_dim: 24,
        ..WanVaeConfig::wan21()
    };
    let vae = noise(&config)?;
    let (rows, columns) = (height / config.scale(), width / config.scale());
    // The reference's.
    let tiles = WanTiles::of_pixels(256, 64, config.scale());
    println!("{width} × {height}, {} tiles", tiles.count(rows, columns));
    for frames in lengths {
        let count = vae.latent_frames(*frames);
        let shape = (count, config.latent_channels, rows, columns);
        let latents = Tensor::randn(0f32, 1f32, shape, &Device::Cpu)?;
        let whole = peak(|| {
            let mut decoding = vae.decoding();
            for i in 0..count {
                // The frames go to the file at once.
                decoding.push(&latents.narrow(0, i, 1)?)?;
            }
            Ok(())
        })?;
        let tiled = peak(|| {
            // The frames wait in 8 bits.
            let mut canvas = vec![0u8; 3 * width * height * frames];
            let mut put = 0;
            vae.decode_tiles(&latents, tiles, &mut |_| true, &mut |part| {
                for value in part.pixels.flatten_all()?.to_vec1::<f32>()? {
                    canvas[put] = (value * 100.0) as u8;
                    put += 1;
                }
                Ok(())
            })?;
            Ok(())
        })?;
        println!("{frames} frames: whole {whole:.0} MB, in tiles {tiled:.0} MB");
    }
    Ok(())
}

/// Megabytes that a call takes at its peak.
fn peak(call: impl FnOnce() -> kinora_diffusion::Result<()>) -> kinora_diffusion::Result<f64> {
    let (before, _) = memory();
    forget_peak();
    call()?;
    Ok(memory().1.saturating_sub(before) as f64 / 1e6)
}

fn noise(config: &WanVaeConfig) -> Result<WanVae, Box<dyn Error>> {
    let stats = LatentStats::wan21();
    let survey = Weights::survey();
    WanVae::load(&survey, config, &stats)?;
    let mut tensors = HashMap::new();
    for (name, shape) in survey.asked() {
        let inputs: usize = shape[1..].iter().product();
        let spread = 1.0 / (inputs as f32).sqrt();
        tensors.insert(name, Tensor::randn(0f32, spread, shape, &Device::Cpu)?);
    }
    let weights = Weights::new(Loaded::new("noise", tensors), &Device::Cpu, DType::F32);
    Ok(WanVae::load(&weights, config, &stats)?)
}
