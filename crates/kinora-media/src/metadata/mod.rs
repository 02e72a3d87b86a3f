//! Generation settings in pictures and clips: which texts a file carries ([`texts`]), which program wrote
//! them, and what they say, in one normalised form whatever the program. Reading never decodes a
//! pixel and never trusts a length.

mod comfyui;
mod infotext;
mod invokeai;
mod json;
mod json_forms;
mod request;
mod texts;
mod write;

use std::{collections::BTreeMap, fs::File, path::Path};

use kinora_core::{Recipe, Rng, Seed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use infotext::{Infotext, parse_infotext};
pub use texts::{Text, read_texts};
pub use write::write_infotext;
pub(crate) use write::{RECIPE_KEYWORD, embed, recipe_json};

use crate::error::{Error, Result};

/// The program whose way of writing settings a file follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Kinora's own recipe.
    Kinora,
    /// The infotext of AUTOMATIC1111's web UI, Forge, and the many that write it too.
    A1111,
    /// A ComfyUI graph.
    Comfyui,
    /// InvokeAI.
    Invokeai,
    /// SwarmUI.
    Swarmui,
    /// Fooocus and its relatives.
    Fooocus,
    /// NovelAI.
    Novelai,
    /// Easy Diffusion.
    EasyDiffusion,
    /// Wan2GP.
    Wan2gp,
    /// The file carries no settings, or none that Kinora understands.
    #[default]
    None,
}

/// A model as a file names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelHint {
    /// File or catalogue name as written.
    pub name: Option<String>,
    /// Hash as written, lower-case, without a prefix.
    pub hash: Option<String>,
    /// What the hash is of, where the file's kind tells: `autov1`, `autov2`, `autov3`, `blake3`,
    /// `sha256`.
    pub hash_kind: Option<String>,
}

/// A LoRA as a file names it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoraHint {
    /// Name as written.
    pub name: String,
    /// Strength; None: not told.
    pub weight: Option<f32>,
    /// Hash as written, lower-case, without a prefix.
    pub hash: Option<String>,
}

/// What a file says about how it was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// Who wrote the settings below.
    pub source: Source,
    /// What was painted.
    pub prompt: Option<String>,
    /// What was kept away from.
    pub negative_prompt: Option<String>,
    /// The main model.
    pub model: Option<ModelHint>,
    /// Pixels, as the settings say (the picture may have been enlarged since).
    pub width: Option<u32>,
    /// Pixels, as the settings say.
    pub height: Option<u32>,
    /// Denoising steps.
    pub steps: Option<u32>,
    /// Classifier-free guidance scale.
    pub cfg: Option<f32>,
    /// Distilled guidance, as FLUX.1-dev takes it.
    pub guidance: Option<f32>,
    /// Step rule in the program's own words.
    pub sampler: Option<String>,
    /// Spacing of the noise levels in the program's own words.
    pub scheduler: Option<String>,
    /// Seed.
    pub seed: Option<Seed>,
    /// Generator of the noise, where the program or the text tells.
    pub rng: Option<Rng>,
    /// LoRAs, from settings and prompt.
    pub loras: Vec<LoraHint>,
    /// Everything else that the settings say, flat, in the program's own words.
    pub settings: BTreeMap<String, String>,
    /// The texts as they stand in the file, by keyword.
    pub raw: BTreeMap<String, String>,
    /// Kinora's recipe, complete.
    pub recipe: Option<Box<Recipe>>,
    /// What could not be read or understood, for people.
    pub notes: Vec<String>,
}

impl Metadata {
    /// Takes over what `other` knows and this does not.
    fn fill_from(&mut self, other: Metadata) {
        macro_rules! fill {
            ($($field:ident)*) => { $(
                if self.$field.is_none() {
                    self.$field = other.$field;
                }
            )* };
        }
        fill!(prompt negative_prompt model width height steps cfg guidance sampler scheduler seed rng);
        if self.loras.is_empty() {
            self.loras = other.loras;
        }
    }

    fn set(&mut self, key: &str, value: impl Into<String>) {
        self.settings.insert(key.to_owned(), value.into());
    }
}

/// The longest text that is taken apart, in bytes. Longer ones are kept as they are: taken apart, a
/// text can occupy thirty times its length.
const MAX_UNDERSTOOD: usize = 16 << 20;

/// Reads the settings of a picture or a clip. A file without settings is no error: its [`Source`]
/// is `None`.
pub fn read_metadata(bytes: &[u8]) -> Result<Metadata> {
    let (texts, notes) = read_texts(bytes)?;
    Ok(understand(texts, notes))
}

/// Reads the settings of a clip on the disk, of which no more is read than its settings take. None:
/// the file is no clip, or one whose settings stand where a still picture's do.
///
/// # Errors
/// `Read` for what the disk says.
pub fn read_clip_metadata(path: &Path) -> Result<Option<Metadata>> {
    let found = File::open(path).and_then(|mut file| texts::read_clip_texts(&mut file));
    let found = found.map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(found.map(|(texts, notes)| understand(texts, notes)))
}

