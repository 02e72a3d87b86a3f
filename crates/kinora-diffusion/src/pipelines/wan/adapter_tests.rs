//! Pairs of adapters on a tiny model of two experts against the reference with the same files
//! (tools/goldens/record_wan_lora.py), and back to the bits of the beginning.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use kinora_core::Expert;
use kinora_weights::{WeightSet, wan::detect_wan};

use super::{WanPipeline, WanText};
use crate::{
    adapters::{
        Adaptive, WeightedAdapter,
        testing::{Recorded, below, bits, distance, f32s, open_all},
    },
    denoisers::WanInput,
};

/// Weights of each pair: of the first expert's file and of the second's.
const PAIRS: [(&str, f32, f32); 4] = [
    ("comfy", 1.0, 0.8),
    ("musubi", 0.7, -0.5),
    ("bare", 0.4, 1.2),
    ("diffusers", -0.6, 0.9),
];

fn file(name: &str) -> PathBuf {
    below("tests/fixtures/wan_lora").join(format!("{name}.safetensors"))
}

fn open(case: &Recorded) -> WanPipeline {
    let layout = detect_wan(&case.model()).unwrap();
    WanPipeline::open(&layout, &Device::Cpu, DType::F32, &mut |_| {}).unwrap()
}

/// An expert's answer to its first call.
fn answer(pipeline: &mut WanPipeline, case: &Recorded, expert: Expert) -> Tensor {
    let is_low = expert == Expert::Low;
    let part = if is_low {
        "transformer_2"
    } else {
        "transformer"
    };
    let input = |what: &str| case.tensor(&format!("{part}.call0.in.{what}"));
    let (latents, text) = (input("hidden_states"), input("encoder_hidden_states"));
    let time = input("timestep").flatten_all().unwrap().get(0).unwrap();
    let denoiser = pipeline.denoiser(is_low).unwrap();
    let (_, _, frames, height, width) = latents.dims5().unwrap();
    let device = &Device::Cpu;
    let rope = denoiser.positions([frames, height / 2, width / 2], device);
    let texts: Vec<WanText> = (0..text.dim(0).unwrap())
        .map(|row| WanText {
            tokens: text.narrow(0, row, 1).unwrap().contiguous().unwrap(),
            padding: 0,
        })
        .collect();
    let texts: Vec<&WanText> = texts.iter().collect();
    let times = [time.to_scalar::<f32>().unwrap()];
    let velocity = denoiser.forward(&WanInput {
        latents: &latents,
        context: &denoiser.prepare_context(&texts, None).unwrap(),
        time: &denoiser.embed_time(&times, device).unwrap(),
        rope: &rope.unwrap(),
    });
    velocity.unwrap()
}

/// Both files of pairs, each bound to its expert.
fn bound(pipeline: &mut WanPipeline, pairs: &[(&str, f32, f32)]) -> Vec<WeightedAdapter> {
    let mut adapters = Vec::new();
    for (name, high, low) in pairs {
        let files = [
            (file(&format!("{name}_high")), *high),
            (file(&format!("{name}_low")), *low),
        ];
        let experts = [Expert::High, Expert::Low];
        for (mut one, expert) in open_all(pipeline, &files).into_iter().zip(experts) {
            one.expert = Some(expert);
            adapters.push(one);
        }
    }
    adapters
}

fn compare(pipeline: &mut WanPipeline, case: &Recorded, name: &str) {
    let expected = WeightSet::open_file(&file("expected")).unwrap();
    for expert in [Expert::High, Expert::Low] {
        let ours = answer(pipeline, case, expert);
        let theirs = f32s(&expected, &format!("{name}.{}", expert.name()));
        let far = distance(&ours, &theirs);
        assert!(far <= 1e-4, "{name} {}: {far}", expert.name());
    }
}

#[test]
fn four_pairs_change_their_own_expert_and_leave_no_trace() {
    let case = Recorded::open("wan22_t2v_a14b");
    let mut pipeline = open(&case);
    let experts = [Expert::High, Expert::Low];
    let before = experts.map(|expert| answer(&mut pipeline, &case, expert));
    compare(&mut pipeline, &case, "none");
    for (name, ..) in PAIRS {
        let adapters = bound(&mut pipeline, &[(name, 1.0, 1.0)]);
        pipeline.set_adapters(adapters).unwrap();
        compare(&mut pipeline, &case, name);
    }
    let adapters = bound(&mut pipeline, &PAIRS);
    pipeline.set_adapters(adapters.clone()).unwrap();
    compare(&mut pipeline, &case, "all");
    // An expert that leaves memory comes back with its adapters.
    pipeline.experts.forget();
    compare(&mut pipeline, &case, "all");
    pipeline.set_adapters(Vec::new()).unwrap();
    for (expert, before) in experts.into_iter().zip(&before) {
        let after = answer(&mut pipeline, &case, expert);
        assert!(bits(&after) == bits(before));
    }
}

#[test]
fn an_adapter_of_one_expert_leaves_the_other_as_it_is() {
    let case = Recorded::open("wan22_t2v_a14b");
    let mut pipeline = open(&case);
    let expected = WeightSet::open_file(&file("expected")).unwrap();
    let mut adapters = bound(&mut pipeline, &[("comfy", 1.0, 1.0)]);
    adapters.truncate(1);
    pipeline.set_adapters(adapters.clone()).unwrap();
    let far = |pipeline: &mut WanPipeline, expert: Expert, name: &str| {
        distance(&answer(pipeline, &case, expert), &f32s(&expected, name))
    };
    assert!(far(&mut pipeline, Expert::High, "comfy.high") <= 1e-4);
    assert!(far(&mut pipeline, Expert::Low, "none.low") <= 1e-4);
    // Without an expert it is for both.
    adapters[0].expert = None;
    pipeline.set_adapters(adapters).unwrap();
    assert!(far(&mut pipeline, Expert::High, "comfy.high") <= 1e-4);
    assert!(far(&mut pipeline, Expert::Low, "none.low") > 1e-2);
}
