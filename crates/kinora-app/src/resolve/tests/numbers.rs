//! Sizes, steps, guidance, copies, samplers.

use super::*;

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<(Value, Expect)> {
    vec![
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
    ]
}
