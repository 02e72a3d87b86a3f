//! Key maps: under which names other layouts store the tensors of a network, as tables of pairs.
//!
//! Canonical are the names of the diffusers and transformers libraries. One table serves both ways:
//! opening a file ([`KeyMap::open`]) asks for the canonical names of stored tensors, and the names
//! of adapters ([`crate::lora`]) are looked up among both sides of it. Foreign names are known in
//! this folder only.

pub mod flux;
pub mod ldm_unet;
pub mod ldm_vae;
pub mod ltx;
pub mod ltx_vae;
pub mod text;
pub mod wan;
pub mod wan_vae;

use std::collections::{BTreeMap, HashMap};

use crate::{Result, WeightSet, view::Part, view::Source};

/// One line of a table: a module (everything up to the last dot of a tensor's name), or a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Canonical name.
    pub to: String,
    /// Name in the other layout.
    pub from: String,
    /// Which part of the stored tensor.
    pub part: Part,
}

/// The names of one network in another layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyMap {
    modules: Vec<Entry>,
    tensors: Vec<Entry>,
}

impl KeyMap {
    /// A module whose tensors have the same names and meaning in both layouts.
    pub fn module(&mut self, to: impl Into<String>, from: impl Into<String>) {
        self.module_part(to, from, Part::Whole);
    }

    /// A module whose tensors are parts of others.
    pub fn module_part(&mut self, to: impl Into<String>, from: impl Into<String>, part: Part) {
        let (to, from) = (to.into(), from.into());
        self.modules.push(Entry { to, from, part });
    }

    /// Modules that share one stored module, in equal parts.
    pub fn fused(&mut self, to: &[String], from: &str) {
        for (start, name) in to.iter().enumerate() {
            let (len, of) = (1, to.len());
            self.module_part(name, from, Part::Rows { start, len, of });
        }
    }

    /// One tensor, by full names.
    pub fn tensor(&mut self, to: impl Into<String>, from: impl Into<String>, part: Part) {
        let (to, from) = (to.into(), from.into());
        self.tensors.push(Entry { to, from, part });
    }

    /// The modules.
    pub fn modules(&self) -> &[Entry] {
        &self.modules
    }

    /// The single tensors.
    pub fn tensors(&self) -> &[Entry] {
        &self.tensors
    }

    /// A file's tensors below `prefix` under canonical names. Names that the table does not know
    /// are left out and told.
    pub fn open(&self, set: &WeightSet, prefix: &str) -> Result<Opened> {
        let mut index: HashMap<&str, Vec<&Entry>> = HashMap::new();
        for entry in &self.modules {
            index.entry(&entry.from).or_default().push(entry);
        }
        let tensors: BTreeMap<&str, Vec<&Entry>> =
            self.tensors.iter().fold(BTreeMap::new(), |mut map, entry| {
                map.entry(entry.from.as_str())
                    .or_insert_with(Vec::new)
                    .push(entry);
                map
            });
        let mut sources = Vec::new();
        let mut unknown = Vec::new();
        for (name, _) in set.tensors() {
            let Some(own) = name.strip_prefix(prefix) else {
                continue;
            };
            let source = |part| Source {
                name: name.to_owned(),
                part,
            };
            if let Some(entries) = tensors.get(own) {
                sources.extend(
                    entries
                        .iter()
                        .map(|entry| (entry.to.clone(), source(entry.part))),
                );
                continue;
            }
            match own
                .rsplit_once('.')
                .and_then(|(module, leaf)| Some((index.get(module)?, leaf)))
            {
                Some((entries, leaf)) => sources.extend(
                    entries
                        .iter()
                        .map(|entry| (format!("{}.{leaf}", entry.to), source(entry.part))),
                ),
                None => unknown.push(own.to_owned()),
            }
        }
        Ok(Opened {
            set: set.renamed(sources)?,
            unknown,
        })
    }
}

/// A file's tensors below `prefix` under the names that `rename` gives them. Names that it does not
/// know are left out and told.
pub(crate) fn open_by(
    set: &WeightSet,
    prefix: &str,
    rename: impl Fn(&str) -> Option<(String, Part)>,
) -> Result<Opened> {
    let mut sources = Vec::new();
    let mut unknown = Vec::new();
    for (name, _) in set.tensors() {
        let Some(own) = name.strip_prefix(prefix) else {
            continue;
        };
        match rename(own) {
            Some((to, part)) => sources.push((
                to,
                Source {
                    name: name.to_owned(),
                    part,
                },
            )),
            None => unknown.push(own.to_owned()),
        }
    }
    Ok(Opened {
        set: set.renamed(sources)?,
        unknown,
    })
}

/// A network's tensors under canonical names.
#[derive(Debug)]
pub struct Opened {
    /// The tensors.
    pub set: WeightSet,
    /// Stored names, without the prefix, that are no part of the network as it is known here.
    pub unknown: Vec<String>,
}

/// How many different numbers follow `prefix`, when they are 0, 1, 2 … without a gap.
pub(crate) fn count_blocks(set: &WeightSet, prefix: &str) -> usize {
    let mut numbers: Vec<usize> = set
        .tensors()
        .filter_map(|(name, _)| name.strip_prefix(prefix)?.split('.').next()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
        .iter()
        .enumerate()
        .take_while(|(index, number)| index == *number)
        .count()
}
