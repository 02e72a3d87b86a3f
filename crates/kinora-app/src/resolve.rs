//! A request becomes plans, in exactly this place: every default is filled in here, and every
//! "you cannot do that" is said here, from the model's
//! [`Capabilities`](kinora_core::Capabilities) alone.
//!
//! Not here: whether a session or asset exists (the use-cases), and what happens to a plan that
//! was accepted (the queue).

use std::collections::BTreeMap;

use jiff::Zoned;
use kinora_core::{
    Code, FloatRange, IntRange, Model, ModelId, OutputPlan, PictureRef, Plan, PlannedLora,
    PlannedModel, PlannedPicture, Problem, Request, Seed, Size, SizeRule, VideoPlan,
    plan::{NUMERICS, PLAN_VERSION},
};

use crate::{
    bytes::format_bytes,
    jobs::Note,
    naming::{Names, Template},
    prompts::{Texts, Words},
    settings::Settings,
    suggest::did_you_mean,
};

/// A model of the catalogue with its files.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// As hosts see it.
    pub model: Model,
    /// As plans name it; None: it is not installed, or cannot be used.
    pub planned: Option<PlannedModel>,
}

/// What decisions depend on besides the request.
pub struct Context<'a> {
    /// The catalogue.
    pub models: &'a [Candidate],
    /// What the user chose.
    pub settings: &'a Settings,
    /// For names of files.
    pub now: &'a Zoned,
    /// Bytes that models and work may occupy together; None: not known.
    pub memory_available: Option<u64>,
    /// Bytes that a plan needs.
    pub memory_needed: &'a dyn Fn(&Plan) -> u64,
    /// The file behind a picture that a request names.
    pub picture: &'a dyn Fn(&PictureRef) -> Result<PlannedPicture, Problem>,
    /// The file behind the name of a LoRA, if it changes this model, with the expert that its name
    /// speaks of.
    pub lora: &'a dyn Fn(&ModelId, &str) -> Result<PlannedLora, Problem>,
    /// A model with files chosen for its parts.
    pub components: &'a ChooseParts<'a>,
    /// A random seed below 2³².
    pub random_seed: &'a dyn Fn() -> u32,
    /// Reads prompts, with this studio's wildcards.
    pub library: &'a kinora_prompts::Library,
}

/// A model with files, by the names of the parts that they stand for.
type ChooseParts<'a> =
    dyn Fn(&ModelId, &BTreeMap<String, String>) -> Result<PlannedModel, Problem> + 'a;

/// Where a request stands in a list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// Line of the list, from 1; None: no list.
    pub line: Option<u32>,
    /// Number of its first copy within the line, from 0.
    pub first_copy: u32,
    /// Name of the list without ending.
    pub list: &'a str,
    /// Random word, the same for everything that is asked for together.
    pub batch: &'a str,
}

/// A request with everything decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// One plan per picture.
    pub plans: Vec<Plan>,
    /// What was decided differently than asked.
    pub notes: Vec<Note>,
}

