//! ComfyUI's API graph (`{"<id>": {"class_type", "inputs"}}`): found by walking upstream from the
//! sampler, whatever custom nodes stand between. A graph is hostile: it may be cyclic, deep, or name
//! nodes that are not there. Running graphs is not here.

use std::{cell::Cell, collections::HashSet};

use kinora_core::{Rng, Seed};
use serde_json::{Map, Value};

use super::{LoraHint, Metadata, ModelHint, Source, json};

/// How many links one walk follows.
const MAX_DEPTH: usize = 64;
/// How many nodes the walks through conditionings and texts visit together: these branch, so depth
/// alone bounds nothing.
const MAX_VISITS: usize = 4096;
/// How many outputs, and how many samplers in a row, are looked at.
const MAX_TRIES: usize = 64;
/// How much prompt text is put together, in bytes.
const MAX_PROMPT: usize = 128 << 10;

/// Reads a graph from text; None when the text is none.
pub(super) fn read(text: &str) -> Option<Metadata> {
    if !text.trim_start().starts_with(['{', '"']) {
        return None;
    }
    read_value(&json::parse(text)?)
}

/// Reads a graph; None when the value is none.
pub(super) fn read_value(value: &Value) -> Option<Metadata> {
    // What a client posts has the graph one level down.
    let object = value.as_object()?;
    let nodes = match object.get("prompt") {
        Some(Value::Object(inner)) => inner,
        _ => object,
    };
    let is_graph = nodes
        .values()
        .any(|node| node.get("class_type").is_some_and(Value::is_string));
    let visits = Cell::new(0);
    is_graph.then(|| Graph { nodes, visits }.read())
}

struct Graph<'a> {
    nodes: &'a Map<String, Value>,
    visits: Cell<usize>,
}

#[derive(Clone, Copy)]
struct Node<'a> {
    id: &'a str,
    class: &'a str,
    inputs: &'a Map<String, Value>,
}

/// A text that came together from several nodes, and the guidance met on the way.
#[derive(Default)]
struct Conditioning {
    texts: Vec<String>,
    guidance: Option<f32>,
}

