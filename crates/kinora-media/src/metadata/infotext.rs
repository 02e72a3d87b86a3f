//! The infotext of AUTOMATIC1111's web UI: prompt, negative prompt, and one line of `Key: value`
//! pairs. Parsed as the web UI parses it, then with the quirks that other writers have added.

use std::{collections::BTreeMap, ops::Range};

use kinora_core::{Rng, Seed};

use super::{LoraHint, Metadata, ModelHint, Source, json};

/// Fewer pairs than this, and the last line belongs to the prompt.
const MIN_PAIRS: usize = 3;

/// How many brackets of a prompt are looked at.
const MAX_TAGS: usize = 1000;

/// What a reader assumes where the text says nothing, as the web UI does.
const DEFAULTS: [(&str, &str); 8] = [
    ("Clip skip", "1"),
    ("RNG", "GPU"),
    ("Schedule type", "Automatic"),
    ("Schedule max sigma", "0"),
    ("Schedule min sigma", "0"),
    ("Schedule rho", "0"),
    ("VAE Encoder", "Full"),
    ("VAE Decoder", "Full"),
];

/// An infotext taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Infotext {
    /// Lines in front of the negative prompt.
    pub prompt: String,
    /// Lines behind `Negative prompt:`.
    pub negative_prompt: String,
    /// The pairs as written, values unquoted; sizes come as `Size-1` and `Size-2`.
    pub settings: BTreeMap<String, String>,
    /// Raw JSON values that upload sites append: `Hashes`, `Civitai resources`, `Civitai metadata`.
    pub resources: BTreeMap<String, String>,
}

impl Infotext {
    /// A setting, or what the web UI assumes when it is missing.
    pub fn setting(&self, key: &str) -> Option<&str> {
        let default = || {
            DEFAULTS
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| *value)
        };
        self.settings.get(key).map(String::as_str).or_else(default)
    }
}

/// Takes an infotext apart. Every text is one: without a settings line, all of it is prompt.
pub fn parse_infotext(text: &str) -> Infotext {
    let text = text.trim();
    let text = text
        .strip_prefix("Parameters:")
        .unwrap_or(text)
        .trim_start();
    let unjammed = unjam(text);
    let text = unjammed.as_deref().unwrap_or(text);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();

    let mut infotext = Infotext::default();
    let at = settings_line(&lines);
    if let Some(at) = at {
        let line = take_resources(lines[at], &mut infotext.resources);
        for (key, value) in pairs(&line) {
            insert_pair(&mut infotext.settings, key, value);
        }
    }
    let mut is_negative = false;
    let (mut prompt, mut negative) = (Vec::new(), Vec::new());
    for line in &lines[..at.unwrap_or(lines.len())] {
        if let Some(rest) = line.strip_prefix("Negative prompt:") {
            is_negative = true;
            negative.push(rest.trim());
        } else if is_negative {
            negative.push(line);
        } else {
            prompt.push(*line);
        }
    }
    infotext.prompt = prompt.join("\n").trim().to_owned();
    infotext.negative_prompt = negative.join("\n").trim().to_owned();
    infotext
}

/// The line with the settings: the last one when it has enough pairs, `Steps` among them or not;
/// else the last one that starts with `Steps: ` (what follows it are templates of prompt plugins).
fn settings_line(lines: &[&str]) -> Option<usize> {
    let is_settings = |line: &str| pairs(line).len() >= MIN_PAIRS;
    let last = lines.len().checked_sub(1)?;
    let starting = lines
        .iter()
        .rposition(|line| line.starts_with("Steps: ") && is_settings(line));
    match starting {
        // A template behind the settings may read like pairs too, and is still a template.
        Some(at) if lines[at + 1..].iter().all(|line| is_appendix(line)) => Some(at),
        _ if is_settings(lines[last]) => Some(last),
        starting => starting,
    }
}

fn is_appendix(line: &str) -> bool {
    line.is_empty() || line.starts_with("Template:") || line.starts_with("Negative Template:")
}

