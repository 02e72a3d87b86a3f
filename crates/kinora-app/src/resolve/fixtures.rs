//! A catalogue for tests: models that differ in what they can do.

use kinora_core::{
    Capabilities, ContextRule, Family, FloatRange, IntRange, Mode, Model, ModelDefaults, ModelId,
    ModelSource, PlannedModel, Size, SizeRule, VideoRule,
};
use serde_json::json;

use super::Candidate;

fn capabilities() -> Capabilities {
    serde_json::from_value(json!({
        "modes": ["text_to_image"],
        "size": { "min": 256, "max": 2048, "multiple": 16,
                  "default": { "width": 1024, "height": 768 }, "presets": [] },
        "steps": { "min": 1, "max": 50, "default": 4 },
        "guidance": null,
        "true_cfg": null,
        "copies": { "min": 1, "max": 64, "default": 1 },
        "prompt_chars": 2000,
        "text_tokens": 256,
        "samplers": ["euler"],
        "schedules": ["flow_match"]
    }))
    .unwrap()
}

pub fn candidate(id: &str, change: impl FnOnce(&mut Model)) -> Candidate {
    let mut model = Model {
        id: ModelId::new(id),
        name: id.to_uppercase(),
        family: Family::Flux,
        variant: "schnell".to_owned(),
        description: String::new(),
        category: "fast".to_owned(),
        tags: Vec::new(),
        source: ModelSource::Catalogue,
        capabilities: capabilities(),
        defaults: ModelDefaults {
            width: 1024,
            height: 768,
            steps: 4,
            guidance: None,
        },
        is_installed: true,
        fault: None,
        bytes: 0,
        memory_bytes: 0,
        approval_url: None,
        example_prompts: Vec::new(),
    };
    change(&mut model);
    let planned = (model.is_installed && model.fault.is_none()).then(|| PlannedModel {
        components: Default::default(),
        parts: Default::default(),
        id: model.id.clone(),
        name: model.name.clone(),
        family: model.family,
        variant: model.variant.clone(),
        root: "/models".into(),
        weights: Vec::new(),
    });
    Candidate { model, planned }
}

/// `fast`: no guidance, no negative prompt. `full`: both, and steps can be reused. `gone`: not installed. `broken`: faulty.
/// `huge`: needs 100 GiB. `odd`: sides of 300 to 1000 in multiples of 64, one copy, short prompts.
/// `painter`: starts from pictures and takes LoRA files. `editor`: needs a picture. `varier`:
/// makes variations of up to three pictures. `mover`: makes clips from pictures, with two experts,
/// and takes LoRA files.
pub fn models() -> Vec<Candidate> {
    vec![
        candidate("gone", |model| model.is_installed = false),
        candidate("broken", |model| {
            model.fault = Some("its header is cut".to_owned())
        }),
        candidate("fast", |_| {}),
        candidate("full", |model| {
            model.capabilities.guidance = Some(FloatRange {
                min: 0.0,
                max: 20.0,
                default: 3.0,
            });
            model.capabilities.true_cfg = Some(FloatRange {
                min: 1.0,
                max: 10.0,
                default: 4.0,
            });
            model.capabilities.step_cache = Some(FloatRange {
                min: 0.0,
                max: 0.5,
                default: 0.0,
            });
            model.defaults.guidance = Some(3.5);
            model.defaults.steps = 28;
        }),
        candidate("huge", |_| {}),
        candidate("odd", |model| {
            model.capabilities.size = SizeRule {
                min: 300,
                max: 1000,
                multiple: 64,
                default: Size {
                    width: 640,
                    height: 640,
                },
                presets: Vec::new(),
            };
            model.defaults.width = 640;
            model.defaults.height = 640;
            model.capabilities.copies = IntRange {
                min: 1,
                max: 1,
                default: 1,
            };
            model.capabilities.prompt_chars = 10;
        }),
        candidate("mute", |model| model.capabilities.modes.clear()),
        candidate("painter", |model| {
            model.capabilities.modes = vec![Mode::TextToImage, Mode::ImageToImage, Mode::Inpaint];
            model.capabilities.strength = Some(FloatRange {
                min: 0.05,
                max: 1.0,
                default: 0.75,
            });
            model.capabilities.loras = true;
        }),
        candidate("editor", |model| {
            model.capabilities.modes = vec![Mode::Edit]
        }),
        candidate("varier", |model| {
            model.capabilities.modes = vec![Mode::Variation];
            model.capabilities.strength = Some(FloatRange {
                min: 0.0,
                max: 2.0,
                default: 1.0,
            });
            model.capabilities.more_images = 2;
        }),
        candidate("mover", |model| {
            model.capabilities.step_cache = Some(FloatRange {
                min: 0.0,
                max: 0.5,
                default: 0.0,
            });
            model.capabilities.modes = vec![Mode::ImageToVideo];
            model.capabilities.true_cfg = Some(FloatRange {
                min: 1.0,
                max: 20.0,
                default: 3.5,
            });
            model.capabilities.loras = true;
            model.capabilities.cfg_always = true;
            model.capabilities.video = Some(VideoRule {
                frames: IntRange {
                    min: 1,
                    max: 121,
                    default: 81,
                },
                frame_step: 4,
                fps: IntRange {
                    min: 1,
                    max: 60,
                    default: 16,
                },
                end_image: true,
                experts: true,
                shift: None,
                sound: false,
                context: Some(ContextRule {
                    frames: IntRange {
                        min: 17,
                        max: 121,
                        default: 81,
                    },
                    longest: 1025,
                }),
                vae_tiling: true,
            });
        }),
        candidate("talker", |model| {
            model.capabilities.modes = vec![Mode::ImageToVideo, Mode::TextToVideo];
            model.capabilities.video = Some(VideoRule {
                frames: IntRange {
                    min: 9,
                    max: 257,
                    default: 121,
                },
                frame_step: 8,
                fps: IntRange {
                    min: 1,
                    max: 60,
                    default: 24,
                },
                end_image: false,
                experts: false,
                shift: None,
                sound: true,
                context: None,
                vae_tiling: false,
            });
        }),
    ]
}
