//! Settings of a file as a request of Kinora's: what carries over, and in words what does not.

use std::ops::Range;

use kinora_core::{Request, Sampler, Schedule};

use super::{Metadata, Source, infotext};

impl Metadata {
    /// The request that comes nearest to the settings, and notes on what it leaves out. The model is
    /// set only from Kinora's own recipes; which entry of the catalogue another program's
    /// [`model`](Metadata::model) is, and which of the values it takes, is the caller's to decide.
    pub fn to_request(&self) -> (Request, Vec<String>) {
        let mut notes = self.notes.clone();
        if let Some(recipe) = &self.recipe {
            let plan = &recipe.plan;
            let request = Request {
                prompt: plan.prompt.clone(),
                negative_prompt: plan.negative_prompt.clone(),
                model: Some(plan.model.id.clone()),
                width: Some(plan.size.width),
                height: Some(plan.size.height),
                steps: Some(plan.steps),
                guidance: plan.guidance,
                true_cfg: plan.true_cfg,
                step_cache: plan.step_cache,
                seed: Some(plan.seed),
                rng: Some(plan.rng),
                sampler: Some(plan.sampler),
                schedule: Some(plan.schedule),
                format: Some(plan.output.format),
                ..Request::default()
            };
            return (request, notes);
        }
        let mut request = Request {
            prompt: self.prompt.clone().unwrap_or_default(),
            negative_prompt: self.negative_prompt.clone().unwrap_or_default(),
            width: self.width,
            height: self.height,
            steps: self.steps,
            guidance: self.guidance,
            // 1 is how other programs write "off".
            true_cfg: self.cfg.filter(|cfg| *cfg > 1.0),
            seed: self.seed,
            rng: self.rng,
            ..Request::default()
        };
        if self.source == Source::None {
            notes.push("The file carries no settings that Kinora understands.".to_owned());
            return (request, notes);
        }
        if let Some(name) = &self.sampler {
            match Sampler::from_name(name) {
                Some((sampler, schedule)) => {
                    (request.sampler, request.schedule) = (Some(sampler), schedule);
                }
                None => notes.push(format!(
                    "The sampler “{name}” is not known here; the model's own is used."
                )),
            }
        }
        if let Some(name) = &self.scheduler {
            match Schedule::from_name(name) {
                // What is left to the program is left to the model here.
                Some(Schedule::Automatic) => {}
                Some(schedule) => request.schedule = Some(schedule),
                None => notes.push(format!(
                    "The schedule “{name}” is not known here; the model's own is used."
                )),
            }
        }
        remove_network_tags(&mut request.prompt);
        if !self.loras.is_empty() {
            let names: Vec<&str> = self.loras.iter().map(|lora| lora.name.as_str()).collect();
            notes.push(format!("LoRAs are left out: {}.", names.join(", ")));
        }
        for (key, what) in [
            ("Hires upscale", "The enlarging second pass is left out."),
            (
                "Denoising strength",
                "The picture was made from another one, or in two passes; strength is left out.",
            ),
            ("Clip skip", "Clip skip is left out."),
            ("Variation seed", "The variation seed is left out."),
        ] {
            let is_set = self
                .settings
                .get(key)
                .is_some_and(|value| value != "1" && value != "1.0");
            if is_set {
                notes.push(what.to_owned());
            }
        }
        (request, notes)
    }
}

/// Takes `<lora:…>` and the like out of a prompt, in one pass.
fn remove_network_tags(prompt: &mut String) {
    let places: Vec<Range<usize>> = infotext::tags(prompt).map(|tag| tag.place).collect();
    if places.is_empty() {
        return;
    }
    let (mut kept, mut end) = (String::with_capacity(prompt.len()), 0);
    for place in places {
        // A tag may stand inside what another one took for its name.
        if place.start >= end {
            kept.push_str(&prompt[end..place.start]);
            end = place.end;
        }
    }
    kept.push_str(&prompt[end..]);
    *prompt = kept.trim().trim_end_matches(',').trim_end().to_owned();
}
