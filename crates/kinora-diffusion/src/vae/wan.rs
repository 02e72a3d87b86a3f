//! The video autoencoders of Wan 2.1 and 2.2 (`AutoencoderKLWan` of the diffusers library), streamed
//! in time: frames go in and come out in runs, and convolutions remember the frames before. Memory
//! grows with the size of a frame, not with their number, and a run's result does not depend on how
//! the frames are cut into runs.
//!
//! Frames are the first dimension of every tensor. The first frame has a latent frame of its own;
//! after it, `time_scale` frames share one.

mod blocks;

use candle_core::Tensor;
use kinora_weights::{LatentStats, WanVaeConfig};

use self::blocks::{Decoder, Encoder, Memory, POINT};
use super::{
    clip_tiles::{self, ClipTiles, FinishedPart, Region, Scales, TileDecoder},
    patches::{fold_patches, unfold_patches},
};
use crate::{
    Result,
    error::bail_shape,
    layers::{CausalConv3d, Weights, on_workers},
};

/// Frames to latents and back.
#[derive(Debug)]
pub struct WanVae {
    config: WanVaeConfig,
    stats: LatentStats,
    encoder: Encoder,
    quant: CausalConv3d,
    post_quant: CausalConv3d,
    decoder: Decoder,
}

impl WanVae {
    /// Reads every weight.
    pub fn load(weights: &Weights, config: &WanVaeConfig, stats: &LatentStats) -> Result<Self> {
        let latents = config.latent_channels;
        let point = |name: &str, channels| {
            CausalConv3d::load(&weights.at(name), channels, channels, POINT, 1)
        };
        Ok(Self {
            encoder: Encoder::load(&weights.at("encoder"), config)?,
            // Mean and logarithm of the variance.
            quant: point("quant_conv", 2 * latents)?,
            post_quant: point("post_quant_conv", latents)?,
            decoder: Decoder::load(&weights.at("decoder"), config)?,
            config: config.clone(),
            stats: stats.clone(),
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &WanVaeConfig {
        &self.config
    }

    /// Latent frames of so many frames; what does not fill a latent frame is left out.
    pub fn latent_frames(&self, frames: usize) -> usize {
        frames.saturating_sub(1) / self.config.time_scale() + 1
    }

    /// Begins to decode a clip.
    pub fn decoding(&self) -> WanDecoding<'_> {
        WanDecoding {
            vae: self,
            memory: Memory::default(),
        }
    }

    /// Begins to encode a clip.
    pub fn encoding(&self) -> WanEncoding<'_> {
        WanEncoding {
            vae: self,
            memory: Memory::default(),
        }
    }

    /// Mean latents of a clip, run by run: (frames, 3, height, width) in −1 to 1 →
    /// (latent frames, channels, height/scale, width/scale).
    pub fn encode(&self, frames: &Tensor) -> Result<Tensor> {
        let count = frames.dim(0)?;
        let step = self.config.time_scale();
        let mut encoding = self.encoding();
        let mut latents = vec![encoding.push(&frames.narrow(0, 0, 1)?)?];
        for first in (1..count).step_by(step) {
            if first + step <= count {
                latents.push(encoding.push(&frames.narrow(0, first, step)?)?);
            }
        }
        Ok(Tensor::cat(&latents, 0)?)
    }

    /// Decodes a clip tile by tile: (latent frames, channels, rows, columns) as the network gives
    /// them. Every part goes to `put` once, in −1 to 1. `go_on` is asked before each latent frame of
    /// each tile, with how many of all of them are done; the answer no ends the work, and then the
    /// result is no.
    pub fn decode_tiles(
        &self,
        latents: &Tensor,
        tiles: ClipTiles,
        go_on: &mut dyn FnMut(usize) -> bool,
        put: &mut dyn FnMut(FinishedPart<'_>) -> Result<()>,
    ) -> Result<bool> {
        let patch = self.config.patch_size;
        let finish = |part: &Tensor| Ok(unfold_patches(part, patch)?.clamp(-1f32, 1f32)?);
        let how = (tiles, self.scales());
        clip_tiles::decode(&mut self.decoding(), latents, how, &finish, go_on, put)
    }

    /// Encodes a clip tile by tile: the mean latents of `runs` runs of frames, (latent frames,
    /// channels, rows, columns). `pixels` gives the frames of a run, (frames, 3, height, width),
    /// for a region of them. None: `go_on`, asked before each run of each tile, said no.
    pub fn encode_tiles(
        &self,
        grid: [usize; 2],
        runs: usize,
        tiles: ClipTiles,
        go_on: &mut dyn FnMut() -> bool,
        pixels: &mut dyn FnMut(usize, Region) -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        clip_tiles::encode(grid, (tiles, self.scales()), &mut |region| {
            let mut encoding = self.encoding();
            let mut part = Vec::with_capacity(runs);
            for run in 0..runs {
                if !go_on() {
                    return Ok(None);
                }
                part.push(encoding.push(&pixels(run, region)?)?);
            }
            Ok(Some(Tensor::cat(&part, 0)?))
        })
    }

    /// Patches become pixels behind the network.
    fn scales(&self) -> Scales {
        let pixels = self.config.scale();
        Scales {
            pixels,
            unit: pixels / self.config.patch_size,
        }
    }

    /// Latents of the diffusion process → latents of the network: z · std + mean, channel by
    /// channel. (frames, channels, height, width)
    pub fn unscale(&self, latents: &Tensor) -> Result<Tensor> {
        // The reference divides by a rounded 1/std.
        let (mean, inverse) = self.stats_like(latents)?;
        Ok(latents.broadcast_div(&inverse)?.broadcast_add(&mean)?)
    }

    /// Latents of the network → latents of the diffusion process: (z − mean) / std.
    pub fn scale(&self, latents: &Tensor) -> Result<Tensor> {
        let (mean, inverse) = self.stats_like(latents)?;
        Ok(latents.broadcast_sub(&mean)?.broadcast_mul(&inverse)?)
    }

    /// Mean and 1/std, (1, channels, 1, 1).
    fn stats_like(&self, latents: &Tensor) -> Result<(Tensor, Tensor)> {
        let channels = self.config.latent_channels;
        if latents.dims4()?.1 != channels {
            bail_shape!(
                "{channels} latent channels expected, got {:?}",
                latents.dims()
            );
        }
        let row = |values: Vec<f32>| -> Result<Tensor> {
            let tensor = Tensor::from_vec(values, (1, channels, 1, 1), latents.device())?;
            Ok(tensor.to_dtype(latents.dtype())?)
        };
        Ok((
            row(self.stats.mean.iter().map(|mean| *mean as f32).collect())?,
            row(self.stats.std.iter().map(|std| 1.0 / *std as f32).collect())?,
        ))
    }
}

/// A clip on its way from latents to frames.
#[derive(Debug)]
pub struct WanDecoding<'a> {
    vae: &'a WanVae,
    memory: Memory,
}

impl WanDecoding<'_> {
    /// The frames of the next latent frames: (n, channels, height, width) as the network gives them
    /// → (frames, 3, height · scale, width · scale) in −1 to 1. The clip's first latent frame makes
    /// one frame, every other one `time_scale`.
    pub fn push(&mut self, latents: &Tensor) -> Result<Tensor> {
        let patch = self.vae.config.patch_size;
        let frames = self.push_folded(latents)?;
        on_workers(latents.device(), || {
            Ok(unfold_patches(&frames, patch)?.clamp(-1.0, 1.0)?)
        })
    }

