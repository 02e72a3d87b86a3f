//! The catalogue: entries brought together with what lies in the folders.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use kinora_core::{
    Capabilities, Family, Model, ModelId, ModelSource, Plan, PlannedModel, WeightFile,
};
use kinora_weights::{
    HashCache, PartSources, Recognised, RunSize, memory::Estimate, read_file_bounded,
    recognise_with,
};

use crate::{
    entry::{Entry, defaults_of},
    fault::Fault,
    folders::{Candidate, Folders, list_shelf},
    merge::read_entries,
};

/// The entries that come with the program.
const BUILT_IN: &str = include_str!("../../../models.toml");

/// What entries of models for few steps are tagged with, and what the names of such files contain.
const DISTILLED: &str = "distilled";

/// A catalogue file is never larger.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Why a model cannot become part of a plan. Reads well after "failed to".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such entry.
    #[error("find the model {0}: it is not in the catalogue")]
    UnknownModel(ModelId),
    /// Its files are not on this machine.
    #[error("use the model {0}: its files are not on this machine")]
    NotInstalled(ModelId),
    /// Its files are there and cannot be used.
    #[error("use the model {id}: {fault}")]
    Faulty {
        /// Which.
        id: ModelId,
        /// Why.
        fault: String,
    },
    /// The model has no such part, or it cannot be replaced.
    #[error("choose a file for {part} of {id}: it has no such part to choose for")]
    UnknownPart {
        /// Which model.
        id: ModelId,
        /// The part's name.
        part: String,
        /// The names of its parts.
        known: Vec<&'static str>,
    },
    /// No file of that name is there, or several are.
    #[error("choose {name:?} for {part}: {reason}")]
    UnknownFile {
        /// The part's name.
        part: String,
        /// The name that was asked for.
        name: String,
        /// What is wrong with it.
        reason: String,
        /// Names that fit.
        choices: Vec<String>,
    },
}

/// A model, and its files where they are usable.
#[derive(Debug)]
struct Item {
    model: Model,
    layout: Option<Recognised>,
}

/// All models that this installation knows.
#[derive(Debug)]
pub struct Catalogue {
    folders: Folders,
    items: Vec<Item>,
    faults: Vec<Fault>,
    /// What models may take for parts that they lack.
    pub(crate) sources: PartSources,
    /// The folders that were looked through.
    pub(crate) searched: Vec<PathBuf>,
}

impl Catalogue {
    /// Reads the entries and looks through the folders. What is wrong with one file or model is
    /// told by [`Catalogue::faults`] or by the model's own fault, and does not keep the others away.
    pub fn load(folders: Folders) -> Self {
        let (files, mut faults) = read_files(&folders);
        let files = files
            .iter()
            .map(|(path, text)| (path.as_path(), text.as_str()));
        let read = read_entries(files);
        faults.extend(read.faults);
        let mut catalogue = Self {
            folders,
            items: Vec::new(),
            faults,
            sources: PartSources::default(),
            searched: Vec::new(),
        };
        catalogue.look(&read.entries);
        catalogue
    }

    /// Reads everything again: models may have come or gone.
    pub fn reload(&mut self) {
        *self = Self::load(std::mem::take(&mut self.folders));
    }

