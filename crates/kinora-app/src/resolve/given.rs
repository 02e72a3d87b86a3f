//! What a request brings besides words and numbers: pictures, LoRA files, the length of a clip.

use kinora_core::{
    AssetKind, FileFormat, IntRange, Mode, Model, PictureRef, PlannedImage, PlannedLora,
    PlannedModel, PlannedPicture, PlannedSource, Request, VideoOptions, VideoPlan, VideoRule,
    count_windows,
};

use super::{Check, Context};
use crate::settings::Settings;

/// The most adapters of one request.
const MAX_LORAS: usize = 16;
/// No model has more parts.
const MAX_COMPONENTS: usize = 8;
/// The strongest weight of an adapter, either way.
const MAX_WEIGHT: f32 = 4.0;

/// The kinds of work that a request may be, in the order in which a model's own is looked for. Empty
/// where nothing is of the kind that is asked for.
pub(super) fn wanted_modes(request: &Request) -> Vec<Mode> {
    let modes: &[Mode] = match (&request.image, &request.mask) {
        (Some(_), Some(_)) => &[Mode::Inpaint],
        (Some(_), None) => &[
            Mode::ImageToImage,
            Mode::Edit,
            Mode::Control,
            Mode::Variation,
            Mode::ImageToVideo,
        ],
        (None, _) => &[Mode::TextToImage, Mode::TextToVideo],
    };
    let is_of_kind = |mode: &Mode| match request.kind {
        None => true,
        Some(AssetKind::Image) => !mode.is_video(),
        Some(AssetKind::Video) => mode.is_video(),
    };
    modes.iter().copied().filter(is_of_kind).collect()
}

/// Whether a model makes nothing of the kind that is asked for.
fn makes_other_kind(request: &Request, model: &Model) -> bool {
    let is_video = request.kind == Some(AssetKind::Video);
    let mut modes = model.capabilities.modes.iter();
    request.kind.is_some() && modes.all(|mode| mode.is_video() != is_video)
}

impl Check {
    /// What kind of work it is: told by what is given and what the model can do.
    pub(super) fn mode(&mut self, request: &Request, model: &Model, context: &Context<'_>) -> Mode {
        let modes = &model.capabilities.modes;
        let wanted = wanted_modes(request);
        if wanted.is_empty() {
            self.refuse(
                "mask",
                "a clip has no mask",
                "Leave the mask out, or ask for a picture.",
            );
            return Mode::Inpaint;
        }
        if request.image.is_none() && request.mask.is_some() {
            self.refuse(
                "mask",
                "there is a mask and no picture",
                "Give the picture that the mask belongs to.",
            );
        }
        if let Some(mode) = wanted.iter().find(|mode| modes.contains(mode)) {
            return *mode;
        }
        let others: Vec<&str> = (context.models.iter())
            .filter(|other| other.planned.is_some())
            .filter(|other| {
                let can = &other.model.capabilities.modes;
                wanted.iter().any(|mode| can.contains(mode))
            })
            .map(|other| other.model.id.as_str())
            .collect();
        let instead = if others.is_empty() {
            "Choose another model.".to_owned()
        } else {
            format!("Choose a model that can: {}.", others.join(", "))
        };
        let (field, reason) = match (&request.image, &request.mask) {
            (None, _) if makes_other_kind(request, model) => {
                let makes = match request.kind {
                    Some(AssetKind::Video) => "pictures, not clips",
                    _ => "clips, not pictures",
                };
                ("model", format!("{} makes {makes}", model.name))
            }
            (Some(_), None) if request.kind == Some(AssetKind::Video) => (
                "image",
                format!("{} makes no clips from pictures", model.name),
            ),
            (Some(_), Some(_)) => (
                "mask",
                format!("{} cannot paint inside of a mask", model.name),
            ),
            (Some(_), None) if modes.contains(&Mode::Inpaint) => (
                "mask",
                format!("{} paints inside of a mask, and there is none", model.name),
            ),
            (Some(_), None) => (
                "image",
                format!("{} cannot start from a picture", model.name),
            ),
            (None, _) if modes.iter().any(|mode| mode.needs_image()) => (
                "image",
                format!("{} needs a picture to start from", model.name),
            ),
            (None, _) => (
                "model",
                format!("{} makes nothing from text alone", model.name),
            ),
        };
        let hint = match field {
            "image" if request.image.is_none() => "Drop a picture, or choose one of the gallery.",
            "mask" if request.mask.is_none() => "Paint a mask over what shall change.",
            _ => instead.as_str(),
        };
        self.refuse(field, reason, hint);
        wanted[0]
    }

