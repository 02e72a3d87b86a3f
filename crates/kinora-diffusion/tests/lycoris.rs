//! OFT, BOFT, GLoRA and (IA)³: a model with such an adapter gives what it gives with the weights that
//! LyCORIS' own modules make of it (tools/goldens/record_lycoris.py), on linear layers, convolutions
//! and fused layers, plain and quantised; without it, the bits of the beginning.

mod common;

use std::path::{Path, PathBuf};

use common::{Tensor, cases, copy_parts, open, params, run, to_bfl, transformer, write_gguf};
use half::f16;
use kinora_diffusion::{
    adapters::WeightedAdapter,
    pipelines::{ImageParams, Pipeline},
};
use kinora_weights::Dtype;

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lycoris");
    folder.join(format!("{name}.safetensors"))
}

/// Brings a model to one adapter; the kinds that its report names.
fn adapt(pipeline: &mut Pipeline, name: &str, weight: f32) -> Vec<&'static str> {
    let model = pipeline.adaptive();
    let adapter = model.open_adapter(&fixture(name)).unwrap();
    let report = adapter.report().clone();
    assert_eq!(report.applied, report.keys, "{name}: {report:?}");
    let adapters = vec![WeightedAdapter {
        adapter: adapter.into(),
        weight,
        expert: None,
    }];
    model.set_adapters(adapters).unwrap();
    report.kinds
}

fn far(ours: &[f32], theirs: &[f32]) -> f32 {
    let pairs = ours.iter().zip(theirs);
    pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max)
}

/// Each adapter against its merged weights.
fn check(pipeline: &mut Pipeline, params: &ImageParams, files: &[(&str, f32, &str)]) {
    let before = run(pipeline, params);
    for (name, weight, kind) in files {
        assert_eq!(adapt(pipeline, name, *weight), [*kind], "{name}");
        let ours = run(pipeline, params);
        assert_eq!(
            adapt(pipeline, &format!("{name}_merged"), 1.0),
            ["replacement"]
        );
        let theirs = run(pipeline, params);
        let (distance, moved) = (far(&ours, &theirs), far(&before, &theirs));
        assert!(distance < 2e-4, "{name}: {distance}");
        assert!(
            moved > 50.0 * distance.max(1e-5),
            "{name}: {moved} {distance}"
        );
    }
    pipeline.adaptive().set_adapters(Vec::new()).unwrap();
    assert!(run(pipeline, params) == before);
}

#[test]
fn rarer_kinds_are_those_of_lycoris_on_linear_layers_and_convolutions() {
    let params = ImageParams {
        true_cfg: Some(5.0),
        guidance: None,
        negative_prompt: "blurry".into(),
        width: 64,
        height: 64,
        ..params("a red car")
    };
    let mut pipeline = open(&cases().join("sd15/model"));
    check(
        &mut pipeline,
        &params,
        &[
            ("sd15_oft", 1.0, "OFT"),
            ("sd15_oft_bounded", 0.7, "OFT"),
            ("sd15_boft", 1.0, "BOFT"),
            ("sd15_boft_part", 0.7, "BOFT"),
            ("sd15_glora", 0.7, "GLoRA"),
            ("sd15_ia3", 0.7, "(IA)³"),
            ("sd15_ia3_inputs", 1.0, "(IA)³"),
        ],
    );
}

const FLUX: [(&str, f32, &str); 5] = [
    ("flux_boft", 1.0, "BOFT"),
    ("flux_boft_part", 0.6, "BOFT"),
    ("flux_oft", 1.0, "OFT"),
    ("flux_glora", 1.0, "GLoRA"),
    ("flux_ia3", 1.0, "(IA)³"),
];

#[test]
fn a_fused_layer_is_divided_among_the_models_own() {
    let mut pipeline = open(&cases().join("flux_dev/model"));
    check(&mut pipeline, &params("a red car"), &FLUX);
}

/// The adapter's weights are those of the plain model, so that only the distance to the plain model
/// under the adapter tells anything: it is that of the rounding.
#[test]
fn a_quantised_layer_is_widened_for_them_and_comes_back() {
    let model = cases().join("flux_dev/model");
    let (canonical, config) = transformer(&model);
    let halved = to_bfl(&canonical, &config)
        .into_iter()
        .map(|(name, tensor)| {
            let numbers = tensor.numbers();
            let bytes = numbers.iter().flat_map(|n| f16::from_f32(*n).to_le_bytes());
            let halved = Tensor {
                dtype: Dtype::F16,
                shape: tensor.shape.clone(),
                bytes: bytes.collect(),
            };
            (name, halved)
        });
    let folder = tempfile::tempdir().unwrap();
    copy_parts(&model, folder.path());
    write_gguf(
        &folder.path().join("m.gguf"),
        &halved.collect(),
        Some("flux"),
    );
    let mut quantised = open(folder.path());
    check(&mut quantised, &params("a red car"), &FLUX);
}
