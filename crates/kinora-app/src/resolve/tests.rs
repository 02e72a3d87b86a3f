//! The table: a request on one side, the plan or the refusal on the other.

use kinora_core::{ImageFormat, Priority, Rng, Sampler, Schedule};
use serde_json::{Value, json};

use super::{fixtures::models, *};

const GIB: u64 = 1 << 30;

/// Wildcards of the tests.
struct Lists;

impl kinora_prompts::Source for Lists {
    fn read(&self, name: &str) -> Result<Option<String>, String> {
        Ok((name == "colors").then(|| "red\nblue\n".to_owned()))
    }

    fn names(&self) -> Vec<String> {
        vec!["colors".to_owned()]
    }
}

fn run(
    request: &Value,
    settings: &Settings,
    models: &[Candidate],
) -> Result<Resolved, Vec<Problem>> {
    let request: Request = serde_json::from_value(request.clone()).unwrap();
    let now: Zoned = "2026-03-04T05:06:07+00:00[UTC]".parse().unwrap();
    let memory_needed = |plan: &Plan| {
        if plan.model.id.as_str() == "huge" {
            100 * GIB
        } else {
            plan.size.pixels() * 1024
        }
    };
    resolve(
        &request,
        Place::default(),
        &Context {
            models,
            settings,
            now: &now,
            memory_available: Some(64 * GIB),
            memory_needed: &memory_needed,
            picture: &find_picture,
            lora: &find_lora,
            components: &find_components,
            random_seed: &|| 4_000_000_000,
            library: &kinora_prompts::Library::new(Lists),
        },
    )
}

/// A picture of 1200 × 800 pixels, and nothing else.
const HERE: &str = "input:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const GONE: &str = "input:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn find_picture(reference: &PictureRef) -> Result<PlannedPicture, Problem> {
    match reference {
        PictureRef::Input(digest) if reference.to_string() == HERE => Ok(PlannedPicture {
            sha256: digest.clone(),
            width: 1200,
            height: 800,
            asset: None,
            path: "/inputs/a".into(),
        }),
        _ => Err(Problem::new(
            Code::NotFound,
            "the picture is not here",
            "Drop it.",
        )),
    }
}

fn find_lora(_: &ModelId, name: &str) -> Result<PlannedLora, Problem> {
    match name {
        "ink" | "style" => Ok(PlannedLora {
            name: name.to_owned(),
            expert: None,
            weight: 1.0,
            bytes: 10,
            sha256: None,
            path: format!("/loras/{name}").into(),
        }),
        _ => Err(Problem::new(
            Code::NotFound,
            "there is no such LoRA",
            "Get it.",
        )),
    }
}

/// There is one other VAE, and it fits one model.
fn find_components(
    model: &ModelId,
    chosen: &std::collections::BTreeMap<String, String>,
) -> Result<PlannedModel, Problem> {
    let fits = model.as_str() == "fast" && chosen.len() == 1;
    let name = chosen.get("vae").filter(|name| fits && *name == "ae");
    let Some(name) = name else {
        let message = "choose a file: it is not there";
        return Err(Problem::in_field(
            "components.vae",
            message,
            "Choose another.",
        ));
    };
    let known = models().into_iter().find(|known| known.model.id == *model);
    Ok(PlannedModel {
        components: [("vae".to_owned(), name.clone())].into(),
        parts: [("vae".to_owned(), "/parts/ae.safetensors".into())].into(),
        ..known.and_then(|known| known.planned).unwrap()
    })
}

#[test]
fn a_chosen_part_becomes_part_of_the_plan_or_is_refused() {
    let ask = |vae: &str| {
        let request = json!({"prompt": "a cat", "model": "fast", "components": {"vae": vae}});
        run(&request, &Settings::default(), &models())
    };
    let resolved = ask("ae").unwrap();
    let model = &resolved.plans[0].model;
    assert_eq!(model.components["vae"], "ae");
    assert!(model.parts["vae"].ends_with("ae.safetensors"));
    // What leaves this machine names the choice and no path.
    let mut plan = resolved.plans[0].clone();
    plan.forget_machine();
    assert!(plan.model.parts.is_empty());
    assert_eq!(plan.model.components["vae"], "ae");
    let problems = ask("other").unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].field.as_deref(), Some("components.vae"));
    let many: serde_json::Map<_, _> = (0..9).map(|n| (format!("p{n}"), json!("x"))).collect();
    let request = json!({"prompt": "a cat", "model": "fast", "components": many});
    let problems = run(&request, &Settings::default(), &models()).unwrap_err();
    assert_eq!(problems[0].field.as_deref(), Some("components"));
}

/// The picture that is here, as plans name it.
fn here() -> Value {
    json!({"sha256": &HERE[6..], "width": 1200, "height": 800, "path": "/inputs/a"})
}

/// What a row of the table expects.
enum Expect {
    /// Accepted; these members of the first plan have these values; so many notes.
    Plan(Value, usize),
    /// Refused: code and field of each problem.
    Refused(&'static [(Code, &'static str)]),
}
use Expect::{Plan as Ok_, Refused as No};

const INVALID: Code = Code::InvalidInput;