    /// The pictures, down to their files.
    pub(super) fn source(
        &mut self,
        request: &Request,
        model: &Model,
        mode: Mode,
        context: &Context<'_>,
    ) -> Option<PlannedSource> {
        let mut find = |field: &str, reference: &Option<PictureRef>| -> Option<PlannedPicture> {
            match (context.picture)(reference.as_ref()?) {
                Ok(picture) => Some(picture),
                Err(mut problem) => {
                    problem.field = Some(field.to_owned());
                    self.problem(problem);
                    None
                }
            }
        };
        let image = find("image", &request.image);
        let mask = find("mask", &request.mask);
        let end_image = find("video.end_image", &request.video.end_image);
        let found: Vec<_> = (request.more_images.iter().enumerate())
            .map(|(place, more)| {
                let field = format!("more_images[{place}].image");
                find(&field, &Some(more.image.clone()))
            })
            .collect();
        let strength = self.strength(request, model, mode);
        let more_images = self.more_images(request, model, strength, found);
        if end_image.is_some() {
            let takes_end = (model.capabilities.video.as_ref()).is_some_and(|rule| rule.end_image);
            if !takes_end || mode != Mode::ImageToVideo {
                self.refuse(
                    "video.end_image",
                    format!("{} takes no picture to end with", model.name),
                    "Leave it empty, or choose a model that takes a first and a last picture.",
                );
            }
        }
        Some(PlannedSource {
            image: image?,
            mask,
            strength,
            more_images,
            end_image,
        })
    }

    /// The pictures besides the first, each with how much it counts.
    fn more_images(
        &mut self,
        request: &Request,
        model: &Model,
        first: Option<f32>,
        found: Vec<Option<PlannedPicture>>,
    ) -> Vec<PlannedImage> {
        let asked = &request.more_images;
        let most = model.capabilities.more_images as usize;
        if asked.len() > most {
            let (message, hint) = match most {
                0 => (
                    format!("{} starts from one picture", model.name),
                    "Leave the others out, or choose a model that takes several.".to_owned(),
                ),
                _ => (
                    format!(
                        "there are {} pictures; {} takes {}",
                        asked.len() + 1,
                        model.name,
                        most + 1
                    ),
                    "Leave some of them out.".to_owned(),
                ),
            };
            self.refuse("more_images", message, hint);
            return Vec::new();
        }
        // A model that makes nothing without one has asked for it already.
        let can_do_without = model
            .capabilities
            .modes
            .iter()
            .any(|mode| !mode.needs_image());
        if !asked.is_empty() && request.image.is_none() && can_do_without {
            self.refuse(
                "image",
                "there are further pictures and no first one",
                "Give the first one as the picture to start from.",
            );
        }
        let range = model.capabilities.strength;
        (asked.iter().zip(found).enumerate())
            .filter_map(|(place, (more, image))| {
                let strength = match (first, range) {
                    (Some(first), Some(range)) => {
                        let field = format!("more_images[{place}].strength");
                        Some(self.real_number(&field, more.strength, range, first))
                    }
                    _ => None,
                };
                image.map(|image| PlannedImage { image, strength })
            })
            .collect()
    }