    /// Every model: entries in the order of the files, then what else was found.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.items.iter().map(|item| &item.model)
    }

    /// One model.
    pub fn model(&self, id: &ModelId) -> Option<&Model> {
        self.item(id).map(|item| &item.model)
    }

    /// The files of an installed model.
    pub fn layout(&self, id: &ModelId) -> Option<&Recognised> {
        self.item(id)?.layout.as_ref()
    }

    /// What is wrong with files that belong to no model of the list.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The model as a plan names it, with the hashes of its weight files as far as they are known.
    pub fn plan(&self, id: &ModelId, hashes: &HashCache) -> Result<PlannedModel, Error> {
        let item = self
            .item(id)
            .ok_or_else(|| Error::UnknownModel(id.clone()))?;
        let Some(layout) = &item.layout else {
            return Err(match item.model.fault.clone() {
                Some(fault) => Error::Faulty {
                    id: id.clone(),
                    fault,
                },
                None => Error::NotInstalled(id.clone()),
            });
        };
        Ok(describe(&item.model, layout, hashes))
    }

    /// What a plan needs, when so many pictures like it go through the network together and one
    /// number of an activation has so many bytes (4 on the processor, 2 on a GPU). None: the model
    /// is not installed.
    pub fn estimate(&self, plan: &Plan, batch: usize, bytes_per_number: u64) -> Option<Estimate> {
        let layout = self.layout(&plan.model.id)?;
        let estimate = layout.estimate(RunSize {
            size: (plan.size.width, plan.size.height),
            frames: plan.video.map_or(1, |video| video.frames),
            seen_frames: plan.video.map_or(1, |video| video.seen_frames()),
            fps: plan.video.map_or(1, |video| video.fps),
            text_tokens: plan.text_tokens as usize,
            batch,
            bytes_per_number,
            kept_passes: plan.kept_passes(),
        });
        // Chosen parts may be larger or smaller than the model's own.
        let sum = |files: &[WeightFile]| -> u64 {
            (files.iter()).fold(0, |sum, file| sum.saturating_add(file.bytes))
        };
        let weights = match plan.model.components.is_empty() {
            true => estimate.weights,
            false => (estimate.weights)
                .saturating_add(sum(&plan.model.weights))
                .saturating_sub(sum(layout.weights())),
        };
        Some(Estimate {
            weights,
            ..estimate
        })
    }

    /// The files of models that have two denoisers.
    pub(crate) fn denoisers(&self) -> impl Iterator<Item = PathBuf> {
        let layouts = self.items.iter().filter_map(|item| item.layout.as_ref());
        layouts.flat_map(|layout| {
            let weights = layout.weights().iter();
            weights
                .filter(move |file| {
                    layout.family() == Family::Wan && file.component.starts_with("transformer")
                })
                .map(move |file| layout.weight_path(file))
        })
    }

    fn item(&self, id: &ModelId) -> Option<&Item> {
        self.items.iter().find(|item| item.model.id == *id)
    }

    fn look(&mut self, entries: &[Entry]) {
        let shelf = list_shelf(&self.folders);
        self.sources.shelf = shelf.parts;
        self.searched = shelf.folders;
        self.faults.extend(shelf.faults);
        let mut taken = BTreeSet::new();
        for entry in entries {
            let root = self.find_root(entry, &shelf.candidates);
            taken.extend(root.iter().cloned());
            self.items
                .push(open_entry(entry, root.as_deref(), &self.sources));
        }
        for candidate in shelf.candidates {
            if !taken.insert(candidate.path.clone()) {
                continue;
            }
            match recognise_with(&candidate.path, &self.sources) {
                // The two halves of a pair lead to the same model.
                Ok(layout) if self.holds(&layout) => {}
                Ok(layout) => self.add_found(&candidate.name, layout, entries),
                Err(_) if candidate.repo.is_some() => {}
                Err(error) => {
                    let fault = Fault::new(candidate.path, format!("failed to {error}"));
                    self.faults.push(fault);
                }
            }
        }
        let strays = shelf.strays.into_iter();
        self.faults
            .extend(strays.map(|(path, reason)| Fault::new(path, reason)));
    }

    /// Whether a model of the very same files is listed already.
    fn holds(&self, layout: &Recognised) -> bool {
        let files = |layout: &Recognised| -> BTreeSet<PathBuf> {
            let weights = layout.weights().iter();
            weights.map(|file| layout.weight_path(file)).collect()
        };
        let own = files(layout);
        (self.items.iter())
            .filter_map(|item| item.layout.as_ref())
            .any(|known| files(known) == own)
    }

    /// Where an entry's files lie, if they are there.
    fn find_root(&self, entry: &Entry, candidates: &[Candidate]) -> Option<PathBuf> {
        if let Some(path) = &entry.path {
            return path.exists().then(|| path.clone());
        }
        if entry.built_in {
            let folder = self.folders.starter.as_ref()?;
            let mut paths = entry.folders.iter().map(|name| folder.join(name));
            return paths.find(|path| path.is_dir());
        }
        let is_own = |candidate: &&Candidate| match &candidate.repo {
            Some(repo) => entry.repo.as_ref() == Some(repo),
            None => entry
                .folders
                .iter()
                .any(|name| name.eq_ignore_ascii_case(&candidate.name)),
        };
        let found = candidates.iter().find(is_own)?;
        Some(found.path.clone())
    }

    /// Adds a model that no entry speaks of: it can do what its family's entry of the same variant
    /// can.
    fn add_found(&mut self, name: &str, layout: Recognised, entries: &[Entry]) {
        let alike = |entry: &&Entry| {
            !entry.built_in && entry.family == layout.family() && entry.variant == layout.variant()
        };
        // Distilled weights look like any others: only their name tells them apart.
        let is_distilled = name.to_lowercase().contains(DISTILLED);
        let mut best = entries.iter().filter(alike);
        let best = best.find(|entry| entry.tags.iter().any(|tag| tag == DISTILLED) == is_distilled);
        let Some(like) = best.or_else(|| entries.iter().find(alike)) else {
            let reason = format!(
                "no entry of the catalogue tells what {} {} can do",
                layout.family().title(),
                layout.variant()
            );
            self.faults.push(Fault::new(layout.root(), reason));
            return;
        };
        let mut model = like.to_model();
        model.id = self.free_id(name);
        model.name = name.to_owned();
        model.source = ModelSource::Folder;
        model.description = format!(
            "{} {}, found in a model folder.",
            layout.family().title(),
            layout.variant()
        );
        model.category = "specialized".to_owned();
        model.tags = Vec::new();
        model.approval_url = None;
        model.example_prompts = Vec::new();
        install(&mut model, &layout);
        self.items.push(Item {
            model,
            layout: Some(layout),
        });
    }

    /// An id made of a name, with a number behind it when the id is taken.
    fn free_id(&self, name: &str) -> ModelId {
        let slug = slug(name);
        (1..)
            .map(|number| match number {
                1 => ModelId::new(slug.clone()),
                _ => ModelId::new(format!("{slug}-{number}")),
            })
            .find(|id| self.item(id).is_none())
            .unwrap_or_else(|| ModelId::new(slug.clone()))
    }
}

