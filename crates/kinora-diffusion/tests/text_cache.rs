//! Texts that are kept on disk: the second run of a prompt reads no text encoder and makes the same
//! bits, in every family. On copies of the tiny models of recorded cases, whose encoders are ruined
//! after the first run without the files looking any different.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::{DType, Device};
use kinora_core::{Rng, Stage};
use kinora_diffusion::{
    Result,
    adapters::WeightedAdapter,
    pipelines::{
        Checkpoint, FluxOptions, ImageParams, Ltx2Guidance, Ltx2Params, Ltx2Pipeline, LtxParams,
        LtxPipeline, Pipeline, PromptChange, RgbImage, RunLimits, RunWatch, SdOptions, Shelf,
        Sound, Switch, TextCache, VideoParams, WanPipeline,
    },
};
use kinora_weights::{ltx::detect_ltx, ltx2::detect_ltx2, wan::detect_wan};

const LIMIT: u64 = 64 << 20;
const CPU: Device = Device::Cpu;

fn below(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Makes every number of the encoders NaN. Size, inode and time of the files stay.
fn ruin_encoders(model: &Path) {
    for folder in ["text_encoder", "text_encoder_2", "image_encoder"] {
        let Ok(entries) = fs::read_dir(model.join(folder)) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path
                .extension()
                .is_none_or(|extension| extension != "safetensors")
            {
                continue;
            }
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            let mut bytes = fs::read(&path).unwrap();
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            bytes[8 + header..].fill(0xff);
            fs::write(&path, bytes).unwrap();
            let file = File::options().append(true).open(&path).unwrap();
            file.set_modified(changed).unwrap();
        }
    }
}

/// Everything that a run makes, and whether it said that something is read.
#[derive(Default, PartialEq)]
struct Made {
    pictures: Vec<(usize, RgbImage)>,
    sounds: Vec<(usize, Sound)>,
    has_loaded: bool,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pictures, {}", self.pictures.len(), self.has_loaded)
    }
}

impl RunWatch for Made {
    fn stage(&mut self, _: usize, stage: Stage, _: u32, _: u32) {
        self.has_loaded |= stage == Stage::Loading;
    }

