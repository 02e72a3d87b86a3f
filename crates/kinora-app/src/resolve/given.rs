//! What a request brings besides words and numbers: pictures, files for parts, LoRA files.

use kinora_core::{
    AssetKind, Mode, Model, PictureRef, PlannedImage, PlannedLora, PlannedModel, PlannedPicture,
    PlannedSource, Request,
};

use super::{Check, Context};

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
