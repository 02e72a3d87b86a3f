//! Pictures that are started from, varied or edited, and LoRA files.

use super::*;

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<(Value, Expect)> {
    vec![
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
    ]
}
