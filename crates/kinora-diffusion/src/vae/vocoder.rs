//! LTX-2's vocoder: spectrograms to samples (`LTX2Vocoder` of the diffusers library, after HiFi-GAN
//! and BigVGAN), and the second stage of 2.3, which makes the frequencies that the first one lacks
//! (`LTX2VocoderWithBWE`).

use candle_core::{DType, Device, Tensor};
use kinora_weights::{
    Ltx2Activation, Ltx2Finish, Ltx2StageConfig, Ltx2VocoderConfig, Ltx2WideningConfig,
};

use crate::{
    Result,
    error::bail_shape,
    layers::{Conv1d, Lengthening, Snake, Weights, on_workers, snake::widen},
};

/// Below zero, before the last layer, whatever the slope elsewhere.
const LAST_SLOPE: f64 = 0.01;
/// What a logarithm is taken of is not smaller.
const FLOOR: f64 = 1e-5;
/// Numbers on each side that a resampled one sees, and how much of the band is kept.
const RESAMPLING_WIDTH: f64 = 6.0;
const ROLLOFF: f64 = 0.99;

/// Spectrograms to samples.
#[derive(Debug)]
pub struct Vocoder {
    stage: Stage,
    widening: Option<Widening>,
    config: Ltx2VocoderConfig,
}

impl Vocoder {
    /// Reads every weight.
    pub fn load(weights: &Weights, config: &Ltx2VocoderConfig) -> Result<Self> {
        let (stage, widening) = match &config.widening {
            Some(widening) => (
                Stage::load(&weights.at("vocoder"), &config.stage)?,
                Some(Widening::load(weights, widening)?),
            ),
            None => (Stage::load(weights, &config.stage)?, None),
        };
        Ok(Self {
            stage,
            widening,
            config: config.clone(),
        })
    }

    /// Samples a second.
    pub fn sample_rate(&self) -> u32 {
        self.config.sample_rate as u32
    }

    /// (batch, channels, rows, columns) → (batch, channels, samples) in −1 to 1.
    pub fn forward(&self, spectrogram: &Tensor) -> Result<Tensor> {
        on_workers(spectrogram.device(), || {
            let samples = self.stage.forward(spectrogram)?;
            match &self.widening {
                Some(widening) => widening.forward(&samples),
                None => Ok(samples),
            }
        })
    }
}

/// What stands between two layers.
#[derive(Debug)]
enum Activation {
    Leaky(f64),
    Snake(Snake),
}

impl Activation {
    fn load(weights: &Weights, kind: Ltx2Activation, channels: usize) -> Result<Self> {
        Ok(match kind {
            Ltx2Activation::Leaky(slope) => Self::Leaky(f64::from(slope)),
            Ltx2Activation::Snake => Self::Snake(Snake::load(weights, channels)?),
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Leaky(slope) => leak(x, *slope),
            Self::Snake(snake) => snake.forward(x),
        }
    }
}

/// x, or so much of it below zero.
fn leak(x: &Tensor, slope: f64) -> Result<Tensor> {
    Ok(x.maximum(&(x * slope)?)?)
}

/// Convolutions of one dilation after another, each around an activation.
#[derive(Debug)]
struct Block {
    steps: Vec<(Activation, Conv1d, Activation, Conv1d)>,
}

impl Block {
    fn load(
        weights: &Weights,
        channels: usize,
        (kernel, dilations): &(usize, Vec<usize>),
        kind: Ltx2Activation,
    ) -> Result<Self> {
        let steps = dilations
            .iter()
            .enumerate()
            .map(|(i, dilation)| {
                let activation =
                    |name: &str| Activation::load(&weights.at(name).at(i), kind, channels);
                let conv = |name: &str, dilation| {
                    let weights = weights.at(name).at(i);
                    Conv1d::load(&weights, channels, channels, (*kernel, dilation), true)
                };
                Ok((
                    activation("acts1")?,
                    conv("convs1", *dilation)?,
                    activation("acts2")?,
                    conv("convs2", 1)?,
                ))
            })
            .collect::<Result<_>>()?;
        Ok(Self { steps })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (before, wide, between, narrow) in &self.steps {
            let y = wide.forward(&before.forward(&x)?)?;
            let y = narrow.forward(&between.forward(&y)?)?;
            x = (x + y)?;
        }
        Ok(x)
    }
}

/// From a spectrogram to a signal, level by level.
#[derive(Debug)]
struct Stage {
    conv_in: Conv1d,
    /// What lengthens, then blocks side by side.
    levels: Vec<(Lengthening, Vec<Block>)>,
    /// Before each level.
    slope: Option<f64>,
    activation: Activation,
    conv_out: Conv1d,
    finish: Ltx2Finish,
    in_channels: usize,
}

impl Stage {
    fn load(weights: &Weights, config: &Ltx2StageConfig) -> Result<Self> {
        let side_by_side = config.blocks.len();
        let mut channels = config.hidden;
        let mut levels = Vec::with_capacity(config.levels.len());
        for (i, level) in config.levels.iter().enumerate() {
            let outputs = channels / 2;
            let lengthening =
                Lengthening::load(&weights.at("upsamplers").at(i), channels, outputs, *level)?;
            let blocks = config
                .blocks
                .iter()
                .enumerate()
                .map(|(j, block)| {
                    let weights = weights.at("resnets").at(i * side_by_side + j);
                    Block::load(&weights, outputs, block, config.activation)
                })
                .collect::<Result<_>>()?;
            levels.push((lengthening, blocks));
            channels = outputs;
        }
        let (slope, activation) = match config.activation {
            Ltx2Activation::Leaky(slope) => (Some(f64::from(slope)), Activation::Leaky(LAST_SLOPE)),
            Ltx2Activation::Snake => (
                None,
                Activation::load(&weights.at("act_out"), config.activation, channels)?,
            ),
        };
        Ok(Self {
            conv_in: Conv1d::load(
                &weights.at("conv_in"),
                config.in_channels,
                config.hidden,
                (7, 1),
                true,
            )?,
            levels,
            slope,
            activation,
            conv_out: Conv1d::load(
                &weights.at("conv_out"),
                channels,
                config.out_channels,
                (7, 1),
                config.has_bias,
            )?,
            finish: config.finish,
            in_channels: config.in_channels,
        })
    }

