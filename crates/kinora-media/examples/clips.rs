//! Writes the same five seconds as a clip of each format, with sound where there can be some, for
//! looking at players: `cargo run -p kinora-media --example clips -- FOLDER`.
//!
//! The pictures count themselves: a white bar is as long as the clip has run, and frame 0 is red.

use std::{f64::consts::TAU, fs, path::Path};

use kinora_core::{
    ClipFormat, Family, FrameRate, ImageFormat, Mode, ModelId, OutputPlan, Plan, PlannedModel,
    Recipe, Rng, Sampler, Schedule, Seed, Size, plan, recipe::RECIPE_VERSION,
};
use kinora_media::{CLIP_QUALITY, ClipSpec, ClipWriter, SoundSpec};

const SIZE: Size = Size {
    width: 320,
    height: 192,
};
const FRAMES: u32 = 80;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: clips FOLDER")?;
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    for format in ClipFormat::ALL {
        let spec = ClipSpec {
            width: SIZE.width,
            height: SIZE.height,
            rate: FrameRate::whole(16),
            format,
            quality: CLIP_QUALITY,
            sound: format.can_have_sound().then_some(SoundSpec {
                rate: 48_000,
                channels: 2,
            }),
            recipe: recipe(),
        };
        let name = serde_json::to_string(&format)?.replace('"', "");
        let path = folder.join(format!("{name}.{}", format.extension()));
        let mut clip = ClipWriter::create(&path, &spec)?;
        for frame in 0..FRAMES {
            clip.push(&picture(frame))?;
        }
        if spec.sound.is_some() {
            clip.push_sound(&sound())?;
        }
        let artifact = clip.finish()?;
        println!("{} {} bytes", path.display(), artifact.bytes);
    }
    Ok(())
}

fn picture(frame: u32) -> Vec<u8> {
    let wave = |position: f64, phase: f64| (120.0 + 80.0 * (position + phase).sin()) as u8;
    let time = f64::from(frame) / f64::from(FRAMES) * TAU;
    let pixel = |i: u32| {
        let (x, y) = (i % SIZE.width, i / SIZE.width);
        if y >= SIZE.height - 16 {
            let is_past = x * FRAMES < (frame + 1) * SIZE.width;
            return if is_past { [255; 3] } else { [30; 3] };
        }
        if frame == 0 && x < 32 && y < 32 {
            return [220, 20, 20];
        }
        let (x, y) = (f64::from(x) / 60.0, f64::from(y) / 40.0);
        [wave(x, time), wave(y + x * 0.3, -time), wave(x + y, time)]
    };
    (0..SIZE.width * SIZE.height).flat_map(pixel).collect()
}

/// A soft tone that rises.
fn sound() -> Vec<f32> {
    (0..48_000 * 5)
        .flat_map(|i| {
            let seconds = f64::from(i) / 48_000.0;
            let value = (seconds * (220.0 + 40.0 * seconds) * TAU).sin() * 0.2;
            [value as f32; 2]
        })
        .collect()
}

fn recipe() -> Recipe {
    Recipe {
        recipe: RECIPE_VERSION,
        kinora: env!("CARGO_PKG_VERSION").to_owned(),
        plan: Plan {
            version: plan::PLAN_VERSION,
            numerics: plan::NUMERICS.to_owned(),
            mode: Mode::TextToImage,
            model: PlannedModel {
                components: Default::default(),
                parts: Default::default(),
                id: ModelId::new("none"),
                name: "None".to_owned(),
                family: Family::Flux,
                variant: "none".to_owned(),
                root: Default::default(),
                weights: Vec::new(),
            },
            prompt: "waves of colour".to_owned(),
            template: None,
            negative_prompt: String::new(),
            source: None,
            draft: None,
            parent: None,
            loras: Vec::new(),
            video: None,
            size: SIZE,
            steps: 1,
            guidance: None,
            true_cfg: None,
            step_cache: None,
            seed: Seed(1),
            rng: Rng::Cpu,
            text_tokens: 256,
            sampler: Sampler::Euler,
            schedule: Schedule::FlowMatch,
            output: OutputPlan {
                stem: String::new(),
                format: ImageFormat::Png.into(),
            },
        },
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        timings: None,
        created_at: None,
    }
}