/// Decides everything about a request.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn resolve(
    request: &Request,
    place: Place<'_>,
    context: &Context<'_>,
) -> Result<Resolved, Vec<Problem>> {
    let mut check = Check {
        problems: Vec::new(),
        notes: Vec::new(),
        line: place.line,
    };
    let candidate = match choose_model(request, context) {
        Ok(candidate) => candidate,
        Err(problem) => {
            // Without a model only what every model asks of a prompt can be checked.
            check.problem(problem);
            check.prompt(&request.prompt, u32::MAX);
            return Err(check.problems);
        }
    };
    let (model, planned) = candidate;
    let can = &model.capabilities;
    let mode = check.mode(request, model, context);
    if mode.needs_words() {
        check.prompt(&request.prompt, can.prompt_chars);
    } else {
        check.text("prompt", "prompt", &request.prompt, can.prompt_chars);
    }
    let true_cfg = check.negative_prompt(request, model);
    let source = check.source(request, model, mode, context);
    let size = check.size(request, model, source.as_ref().map(|source| &source.image));
    let format = check.format(request, mode, context.settings);
    let video = check.video(request, model, mode, format);
    let loras = check.loras(request, model, context);
    let planned = check.components(request, planned, context);
    let steps = check.whole_number("steps", request.steps, can.steps, model.defaults.steps);
    let guidance = check.guidance(request, model);
    let step_cache = check.step_cache(request, model, video.as_ref());
    let copies = check.copies(request.copies, can.copies, context.settings.default_copies);
    let sampler = check.choice("sampler", request.sampler, &can.samplers);
    let schedule = check.choice("schedule", request.schedule, &can.schedules);
    let texts = check.texts(request, context);
    let template = check.template(request, context.settings);
    let (Some(template), Some(sampler), Some(schedule), Some(texts)) =
        (template, sampler, schedule, texts)
    else {
        return Err(check.problems);
    };
    if !check.problems.is_empty() {
        return Err(check.problems);
    }

    let first = request
        .seed
        .unwrap_or_else(|| Seed((context.random_seed)().into()));
    let prompts = texts.template_of(request);
    let pictures = check.pictures(&texts, first, copies, model, prompts.is_some());
    let mut base = Plan {
        version: PLAN_VERSION,
        numerics: NUMERICS.to_owned(),
        mode,
        model: planned,
        prompt: request.prompt.clone(),
        template: prompts,
        negative_prompt: request.negative_prompt.clone(),
        source,
        loras,
        video,
        draft: None,
        parent: None,
        size,
        steps,
        guidance,
        true_cfg,
        step_cache,
        seed: first,
        rng: request.rng.unwrap_or_default(),
        text_tokens: can.text_tokens,
        sampler,
        schedule,
        output: OutputPlan {
            stem: String::new(),
            format,
        },
    };
    if request.draft {
        let small = check.draft(&base, model);
        let full = std::mem::replace(&mut base, small);
        check.full_memory(&full, context);
    }
    check.memory(&base, context);
    if !check.problems.is_empty() {
        return Err(check.problems);
    }
    let plans = pictures
        .into_iter()
        .zip(0_u32..)
        .map(|((words, seed), copy)| {
            let mut plan = base.clone();
            plan.prompt = words.prompt;
            plan.negative_prompt = words.negative_prompt;
            plan.seed = seed;
            plan.output.stem = template.expand(&Names {
                now: context.now,
                seed: plan.seed.0,
                // A picture alone may say what happens.
                prompt: match plan.prompt.trim() {
                    "" if mode.is_video() => "clip",
                    "" => "variation",
                    _ => &plan.prompt,
                },
                model: plan.model.id.as_str(),
                line: place.line.unwrap_or(0),
                copy: place.first_copy.saturating_add(copy).saturating_add(1),
                width: plan.size.width,
                height: plan.size.height,
                steps: plan.steps,
                batch: place.batch,
                name: place.list,
            });
            plan
        });
    Ok(Resolved {
        plans: plans.collect(),
        notes: check.notes,
    })
}

/// The model that a request without one gets.
pub fn default_model<'a>(models: &'a [Candidate], settings: &Settings) -> Option<&'a ModelId> {
    let is_usable = |candidate: &&Candidate| candidate.planned.is_some();
    let wanted = settings.default_model.as_ref();
    models
        .iter()
        .filter(is_usable)
        .find(|candidate| Some(&candidate.model.id) == wanted)
        .or_else(|| models.iter().find(is_usable))
        .map(|candidate| &candidate.model.id)
}

/// The model of a request that names none: the default one. Where a kind of result is asked for, the
/// first that can do all that is asked, those of the settings before others.
fn pick_model<'a>(request: &Request, context: &Context<'a>) -> Option<&'a ModelId> {
    if request.kind.is_none() {
        return default_model(context.models, context.settings);
    }
    let modes = given::wanted_modes(request);
    let can = |candidate: &&Candidate| {
        let known = &candidate.model.capabilities.modes;
        candidate.planned.is_some() && modes.iter().any(|mode| known.contains(mode))
    };
    let settings = context.settings;
    [&settings.clip_model, &settings.default_model]
        .into_iter()
        .flatten()
        .filter_map(|id| context.models.iter().find(|other| other.model.id == *id))
        .find(can)
        .or_else(|| context.models.iter().find(can))
        .map(|candidate| &candidate.model.id)
}

