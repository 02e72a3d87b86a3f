//! Adapters of every kind on a tiny model against the reference with the same files
//! (tools/goldens/record_flux_lora.py), and back to the bits of the beginning.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use kinora_weights::{WeightSet, detect};

use super::FluxPipeline;
use crate::{
    adapters::{
        Adaptive, WeightedAdapter,
        testing::{Recorded, below, bits, distance, f32s, open_all},
    },
    denoisers::FluxInput,
};

const CASE: &str = "flux_dev";

fn file(name: &str) -> PathBuf {
    below("tests/fixtures/flux_lora").join(format!("{name}.safetensors"))
}

fn open() -> FluxPipeline {
    let layout = detect(&Recorded::open(CASE).model()).unwrap();
    FluxPipeline::open(&layout, &Device::Cpu, DType::F32, &mut |_| {}).unwrap()
}

/// The transformer's answer to the case's first call, and CLIP's to its prompts.
fn answer(pipeline: &FluxPipeline) -> [Tensor; 2] {
    let case = Recorded::open(CASE);
    let input = |part: &str| case.tensor(&format!("transformer.call0.in.{part}"));
    let (latents, text) = (input("hidden_states"), input("encoder_hidden_states"));
    let rope = pipeline
        .denoiser
        .positions(text.dim(1).unwrap(), 4, 6, &Device::Cpu)
        .unwrap();
    let velocity = pipeline.denoiser.forward(&FluxInput {
        latents: &latents,
        text: &text,
        pooled: &input("pooled_projections"),
        timestep: 1000.0,
        guidance: &[3.5, 3.5],
        rope: &rope,
    });
    let rows = case.ids("text_encoder.call0.in.input_ids", 77);
    [
        velocity.unwrap(),
        pipeline
            .encoders()
            .unwrap()
            .0
            .forward(&rows)
            .unwrap()
            .pooled,
    ]
}

fn weighted(pipeline: &mut FluxPipeline, list: &[(&str, f32)]) -> Vec<WeightedAdapter> {
    let list: Vec<_> = list
        .iter()
        .map(|(name, weight)| (file(name), *weight))
        .collect();
    open_all(pipeline, &list)
}

#[test]
fn every_kind_equals_the_reference_and_leaves_no_trace() {
    let expected = WeightSet::open_file(&file("expected")).unwrap();
    let mut pipeline = open();
    let before = answer(&pipeline);
    for (name, list, kind) in [
        ("diffusers", &[("diffusers", 1.0)][..], "LoRA"),
        ("kohya", &[("kohya", 1.0)], "LoRA"),
        ("both", &[("diffusers", 0.7), ("kohya", -0.4)], "LoRA"),
        ("dora", &[("dora", 1.0)], "LoRA"),
        ("loha", &[("loha", 1.0)], "LoHa"),
        ("lokr", &[("lokr", 1.0)], "LoKr"),
        ("difference", &[("difference", 1.0)], "difference"),
    ] {
        let adapters = weighted(&mut pipeline, list);
        for one in &adapters {
            assert_eq!(one.adapter.report().kinds, [kind]);
        }
        pipeline.set_adapters(adapters).unwrap();
        for (part, ours) in ["transformer", "pooled"].into_iter().zip(answer(&pipeline)) {
            let theirs = f32s(&expected, &format!("{name}.{part}"));
            let far = distance(&ours, &theirs);
            assert!(far <= 1e-4, "{name} {part}: {far}");
        }
    }
    // From one set of adapters straight to another, and at last to none.
    let adapters = weighted(&mut pipeline, &[("kohya", 1.0)]);
    pipeline.set_adapters(adapters).unwrap();
    let theirs = f32s(&expected, "kohya.transformer");
    assert!(distance(&answer(&pipeline)[0], &theirs) <= 1e-4);
    pipeline.set_adapters(Vec::new()).unwrap();
    for (ours, theirs) in answer(&pipeline).iter().zip(&before) {
        assert!(bits(ours) == bits(theirs));
    }
    assert!(distance(&before[0], &f32s(&expected, "none.transformer")) <= 1e-4);
}

#[test]
fn what_fits_nothing_is_refused_and_a_bad_weight_changes_nothing() {
    let mut pipeline = open();
    let vae = "vae/diffusion_pytorch_model.safetensors";
    let model = Recorded::open(CASE).model().join(vae);
    let error = pipeline.open_adapter(&model).unwrap_err().to_string();
    assert!(error.contains("it may be a model"), "{error}");
    let before = answer(&pipeline);
    let adapters = weighted(&mut pipeline, &[("kohya", f32::NAN)]);
    let error = pipeline.set_adapters(adapters).unwrap_err().to_string();
    assert!(
        error.contains("kohya") && error.contains("finite"),
        "{error}"
    );
    assert!(bits(&answer(&pipeline)[0]) == bits(&before[0]));
    let adapters = weighted(&mut pipeline, &[("kohya", 0.0)]);
    pipeline.set_adapters(adapters).unwrap();
    assert!(bits(&answer(&pipeline)[0]) == bits(&before[0]));
}
