//! What a user asked for, before anything is decided.

use std::{collections::BTreeMap, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AssetKind, Expert, FileFormat, ModelId, PictureRef, Priority, Rng, Sampler, Schedule, Seed,
    SessionId, VideoOptions,
};

/// An adapter file that is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraRequest {
    /// Path below the folder of LoRA files, with `/` between its parts; its ending may be left out.
    pub name: String,
    /// 1 is as it was trained, 0 nothing; negative weights take away.
    #[serde(default = "one")]
    pub weight: f32,
    /// The network that it changes, where a model has two. None: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expert: Option<Expert>,
}

fn one() -> f32 {
    1.0
}

/// Why a text names no LoRA.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name with a weight, such as style:0.8 or style:0.8:high")]
pub struct BadLora(String);

/// `style`, `style:0.8`, `style:0.8:high`, `style:low`.
impl FromStr for LoraRequest {
    type Err = BadLora;

    fn from_str(text: &str) -> Result<Self, BadLora> {
        let bad = || BadLora(text.chars().take(80).collect());
        let cut = |text: &str, expert: Expert| {
            let (rest, last) = text.rsplit_once(':')?;
            (last.trim() == expert.name()).then(|| (rest.to_owned(), Some(expert)))
        };
        let (rest, expert) = cut(text, Expert::High)
            .or_else(|| cut(text, Expert::Low))
            .unwrap_or_else(|| (text.to_owned(), None));
        let (name, weight) = match rest.rsplit_once(':') {
            Some((name, weight)) => (name, weight.trim().parse().map_err(|_| bad())?),
            None => (rest.as_str(), 1.0),
        };
        let name = name.trim();
        if name.is_empty() || !f32::is_finite(weight) {
            return Err(bad());
        }
        Ok(Self {
            name: name.to_owned(),
            weight,
            expert,
        })
    }
}

/// A picture besides the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageRequest {
    /// Which.
    pub image: PictureRef,
    /// How much it counts. None: as much as the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
}

/// What becomes of the choices in a prompt: `{a|b}`, wildcards and the like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expansion {
    /// Each picture draws its own words, from its own seed.
    #[default]
    Random,
    /// One picture for each combination, all with the same seeds.
    Combinations,
    /// Nothing: braces and tags are text.
    Off,
}

/// A request for pictures. Everything but the prompt may be left out; `resolve` fills it in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// What to paint.
    pub prompt: String,
    /// What becomes of choices in it and in the negative prompt. None: drawn at random.
    pub expansion: Option<Expansion>,
    /// What to keep away from, for models that can.
    pub negative_prompt: String,
    /// The picture to start from, to edit, to make variations of, or to begin a clip with.
    pub image: Option<PictureRef>,
    /// Further pictures, for models that take several.
    pub more_images: Vec<ImageRequest>,
    /// What of that picture is painted anew: white is, black stays.
    pub mask: Option<PictureRef>,
    /// How much of the run is taken, above 0 up to 1: at 1 little is left of the picture. Of
    /// variations, how much the picture counts: 1 is as usual.
    pub strength: Option<f32>,
    /// Files of adapters, each with a weight.
    pub loras: Vec<LoraRequest>,
    /// What only clips have.
    pub video: VideoOptions,
    /// A small and fast try first: fewer pixels, steps and frames than these numbers say. What was
    /// asked is kept with it, so that it can be made full.
    pub draft: bool,
    /// A picture or a clip. None: whatever the model makes.
    pub kind: Option<AssetKind>,
    /// None: the settings' default model, or for clips their model for clips, else the first that
    /// is here and can do what is asked.
    pub model: Option<ModelId>,
    /// Files to take for parts of the model instead of its own, by the part's name: `vae`,
    /// `text_encoder`. Names as `models_components` lists them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<String, String>,
    /// Pixels.
    pub width: Option<u32>,
    /// Pixels.
    pub height: Option<u32>,
    /// Denoising steps.
    pub steps: Option<u32>,
    /// Distilled guidance.
    pub guidance: Option<f32>,
    /// Classifier-free guidance scale against the negative prompt.
    pub true_cfg: Option<f32>,
    /// Reuses most of an earlier step where the first block differs from it by no more than this
    /// share: faster, and a little different. 0 and None: every step is computed in full.
    pub step_cache: Option<f32>,
    /// None: a random one, written into the plan. Copies count upwards from it.
    pub seed: Option<Seed>,
    /// Which generator the noise comes from.
    pub rng: Option<Rng>,
    /// Pictures of this prompt.
    pub copies: Option<u32>,
    /// Step rule.
    pub sampler: Option<Sampler>,
    /// Spacing of the noise levels.
    pub schedule: Option<Schedule>,
    /// Naming template for the files, such as `{date}_{seed}_{prompt}`. None: that of the settings.
    pub output_name: Option<String>,
    /// File format. None: that of the settings.
    pub format: Option<FileFormat>,
    /// Before or after other work.
    pub priority: Option<Priority>,
    /// Session that the results belong to.
    pub session: Option<SessionId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lora_is_written_with_its_weight_and_its_expert() {
        let read = |text: &str| text.parse::<LoraRequest>().ok();
        let lora = |name: &str, weight, expert| {
            Some(LoraRequest {
                name: name.to_owned(),
                weight,
                expert,
            })
        };
        assert_eq!(read("style"), lora("style", 1.0, None));
        assert_eq!(read("a/b v1.0: -0.8"), lora("a/b v1.0", -0.8, None));
        assert_eq!(read("x:0.5:high"), lora("x", 0.5, Some(Expert::High)));
        assert_eq!(read("x:low"), lora("x", 1.0, Some(Expert::Low)));
        for text in [
            "", ":1", "x:", "x:much", "x:1:mid", "x:nan", "x:inf", ":high",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
