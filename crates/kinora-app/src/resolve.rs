//! A request becomes plans, in exactly this place: every default is filled in here, and every
//! "you cannot do that" is said here, from the model's
//! [`Capabilities`](kinora_core::Capabilities) alone.
//!
//! Not here: whether a session or asset exists (the use-cases), and what happens to a plan that
//! was accepted (the queue).

use std::collections::BTreeMap;

use jiff::Zoned;
use kinora_core::{
    Code, Model, ModelId, OutputPlan, PictureRef, Plan, PlannedLora, PlannedModel, PlannedPicture,
    Problem, Request, Seed,
    plan::{NUMERICS, PLAN_VERSION},
};

use crate::{bytes::format_bytes, jobs::Note, naming::Names, settings::Settings};

mod clip;
pub(crate) mod draft;
mod given;
mod models;
mod numbers;
mod words;

pub use models::default_model;

pub(crate) use models::choose_model;

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

#[cfg(test)]
pub(crate) mod fixtures;

#[cfg(test)]
mod tests;
