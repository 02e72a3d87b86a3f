//! InvokeAI's metadata: one JSON object, in which every key may be missing.

use kinora_core::Rng;
use serde_json::Value;

use super::{LoraHint, Metadata, ModelHint, Source, json};

/// Keys of which an object of InvokeAI's has at least one; none is used by the others.
const OWN_KEYS: [&str; 3] = ["positive_prompt", "generation_mode", "rand_device"];

/// Reads the object; None when it is not InvokeAI's.
pub(super) fn read(text: &str) -> Option<Metadata> {
    let object = json::parse_object(text)?;
    if !OWN_KEYS.iter().any(|key| object.contains_key(*key)) {
        return None;
    }
    let text = |key: &str| object.get(key).and_then(json::text);
    let join = |main: Option<String>, style: Option<String>| match (main, style) {
        (Some(main), Some(style)) if style != main => Some(format!("{main}\n{style}")),
        (main, style) => main.or(style),
    };
    let mut metadata = Metadata {
        source: Source::Invokeai,
        prompt: join(text("positive_prompt"), text("positive_style_prompt")),
        negative_prompt: join(text("negative_prompt"), text("negative_style_prompt")),
        model: object.get("model").map(model),
        width: object.get("width").and_then(json::whole),
        height: object.get("height").and_then(json::whole),
        steps: object.get("steps").and_then(json::whole),
        cfg: object.get("cfg_scale").and_then(json::float),
        guidance: object.get("guidance").and_then(json::float),
        sampler: text("scheduler"),
        seed: object.get("seed").and_then(json::seed),
        rng: match text("rand_device").as_deref() {
            Some("cpu") => Some(Rng::Cpu),
            Some("cuda") => Some(Rng::Cuda),
            _ => None,
        },
        ..Metadata::default()
    };
    let loras = object.get("loras").and_then(Value::as_array);
    metadata.loras = loras
        .into_iter()
        .flatten()
        .take(256)
        .filter_map(lora)
        .collect();
    const NORMALISED: [&str; 12] = [
        "positive_prompt",
        "negative_prompt",
        "model",
        "width",
        "height",
        "steps",
        "cfg_scale",
        "guidance",
        "scheduler",
        "seed",
        "rand_device",
        "loras",
    ];
    for (key, value) in object
        .iter()
        .filter(|(key, _)| !NORMALISED.contains(&key.as_str()))
    {
        let value = json::text(value).unwrap_or_else(|| value.to_string());
        if value != "null" {
            metadata.set(key, value);
        }
    }
    Some(metadata)
}

/// `{"name", "hash": "blake3:<hex>"}`, or just a name in old files.
fn model(value: &Value) -> ModelHint {
    let text = |key: &str| value.get(key).and_then(json::text);
    let hash = text("hash");
    let (kind, hash) = match hash.as_deref().and_then(|hash| hash.split_once(':')) {
        Some((kind, hash)) => (Some(kind.to_lowercase()), Some(hash.to_lowercase())),
        None => (None, hash.map(|hash| hash.to_lowercase())),
    };
    ModelHint {
        name: text("name")
            .or_else(|| text("model_name"))
            .or_else(|| json::text(value)),
        hash,
        hash_kind: kind,
    }
}

fn lora(value: &Value) -> Option<LoraHint> {
    let model = model(value.get("model").or_else(|| value.get("lora"))?);
    Some(LoraHint {
        name: model.name?,
        weight: value.get("weight").and_then(json::float),
        hash: model.hash,
    })
}
