//! What decoding a clip of Wan takes, by its length, whole and in tiles:
//! `wan_decode whole|tiles WIDTH HEIGHT FRAMES…` prints, for each number of frames, megabytes besides
//! weights at the peak. The VAE is Wan 2.1's with a twelfth of its width, its weights are noise: memory does not
//! depend on them, and that of the full width is twelve times as much.

mod timing;

use std::{collections::HashMap, error::Error};

use candle_core::{DType, Device, Tensor};
use kinora_diffusion::{
    layers::{Weights, weights::Loaded},
    vae::{ClipTiles, WanVae},
};
use kinora_weights::{LatentStats, WanVaeConfig};

use timing::{forget_peak, memory};

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: wan_decode whole|tiles WIDTH HEIGHT FRAMES…";
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [way, numbers @ ..] = args.as_slice() else {
        return Err(usage.into());
    };
    let numbers = numbers.iter().map(|text| text.parse::<usize>());
    let numbers = numbers.collect::<Result<Vec<_>, _>>();
    let (Ok([width, height, lengths @ ..]), "whole" | "tiles") = (numbers.as_deref(), way.as_str())
    else {
        return Err(usage.into());
    };
    let config = WanVaeConfig {
        base_dim: 8,
        decoder_base_dim: 8,
        ..WanVaeConfig::wan21()
    };
    let vae = noise(&config)?;
    let (loaded, _) = memory();
    let (rows, columns) = (height / config.scale(), width / config.scale());
    // The reference's.
    let tiles = ClipTiles::of_pixels(256, 64, config.scale());
    for frames in lengths {
        let count = vae.latent_frames(*frames);
        let shape = (count, config.latent_channels, rows, columns);
        let latents = Tensor::randn(0f32, 1f32, shape, &Device::Cpu)?;
        forget_peak();
        if way == "whole" {
            let mut decoding = vae.decoding();
            for i in 0..count {
                // The frames go to the file at once.
                decoding.push(&latents.narrow(0, i, 1)?)?;
            }
        } else {
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
        }
        let peak = memory().1.saturating_sub(loaded) as f64 / 1e6;
        println!("{way}, {width} × {height}, {frames} frames: {peak:.0} MB");
    }
    Ok(())
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
