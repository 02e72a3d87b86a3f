//! Results that go through the VAE in tiles because memory is short, and what was decided about
//! them: whoever takes the work up again gets the same pixels, however much memory there is then.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use kinora_core::{Rng, Stage};
use kinora_diffusion::{
    Result,
    pipelines::{
        Checkpoint, FluxOptions, ImageParams, Ltx2Guidance, Ltx2Params, Ltx2Pipeline, LtxParams,
        LtxPipeline, Pipeline, RgbImage, RunLimits, RunWatch, SdOptions, Sound, Switch,
        VideoParams, WanPipeline,
    },
    vae::TileSide,
};
use kinora_weights::{
    detect,
    ltx::{self, detect_ltx},
    ltx2::detect_ltx2,
    memory,
    wan::detect_wan,
};

const CPU: Device = Device::Cpu;
/// Bytes of a number.
const BYTES: u64 = 4;

fn model(case: &str) -> PathBuf {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/goldens/cases");
    cases.join(case).join("model")
}

/// Keeps pictures, frames, and checkpoints that come unasked for.
#[derive(Default)]
struct Log {
    pictures: Vec<RgbImage>,
    checkpoints: Vec<Checkpoint>,
    /// Parts of the decoding.
    decoding: u32,
    resume: Option<Checkpoint>,
    stop_at: Option<u32>,
}

impl RunWatch for Log {
    fn stage(&mut self, _: usize, stage: Stage, step: u32, _: u32) {
        if stage == Stage::Decoding {
            self.decoding = step;
        }
    }

    fn is_cancelled(&mut self, _: usize) -> bool {
        self.stop_at.is_some_and(|stop| self.decoding >= stop)
    }

    fn resume(&mut self, _: usize) -> Option<Checkpoint> {
        self.resume.clone()
    }

    fn wants_checkpoint(&mut self, _: usize) -> bool {
        false
    }

    fn checkpoint(&mut self, _: usize, checkpoint: &Checkpoint) -> Result<()> {
        self.checkpoints.push(checkpoint.clone());
        Ok(())
    }

    fn wants_preview(&mut self, _: usize) -> bool {
        false
    }

    fn preview(&mut self, _: usize, _: RgbImage) {}

    fn frame(&mut self, _: usize, _: u32, _: u32, picture: RgbImage) -> Result<()> {
        self.pictures.push(picture);
        Ok(())
    }

    fn sound(&mut self, _: usize, _: Sound) -> Result<()> {
        Ok(())
    }

    fn image(&mut self, _: usize, picture: RgbImage) -> Result<()> {
        self.pictures.push(picture);
        Ok(())
    }
}

/// A run of one job.
type Run<'a> = &'a mut dyn FnMut(RunLimits, &mut Log) -> Result<()>;

/// Runs with little memory and with plenty, and takes the first up with plenty of memory. `tight` is
/// too little to decode whole; `side` is what is decided then.
fn check(name: &str, tight: u64, side: u32, run: Run) {
    let made = |run: Run, limits, resume: Option<Checkpoint>| {
        let mut log = Log {
            resume,
            ..Log::default()
        };
        run(limits, &mut log).unwrap();
        log
    };
    let tight = RunLimits {
        memory: tight,
        is_frugal: false,
    };
    let short = made(run, tight, None);
    // Written before decoding, though nobody asked.
    let [kept] = &short.checkpoints[..] else {
        panic!("{name}: {} checkpoints", short.checkpoints.len());
    };
    assert_eq!(kept.tiles, Some(TileSide::Of(side)), "{name}");
    // Through its file, as after a kill.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    kept.save(&path).unwrap();
    let kept = Checkpoint::load(&path).unwrap();
    let again = made(run, RunLimits::NONE, Some(kept.clone()));
    assert!(again.pictures == short.pictures, "{name}");
    let plenty = made(run, RunLimits::NONE, None);
    assert!(plenty.pictures != short.pictures, "{name}");
    assert_eq!(plenty.pictures.len(), short.pictures.len());
    // The second try after memory ran out decides anew, and says so.
    let frugal = RunLimits {
        memory: u64::MAX,
        is_frugal: true,
    };
    let second = made(run, frugal, Some(kept));
    let decided = second.checkpoints.last().map(|last| last.tiles);
    assert!(
        decided.is_none_or(|tiles| tiles != Some(TileSide::Whole)),
        "{name}"
    );
}

