//! The video autoencoders of LTX-Video and LTX-2 (`AutoencoderKLLTXVideo` and
//! `AutoencoderKLLTX2Video` of the diffusers library), streamed in time: frames go in and come out in
//! runs, and layers remember the frames before. Memory grows with the size of a frame, not with
//! their number, and a clip's result does not depend on how it is cut into runs.
//!
//! Frames are the first dimension of every tensor. The first frame has a latent frame of its own;
//! after it, `time_scale` frames share one. Decoders see ahead, so that frames come out some latent
//! frames late.

mod blocks;

use candle_core::{DType, Tensor};
use kinora_weights::LtxVaeConfig;

use self::blocks::{Decoder, Encoder, Memory};
use super::{
    clip_tiles::{self, ClipTiles, FinishedPart, Scales, TileDecoder},
    patches::{fold_patches, unfold_patches},
};
use crate::{
    Error, Result,
    error::bail_shape,
    layers::{ChannelNorm, Weights, on_workers},
    noise::Generator,
};

/// Frames to latents and back.
#[derive(Debug)]
pub struct LtxVae {
    config: LtxVaeConfig,
    /// (channels), f32
    mean: Tensor,
    /// (channels), f32
    std: Tensor,
    encoder: Encoder,
    decoder: Decoder,
}

/// Latents of the encoder: a normal distribution at each place.
#[derive(Clone, Debug)]
pub struct LtxMoments {
    /// (frames, channels, height, width)
    pub mean: Tensor,
    /// (frames, 1, height, width): the logarithm of the variance of all channels.
    pub log_variance: Tensor,
}

impl LtxMoments {
    /// Latents from standard normals of the mean's shape, f32.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        let mean = self.mean.to_dtype(DType::F32)?;
        let log_variance = self.log_variance.to_dtype(DType::F32)?;
        let std = (log_variance.clamp(-30f32, 20f32)? * 0.5)?.exp()?;
        Ok((mean + noise.broadcast_mul(&std)?)?)
    }
}

