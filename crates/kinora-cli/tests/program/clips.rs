//! Drafts and clips.

use super::*;

#[test]
fn drafts_are_made_full_and_clips_need_a_model_that_makes_them() {
    let studio = Studio::new();
    // The models that ship make clips or not: what is asked of one that makes pictures is refused.
    let ran = studio.run(&["video", "the sun sets", "--model", "starter"]);
    assert_eq!(ran.code(), WRONG_INPUT, "{}", ran.errors());
    assert!(
        ran.errors().contains("makes pictures, not clips"),
        "{}",
        ran.errors()
    );
    let ran = studio.run(&["video"]);
    assert_eq!(ran.code(), WRONG_INPUT, "{}", ran.errors());
    let look = ["--size", "128x128", "--steps", "4", "-q"];
    let ran = studio.run(&[&["generate", "a red house"][..], &look].concat());
    assert_eq!(ran.code(), DONE, "{}", ran.errors());
    let assets = studio.ask(&["assets", "list"]);
    let id = assets["assets"][0]["id"].as_str().unwrap();
    let ran = studio.run(&["video", "--full", id]);
    assert_eq!(ran.code(), WRONG_INPUT, "{}", ran.errors());
    assert!(ran.errors().contains("is no draft"), "{}", ran.errors());
    let picture = format!("asset:{id}");
    let ran = studio.run(&[
        "video", "--image", &picture, "--model", "starter", "--draft",
    ]);
    assert_eq!(ran.code(), WRONG_INPUT, "{}", ran.errors());
    assert!(
        ran.errors().contains("makes no clips from pictures"),
        "{}",
        ran.errors()
    );
}

/// A catalogue entry for the tiny clip model of a recorded case.
fn add_tiny_video(studio: &Studio) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tools/goldens/cases/wan22_ti2v_5b_i2v_heldout/model");
    let model = model.canonicalize().unwrap();
    fs::create_dir_all(studio.folder().join("data")).unwrap();
    let entry = format!(
        r#"
[[model]]
id = "tiny-video"
name = "Tiny Video"
family = "wan"
variant = "2.2-ti2v-5b"
path = {model:?}
category = "video"
tags = ["video"]
description = "For tests."
size_gb = 0.01

[model.capabilities]
modes = ["image_to_video", "text_to_video"]
steps = {{ min = 1, max = 100, default = 10 }}
true_cfg = {{ min = 1.0, max = 20.0, default = 3.0 }}
cfg_always = true
copies = {{ min = 1, max = 8, default = 1 }}
prompt_chars = 2000
text_tokens = 512
samplers = ["unipc"]
schedules = ["automatic"]

[model.capabilities.video]
frames = {{ min = 1, max = 121, default = 17 }}
frame_step = 4
fps = {{ min = 1, max = 60, default = 4 }}

[model.capabilities.size]
min = 64
max = 512
multiple = 32
default = {{ width = 64, height = 64 }}
presets = []
"#
    );
    studio.write("data/models.toml", entry);
}

#[test]
fn a_clip_is_drafted_made_full_and_verified_frame_by_frame() {
    let studio = Studio::new();
    add_tiny_video(&studio);
    let model = ["--model", "tiny-video", "--seed", "7"];
    let drafted = studio.ask(&[&["video", "the sun sets", "--draft"][..], &model].concat());
    let draft = &drafted["assets"][0];
    assert_eq!(draft["clip"]["frames"], 9);
    assert_eq!(draft["recipe"]["plan"]["steps"], 8);
    let id = draft["id"].as_str().unwrap();
    let full = studio.ask(&["video", "--full", id]);
    let full = &full["assets"][0];
    assert_eq!(full["clip"]["frames"], 17);
    assert_eq!(full["recipe"]["plan"]["parent"], id);
    assert_eq!(full["recipe"]["plan"]["seed"], 7);

    let file = studio.output(full["path"].as_str().unwrap());
    let verification = studio.ask(&["verify", &file.display().to_string(), "--render"]);
    let frames = part(&verification, "frames");
    assert!(
        frames["expected"]
            .as_str()
            .unwrap()
            .starts_with("17 frames of 64×64 "),
        "{frames}"
    );
    assert_eq!(part(&verification, "bytes")["is_same"], true);

    // Two clips, wherever they were made: what differs between them is named.
    let file = file.display().to_string();
    let same = studio.ask(&["verify", &file, "--against", &file]);
    assert_eq!(same["is_same"], true, "{same:#}");
    let draft = studio.output(draft["path"].as_str().unwrap());
    let draft = draft.display().to_string();
    let ran = studio.run(&["verify", &file, "--against", &draft, "--json"]);
    assert_eq!(ran.code(), DIFFERS);
    let differs = ran.json();
    for (name, is_same) in [
        ("plan/steps", false),
        ("plan/video", false),
        ("plan/seed", true),
        ("weights/transformer", true),
        ("frames", false),
        ("bytes", false),
    ] {
        assert_eq!(part(&differs, name)["is_same"], is_same, "{name}");
    }

    // The sheet of a list shows a frame of each clip.
    let list = studio.write(
        "list.csv",
        "prompt,model,frames,steps,output\nthe sea,tiny-video,5,2,sea\n",
    );
    let answer = studio.ask(&["bulk", &list, "--contact-sheet"]);
    let sheet = fs::read(answer["contact_sheet"].as_str().unwrap()).unwrap();
    let sheet = kinora_media::decode(&sheet).unwrap();
    let colours: std::collections::HashSet<[u8; 3]> =
        sheet.rgb.as_chunks::<3>().0.iter().copied().collect();
    assert!(colours.len() > 300, "{} colours", colours.len());
}