fn image(prompt: &str, side: u32) -> ImageParams {
    ImageParams {
        prompt: prompt.into(),
        negative_prompt: String::new(),
        width: side,
        height: side,
        steps: 1,
        guidance: None,
        true_cfg: None,
        seed: 4,
        rng: Rng::Cpu,
        text_tokens: 24,
        latents: None,
        sampler: None,
        source: None,
        sd: SdOptions::default(),
        flux: FluxOptions::default(),
    }
}

#[test]
fn pictures_have_the_tiles_that_were_decided_first() {
    for case in ["flux_schnell", "sd15"] {
        let layout = detect(&model(case)).unwrap();
        let mut pipeline = Pipeline::open(&layout, &CPU, DType::F32, &mut |_| {}).unwrap();
        let job = image("a robot", 512);
        let size = (job.width, job.height);
        let estimate = memory::estimate(&layout, size, job.text_tokens, 1, BYTES);
        assert!(
            estimate.activations < estimate.decode,
            "{case}: {estimate:?}"
        );
        let vae = layout.parts.vae();
        let latents = u64::from(job.width) / vae.scale() as u64;
        let sizes = [128, 96, 64, 48, 32, 24];
        let side = (sizes.into_iter())
            .find(|size| {
                let size = (*size).min(latents);
                memory::decode(vae, (size, size), BYTES) < estimate.decode
            })
            .unwrap();
        check(
            case,
            estimate.decode - 1,
            side as u32,
            &mut |limits, log| {
                pipeline
                    .run(std::slice::from_ref(&job), limits, log)
                    .map(drop)
            },
        );
    }
}

fn picture(side: u32) -> RgbImage {
    RgbImage {
        width: side,
        height: side,
        rgb: (0..side * side * 3).map(|i| (i * 7 % 251) as u8).collect(),
    }
}

/// The first side whose tiles take less than the whole.
fn first_fitting(whole: u64, needed: impl Fn(u32) -> u64) -> (u64, u32) {
    let side = memory::TILE_SIDES.into_iter();
    let side = side.clone().find(|side| needed(*side) < whole).unwrap();
    (needed(side), side)
}

#[test]
fn clips_of_wan_have_the_tiles_that_were_decided_first() {
    // With a given frame, which goes through the encoder in the same tiles.
    for (case, first_frame) in [("wan22_t2v_a14b", None), ("wan21_i2v", Some(picture(512)))] {
        let layout = detect_wan(&model(case)).unwrap();
        let mut pipeline = WanPipeline::open(&layout, &CPU, DType::F32, &mut |_| {}).unwrap();
        let job = VideoParams {
            prompt: "a boat drifts over a quiet lake".into(),
            negative_prompt: String::new(),
            width: 528,
            height: 288,
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
            first_frame,
            last_frame: None,
            latents: None,
            context: None,
            vae_tiling: false,
        };
        let size = (job.width, job.height);
        let estimate = layout.parts.estimate(size, (5, 5), BYTES);
        let (needed, side) = first_fitting(estimate.decode, |side| {
            layout.parts.tiled_decode(size, 5, side, BYTES)
        });
        let tight = needed.max(estimate.activations);
        assert!(tight < estimate.decode, "{case}: {estimate:?}");
        check(case, tight, side, &mut |limits, log| {
            let jobs = std::slice::from_ref(&job);
            pipeline.run(jobs, limits, log).map(drop)
        });
    }
}

