//! Adapters of every kind on a tiny model against the reference with the same files
//! (tools/goldens/record_flux_lora.py), and back to the bits of the beginning.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use kinora_weights::{WeightSet, detect};

use super::{FluxInput, FluxPipeline};
use crate::{adapters::WeightedAdapter, layers::TensorSource};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn file(name: &str) -> PathBuf {
    folder("tests/fixtures/flux_lora").join(format!("{name}.safetensors"))
}

fn open() -> FluxPipeline {
    let layout = detect(&folder("../../tools/goldens/cases/flux_dev/model")).unwrap();
    FluxPipeline::open(&layout, &Device::Cpu, DType::F32, &mut |_| {}).unwrap()
}

fn f32s(set: &WeightSet, name: &str) -> Tensor {
    let tensor = TensorSource::tensor(set, name).unwrap();
    tensor.to_dtype(DType::F32).unwrap()
}

/// The transformer's answer to the case's first call, and CLIP's to its prompts.
fn answer(pipeline: &FluxPipeline) -> [Tensor; 2] {
    let case = folder("../../tools/goldens/cases/flux_dev");
    let golden = WeightSet::open_file(&case.join("golden.safetensors")).unwrap();
    let json = std::fs::read(case.join("case.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let name = |name: &str| {
        let alias = json["aliases"][name].as_str();
        alias.unwrap_or(name).to_owned()
    };
    let input = |part: &str| f32s(&golden, &name(&format!("transformer.call0.in.{part}")));
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
    let ids = golden
        .read(&name("text_encoder.call0.in.input_ids"))
        .unwrap();
    let ids: Vec<u32> = ids
        .as_chunks::<8>()
        .0
        .iter()
        .map(|id| i64::from_le_bytes(*id) as u32)
        .collect();
    let rows: Vec<Vec<u32>> = ids.chunks(77).map(<[u32]>::to_vec).collect();
    [
        velocity.unwrap(),
        pipeline.clip.forward(&rows).unwrap().pooled,
    ]
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let numbers: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    numbers.into_iter().map(f32::to_bits).collect()
}

/// Largest difference against the standard deviation.
fn distance(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.dims(), theirs.dims());
    let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (ours, theirs) = (numbers(ours), numbers(theirs));
    let count = theirs.len() as f64;
    let mean = theirs.iter().map(|n| f64::from(*n)).sum::<f64>() / count;
    let variance = theirs
        .iter()
        .map(|n| (f64::from(*n) - mean).powi(2))
        .sum::<f64>()
        / count;
    let far = ours
        .iter()
        .zip(&theirs)
        .map(|(a, b)| f64::from((a - b).abs()));
    far.fold(0.0, f64::max) / variance.sqrt()
}

fn weighted(pipeline: &mut FluxPipeline, list: &[(&str, f32)]) -> Vec<WeightedAdapter> {
    list.iter()
        .map(|(name, weight)| WeightedAdapter {
            adapter: pipeline.open_adapter(&file(name)).unwrap().into(),
            weight: *weight,
        })
        .collect()
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
            let report = one.adapter.report();
            assert_eq!(
                report.applied, report.keys,
                "{name}: {:?}",
                report.unmatched
            );
            assert_eq!(report.kinds, [kind]);
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
    let model =
        folder("../../tools/goldens/cases/flux_dev/model/vae/diffusion_pytorch_model.safetensors");
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
