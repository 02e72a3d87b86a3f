//! Adapters of every kind on tiny models against the reference with the same files
//! (tools/goldens/record_unet_lora.py), and back to the bits of the beginning.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use kinora_weights::{WeightSet, detect};

use super::UnetStage;
use crate::{
    adapters::{
        WeightedAdapter,
        testing::{Recorded, below, bits, distance, f32s, open_all},
    },
    denoisers::UnetInput,
    pipelines::Pipeline,
};

/// A tiny model with its recorded case.
struct Tiny {
    case: Recorded,
    name: &'static str,
    pipeline: Pipeline,
}

impl Tiny {
    fn open(name: &'static str) -> Self {
        let case = Recorded::open(name);
        let layout = detect(&case.model()).unwrap();
        let pipeline = Pipeline::open(&layout, &Device::Cpu, DType::F32, &mut |_| {});
        Self {
            pipeline: pipeline.unwrap(),
            case,
            name,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        below("tests/fixtures/unet_lora").join(format!("{}_{name}.safetensors", self.name))
    }

    fn set(&mut self, list: &[(&str, f32)]) -> Vec<WeightedAdapter> {
        let list: Vec<_> = list
            .iter()
            .map(|(name, weight)| (self.file(name), *weight))
            .collect();
        let model = self.pipeline.adaptive();
        let adapters = open_all(model, &list);
        model.set_adapters(adapters.clone()).unwrap();
        adapters
    }

    fn stage(&self) -> &UnetStage {
        match &self.pipeline {
            Pipeline::Sd(pipeline) => pipeline.stage(),
            Pipeline::Sdxl(pipeline) => pipeline.stage(),
            Pipeline::Flux(_) => panic!("a case of another family"),
        }
    }

    /// The UNet's answer to the case's first call, and the text encoders' to its prompts.
    fn answer(&self) -> Vec<(&'static str, Tensor)> {
        let unet = self.stage().unet();
        let input = |part: &str| self.case.tensor(&format!("unet.call0.in.{part}"));
        let ids = |encoder: &str| self.case.ids(&format!("{encoder}.call0.in.input_ids"), 77);
        let timestep: f32 = input("timestep").flatten_all().unwrap().to_vec1().unwrap()[0];
        let mut parts = Vec::new();
        let described = match &self.pipeline {
            Pipeline::Sdxl(pipeline) => {
                let (first, second) = pipeline.encoders().unwrap();
                let text = first.unwrap().forward(&ids("text_encoder")).unwrap();
                parts.push(("text", text.penultimate));
                let text = second.forward(&ids("text_encoder_2")).unwrap();
                parts.push(("text_2", text.penultimate));
                parts.push(("projected", text.projected.unwrap()));
                let sizes = input("added_cond_kwargs.time_ids").to_vec2().unwrap();
                let pooled = input("added_cond_kwargs.text_embeds");
                Some(unet.describe(&pooled, &sizes).unwrap())
            }
            Pipeline::Sd(pipeline) => {
                let text = pipeline
                    .clip()
                    .unwrap()
                    .forward(&ids("text_encoder"))
                    .unwrap();
                parts.push(("text", text.penultimate));
                None
            }
            Pipeline::Flux(_) => panic!("a case of another family"),
        };
        let tokens = input("encoder_hidden_states");
        let text = unet.prepare(&tokens, described.as_ref()).unwrap();
        let prediction = unet.forward(&UnetInput {
            latents: &input("sample"),
            timestep,
            text: &text,
        });
        parts.push(("unet", prediction.unwrap()));
        parts
    }

    /// Compares with what was recorded under this name.
    fn compare(&self, name: &str) {
        let expected = WeightSet::open_file(&self.file("expected")).unwrap();
        for (part, ours) in self.answer() {
            let changed = format!("{name}.{part}");
            let theirs = match expected.has(&changed) {
                true => f32s(&expected, &changed),
                false => f32s(&expected, &format!("none.{part}")),
            };
            let far = distance(&ours, &theirs);
            assert!(far <= 1e-4, "{} {changed}: {far}", self.name);
        }
    }
}

#[test]
fn every_kind_equals_the_reference_and_leaves_no_trace() {
    let mut tiny = Tiny::open("sdxl");
    let before = tiny.answer();
    let bytes = tiny.pipeline.weight_bytes();
    tiny.compare("none");
    for (name, list, kind) in [
        ("peft", &[("peft", 1.0)][..], "LoRA"),
        ("kohya", &[("kohya", 1.0)], "LoRA"),
        ("both", &[("peft", 0.7), ("kohya", -0.4)], "LoRA"),
        ("locon_tucker", &[("locon_tucker", 1.0)], "LoRA"),
        ("dora", &[("dora", 1.0)], "LoRA"),
        ("dora_columns", &[("dora_columns", 1.0)], "LoRA"),
        ("loha", &[("loha", 1.0)], "LoHa"),
        ("loha_tucker", &[("loha_tucker", 1.0)], "LoHa"),
        ("lokr", &[("lokr", 1.0)], "LoKr"),
        ("lokr_tucker", &[("lokr_tucker", 1.0)], "LoKr"),
        ("difference", &[("difference", 1.0)], "difference"),
    ] {
        for one in tiny.set(list) {
            assert_eq!(one.adapter.report().kinds, [kind], "{name}");
        }
        tiny.compare(name);
        assert!(tiny.pipeline.weight_bytes() >= bytes, "{name}");
    }
    // From one set of adapters straight to another, and at last to none.
    tiny.set(&[("kohya", 1.0)]);
    tiny.compare("kohya");
    // Layers that were kept in bf16 are merged in f32.
    assert!(tiny.pipeline.weight_bytes() > bytes);
    tiny.set(&[]);
    assert_eq!(tiny.pipeline.weight_bytes(), bytes);
    for ((part, ours), (_, theirs)) in tiny.answer().iter().zip(&before) {
        assert!(bits(ours) == bits(theirs), "{part}");
    }
}

#[test]
fn a_model_with_convolutions_for_projections_takes_them_too() {
    let mut tiny = Tiny::open("sd15");
    let before = tiny.answer();
    for name in ["peft", "kohya"] {
        tiny.set(&[(name, 1.0)]);
        tiny.compare(name);
    }
    tiny.set(&[("peft", 0.7), ("kohya", -0.4)]);
    tiny.compare("both");
    tiny.set(&[]);
    for ((part, ours), (_, theirs)) in tiny.answer().iter().zip(&before) {
        assert!(bits(ours) == bits(theirs), "{part}");
    }
}

#[test]
fn a_file_of_another_family_is_refused_with_its_family() {
    let mut tiny = Tiny::open("sd15");
    let flux = below("tests/fixtures/flux_lora/kohya.safetensors");
    let error = tiny.pipeline.adaptive().open_adapter(&flux).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("FLUX.1") && error.contains("none of its"),
        "{error}"
    );
    // SD 1.x has no second text encoder, and other widths than SDXL.
    let report = |tiny: &mut Tiny, name: &str| {
        let file = below("tests/fixtures/unet_lora").join(format!("sdxl_{name}.safetensors"));
        tiny.pipeline.adaptive().open_adapter(&file)
    };
    let adapter = report(&mut tiny, "peft").unwrap();
    let report = adapter.report();
    assert!(report.applied < report.keys && !report.unmatched.is_empty());
}