    /// The same before patches are unfolded and pixels limited: (frames, 3 · patch², …).
    fn push_folded(&mut self, latents: &Tensor) -> Result<Tensor> {
        let (count, channels, ..) = latents.dims4()?;
        if count == 0 || channels != self.vae.config.latent_channels {
            bail_shape!("a decoder got latents of {:?}", latents.dims());
        }
        if self.memory.is_first() && count > 1 {
            // The first latent frame goes another way.
            let first = self.push_folded(&latents.narrow(0, 0, 1)?)?;
            let rest = self.push_folded(&latents.narrow(0, 1, count - 1)?)?;
            return Ok(Tensor::cat(&[&first, &rest], 0)?);
        }
        let vae = self.vae;
        on_workers(latents.device(), || {
            self.memory.begin();
            let x = vae
                .post_quant
                .forward(&latents.contiguous()?, self.memory.slot(), None)?;
            let x = vae.decoder.forward(x, &mut self.memory)?;
            self.memory.end();
            Ok(x)
        })
    }
}

impl TileDecoder for WanDecoding<'_> {
    fn begin(&mut self, _: (usize, usize)) -> Result<()> {
        self.memory = Memory::default();
        Ok(())
    }

    fn push(
        &mut self,
        latents: &Tensor,
        _: bool,
        tell: &mut dyn FnMut(Tensor) -> Result<()>,
    ) -> Result<()> {
        tell(self.push_folded(latents)?)
    }
}

/// A clip on its way from frames to latents.
#[derive(Debug)]
pub struct WanEncoding<'a> {
    vae: &'a WanVae,
    memory: Memory,
}

