//! An adapter on a tiny model against the reference with the same file
//! (tools/goldens/record_ltx_lora.py), and back to the bits of the beginning.

use candle_core::{DType, Device, Tensor};
use kinora_weights::{WeightSet, ltx2::detect_ltx2};

use super::Ltx2Pipeline;
use crate::{
    adapters::{
        Adaptive,
        testing::{Recorded, below, bits, distance, f32s, open_all},
    },
    denoisers::{Ltx2Blindness, Ltx2Input},
    text::Ltx2Text,
};

const CASE: &str = "ltx2";
const FRAME_RATE: f64 = 24.0;

/// Picture and sound of the case's first call.
fn answer(pipeline: &Ltx2Pipeline, case: &Recorded) -> [Tensor; 2] {
    let input = |what: &str| case.tensor(&format!("transformer.call0.in.{what}"));
    let first = |what: &str| -> f32 { input(what).flatten_all().unwrap().to_vec1().unwrap()[0] };
    let (text, sound) = (
        input("encoder_hidden_states"),
        input("audio_encoder_hidden_states"),
    );
    let row = |all: &Tensor, row: usize| all.narrow(0, row, 1).unwrap().contiguous().unwrap();
    let texts: Vec<Ltx2Text> = (0..text.dim(0).unwrap())
        .map(|i| Ltx2Text {
            video: row(&text, i),
            audio: row(&sound, i),
        })
        .collect();
    let texts: Vec<&Ltx2Text> = texts.iter().collect();
    let (device, denoiser) = (&Device::Cpu, pipeline.denoiser());
    let audio = input("audio_hidden_states");
    let positions = denoiser.positions([2, 2, 3], FRAME_RATE, audio.dim(1).unwrap(), device);
    let time = denoiser.embed_time(&[first("timestep")], first("sigma"), false, device);
    let (picture, sound) = denoiser
        .forward(&Ltx2Input {
            video: &input("hidden_states"),
            audio: &audio,
            context: &denoiser.prepare_context(&texts).unwrap(),
            time: &time.unwrap(),
            positions: &positions.unwrap(),
            blindness: Ltx2Blindness::None,
        })
        .unwrap();
    [picture, sound]
}

#[test]
fn an_adapter_equals_the_reference_and_leaves_no_trace() {
    let case = Recorded::open(CASE);
    let layout = detect_ltx2(&case.model()).unwrap();
    let mut pipeline = Ltx2Pipeline::open(&layout, &Device::Cpu, DType::F32, &mut |_| {}).unwrap();
    let folder = below("tests/fixtures/ltx_lora");
    let expected = folder.join(format!("{CASE}_expected.safetensors"));
    let expected = WeightSet::open_file(&expected).unwrap();
    let compare = |answer: &[Tensor; 2], name: &str| {
        for (i, ours) in answer.iter().enumerate() {
            let far = distance(ours, &f32s(&expected, &format!("{name}.{i}")));
            assert!(far <= 1e-4, "{name}.{i}: {far}");
        }
    };
    let before = answer(&pipeline, &case);
    compare(&before, "none");
    let file = folder.join(format!("{CASE}.safetensors"));
    let adapters = open_all(&mut pipeline, &[(file, 1.0)]);
    pipeline.set_adapters(adapters).unwrap();
    compare(&answer(&pipeline, &case), "lora");
    pipeline.set_adapters(Vec::new()).unwrap();
    for (after, before) in answer(&pipeline, &case).iter().zip(&before) {
        assert!(bits(after) == bits(before));
    }
}