    fn is_cancelled(&mut self, _: usize) -> bool {
        false
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

    fn frame(&mut self, job: usize, _: u32, _: u32, picture: RgbImage) -> Result<()> {
        self.pictures.push((job, picture));
        Ok(())
    }

    fn sound(&mut self, job: usize, sound: Sound) -> Result<()> {
        self.sounds.push((job, sound));
        Ok(())
    }

    fn image(&mut self, job: usize, picture: RgbImage) -> Result<()> {
        self.pictures.push((job, picture));
        Ok(())
    }
}

/// A model in a folder of its own, beside the folder of its texts.
struct Tiny {
    folder: tempfile::TempDir,
}

impl Tiny {
    fn of(case: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = below("../../tools/goldens/cases").join(case).join("model");
        copy(&model, &folder.path().join("model"));
        Self { folder }
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    fn texts(&self) -> PathBuf {
        self.folder.path().join("texts")
    }

    fn cache(&self) -> Arc<TextCache> {
        Arc::new(TextCache::new(self.texts(), LIMIT, |_| None))
    }

    fn ruin(&self) {
        ruin_encoders(&self.model());
    }

    fn count_texts(&self) -> usize {
        fs::read_dir(self.texts()).map_or(0, Iterator::count)
    }

    /// Without the cache; with it; with it and a ruined encoder; ruined without it.
    fn check(&self, texts: usize, run: impl Fn(Option<Arc<TextCache>>) -> Result<Made>) {
        let plain = run(None).unwrap();
        assert!(plain.has_loaded && !plain.pictures.is_empty());
        assert_eq!(self.count_texts(), 0);
        let first = run(Some(self.cache())).unwrap();
        assert_eq!(first, plain);
        assert_eq!(self.count_texts(), texts);
        self.ruin();
        let second = run(Some(self.cache())).unwrap();
        assert!(!second.has_loaded);
        assert!(second.pictures == plain.pictures && second.sounds == plain.sounds);
        assert_eq!(self.count_texts(), texts);
        assert!(run(None).is_err(), "the encoder that was ruined is read");
    }
}

fn picture_params(prompt: &str) -> ImageParams {
    ImageParams {
        prompt: prompt.to_owned(),
        negative_prompt: "blurry".to_owned(),
        width: 64,
        height: 64,
        steps: 2,
        guidance: Some(3.5),
        true_cfg: Some(2.0),
        seed: 1,
        rng: Rng::Cpu,
        text_tokens: 24,
        latents: None,
        sampler: None,
        source: None,
        sd: SdOptions::default(),
        flux: FluxOptions::default(),
    }
}

fn paint(model: &Path, cache: Option<Arc<TextCache>>, jobs: &[ImageParams]) -> Result<Made> {
    let layout = kinora_weights::detect(model).unwrap();
    let mut pipeline = Pipeline::open(&layout, &CPU, DType::F32, &mut |_| {})?;
    if let Some(cache) = cache {
        pipeline.keep_texts(cache);
    }
    let mut made = Made::default();
    pipeline.run(jobs, RunLimits::NONE, &mut made)?;
    Ok(made)
}

fn frame(width: u32, height: u32) -> RgbImage {
    let rgb = (0..width * height * 3)
        .map(|i| (i * 7 % 251) as u8)
        .collect();
    RgbImage { width, height, rgb }
}

#[test]
fn flux_reads_no_encoder_twice() {
    let tiny = Tiny::of("flux_dev");
    let jobs = [picture_params("a red fox"), picture_params("a lake")];
    tiny.check(3, |cache| paint(&tiny.model(), cache, &jobs));
}

#[test]
fn stable_diffusion_reads_no_encoder_twice_whatever_is_said_between_steps() {
    let mut long = picture_params("a red fox, ");
    long.prompt = long.prompt.repeat(30);
    let mut changing = picture_params("a (red:1.3) fox");
    changing.sd.changes.push(PromptChange {
        step: 1,
        prompt: "a lake".to_owned(),
        negative_prompt: "blurry".to_owned(),
    });
    let mut skipping = picture_params("a lake");
    skipping.sd.clip_skip = 1;
    let jobs = [long, changing, skipping];
    for case in ["sd15", "sdxl"] {
        let tiny = Tiny::of(case);
        // The negative prompt of the long one is as long; "a lake" is read in two ways.
        tiny.check(6, |cache| paint(&tiny.model(), cache, &jobs));
    }
}

#[test]
fn wan_reads_no_encoder_of_texts_or_given_frames_twice() {
    let params = VideoParams {
        prompt: "waves crashing at sunset".into(),
        negative_prompt: "blurry".into(),
        width: 48,
        height: 32,
        frames: 5,
        steps: 2,
        guidance: 4.0,
        guidance_2: None,
        switch: Switch::Model,
        step_cache: 0.0,
        shift: None,
        sampler: None,
        seed: 1,
        rng: Rng::Cpu,
        text_tokens: 32,
        first_frame: Some(frame(48, 32)),
        last_frame: None,
        latents: None,
        context: None,
        vae_tiling: false,
    };
    let tiny = Tiny::of("wan21_i2v");
    tiny.check(3, |cache| {
        let layout = detect_wan(&tiny.model()).unwrap();
        let mut pipeline = WanPipeline::open(&layout, &CPU, DType::F32, &mut |_| {})?;
        if let Some(cache) = cache {
            pipeline.keep_texts(cache);
        }
        let mut made = Made::default();
        pipeline.run(std::slice::from_ref(&params), RunLimits::NONE, &mut made)?;
        Ok(made)
    });
}

#[test]
fn ltx_video_reads_no_encoder_twice() {
    let params = LtxParams {
        prompt: "waves crashing at sunset".into(),
        negative_prompt: "blurry".into(),
        width: 64,
        height: 64,
        frames: 9,
        frame_rate: 25.0,
        steps: 2,
        guidance: 3.0,
        guidance_rescale: 0.0,
        sampler: None,
        step_cache: 0.0,
        shift: None,
        decode_time: 0.05,
        decode_noise: Some(0.025),
        seed: 1,
        rng: Rng::Cpu,
        text_tokens: 48,
        first_frame: None,
        vae_tiling: false,
        latents: None,
    };
    let tiny = Tiny::of("ltx_video");
    tiny.check(2, |cache| {
        let layout = detect_ltx(&tiny.model()).unwrap();
        let mut pipeline = LtxPipeline::open(&layout, &CPU, DType::F32, &mut |_| {})?;
        if let Some(cache) = cache {
            pipeline.keep_texts(cache);
        }
        let mut made = Made::default();
        pipeline.run(std::slice::from_ref(&params), RunLimits::NONE, &mut made)?;
        Ok(made)
    });
}

#[test]
fn ltx_2_reads_no_encoder_twice() {
    let params = Ltx2Params {
        prompt: "waves crashing at sunset".into(),
        negative_prompt: "blurry".into(),
        width: 64,
        height: 64,
        frames: 9,
        frame_rate: 25.0,
        steps: 2,
        guidance: Ltx2Guidance::text(4.0),
        audio_guidance: Ltx2Guidance::text(7.0),
        blind_blocks: Vec::new(),
        is_crossed: None,
        sampler: None,
        step_cache: 0.0,
        shift: None,
        seed: 1,
        rng: Rng::Cpu,
        text_tokens: 64,
        has_sound: true,
        first_frame: None,
        vae_tiling: false,
        latents: None,
        audio_latents: None,
    };
    let tiny = Tiny::of("ltx2");
    tiny.check(2, |cache| {
        let layout = detect_ltx2(&tiny.model()).unwrap();
        let mut pipeline = Ltx2Pipeline::open(&layout, &CPU, DType::F32, &mut |_| {})?;
        if let Some(cache) = cache {
            pipeline.keep_texts(cache);
        }
        let mut made = Made::default();
        pipeline.run(std::slice::from_ref(&params), RunLimits::NONE, &mut made)?;
        Ok(made)
    });
}

#[test]
fn an_adapter_of_the_encoder_has_texts_of_its_own() {
    let tiny = Tiny::of("flux_dev");
    let job = [picture_params("a red fox")];
    // It changes CLIP too.
    let file = below("tests/fixtures/flux_lora/diffusers.safetensors");
    let run = |cache: Option<Arc<TextCache>>, weights: &[f32]| -> Vec<Made> {
        let layout = kinora_weights::detect(&tiny.model()).unwrap();
        let mut pipeline = Pipeline::open(&layout, &CPU, DType::F32, &mut |_| {}).unwrap();
        if let Some(cache) = cache {
            pipeline.keep_texts(cache);
        }
        let adapter = Arc::new(pipeline.adaptive().open_adapter(&file).unwrap());
        let made = weights.iter().map(|weight| {
            let adapters = vec![WeightedAdapter {
                adapter: Arc::clone(&adapter),
                weight: *weight,
                expert: None,
            }];
            pipeline.adaptive().set_adapters(adapters).unwrap();
            let mut made = Made::default();
            pipeline.run(&job, RunLimits::NONE, &mut made).unwrap();
            made
        });
        made.collect()
    };
    // In whatever order encoders and adapters come, in one process or in several.
    let plain = run(None, &[0.0, 1.0, 0.5]);
    assert!(plain[0].pictures != plain[1].pictures && plain[1].pictures != plain[2].pictures);
    let pictures = |made: &[Made]| -> Vec<RgbImage> {
        let pictures = made.iter().flat_map(|made| &made.pictures);
        pictures.map(|(_, picture)| picture.clone()).collect()
    };
    let kept = run(Some(tiny.cache()), &[0.0, 1.0, 0.5]);
    assert!(pictures(&kept) == pictures(&plain));
    assert_eq!(tiny.count_texts(), 6);
    for (weight, expected) in [0.0, 1.0, 0.5].into_iter().zip(&plain) {
        let late = run(None, &[weight]);
        assert!(late[0].pictures == expected.pictures, "{weight}");
    }
    tiny.ruin();
    let again = run(Some(tiny.cache()), &[0.5, 1.0, 0.0]);
    let mut again = pictures(&again);
    again.reverse();
    assert!(again == pictures(&plain));
}

#[test]
fn models_share_their_encoders_until_an_adapter_changes_one() {
    // The second model's encoders are said to hold the same, and would make NaN if they were read.
    let (tiny, ruined) = (Tiny::of("flux_dev"), Tiny::of("flux_dev"));
    ruined.ruin();
    let content = |path: &Path| Some(path.parent()?.file_name()?.to_string_lossy().into_owned());
    let shelf = Arc::new(Shelf::new(content));
    let job = [picture_params("a red fox")];
    let open = |tiny: &Tiny| {
        let layout = kinora_weights::detect(&tiny.model()).unwrap();
        let mut pipeline = Pipeline::open(&layout, &CPU, DType::F32, &mut |_| {}).unwrap();
        pipeline.share_encoders(&shelf);
        pipeline
    };
    let run = |pipeline: &mut Pipeline| {
        let mut made = Made::default();
        pipeline.run(&job, RunLimits::NONE, &mut made).map(|_| made)
    };
    assert!(run(&mut open(&ruined)).is_err(), "nobody has read them yet");

    let mut first = open(&tiny);
    let plain = run(&mut first).unwrap();
    let mut second = open(&ruined);
    assert!(run(&mut second).unwrap().pictures == plain.pictures);

    // It changes CLIP: the first model reads one of its own, and the second keeps what it has.
    let file = below("tests/fixtures/flux_lora/diffusers.safetensors");
    let adapter = Arc::new(first.adaptive().open_adapter(&file).unwrap());
    let weighted = |weight| {
        vec![WeightedAdapter {
            adapter: Arc::clone(&adapter),
            weight,
            expert: None,
        }]
    };
    first.adaptive().set_adapters(weighted(1.0)).unwrap();
    assert!(run(&mut first).unwrap().pictures != plain.pictures);
    assert!(run(&mut second).unwrap().pictures == plain.pictures);
    first.adaptive().set_adapters(Vec::new()).unwrap();
    assert!(run(&mut first).unwrap().pictures == plain.pictures);

    // With the last model that uses them they leave.
    drop((first, second));
    assert!(run(&mut open(&ruined)).is_err());
}