impl LtxVae {
    /// Reads every weight.
    ///
    /// # Errors
    /// Beside faults of the weights: an encoder that sees ahead is refused, as is a decoder that is
    /// told the noise level and narrows by blocks. No published VAE is of these kinds.
    pub fn load(weights: &Weights, config: &LtxVaeConfig) -> Result<Self> {
        let narrows = config.up.iter().any(|level| level.inputs != level.width);
        if !config.is_encoder_causal || (config.is_timed && narrows) {
            return Err(Error::bad_weights(
                weights.path(),
                "its VAE is of no kind that LTX has published",
            ));
        }
        let channels = config.latent_channels;
        Ok(Self {
            mean: weights.get_f32("latents_mean", &[channels])?,
            std: weights.get_f32("latents_std", &[channels])?,
            encoder: Encoder::load(&weights.at("encoder"), config)?,
            decoder: Decoder::load(&weights.at("decoder"), config)?,
            config: config.clone(),
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &LtxVaeConfig {
        &self.config
    }

    /// Latent frames of so many frames; what does not fill a latent frame is left out.
    pub fn latent_frames(&self, frames: usize) -> usize {
        frames.saturating_sub(1) / self.config.time_scale() + 1
    }

    /// Begins to decode a clip whose latents have `size` (height, width) and hold this share of
    /// noise, which counts where the decoder is told it. What the decoder adds of its own it draws
    /// here.
    pub fn decoding(
        &self,
        share: f32,
        size: (usize, usize),
        generator: &mut Generator,
    ) -> Result<LtxDecoding<'_>> {
        let device = self.mean.device();
        let (memories, norm_out) = self.decoder.prepare(share, size, generator, device)?;
        Ok(LtxDecoding {
            vae: self,
            memories,
            norm_out,
            is_over: false,
        })
    }

    /// Tiles of `pixels` along each side, `shared` of which neighbours share.
    pub fn tiles(&self, pixels: usize, shared: usize) -> ClipTiles {
        ClipTiles {
            least: if self.config.is_decoder_mirrored {
                2
            } else {
                1
            },
            ..ClipTiles::of_pixels(pixels, shared, self.config.scale())
        }
    }

    /// Decodes a clip tile by tile: (latent frames, channels, rows, columns) as the network takes
    /// them, with this share of noise. What the decoder adds of its own is drawn for every tile in
    /// its turn. Every part goes to `put` once. `go_on` is asked before each latent frame of each
    /// tile, with how many of all of them are done; the answer no ends the work, and then the result
    /// is no.
    pub fn decode_tiles(
        &self,
        latents: &Tensor,
        tiles: ClipTiles,
        (share, generator): (f32, &mut Generator),
        go_on: &mut dyn FnMut(usize) -> bool,
        put: &mut dyn FnMut(FinishedPart<'_>) -> Result<()>,
    ) -> Result<bool> {
        let mut decoder = TileByTile {
            vae: self,
            share,
            generator,
            decoding: None,
        };
        let how = (tiles, self.scales());
        clip_tiles::decode(
            &mut decoder,
            latents,
            how,
            &|part| Ok(part.clone()),
            go_on,
            put,
        )
    }

    /// What [`encoding`](Self::encoding) says of the first frames of a clip, tile by tile:
    /// (1 + n · `time_scale`, 3, height, width) in −1 to 1; f32.
    pub fn encode_tiles(&self, frames: &Tensor, tiles: ClipTiles) -> Result<LtxMoments> {
        let (_, _, height, width) = frames.dims4()?;
        let grid = [height, width].map(|side| side / self.config.scale());
        let mut encode = |[(top, rows), (left, columns)]: clip_tiles::Region| {
            let part = frames.narrow(2, top, rows)?.narrow(3, left, columns)?;
            let moments = self.encoding().push(&part.contiguous()?)?;
            Ok(Some(Tensor::cat(&[moments.mean, moments.log_variance], 1)?))
        };
        let Some(moments) = clip_tiles::encode(grid, (tiles, self.scales()), &mut encode)? else {
            bail_shape!("tiles of {:?} without latents", frames.dims());
        };
        self.to_moments(&moments)
    }

    /// Means of all channels, then one logarithm of the variance.
    fn to_moments(&self, x: &Tensor) -> Result<LtxMoments> {
        let channels = self.config.latent_channels;
        Ok(LtxMoments {
            mean: x.narrow(1, 0, channels)?.contiguous()?,
            log_variance: x.narrow(1, channels, 1)?.contiguous()?,
        })
    }

    /// Patches are pixels already where tiles are joined.
    fn scales(&self) -> Scales {
        let pixels = self.config.scale();
        Scales {
            pixels,
            unit: pixels,
        }
    }

    /// Begins to encode a clip.
    pub fn encoding(&self) -> LtxEncoding<'_> {
        LtxEncoding {
            vae: self,
            memory: Memory::default(),
            has_begun: false,
        }
    }

    /// Mean latents of a clip, run by run: (frames, 3, height, width) in −1 to 1 →
    /// (latent frames, channels, height/scale, width/scale).
    pub fn encode(&self, frames: &Tensor) -> Result<Tensor> {
        let count = frames.dim(0)?;
        let step = self.config.time_scale();
        let mut encoding = self.encoding();
        let mut latents = vec![encoding.push(&frames.narrow(0, 0, 1)?)?.mean];
        for first in (1..count).step_by(step) {
            if first + step <= count {
                latents.push(encoding.push(&frames.narrow(0, first, step)?)?.mean);
            }
        }
        Ok(Tensor::cat(&latents, 0)?)
    }

    /// Latents of the diffusion process → latents of the network: z · std / factor + mean, channel
    /// by channel. (frames, channels, height, width)
    pub fn unscale(&self, latents: &Tensor) -> Result<Tensor> {
        let (mean, std) = self.stats_like(latents)?;
        let scaled = latents.broadcast_mul(&std)?;
        let scaled = match self.config.scaling_factor {
            1.0 => scaled,
            factor => (scaled / factor)?,
        };
        Ok(scaled.broadcast_add(&mean)?)
    }

    /// Latents of the network → latents of the diffusion process: (z − mean) · factor / std.
    pub fn scale(&self, latents: &Tensor) -> Result<Tensor> {
        let (mean, std) = self.stats_like(latents)?;
        let centred = latents.broadcast_sub(&mean)?;
        let centred = match self.config.scaling_factor {
            1.0 => centred,
            factor => (centred * factor)?,
        };
        Ok(centred.broadcast_div(&std)?)
    }

    /// Mean and deviation, (1, channels, 1, 1).
    fn stats_like(&self, latents: &Tensor) -> Result<(Tensor, Tensor)> {
        let channels = self.config.latent_channels;
        if latents.dims4()?.1 != channels {
            bail_shape!(
                "{channels} latent channels expected, got {:?}",
                latents.dims()
            );
        }
        let row = |values: &Tensor| -> Result<Tensor> {
            let row = values.reshape((1, channels, 1, 1))?;
            Ok(row.to_dtype(latents.dtype())?)
        };
        Ok((row(&self.mean)?, row(&self.std)?))
    }
}

/// A clip on its way from latents to frames.
#[derive(Debug)]
pub struct LtxDecoding<'a> {
    vae: &'a LtxVae,
    /// Of each part of the decoder.
    memories: Vec<Memory>,
    norm_out: ChannelNorm,
    is_over: bool,
}

/// Takes frames as they come: (frames, 3, height, width).
pub type Tell<'a> = &'a mut dyn FnMut(Tensor) -> Result<()>;

impl LtxDecoding<'_> {
    /// Tells the frames that the next latent frames bring out: (n, channels, height, width) as the
    /// network gives them → runs of (frames, 3, height · scale, width · scale) around −1 to 1. With
    /// `is_last` no latents come after these and every frame comes out. A clip of n latent frames
    /// has `(n − 1) · time_scale + 1` frames.
    ///
    /// However many frames come out at once, no more than those of one latent frame are on their way
    /// between two parts of the decoder.
    ///
    /// # Errors
    /// Latents of another kind, latents after the last ones, and what `tell` answers.
    pub fn push(&mut self, latents: &Tensor, is_last: bool, tell: Tell) -> Result<()> {
        let (count, channels, ..) = latents.dims4()?;
        if count == 0 || channels != self.vae.config.latent_channels || self.is_over {
            bail_shape!("a decoder got latents of {:?}", latents.dims());
        }
        self.is_over = is_last;
        self.pass(0, latents, 1, is_last, tell)
    }