/// That nothing here can do what is asked.
fn no_model(request: &Request, context: &Context<'_>) -> Problem {
    if request.kind.is_none() {
        return Problem::new(
            Code::ModelNotInstalled,
            "no model is installed",
            "Put a model into the models folder, or reinstall the built-in one.",
        );
    }
    let modes = given::wanted_modes(request);
    let deed = modes.first().map_or("do that", |mode| mode.deed());
    let known: Vec<&str> = (context.models.iter())
        .filter(|other| {
            let known = &other.model.capabilities.modes;
            modes.iter().any(|mode| known.contains(mode))
        })
        .map(|other| other.model.name.as_str())
        .collect();
    let hint = match known.as_slice() {
        [] => "Add a model that can.".to_owned(),
        known => format!("Add one of these: {}.", known.join(", ")),
    };
    let message = format!("no model on this machine can {deed}");
    Problem::new(Code::ModelNotInstalled, message, hint)
}

/// The model of a request, and its files.
///
/// # Errors
/// There is none, or it cannot be used.
pub(crate) fn choose_model<'a>(
    request: &Request,
    context: &Context<'a>,
) -> Result<(&'a Model, &'a PlannedModel), Problem> {
    let asked = request.model.as_ref();
    let picked = match asked {
        Some(_) => None,
        None => pick_model(request, context),
    };
    let Some(id) = asked.or(picked) else {
        return Err(in_model(no_model(request, context)));
    };
    let found = context.models.iter().find(|found| found.model.id == *id);
    let Some(candidate) = found else {
        let names: Vec<&str> = context
            .models
            .iter()
            .map(|candidate| candidate.model.id.as_str())
            .collect();
        let hint = format!(
            "Models here: {}.{}",
            names.join(", "),
            did_you_mean(id.as_str(), names.iter().copied())
        );
        return Err(in_model(Problem::new(
            Code::UnknownModel,
            format!("there is no model called \"{id}\""),
            hint,
        )));
    };
    let model = &candidate.model;
    if let Some(fault) = &model.fault {
        return Err(in_model(Problem::new(
            Code::BadWeights,
            format!("{} cannot be used: {fault}", model.name),
            "Replace its files, or choose another model.",
        )));
    }
    match &candidate.planned {
        Some(planned) => Ok((model, planned)),
        None => Err(in_model(Problem::new(
            Code::ModelNotInstalled,
            format!("{} is not on this machine", model.name),
            "Put its files into the models folder, or choose another model.",
        ))),
    }
}

fn in_model(mut problem: Problem) -> Problem {
    problem.field = Some("model".to_owned());
    problem
}

pub(crate) mod draft;
mod given;

/// What was found while a request is checked.
struct Check {
    problems: Vec<Problem>,
    notes: Vec<Note>,
    line: Option<u32>,
}

impl Check {
    fn problem(&mut self, mut problem: Problem) {
        problem.line = problem.line.or(self.line);
        self.problems.push(problem);
    }

    fn refuse(&mut self, field: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.problem(Problem::in_field(field, message, hint));
    }

    fn note(&mut self, field: &str, message: String) {
        self.notes.push(Note {
            field: Some(field.to_owned()),
            line: self.line,
            message,
        });
    }

    /// The draft of a plan, which says what it leaves out.
    fn draft(&mut self, full: &Plan, model: &Model) -> Plan {
        let Some(draft) = draft::shrink(full, &model.capabilities) else {
            let message = "nothing can be made smaller for a draft: it is made in full".to_owned();
            self.note("draft", message);
            return full.clone();
        };
        let describe = |plan: &Plan| {
            let frames = plan.video.map(|video| format!(", {} frames", video.frames));
            format!(
                "{}×{}{}, {} steps",
                plan.size.width,
                plan.size.height,
                frames.unwrap_or_default(),
                plan.steps
            )
        };
        let message = format!("a draft: {}; in full {}", describe(&draft), describe(full));
        self.note("draft", message);
        draft
    }

