//! Settings as one flat JSON object: SwarmUI, Fooocus and its relatives, NovelAI, Wan2GP,
//! Easy Diffusion. Each is a list of the keys under which it keeps what everybody has.

use serde_json::{Map, Value};

use super::{LoraHint, Metadata, ModelHint, Source, json};

type Object = Map<String, Value>;

/// Reads an object that names its program by its keys; None when it is none of them.
pub(super) fn read(text: &str) -> Option<Metadata> {
    let object = json::parse_object(text)?;
    if let Some(Value::Object(params)) = object.get("sui_image_params") {
        return Some(read_swarmui(params, &object));
    }
    let is_fooocus = ["fooocus_scheme", "base_model", "base_model_name"]
        .iter()
        .any(|key| object.contains_key(*key))
        || object
            .get("software")
            .and_then(Value::as_str)
            .is_some_and(|name| name.contains("Fooocus"));
    if is_fooocus {
        return Some(read_flat(&object, Source::Fooocus));
    }
    let is_wan2gp = object
        .get("type")
        .and_then(Value::as_str)
        .is_some_and(|name| name.starts_with("WanGP"));
    is_wan2gp.then(|| read_flat(&object, Source::Wan2gp))
}

/// Reads an object with a prompt in it whose program nothing tells.
pub(super) fn read_plain(object: &Object) -> Option<Metadata> {
    let metadata = read_flat(object, Source::Fooocus);
    (metadata.prompt.is_some() && (metadata.steps.is_some() || metadata.seed.is_some()))
        .then_some(metadata)
}

/// NovelAI's `Comment`.
pub(super) fn read_novelai(text: &str) -> Option<Metadata> {
    Some(read_flat(&json::parse_object(text)?, Source::Novelai))
}

/// Easy Diffusion spreads its settings over one text each.
pub(super) fn read_easy_diffusion<'a>(
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<Metadata> {
    let object: Object = pairs
        .filter(|(_, value)| value.len() <= 1 << 20)
        .map(|(key, value)| (key.to_owned(), Value::String(value.to_owned())))
        .collect();
    let prompt = object.get("prompt").or_else(|| object.get("Prompt"))?;
    if prompt
        .as_str()
        .is_some_and(|text| text.trim_start().starts_with('{'))
    {
        return None;
    }
    let metadata = read_flat(&object, Source::EasyDiffusion);
    (metadata.steps.is_some() || metadata.seed.is_some()).then_some(metadata)
}

fn read_swarmui(params: &Object, whole: &Object) -> Metadata {
    let mut metadata = read_flat(params, Source::Swarmui);
    // Hashes stand in a list beside the parameters: `{"name", "param", "hash": "0x…"}`.
    let models = whole.get("sui_models").and_then(Value::as_array);
    for entry in models.into_iter().flatten().take(256) {
        let text = |key: &str| entry.get(key).and_then(json::text);
        let (Some(name), Some(hash)) = (text("name"), text("hash")) else {
            continue;
        };
        let hash = hash.trim_start_matches("0x").to_lowercase();
        match text("param").as_deref() {
            Some("model") => {
                let model = metadata.model.get_or_insert_default();
                model.name.get_or_insert(name);
                model.hash = Some(hash);
                model.hash_kind = Some("autov3".to_owned());
            }
            Some("loras") => {
                if let Some(lora) = metadata
                    .loras
                    .iter_mut()
                    .find(|lora| same_stem(&lora.name, &name))
                {
                    lora.hash = Some(hash);
                }
            }
            _ => {}
        }
    }
    metadata
}

fn same_stem(a: &str, b: &str) -> bool {
    let stem = |name: &str| name.trim_end_matches(".safetensors").to_lowercase();
    stem(a) == stem(b)
}

/// What everybody has, under every name that it goes by.
fn read_flat(object: &Object, source: Source) -> Metadata {
    let mut used = Vec::new();
    macro_rules! take {
        ($read:path: $($key:literal)*) => {{
            let keys = [$($key),*];
            used.extend(keys);
            json::first(object, &keys, $read)
        }};
    }
    let mut metadata = Metadata {
        source,
        prompt: take!(json::text: "prompt" "Prompt"),
        negative_prompt: take!(json::text: "negativeprompt" "negative_prompt" "Negative" "Negative Prompt" "uc"),
        width: take!(json::whole: "width" "Width"),
        height: take!(json::whole: "height" "Height"),
        steps: take!(json::whole: "steps" "Steps" "num_inference_steps"),
        cfg: take!(json::float: "cfgscale" "cfg" "CFG" "cfg_scale" "guidance_scale" "Guidance Scale" "scale"),
        guidance: take!(json::float: "fluxguidancescale" "embedded_guidance_scale"),
        sampler: take!(json::text: "sampler" "sampler_name" "Sampler"),
        scheduler: take!(json::text: "scheduler" "Scheduler" "noise_schedule"),
        seed: take!(json::seed: "seed" "Seed"),
        ..Metadata::default()
    };
    let name = take!(json::text: "model" "base_model_name" "base_model" "Base Model" "use_stable_diffusion_model" "model_type");
    let hash = take!(json::text: "base_model_hash");
    if name.is_some() || hash.is_some() {
        let hash_kind = hash.as_ref().map(|_| "autov2".to_owned());
        metadata.model = Some(ModelHint {
            name,
            hash,
            hash_kind,
        });
    }
    let size = take!(json::text: "resolution" "Resolution");
    if metadata.width.is_none()
        && let Some((width, height)) = size.as_deref().and_then(json::size)
    {
        metadata.width = Some(width);
        metadata.height = Some(height);
    }
    metadata.loras = read_loras(object);
    for (key, value) in object
        .iter()
        .filter(|(key, _)| !used.contains(&key.as_str()))
    {
        if let Some(value) = json::text(value) {
            metadata.set(key, value);
        }
    }
    metadata
}

/// Names and weights in two lists (which may be comma strings), or pairs in one.
fn read_loras(object: &Object) -> Vec<LoraHint> {
    let list = |key: &str| match object.get(key) {
        Some(Value::Array(items)) => items.iter().take(256).cloned().collect(),
        Some(Value::String(text)) if !text.is_empty() => text
            .split(',')
            .take(256)
            .map(|item| Value::String(item.trim().to_owned()))
            .collect(),
        _ => Vec::new(),
    };
    let weights = list("loraweights");
    list("loras")
        .iter()
        .enumerate()
        .filter_map(|(index, item)| {
            let (name, weight, hash) = match item {
                Value::Array(parts) => (parts.first()?, parts.get(1), parts.get(2)),
                Value::Object(fields) => (
                    fields.get("name")?,
                    fields.get("weight"),
                    fields.get("hash"),
                ),
                name => (name, weights.get(index), None),
            };
            Some(LoraHint {
                name: json::text(name)?,
                weight: weight.and_then(json::float),
                hash: hash.and_then(json::text),
            })
        })
        .collect()
}