/// Breaks a text that another program has written into one line back into its parts.
fn unjam(text: &str) -> Option<String> {
    if text.contains('\n') {
        return None;
    }
    let steps = text.find("Steps: ").filter(|at| *at > 0)?;
    let (words, settings) = text.split_at(steps);
    if pairs(settings).len() < MIN_PAIRS {
        return None;
    }
    let words = match words.split_once("Negative prompt:") {
        Some((prompt, negative)) => {
            let negative = negative.trim().trim_end_matches(',');
            format!(
                "{}\nNegative prompt: {negative}",
                prompt.trim().trim_end_matches(',')
            )
        }
        None => words.trim().trim_end_matches(',').to_owned(),
    };
    Some(format!("{words}\n{settings}"))
}

/// Cuts the values out of a settings line that are JSON without quotes around it.
fn take_resources(line: &str, resources: &mut BTreeMap<String, String>) -> String {
    let mut line = line.to_owned();
    for key in ["Hashes", "Civitai resources", "Civitai metadata"] {
        let head = format!("{key}: ");
        let Some(at) = line.find(&head) else {
            continue;
        };
        let value = &line[at + head.len()..];
        let Some(length) = balanced_length(value) else {
            continue;
        };
        resources.insert(key.to_owned(), value[..length].to_owned());
        let end = at + head.len() + length;
        let after = line[end..]
            .trim_start()
            .trim_start_matches(',')
            .trim_start()
            .to_owned();
        let before = line[..at].trim_end().trim_end_matches(',');
        line = match (before.is_empty(), after.is_empty()) {
            (false, false) => format!("{before}, {after}"),
            _ => format!("{before}{after}"),
        };
    }
    line
}

/// The length of the JSON object or list that a text starts with.
fn balanced_length(text: &str) -> Option<usize> {
    let (mut depth, mut is_in_string, mut is_escaped) = (0usize, false, false);
    if !text.starts_with(['{', '[']) {
        return None;
    }
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_string => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            b'{' | b'[' if !is_in_string => depth += 1,
            b'}' | b']' if !is_in_string => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The pairs of a line, found as the expression
/// `\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)` finds them from left to right. In linear
/// time: a run of key characters that does not end in a colon cannot hold a key at all.
fn pairs(line: &str) -> Vec<(&str, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let is_key = |c: char| is_word(c) || " -/".contains(c);
    let mut pairs = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find(is_word) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_key(c)).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        // A key has two characters or more.
        let Some(value) = after
            .strip_prefix(':')
            .filter(|_| key.chars().nth(1).is_some())
        else {
            rest = match after.chars().next() {
                Some(c) => &after[c.len_utf8()..],
                None => break,
            };
            continue;
        };
        let value = value.trim_start();
        let length = quoted_length(value)
            .filter(|length| matches!(value[*length..].chars().next(), None | Some(',')))
            .unwrap_or_else(|| value.find(',').unwrap_or(value.len()));
        pairs.push((key, &value[..length]));
        rest = value[length..].strip_prefix(',').unwrap_or("");
    }
    pairs
}

/// The length of the double-quoted string, not empty, that a text starts with.
fn quoted_length(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return (at > 1).then_some(at + 1).filter(|_| text.starts_with('"')),
            _ => {}
        }
    }
    None
}

