//! Prompts, their choices, and negative prompts.

use super::*;

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<(Value, Expect)> {
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
    ]
}
