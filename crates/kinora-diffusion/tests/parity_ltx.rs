//! Every stage of the recorded clips of LTX, through the shipping pipelines, within its gate.

use std::path::Path;

use kinora_diffusion::parity;

fn check(case: &str, wanted: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/goldens/cases");
    let results = parity::run(&folder.join(case)).unwrap();
    let failed: Vec<_> = results.iter().filter(|result| !result.pass).collect();
    assert!(failed.is_empty(), "{case}: {failed:#?}");
    for stage in EVERYWHERE.iter().chain(wanted) {
        assert!(
            results.iter().any(|result| result.stage == *stage),
            "{case} was not compared at {stage}"
        );
    }
}

const EVERYWHERE: [&str; 9] = [
    "text_encoder.call0.in.input_ids",
    "transformer.call0.out",
    "step0.latents",
    "timesteps",
    "sigmas",
    "vae.decode0.out as 8 bits",
    "vae.decode0.out",
    "vae.decode0 streamed and whole",
    "extra.vae_encode.out",
];

/// T5, and both texts.
const VIDEO: [&str; 4] = [
    "text_encoder.call0.last_hidden_state",
    "encode_prompt.0",
    "encode_prompt.1",
    "encode_prompt.3",
];
/// A given frame.
const GIVEN: [&str; 2] = [
    "vae.encode0.out",
    "transformer.call0.in.hidden_states of the given frame",
];

#[test]
fn ltx_video_text_to_video() {
    check(
        "ltx_video",
        &[VIDEO.as_slice(), &["step3.latents", "vae.decode0.in"]].concat(),
    );
}

/// A decoder that is told the noise level.
#[test]
fn ltx_video_0_9_5_text_to_video() {
    check("ltx_video_095", &[VIDEO.as_slice(), &["vae.decode0.in"]].concat());
}

#[test]
fn ltx_video_image_to_video() {
    check("ltx_i2v", &[VIDEO.as_slice(), &GIVEN].concat());
}

/// An unseen configuration: other sizes, another rate, noise in the latents before the decoder.
#[test]
fn ltx_video_0_9_5_held_out() {
    check(
        "ltx_video_095_heldout",
        &[VIDEO.as_slice(), &["vae.decode0.in"]].concat(),
    );
}

/// An unseen configuration.
#[test]
fn ltx_video_image_to_video_held_out() {
    check("ltx_i2v_heldout", &[VIDEO.as_slice(), &GIVEN].concat());
}
