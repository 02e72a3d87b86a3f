//! Times one step of whole denoisers with random weights, for comparison with the reference library:
//! `bench_gpu flux|unet|wan|ltx2 CONFIG SIZES DEVICE DTYPE ROUNDS`, as `tools/bench/gpu.py` calls it.
//!
//! CONFIG is the network's `config.json`; SIZES are `text tokens,frames,rows,columns` of the latents
//! that it sees (FLUX.1: of its tokens); DEVICE is cpu or cuda; DTYPE is f32 or bf16. Weights are drawn
//! tensor by tensor while loading: no files, and main memory for one tensor only.
//!
//! One line of JSON: the best and the middle of ROUNDS in milliseconds, and the most memory that the
//! device had in use, in bytes.

use std::{
    collections::HashMap,
    error::Error,
    path::{Path, PathBuf},
    time::Instant,
};

use candle_core::{DType, Device, Tensor};
use half::bf16;
use kinora_diffusion::{
    Result,
    denoisers::{
        FluxDenoiser, FluxInput, Ltx2Blindness, Ltx2Denoiser, Ltx2Input, UnetDenoiser, UnetInput,
        WanDenoiser, WanInput, WanText,
    },
    layers::{TensorSource, Weights},
    text::Ltx2Text,
};
use kinora_weights::{FluxConfig, LtxConfig, UnetConfig, WanConfig};

/// Of LTX-2's clips.
const FRAME_RATE: f64 = 24.0;
/// Of LTX-2's sound, for each latent frame of the clip: a third of a second.
const SOUND_TOKENS: usize = 8;

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let usage = "usage: bench_gpu flux|unet|wan|ltx2 CONFIG TEXT,FRAMES,ROWS,COLUMNS cpu|cuda f32|bf16 ROUNDS";
    let [_, network, config, sizes, device, dtype, rounds] = args.as_slice() else {
        return Err(usage.into());
    };
    let sizes = sizes
        .split(',')
        .map(str::parse)
        .collect::<std::result::Result<Vec<usize>, _>>()?;
    let [text, frames, rows, columns] = sizes[..] else {
        return Err(usage.into());
    };
    let place = Place {
        device: open(device)?,
        dtype: match dtype.as_str() {
            "f32" => DType::F32,
            "bf16" => DType::BF16,
            _ => return Err(usage.into()),
        },
    };
    let (config, rounds) = (Path::new(config), rounds.parse()?);
    let told = match network.as_str() {
        "flux" => {
            let config = FluxConfig::read(config)?;
            let net = place.load(|weights| FluxDenoiser::load(weights, &config, &mut |_| {}))?;
            let rope = net.positions(text, rows, columns, &place.device)?;
            let latents = place.random(&[1, rows * columns, config.in_channels])?;
            let pooled = place.random(&[1, config.pooled_dim])?;
            let words = place.random(&[1, text, config.joint_dim])?;
            let guidance = [3.5];
            let input = FluxInput {
                latents: &latents,
                text: &words,
                pooled: &pooled,
                timestep: 500.0,
                guidance: if config.has_guidance { &guidance } else { &[] },
                rope: &rope,
            };
            place.measure(rounds, || net.forward(&input))?
        }
        "unet" => {
            let config = UnetConfig::read(config)?;
            let net = place.load(|weights| UnetDenoiser::load(weights, &config, &mut |_| {}))?;
            // A guided step: two rows.
            let words = place.random(&[2, text, config.cross_attention_dim])?;
            let described = match config.added_dim {
                Some(width) => {
                    let pooled = place.random(&[2, width - 6 * config.added_time_dim])?;
                    let sizes = [8.0 * rows as f32, 8.0 * columns as f32, 0.0, 0.0];
                    let sizes = [&sizes[..], &sizes[..2]].concat();
                    Some(net.describe(&pooled, &[sizes.clone(), sizes])?)
                }
                None => None,
            };
            let latents = place.random(&[2, config.in_channels, rows, columns])?;
            let prepared = net.prepare(&words, described.as_ref())?;
            let input = UnetInput {
                latents: &latents,
                timestep: 500.0,
                text: &prepared,
            };
            place.measure(rounds, || net.forward(&input))?
        }
        "wan" => {
            let config = WanConfig::read(config)?;
            let net = place.load(|weights| WanDenoiser::load(weights, &config, &mut |_| {}))?;
            let [_, tall, wide] = config.patch_size;
            let rope = net.positions([frames, rows / tall, columns / wide], &place.device)?;
            let latents = place.random(&[1, config.in_channels, frames, rows, columns])?;
            let words = WanText {
                tokens: place.random(&[1, text, config.text_dim])?,
                padding: 0,
            };
            let context = net.prepare_context(&[&words], None)?;
            let time = net.embed_time(&[500.0], &place.device)?;
            let input = WanInput {
                latents: &latents,
                context: &context,
                time: &time,
                rope: &rope,
            };
            place.measure(rounds, || net.forward(&input))?
        }
        "ltx2" => {
            let config = LtxConfig::read(config)?;
            let net = place.load(|weights| Ltx2Denoiser::load(weights, &config, &mut |_| {}))?;
            let (Some(sound), Some(width)) = (&config.audio, config.caption_channels) else {
                return Err("it is not a network of pictures and sound".into());
            };
            let heard = frames * SOUND_TOKENS;
            let positions =
                net.positions([frames, rows, columns], FRAME_RATE, heard, &place.device)?;
            let words = Ltx2Text {
                video: place.random(&[1, text, width])?,
                audio: place.random(&[1, text, width])?,
            };
            let (video, audio) = (
                place.random(&[1, frames * rows * columns, config.in_channels])?,
                place.random(&[1, heard, sound.in_channels])?,
            );
            let context = net.prepare_context(&[&words])?;
            let time = net.embed_time(&[500.0], 500.0, false, &place.device)?;
            let input = Ltx2Input {
                video: &video,
                audio: &audio,
                context: &context,
                time: &time,
                positions: &positions,
                blindness: Ltx2Blindness::default(),
            };
            // The reference's call makes both as well.
            place.measure(rounds, || Ok(net.forward(&input)?.0))?
        }
        _ => return Err(usage.into()),
    };
    println!("{{{told}}}");
    Ok(())
}