#[expect(clippy::too_many_lines, reason = "a table")]
fn table() -> Vec<(Value, Expect)> {
    let long = "x".repeat(2000);
    let too_long = "x".repeat(2001);
    let wide = "é".repeat(2000);
    vec![
        // Prompts.
        (
            json!({"prompt": "a fox"}),
            Ok_(json!({"prompt": "a fox", "negative_prompt": ""}), 0),
        ),
        (
            json!({"prompt": " a fox\n"}),
            Ok_(json!({"prompt": " a fox\n"}), 0),
        ),
        (json!({"prompt": "x"}), Ok_(json!({"prompt": "x"}), 0)),
        (json!({"prompt": long}), Ok_(json!({"prompt": long}), 0)),
        (json!({"prompt": wide}), Ok_(json!({"prompt": wide}), 0)),
        (
            json!({"prompt": "日本語"}),
            Ok_(json!({"prompt": "日本語"}), 0),
        ),
        (json!({}), No(&[(INVALID, "prompt")])),
        (json!({"prompt": ""}), No(&[(INVALID, "prompt")])),
        (json!({"prompt": " \n\t "}), No(&[(INVALID, "prompt")])),
        (json!({"prompt": too_long}), No(&[(INVALID, "prompt")])),
        (json!({"prompt": "a\u{0}b"}), No(&[(INVALID, "prompt")])),
        (
            json!({"prompt": "eleven chars", "model": "odd"}),
            No(&[(INVALID, "prompt")]),
        ),
        (
            json!({"prompt": "ten chars!", "model": "odd"}),
            Ok_(json!({"size": {"width": 640, "height": 640}}), 0),
        ),
        // Choices. Seed 4,000,000,000 draws the same in every version.
        (
            json!({"prompt": "a {word} and {\"json\": [1]}"}),
            Ok_(json!({"prompt": "a {word} and {\"json\": [1]}"}), 0),
        ),
        (
            json!({"prompt": "{a|b", "negative_prompt": "<wildcard:none>", "model": "full"}),
            No(&[(INVALID, "prompt"), (INVALID, "negative_prompt")]),
        ),
        (
            json!({"prompt": "{a|b", "expansion": "off"}),
            Ok_(
                json!({"prompt": "{a|b", "template": {"prompt": "{a|b", "negative_prompt": "", "expansion": "off"}}),
                0,
            ),
        ),
        (
            json!({"prompt": "<comment:{a|b}>x"}),
            Ok_(
                json!({"prompt": "x", "template": {"prompt": "<comment:{a|b}>x", "negative_prompt": "", "expansion": "random"}}),
                0,
            ),
        ),
        (json!({"prompt": "<comment:x>"}), No(&[(INVALID, "prompt")])),
        (
            json!({"prompt": "{a long option|another}", "model": "odd"}),
            No(&[(INVALID, "prompt")]),
        ),
        (
            json!({"prompt": "{ab|cd}<comment:long>", "model": "odd", "expansion": "off"}),
            No(&[(INVALID, "prompt")]),
        ),
        (
            json!({"prompt": "{a|b}".repeat(10), "expansion": "combinations"}),
            No(&[(INVALID, "prompt")]),
        ),
        (
            json!({"prompt": "{a|b|c} {a|b} <wildcard:colors>", "expansion": "combinations", "copies": 64}),
            Ok_(json!({"prompt": "a a red"}), 0),
        ),
        (
            json!({"prompt": "a (red:1.2) [fox|hen]"}),
            Ok_(json!({"prompt": "a (red:1.2) [fox|hen]"}), 2),
        ),
        (
            json!({"prompt": "a (red) [fox]"}),
            Ok_(json!({"prompt": "a (red) [fox]"}), 0),
        ),
        // Pictures.
        (
            json!({"prompt": "x", "model": "painter", "image": HERE}),
            Ok_(
                json!({"mode": "image_to_image", "size": {"width": 1088, "height": 720},
                       "source": {"image": {"sha256": &HERE[6..], "width": 1200, "height": 800,
                                            "path": "/inputs/a"}, "strength": 0.75}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "model": "painter", "image": HERE, "mask": HERE, "strength": 1,
                   "width": 512, "height": 512}),
            Ok_(
                json!({"mode": "inpaint", "size": {"width": 512, "height": 512}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "model": "editor", "image": HERE, "strength": 0.5}),
            Ok_(json!({"mode": "edit"}), 1),
        ),
        (
            json!({"prompt": "x", "model": "painter", "image": GONE}),
            No(&[(Code::NotFound, "image")]),
        ),
        (
            json!({"prompt": "x", "model": "painter", "mask": HERE}),
            No(&[(INVALID, "mask")]),
        ),
        (
            json!({"prompt": "x", "model": "painter", "image": HERE, "strength": 0}),
            No(&[(INVALID, "strength")]),
        ),
        (
            json!({"prompt": "x", "model": "fast", "image": HERE}),
            No(&[(INVALID, "image")]),
        ),
        (
            json!({"prompt": "x", "model": "editor", "image": HERE, "mask": HERE}),
            No(&[(INVALID, "mask")]),
        ),
        (
            json!({"prompt": "x", "model": "editor"}),
            No(&[(INVALID, "image")]),
        ),
        // Variations: pictures say enough, and each counts as much as it is told.
        (
            json!({"model": "varier", "image": HERE}),
            Ok_(
                json!({"mode": "variation", "prompt": "",
                       "source": {"image": here(), "strength": 1.0}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "model": "varier", "image": HERE, "strength": 0.5,
                   "more_images": [{"image": HERE}, {"image": HERE, "strength": 0.25}]}),
            Ok_(
                json!({"prompt": "x", "source": {
                    "image": here(),
                    "strength": 0.5,
                    "more_images": [{"image": here(), "strength": 0.5},
                                    {"image": here(), "strength": 0.25}]}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "model": "varier"}),
            No(&[(INVALID, "image")]),
        ),
        (
            json!({"prompt": "x", "model": "varier", "more_images": [{"image": HERE}]}),
            No(&[(INVALID, "image")]),
        ),
        (
            json!({"model": "varier", "image": HERE, "more_images": [{"image": GONE}]}),
            No(&[(Code::NotFound, "more_images[0].image")]),
        ),
        (
            json!({"model": "varier", "image": HERE, "more_images": [{"image": HERE, "strength": 3}]}),
            No(&[(INVALID, "more_images[0].strength")]),
        ),
        (
            json!({"model": "varier", "image": HERE, "more_images":
                   [{"image": HERE}, {"image": HERE}, {"image": HERE}]}),
            No(&[(INVALID, "more_images")]),
        ),
        (
            json!({"prompt": "x", "model": "painter", "image": HERE, "more_images": [{"image": HERE}]}),
            No(&[(INVALID, "more_images")]),
        ),
        // LoRA files.
        (
            json!({"prompt": "x", "model": "painter", "loras": [{"name": "ink", "weight": -0.5},
                                                               {"name": "style"}]}),
            Ok_(
                json!({"loras": [
                    {"name": "ink", "weight": -0.5, "bytes": 10, "sha256": null, "path": "/loras/ink"},
                    {"name": "style", "weight": 1.0, "bytes": 10, "sha256": null, "path": "/loras/style"}]}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "model": "painter", "loras": [{"name": "ink"}, {"name": "ink"}]}),
            No(&[(INVALID, "loras[1]")]),
        ),
        (
            json!({"prompt": "x", "model": "painter", "loras": [{"name": "ink", "expert": "high"}]}),
            No(&[(INVALID, "loras[0].expert")]),
        ),
        (
            json!({"prompt": "x", "model": "mover", "image": HERE, "loras": [{"name": "ink", "expert": "high"},
                {"name": "ink", "weight": 0.5, "expert": "low"}, {"name": "style"}]}),
            Ok_(
                json!({"loras": [
                {"name": "ink", "weight": 1.0, "expert": "high", "bytes": 10, "sha256": null, "path": "/loras/ink"},
                {"name": "ink", "weight": 0.5, "expert": "low", "bytes": 10, "sha256": null, "path": "/loras/ink"},
                {"name": "style", "weight": 1.0, "bytes": 10, "sha256": null, "path": "/loras/style"}]}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "model": "mover", "image": HERE, "loras": [{"name": "ink", "expert": "high"},
                {"name": "ink"}]}),
            No(&[(INVALID, "loras[1]")]),
        ),
        (
            json!({"prompt": "x", "model": "painter", "loras": [{"name": "oil"},
                                                               {"name": "ink", "weight": 9}]}),
            No(&[(Code::NotFound, "loras[0]"), (INVALID, "loras[1]")]),
        ),
        (
            json!({"prompt": "x", "model": "fast", "loras": [{"name": "ink"}]}),
            No(&[(INVALID, "loras")]),
        ),
        // Clips.
        (
            json!({"prompt": "x", "model": "mover", "image": HERE}),
            Ok_(
                json!({"mode": "image_to_video", "true_cfg": 3.5,
                       "video": {"frames": 81, "fps": 16}}),
                0,
            ),
        ),
        // A picture says enough for a clip, and for nothing else.
        (
            json!({"prompt": "", "model": "mover", "image": HERE}),
            Ok_(json!({"prompt": "", "mode": "image_to_video"}), 0),
        ),
        (
            json!({"prompt": "", "model": "painter", "image": HERE}),
            No(&[(INVALID, "prompt")]),
        ),
        // The kind of result chooses the model.
        (
            json!({"prompt": "x", "kind": "video", "image": HERE}),
            Ok_(json!({"mode": "image_to_video"}), 0),
        ),
        (
            json!({"prompt": "x", "kind": "image", "image": HERE}),
            Ok_(json!({"mode": "image_to_image"}), 0),
        ),
        (
            json!({"prompt": "x", "kind": "video"}),
            Ok_(json!({"mode": "text_to_video"}), 0),
        ),
        (
            json!({"prompt": "x", "kind": "video", "model": "fast"}),
            No(&[(INVALID, "model")]),
        ),
        (
            json!({"prompt": "x", "kind": "video", "model": "painter", "image": HERE}),
            No(&[(INVALID, "image")]),
        ),
        (
            json!({"prompt": "x", "kind": "image", "model": "mover", "image": HERE}),
            No(&[(INVALID, "image")]),
        ),
        (
            json!({"prompt": "x", "kind": "video", "model": "mover", "image": HERE, "mask": HERE}),
            No(&[(INVALID, "mask")]),
        ),
        (
            json!({"prompt": "x", "model": "mover", "image": HERE, "video": {"boundary": 0.875}}),
            Ok_(
                json!({"video": {"frames": 81, "fps": 16, "boundary": 0.875}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "model": "mover", "image": HERE,
                   "video": {"boundary": 1.5, "low_share": 0.5}}),
            No(&[(INVALID, "video.boundary"), (INVALID, "video.boundary")]),
        ),
        // Steps that reuse an earlier one: 0 is as good as nothing, for models without that too.
        (
            json!({"prompt": "x", "model": "full", "step_cache": 0.125}),
            Ok_(json!({"step_cache": 0.125}), 0),
        ),
        (
            json!({"prompt": "x", "model": "full", "step_cache": 0.0}),
            Ok_(json!({}), 0),
        ),
        (
            json!({"prompt": "x", "model": "fast", "step_cache": 0}),
            Ok_(json!({}), 0),
        ),
        (
            json!({"prompt": "x", "model": "fast", "step_cache": 0.1}),
            No(&[(INVALID, "step_cache")]),
        ),
        (
            json!({"prompt": "x", "model": "full", "step_cache": 0.6}),
            No(&[(INVALID, "step_cache")]),
        ),
        // Windows: longer clips than the network sees, by its rule.
        (
            json!({"prompt": "x", "model": "mover", "image": HERE,
                   "video": {"frames": 161, "context_frames": 81, "context_overlap": 16}}),
            Ok_(
                json!({"video": {"frames": 161, "fps": 16, "context_frames": 81,
                                 "context_overlap": 16, "context_windows": 3}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "model": "mover", "image": HERE,
                   "video": {"frames": 161, "context_frames": 80}}),
            Ok_(
                json!({"video": {"frames": 161, "fps": 16, "context_frames": 81,
                                 "context_overlap": 32, "context_windows": 3}}),
                1,
            ),
        ),
        // One window is enough, and an overlap of 18 is none that the model has.
        (
            json!({"prompt": "x", "model": "mover", "image": HERE,
                   "video": {"frames": 49, "context_frames": 49, "context_overlap": 18}}),
            Ok_(
                json!({"video": {"frames": 49, "fps": 16, "context_frames": 49,
                                 "context_overlap": 20, "context_windows": 1}}),
                2,
            ),
        ),
        // A draft keeps them for the clip in full.
        (
            json!({"prompt": "x", "model": "mover", "image": HERE, "steps": 40, "draft": true,
                   "video": {"frames": 161, "context_frames": 81}}),
            Ok_(
                json!({"size": {"width": 544, "height": 368}, "steps": 10,
                       "video": {"frames": 33, "fps": 16, "context_frames": 81,
                                 "context_overlap": 32, "context_windows": 1},
                       "draft": {"size": {"width": 1088, "height": 720}, "steps": 40,
                                 "frames": 161}}),
                1,
            ),
        ),
        (
            json!({"prompt": "x", "model": "mover", "image": HERE,
                   "video": {"frames": 161, "context_overlap": 16}}),
            No(&[
                (INVALID, "video.frames"),
                (INVALID, "video.context_overlap"),
            ]),
        ),
        (
            json!({"prompt": "x", "model": "mover", "image": HERE,
                   "video": {"frames": 1029, "context_frames": 5, "context_overlap": 90}}),
            No(&[
                (INVALID, "video.frames"),
                (INVALID, "video.context_frames"),
                (INVALID, "video.context_overlap"),
            ]),
        ),
        (
            json!({"prompt": "x", "model": "talker", "video": {"context_frames": 81}}),
            No(&[(INVALID, "video.context_frames")]),
        ),
        // What moves keeps nothing.
        (
            json!({"prompt": "x", "model": "mover", "image": HERE, "step_cache": 0.125,
                   "video": {"frames": 161, "context_frames": 81}}),
            No(&[(INVALID, "step_cache")]),
        ),
        // Tiles, where the model's VAE takes them.
        (
            json!({"prompt": "x", "model": "mover", "image": HERE, "video": {"vae_tiling": true}}),
            Ok_(
                json!({"video": {"frames": 81, "fps": 16, "vae_tiling": true}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "model": "talker", "video": {"vae_tiling": true}}),
            No(&[(INVALID, "video.vae_tiling")]),
        ),
        // Drafts.
        (
            json!({"prompt": "x", "model": "mover", "image": HERE, "steps": 40, "draft": true}),
            Ok_(
                json!({"size": {"width": 544, "height": 368}, "steps": 10, "video": {"frames": 33, "fps": 16},
                       "draft": {"size": {"width": 1088, "height": 720}, "steps": 40, "frames": 81}}),
                1,
            ),
        ),
        (
            json!({"prompt": "x", "width": 300, "height": 300, "draft": true}),
            Ok_(json!({"size": {"width": 304, "height": 304}}), 3),
        ),
        (
            json!({"prompt": "x", "model": "mover", "image": HERE, "format": "gif",
                   "video": {"seconds": 2, "fps": 12, "end_image": HERE, "low_share": 0.5,
                             "cfg_2": 1}}),
            Ok_(
                json!({"video": {"frames": 25, "fps": 12, "cfg_2": 1.0, "low_share": 0.5}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "model": "mover", "image": HERE, "video": {"frames": 80}}),
            Ok_(json!({"video": {"frames": 81, "fps": 16}}), 1),
        ),
        (
            json!({"prompt": "x", "model": "mover", "image": HERE, "format": "png",
                   "video": {"frames": 999, "shift": 3}}),
            No(&[
                (INVALID, "format"),
                (INVALID, "video.frames"),
                (INVALID, "video.shift"),
            ]),
        ),
        (
            json!({"prompt": "x", "model": "mover", "image": HERE,
                   "video": {"frames": 81, "seconds": 3, "fps": 0, "low_share": 2}}),
            No(&[
                (INVALID, "video.fps"),
                (INVALID, "video.seconds"),
                (INVALID, "video.low_share"),
            ]),
        ),
        (
            json!({"prompt": "x", "model": "mover"}),
            No(&[(INVALID, "image")]),
        ),
        // Sound: where there is any, unless the file cannot hold it or it is not wanted.
        (
            json!({"prompt": "x", "model": "talker"}),
            Ok_(
                json!({"mode": "text_to_video",
                       "video": {"frames": 121, "fps": 24, "sound": true}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "model": "talker", "image": HERE,
                   "video": {"frames": 26, "sound": false}}),
            Ok_(
                json!({"mode": "image_to_video",
                       "video": {"frames": 25, "fps": 24, "sound": false}}),
                1,
            ),
        ),
        (
            json!({"prompt": "x", "model": "talker", "format": "gif"}),
            Ok_(
                json!({"video": {"frames": 121, "fps": 24, "sound": false}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "model": "talker", "format": "frames",
                   "video": {"sound": true}}),
            Ok_(
                json!({"video": {"frames": 121, "fps": 24, "sound": false}}),
                1,
            ),
        ),
        (
            json!({"prompt": "x", "model": "mover", "image": HERE, "video": {"sound": false}}),
            Ok_(json!({"video": {"frames": 81, "fps": 16}}), 0),
        ),
        (
            json!({"prompt": "x", "model": "mover", "image": HERE, "video": {"sound": true}}),
            No(&[(INVALID, "video.sound")]),
        ),
        (
            json!({"prompt": "x", "format": "mp4", "video": {"frames": 9}}),
            No(&[(INVALID, "format"), (INVALID, "video")]),
        ),
        // Models.
        (
            json!({"prompt": "x"}),
            Ok_(
                json!({"model": {"id": "fast", "name": "FAST", "family": "flux", "variant": "schnell", "root": "/models", "weights": []}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "model": "full"}),
            Ok_(json!({"steps": 28, "guidance": 3.5, "true_cfg": null}), 0),
        ),
        (
            json!({"prompt": "x", "model": "fst"}),
            No(&[(Code::UnknownModel, "model")]),
        ),
        (
            json!({"prompt": "x", "model": ""}),
            No(&[(Code::UnknownModel, "model")]),
        ),
        (
            json!({"prompt": "x", "model": "../fast"}),
            No(&[(Code::UnknownModel, "model")]),
        ),
        (
            json!({"prompt": "x", "model": "FAST"}),
            No(&[(Code::UnknownModel, "model")]),
        ),
        (
            json!({"prompt": "x", "model": "gone"}),
            No(&[(Code::ModelNotInstalled, "model")]),
        ),
        (
            json!({"prompt": "x", "model": "broken"}),
            No(&[(Code::BadWeights, "model")]),
        ),
        (
            json!({"prompt": "x", "model": "huge"}),
            No(&[(Code::OutOfMemory, "model")]),
        ),
        (
            json!({"prompt": "x", "model": "mute"}),
            No(&[(INVALID, "model")]),
        ),
        (
            json!({"prompt": "", "model": "nope"}),
            No(&[(Code::UnknownModel, "model"), (INVALID, "prompt")]),
        ),
        // Sizes.
        (
            json!({"prompt": "x"}),
            Ok_(json!({"size": {"width": 1024, "height": 768}}), 0),
        ),
        (
            json!({"prompt": "x", "width": 512}),
            Ok_(json!({"size": {"width": 512, "height": 768}}), 0),
        ),
        (
            json!({"prompt": "x", "height": 512}),
            Ok_(json!({"size": {"width": 1024, "height": 512}}), 0),
        ),
        (
            json!({"prompt": "x", "width": 256, "height": 2048}),
            Ok_(json!({"size": {"width": 256, "height": 2048}}), 0),
        ),
        (
            json!({"prompt": "x", "width": 1000}),
            Ok_(json!({"size": {"width": 1008, "height": 768}}), 1),
        ),
        (
            json!({"prompt": "x", "width": 999}),
            Ok_(json!({"size": {"width": 992, "height": 768}}), 1),
        ),
        (
            json!({"prompt": "x", "width": 257, "height": 2047}),
            Ok_(json!({"size": {"width": 256, "height": 2048}}), 2),
        ),
        (
            json!({"prompt": "x", "width": 255}),
            No(&[(INVALID, "width")]),
        ),
        (
            json!({"prompt": "x", "width": 2049}),
            No(&[(INVALID, "width")]),
        ),
        (
            json!({"prompt": "x", "height": 0}),
            No(&[(INVALID, "height")]),
        ),
        (
            json!({"prompt": "x", "height": 4294967295u32}),
            No(&[(INVALID, "height")]),
        ),
        (
            json!({"prompt": "x", "width": 1, "height": 1}),
            No(&[(INVALID, "width"), (INVALID, "height")]),
        ),
        (
            json!({"prompt": "x", "model": "odd", "width": 300}),
            Ok_(json!({"size": {"width": 320, "height": 640}}), 1),
        ),
        (
            json!({"prompt": "x", "model": "odd", "width": 1000}),
            Ok_(json!({"size": {"width": 960, "height": 640}}), 1),
        ),
        (
            json!({"prompt": "x", "model": "odd", "width": 299}),
            No(&[(INVALID, "width")]),
        ),
        (
            json!({"prompt": "x", "model": "odd", "width": 352}),
            Ok_(json!({"size": {"width": 384, "height": 640}}), 1),
        ),
        // Steps.
        (json!({"prompt": "x"}), Ok_(json!({"steps": 4}), 0)),
        (
            json!({"prompt": "x", "steps": 1}),
            Ok_(json!({"steps": 1}), 0),
        ),
        (
            json!({"prompt": "x", "steps": 50}),
            Ok_(json!({"steps": 50}), 0),
        ),
        (
            json!({"prompt": "x", "steps": 0}),
            No(&[(INVALID, "steps")]),
        ),
        (
            json!({"prompt": "x", "steps": 51}),
            No(&[(INVALID, "steps")]),
        ),
        (
            json!({"prompt": "x", "steps": 4000000000u32}),
            No(&[(INVALID, "steps")]),
        ),
        // Guidance.
        (json!({"prompt": "x"}), Ok_(json!({"guidance": null}), 0)),
        (
            json!({"prompt": "x", "guidance": 3.5}),
            No(&[(INVALID, "guidance")]),
        ),
        (
            json!({"prompt": "x", "model": "full", "guidance": 0}),
            Ok_(json!({"guidance": 0.0}), 0),
        ),
        (
            json!({"prompt": "x", "model": "full", "guidance": 20}),
            Ok_(json!({"guidance": 20.0}), 0),
        ),
        (
            json!({"prompt": "x", "model": "full", "guidance": 7.25}),
            Ok_(json!({"guidance": 7.25}), 0),
        ),
        (
            json!({"prompt": "x", "model": "full", "guidance": 20.5}),
            No(&[(INVALID, "guidance")]),
        ),
        (
            json!({"prompt": "x", "model": "full", "guidance": -0.5}),
            No(&[(INVALID, "guidance")]),
        ),
        // Negative prompts and their scale.
        (
            json!({"prompt": "x", "negative_prompt": "y"}),
            No(&[(INVALID, "negative_prompt")]),
        ),
        (
            json!({"prompt": "x", "negative_prompt": "  "}),
            Ok_(json!({"true_cfg": null}), 0),
        ),
        (
            json!({"prompt": "x", "true_cfg": 2}),
            No(&[(INVALID, "true_cfg")]),
        ),
        (
            json!({"prompt": "x", "negative_prompt": "y", "true_cfg": 2}),
            No(&[(INVALID, "negative_prompt"), (INVALID, "true_cfg")]),
        ),
        (
            json!({"prompt": "x", "model": "full", "negative_prompt": "y"}),
            Ok_(json!({"negative_prompt": "y", "true_cfg": 4.0}), 0),
        ),
        (
            json!({"prompt": "x", "model": "full", "negative_prompt": "y", "true_cfg": 2.5}),
            Ok_(json!({"true_cfg": 2.5}), 0),
        ),
        (
            json!({"prompt": "x", "model": "full", "negative_prompt": "y", "true_cfg": 1}),
            Ok_(json!({"true_cfg": null}), 1),
        ),
        (
            json!({"prompt": "x", "model": "full", "true_cfg": 3}),
            Ok_(json!({"negative_prompt": "", "true_cfg": 3.0}), 0),
        ),
        (
            json!({"prompt": "x", "model": "full", "true_cfg": 1}),
            Ok_(json!({"true_cfg": null}), 0),
        ),
        (
            json!({"prompt": "x", "model": "full", "true_cfg": 0.5}),
            No(&[(INVALID, "true_cfg")]),
        ),
        (
            json!({"prompt": "x", "model": "full", "true_cfg": 11}),
            No(&[(INVALID, "true_cfg")]),
        ),
        (
            json!({"prompt": "x", "model": "full", "negative_prompt": too_long}),
            No(&[(INVALID, "negative_prompt")]),
        ),
        // Copies and seeds.
        (
            json!({"prompt": "x"}),
            Ok_(json!({"seed": 4_000_000_000u64}), 0),
        ),
        (
            json!({"prompt": "x", "seed": 0}),
            Ok_(json!({"seed": 0}), 0),
        ),
        (
            json!({"prompt": "x", "seed": "18446744073709551615"}),
            Ok_(json!({"seed": "18446744073709551615"}), 0),
        ),
        (
            json!({"prompt": "x", "seed": 9007199254740993u64}),
            Ok_(json!({"seed": "9007199254740993"}), 0),
        ),
        (
            json!({"prompt": "x", "copies": 64}),
            Ok_(json!({"seed": 4_000_000_000u64}), 0),
        ),
        (
            json!({"prompt": "x", "copies": 0}),
            No(&[(INVALID, "copies")]),
        ),
        (
            json!({"prompt": "x", "copies": 65}),
            No(&[(INVALID, "copies")]),
        ),
        (
            json!({"prompt": "x", "copies": 2, "model": "odd"}),
            No(&[(INVALID, "copies")]),
        ),
        (
            json!({"prompt": "x", "rng": "cuda"}),
            Ok_(json!({"rng": "cuda"}), 0),
        ),
        (
            json!({"prompt": "x"}),
            Ok_(json!({"rng": "cpu", "text_tokens": 256}), 0),
        ),
        // Samplers and schedules.
        (
            json!({"prompt": "x", "sampler": "euler", "schedule": "flow_match"}),
            Ok_(json!({"sampler": "euler", "schedule": "flow_match"}), 0),
        ),
        (
            json!({"prompt": "x"}),
            Ok_(json!({"sampler": "euler", "schedule": "flow_match"}), 0),
        ),
        // Names and formats.
        (
            json!({"prompt": "x", "seed": 5}),
            Ok_(
                json!({"output": {"stem": "2026-03-04/x-5", "format": "png"}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "seed": 5, "output_name": "{seed(4)}"}),
            Ok_(json!({"output": {"stem": "0005", "format": "png"}}), 0),
        ),
        (
            json!({"prompt": "x", "seed": 5, "output_name": " "}),
            Ok_(
                json!({"output": {"stem": "2026-03-04/x-5", "format": "png"}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "format": "webp", "output_name": "a"}),
            Ok_(json!({"output": {"stem": "a", "format": "webp"}}), 0),
        ),
        (
            json!({"prompt": "x", "format": "jpeg", "output_name": "a"}),
            Ok_(json!({"output": {"stem": "a", "format": "jpeg"}}), 0),
        ),
        (
            json!({"prompt": "x", "output_name": "../../etc/x"}),
            Ok_(json!({"output": {"stem": "etc/x", "format": "png"}}), 0),
        ),
        (
            json!({"prompt": "x", "output_name": "/etc/x"}),
            Ok_(json!({"output": {"stem": "etc/x", "format": "png"}}), 0),
        ),
        (
            json!({"prompt": "../../x", "output_name": "{prompt}"}),
            Ok_(json!({"output": {"stem": "x", "format": "png"}}), 0),
        ),
        (
            json!({"prompt": "x", "output_name": "con"}),
            Ok_(json!({"output": {"stem": "_con", "format": "png"}}), 0),
        ),
        (
            json!({"prompt": "x", "output_name": "{{x}}"}),
            Ok_(json!({"output": {"stem": "{x}", "format": "png"}}), 0),
        ),
        (
            json!({"prompt": "x", "output_name": "{width}x{height}-{steps}-{model}-{copy}-{line}"}),
            Ok_(
                json!({"output": {"stem": "1024x768-4-fast-1-0", "format": "png"}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "output_name": "{sed}"}),
            No(&[(INVALID, "output_name")]),
        ),
        (
            json!({"prompt": "x", "output_name": "{seed"}),
            No(&[(INVALID, "output_name")]),
        ),
        (
            json!({"prompt": "x", "output_name": "{date(%Q)}"}),
            No(&[(INVALID, "output_name")]),
        ),
        (
            json!({"prompt": "x", "width": 264}),
            Ok_(json!({"size": {"width": 272, "height": 768}}), 1),
        ),
        (
            json!({"prompt": "x", "height": 263}),
            Ok_(json!({"size": {"width": 1024, "height": 256}}), 1),
        ),
        (
            json!({"prompt": "x", "model": "full", "steps": 50}),
            Ok_(json!({"steps": 50}), 0),
        ),
        (
            json!({"prompt": "x", "model": "full", "width": 2048, "height": 2048}),
            Ok_(json!({"size": {"width": 2048, "height": 2048}}), 0),
        ),
        (
            json!({"prompt": "x", "model": "odd", "steps": 7}),
            Ok_(json!({"steps": 7}), 0),
        ),
        (
            json!({"prompt": "x", "seed": 5, "output_name": "{prompt}.{seed}."}),
            Ok_(json!({"output": {"stem": "x.5", "format": "png"}}), 0),
        ),
        (
            json!({"prompt": "x", "seed": 5, "output_name": "a//b/./../c"}),
            Ok_(json!({"output": {"stem": "a/b/c", "format": "png"}}), 0),
        ),
        (
            json!({"prompt": "x", "output_name": "{time}-{date(YYYY)}"}),
            Ok_(
                json!({"output": {"stem": "05-06-07-2026", "format": "png"}}),
                0,
            ),
        ),
        (
            json!({"prompt": "x", "output_name": "{prompt(0)}"}),
            No(&[(INVALID, "output_name")]),
        ),
        (
            json!({"prompt": "x", "output_name": "}"}),
            No(&[(INVALID, "output_name")]),
        ),
        // What does not change the plan.
        (
            json!({"prompt": "x", "priority": "urgent"}),
            Ok_(json!({"prompt": "x"}), 0),
        ),
        (
            json!({"prompt": "x", "session": "00000000-0000-0000-0000-000000000001"}),
            Ok_(json!({"prompt": "x"}), 0),
        ),
        // Everything that is wrong is named at once.
        (
            json!({"prompt": "", "width": 1, "height": 9999, "steps": 0, "guidance": 1, "copies": 0,
                   "negative_prompt": "y", "true_cfg": 2, "output_name": "{"}),
            No(&[
                (INVALID, "prompt"),
                (INVALID, "negative_prompt"),
                (INVALID, "true_cfg"),
                (INVALID, "width"),
                (INVALID, "height"),
                (INVALID, "steps"),
                (INVALID, "guidance"),
                (INVALID, "copies"),
                (INVALID, "output_name"),
            ]),
        ),
        (
            json!({"prompt": "x", "model": "full", "guidance": 99, "true_cfg": 99}),
            No(&[(INVALID, "true_cfg"), (INVALID, "guidance")]),
        ),
        (
            json!({"prompt": "x", "model": "huge", "steps": 0}),
            No(&[(INVALID, "steps")]),
        ),
        (json!({"version": 1}), No(&[])),
    ]
}

#[test]
fn a_hundred_requests_become_plans_or_refusals() {
    let settings = Settings::default();
    let models = models();
    let table = table();
    let mut rows = 0;
    for (request, expect) in &table {
        if request.get("version").is_some() {
            // Unknown members are refused before resolve, by the request's type.
            assert!(serde_json::from_value::<Request>(request.clone()).is_err());
            rows += 1;
            continue;
        }
        match (run(request, &settings, &models), expect) {
            (Ok(resolved), Ok_(members, notes)) => {
                let plan = serde_json::to_value(&resolved.plans[0]).unwrap();
                for (name, value) in members.as_object().unwrap() {
                    assert_eq!(plan[name], *value, "{name} of {request}");
                }
                assert_eq!(
                    resolved.notes.len(),
                    *notes,
                    "{request}: {:?}",
                    resolved.notes
                );
                assert_eq!(plan["version"], PLAN_VERSION);
                assert_eq!(plan["numerics"], NUMERICS);
            }
            (Err(problems), No(expected)) => {
                let found: Vec<(Code, &str)> = problems
                    .iter()
                    .map(|problem| (problem.code, problem.field.as_deref().unwrap_or_default()))
                    .collect();
                assert_eq!(found, *expected, "{request}");
                for problem in &problems {
                    assert!(
                        !problem.message.is_empty() && !problem.hint.is_empty(),
                        "{problem:?}"
                    );
                }
            }
            (Ok(_), No(_)) => panic!("accepted: {request}"),
            (Err(problems), Ok_(..)) => panic!("refused: {request}: {problems:?}"),
        }
        rows += 1;
    }
    assert!(rows >= 100, "only {rows} rows");
}

#[test]
fn copies_count_their_seeds_and_names_upwards() {
    let request = json!({"prompt": "x", "copies": 3, "seed": "18446744073709551614", "output_name": "{copy}"});
    let plans = run(&request, &Settings::default(), &models())
        .unwrap()
        .plans;
    let seeds: Vec<u64> = plans.iter().map(|plan| plan.seed.0).collect();
    assert_eq!(seeds, [u64::MAX - 1, u64::MAX, 0]);
    let stems: Vec<&str> = plans.iter().map(|plan| plan.output.stem.as_str()).collect();
    assert_eq!(stems, ["1", "2", "3"]);
    assert!(plans[0].is_batchable_with(&plans[2]));
}

#[test]
fn settings_fill_what_the_request_leaves_out() {
    let settings = Settings {
        default_model: Some(ModelId::new("full")),
        default_copies: 4,
        output_template: "{model}".to_owned(),
        format: ImageFormat::Webp,
        ..Settings::default()
    };
    let resolved = run(&json!({"prompt": "x"}), &settings, &models()).unwrap();
    assert_eq!(resolved.plans.len(), 4);
    let plan = &resolved.plans[0];
    assert_eq!(plan.model.id.as_str(), "full");
    assert_eq!(plan.output.stem, "full");
    assert_eq!(plan.output.format, ImageFormat::Webp.into());
    assert_eq!(
        (plan.rng, plan.sampler, plan.schedule),
        (Rng::Cpu, Sampler::Euler, Schedule::FlowMatch)
    );
    // A default that the model does not allow is brought into its limits, not refused.
    let request = json!({"prompt": "x", "model": "odd"});
    assert_eq!(run(&request, &settings, &models()).unwrap().plans.len(), 1);
    // A default model that is gone falls back to the first usable one.
    let settings = Settings {
        default_model: Some(ModelId::new("gone")),
        ..settings
    };
    let resolved = run(&json!({"prompt": "x"}), &settings, &models()).unwrap();
    assert_eq!(resolved.plans[0].model.id.as_str(), "fast");
}

#[test]
fn an_empty_catalogue_and_numbers_that_are_none_are_refused() {
    let problems = run(&json!({"prompt": "x"}), &Settings::default(), &[]).unwrap_err();
    assert_eq!(problems[0].code, Code::ModelNotInstalled);
    let models = models();
    let now = Zoned::now();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let request = Request {
            prompt: "x".to_owned(),
            model: Some(ModelId::new("full")),
            guidance: Some(value),
            true_cfg: Some(value),
            priority: Some(Priority::Bulk),
            ..Request::default()
        };
        let context = Context {
            models: &models,
            settings: &Settings::default(),
            now: &now,
            memory_available: None,
            memory_needed: &|_| u64::MAX,
            picture: &|_| Err(Problem::new(Code::NotFound, "no picture", "")),
            lora: &|_, _| Err(Problem::new(Code::NotFound, "no LoRA", "")),
            components: &|id, _| {
                Err(kinora_core::Problem::new(
                    kinora_core::Code::NotFound,
                    format!("no parts of {id}"),
                    "",
                ))
            },
            random_seed: &|| 1,
            library: &kinora_prompts::Library::default(),
        };
        let problems = resolve(
            &request,
            Place {
                line: Some(3),
                ..Place::default()
            },
            &context,
        );
        let problems = problems.unwrap_err();
        assert_eq!(problems.len(), 2);
        assert!(problems.iter().all(|problem| problem.line == Some(3)));
    }
}

#[test]
fn a_refusal_for_memory_has_both_numbers_and_what_fits() {
    let request = json!({"prompt": "x", "model": "huge"});
    let problems = run(&request, &Settings::default(), &models()).unwrap_err();
    assert!(
        problems[0].message.contains("100.0 GiB"),
        "{}",
        problems[0].message
    );
    assert!(
        problems[0].message.contains("64.0 GiB"),
        "{}",
        problems[0].message
    );
    assert!(
        problems[0].hint.contains("fast, full, odd"),
        "{}",
        problems[0].hint
    );
}

#[test]
fn every_copy_draws_its_own_words_from_its_own_seed() {
    let request = json!({
        "prompt": "a {red|green|blue|black} {fox|owl|hen} <wildcard:colors>",
        "negative_prompt": "{a|b|c|d}", "model": "full", "seed": 5, "copies": 40
    });
    let run = |request: &Value| run(request, &Settings::default(), &models()).unwrap().plans;
    let plans = run(&request);
    let words: std::collections::HashSet<(&str, &str)> = plans
        .iter()
        .map(|plan| (plan.prompt.as_str(), plan.negative_prompt.as_str()))
        .collect();
    assert!(words.len() > 20, "{}", words.len());
    // The same seed draws the same words, alone as in a row.
    for plan in [&plans[0], &plans[17], &plans[39]] {
        let mut alone = request.clone();
        alone["seed"] = json!(plan.seed);
        alone["copies"] = json!(1);
        let alone = &run(&alone)[0];
        assert_eq!(
            (&alone.prompt, &alone.negative_prompt),
            (&plan.prompt, &plan.negative_prompt)
        );
        let template = alone.template.as_ref().unwrap();
        assert_eq!(template.prompt, request["prompt"].as_str().unwrap());
        // What a recipe asks for is not drawn again.
        let again = crate::recipes::to_request(alone, None);
        assert_eq!(
            run(&serde_json::to_value(again).unwrap())[0].prompt,
            alone.prompt
        );
    }
    // A file's name is made of the words that were drawn.
    assert!(
        plans[0]
            .output
            .stem
            .contains(&plans[0].prompt.replace(' ', "_")[..8])
    );
}

#[test]
fn combinations_make_one_picture_each_with_the_same_seeds() {
    let request = json!({
        "prompt": "{a|b} x", "negative_prompt": "{c|d}", "model": "full",
        "expansion": "combinations", "seed": 9, "copies": 2
    });
    let plans = run(&request, &Settings::default(), &models())
        .unwrap()
        .plans;
    let all: Vec<String> = plans
        .iter()
        .map(|plan| format!("{}-{}-{}", plan.prompt, plan.negative_prompt, plan.seed))
        .collect();
    assert_eq!(
        all,
        [
            "a x-c-9", "a x-c-10", "a x-d-9", "a x-d-10", "b x-c-9", "b x-c-10", "b x-d-9",
            "b x-d-10"
        ]
    );
    let request = json!({
        "prompt": "{a|b}".repeat(60), "expansion": "combinations", "copies": 2
    });
    let problems = run(&request, &Settings::default(), &models()).unwrap_err();
    assert_eq!(
        problems[0].message,
        "the prompt has more than 9,007,199,254,740,991 combinations, 2 pictures each; one request \
         makes at most 1000 pictures"
    );
}