    fn strength(&mut self, request: &Request, model: &Model, mode: Mode) -> Option<f32> {
        let range = model.capabilities.strength;
        let is_used = mode.has_strength() && request.image.is_some();
        match (range, is_used) {
            (Some(range), true) => {
                Some(self.real_number("strength", request.strength, range, range.default))
            }
            _ => {
                if request.strength.is_some() {
                    self.note(
                        "strength",
                        "the strength has no meaning here and was left out".to_owned(),
                    );
                }
                None
            }
        }
    }

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

    /// The model with the files that were chosen for its parts.
    pub(super) fn components(
        &mut self,
        request: &Request,
        planned: &PlannedModel,
        context: &Context<'_>,
    ) -> PlannedModel {
        if request.components.is_empty() {
            return planned.clone();
        }
        if request.components.len() > MAX_COMPONENTS {
            self.refuse(
                "components",
                format!("there are files for {} parts", request.components.len()),
                format!("No model has more than {MAX_COMPONENTS} parts."),
            );
            return planned.clone();
        }
        match (context.components)(&planned.id, &request.components) {
            Ok(chosen) => chosen,
            Err(mut problem) => {
                problem.field = problem.field.or_else(|| Some("components".to_owned()));
                self.problem(problem);
                planned.clone()
            }
        }
    }

    /// LoRA files, each once, with sensible weights.
    pub(super) fn loras(
        &mut self,
        request: &Request,
        model: &Model,
        context: &Context<'_>,
    ) -> Vec<PlannedLora> {
        if request.loras.is_empty() {
            return Vec::new();
        }
        if !model.capabilities.loras {
            self.refuse(
                "loras",
                format!("{} takes no LoRA files", model.name),
                "Leave them out, or choose a model that takes them.",
            );
            return Vec::new();
        }
        if request.loras.len() > MAX_LORAS {
            self.refuse(
                "loras",
                format!("there are {} LoRA files", request.loras.len()),
                format!("Use at most {MAX_LORAS}."),
            );
            return Vec::new();
        }
        let mut loras: Vec<PlannedLora> = Vec::new();
        for (place, asked) in request.loras.iter().enumerate() {
            let field = format!("loras[{place}]");
            // NaN is in no range.
            if !(-MAX_WEIGHT..=MAX_WEIGHT).contains(&asked.weight) {
                self.refuse(
                    &field,
                    format!(
                        "the weight {} of {} is not possible",
                        asked.weight, asked.name
                    ),
                    format!(
                        "Use a weight from -{MAX_WEIGHT} to {MAX_WEIGHT}; 1 is as it was trained."
                    ),
                );
            }
            let has_experts = (model.capabilities.video.as_ref()).is_some_and(|rule| rule.experts);
            if let (Some(expert), false) = (asked.expert, has_experts) {
                self.refuse(
                    &format!("{field}.expert"),
                    format!(
                        "{} has no network for {} noise alone",
                        model.name,
                        expert.name()
                    ),
                    "Leave the expert out: this model has one network, and every file changes it.",
                );
            }
            // The same file may go to both experts with a weight for each.
            let is_taken = |other: &PlannedLora| {
                let experts = other.expert.zip(asked.expert);
                experts.is_none_or(|(one, other)| one == other)
            };
            match (context.lora)(&model.id, &asked.name) {
                Ok(lora)
                    if loras
                        .iter()
                        .any(|other| other.name == lora.name && is_taken(other)) =>
                {
                    self.refuse(
                        &field,
                        format!("{} is named twice", lora.name),
                        "Name it once, with the weight that you want.",
                    );
                }
                Ok(lora) => {
                    if let (Some(expert), None, true) = (lora.expert, asked.expert, has_experts) {
                        self.note(
                            &field,
                            format!(
                                "{} changes both networks, and its name says {} noise: choose that \
                                 expert for it if it is one of a pair",
                                lora.name,
                                expert.name()
                            ),
                        );
                    }
                    loras.push(PlannedLora {
                        weight: asked.weight,
                        expert: asked.expert,
                        ..lora
                    });
                }
                Err(mut problem) => {
                    problem.field = Some(field);
                    self.problem(problem);
                }
            }
        }
        loras
    }
}
