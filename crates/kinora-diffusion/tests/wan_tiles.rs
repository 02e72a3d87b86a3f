//! Clips whose frames go through the VAE in tiles, against the reference's own tiling
//! (tools/goldens/record_wan_tiles.py), on the tiny models of recorded cases.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use kinora_core::{Rng, Stage};
use kinora_diffusion::{
    Error, Result,
    layers::Weights,
    pipelines::{Checkpoint, RgbImage, RunLimits, RunWatch, Switch, VideoParams, WanPipeline},
    vae::{ClipTiles, WanVae},
};
use kinora_weights::wan::{WanComponent, WanLayout, detect_wan};

/// Of frames and latents: the largest difference over the recording's standard deviation.
const GATE: f32 = 1e-3;
const TEXT: &str = "wan22_t2v_a14b";
const PICTURE: &str = "wan21_i2v";
const SMALL: &str = "wan22_ti2v_5b_i2v_heldout";
const TILES: ClipTiles = ClipTiles {
    size: 4,
    stride: 3,
    least: 1,
};

fn below(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn layout(case: &str) -> WanLayout {
    let model = below("../../tools/goldens/cases").join(case).join("model");
    detect_wan(&model).unwrap()
}

fn open_vae(case: &str) -> WanVae {
    let layout = layout(case);
    let set = layout.open(WanComponent::Vae).unwrap();
    let weights = Weights::new(set, &Device::Cpu, DType::F32);
    WanVae::load(&weights, &layout.parts.vae, &layout.parts.stats).unwrap()
}

fn recorded(case: &str) -> HashMap<String, Tensor> {
    let file = below("tests/fixtures/wan_tiles").join(format!("{case}.safetensors"));
    candle_core::safetensors::load(file, &Device::Cpu).unwrap()
}

fn distance(ours: &Tensor, golden: &Tensor) -> f32 {
    assert_eq!(ours.dims(), golden.dims());
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (ours, golden) = (values(ours), values(golden));
    let mean = golden.iter().sum::<f32>() / golden.len() as f32;
    let spread = golden.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / golden.len() as f32;
    let pairs = ours.iter().zip(&golden);
    pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / spread.sqrt()
}

/// Every part of every frame in its place; each place is filled once.
fn decode(vae: &WanVae, latents: &Tensor, tiles: ClipTiles) -> Tensor {
    let (count, _, rows, columns) = latents.dims4().unwrap();
    let scale = vae.config().scale();
    let (frames, height, width) = (1 + (count - 1) * 4, rows * scale, columns * scale);
    let mut pixels = vec![f32::NAN; frames * 3 * height * width];
    let mut put = |frame: usize, [top, left]: [usize; 2], part: &Tensor| {
        let part = part.to_vec3::<f32>().unwrap();
        for (channel, plane) in part.iter().enumerate() {
            for (y, line) in plane.iter().enumerate() {
                for (x, value) in line.iter().enumerate() {
                    let row = (frame * 3 + channel) * height + top + y;
                    let place = &mut pixels[row * width + left + x];
                    assert!(place.is_nan(), "a place is filled twice");
                    *place = *value;
                }
            }
        }
    };
    let mut asked = Vec::new();
    let is_done = vae.decode_tiles(
        latents,
        tiles,
        &mut |done| {
            asked.push(done);
            true
        },
        &mut |part| {
            put(part.frame, part.place, part.pixels);
            Ok(())
        },
    );
    assert!(is_done.unwrap());
    let steps = tiles.count(rows, columns) * count;
    assert_eq!(asked, (0..steps).collect::<Vec<_>>());
    Tensor::from_vec(pixels, (frames, 3, height, width), &Device::Cpu).unwrap()
}

#[test]
fn tiles_of_a_clip_are_cut_and_joined_as_the_reference_does() {
    for case in [TEXT, SMALL] {
        let (vae, tensors) = (open_vae(case), recorded(case));
        let frames = decode(&vae, &tensors["latents"], TILES);
        let off = distance(&frames, &tensors["frames"]);
        assert!(off <= GATE, "{case}: frames are off by {off}");

        let golden = &tensors["frames"];
        let (count, _, height, width) = golden.dims4().unwrap();
        let grid = [height, width].map(|side| side / vae.config().scale());
        let mut pixels = |run: usize, [(top, rows), (left, columns)]: [(usize, usize); 2]| {
            let frames = match run {
                0 => golden.narrow(0, 0, 1)?,
                _ => golden.narrow(0, 4 * run - 3, 4)?,
            };
            let part = frames.narrow(2, top, rows)?.narrow(3, left, columns)?;
            Ok(part.contiguous()?)
        };
        let runs = 1 + (count - 1) / 4;
        let encoded = vae
            .encode_tiles(grid, runs, TILES, &mut || true, &mut pixels)
            .unwrap()
            .unwrap();
        let encoding_off = distance(&encoded, &tensors["encoded"]);
        assert!(
            encoding_off <= GATE,
            "{case}: latents are off by {encoding_off}"
        );
        println!("{case}: in tiles, frames {off:.1e}, latents {encoding_off:.1e}");

        // Whoever says no is heard.
        let mut left = 3;
        let mut go_on = |_| {
            left -= 1;
            left > 0
        };
        let stopped = vae.decode_tiles(&tensors["latents"], TILES, &mut go_on, &mut |_| Ok(()));
        assert!(!stopped.unwrap());
        let stopped = vae.encode_tiles(grid, runs, TILES, &mut || false, &mut pixels);
        assert!(stopped.unwrap().is_none());
    }
}

#[test]
fn a_tile_as_large_as_the_frame_has_the_frames_of_none() {
    for case in [TEXT, SMALL] {
        let vae = open_vae(case);
        let latents = &recorded(case)["latents"];
        let tiles = ClipTiles {
            size: 9,
            stride: 8,
            least: 1,
        };
        let (_, _, rows, columns) = latents.dims4().unwrap();
        assert!(!tiles.cuts(rows, columns) && TILES.cuts(rows, columns));
        let whole = vae.decoding().push(latents).unwrap();
        let tiled = decode(&vae, latents, tiles);
        assert_eq!(distance(&tiled, &whole), 0.0, "{case}");
    }
}

fn params(width: u32, height: u32) -> VideoParams {
    VideoParams {
        prompt: "a boat drifts over a quiet lake".into(),
        negative_prompt: String::new(),
        width,
        height,
        frames: 5,
        steps: 1,
        guidance: 1.0,
        guidance_2: None,
        switch: Switch::Model,
        step_cache: 0.0,
        shift: None,
        sampler: None,
        seed: 3,
        rng: Rng::Cpu,
        text_tokens: 512,
        first_frame: None,
        last_frame: None,
        latents: None,
        context: None,
        vae_tiling: false,
    }
}

#[derive(Default)]
struct Log {
    frames: Vec<RgbImage>,
    /// The last that was told of decoding: how many parts, of how many.
    decoding: (u32, u32),
    stop_at: Option<u32>,
}

impl RunWatch for Log {
    fn stage(&mut self, _: usize, stage: Stage, step: u32, steps: u32) {
        if stage == Stage::Decoding {
            self.decoding = (step, steps);
        }
    }

    fn is_cancelled(&mut self, _: usize) -> bool {
        self.stop_at.is_some_and(|stop| self.decoding.0 >= stop)
    }

    fn resume(&mut self, _: usize) -> Option<Checkpoint> {
        None
    }

    fn wants_checkpoint(&mut self, _: usize) -> bool {
        false
    }

    fn checkpoint(&mut self, _: usize, _: &Checkpoint) -> Result<()> {
        Ok(())
    }

    fn wants_preview(&mut self, _: usize) -> bool {
        false
    }

    fn preview(&mut self, _: usize, _: RgbImage) {}

    fn frame(&mut self, _: usize, index: u32, _: u32, picture: RgbImage) -> Result<()> {
        assert_eq!(index as usize, self.frames.len());
        self.frames.push(picture);
        Ok(())
    }

    fn image(&mut self, _: usize, _: RgbImage) -> Result<()> {
        panic!("a clip is no picture");
    }
}

fn open(case: &str) -> WanPipeline {
    WanPipeline::open(&layout(case), &Device::Cpu, DType::F32, &mut |_| {}).unwrap()
}

fn run(pipeline: &mut WanPipeline, job: &VideoParams, limits: RunLimits) -> Result<Log> {
    let mut log = Log::default();
    pipeline.run(std::slice::from_ref(job), limits, &mut log)?;
    Ok(log)
}

#[test]
fn frames_go_in_tiles_where_memory_or_the_user_asks_for_it() {
    let mut pipeline = open(TEXT);
    let job = params(528, 288);
    let tiled = VideoParams {
        vae_tiling: true,
        ..job.clone()
    };
    let whole = run(&mut pipeline, &job, RunLimits::NONE).unwrap();
    assert_eq!((whole.frames.len(), whole.decoding), (5, (2, 2)));
    // 66 × 36 latents in tiles of 32, 24 apart: three in a row, two rows, two latent frames each.
    let asked = run(&mut pipeline, &tiled, RunLimits::NONE).unwrap();
    assert_eq!((asked.frames.len(), asked.decoding), (5, (12, 12)));
    assert_ne!(asked.frames, whole.frames);
    let size = (asked.frames[0].width, asked.frames[0].height);
    assert_eq!(size, (528, 288));

    // By need: as large as they fit.
    let bytes = 4;
    let estimate = pipeline.parts().estimate((528, 288), (5, 5), bytes);
    assert!(estimate.activations < estimate.decode && estimate.tiled_decode < estimate.decode);
    let limits = |memory| RunLimits {
        memory,
        is_frugal: false,
    };
    let roomy = run(&mut pipeline, &job, limits(estimate.decode)).unwrap();
    assert_eq!(roomy.frames, whole.frames);
    let needed = |side| pipeline.parts().tiled_decode((528, 288), 5, side, bytes);
    let (small, middle) = (needed(256), needed(384));
    assert!(small < middle && middle < estimate.decode);
    let tight = run(
        &mut pipeline,
        &job,
        limits(middle.max(estimate.activations)),
    )
    .unwrap();
    assert!(tight.decoding.1 > 2 && tight.decoding.1 <= asked.decoding.1);
    // And with little trust after memory ran out.
    let frugal = RunLimits {
        memory: u64::MAX,
        is_frugal: true,
    };
    let frugal = run(&mut pipeline, &job, frugal).unwrap();
    // 384 pixels: two in a row.
    assert_eq!(frugal.decoding, (4, 4));
    let none = run(&mut pipeline, &job, limits(1 << 20));
    assert!(
        matches!(none, Err(Error::OutOfMemory { .. })),
        "{:?}",
        none.is_ok()
    );

    // Not where a frame is no larger than a tile.
    let little = params(64, 48);
    let tiled = VideoParams {
        vae_tiling: true,
        ..little.clone()
    };
    let whole = run(&mut pipeline, &little, RunLimits::NONE).unwrap();
    let tiled = run(&mut pipeline, &tiled, RunLimits::NONE).unwrap();
    assert_eq!(tiled.frames, whole.frames);
}

#[test]
fn given_pictures_go_in_tiles_too_and_work_in_tiles_can_be_stopped() {
    for (case, side) in [(PICTURE, 272), (SMALL, 288)] {
        let mut pipeline = open(case);
        let rgb = (0..side * side * 3).map(|i| (i * 7 % 251) as u8).collect();
        let job = VideoParams {
            first_frame: Some(RgbImage {
                width: side,
                height: side,
                rgb,
            }),
            vae_tiling: true,
            ..params(side, side)
        };
        let tiled = run(&mut pipeline, &job, RunLimits::NONE).unwrap();
        assert_eq!((tiled.frames.len(), tiled.decoding.1), (5, 8), "{case}");
        // The same at every try.
        let again = run(&mut pipeline, &job, RunLimits::NONE).unwrap();
        assert_eq!(again.frames, tiled.frames, "{case}");
        let mut log = Log {
            stop_at: Some(3),
            ..Log::default()
        };
        pipeline
            .run(std::slice::from_ref(&job), RunLimits::NONE, &mut log)
            .unwrap();
        assert_eq!((log.frames.len(), log.decoding), (0, (3, 8)), "{case}");
    }
}
