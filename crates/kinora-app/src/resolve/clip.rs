//! What only clips have: their length, windows in time, sound, and the format of their files.

use kinora_core::{
    FileFormat, IntRange, Mode, Model, Request, VideoOptions, VideoPlan, VideoRule, count_windows,
};

use super::Check;
use crate::settings::Settings;

impl Check {
    /// The clip's length and what only clips have.
    pub(super) fn video(
        &mut self,
        request: &Request,
        model: &Model,
        mode: Mode,
        format: FileFormat,
    ) -> Option<VideoPlan> {
        let asked = &request.video;
        let Some(rule) = model
            .capabilities
            .video
            .as_ref()
            .filter(|_| mode.is_video())
        else {
            if !asked.is_empty() {
                self.refuse(
                    "video",
                    format!("{} makes pictures, not clips", model.name),
                    "Leave the clip's settings empty, or choose a model that makes clips.",
                );
            }
            return None;
        };
        let fps = self.whole_number("video.fps", asked.fps, rule.fps, rule.fps.default);
        let frames = self.frames(asked, rule, fps);
        let only_experts = |check: &mut Self, field: &str, value: Option<f32>| {
            if value.is_some() && !rule.experts {
                check.refuse(
                    field,
                    format!("{} has one network for all steps", model.name),
                    "Leave it empty.",
                );
            }
            value
        };
        let cfg_2 = only_experts(self, "video.cfg_2", asked.cfg_2);
        let low_share = only_experts(self, "video.low_share", asked.low_share);
        if let (Some(scale), Some(range)) = (cfg_2, model.capabilities.true_cfg) {
            self.real_number("video.cfg_2", Some(scale), range, range.default);
        }
        if low_share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            self.refuse(
                "video.low_share",
                "the share of the second network is not from 0 to 1",
                "Use 0.6 if in doubt.",
            );
        }
        let boundary = only_experts(self, "video.boundary", asked.boundary);
        if boundary.is_some_and(|level| !(0.0..=1.0).contains(&level)) {
            self.refuse(
                "video.boundary",
                "the noise level at which the second network takes over is not from 0 to 1",
                "Use 0.9 if in doubt.",
            );
        }
        if boundary.is_some() && low_share.is_some() {
            self.refuse(
                "video.boundary",
                "both a share of the steps and a noise level are given",
                "Give one of them.",
            );
        }
        let shift = match (rule.shift, asked.shift) {
            (Some(range), asked) => asked
                .map(|shift| self.real_number("video.shift", Some(shift), range, range.default)),
            (None, None) => None,
            (None, Some(_)) => {
                self.refuse(
                    "video.shift",
                    format!("the times of {} cannot be shifted", model.name),
                    "Leave it empty.",
                );
                None
            }
        };
        let sound = self.sound(asked.sound, rule, model, format);
        let context = self.context(asked, rule, frames, model);
        let vae_tiling = asked.vae_tiling == Some(true);
        if vae_tiling && !rule.vae_tiling {
            self.refuse(
                "video.vae_tiling",
                format!("{} makes its frames whole", model.name),
                "Leave it out.",
            );
        }
        Some(VideoPlan {
            frames,
            fps,
            cfg_2,
            low_share,
            boundary,
            shift,
            sound,
            context_frames: context.map(|[window, _]| window),
            context_overlap: context.map(|[_, overlap]| overlap),
            context_windows: context
                .map(|[window, overlap]| count_windows(frames, window, overlap, rule.frame_step)),
            vae_tiling,
        })
    }

    /// The windows that a clip goes through: frames of one, and how many neighbours share at least,
    /// both brought to the model's rule.
    fn context(
        &mut self,
        asked: &VideoOptions,
        rule: &VideoRule,
        frames: u32,
        model: &Model,
    ) -> Option<[u32; 2]> {
        let Some(wanted) = asked.context_frames else {
            if asked.context_overlap.is_some() {
                self.refuse(
                    "video.context_overlap",
                    "windows are to share frames, and there are no windows",
                    "Give the frames of a window too, or leave it empty.",
                );
            }
            return None;
        };
        let Some(context) = rule.context else {
            self.refuse(
                "video.context_frames",
                format!("{} sees a clip as a whole", model.name),
                "Leave it empty.",
            );
            return None;
        };
        let step = rule.frame_step.max(1);
        let wanted = self.whole_number(
            "video.context_frames",
            Some(wanted),
            context.frames,
            context.frames.default,
        );
        // The first latent frame stands for one frame, every other one for `step`.
        let latent = wanted.saturating_sub(1).saturating_add(step / 2) / step + 1;
        let latent = latent.min(context.frames.max.saturating_sub(1) / step + 1);
        let window = (latent - 1) * step + 1;
        if window != wanted {
            self.note(
                "video.context_frames",
                format!("a window has {window} frames: one more than a multiple of {step}"),
            );
        }
        let shared = match asked.context_overlap {
            None => (3 * latent + 4) / 8,
            Some(overlap) => (overlap.saturating_add(step / 2) / step).max(1),
        };
        let most = (3 * latent / 4).max(1);
        if shared > most {
            self.refuse(
                "video.context_overlap",
                format!("windows of {window} frames cannot share {}", shared * step),
                format!("Use at most {}, three quarters of a window.", most * step),
            );
        }
        let overlap = shared.clamp(1, most) * step;
        if asked.context_overlap.is_some_and(|asked| asked != overlap) && shared <= most {
            self.note(
                "video.context_overlap",
                format!("windows share {overlap} frames: a multiple of {step}"),
            );
        }
        if frames <= window {
            self.note(
                "video.context_frames",
                format!("the clip of {frames} frames fits into one window of {window}"),
            );
        }
        Some([window, overlap])
    }

    /// Whether the clip has sound: where the model makes any, unless nobody would hear it.
    fn sound(
        &mut self,
        asked: Option<bool>,
        rule: &VideoRule,
        model: &Model,
        format: FileFormat,
    ) -> Option<bool> {
        if !rule.sound {
            if asked == Some(true) {
                self.refuse(
                    "video.sound",
                    format!("{} makes no sound", model.name),
                    "Leave it out, or choose a model that makes sound.",
                );
            }
            return None;
        }
        let is_heard = matches!(format, FileFormat::Clip(format) if format.can_have_sound());
        if asked == Some(true) && !is_heard {
            self.note(
                "video.sound",
                "the file format has no sound, so the clip is silent; mp4 and webm have it"
                    .to_owned(),
            );
        }
        Some(asked.unwrap_or(true) && is_heard)
    }

    /// Frames, from frames or seconds, brought to the model's rule.
    fn frames(&mut self, asked: &VideoOptions, rule: &VideoRule, fps: u32) -> u32 {
        let wanted = match (asked.frames, asked.seconds) {
            (Some(_), Some(_)) => {
                self.refuse(
                    "video.seconds",
                    "both frames and seconds are given",
                    "Give one of them.",
                );
                return rule.frames.default;
            }
            (Some(frames), None) => frames,
            (None, Some(seconds)) if seconds.is_finite() && seconds > 0.0 => {
                (f64::from(seconds) * f64::from(fps)).round().min(1e6) as u32
            }
            (None, Some(_)) => {
                self.refuse(
                    "video.seconds",
                    "a clip's length is a number of seconds above 0",
                    "Use 3 if in doubt.",
                );
                return rule.frames.default;
            }
            (None, None) => return rule.frames.default,
        };
        // A length in seconds is about right anyway; the rule has its own last word.
        let longest = match rule.context {
            Some(context) if asked.context_frames.is_some() => context.longest,
            _ => rule.frames.max,
        };
        let range = IntRange {
            max: longest,
            ..rule.frames
        };
        let wanted = match asked.seconds {
            Some(_) => wanted.clamp(range.min, range.max),
            None => self.whole_number("video.frames", Some(wanted), range, range.default),
        };
        let step = rule.frame_step.max(1);
        let largest = (range.max.saturating_sub(1)) / step * step + 1;
        let steps = wanted.saturating_sub(1).saturating_add(step / 2) / step;
        let rounded = steps.saturating_mul(step).saturating_add(1).min(largest);
        if rounded != wanted && asked.frames.is_some() {
            self.note(
                "video.frames",
                format!("the clip has {rounded} frames: one more than a multiple of {step}"),
            );
        }
        rounded
    }

    /// The file format: a picture's or a clip's, as the work is.
    pub(super) fn format(
        &mut self,
        request: &Request,
        mode: Mode,
        settings: &Settings,
    ) -> FileFormat {
        let usual = match mode.is_video() {
            true => FileFormat::Clip(settings.clip_format),
            false => FileFormat::Image(settings.format),
        };
        let format = request.format.unwrap_or(usual);
        if format.kind() != usual.kind() {
            let (message, hint) = match mode.is_video() {
                true => (
                    "a clip cannot be a picture's file",
                    "Use mp4, webm, gif or frames.",
                ),
                false => (
                    "a picture cannot be a clip's file",
                    "Use png, jpeg or webp.",
                ),
            };
            self.refuse("format", message, hint);
        }
        format
    }
}