    /// (batch, channels, rows, columns) → (batch, channels, samples)
    fn forward(&self, spectrogram: &Tensor) -> Result<Tensor> {
        let (batch, channels, rows, columns) = spectrogram.dims4()?;
        if channels * columns != self.in_channels || rows == 0 {
            bail_shape!("a vocoder got {:?}", spectrogram.dims());
        }
        let x = spectrogram.transpose(2, 3)?.contiguous()?.reshape((
            batch,
            channels * columns,
            rows,
        ))?;
        let mut x = self.conv_in.forward(&x)?;
        for (lengthening, blocks) in &self.levels {
            if let Some(slope) = self.slope {
                x = leak(&x, slope)?;
            }
            x = lengthening.forward(&x)?;
            let mut sum: Option<Tensor> = None;
            for block in blocks {
                let y = block.forward(&x)?;
                sum = Some(match sum {
                    Some(sum) => (sum + y)?,
                    None => y,
                });
            }
            if let Some(sum) = sum {
                x = (sum / blocks.len() as f64)?;
            }
        }
        let y = self.conv_out.forward(&self.activation.forward(&x)?)?;
        Ok(match self.finish {
            Ltx2Finish::Nothing => y,
            Ltx2Finish::Tanh => y.tanh()?,
            Ltx2Finish::Clamp => y.clamp(-1f32, 1f32)?,
        })
    }
}

/// What the first stage lacks, added to what it made at a higher rate.
#[derive(Debug)]
struct Widening {
    stage: Stage,
    /// (2 · frequencies, samples), f32: cosines, then sines, windowed.
    basis: Tensor,
    /// (columns, frequencies), f32
    mel: Tensor,
    /// (1, 1, taps), f32
    filter: Tensor,
    config: Ltx2WideningConfig,
}

impl Widening {
    fn load(weights: &Weights, config: &Ltx2WideningConfig) -> Result<Self> {
        let stft = weights.at("mel_stft");
        let frequencies = config.filter / 2 + 1;
        let shape = [2 * frequencies, 1, config.filter];
        let basis = stft.get_f32("stft_fn.forward_basis", &shape)?;
        // The way back is stored and not needed.
        stft.get_f32("stft_fn.inverse_basis", &shape)?;
        Ok(Self {
            stage: Stage::load(&weights.at("bwe_generator"), &config.stage)?,
            basis: basis.squeeze(1)?,
            mel: stft.get_f32("mel_basis", &[config.mel_bins, frequencies])?,
            filter: resampling_filter(config.factor, weights.device())?,
            config: config.clone(),
        })
    }

    /// (batch, channels, samples) → (batch, channels, samples · factor)
    fn forward(&self, samples: &Tensor) -> Result<Tensor> {
        let (batch, channels, count) = samples.dims3()?;
        let (hop, factor) = (self.config.hop, self.config.factor);
        let missing = count.next_multiple_of(hop) - count;
        let samples = match missing {
            0 => samples.clone(),
            _ => samples.pad_with_zeros(2, 0, missing)?,
        };
        let dtype = samples.dtype();
        let wide = samples.to_dtype(DType::F32)?;
        let spectrogram = self.spectrogram(&wide)?.to_dtype(dtype)?;
        let lacking = self.stage.forward(&spectrogram)?.to_dtype(DType::F32)?;
        let skip = self.resample(&wide)?;
        let sum = (lacking + skip)?.clamp(-1f32, 1f32)?;
        let sum = sum.narrow(2, 0, count * factor)?.contiguous()?;
        debug_assert_eq!(sum.dims(), [batch, channels, count * factor]);
        Ok(sum.to_dtype(dtype)?)
    }

