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
    let estimate = estimate - FIXED;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let said = format!(
        "{name}, latents {size:?}: {:.1} MB measured, {:.1} MB said",
        mb(measured),
        mb(estimate)
    );
    println!("{said}, {:.2}", estimate as f64 / measured as f64);
    // Every core has a little of its own.
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    assert!(measured <= estimate + (cores << 18), "{said}");
    assert!(estimate <= 2 * measured, "{said}");
}

fn latents(count: usize, channels: usize, (rows, columns): (usize, usize)) -> Tensor {
    Tensor::randn(0f32, 1f32, (count, channels, rows, columns), &Device::Cpu).unwrap()
}

/// Latent frames of a clip: the first one, which goes another way, and more.
const COUNT: usize = 3;

fn check_wan(release: WanVaeConfig, share: usize, size: (usize, usize)) {
    let config = WanVaeConfig {
        base_dim: release.base_dim / share,
        decoder_base_dim: release.decoder_base_dim / share,
        ..release
    };
    let stats = LatentStats::wan21();
    let load = |weights: &Weights| WanVae::load(weights, &config, &stats).unwrap();
    let vae = load(&noise(|weights| drop(load(weights))));
    let latents = latents(COUNT, config.latent_channels, size);
    let measured = peak_of(|| {
        let mut decoding = vae.decoding();
        for i in 0..COUNT {
            decoding.push(&latents.narrow(0, i, 1).unwrap()).unwrap();
        }
    });
    let pixels = (size.0 * size.1) as u64;
    let estimate = wan::decode_bytes(&config, pixels, BYTES);
    let name = format!("Wan, {} channels", config.latent_channels);
    check(&name, size, measured, estimate);
}

fn check_ltx(release: LtxVaeRelease, share: usize, size: (usize, usize)) {
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
    let latents = latents(COUNT, config.latent_channels, size);
    let measured = peak_of(|| {
        let mut generator = Generator::new(Rng::Cpu, 1);
        let mut decoding = vae.decoding(0.05, size, &mut generator).unwrap();
        for i in 0..COUNT {
            let latents = latents.narrow(0, i, 1).unwrap();
            let is_last = i + 1 == COUNT;
            decoding.push(&latents, is_last, &mut |_| Ok(())).unwrap();
        }
    });
    let pixels = (size.1 * config.scale(), size.0 * config.scale());
    let pixels = (pixels.0 as u32, pixels.1 as u32);
    let estimate = ltx::decode_bytes(&config, pixels, BYTES);
    check(&format!("{release:?}"), size, measured, estimate);
}

/// One test: two at a time would be counted together.
#[test]
fn a_decode_takes_no_more_than_was_said_and_not_much_less() {
    for size in [(12, 12), (10, 20)] {
        check_wan(WanVaeConfig::wan21(), 12, size);
    }
    check_wan(WanVaeConfig::wan22(), 12, (10, 14));
    check_ltx(LtxVaeRelease::V090, 16, (3, 5));
    check_ltx(LtxVaeRelease::V091, 16, (3, 5));
    check_ltx(LtxVaeRelease::V095, 8, (3, 4));
    check_ltx(LtxVaeRelease::Two, 16, (4, 4));
}
