//! A clip from a picture, end to end: the program, the engine and the two built-in models.
//!
//! Needs the program `kinora-engine` beside `kinora`: `cargo test --workspace` builds both.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Runs the program below a data folder and expects that it ends well.
fn kinora(folder: &Path, arguments: &[&str]) {
    let ran = Command::new(env!("CARGO_BIN_EXE_kinora"))
        .args(arguments)
        .args(["--seed", "5", "--size", "128x128", "-q"])
        .current_dir(folder)
        .env("KINORA_DATA_DIR", folder.join("data"))
        .env_remove("KINORA_OUTPUTS_DIR")
        .env_remove("KINORA_MODELS_DIR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

/// Mean difference of two pictures of one size, in steps of 255.
fn difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: u64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / a.len() as f64
}

#[test]
fn a_picture_of_the_starter_is_set_in_motion() {
    let studio = tempfile::tempdir().unwrap();
    let outputs = studio.path().join("data/outputs");
    let prompt = "a city skyline in daylight, sun on the left";
    kinora(
        studio.path(),
        &["generate", prompt, "--steps", "4", "--output", "first"],
    );
    let first = outputs.join("first.png");
    let look = ["--model", "starter-video", "--frames", "9", "--steps", "3"];
    let from = ["--image", first.to_str().unwrap(), "--output", "clip"];
    kinora(
        studio.path(),
        &[&["generate", "the sun sets"], &look[..], &from].concat(),
    );

    let clip = outputs.join("clip.mp4");
    let probe = kinora_media::probe_clip(&clip).unwrap();
    assert_eq!((probe.width, probe.height), (128, 128));
    let recipe = kinora_media::read_clip_metadata(&clip).unwrap().unwrap();
    let plan = recipe.recipe.unwrap().plan;
    assert_eq!(plan.model.id.as_str(), "starter-video");
    assert_eq!(plan.video.unwrap().frames, 9);
    // It begins with the picture, as far as a tiny autoencoder can tell it.
    let picture = kinora_media::decode(&fs::read(&first).unwrap()).unwrap();
    let begin = kinora_media::frame_at(&clip, 0).unwrap();
    let seen = difference(&picture.rgb, &begin.rgb);
    assert!(seen < 24.0, "the first frame is {seen:.1} away from it");
    assert!(kinora_media::frame_at(&clip, 8).is_ok());
}