    /// Says that what a draft is a draft of will not fit here.
    fn full_memory(&mut self, full: &Plan, context: &Context<'_>) {
        let needed = (context.memory_needed)(full);
        if let Some(available) = context.memory_available.filter(|bytes| *bytes < needed) {
            let message = format!(
                "in full it needs {} of memory, and this machine can give {}",
                format_bytes(needed),
                format_bytes(available)
            );
            self.note("draft", message);
        }
    }

    /// The texts with their choices; None: they cannot be read.
    fn texts(&mut self, request: &Request, context: &Context<'_>) -> Option<Texts> {
        let faults = match Texts::read(request, context.library) {
            Ok(texts) => return Some(texts),
            Err(faults) => faults,
        };
        for fault in faults {
            self.problem(fault.problem());
        }
        None
    }

    /// The words and the seed of every picture.
    fn pictures(
        &mut self,
        texts: &Texts,
        first: Seed,
        copies: u32,
        model: &Model,
        are_unmeasured: bool,
    ) -> Vec<(Words, Seed)> {
        let pictures = match texts.pictures(first, copies) {
            Ok(pictures) => pictures,
            Err(problem) => {
                self.problem(problem);
                return Vec::new();
            }
        };
        let can = &model.capabilities;
        if are_unmeasured {
            let found = self.problems.len();
            for (words, _) in &pictures {
                self.drawn(words, can.prompt_chars);
                if self.problems.len() > found {
                    break;
                }
            }
        }
        if let Some((words, _)) = pictures.first() {
            self.unread_marks(words, model);
        }
        pictures
    }

    /// What words that were drawn have to be like.
    fn drawn(&mut self, words: &Words, most: u32) {
        if words.prompt.trim().is_empty() {
            self.refuse(
                "prompt",
                "a combination of the prompt is empty",
                "Let every option say something, or put words around them.",
            );
        }
        for (field, name, text) in [
            ("prompt", "prompt", &words.prompt),
            ("negative_prompt", "negative prompt", &words.negative_prompt),
        ] {
            let length = text.chars().count();
            if length > most as usize {
                self.refuse(
                    field,
                    format!(
                        "a combination of the {name} has {length} characters; this model takes at \
                         most {most}"
                    ),
                    "Shorten its options, or pick fewer of them.",
                );
            }
            if text.contains('\0') {
                self.refuse(
                    field,
                    format!("a combination of the {name} contains a zero character"),
                    "Remove it from the wildcard.",
                );
            }
        }
    }

    /// Says that the model takes marks of the prompt for words.
    fn unread_marks(&mut self, words: &Words, model: &Model) {
        let can = &model.capabilities;
        for (field, text) in [
            ("prompt", &words.prompt),
            ("negative_prompt", &words.negative_prompt),
        ] {
            if !can.prompt_weights && kinora_prompts::has_weights(text) {
                let message = format!(
                    "{} reads parentheses as text: (word:1.2) does not weigh the word",
                    model.name
                );
                self.note(field, message);
            }
            if !can.prompt_schedule && kinora_prompts::PromptSchedule::parse(text).is_some() {
                let message = format!(
                    "{} reads square brackets as text: [a|b] does not change between steps",
                    model.name
                );
                self.note(field, message);
            }
        }
    }

    fn prompt(&mut self, prompt: &str, most: u32) {
        if prompt.trim().is_empty() {
            self.refuse("prompt", "the prompt is empty", "Say what to paint.");
        }
        self.text("prompt", "prompt", prompt, most);
    }

