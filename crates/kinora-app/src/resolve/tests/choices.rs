//! Which model, which name, which file format; and what changes nothing, or is wrong all at once.

use super::*;

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<(Value, Expect)> {
    vec![
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