    /// Every frame at once.
    pub fn finish(&mut self, latents: &Tensor) -> Result<Tensor> {
        let mut frames = Vec::new();
        self.push(latents, true, &mut |run| {
            frames.push(run);
            Ok(())
        })?;
        Ok(Tensor::cat(&frames, 0)?)
    }

    /// Frames through a part of the decoder, so many at a time, and on to the next one.
    fn pass(
        &mut self,
        stage: usize,
        frames: &Tensor,
        piece: usize,
        is_last: bool,
        tell: Tell,
    ) -> Result<()> {
        let (vae, count) = (self.vae, frames.dim(0)?);
        for first in (0..count).step_by(piece) {
            let run = piece.min(count - first);
            let is_last = is_last && first + run == count;
            let frames = frames.narrow(0, first, run)?.contiguous()?;
            let (memory, norm_out) = (&mut self.memories[stage], &self.norm_out);
            let made = on_workers(frames.device(), || {
                memory.begin(is_last);
                vae.decoder.forward(stage, frames.clone(), norm_out, memory)
            })?;
            let Some(made) = made else {
                continue;
            };
            if stage + 1 == vae.decoder.stages() {
                tell(unfold_patches(&made, vae.config.patch_size)?)?;
            } else {
                let piece = vae.decoder.piece(stage);
                self.pass(stage + 1, &made, piece, is_last, tell)?;
            }
        }
        Ok(())
    }
}

/// A decoder that begins a clip anew for every tile.
struct TileByTile<'a> {
    vae: &'a LtxVae,
    share: f32,
    generator: &'a mut Generator,
    decoding: Option<LtxDecoding<'a>>,
}

impl TileDecoder for TileByTile<'_> {
    fn begin(&mut self, size: (usize, usize)) -> Result<()> {
        // What the tile before remembers goes first.
        self.decoding = None;
        self.decoding = Some(self.vae.decoding(self.share, size, self.generator)?);
        Ok(())
    }

    fn push(&mut self, latents: &Tensor, is_last: bool, tell: Tell) -> Result<()> {
        match &mut self.decoding {
            Some(decoding) => decoding.push(latents, is_last, tell),
            None => bail_shape!("latents of {:?} before a tile began", latents.dims()),
        }
    }
}

/// A clip on its way from frames to latents.
#[derive(Debug)]
pub struct LtxEncoding<'a> {
    vae: &'a LtxVae,
    memory: Memory,
    has_begun: bool,
}

