//! Settings out of pictures that were dropped in, whoever made them.
//! Not here: the formats themselves (kinora-media).

use std::collections::BTreeMap;

use kinora_core::{Expansion, Model, Recipe, Request, VideoOptions};
use kinora_media::{Metadata, Source};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    error::Result,
    jobs::Note,
    recipes,
    resolve::{Candidate, default_model},
};

/// What a picture says about how it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetadataReading {
    /// The program that wrote it.
    pub source: Source,
    /// The settings as a request that this Kinora understands.
    pub request: Option<Request>,
    /// The whole recipe, of Kinora's own pictures.
    pub recipe: Option<Recipe>,
    /// The texts of the file, by their keyword.
    pub raw: BTreeMap<String, String>,
    /// What could not be taken over.
    pub notes: Vec<Note>,
}

/// Reads the settings out of a picture file, and turns them into a request for the models here.
///
/// # Errors
/// `unsupported_file` when it is no picture.
pub fn read(app: &App, bytes: &[u8]) -> Result<MetadataReading> {
    let metadata = kinora_media::read_metadata(bytes)?;
    let candidates = app.catalogue().candidates();
    let default = default_model(&candidates, &app.settings()).cloned();
    let fallback = candidates
        .iter()
        .find(|found| Some(&found.model.id) == default.as_ref());
    Ok(interpret(metadata, &candidates, fallback))
}

/// The settings as a request; what the model at hand cannot do is left out and said.
fn interpret(
    metadata: Metadata,
    candidates: &[Candidate],
    fallback: Option<&Candidate>,
) -> MetadataReading {
    let mut notes: Vec<Note> = metadata
        .notes
        .iter()
        .map(|text| note(None, text.clone()))
        .collect();
    let mut reading = MetadataReading {
        source: metadata.source,
        request: None,
        recipe: metadata.recipe.map(|recipe| *recipe),
        raw: metadata.raw,
        notes: Vec::new(),
    };
    if metadata.source == Source::None {
        reading.notes = notes;
        return reading;
    }
    let named = metadata.model.as_ref().and_then(|hint| {
        let by_hash = hint
            .hash
            .as_deref()
            .and_then(|hash| find_by_hash(candidates, hash));
        by_hash.or_else(|| find_by_name(candidates, hint.name.as_deref()?))
    });
    let hint = metadata.model.as_ref();
    if named.is_none()
        && let Some(name) = hint.and_then(|hint| hint.name.as_deref())
    {
        let text = format!("the model \"{name}\" is not in the catalogue");
        notes.push(note(Some("model"), text));
    }
    let can = named
        .or(fallback)
        .map(|candidate| &candidate.model.capabilities);
    let mut request = Request {
        prompt: metadata.prompt.unwrap_or_default(),
        model: named.map(|candidate| candidate.model.id.clone()),
        width: metadata.width,
        height: metadata.height,
        steps: metadata.steps,
        seed: metadata.seed,
        rng: metadata.rng,
        ..Request::default()
    };
    let takes_guidance = can.is_some_and(|can| can.guidance.is_some());
    let takes_negative = can.is_some_and(|can| can.true_cfg.is_some());
    if takes_guidance {
        request.guidance = metadata.guidance;
    } else if metadata.guidance.is_some() {
        let text = "the model has no guidance".to_owned();
        notes.push(note(Some("guidance"), text));
    }
    let negative = metadata.negative_prompt;
    match negative.filter(|text| !text.trim().is_empty()) {
        Some(negative) if takes_negative => {
            request.negative_prompt = negative;
            request.true_cfg = metadata.cfg;
        }
        Some(_) => {
            let text = "the model takes no negative prompt".to_owned();
            notes.push(note(Some("negative_prompt"), text));
        }
        None => {}
    }
    // The words of a picture are drawn already; what looks like a choice was text.
    let is_literal = [&request.prompt, &request.negative_prompt]
        .into_iter()
        .all(|text| kinora_prompts::is_plain(text));
    if !is_literal {
        request.expansion = Some(Expansion::Off);
    }
    if let Some(recipe) = &reading.recipe {
        // Kinora's own recipe says more than the common form.
        request.true_cfg = recipe.plan.true_cfg.filter(|_| takes_negative);
        let can_reuse = can.is_some_and(|can| can.step_cache.is_some());
        request.step_cache = recipe.plan.step_cache.filter(|_| can_reuse);
        request.sampler = Some(recipe.plan.sampler);
        request.schedule = Some(recipe.plan.schedule);
        request.format = Some(recipe.plan.output.format);
        // A clip's length and rates; the picture that it ends with may not be here.
        request.video = VideoOptions {
            end_image: None,
            ..recipes::to_request(&recipe.plan, None).video
        };
        // Who asks anew wants what the draft was a draft of.
        if let Some(full) = recipe.plan.draft {
            (request.width, request.height) = (Some(full.size.width), Some(full.size.height));
            request.steps = Some(full.steps);
            request.video.frames = full.frames;
        }
    } else if let Some(sampler) = metadata.sampler
        && !sampler.eq_ignore_ascii_case("euler")
    {
        let text = format!("the sampler \"{sampler}\" is not available");
        notes.push(note(Some("sampler"), text));
    }
    for lora in metadata.loras {
        notes.push(note(
            None,
            format!("the LoRA \"{}\" is not used", lora.name),
        ));
    }
    reading.request = Some(request);
    reading.notes = notes;
    reading
}