impl WanEncoding<'_> {
    /// The mean latents of the next frames: the clip's first frame alone, then multiples of
    /// `time_scale`. (n, 3, height, width) in −1 to 1 → (latent frames, channels, …).
    pub fn push(&mut self, frames: &Tensor) -> Result<Tensor> {
        let (count, channels, height, width) = frames.dims4()?;
        let config = &self.vae.config;
        let scale = config.scale();
        let is_run = if self.memory.is_first() {
            count == 1
        } else {
            count > 0 && count % config.time_scale() == 0
        };
        if !is_run || channels != 3 || height == 0 || width == 0 {
            bail_shape!("an encoder got frames of {:?}", frames.dims());
        }
        if height % scale != 0 || width % scale != 0 {
            bail_shape!("frames of {width}×{height} do not divide by {scale}");
        }
        let vae = self.vae;
        on_workers(frames.device(), || {
            self.memory.begin();
            let x = fold_patches(&frames.contiguous()?, vae.config.patch_size)?;
            let x = vae.encoder.forward(x, &mut self.memory)?;
            let x = vae.quant.forward(&x, self.memory.slot(), None)?;
            self.memory.end();
            Ok(x.narrow(1, 0, vae.config.latent_channels)?.contiguous()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device};

    use super::*;
    use crate::layers::{
        testing::{assert_close, wave},
        weights::Loaded,
    };

    fn tiny(is_residual: bool) -> WanVae {
        let release = if is_residual {
            WanVaeConfig::wan22()
        } else {
            WanVaeConfig::wan21()
        };
        let config = WanVaeConfig {
            base_dim: 4,
            decoder_base_dim: 4,
            latent_channels: 3,
            blocks_per_level: 1,
            ..release
        };
        let stats = LatentStats {
            mean: vec![0.1, -0.2, 0.3],
            std: vec![1.5, 2.0, 0.7],
        };
        let survey = Weights::survey();
        WanVae::load(&survey, &config, &stats).unwrap();
        let tensors: HashMap<String, Tensor> = survey
            .asked()
            .into_iter()
            .enumerate()
            .map(|(i, (name, shape))| {
                let inputs: usize = shape[1..].iter().product();
                let offset = if name.ends_with("gamma") { 1.0 } else { 0.0 };
                let scale = 1.0 / (inputs as f64).sqrt();
                let tensor = wave(&[1 + i, shape.iter().product()])
                    .narrow(0, i, 1)
                    .unwrap();
                let tensor = tensor.affine(0.7 * scale, offset).unwrap();
                (name, tensor.reshape(shape).unwrap().contiguous().unwrap())
            })
            .collect();
        let weights = Weights::new(Loaded::new("tiny", tensors), &Device::Cpu, DType::F32);
        WanVae::load(&weights, &config, &stats).unwrap()
    }

    #[test]
    fn a_streamed_decode_equals_a_whole_one_bit_for_bit() {
        for is_residual in [false, true] {
            let vae = tiny(is_residual);
            let latents = wave(&[6, 3, 3, 5]);
            let whole = vae.decoding().push(&latents).unwrap();
            let scale = vae.config().scale();
            assert_eq!(whole.dims(), [21, 3, 3 * scale, 5 * scale]);
            for runs in [[1, 1, 1, 1, 1, 1].as_slice(), &[1, 2, 3], &[3, 1, 2]] {
                let (mut decoding, mut first, mut parts) = (vae.decoding(), 0, Vec::new());
                for count in runs {
                    let run = latents.narrow(0, first, *count).unwrap();
                    parts.push(decoding.push(&run).unwrap());
                    first += count;
                }
                assert_close(&Tensor::cat(&parts, 0).unwrap(), &whole, 0.0);
            }
        }
    }

    #[test]
    fn a_streamed_encode_equals_a_whole_one_bit_for_bit() {
        for is_residual in [false, true] {
            let vae = tiny(is_residual);
            let scale = vae.config().scale();
            let frames = (wave(&[13, 3, 2 * scale, 3 * scale]) * 0.6).unwrap();
            let streamed = vae.encode(&frames).unwrap();
            assert_eq!(streamed.dims(), [4, 3, 2, 3]);
            let mut encoding = vae.encoding();
            let first = encoding.push(&frames.narrow(0, 0, 1).unwrap()).unwrap();
            let rest = encoding.push(&frames.narrow(0, 1, 12).unwrap()).unwrap();
            assert_close(&Tensor::cat(&[first, rest], 0).unwrap(), &streamed, 0.0);
            // What does not fill a latent frame is left out.
            let more = vae.encode(&frames.narrow(0, 0, 12).unwrap()).unwrap();
            assert_close(&more, &streamed.narrow(0, 0, 3).unwrap(), 0.0);
        }
    }

    #[test]
    fn scaling_is_undone_and_wrong_runs_are_errors() {
        let vae = tiny(false);
        let latents = wave(&[2, 3, 4, 4]);
        let back = vae.scale(&vae.unscale(&latents).unwrap()).unwrap();
        assert_close(&back, &latents, 1e-6);
        assert!(vae.unscale(&wave(&[1, 4, 2, 2])).is_err());
        assert!(vae.decoding().push(&wave(&[1, 4, 2, 2])).is_err());
        assert!(vae.encoding().push(&wave(&[4, 3, 8, 8])).is_err());
        assert!(vae.encoding().push(&wave(&[1, 3, 8, 12])).is_err());
        let mut encoding = vae.encoding();
        encoding.push(&wave(&[1, 3, 8, 8])).unwrap();
        assert!(encoding.push(&wave(&[3, 3, 8, 8])).is_err());
    }
}
