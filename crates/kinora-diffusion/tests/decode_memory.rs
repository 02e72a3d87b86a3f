//! What decoding a clip takes in memory against what is said beforehand: never more, and not much
//! less. Counted by the allocator, so that nothing else of the machine plays a part. The networks are
//! the published ones with a fraction of their widths, and noise for weights.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use candle_core::{DType, Device, Tensor};
use kinora_core::Rng;
use kinora_diffusion::{
    layers::{Weights, weights::Loaded},
    noise::Generator,
    vae::{LtxVae, WanVae},
};
use kinora_weights::{
    LatentStats, LtxVaeConfig, WanVaeConfig, ltx, maps::ltx_vae::LtxVaeRelease, wan,
};

/// Bytes of a number.
const BYTES: u64 = 4;
/// What an estimate adds for everything that does not grow with the frame.
const FIXED: u64 = 32 << 20;

/// The system's allocator, which counts.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Relaxed);
        grow(size);
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that was live at once while `work` ran, besides what was live before.
fn peak_of(work: impl FnOnce()) -> u64 {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    work();
    PEAK.load(Relaxed).saturating_sub(before) as u64
}

/// Noise for whatever `load` asks of weights.
fn noise(load: impl Fn(&Weights)) -> Weights {
    let survey = Weights::survey();
    load(&survey);
    let tensors: HashMap<String, Tensor> = (survey.asked().into_iter())
        .map(|(name, shape)| {
            let inputs: usize = shape.iter().skip(1).product();
            let spread = 1.0 / (inputs.max(1) as f32).sqrt();
            let tensor = Tensor::randn(0f32, spread, shape, &Device::Cpu).unwrap();
            (name, tensor)
        })
        .collect();
    Weights::new(Loaded::new("noise", tensors), &Device::Cpu, DType::F32)
}

fn check(name: &str, size: (usize, usize), measured: u64, estimate: u64) {
    let (estimate, mb) = (estimate - FIXED, |bytes: u64| bytes as f64 / 1e6);
    println!(
        "{name}, latents {size:?}: {:.1} MB measured, {:.1} MB said, {:.2}",
        mb(measured),
        mb(estimate),
        estimate as f64 / measured as f64
    );
}

fn latents(count: usize, channels: usize, (rows, columns): (usize, usize)) -> Tensor {
    Tensor::randn(0f32, 1f32, (count, channels, rows, columns), &Device::Cpu).unwrap()
}

/// One test: two at a time would be counted together.
#[test]
fn a_decode_takes_what_was_said_and_not_much_less() {
    for share in [12, 6] {
        for release in [WanVaeConfig::wan21(), WanVaeConfig::wan22()] {
            let config = WanVaeConfig {
                base_dim: release.base_dim / share,
                decoder_base_dim: release.decoder_base_dim / share,
                ..release
            };
            let stats = LatentStats::wan21();
            let load = |weights: &Weights| WanVae::load(weights, &config, &stats).unwrap();
            let vae = load(&noise(|weights| drop(load(weights))));
            for size in [(16, 16), (20, 36)] {
                let latents = latents(4, config.latent_channels, size);
                let measured = peak_of(|| {
                    let mut decoding = vae.decoding();
                    for i in 0..4 {
                        let run = latents.narrow(0, i, 1).unwrap();
                        decoding.push(&run).unwrap();
                    }
                });
                let pixels = (size.0 * size.1) as u64;
                let estimate = wan::decode_bytes(&config, pixels, BYTES);
                check(&format!("Wan 1/{share}"), size, measured, estimate);
            }
        }
    }
    for share in [16, 8] {
        for release in [
            LtxVaeRelease::V090,
            LtxVaeRelease::V091,
            LtxVaeRelease::V095,
            LtxVaeRelease::Two,
        ] {
            let mut config = LtxVaeConfig::published(release);
            let narrow = |width: &mut usize| *width /= share;
            narrow(&mut config.encoder_width);
            narrow(&mut config.decoder_width);
            for level in &mut config.down {
                narrow(&mut level.width);
                narrow(&mut level.outputs);
            }
            for level in &mut config.up {
                narrow(&mut level.inputs);
                narrow(&mut level.width);
            }
            let load = |weights: &Weights| LtxVae::load(weights, &config).unwrap();
            let vae = load(&noise(|weights| drop(load(weights))));
            for size in [(6, 6), (5, 11)] {
                let latents = latents(4, config.latent_channels, size);
                let measured = peak_of(|| {
                    let mut generator = Generator::new(Rng::Cpu, 1);
                    let mut decoding = vae.decoding(0.05, size, &mut generator).unwrap();
                    for i in 0..4 {
                        let run = latents.narrow(0, i, 1).unwrap();
                        decoding.push(&run, i == 3, &mut |_| Ok(())).unwrap();
                    }
                });
                let scale = config.scale();
                let pixels = ((size.1 * scale) as u32, (size.0 * scale) as u32);
                let estimate = ltx::decode_bytes(&config, pixels, BYTES);
                check(&format!("{release:?} 1/{share}"), size, measured, estimate);
            }
        }
    }
}
