//! An adapter on a tiny model against the reference with the same file
//! (tools/goldens/record_ltx_lora.py), and back to the bits of the beginning.

use candle_core::{DType, Device, Tensor};
use kinora_weights::{WeightSet, ltx::detect_ltx};

use super::LtxPipeline;
use crate::{
    adapters::{
        Adaptive,
        testing::{Recorded, below, bits, distance, f32s, open_all},
    },
    denoisers::LtxInput,
};

const CASE: &str = "ltx_video";
/// The reference's default.
const FRAME_RATE: f64 = 25.0;

/// The answer to the case's first call.
fn answer(pipeline: &LtxPipeline, case: &Recorded) -> Tensor {
    let input = |what: &str| case.tensor(&format!("transformer.call0.in.{what}"));
    let (text, mask) = (
        input("encoder_hidden_states"),
        input("encoder_attention_mask"),
    );
    let texts: Vec<Tensor> = (0..text.dim(0).unwrap())
        .map(|row| {
            let real: f32 = mask
                .get(row)
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar()
                .unwrap();
            let tokens = text.narrow(0, row, 1).unwrap().narrow(1, 0, real as usize);
            tokens.unwrap().contiguous().unwrap()
        })
        .collect();
    let texts: Vec<&Tensor> = texts.iter().collect();
    let time: Vec<f32> = input("timestep").flatten_all().unwrap().to_vec1().unwrap();
    let (device, denoiser) = (&Device::Cpu, pipeline.denoiser());
    let scale = pipeline.parts.vae.scale() as f64;
    let seconds = pipeline.parts.vae.time_scale() as f64 / FRAME_RATE;
    let rope = denoiser.positions([2, 2, 3], [seconds, scale, scale], device);
    let velocity = denoiser.forward(&LtxInput {
        latents: &input("hidden_states"),
        context: &denoiser.prepare_context(&texts).unwrap(),
        time: &denoiser.embed_time(&time[..1], device).unwrap(),
        rope: &rope.unwrap(),
    });
    velocity.unwrap()
}

#[test]
fn an_adapter_equals_the_reference_and_leaves_no_trace() {
    let case = Recorded::open(CASE);
    let layout = detect_ltx(&case.model()).unwrap();
    let mut pipeline = LtxPipeline::open(&layout, &Device::Cpu, DType::F32, &mut |_| {}).unwrap();
    let folder = below("tests/fixtures/ltx_lora");
    let expected = folder.join(format!("{CASE}_expected.safetensors"));
    let expected = WeightSet::open_file(&expected).unwrap();
    let before = answer(&pipeline, &case);
    assert!(distance(&before, &f32s(&expected, "none.0")) <= 1e-4);
    let file = folder.join(format!("{CASE}.safetensors"));
    let adapters = open_all(&mut pipeline, &[(file, 1.0)]);
    pipeline.set_adapters(adapters).unwrap();
    let far = distance(&answer(&pipeline, &case), &f32s(&expected, "lora.0"));
    assert!(far <= 1e-4, "{far}");
    pipeline.set_adapters(Vec::new()).unwrap();
    assert!(bits(&answer(&pipeline, &case)) == bits(&before));
}
