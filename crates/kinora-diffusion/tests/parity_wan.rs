//! Every stage of the recorded clips of Wan, through the shipping pipeline, within its gate.

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

const EVERYWHERE: [&str; 12] = [
    "text_encoder.call0.in.input_ids",
    "text_encoder.call0.last_hidden_state",
    "encode_prompt.0",
    "transformer.call0.out",
    "step0.model_output",
    "step0.latents",
    "timesteps",
    "sigmas",
    "vae.decode0.out as 8 bits",
    "vae.decode0.out",
    "vae.decode0 streamed and whole",
    "extra.vae_encode.out",
];

/// Given frames.
const GIVEN: [&str; 2] = ["vae.encode0.out", "transformer.call0.in.hidden_states"];
/// Pictures that CLIP sees.
const SEEN: [&str; 2] = [
    "image_encoder.call0.in.pixel_values",
    "image_encoder.call0.hidden_states.-2",
];

/// Two clips, two experts with guidance of their own.
#[test]
fn wan_2_2_text_to_video() {
    check(
        "wan22_t2v_a14b",
        &[
            "transformer.call1.out",
            "transformer_2.call0.out",
            "transformer_2.call1.out",
            "step3.latents",
        ],
    );
}

#[test]
fn wan_2_1_image_to_video() {
    check("wan21_i2v", &[GIVEN, SEEN].concat());
}

/// Pictures of other sizes than the clip's.
#[test]
fn wan_2_1_first_and_last_frame() {
    check("wan21_flf2v", &[GIVEN, SEEN].concat());
}

/// An unseen configuration: experts without guidance, a prompt that needs cleaning.
#[test]
fn wan_2_2_first_and_last_frame() {
    let experts = ["transformer_2.call0.out", "step5.latents"];
    check("wan22_flf2v_a14b_heldout", &[GIVEN, experts].concat());
}

/// An unseen configuration: a time for each token, the residual VAE.
#[test]
fn wan_2_2_text_and_image_to_video() {
    check(
        "wan22_ti2v_5b_i2v_heldout",
        &[
            GIVEN.as_slice(),
            &["transformer.call1.out", "step3.latents"],
        ]
        .concat(),
    );
}
