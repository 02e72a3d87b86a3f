//! Files that can stand for parts of a model: which there are, and a plan with those that were chosen.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use kinora_core::{ModelId, PlannedModel};
use kinora_weights::{HashCache, PartSources, Recognised, glance, recognise_with, short_name};

use crate::{Catalogue, Error, catalogue::describe};

/// Files of one folder that are looked at.
const MOST: usize = 1000;

/// A part of a model for which a file can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentChoices {
    /// Its name, as requests say it: `vae`, `text_encoder`.
    pub component: &'static str,
    /// The file that it has unless another is chosen; its name below the model's folder.
    pub file: String,
    /// Files that fit, by name and size in bytes.
    pub choices: Vec<(String, u64)>,
}

impl Catalogue {
    /// The parts of a model for which files can be chosen.
    ///
    /// # Errors
    /// There is no such model, or its files cannot be used.
    pub fn components(&self, id: &ModelId) -> Result<Vec<ComponentChoices>, Error> {
        let layout = self.usable(id)?;
        let files = self.list_files(layout);
        let own = |component: &str| {
            let file = layout
                .weights()
                .iter()
                .find(|file| file.component == component);
            // What lies in one file with the denoiser is listed once.
            let file = file.or_else(|| layout.weights().first());
            file.map(|file| file.file.clone()).unwrap_or_default()
        };
        Ok((layout.replaceable().into_iter())
            .map(|component| ComponentChoices {
                component,
                file: own(component),
                choices: (layout.choices(component, &files).into_iter())
                    .map(|path| {
                        let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
                        (self.name_of(path), bytes)
                    })
                    .collect(),
            })
            .collect())
    }

    /// The model as a plan names it, with files that were chosen for its parts by their names.
    ///
    /// # Errors
    /// As [`Catalogue::plan`]; a part or a file is not there, or the file is something else.
    pub fn plan_with(
        &self,
        id: &ModelId,
        chosen: &BTreeMap<String, String>,
        hashes: &HashCache,
    ) -> Result<PlannedModel, Error> {
        let layout = self.usable(id)?;
        let known = layout.replaceable();
        let files = self.list_files(layout);
        let mut sources = PartSources {
            chosen: BTreeMap::new(),
            shelf: self.sources.shelf.clone(),
        };
        let mut components = BTreeMap::new();
        for (part, name) in chosen {
            if !known.contains(&part.as_str()) {
                return Err(Error::UnknownPart {
                    id: id.clone(),
                    part: part.clone(),
                    known,
                });
            }
            let fitting = layout.choices(part, &files);
            let path = self.find_file(part, name, &files, &fitting)?;
            components.insert(part.clone(), self.name_of(path));
            sources.chosen.insert(part.clone(), path.clone());
        }
        let faulty = |fault: String| Error::Faulty {
            id: id.clone(),
            fault,
        };
        let found = recognise_with(layout.root(), &sources)
            .map_err(|error| faulty(format!("failed to {error}")))?;
        if (found.family(), found.variant()) != (layout.family(), layout.variant()) {
            return Err(faulty(format!(
                "with these files it is {} {}, not {} {}",
                found.family().title(),
                found.variant(),
                layout.family().title(),
                layout.variant()
            )));
        }
        let model = self
            .model(id)
            .ok_or_else(|| Error::UnknownModel(id.clone()))?;
        Ok(PlannedModel {
            components,
            ..describe(model, &found, hashes)
        })
    }

    fn usable(&self, id: &ModelId) -> Result<&Recognised, Error> {
        let model = self
            .model(id)
            .ok_or_else(|| Error::UnknownModel(id.clone()))?;
        self.layout(id).ok_or_else(|| match model.fault.clone() {
            Some(fault) => Error::Faulty {
                id: id.clone(),
                fault,
            },
            None => Error::NotInstalled(id.clone()),
        })
    }

    /// Files that may stand for parts of a model: those that all models share, those beside it, and
    /// the denoisers in files, for models that have two.
    fn list_files(&self, layout: &Recognised) -> Vec<PathBuf> {
        let root = layout.root();
        let folder = match root.is_file() {
            true => root.parent().unwrap_or(Path::new("")),
            false => root,
        };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let beside = entries.take(MOST).map(|entry| entry.path()).filter(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            matches!(ending, Some("safetensors" | "sft" | "gguf"))
        });
        let mut files: Vec<PathBuf> = (self.sources.shelf.iter().cloned())
            .chain(beside.filter(|path| !glance(path).networks().is_empty()))
            .chain(self.denoisers())
            .collect();
        files.sort();
        files.dedup();
        files
    }

    /// What a file is called: its path below the first model folder that it lies in.
    fn name_of(&self, path: &Path) -> String {
        let below = |folder: &PathBuf| {
            let relative = path.strip_prefix(folder).ok()?;
            let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
            Some(parts.join("/"))
        };
        self.searched
            .iter()
            .find_map(below)
            .unwrap_or_else(|| short_name(path))
    }

    /// The file of a name: as it is listed, or its last part, with or without its ending.
    fn find_file<'a>(
        &self,
        part: &str,
        name: &str,
        files: &'a [PathBuf],
        fitting: &[&'a PathBuf],
    ) -> Result<&'a PathBuf, Error> {
        let refuse = |reason: String| Error::UnknownFile {
            part: part.to_owned(),
            name: name.chars().take(200).collect(),
            reason,
            choices: fitting.iter().map(|path| self.name_of(path)).collect(),
        };
        let is_called = |path: &Path| {
            let last = |end: Option<&std::ffi::OsStr>| {
                end.is_some_and(|end| end.to_string_lossy().eq_ignore_ascii_case(name))
            };
            last(path.file_name()) || last(path.file_stem())
        };
        if let Some(path) = fitting
            .iter()
            .copied()
            .find(|path| self.name_of(path) == name)
        {
            return Ok(path);
        }
        let called: Vec<&PathBuf> = (fitting.iter().copied())
            .filter(|path| is_called(path))
            .collect();
        match called.as_slice() {
            [path] => Ok(*path),
            [_, _, ..] => Err(refuse("several files have that name".to_owned())),
            [] => {
                let other = files
                    .iter()
                    .find(|path| self.name_of(path) == name || is_called(path));
                Err(refuse(match other {
                    Some(path) => {
                        let glance = glance(path);
                        let titles: Vec<_> = (glance.networks().iter())
                            .map(|part| part.network.title())
                            .collect();
                        format!("it holds {}, which does not fit there", titles.join(", "))
                    }
                    None => "there is no such file".to_owned(),
                }))
            }
        }
    }
}