fn note(field: Option<&str>, message: String) -> Note {
    Note {
        field: field.map(str::to_owned),
        line: None,
        message,
    }
}

/// The model one of whose files begins with that SHA-256; other programs write its first digits.
fn find_by_hash<'a>(candidates: &'a [Candidate], hash: &str) -> Option<&'a Candidate> {
    if hash.len() < 8 {
        return None;
    }
    candidates.iter().find(|candidate| {
        let planned = candidate.planned.iter();
        let mut hashes = planned
            .flat_map(|planned| &planned.weights)
            .filter_map(|file| file.sha256.as_deref());
        hashes.any(|sha256| sha256.starts_with(hash))
    })
}

/// The model that is called so, whatever the case, signs and file endings.
fn find_by_name<'a>(candidates: &'a [Candidate], name: &str) -> Option<&'a Candidate> {
    let plain = |text: &str| -> String {
        let stem = text.rsplit(['/', '\\']).next().unwrap_or(text);
        let stem = stem.strip_suffix(".safetensors").unwrap_or(stem);
        let letters = stem.chars().filter(|letter| letter.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let wanted = plain(name);
    let is_called =
        |model: &Model| plain(model.id.as_str()) == wanted || plain(&model.name) == wanted;
    candidates
        .iter()
        .find(|candidate| is_called(&candidate.model))
}

#[cfg(test)]
mod tests {
    use kinora_core::Seed;

    use super::*;
    use crate::resolve::fixtures::models;

    fn read_text(text: &str) -> MetadataReading {
        let models = models();
        let fallback = find_by_name(&models, "fast");
        interpret(kinora_media::read_settings_text(text), &models, fallback)
    }

    #[test]
    fn settings_of_another_program_become_a_request_for_the_models_here() {
        let text = "a fox\nNegative prompt: rain\nSteps: 20, Sampler: DPM++ 2M, CFG scale: 7, \
                    Seed: 42, Size: 512x768, Model: full";
        let reading = read_text(text);
        assert_eq!(reading.source, Source::A1111);
        let request = reading.request.unwrap();
        assert_eq!(request.prompt, "a fox");
        assert_eq!(request.expansion, None);
        let literal = read_text("a {red|blue} fox\nSteps: 20, Sampler: Euler");
        let expansion = literal.request.unwrap().expansion;
        assert_eq!(
            expansion,
            Some(Expansion::Off),
            "its words are drawn already"
        );
        assert_eq!(request.model.unwrap().as_str(), "full");
        assert_eq!((request.width, request.height), (Some(512), Some(768)));
        assert_eq!(request.seed, Some(Seed(42)));
        assert_eq!(request.negative_prompt, "rain");
        assert_eq!(request.true_cfg, Some(7.0));
        assert_eq!(reading.notes[0].field.as_deref(), Some("sampler"));
    }

    #[test]
    fn what_the_model_cannot_do_is_left_out_and_said() {
        let text = "a fox\nNegative prompt: rain\nSteps: 20, Sampler: Euler, CFG scale: 7, \
                    Seed: 42, Size: 512x768, Model: dreams-v9";
        let reading = read_text(text);
        let request = reading.request.unwrap();
        assert_eq!(request.model, None);
        assert_eq!(request.negative_prompt, "");
        let notes = reading.notes.iter();
        let fields: Vec<_> = notes.filter_map(|note| note.field.as_deref()).collect();
        assert_eq!(fields, ["model", "negative_prompt"]);
        let nothing = interpret(Metadata::default(), &models(), None);
        assert_eq!(nothing.request, None);
        assert!(find_by_hash(&models(), "0").is_none());
        assert!(find_by_name(&models(), "Models/FAST.safetensors").is_some());
    }
}
