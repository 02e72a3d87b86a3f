//! Adapters: LoRA and its relatives in every layout that people have, bound to the layers of a model.
//!
//! [`LoraFile::open`] reads a header and tells family and ranks. [`LoraFile::bind`] looks every layer
//! up among the names of a model ([`LoraTargets`]) and gives [`Patch`]es with a [`LoraReport`];
//! nothing is left out silently. The arithmetic on the weights is not here.

mod bind;
mod guess;
mod key;
mod layer;
mod patch;
mod targets;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use kinora_core::Expert;
use serde_json::Value;

use crate::{Base, Error, Result, WeightSet};
use key::{Key, Piece};

pub use bind::{LoraBinding, LoraReport, Unmatched};
pub use key::LoraComponent;
pub use patch::{Factor, Patch, PatchKind};
pub use targets::LoraTargets;

/// Key of the header under which newer writers keep the configuration of their adapters.
const CONFIGURATION: &str = "lora_adapter_metadata";

/// An adapter file: its header was read and its names understood.
#[derive(Debug)]
pub struct LoraFile {
    set: WeightSet,
    keys: Vec<(String, Key)>,
    /// Names that end like no adapter's.
    others: Vec<String>,
    base: Option<Base>,
}

/// Whether a file holds an adapter.
pub fn is_adapter(set: &WeightSet) -> bool {
    set.tensors()
        .any(|(name, _)| key::parse(name).is_some_and(|key| key.piece != Piece::Alpha))
}

impl LoraFile {
    /// Opens a file. Refused when it is no adapter.
    pub fn open(path: &Path) -> Result<Self> {
        let set = WeightSet::open_file(path)?;
        let mut keys = Vec::new();
        let mut others = Vec::new();
        for (name, _) in set.tensors() {
            match key::parse_ia3(name, |name| set.has(name)).or_else(|| key::parse(name)) {
                Some(key) => keys.push((name.to_owned(), key)),
                None => others.push(name.to_owned()),
            }
        }
        if !is_adapter(&set) {
            return Err(Error::unsupported(
                path,
                "none of its tensors is named like one of a LoRA or another adapter; it may be a \
                 model",
            ));
        }
        let shapes: Vec<(Key, &[usize])> = keys
            .iter()
            .map(|(name, key)| (key.clone(), set.shape(name).unwrap_or_default()))
            .collect();
        let base = guess::guess(&shapes, &file_name(path));
        Ok(Self {
            keys,
            others,
            base,
            set,
        })
    }

    /// The file's tensors.
    pub fn set(&self) -> &WeightSet {
        &self.set
    }

    /// The family that it was trained for, by its names and shapes.
    pub fn base(&self) -> Option<Base> {
        self.base
    }

    /// Tensors in the file.
    pub fn key_count(&self) -> usize {
        self.keys.len() + self.others.len()
    }

    /// Ranks of its layers, ascending.
    pub fn ranks(&self) -> Vec<usize> {
        let ranks: BTreeSet<usize> = self
            .keys
            .iter()
            .filter_map(|(name, key)| {
                let dim = match key.piece {
                    Piece::Down | Piece::HadaW1B | Piece::LokrW2B => 0,
                    Piece::LokrW1B | Piece::GloraA2 | Piece::GloraB2 => 0,
                    _ => return None,
                };
                self.set.shape(name)?.get(dim).copied()
            })
            .collect();
        ranks.into_iter().collect()
    }

    /// Components that it changes.
    pub fn components(&self) -> Vec<LoraComponent> {
        let components: BTreeSet<_> = self.keys.iter().map(|(_, key)| key.component).collect();
        components.into_iter().collect()
    }

    /// Which expert of Wan 2.2 its name speaks of: `high_noise`, `highnoise`, or `high` as its last
    /// word or before a version. `high_contrast` speaks of something else.
    pub fn expert(&self) -> Option<Expert> {
        let is_wan = matches!(self.base, None | Some(Base::Wan21 | Base::Wan22));
        let name = file_name(self.set.path());
        let stem = name
            .rsplit_once('.')
            .map_or(name.as_str(), |(stem, _)| stem);
        let words: Vec<&str> = stem
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        let is_version = |word: &str| {
            let digits = word.strip_prefix('v').unwrap_or(word);
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        let speaks_of = |level: &str| {
            (0..words.len()).any(|i| {
                let next = words.get(i + 1);
                words[i] == format!("{level}noise")
                    || words[i] == level
                        && next.is_none_or(|next| {
                            matches!(*next, "noise" | "model" | "lora") || is_version(next)
                        })
            })
        };
        match (speaks_of("high"), speaks_of("low")) {
            (true, false) if is_wan => Some(Expert::High),
            (false, true) if is_wan => Some(Expert::Low),
            _ => None,
        }
    }

    /// Alphas that the header keeps, by component and flattened layer; the empty layer stands for
    /// all that are not listed.
    fn stored_alphas(&self) -> BTreeMap<(LoraComponent, String), f64> {
        let mut alphas = BTreeMap::new();
        let text = self.set.metadata().get(CONFIGURATION);
        let Some(Value::Object(fields)) = text.and_then(|text| serde_json::from_str(text).ok())
        else {
            return alphas;
        };
        for (field, value) in &fields {
            // `transformer.lora_alpha`, `text_encoder.alpha_pattern` …
            let (component, name) = match field.rsplit_once('.') {
                Some((component, name)) => (key::split_prefix(&format!("{component}.")).0, name),
                None => (LoraComponent::Denoiser, field.as_str()),
            };
            match (name, value) {
                ("lora_alpha", value) => {
                    if let Some(alpha) = value.as_f64() {
                        alphas.insert((component, String::new()), alpha);
                    }
                }
                ("alpha_pattern", Value::Object(layers)) => {
                    for (layer, alpha) in layers {
                        if let Some(alpha) = alpha.as_f64() {
                            alphas.insert((component, key::flatten_layer(component, layer)), alpha);
                        }
                    }
                }
                _ => {}
            }
        }
        alphas
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase()
}
