//! Times single networks at their true sizes, for comparison with the reference library:
//! `bench_networks unet|vae|wan_vae FOLDER ROUNDS`, where the folder is one that
//! `tools/bench/networks.py make` wrote. The best of ROUNDS in milliseconds and the memory of
//! loading and computing in bytes, as one line of JSON.
//!
//! - `unet`: one forward of SD 1.5 at 512 × 512 (latents 64 × 64), one row, 77 tokens.
//! - `vae`: one decode of SDXL's VAE to 512 × 512, whole.
//! - `wan_vae`: one decode of Wan 2.1's VAE to 17 frames of 256 × 256, streamed; and the memory that
//!   33 frames take.

mod timing;

use std::{error::Error, path::Path};

use candle_core::{DType, Device, Result, Tensor};
use kinora_diffusion::{
    denoisers::{UnetDenoiser, UnetInput},
    layers::Weights,
    vae::{KlVae, Tiling, WanVae},
};
use kinora_weights::{LatentStats, UnetConfig, VaeConfig, WanVaeConfig, WeightSet};

use timing::{best, forget_peak, memory};

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let usage = "usage: bench_networks unet|vae|wan_vae FOLDER ROUNDS";
    let [_, network, folder, rounds] = args.as_slice() else {
        return Err(usage.into());
    };
    let (folder, rounds) = (Path::new(folder), rounds.parse()?);
    let config = folder.join("config.json");
    let (bare, _) = memory();
    let set = WeightSet::open_folder(folder)?;
    let weight_bytes = set.total_bytes();
    let weights = Weights::new(set, &Device::Cpu, DType::F32);
    let told = match network.as_str() {
        "unet" => {
            let unet = UnetDenoiser::load(&weights, &UnetConfig::read(&config)?, &mut |_| {})?;
            let loaded = Loaded::now(bare, weight_bytes);
            let text = unet.prepare(&random(&[1, 77, unet.config().cross_attention_dim])?, None)?;
            let latents = random(&[1, 4, 64, 64])?;
            let input = UnetInput {
                latents: &latents,
                timestep: 500.0,
                text: &text,
            };
            loaded.measure(rounds, || unet.forward(&input))?
        }
        "vae" => {
            let vae = KlVae::load(&weights, &VaeConfig::read(&config)?)?;
            let loaded = Loaded::now(bare, weight_bytes);
            let latents = random(&[1, vae.config().latent_channels, 64, 64])?;
            loaded.measure(rounds, || vae.decode(&latents, Tiling::Whole))?
        }
        "wan_vae" => {
            let vae = WanVae::load(
                &weights,
                &WanVaeConfig::read(&config)?,
                &LatentStats::wan21(),
            )?;
            let loaded = Loaded::now(bare, weight_bytes);
            let decode = |frames: usize| -> kinora_diffusion::Result<()> {
                let mut decoding = vae.decoding();
                for _ in 0..vae.latent_frames(frames) {
                    // The frames go to the file, one latent frame's at a time.
                    decoding.push(&random(&[1, 16, 32, 32])?)?;
                }
                Ok(())
            };
            let told = loaded.measure(rounds, || decode(17))?;
            let (before, _) = memory();
            forget_peak();
            decode(33)?;
            let longer = memory().1.saturating_sub(before);
            format!("{told},\"longer_bytes\":{longer}")
        }
        _ => return Err(usage.into()),
    };
    println!("{{{told}}}");
    Ok(())
}

fn random(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu)
}

/// What a network takes once it is loaded.
struct Loaded {
    /// Bytes of its tensors in the file.
    stored: u64,
    /// Bytes that stay in memory.
    resident: u64,
    /// Bytes that were in memory at most while it was read.
    peak: u64,
}

impl Loaded {
    /// `bare` is what the process had before.
    fn now(bare: u64, stored: u64) -> Self {
        let (resident, peak) = memory();
        Self {
            stored,
            resident: resident.saturating_sub(bare),
            peak: peak.saturating_sub(bare),
        }
    }

    /// Times a call and tells what it takes besides the weights.
    fn measure<T, E>(
        &self,
        rounds: usize,
        call: impl FnMut() -> std::result::Result<T, E>,
    ) -> std::result::Result<String, E> {
        let (before, _) = memory();
        forget_peak();
        let (wall, busy) = best(rounds, call)?;
        let work = memory().1.saturating_sub(before);
        Ok(format!(
            "\"ms\":{wall:.3},\"cpu_ms\":{busy:.3},\"stored_bytes\":{},\"resident_bytes\":{},\
             \"loading_peak_bytes\":{},\"work_bytes\":{work}",
            self.stored, self.resident, self.peak
        ))
    }
}