impl LtxEncoding<'_> {
    /// The latents of the next frames: one more than a multiple of `time_scale` at first, then
    /// multiples. (n, 3, height, width) in −1 to 1.
    pub fn push(&mut self, frames: &Tensor) -> Result<LtxMoments> {
        let (count, channels, height, width) = frames.dims4()?;
        let config = &self.vae.config;
        let (scale, step) = (config.scale(), config.time_scale());
        let rest = match self.has_begun {
            true => count % step,
            false => (count + step - 1) % step,
        };
        if rest != 0 || count == 0 || channels != 3 || height == 0 || width == 0 {
            bail_shape!("an encoder got frames of {:?}", frames.dims());
        }
        if !height.is_multiple_of(scale) || !width.is_multiple_of(scale) {
            bail_shape!("frames of {width}×{height} do not divide by {scale}");
        }
        self.has_begun = true;
        let vae = self.vae;
        on_workers(frames.device(), || {
            self.memory.begin(false);
            let x = fold_patches(&frames.contiguous()?, config.patch_size)?;
            let Some(x) = vae.encoder.forward(x, &mut self.memory)? else {
                bail_shape!("an encoder kept frames of {:?}", frames.dims());
            };
            vae.to_moments(&x)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::Device;
    use kinora_core::Rng;
    use kinora_weights::maps::ltx_vae::LtxVaeRelease;

    use super::*;
    use crate::layers::{
        testing::{assert_close, wave},
        weights::Loaded,
    };

    const RELEASES: [LtxVaeRelease; 4] = [
        LtxVaeRelease::V090,
        LtxVaeRelease::V091,
        LtxVaeRelease::V095,
        LtxVaeRelease::Two,
    ];

    /// A published VAE with a thirty-second of its widths and one block for each level.
    fn tiny(release: LtxVaeRelease) -> LtxVae {
        let mut config = LtxVaeConfig::published(release);
        let narrow = |width: &mut usize| *width /= 16;
        config.latent_channels = 4;
        narrow(&mut config.encoder_width);
        narrow(&mut config.decoder_width);
        for level in &mut config.down {
            narrow(&mut level.width);
            narrow(&mut level.outputs);
            level.blocks = 1;
        }
        for level in &mut config.up {
            narrow(&mut level.inputs);
            narrow(&mut level.width);
            level.blocks = 1;
        }
        (config.encoder_middle, config.decoder_middle) = (1, 1);
        let survey = Weights::survey();
        LtxVae::load(&survey, &config).unwrap();
        let tensors: HashMap<String, Tensor> = survey
            .asked()
            .into_iter()
            .enumerate()
            .map(|(i, (name, shape))| {
                let inputs: usize = shape.iter().skip(1).product();
                let offset = f64::from(u8::from(name.ends_with("norm3.weight")));
                let scale = 1.0 / (inputs as f64).sqrt();
                let count: usize = shape.iter().product();
                let tensor = wave(&[1 + i, count]).narrow(0, i, 1).unwrap();
                let tensor = match name.as_str() {
                    "latents_std" => tensor.abs().unwrap().affine(1.0, 0.5).unwrap(),
                    _ => tensor.affine(0.7 * scale, offset).unwrap(),
                };
                (name, tensor.reshape(shape).unwrap().contiguous().unwrap())
            })
            .collect();
        let weights = Weights::new(Loaded::new("tiny", tensors), &Device::Cpu, DType::F32);
        LtxVae::load(&weights, &config).unwrap()
    }

    fn decode(vae: &LtxVae, latents: &Tensor, runs: &[usize]) -> (Tensor, usize) {
        let (_, _, height, width) = latents.dims4().unwrap();
        let mut generator = Generator::new(Rng::Cpu, 7);
        let mut decoding = vae.decoding(0.05, (height, width), &mut generator).unwrap();
        let (mut first, mut parts) = (0, Vec::new());
        for (i, count) in runs.iter().enumerate() {
            let run = latents.narrow(0, first, *count).unwrap();
            let mut tell = |frames: Tensor| {
                parts.push(frames);
                Ok(())
            };
            let is_last = i + 1 == runs.len();
            decoding.push(&run, is_last, &mut tell).unwrap();
            first += count;
        }
        assert!(decoding.finish(latents).is_err());
        let most = parts.iter().map(|part| part.dims()[0]).max().unwrap();
        (Tensor::cat(&parts, 0).unwrap(), most)
    }

    #[test]
    fn a_streamed_decode_equals_a_whole_one_bit_for_bit() {
        for release in RELEASES {
            let vae = tiny(release);
            assert_eq!((vae.config().scale(), vae.config().time_scale()), (32, 8));
            let latents = wave(&[9, 4, 2, 3]);
            let (whole, most) = decode(&vae, &latents, &[9]);
            assert_eq!(whole.dims(), [65, 3, 64, 96]);
            // What comes out at the end comes in runs of a latent frame too, one frame late.
            assert!(most <= 9, "{release:?}: {most}");
            for runs in [[1; 9].as_slice(), &[4, 5], &[7, 2]] {
                let (streamed, _) = decode(&vae, &latents, runs);
                assert_close(&streamed, &whole, 0.0);
            }
            let (alone, _) = decode(&vae, &latents.narrow(0, 0, 1).unwrap(), &[1]);
            assert_eq!(alone.dims(), [1, 3, 64, 96]);
        }
    }

    #[test]
    fn a_streamed_encode_equals_a_whole_one_bit_for_bit() {
        for release in RELEASES {
            let vae = tiny(release);
            let frames = (wave(&[25, 3, 64, 96]) * 0.6).unwrap();
            let streamed = vae.encode(&frames).unwrap();
            assert_eq!(streamed.dims(), [4, 4, 2, 3]);
            let whole = vae.encoding().push(&frames).unwrap();
            assert_close(&whole.mean, &streamed, 0.0);
            // What does not fill a latent frame is left out.
            let more = vae.encode(&frames.narrow(0, 0, 24).unwrap()).unwrap();
            assert_close(&more, &streamed.narrow(0, 0, 3).unwrap(), 0.0);
            let noise = wave(&[4, 4, 2, 3]);
            assert_ne!(
                whole.sample(&noise).unwrap().to_string(),
                streamed.to_string()
            );
        }
    }

    #[test]
    fn a_decoder_that_knows_the_noise_makes_other_frames_of_it() {
        let latents = wave(&[2, 4, 2, 2]);
        let frame = |vae: &LtxVae, share: f32, seed: u64| {
            let mut generator = Generator::new(Rng::Cpu, seed);
            let mut decoding = vae.decoding(share, (2, 2), &mut generator).unwrap();
            let frames = decoding.finish(&latents).unwrap();
            frames.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let plain = tiny(LtxVaeRelease::V090);
        assert_eq!(frame(&plain, 0.0, 1), frame(&plain, 0.5, 2));
        let timed = tiny(LtxVaeRelease::V095);
        assert_ne!(frame(&timed, 0.0, 1), frame(&timed, 0.5, 1));
        assert_eq!(frame(&timed, 0.5, 1), frame(&timed, 0.5, 2));
        // 0.9.1 adds noise of its own, by the seed.
        let noisy = tiny(LtxVaeRelease::V091);
        assert_ne!(frame(&noisy, 0.0, 1), frame(&noisy, 0.0, 2));
        assert_eq!(frame(&noisy, 0.0, 2), frame(&noisy, 0.0, 2));
    }

    #[test]
    fn scaling_is_undone_and_wrong_runs_are_errors() {
        let vae = tiny(LtxVaeRelease::V095);
        let latents = wave(&[2, 4, 3, 3]);
        let back = vae.scale(&vae.unscale(&latents).unwrap()).unwrap();
        assert_close(&back, &latents, 1e-5);
        assert!(vae.unscale(&wave(&[1, 5, 2, 2])).is_err());
        let mut generator = Generator::new(Rng::Cpu, 7);
        let mut decoding = vae.decoding(0.0, (2, 2), &mut generator).unwrap();
        assert!(decoding.finish(&wave(&[1, 5, 2, 2])).is_err());
        assert!(vae.encoding().push(&wave(&[2, 3, 32, 32])).is_err());
        assert!(vae.encoding().push(&wave(&[1, 3, 32, 40])).is_err());
        let mut encoding = vae.encoding();
        encoding.push(&wave(&[9, 3, 32, 32])).unwrap();
        assert!(encoding.push(&wave(&[9, 3, 32, 32])).is_err());
    }
}