fn ltx(side: (u32, u32), first_frame: Option<RgbImage>) -> LtxParams {
    LtxParams {
        prompt: "waves crashing at sunset".into(),
        negative_prompt: String::new(),
        width: side.0,
        height: side.1,
        frames: 9,
        frame_rate: 25.0,
        steps: 2,
        guidance: 1.0,
        guidance_rescale: 0.0,
        sampler: None,
        step_cache: 0.0,
        shift: None,
        decode_time: 0.05,
        decode_noise: Some(0.025),
        seed: 3,
        rng: Rng::Cpu,
        text_tokens: 48,
        first_frame,
        vae_tiling: false,
        latents: None,
    }
}

#[test]
fn clips_of_ltx_video_have_the_tiles_that_were_decided_first() {
    for (case, first_frame) in [("ltx_video_095", None), ("ltx_i2v", Some(picture(600)))] {
        let layout = detect_ltx(&model(case)).unwrap();
        let mut pipeline = LtxPipeline::open(&layout, &CPU, DType::F32, &mut |_| {}).unwrap();
        let job = ltx((1024, 1024), first_frame);
        let size = (job.width, job.height);
        let vae = &layout.parts.vae;
        let estimate = layout.parts.estimate(size, job.frames, BYTES);
        let (needed, side) = first_fitting(estimate.decode, |side| {
            ltx::tiled_decode(vae, size, job.frames, side, BYTES)
        });
        let tight = needed.max(estimate.activations);
        assert!(tight < estimate.decode, "{case}: {estimate:?}");
        let mut run = |job: &LtxParams, limits, log: &mut Log| {
            let jobs = std::slice::from_ref(job);
            pipeline.run(jobs, limits, log).map(drop)
        };
        check(case, tight, side, &mut |limits, log| run(&job, limits, log));

        if case != "ltx_video_095" {
            continue;
        }
        // Where it is asked for, the reference's: 32 × 32 latents in tiles of 16, 14 apart: three by
        // three, two latent frames each.
        let asked = LtxParams {
            vae_tiling: true,
            ..job.clone()
        };
        let mut log = Log::default();
        run(&asked, RunLimits::NONE, &mut log).unwrap();
        assert_eq!((log.decoding, log.pictures.len()), (18, 9), "{case}");
        let mut stopped = Log {
            stop_at: Some(3),
            ..Log::default()
        };
        run(&asked, RunLimits::NONE, &mut stopped).unwrap();
        assert_eq!((stopped.decoding, stopped.pictures.len()), (3, 0), "{case}");
    }
}

#[test]
fn clips_of_ltx_2_have_the_tiles_that_were_decided_first() {
    let layout = detect_ltx2(&model("ltx2")).unwrap();
    let mut pipeline = Ltx2Pipeline::open(&layout, &CPU, DType::F32, &mut |_| {}).unwrap();
    let job = Ltx2Params {
        prompt: "waves crashing at sunset".into(),
        negative_prompt: String::new(),
        width: 1024,
        height: 1024,
        frames: 9,
        frame_rate: 25.0,
        steps: 2,
        guidance: Ltx2Guidance::text(1.0),
        audio_guidance: Ltx2Guidance::text(1.0),
        blind_blocks: Vec::new(),
        is_crossed: None,
        sampler: None,
        step_cache: 0.0,
        shift: None,
        seed: 5,
        rng: Rng::Cpu,
        text_tokens: 64,
        has_sound: true,
        first_frame: Some(picture(600)),
        vae_tiling: false,
        latents: None,
        audio_latents: None,
    };
    let size = (job.width, job.height);
    let estimate = layout.parts.estimate(size, job.frames, 25.0, 64, BYTES);
    let (needed, side) = first_fitting(estimate.decode, |side| {
        ltx::tiled_decode(&layout.parts.vae, size, job.frames, side, BYTES)
    });
    let tight = needed.max(estimate.activations);
    assert!(tight < estimate.decode, "{estimate:?}");
    check("ltx2", tight, side, &mut |limits, log| {
        let jobs = std::slice::from_ref(&job);
        pipeline.run(jobs, limits, log).map(drop)
    });
}
