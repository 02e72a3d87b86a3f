//! The numbers of a request, each within what the model takes, and its samplers.

use kinora_core::{
    FloatRange, IntRange, Model, PlannedPicture, Request, Size, SizeRule, VideoPlan,
};

use super::Check;

impl Check {
    pub(super) fn guidance(&mut self, request: &Request, model: &Model) -> Option<f32> {
        match (model.capabilities.guidance, request.guidance) {
            (Some(range), asked) => {
                let default = model.defaults.guidance.unwrap_or(range.default);
                Some(self.real_number("guidance", asked, range, default))
            }
            (None, None) => None,
            (None, Some(_)) => {
                self.refuse(
                    "guidance",
                    format!("{} has no guidance", model.name),
                    "Leave it empty, or choose a model that has it.",
                );
                None
            }
        }
    }

    /// How far steps may differ to be reused; 0 means none is, and is what models without that do.
    pub(super) fn step_cache(
        &mut self,
        request: &Request,
        model: &Model,
        video: Option<&VideoPlan>,
    ) -> Option<f32> {
        let asked = request.step_cache.filter(|share| *share != 0.0);
        let Some(range) = model.capabilities.step_cache else {
            if asked.is_some() {
                self.refuse(
                    "step_cache",
                    format!("{} computes every step in full", model.name),
                    "Leave it empty, or choose a model that can reuse steps.",
                );
            }
            return None;
        };
        let share = self.real_number("step_cache", request.step_cache, range, range.default);
        let windows = video.and_then(|video| video.context_windows).unwrap_or(1);
        if share > 0.0 && windows > 1 {
            self.refuse(
                "step_cache",
                "Windows move from step to step, and what a step keeps fits none of the next one's",
                "Leave out either the windows or the reuse of steps.",
            );
        }
        (share > 0.0).then_some(share)
    }

    /// The size that is asked for; else that of the default, in the shape of the picture that it
    /// starts from.
    pub(super) fn size(
        &mut self,
        request: &Request,
        model: &Model,
        image: Option<&PlannedPicture>,
    ) -> Size {
        let (rule, default) = (&model.capabilities.size, model.defaults);
        let default = Size {
            width: default.width,
            height: default.height,
        };
        let default = match (image, request.width, request.height) {
            (Some(image), None, None) => shaped_like(image, default, rule),
            _ => default,
        };
        Size {
            width: self.side("width", request.width.unwrap_or(default.width), rule),
            height: self.side("height", request.height.unwrap_or(default.height), rule),
        }
    }

    pub(super) fn side(&mut self, field: &str, asked: u32, rule: &SizeRule) -> u32 {
        if asked < rule.min || asked > rule.max {
            self.refuse(
                field,
                format!(
                    "a {field} of {asked} is not possible; this model makes {} to {} pixels",
                    rule.min, rule.max
                ),
                format!("Use a multiple of {} in between.", rule.multiple),
            );
            return asked;
        }
        let multiple = rule.multiple.max(1);
        let smallest = rule.min.div_ceil(multiple) * multiple;
        let largest = (rule.max / multiple * multiple).max(smallest);
        let rounded =
            (asked.saturating_add(multiple / 2) / multiple * multiple).clamp(smallest, largest);
        if rounded != asked {
            self.note(
                field,
                format!("the {field} became {rounded}: sides are multiples of {multiple}"),
            );
        }
        rounded
    }

    pub(super) fn whole_number(
        &mut self,
        field: &str,
        asked: Option<u32>,
        range: IntRange,
        default: u32,
    ) -> u32 {
        let Some(asked) = asked else {
            return default.clamp(range.min, range.max.max(range.min));
        };
        if asked < range.min || asked > range.max {
            self.refuse(
                field,
                format!(
                    "{asked} {field} are not possible; this model takes {} to {}",
                    range.min, range.max
                ),
                format!("Use {} if in doubt.", default),
            );
        }
        asked
    }

    pub(super) fn real_number(
        &mut self,
        field: &str,
        asked: Option<f32>,
        range: FloatRange,
        default: f32,
    ) -> f32 {
        let Some(asked) = asked else {
            return default;
        };
        // Written so that NaN is refused as well.
        if !(asked >= range.min && asked <= range.max) {
            let name = field.rsplit('.').next().unwrap_or(field);
            self.refuse(
                field,
                format!(
                    "a {name} of {asked} is not possible; this model takes {} to {}",
                    range.min, range.max
                ),
                format!("Use {default} if in doubt."),
            );
        }
        asked
    }

    pub(super) fn copies(&mut self, asked: Option<u32>, range: IntRange, default: u32) -> u32 {
        self.whole_number("copies", asked, range, default)
    }

    pub(super) fn choice<T: Copy + PartialEq + std::fmt::Debug>(
        &mut self,
        field: &str,
        asked: Option<T>,
        known: &[T],
    ) -> Option<T> {
        let chosen = match asked {
            Some(asked) if known.contains(&asked) => Some(asked),
            Some(_) => None,
            None => known.first().copied(),
        };
        if chosen.is_none() {
            self.refuse(
                field,
                format!("this model does not have that {field}"),
                format!("It has {known:?}."),
            );
        }
        chosen
    }
}

/// A size of about as many pixels as `default`, with the picture's shape as far as the rule allows.
fn shaped_like(image: &PlannedPicture, default: Size, rule: &SizeRule) -> Size {
    let shape = f64::from(image.width.max(1)) / f64::from(image.height.max(1));
    let pixels = default.pixels() as f64;
    let multiple = f64::from(rule.multiple.max(1));
    let smallest = rule
        .min
        .next_multiple_of(rule.multiple.max(1))
        .min(rule.max);
    let largest = (rule.max / rule.multiple.max(1) * rule.multiple.max(1)).max(smallest);
    let side = |length: f64| {
        let rounded = (length / multiple).round() * multiple;
        (rounded as u32).clamp(smallest, largest)
    };
    Size {
        width: side((pixels * shape).sqrt()),
        height: side((pixels / shape).sqrt()),
    }
}