fn insert_pair(settings: &mut BTreeMap<String, String>, key: &str, value: &str) {
    let value = if value.starts_with('"') && value.ends_with('"') {
        serde_json::from_str(value).unwrap_or_else(|_| value.to_owned())
    } else {
        value.to_owned()
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((width, height)) = value.split_once('x')
        && is_digits(width)
        && is_digits(height)
    {
        settings.insert(format!("{key}-1"), width.to_owned());
        settings.insert(format!("{key}-2"), height.to_owned());
    } else {
        settings.insert(key.to_owned(), value);
    }
}

/// An infotext in the normalised form.
pub(super) fn read(text: &str) -> Metadata {
    let infotext = parse_infotext(text);
    let get = |key: &str| infotext.settings.get(key).map(|value| value.trim());
    let number = |key: &str| {
        get(key)
            .and_then(|value| value.parse::<f32>().ok())
            .filter(|n| n.is_finite())
    };
    let whole = |key: &str| get(key).and_then(|value| value.parse::<u32>().ok());
    let model_hash = get("Model hash")
        .filter(|hash| !hash.is_empty())
        .map(str::to_lowercase);
    let model = ModelHint {
        name: get("Model")
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
        // Ten digits are the start of the file's SHA-256; eight are the web UI's older hash.
        hash_kind: model_hash
            .as_ref()
            .map(|hash| if hash.len() == 8 { "autov1" } else { "autov2" }.to_owned()),
        hash: model_hash,
    };
    let mut metadata = Metadata {
        source: Source::A1111,
        prompt: Some(infotext.prompt.clone()),
        negative_prompt: (!infotext.negative_prompt.is_empty())
            .then(|| infotext.negative_prompt.clone()),
        model: (model != ModelHint::default()).then_some(model),
        width: whole("Size-1"),
        height: whole("Size-2"),
        steps: whole("Steps"),
        cfg: number("CFG scale"),
        guidance: number("Distilled CFG Scale").or_else(|| number("Distilled CFG scale")),
        sampler: get("Sampler").map(str::to_owned),
        scheduler: get("Schedule type").map(str::to_owned),
        seed: get("Seed")
            .and_then(|seed| seed.parse::<u64>().ok())
            .map(Seed),
        rng: Some(match infotext.setting("RNG") {
            Some("CPU") => Rng::Cpu,
            _ => Rng::Cuda,
        }),
        loras: loras(&infotext),
        ..Metadata::default()
    };
    for (key, _) in DEFAULTS {
        if let Some(value) = infotext.setting(key) {
            metadata.set(key, value);
        }
    }
    if infotext.settings.contains_key("Hires upscale") {
        metadata
            .settings
            .entry("Hires sampler".to_owned())
            .or_insert("Use same sampler".to_owned());
    }
    metadata.settings.extend(infotext.settings.clone());
    metadata.settings.extend(infotext.resources);
    metadata
}

/// The LoRAs that the prompt calls, with the hashes that the settings give, and those that only an
/// upload site's list names.
fn loras(infotext: &Infotext) -> Vec<LoraHint> {
    let mut hashes = BTreeMap::new();
    if let Some(list) = infotext.settings.get("Lora hashes") {
        let entries = list.split(',').filter_map(|entry| entry.split_once(':'));
        hashes.extend(
            entries.map(|(name, hash)| (name.trim().to_owned(), hash.trim().to_lowercase())),
        );
    }
    if let Some(object) = infotext
        .resources
        .get("Hashes")
        .and_then(|text| json::parse_object(text))
    {
        for (key, hash) in &object {
            if let (Some(name), Some(hash)) = (key.strip_prefix("lora:"), hash.as_str()) {
                hashes.entry(name.to_owned()).or_insert(hash.to_lowercase());
            }
        }
    }
    let mut loras: Vec<LoraHint> = tags(&infotext.prompt)
        .map(|tag| LoraHint {
            name: tag.name.to_owned(),
            weight: tag.weight,
            hash: hashes.remove(tag.name),
        })
        .collect();
    loras.extend(hashes.into_iter().map(|(name, hash)| LoraHint {
        name,
        weight: None,
        hash: Some(hash),
    }));
    loras
}

/// A network that a prompt calls: `<lora:…>`, `<lyco:…>`, `<hypernet:…>`.
pub(super) struct NetworkTag<'a> {
    /// Where the whole tag stands, in bytes.
    pub place: Range<usize>,
    pub name: &'a str,
    pub weight: Option<f32>,
}

/// The networks that a prompt calls.
pub(super) fn tags(prompt: &str) -> impl Iterator<Item = NetworkTag<'_>> {
    // Prompts call some networks by short names; without limits, many open brackets would each look
    // for an end.
    prompt
        .match_indices('<')
        .take(MAX_TAGS)
        .filter_map(|(at, _)| {
            let window = &prompt[at..];
            let end = window.char_indices().take(300).find(|(_, c)| *c == '>')?.0;
            let mut parts = window[1..end].split(':');
            let is_network = matches!(parts.next(), Some("lora" | "lyco" | "hypernet"));
            let name = parts.next().filter(|name| is_network && !name.is_empty())?;
            Some(NetworkTag {
                place: at..at + end + 1,
                name,
                weight: parts.next().and_then(|weight| weight.trim().parse().ok()),
            })
        })
}
