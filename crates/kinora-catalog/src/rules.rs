//! What an entry's values must satisfy beyond their types. Each fault names its key.

use kinora_core::{Capabilities, FloatRange, IntRange};

use crate::entry::Entry;

/// Limits of the whole program; a model may stay below them.
const SIDE: (u32, u32) = (64, 4096);
const STEPS: u32 = 1000;
const COPIES: u32 = 1000;
const FRAMES: u32 = 4097;
const FPS: u32 = 240;

/// The first thing wrong with an entry: its key, and why.
pub(crate) fn check(entry: &Entry) -> Result<(), (&'static str, String)> {
    check_names(entry)?;
    for (key, size) in [
        ("size_gb", Some(entry.size_gb)),
        ("memory_gb", entry.memory_gb),
    ] {
        if let Some(size) = size
            && !(0.0..=100_000.0).contains(&size)
        {
            return Err((key, format!("{size} cannot be a number of gigabytes")));
        }
    }
    check_size(entry)?;
    let can = &entry.capabilities;
    check_range("capabilities.steps", can.steps, STEPS)?;
    check_range("capabilities.copies", can.copies, COPIES)?;
    for (key, range) in [
        ("capabilities.guidance", can.guidance),
        ("capabilities.true_cfg", can.true_cfg),
        ("capabilities.strength", can.strength),
        ("capabilities.step_cache", can.step_cache),
        (
            "capabilities.video.shift",
            can.video.as_ref().and_then(|video| video.shift),
        ),
    ] {
        if let Some(range) = range {
            check_float_range(key, range)?;
        }
    }
    check_video(can)?;
    for (key, is_empty) in [
        ("capabilities.modes", can.modes.is_empty()),
        ("capabilities.samplers", can.samplers.is_empty()),
        ("capabilities.schedules", can.schedules.is_empty()),
    ] {
        if is_empty {
            return Err((key, "at least one is needed".to_owned()));
        }
    }
    for (key, number) in [
        ("capabilities.prompt_chars", can.prompt_chars),
        ("capabilities.text_tokens", can.text_tokens),
    ] {
        if !(1..=100_000).contains(&number) {
            return Err((key, format!("{number} is not from 1 to 100000")));
        }
    }
    Ok(())
}

/// Clips have a rule for their length, and pictures have none.
fn check_video(can: &Capabilities) -> Result<(), (&'static str, String)> {
    let key = "capabilities.video";
    let makes_clips = can.modes.iter().any(|mode| mode.is_video());
    let Some(rule) = &can.video else {
        return match makes_clips {
            true => Err((key, "a model that makes clips needs it".to_owned())),
            false => Ok(()),
        };
    };
    if !makes_clips {
        return Err((key, "the model makes no clips".to_owned()));
    }
    check_range("capabilities.video.frames", rule.frames, FRAMES)?;
    check_range("capabilities.video.fps", rule.fps, FPS)?;
    if !(1..=64).contains(&rule.frame_step) {
        let reason = format!("{} is not from 1 to 64", rule.frame_step);
        return Err(("capabilities.video.frame_step", reason));
    }
    if rule.frames.default % rule.frame_step != 1 % rule.frame_step {
        let reason = format!(
            "the default {} is not one more than a multiple of {}",
            rule.frames.default, rule.frame_step
        );
        return Err(("capabilities.video.frames", reason));
    }
    let Some(context) = rule.context else {
        return Ok(());
    };
    check_range("capabilities.video.context.frames", context.frames, FRAMES)?;
    // Two latent frames at least: one to begin with, one to show.
    if context.frames.min <= rule.frame_step
        || context.frames.default % rule.frame_step != 1 % rule.frame_step
    {
        let reason = format!(
            "windows are one more than a multiple of {}, and longer than it",
            rule.frame_step
        );
        return Err(("capabilities.video.context.frames", reason));
    }
    if !(rule.frames.max..=FRAMES).contains(&context.longest) {
        let reason = format!(
            "{} is not from {} to {FRAMES}",
            context.longest, rule.frames.max
        );
        return Err(("capabilities.video.context.longest", reason));
    }
    Ok(())
}

fn check_names(entry: &Entry) -> Result<(), (&'static str, String)> {
    let id = entry.id.as_str();
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    if id.is_empty() || id.len() > 64 || !id.bytes().all(is_plain) {
        let reason = "an id has 1 to 64 small letters, digits, hyphens, dots and underscores";
        return Err(("id", reason.to_owned()));
    }
    if entry.name.trim().is_empty() {
        return Err(("name", "it is empty".to_owned()));
    }
    if entry.folders.is_empty() && entry.path.is_none() {
        let reason = "without folders or a path its files cannot be found";
        return Err(("folders", reason.to_owned()));
    }
    if let Some(path) = &entry.path
        && !path.is_absolute()
    {
        return Err((
            "path",
            format!("{} does not begin at the root", path.display()),
        ));
    }
    for folder in &entry.folders {
        // A name with parts could leave the model folder.
        let is_name =
            !folder.is_empty() && folder != "." && folder != ".." && !folder.contains(['/', '\\']);
        if !is_name {
            return Err(("folders", format!("{folder:?} is not a plain name")));
        }
    }
    if let Some(url) = &entry.approval_url
        && !url.starts_with("https://")
    {
        return Err((
            "approval_url",
            format!("{url:?} does not begin with https://"),
        ));
    }
    Ok(())
}

fn check_size(entry: &Entry) -> Result<(), (&'static str, String)> {
    let size = &entry.capabilities.size;
    let key = "capabilities.size";
    if size.min < SIDE.0 || size.max > SIDE.1 || size.min > size.max {
        let reason = format!(
            "min {} and max {} must lie from {} to {}",
            size.min, size.max, SIDE.0, SIDE.1
        );
        return Err((key, reason));
    }
    if !(1..=256).contains(&size.multiple) {
        return Err((
            key,
            format!("multiple {} is not from 1 to 256", size.multiple),
        ));
    }
    let fits =
        |side: u32| (size.min..=size.max).contains(&side) && side.is_multiple_of(size.multiple);
    let default = size.default;
    if !fits(default.width) || !fits(default.height) {
        let reason = format!(
            "the default {}×{} is outside its own limits or no multiple of {}",
            default.width, default.height, size.multiple
        );
        return Err((key, reason));
    }
    match size
        .presets
        .iter()
        .find(|preset| !fits(preset.width) || !fits(preset.height))
    {
        Some(preset) => Err((
            key,
            format!(
                "the preset {:?} of {}×{} is outside the limits or no multiple of {}",
                preset.label, preset.width, preset.height, size.multiple
            ),
        )),
        None => Ok(()),
    }
}

fn check_range(key: &'static str, range: IntRange, max: u32) -> Result<(), (&'static str, String)> {
    let IntRange {
        min,
        max: own_max,
        default,
    } = range;
    if min >= 1 && own_max <= max && (min..=own_max).contains(&default) {
        Ok(())
    } else {
        let reason =
            format!("min {min}, default {default} and max {own_max} must rise, from 1 to {max}");
        Err((key, reason))
    }
}

fn check_float_range(key: &'static str, range: FloatRange) -> Result<(), (&'static str, String)> {
    let FloatRange { min, max, default } = range;
    if min >= 0.0 && max <= 100.0 && (min..=max).contains(&default) {
        Ok(())
    } else {
        let reason = format!("min {min}, default {default} and max {max} must rise, from 0 to 100");
        Err((key, reason))
    }
}
