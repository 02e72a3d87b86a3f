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

const EVERYWHERE: [&str; 8] = [
    "text_encoder.call0.in.input_ids",
    "step0.latents",
    "timesteps",
    "sigmas",
    "vae.decode0.out as 8 bits",
    "vae.decode0.out",
    "vae.decode0 streamed and whole",
    "extra.vae_encode.out",
];

/// T5, and both texts.
const VIDEO: [&str; 5] = [
    "transformer.call0.out",
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
    check(
        "ltx_video_095",
        &[VIDEO.as_slice(), &["vae.decode0.in"]].concat(),
    );
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

/// Gemma, connectors, both streams, the sound VAE and the vocoder.
const SOUND: [&str; 13] = [
    "text_encoder.call0.hidden_states.-1",
    "text_encoder.call1.in.input_ids",
    "encode_prompt.0",
    "encode_prompt.2",
    "connectors.call0.out.0",
    "connectors.call0.out.1",
    "transformer.call0.out.0",
    "transformer.call0.out.1",
    "sched1.step0.latents",
    "audio_vae.decode0.out",
    "extra.audio_vae_encode.out",
    "vocoder.call0.out",
    "out.audio",
];
/// Calls that guidance leads away from.
const WEAKER: [&str; 4] = [
    "transformer.call1.out.0",
    "transformer.call1.out.1",
    "transformer.call2.out.0",
    "transformer.call2.out.1",
];

#[test]
fn ltx_2_text_to_video_with_sound() {
    check(
        "ltx2",
        &[SOUND.as_slice(), &["sched1.step2.latents"]].concat(),
    );
}

/// Gated attention, a text that is told the time, guidance of three kinds, a vocoder of two stages.
#[test]
fn ltx_2_3_text_to_video_with_sound() {
    check("ltx23", &[SOUND.as_slice(), &WEAKER].concat());
}

#[test]
fn ltx_2_image_to_video_with_sound() {
    check("ltx2_i2v", &[SOUND.as_slice(), &GIVEN].concat());
}

/// An unseen configuration: 2.3 with a given frame, whose streams see each other by the step's time.
#[test]
fn ltx_2_3_image_to_video_held_out() {
    check(
        "ltx2_i2v_heldout",
        &[SOUND.as_slice(), &GIVEN, &WEAKER].concat(),
    );
}