    fn text(&mut self, field: &str, name: &str, text: &str, most: u32) {
        let length = text.chars().count();
        // What a text with choices becomes is measured when it is drawn.
        if length > most as usize && kinora_prompts::is_plain(text) {
            self.refuse(
                field,
                format!("the {name} has {length} characters; this model takes at most {most}"),
                format!("Shorten it by {} characters.", length - most as usize),
            );
        }
        if text.contains('\0') {
            self.refuse(
                field,
                format!("the {name} contains a zero character"),
                "Remove it.",
            );
        }
    }

    /// The classifier-free guidance scale, which belongs to the negative prompt.
    fn negative_prompt(&mut self, request: &Request, model: &Model) -> Option<f32> {
        let can = &model.capabilities;
        let has_negative = !request.negative_prompt.trim().is_empty();
        let Some(range) = can.true_cfg else {
            if has_negative {
                self.refuse(
                    "negative_prompt",
                    format!("{} takes no negative prompt", model.name),
                    "Leave it empty, or choose a model that takes one.",
                );
            }
            if request.true_cfg.is_some() {
                self.refuse(
                    "true_cfg",
                    format!("{} has no classifier-free guidance", model.name),
                    "Leave it empty.",
                );
            }
            return None;
        };
        let name = "negative prompt";
        self.text(
            "negative_prompt",
            name,
            &request.negative_prompt,
            can.prompt_chars,
        );
        let scale = match request.true_cfg {
            Some(_) => Some(self.real_number("true_cfg", request.true_cfg, range, range.default)),
            None => (has_negative || can.cfg_always).then_some(range.default),
        };
        // A scale of 1 is the prompt alone: the second network call would change nothing.
        let scale = scale.filter(|scale| *scale > 1.0);
        if has_negative && scale.is_none() {
            self.note(
                "negative_prompt",
                "a scale of 1 or less switches the negative prompt off".to_owned(),
            );
        }
        scale
    }

    fn guidance(&mut self, request: &Request, model: &Model) -> Option<f32> {
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
    fn step_cache(
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
    fn size(&mut self, request: &Request, model: &Model, image: Option<&PlannedPicture>) -> Size {
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

    fn side(&mut self, field: &str, asked: u32, rule: &SizeRule) -> u32 {
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

    fn whole_number(
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

    fn real_number(
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

    fn copies(&mut self, asked: Option<u32>, range: IntRange, default: u32) -> u32 {
        self.whole_number("copies", asked, range, default)
    }

    fn choice<T: Copy + PartialEq + std::fmt::Debug>(
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

    fn template(&mut self, request: &Request, settings: &Settings) -> Option<Template> {
        let text = match request.output_name.as_deref().map(str::trim) {
            Some(text) if !text.is_empty() => text,
            _ => &settings.output_template,
        };
        match Template::parse(text) {
            Ok(template) => Some(template),
            Err(error) => {
                self.refuse(
                    "output_name",
                    format!("the naming template \"{text}\" cannot be used: {error}"),
                    "Use something like {date}/{prompt(50)}-{seed}; {{ and }} are plain braces.",
                );
                None
            }
        }
    }

    fn memory(&mut self, plan: &Plan, context: &Context<'_>) {
        let Some(available) = context.memory_available else {
            return;
        };
        let needed = (context.memory_needed)(plan);
        if needed > available {
            let fitting: Vec<&str> = context
                .models
                .iter()
                .filter_map(|candidate| candidate.planned.as_ref())
                .filter(|other| {
                    let same = Plan {
                        model: PlannedModel::clone(other),
                        ..plan.clone()
                    };
                    (context.memory_needed)(&same) <= available
                })
                .map(|other| other.id.as_str())
                .collect();
            let instead = if fitting.is_empty() {
                String::new()
            } else {
                format!(" These models fit: {}.", fitting.join(", "))
            };
            let mut problem = Problem::new(
                Code::OutOfMemory,
                format!(
                    "{} at {}×{} needs {} of memory, and this machine can give {}",
                    plan.model.name,
                    plan.size.width,
                    plan.size.height,
                    format_bytes(needed),
                    format_bytes(available)
                ),
                format!("Close other programs, or choose a smaller size.{instead}"),
            );
            problem.field = Some("model".to_owned());
            self.problem(problem);
        }
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

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