#[cfg(feature = "cuda")]
fn open(device: &str) -> Result<Device> {
    match device {
        "cpu" => Ok(Device::Cpu),
        _ => Ok(kinora_diffusion::cuda::open(0)?),
    }
}

#[cfg(not(feature = "cuda"))]
fn open(device: &str) -> Result<Device> {
    match device {
        "cpu" => Ok(Device::Cpu),
        // Says that this build cannot.
        _ => Ok(Device::new_cuda(0)?),
    }
}

/// Where a network is, and in what it computes.
struct Place {
    device: Device,
    dtype: DType,
}

impl Place {
    /// A network of random weights.
    fn load<N>(&self, load: impl Fn(&Weights) -> Result<N>) -> Result<N> {
        let survey = Weights::survey();
        load(&survey)?;
        let source = Random::new(survey.asked().into_iter().collect());
        load(&Weights::new(source, &self.device, self.dtype))
    }

    fn random(&self, shape: &[usize]) -> Result<Tensor> {
        let numbers = Tensor::randn(0f32, 1f32, shape, &Device::Cpu)?;
        Ok(numbers.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    /// Times a call, the wait for its end included.
    fn measure(&self, rounds: usize, call: impl Fn() -> Result<Tensor>) -> Result<String> {
        // Kernels are compiled and memory is taken in the first one.
        drop(call()?);
        self.device.synchronize()?;
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds.max(1) {
            let start = Instant::now();
            let result = call()?;
            self.device.synchronize()?;
            times.push(start.elapsed().as_secs_f64() * 1000.0);
            drop(result);
        }
        times.sort_by(f64::total_cmp);
        let peak = peak_bytes(&self.device)?;
        Ok(format!(
            "\"ms\":{:.3},\"middle_ms\":{:.3},\"peak_bytes\":{peak}",
            times[0],
            times[times.len() / 2]
        ))
    }
}

/// The most memory in use since the device was opened; of a processor, nothing is told.
fn peak_bytes(device: &Device) -> Result<u64> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return Ok(kinora_diffusion::cuda::peak_bytes(
            device.as_cuda_device()?,
        )?);
    }
    let _ = device;
    Ok(0)
}

/// Weights of any network: numbers around zero, the same for the same name.
struct Random {
    shapes: HashMap<String, Vec<usize>>,
    /// What tensors are cut out of, from a place that their names decide.
    numbers: Vec<bf16>,
    path: PathBuf,
}

impl Random {
    fn new(shapes: HashMap<String, Vec<usize>>) -> Self {
        let mut state = 0x9e37_79b9_u32;
        let numbers = (0..(1 << 20) + 7)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                bf16::from_f32((state as f32 / u32::MAX as f32 - 0.5) * 0.04)
            })
            .collect();
        Self {
            shapes,
            numbers,
            path: PathBuf::from("random"),
        }
    }
}

impl TensorSource for Random {
    fn path(&self) -> &Path {
        &self.path
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.shapes.get(name).cloned()
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        let shape = self.shape(name).unwrap_or_default();
        let first = name
            .bytes()
            .fold(7usize, |sum, byte| sum.wrapping_mul(31) + usize::from(byte));
        let all = self.numbers.iter().cycle().skip(first % self.numbers.len());
        let numbers: Vec<bf16> = all.take(shape.iter().product()).copied().collect();
        Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
    }
}
