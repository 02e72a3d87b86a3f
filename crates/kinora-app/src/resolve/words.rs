//! The words of a request: prompts with their choices, what a negative prompt asks for, names of files.

use kinora_core::{Model, Request, Seed};

use super::{Check, Context};
use crate::{
    naming::Template,
    prompts::{Texts, Words},
    settings::Settings,
};

impl Check {
    /// The texts with their choices; None: they cannot be read.
    pub(super) fn texts(&mut self, request: &Request, context: &Context<'_>) -> Option<Texts> {
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
    pub(super) fn pictures(
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
    pub(super) fn drawn(&mut self, words: &Words, most: u32) {
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
    pub(super) fn unread_marks(&mut self, words: &Words, model: &Model) {
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

    pub(super) fn prompt(&mut self, prompt: &str, most: u32) {
        if prompt.trim().is_empty() {
            self.refuse("prompt", "the prompt is empty", "Say what to paint.");
        }
        self.text("prompt", "prompt", prompt, most);
    }

    pub(super) fn text(&mut self, field: &str, name: &str, text: &str, most: u32) {
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
    pub(super) fn negative_prompt(&mut self, request: &Request, model: &Model) -> Option<f32> {
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

    pub(super) fn template(&mut self, request: &Request, settings: &Settings) -> Option<Template> {
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
}
