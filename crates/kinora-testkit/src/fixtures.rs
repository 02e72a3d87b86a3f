//! Plans and pictures.

use std::{fs::File, io::Write, path::Path};

use kinora_core::{
    Artifact, AssetKind, Family, ImageFormat, Mode, ModelId, OutputPlan, Plan, PlannedModel,
    Recipe, Rng, Sampler, Schedule, Seed, Size, Timings, WeightFile,
    plan::{NUMERICS, PLAN_VERSION},
    recipe::RECIPE_VERSION,
};
use sha2::{Digest, Sha256};

/// A plan for a picture of 64 × 64 pixels in four steps, on the model `fake`. Its file is named
/// after the prompt.
pub fn plan(prompt: &str) -> Plan {
    Plan {
        version: PLAN_VERSION,
        numerics: NUMERICS.into(),
        mode: Mode::TextToImage,
        model: PlannedModel {
            components: Default::default(),
            parts: Default::default(),
            id: ModelId::new("fake"),
            name: "Fake".into(),
            family: Family::Flux,
            variant: "schnell".into(),
            root: "/models/fake".into(),
            weights: ["transformer", "vae", "text_encoder", "text_encoder_2"]
                .map(|component| WeightFile {
                    component: component.into(),
                    file: format!("{component}/model.safetensors"),
                    bytes: 1_000_000,
                    sha256: Some("0".repeat(64)),
                })
                .into(),
        },
        prompt: prompt.into(),
        template: None,
        negative_prompt: String::new(),
        source: None,
        draft: None,
        parent: None,
        loras: Vec::new(),
        video: None,
        size: Size {
            width: 64,
            height: 64,
        },
        steps: 4,
        guidance: None,
        true_cfg: None,
        step_cache: None,
        seed: Seed(7),
        rng: Rng::Cpu,
        text_tokens: 64,
        sampler: Sampler::Euler,
        schedule: Schedule::FlowMatch,
        output: OutputPlan {
            stem: prompt.into(),
            format: ImageFormat::Png.into(),
        },
    }
}

/// Writes a small PNG, in a colour that comes from the seed, as a backend would: complete and
/// synced to disk, file and folder.
///
/// # Errors
/// What the file system reports; no file is left then.
pub fn write_picture(path: &Path, plan: &Plan) -> std::io::Result<Artifact> {
    let bytes = encode(plan)?;
    let written = (|| {
        let mut file = File::create(path)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        path.parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    })();
    if let Err(error) = written {
        std::fs::remove_file(path).ok();
        return Err(error);
    }
    let digest = Sha256::digest(&bytes);
    Ok(Artifact {
        kind: AssetKind::Image,
        format: plan.output.format,
        width: plan.size.width,
        height: plan.size.height,
        bytes: bytes.len() as u64,
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        clip: None,
        recipe: Recipe {
            recipe: RECIPE_VERSION,
            kinora: env!("CARGO_PKG_VERSION").into(),
            plan: plan.clone(),
            device: "fake".into(),
            dtype: "f32".into(),
            timings: Some(Timings {
                encoding_ms: 10.0,
                generating_ms: 100.0 * f64::from(plan.steps),
                decoding_ms: 20.0,
                saving_ms: 5.0,
                batch: 1,
                ..Timings::default()
            }),
            created_at: None,
        },
    })
}

fn encode(plan: &Plan) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, plan.size.width, plan.size.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder
        .add_itxt_chunk("prompt".into(), plan.prompt.clone())
        .map_err(std::io::Error::other)?;
    let colour: [u8; 3] = std::array::from_fn(|i| (plan.seed.0 >> (8 * i)) as u8);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&colour.repeat(plan.size.pixels() as usize)))
        .map_err(std::io::Error::other)?;
    Ok(bytes)
}
