//! Every stage of the recorded cases, through the shipping pipeline, within its gate.

use std::path::{Path, PathBuf};

use kinora_diffusion::parity;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/goldens/cases")
}

fn check(case: &str, wanted: &[&str]) {
    let results = parity::run(&cases().join(case)).unwrap();
    let failed: Vec<_> = results.iter().filter(|result| !result.pass).collect();
    assert!(failed.is_empty(), "{case}: {failed:#?}");
    for stage in wanted {
        assert!(
            results.iter().any(|result| result.stage == *stage),
            "{case} was not compared at {stage}"
        );
    }
}

const EVERYWHERE: [&str; 13] = [
    "text_encoder.call0.in.input_ids",
    "text_encoder_2.call0.in.input_ids",
    "text_encoder.call0.pooler_output",
    "text_encoder_2.call0.last_hidden_state",
    "timesteps",
    "sigmas",
    "transformer.call0.out",
    "step0.latents",
    "step2.latents",
    "vae.decode0.in",
    "vae.decode0.out",
    "extra.vae_encode.out",
    "out.pixels_u8",
];

#[test]
fn flux_schnell_equals_the_reference() {
    check("flux_schnell", &EVERYWHERE);
}

#[test]
fn flux_dev_equals_the_reference() {
    check("flux_dev", &EVERYWHERE);
}

/// Other sizes, steps, depths and rotation axes, with a negative prompt and a second call.
#[test]
fn an_unseen_configuration_equals_the_reference() {
    check("flux_dev_heldout", &EVERYWHERE);
    check(
        "flux_dev_heldout",
        &[
            "transformer.call1.out",
            "step3.latents",
            "step3.latents (row 1 alone)",
        ],
    );
}

/// What every case of Stable Diffusion has.
const UNET: [&str; 6] = [
    "timesteps",
    "unet.call0.out",
    "step0.model_output",
    "vae.decode0.in",
    "vae.decode0.out",
    "out.pixels_u8",
];

#[test]
fn stable_diffusion_1_and_2_equal_the_reference() {
    for case in ["sd15", "sd21", "sd21_heldout", "sd2_turbo"] {
        check(case, &UNET);
        check(
            case,
            &["text_encoder.call0.last_hidden_state", "step1.latents"],
        );
    }
    check("sd15", &["step4.latents (row 1 alone)"]);
}

#[test]
fn stable_diffusion_xl_equals_the_reference() {
    for case in [
        "sdxl",
        "sdxl_heldout",
        "sdxl_turbo",
        "sdxl_lightning",
        "sdxl_vpred",
        "sdxl_vpred_heldout",
        "sdxl_base_part",
    ] {
        check(case, &UNET);
        let states = "text_encoder.call0.hidden_states.-2";
        let pooled = "text_encoder_2.call0.text_embeds";
        check(case, &[states, pooled, "step2.latents"]);
    }
    check("sdxl_heldout", &["step3.latents (row 1 alone)"]);
}

#[test]
fn pictures_to_start_from_equal_the_reference() {
    for case in ["sd15_img2img", "sdxl_img2img"] {
        check(case, &UNET);
        check(case, &["vae.encode0.out", "step2.latents"]);
    }
    for case in ["sdxl_refiner", "sdxl_refiner_heldout"] {
        check(case, &UNET);
        check(case, &["text_encoder_2.call0.text_embeds", "step1.latents"]);
    }
}

#[test]
fn inpainting_equals_the_reference() {
    for case in ["sd15_inpaint", "sdxl_inpaint"] {
        check(case, &UNET);
        check(case, &["vae.encode0.out", "step2.latents"]);
    }
    // What stays is put back after every step; the recorder sees latents before that.
    for case in ["sd15_inpaint_4", "sd15_inpaint_4_heldout"] {
        check(case, &UNET);
        check(case, &["vae.encode0.out", "vae.encode1.out"]);
    }
}

/// What the reference was called with and what it saw, of every mode; of each a case with other
/// sizes, depths, seeds and pictures of other sizes.
#[test]
fn a_picture_to_start_from_equals_the_reference() {
    for case in ["flux_img2img", "flux_img2img_heldout"] {
        check(
            case,
            &[&WITH_PICTURE[..], &["step2.latents", "vae.encode0.out"]].concat(),
        );
    }
}

#[test]
fn a_mask_to_paint_in_equals_the_reference() {
    for case in ["flux_inpaint", "flux_inpaint_heldout"] {
        let stages = [
            "transformer.call2.in.hidden_states",
            "vae.decode0.in (ours)",
        ];
        check(case, &[&WITH_PICTURE[..], &stages].concat());
    }
}

#[test]
fn kontext_equals_the_reference() {
    for case in ["flux_kontext", "flux_kontext_heldout"] {
        check(case, &[&WITH_PICTURE[..], &["step2.latents"]].concat());
    }
}

#[test]
fn fill_equals_the_reference() {
    for case in ["flux_fill", "flux_fill_heldout"] {
        check(
            case,
            &[&WITH_PICTURE[..], &["step2.latents", "vae.encode1.out"]].concat(),
        );
    }
}

#[test]
fn control_equals_the_reference() {
    for case in ["flux_control", "flux_control_heldout"] {
        check(
            case,
            &[&WITH_PICTURE[..], &["step2.latents", "vae.encode0.out"]].concat(),
        );
    }
}

#[test]
fn redux_equals_the_reference() {
    const LIKE: [&str; 7] = [
        "image_encoder.call0.in.pixel_values",
        "image_encoder.call0.last_hidden_state",
        "image_embedder.call0.image_embeds",
        "prior.prompt_embeds",
        "prior.pooled_prompt_embeds",
        "step2.latents",
        "out.pixels_u8",
    ];
    // Without words, as its authors show it.
    check("flux_redux", &[&WITH_PICTURE[1..], &LIKE].concat());
    // Pictures with weights, words and a negative prompt beside them.
    let words = ["transformer.call1.out", "encode_prompt1.0"];
    check(
        "flux_redux_heldout",
        &[&WITH_PICTURE[..], &LIKE, &words].concat(),
    );
}

const WITH_PICTURE: [&str; 8] = [
    "text_encoder_2.call0.last_hidden_state",
    "timesteps",
    "transformer.call0.in.hidden_states",
    "transformer.call0.out",
    "step0.model_output",
    "vae.decode0.out",
    "extra.vae_encode.out",
    "out.pixels_u8",
];

#[test]
fn a_folder_that_is_no_case_is_an_error() {
    let error = parity::run(&cases()).unwrap_err().to_string();
    assert!(error.contains("case.json"), "{error}");
}

#[test]
fn a_recorded_call_of_each_family_can_be_made_again_and_again() {
    for case in [
        "flux_schnell",
        "sd15",
        "sdxl_turbo",
        "wan22_t2v_a14b",
        "ltx_video",
        "ltx2",
    ] {
        let mut replay = parity::Replay::open(&cases().join(case)).unwrap();
        replay.run().unwrap();
        replay.run().unwrap();
    }
    let error = parity::Replay::open(&cases()).err().unwrap().to_string();
    assert!(error.contains("case.json"), "{error}");
}