/// The files of entries, the program's own first.
fn read_files(folders: &Folders) -> (Vec<(PathBuf, String)>, Vec<Fault>) {
    let mut files = vec![(PathBuf::from("models.toml (built in)"), BUILT_IN.to_owned())];
    let mut faults = Vec::new();
    if let Some(path) = &folders.user_file
        && path.exists()
    {
        match read_text(path) {
            Ok(text) => files.push((path.clone(), text)),
            Err(reason) => faults.push(Fault::new(path, reason)),
        }
    }
    (files, faults)
}

fn read_text(path: &Path) -> Result<String, String> {
    let bytes =
        read_file_bounded(path, MAX_FILE_BYTES).map_err(|error| format!("failed to {error}"))?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}

/// A model as plans name it, with hashes as far as they are known.
pub(crate) fn describe(model: &Model, layout: &Recognised, hashes: &HashCache) -> PlannedModel {
    let mut weights = layout.weights().to_vec();
    for file in &mut weights {
        file.sha256 = hashes.get(&layout.weight_path(file)).map(str::to_owned);
    }
    PlannedModel {
        id: model.id.clone(),
        name: model.name.clone(),
        family: layout.family(),
        variant: layout.variant().to_owned(),
        root: layout.root().to_owned(),
        weights,
        components: BTreeMap::new(),
        parts: layout.elsewhere().clone(),
    }
}

fn open_entry(entry: &Entry, root: Option<&Path>, sources: &PartSources) -> Item {
    let mut model = entry.to_model();
    let layout = root.and_then(|root| match recognise_with(root, sources) {
        Ok(layout) => match find_mismatch(entry, &layout) {
            None => Some(layout),
            Some(reason) => {
                model.fault = Some(reason);
                None
            }
        },
        Err(error) => {
            model.fault = Some(format!("failed to {error}"));
            None
        }
    });
    if let Some(layout) = &layout {
        install(&mut model, layout);
    }
    Item { model, layout }
}

/// What an entry promises and its files do not keep.
fn find_mismatch(entry: &Entry, layout: &Recognised) -> Option<String> {
    let title = |family: Family, variant: &str| format!("{} {variant}", family.title());
    let (said, found) = (
        title(entry.family, &entry.variant),
        title(layout.family(), layout.variant()),
    );
    if said != found {
        return Some(format!("the files are {found}, the catalogue says {said}"));
    }
    let takes_guidance = match layout {
        Recognised::Pictures(layout) => layout
            .flux()
            .is_some_and(|parts| parts.transformer.has_guidance),
        Recognised::Wan(_) | Recognised::Ltx(_) | Recognised::Ltx2(_) => false,
    };
    if entry.capabilities.guidance.is_some() != takes_guidance {
        let what = if takes_guidance {
            "takes"
        } else {
            "does not take"
        };
        return Some(format!(
            "the network {what} a guidance value, the catalogue says otherwise"
        ));
    }
    None
}

/// What the files tell goes over what was announced.
fn install(model: &mut Model, layout: &Recognised) {
    model.is_installed = true;
    model.bytes = layout.weights().iter().map(|file| file.bytes).sum();
    model.memory_bytes = layout.total_bytes();
    // How it is stored tells why it is smaller, and a little coarser, than others like it.
    model.tags.extend(layout.quantised_as());
    fit(&mut model.capabilities, layout);
    model.defaults = defaults_of(&model.capabilities);
}

/// Sizes become multiples of what the VAE and the packing of latents ask for, and prompts no longer
/// than the text encoder was made for.
fn fit(capabilities: &mut Capabilities, layout: &Recognised) {
    let multiple = layout.size_step();
    let size = &mut capabilities.size;
    if !size.multiple.is_multiple_of(multiple) {
        size.multiple = multiple.max(size.multiple).next_multiple_of(multiple);
        let (min, max) = (
            size.min.next_multiple_of(size.multiple),
            (size.max / size.multiple * size.multiple).max(size.multiple),
        );
        (size.min, size.max) = (min.min(max), max);
        let round = |side: u32| {
            let nearest = (side + size.multiple / 2) / size.multiple * size.multiple;
            nearest.clamp(min.min(max), max)
        };
        size.default.width = round(size.default.width);
        size.default.height = round(size.default.height);
        for preset in &mut size.presets {
            preset.width = round(preset.width);
            preset.height = round(preset.height);
        }
    }
    if let Some(max) = layout.max_text_tokens() {
        capabilities.text_tokens = capabilities.text_tokens.min(max as u32);
    }
}

/// Small letters, digits and single hyphens.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for character in name.chars().flat_map(char::to_lowercase) {
        if character.is_ascii_alphanumeric() || character == '.' || character == '_' {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() == 60 {
            break;
        }
    }
    let slug = slug.trim_matches(['-', '.']);
    if slug.is_empty() {
        "model".to_owned()
    } else {
        slug.to_owned()
    }
}