impl<'a> Graph<'a> {
    fn node(&self, id: &str) -> Option<Node<'a>> {
        let (id, node) = self.nodes.get_key_value(id)?;
        Some(Node {
            id,
            class: node.get("class_type")?.as_str()?,
            inputs: node.get("inputs")?.as_object()?,
        })
    }

    /// The node and slot that an input is linked to.
    fn linked(&self, node: Node<'a>, input: &str) -> Option<(Node<'a>, u64)> {
        self.follow(node.inputs.get(input)?)
    }

    fn follow(&self, value: &Value) -> Option<(Node<'a>, u64)> {
        let [id, slot] = value.as_array()?.as_slice() else {
            return None;
        };
        let slot = slot.as_u64()?;
        let node = match id {
            Value::String(id) => self.node(id)?,
            Value::Number(id) => self.node(&id.to_string())?,
            _ => return None,
        };
        Some((node, slot))
    }

    /// A scalar input, or the value of the primitive node that it is linked to.
    fn value(&self, node: Node<'a>, input: &str) -> Option<&'a Value> {
        let mut value = node.inputs.get(input)?;
        for _ in 0..MAX_DEPTH {
            if !value.is_array() {
                return Some(value);
            }
            let (next, _) = self.follow(value)?;
            const KEYS: [&str; 10] = [
                "value",
                "seed",
                "noise_seed",
                "int",
                "float",
                "number",
                "Number",
                "Value",
                "a",
                "input",
            ];
            value = KEYS.iter().find_map(|key| next.inputs.get(*key))?;
        }
        None
    }

    fn read(&self) -> Metadata {
        let mut metadata = Metadata {
            source: Source::Comfyui,
            rng: Some(Rng::Cpu),
            ..Metadata::default()
        };
        let Some(last) = self.last_sampler() else {
            metadata
                .notes
                .push("The ComfyUI graph has no sampler that Kinora knows.".to_owned());
            self.read_texts_without_sampler(&mut metadata);
            return metadata;
        };
        let (sampler, passes) = self.first_pass(last);
        if passes > 1 {
            metadata.notes.push(format!(
                "The graph samples {passes} times in a row; the settings are those of the first pass."
            ));
        }
        self.read_sampler(sampler, &mut metadata);
        self.read_prompts(sampler, &mut metadata);
        self.read_size(sampler, &mut metadata);
        self.read_models(sampler, &mut metadata);
        metadata
    }

    /// The sampler nearest to an output, else the one with the lowest id.
    fn last_sampler(&self) -> Option<Node<'a>> {
        let mut all: Vec<Node<'a>> = self.nodes.keys().filter_map(|id| self.node(id)).collect();
        all.sort_by_key(|node| (node.id.parse::<u64>().unwrap_or(u64::MAX), node.id));
        let outputs = all.iter().filter(|node| {
            node.class.starts_with("Save")
                || node.class.starts_with("Preview")
                || node.class.contains("VideoCombine")
        });
        for output in outputs.take(MAX_TRIES) {
            let inputs = ["images", "image", "video"];
            if let Some(found) = inputs.iter().find_map(|input| {
                let start = self.linked(*output, input)?.0;
                self.find_upstream(
                    start,
                    &[
                        "samples",
                        "latent",
                        "latents",
                        "image",
                        "images",
                        "pixels",
                        "latent_image",
                    ],
                )
            }) {
                return Some(found);
            }
        }
        all.into_iter().find(|node| is_sampler(*node))
    }

    /// The first sampler on the way upstream through any of some inputs, starting with a node itself.
    fn find_upstream(&self, start: Node<'a>, inputs: &[&str]) -> Option<Node<'a>> {
        let mut node = start;
        let mut seen = HashSet::new();
        while seen.insert(node.id) && seen.len() <= MAX_VISITS {
            if is_sampler(node) {
                return Some(node);
            }
            node = inputs.iter().find_map(|input| self.linked(node, input))?.0;
        }
        None
    }

    /// Follows the latents back to the sampler that started from noise; also how many there are.
    fn first_pass(&self, last: Node<'a>) -> (Node<'a>, usize) {
        let (mut sampler, mut seen) = (last, HashSet::from([last.id]));
        loop {
            let before = ["latent_image", "latent", "samples"]
                .iter()
                .find_map(|input| {
                    let start = self.linked(sampler, input)?.0;
                    self.find_upstream(
                        start,
                        &[
                            "samples",
                            "latent",
                            "latents",
                            "latent_image",
                            "pixels",
                            "image",
                            "images",
                        ],
                    )
                });
            match before {
                Some(node) if seen.len() < MAX_TRIES && seen.insert(node.id) => sampler = node,
                _ => return (sampler, seen.len()),
            }
        }
    }

    fn read_sampler(&self, node: Node<'a>, metadata: &mut Metadata) {
        let seed = ["seed", "noise_seed"]
            .iter()
            .find_map(|key| json::seed(self.value(node, key)?));
        metadata.seed = seed.or_else(|| self.linked_seed(node));
        metadata.steps = self.value(node, "steps").and_then(json::whole);
        metadata.cfg = self.value(node, "cfg").and_then(json::float);
        metadata.sampler = self.value(node, "sampler_name").and_then(json::text);
        metadata.scheduler = self.value(node, "scheduler").and_then(json::text);
        if let Some(denoise) = self.value(node, "denoise").and_then(json::text) {
            metadata.set("Denoising strength", denoise);
        }
        // The custom samplers take each of these from a node of its own.
        if let Some((guider, _)) = self.linked(node, "guider") {
            let scale = ["cfg", "cfg_conds"]
                .iter()
                .find_map(|key| self.value(guider, key));
            metadata.cfg = scale.and_then(json::float).or(metadata.cfg);
        }
        if let Some((select, _)) = self.linked(node, "sampler") {
            metadata.sampler = self
                .value(select, "sampler_name")
                .and_then(json::text)
                .or_else(|| {
                    // `SamplerEulerAncestral` and its like name the rule in their class.
                    select.class.strip_prefix("Sampler").map(str::to_lowercase)
                });
        }
        let mut seen = HashSet::new();
        let mut sigmas = self.linked(node, "sigmas").map(|(node, _)| node);
        while let Some(schedule) = sigmas.filter(|node| seen.insert(node.id)) {
            metadata.steps = metadata
                .steps
                .or_else(|| self.value(schedule, "steps").and_then(json::whole));
            metadata.scheduler = metadata
                .scheduler
                .take()
                .or_else(|| self.value(schedule, "scheduler").and_then(json::text));
            sigmas = self.linked(schedule, "sigmas").map(|(node, _)| node);
        }
    }

    fn linked_seed(&self, node: Node<'a>) -> Option<Seed> {
        let (noise, _) = self.linked(node, "noise")?;
        ["noise_seed", "seed"]
            .iter()
            .find_map(|key| json::seed(self.value(noise, key)?))
    }

    fn read_prompts(&self, sampler: Node<'a>, metadata: &mut Metadata) {
        let guider = self
            .linked(sampler, "guider")
            .map_or(sampler, |(guider, _)| guider);
        let positive = ["positive", "conditioning", "cond1", "conds"];
        let mut found = Conditioning::default();
        if let Some((node, slot)) = positive.iter().find_map(|input| self.linked(guider, input)) {
            self.collect_text(node, slot, 0, &mut found);
        }
        metadata.guidance = found.guidance;
        metadata.prompt = Some(found.texts.join("\n")).filter(|text| !text.is_empty());
        let mut found = Conditioning::default();
        if let Some((node, slot)) = self.linked(guider, "negative") {
            self.collect_text(node, slot, 0, &mut found);
        }
        metadata.negative_prompt = Some(found.texts.join("\n")).filter(|text| !text.is_empty());
    }

    /// Adds the prompts that a conditioning is made of. `slot` tells which output is wanted of nodes
    /// that pass a positive and a negative side through.
    fn collect_text(&self, node: Node<'a>, slot: u64, depth: usize, found: &mut Conditioning) {
        if !self.may_visit(depth) {
            return;
        }
        // Its output is zeros, whatever stands in front of it.
        if node.class == "ConditioningZeroOut" {
            return;
        }
        if let Some(guidance) = self.value(node, "guidance").and_then(json::float) {
            found.guidance = found.guidance.or(Some(guidance));
        }
        let mut texts: Vec<String> = Vec::new();
        for key in [
            "text",
            "t5xxl",
            "clip_l",
            "clip_g",
            "text_g",
            "text_l",
            "prompt",
            "text1",
            "positive_prompt",
        ] {
            let text = node
                .inputs
                .get(key)
                .and_then(|value| self.string(value, depth));
            if let Some(text) = text.filter(|text| !texts.contains(text)) {
                texts.push(text);
            }
        }
        if !texts.is_empty() {
            for text in texts {
                let length: usize = found.texts.iter().map(String::len).sum();
                if length + text.len() <= MAX_PROMPT && !found.texts.contains(&text) {
                    found.texts.push(text);
                }
            }
            return;
        }
        let sides = if node.inputs.contains_key("negative") && slot == 1 {
            &["negative"][..]
        } else {
            &["positive"][..]
        };
        let names = [
            "conditioning",
            "conditioning_1",
            "conditioning_2",
            "conditioning_to",
            "conditioning_from",
            "cond",
            "cond1",
            "cond2",
        ];
        for input in sides.iter().chain(&names) {
            if let Some((next, slot)) = self.linked(node, input) {
                self.collect_text(next, slot, depth + 1, found);
            }
        }
    }

    /// Counts one visit of a branching walk; false once it has to end.
    fn may_visit(&self, depth: usize) -> bool {
        self.visits.set(self.visits.get() + 1);
        depth <= MAX_DEPTH && self.visits.get() <= MAX_VISITS
    }

    /// A text input: written in place, or put together by text nodes.
    fn string(&self, value: &Value, depth: usize) -> Option<String> {
        if !self.may_visit(depth) {
            return None;
        }
        if let Value::String(text) = value {
            return (!text.trim().is_empty() && text.len() <= MAX_PROMPT).then(|| text.clone());
        }
        let (node, _) = self.follow(value)?;
        let part = |key: &str| {
            let value = node.inputs.get(key)?;
            self.string(value, depth + 1)
        };
        if node.inputs.contains_key("string_a") {
            let delimiter = node
                .inputs
                .get("delimiter")
                .and_then(Value::as_str)
                .unwrap_or("");
            let sides: Vec<String> = ["string_a", "string_b"]
                .into_iter()
                .filter_map(part)
                .collect();
            let joined = sides.join(delimiter);
            return (!joined.is_empty() && joined.len() <= MAX_PROMPT).then_some(joined);
        }
        [
            "text",
            "string",
            "value",
            "prompt",
            "positive",
            "String",
            "Text",
            "result",
            "wildcard_text",
        ]
        .into_iter()
        .find_map(part)
    }

    fn read_size(&self, sampler: Node<'a>, metadata: &mut Metadata) {
        let mut node = ["latent_image", "latent", "samples"]
            .iter()
            .find_map(|input| self.linked(sampler, input));
        let mut seen = HashSet::new();
        while let Some((current, _)) = node.filter(|(node, _)| seen.insert(node.id)) {
            if current.class.starts_with("VAEEncode") {
                metadata.notes.push(
                    "The graph starts from another picture, which the file does not carry."
                        .to_owned(),
                );
                return;
            }
            let side = |key: &str| self.value(current, key).and_then(json::whole);
            if let (Some(width), Some(height)) = (side("width"), side("height")) {
                metadata.width = Some(width);
                metadata.height = Some(height);
                return;
            }
            node = ["samples", "latent", "latents", "latent_image"]
                .iter()
                .find_map(|input| self.linked(current, input));
        }
    }

    /// Walks the model's wire up to its loader, and takes the LoRAs on the way.
    fn read_models(&self, sampler: Node<'a>, metadata: &mut Metadata) {
        let guider = self
            .linked(sampler, "guider")
            .map_or(sampler, |(guider, _)| guider);
        let mut node = self.linked(guider, "model").map(|(node, _)| node);
        let mut seen = HashSet::new();
        while let Some(current) =
            node.filter(|node| seen.insert(node.id) && seen.len() < MAX_VISITS)
        {
            if let Some(name) = self.value(current, "lora_name").and_then(json::text) {
                let strength = ["strength_model", "strength"]
                    .iter()
                    .find_map(|key| self.value(current, key));
                let weight = strength.and_then(json::float);
                if weight != Some(0.0) {
                    metadata.loras.push(LoraHint {
                        name,
                        weight,
                        hash: None,
                    });
                }
            }
            let name = [
                "ckpt_name",
                "unet_name",
                "model_name",
                "model_path",
                "base_ckpt_name",
            ]
            .iter()
            .find_map(|key| self.value(current, key).and_then(json::text));
            if name.is_some() {
                metadata.model = Some(ModelHint {
                    name,
                    ..ModelHint::default()
                });
                break;
            }
            node = ["model", "unet", "model1"]
                .iter()
                .find_map(|input| self.linked(current, input))
                .map(|(node, _)| node);
        }
        metadata.loras.reverse();
    }

    /// Graphs of unknown samplers still show their prompts.
    fn read_texts_without_sampler(&self, metadata: &mut Metadata) {
        let encoders = self
            .nodes
            .keys()
            .filter_map(|id| self.node(id))
            .filter(|node| node.class.starts_with("CLIPTextEncode"));
        let mut found = Conditioning::default();
        if let Some(node) = encoders.min_by_key(|node| node.id.parse::<u64>().unwrap_or(u64::MAX)) {
            self.collect_text(node, 0, 0, &mut found);
        }
        metadata.prompt = found.texts.into_iter().next();
    }
}

/// Whether a node turns noise into latents. Custom samplers are known by what goes into them.
fn is_sampler(node: Node<'_>) -> bool {
    let has = |key: &str| node.inputs.contains_key(key);
    let is_known = matches!(
        node.class,
        "KSampler"
            | "KSamplerAdvanced"
            | "SamplerCustom"
            | "SamplerCustomAdvanced"
            | "KSampler (Efficient)"
    );
    is_known
        || node.class.contains("Sampler")
            && has("positive")
            && (has("seed") || has("noise_seed") || has("noise"))
        || has("guider") && has("noise") && has("sigmas")
}
