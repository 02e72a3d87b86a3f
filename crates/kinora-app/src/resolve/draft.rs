//! What a draft leaves out: a pure function of a plan and of what its model can do.

use kinora_core::{Capabilities, DraftOf, Plan, Size, SizeRule, VideoRule, count_windows};

/// Shorter side of a draft, in pixels, where the full picture's half is not more.
const SHORT_SIDE: u32 = 320;
/// Fewest steps of a draft: with fewer, models that were not trained for it show mush.
const FEWEST_STEPS: u32 = 8;
/// A draft takes one of so many steps.
const STEP_DIVISOR: u32 = 4;
/// Seconds of a draft's clip: enough to see which way things move.
const SECONDS: u32 = 2;

/// The draft of a plan: half the sides, but no shorter side below 320 pixels; a quarter of the
/// steps, but not fewer than 8; the first two seconds of a clip. What is smaller already stays as
/// it is, and everything keeps to the model's rules. Prompt, pictures, seed, guidance, adapters and
/// frames per second stay the same, and the plan remembers what it is a draft of.
///
/// A clip of Wan 2.2 of 832×480 with 81 frames and 40 steps becomes one of 560×320 with 33 frames
/// and 10 steps, of which the network sees about one in twenty of the numbers.
///
/// None: nothing can be made smaller.
pub(crate) fn shrink(plan: &Plan, can: &Capabilities) -> Option<Plan> {
    let mut draft = plan.clone();
    draft.size = shrink_size(plan.size, &can.size);
    draft.steps = shrink_steps(plan.steps, can.steps.min);
    if let (Some(video), Some(rule)) = (&mut draft.video, &can.video) {
        video.frames = shrink_frames(video.frames, video.fps, rule);
        // The windows stay, for the clip in full; the draft needs fewer of them.
        if let (Some(window), Some(overlap)) = (video.context_frames, video.context_overlap) {
            let count = count_windows(video.frames, window, overlap, rule.frame_step);
            video.context_windows = Some(count);
        }
    }
    let frames = |plan: &Plan| plan.video.map(|video| video.frames);
    let is_smaller =
        draft.size != plan.size || draft.steps != plan.steps || frames(&draft) != frames(plan);
    draft.draft = Some(DraftOf {
        size: plan.size,
        steps: plan.steps,
        frames: frames(plan),
    });
    is_smaller.then_some(draft)
}

fn shrink_size(full: Size, rule: &SizeRule) -> Size {
    let short = full.width.min(full.height).max(1);
    let scale = f64::from((short / 2).max(SHORT_SIDE)) / f64::from(short);
    if scale >= 1.0 {
        return full;
    }
    let multiple = rule.multiple.max(1);
    let smallest = rule.min.next_multiple_of(multiple);
    let side = |side: u32| {
        let steps = (f64::from(side) * scale / f64::from(multiple)).round();
        // Never more than it was, whatever the rule says.
        (steps as u32 * multiple).max(smallest).min(side)
    };
    Size {
        width: side(full.width),
        height: side(full.height),
    }
}

fn shrink_steps(full: u32, fewest: u32) -> u32 {
    full.div_ceil(STEP_DIVISOR)
        .max(FEWEST_STEPS)
        .max(fewest)
        .min(full)
}

/// One more than a multiple of the rule's step, as the full clip's frames are.
fn shrink_frames(full: u32, fps: u32, rule: &VideoRule) -> u32 {
    let step = rule.frame_step.max(1);
    let wanted = fps.saturating_mul(SECONDS).max(rule.frames.min);
    let frames = wanted.saturating_sub(1).div_ceil(step) * step + 1;
    frames.min(full)
}

#[cfg(test)]
mod tests {
    use kinora_core::IntRange;

    use super::*;

    fn rule(min: u32, multiple: u32) -> SizeRule {
        SizeRule {
            min,
            max: 2048,
            multiple,
            default: Size {
                width: 512,
                height: 512,
            },
            presets: Vec::new(),
        }
    }

    #[test]
    fn a_draft_is_half_as_wide_but_not_below_320_pixels() {
        let shrink = |width, height, rule: &SizeRule| {
            let size = shrink_size(Size { width, height }, rule);
            (size.width, size.height)
        };
        assert_eq!(shrink(832, 480, &rule(256, 16)), (560, 320));
        assert_eq!(shrink(1280, 720, &rule(256, 16)), (640, 368));
        assert_eq!(shrink(1024, 1024, &rule(256, 16)), (512, 512));
        assert_eq!(shrink(480, 832, &rule(256, 16)), (320, 560));
        // What is small already stays, and so does what the model cannot make smaller.
        assert_eq!(shrink(96, 64, &rule(64, 8)), (96, 64));
        assert_eq!(shrink(704, 704, &rule(700, 64)), (704, 704));
        assert_eq!(shrink(1024, 768, &rule(512, 64)), (512, 512));
    }

    #[test]
    fn a_draft_takes_a_quarter_of_the_steps_but_eight_at_least() {
        for (full, fewest, draft) in [
            (50, 1, 13),
            (40, 1, 10),
            (20, 1, 8),
            (4, 1, 4),
            (30, 20, 20),
        ] {
            assert_eq!(shrink_steps(full, fewest), draft, "{full}");
        }
    }

    #[test]
    fn a_draft_has_two_seconds_by_the_models_rule() {
        let rule = |min, frame_step| VideoRule {
            frames: IntRange {
                min,
                max: 257,
                default: 81,
            },
            frame_step,
            fps: IntRange {
                min: 1,
                max: 60,
                default: 16,
            },
            end_image: false,
            experts: false,
            shift: None,
            sound: false,
            context: None,
            vae_tiling: false,
        };
        assert_eq!(shrink_frames(81, 16, &rule(5, 4)), 33);
        assert_eq!(shrink_frames(121, 24, &rule(9, 8)), 49);
        assert_eq!(shrink_frames(17, 16, &rule(5, 4)), 17);
        assert_eq!(shrink_frames(81, 16, &rule(49, 4)), 49);
        assert_eq!(shrink_frames(257, 60, &rule(9, 8)), 121);
    }
}