fn understand(texts: Vec<Text>, mut all: Vec<String>) -> Metadata {
    let (short, long): (Vec<Text>, Vec<Text>) = texts
        .into_iter()
        .partition(|text| text.value.len() <= MAX_UNDERSTOOD);
    let mut metadata = dispatch(&short);
    for text in &long {
        all.push(format!(
            "The text “{}” is too long to be understood.",
            text.key
        ));
    }
    all.append(&mut metadata.notes);
    metadata.notes = all;
    for text in short.into_iter().chain(long) {
        metadata.raw.entry(text.key).or_insert(text.value);
    }
    metadata
}

/// Reads settings that stand alone: an infotext, a recipe, or a graph, from a text file beside a
/// picture or from the clipboard.
pub fn read_settings_text(text: &str) -> Metadata {
    if text.len() > MAX_UNDERSTOOD {
        return Metadata {
            notes: vec!["The text is too long to be understood.".to_owned()],
            ..Metadata::default()
        };
    }
    let mut metadata = dispatch(&[Text::new("parameters", text, "text")]);
    if metadata.source == Source::None {
        metadata = dispatch(&[Text::new("prompt", text, "text")]);
    }
    metadata.raw.insert("text".to_owned(), text.to_owned());
    metadata
}

/// Decides who wrote the texts. Own recipe first; then the formats that name themselves; then the
/// infotext, which wins over a graph beside it (as on upload sites) and is completed from it.
fn dispatch(texts: &[Text]) -> Metadata {
    let get = |key: &str| {
        let is_key = |text: &&Text| text.key == key;
        texts.iter().find(is_key).map(|text| text.value.as_str())
    };
    if let Some(found) = get(RECIPE_KEYWORD).and_then(read_recipe) {
        return found;
    }
    let software = get("Software").unwrap_or_default();
    let candidates = [
        "parameters",
        "UserComment",
        "ImageDescription",
        "comment",
        "Comment",
        "Description",
    ];
    let graph = get("prompt").and_then(comfyui::read);
    let mut found = get("invokeai_metadata")
        .and_then(invokeai::read)
        .or_else(|| {
            (software == "NovelAI").then(|| get("Comment").and_then(json_forms::read_novelai))?
        })
        .or_else(|| {
            candidates
                .into_iter()
                .filter_map(get)
                .find_map(read_free_text)
        })
        .unwrap_or_default();
    match graph {
        Some(graph) if found.source == Source::None => found = graph,
        Some(graph) if found.source == Source::A1111 => {
            // The graph knows which generator drew the noise; the infotext beside it only copies.
            found.rng = graph.rng;
            found.fill_from(graph);
        }
        _ => {}
    }
    if found.source == Source::None {
        let pairs = texts
            .iter()
            .map(|text| (text.key.as_str(), text.value.as_str()));
        found = json_forms::read_easy_diffusion(pairs).unwrap_or_default();
    }
    found
}

/// A text whose keyword does not tell its form.
fn read_free_text(text: &str) -> Option<Metadata> {
    if !text.trim_start().starts_with('{') {
        return text.contains("Steps: ").then(|| infotext::read(text));
    }
    read_recipe(text)
        .or_else(|| json_forms::read(text))
        .or_else(|| {
            let object = json::parse_object(text)?;
            if let Some(prompt) = object.get("prompt").filter(|prompt| !prompt.is_string()) {
                return comfyui::read_value(prompt);
            }
            if let Some(serde_json::Value::String(prompt)) = object.get("prompt")
                && let Some(graph) = comfyui::read(prompt)
            {
                return Some(graph);
            }
            comfyui::read_value(&serde_json::Value::Object(object.clone()))
                .or_else(|| invokeai::read(text))
                .or_else(|| json_forms::read_plain(&object))
        })
}

/// Kinora's own recipe.
fn read_recipe(text: &str) -> Option<Metadata> {
    let recipe: Recipe = serde_json::from_str(text).ok()?;
    let plan = &recipe.plan;
    let main = plan
        .model
        .weights
        .iter()
        .find(|file| file.component == "transformer");
    let hash = main
        .or(plan.model.weights.first())
        .and_then(|file| file.sha256.clone());
    let mut metadata = Metadata {
        source: Source::Kinora,
        prompt: Some(plan.prompt.clone()),
        negative_prompt: (!plan.negative_prompt.is_empty()).then(|| plan.negative_prompt.clone()),
        model: Some(ModelHint {
            name: Some(plan.model.id.to_string()),
            hash_kind: hash.as_ref().map(|_| "sha256".to_owned()),
            hash,
        }),
        width: Some(plan.size.width),
        height: Some(plan.size.height),
        steps: Some(plan.steps),
        cfg: plan.true_cfg,
        guidance: plan.guidance,
        sampler: Some(json::name_of(&plan.sampler)),
        scheduler: Some(json::name_of(&plan.schedule)),
        seed: Some(plan.seed),
        rng: Some(plan.rng),
        ..Metadata::default()
    };
    metadata.set("Version", format!("Kinora {}", recipe.kinora));
    metadata.set("Device", recipe.device.clone());
    metadata.set("Number format", recipe.dtype.clone());
    metadata.set("Numerics", plan.numerics.clone());
    metadata.recipe = Some(Box::new(recipe));
    Some(metadata)
}