    /// The logarithm of how much of each frequency is in the samples up to a row's: (batch,
    /// channels, samples) → (batch, channels, rows, columns), f32.
    fn spectrogram(&self, samples: &Tensor) -> Result<Tensor> {
        let (batch, channels, count) = samples.dims3()?;
        let (hop, filter) = (self.config.hop, self.config.filter);
        let rows = count / hop;
        let lines = samples
            .pad_with_zeros(2, filter - hop, 0)?
            .reshape((batch * channels, count + filter - hop))?;
        let mut spectra = Vec::with_capacity(batch * channels);
        for line in 0..batch * channels {
            // Rows overlap: each is a run of the same line, gathered by places.
            let line = lines.get(line)?;
            let places: Vec<u32> = (0..rows)
                .flat_map(|row| (row * hop..row * hop + filter).map(|place| place as u32))
                .collect();
            let places = Tensor::new(places, line.device())?;
            let windows = line.index_select(&places, 0)?.reshape((rows, filter))?;
            let both = windows.matmul(&self.basis.t()?)?;
            let half = both.dim(1)? / 2;
            let part = |i: usize| both.narrow(1, i * half, half)?.sqr();
            let magnitude = (part(0)? + part(1)?)?.sqrt()?;
            let mel = magnitude.contiguous()?.matmul(&self.mel.t()?)?;
            spectra.push(mel.maximum(FLOOR)?.log()?);
        }
        let all = Tensor::stack(&spectra, 0)?;
        Ok(all.reshape((batch, channels, rows, self.config.mel_bins))?)
    }

    /// The samples at the higher rate: (batch, channels, samples) → times the factor, f32.
    fn resample(&self, samples: &Tensor) -> Result<Tensor> {
        let (batch, channels, count) = samples.dims3()?;
        let factor = self.config.factor;
        let width = reach();
        let lines = samples
            .contiguous()?
            .reshape((batch * channels, 1, count))?;
        let wide = widen(&lines, width, width)?;
        let y = wide.conv_transpose1d(&self.filter, 0, 0, factor, 1, 1)?;
        let y = (y.narrow(2, 2 * width * factor, count * factor)? * factor as f64)?;
        Ok(y.contiguous()?.reshape((batch, channels, count * factor))?)
    }
}

/// Samples on each side that a resampled one sees.
fn reach() -> usize {
    (RESAMPLING_WIDTH / ROLLOFF).ceil() as usize
}

/// A sinc under a Hann window, (1, 1, taps), f32.
fn resampling_filter(factor: usize, device: &Device) -> Result<Tensor> {
    use std::f64::consts::PI;

    let width = reach();
    let taps: Vec<f32> = (0..2 * width * factor + 1)
        .map(|i| {
            let time = (i as f64 / factor as f64 - width as f64) * ROLLOFF;
            let near = time.clamp(-RESAMPLING_WIDTH, RESAMPLING_WIDTH);
            let window = (near * PI / RESAMPLING_WIDTH / 2.0).cos().powi(2);
            let sinc = match time == 0.0 {
                true => 1.0,
                false => (PI * time).sin() / (PI * time),
            };
            (sinc * window * ROLLOFF / factor as f64) as f32
        })
        .collect();
    let count = taps.len();
    Ok(Tensor::from_vec(taps, (1, 1, count), device)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::wave;

    #[test]
    fn a_resampled_constant_stays_what_it_was() {
        let filter = resampling_filter(3, &Device::Cpu).unwrap();
        assert_eq!(filter.dims(), [1, 1, 43]);
        // Taps of each phase add up to a third, so that three of them are one.
        let taps = filter.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for phase in 0..3 {
            let sum: f32 = taps.iter().skip(phase).step_by(3).sum();
            assert!((sum * 3.0 - 1.0).abs() < 1e-2, "{sum}");
        }
    }

    #[test]
    fn published_vocoders_tell_their_rates() {
        for (has_second_stage, rate) in [(false, 24000), (true, 48000)] {
            let config = Ltx2VocoderConfig::published(has_second_stage);
            let vocoder = Vocoder::load(&Weights::survey(), &config).unwrap();
            assert_eq!(vocoder.sample_rate(), rate);
            assert!(vocoder.forward(&wave(&[1, 2, 3, 63])).is_err());
        }
    }
}
