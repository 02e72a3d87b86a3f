//! Clips: their length, windows, tiles, sound, and drafts.

use super::*;

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<(Value, Expect)> {
    vec![
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
    ]
}
