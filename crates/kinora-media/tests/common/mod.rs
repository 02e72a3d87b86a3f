//! A recipe, and texts put into PNG files by hand.
#![allow(dead_code, reason = "each test file uses its part")]

use kinora_core::*;

pub fn recipe(prompt: &str) -> Recipe {
    Recipe {
        recipe: recipe::RECIPE_VERSION,
        kinora: "0.1.0".to_owned(),
        plan: Plan {
            version: plan::PLAN_VERSION,
            numerics: plan::NUMERICS.to_owned(),
            mode: Mode::TextToImage,
            model: PlannedModel {
                components: Default::default(),
                parts: Default::default(),
                id: ModelId::new("starter"),
                name: "Starter".to_owned(),
                family: Family::Flux,
                variant: "schnell".to_owned(),
                root: "/home/someone/models/starter".into(),
                weights: vec![
                    WeightFile {
                        component: "transformer".to_owned(),
                        file: "transformer/model.safetensors".to_owned(),
                        bytes: 1,
                        sha256: Some("0123456789abcdef".repeat(4)),
                    },
                    WeightFile {
                        component: "vae".to_owned(),
                        file: "vae/model.safetensors".to_owned(),
                        bytes: 1,
                        sha256: Some("fedcba9876543210".repeat(4)),
                    },
                ],
            },
            prompt: prompt.to_owned(),
            template: None,
            negative_prompt: String::new(),
            source: None,
            draft: None,
            parent: None,
            loras: Vec::new(),
            video: None,
            size: Size {
                width: 48,
                height: 32,
            },
            steps: 4,
            guidance: Some(3.5),
            true_cfg: None,
            step_cache: None,
            seed: Seed(u64::MAX),
            rng: Rng::Cpu,
            text_tokens: 256,
            sampler: Sampler::Euler,
            schedule: Schedule::FlowMatch,
            output: OutputPlan {
                stem: "a/b".to_owned(),
                format: ImageFormat::Png.into(),
            },
        },
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        timings: Some(Timings {
            generating_ms: 12.0,
            ..Timings::default()
        }),
        created_at: Some(Timestamp(5)),
    }
}

/// A picture with something in it.
pub fn pixels(width: u32, height: u32) -> Vec<u8> {
    let pixel = |i: u32| {
        [
            (i % width * 5) as u8,
            (i / width * 8) as u8,
            (i % 251) as u8,
        ]
    };
    (0..width * height).flat_map(pixel).collect()
}

/// The PNG with `tEXt` chunks behind its header (33 bytes).
pub fn with_texts(png: &[u8], texts: &[(&str, &str)]) -> Vec<u8> {
    let mut out = png[..33].to_vec();
    for (key, text) in texts {
        out.extend(chunk(
            b"tEXt",
            &[key.as_bytes(), b"\0", text.as_bytes()].concat(),
        ));
    }
    out.extend(&png[33..]);
    out
}

pub fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    let length = (data.len() as u32).to_be_bytes();
    [&length, kind.as_slice(), data, &crc.sum().to_be_bytes()].concat()
}
