//! Where the parts of a model in files come from: chosen for it, in its own file, in a folder of the
//! part's name, in the files beside it, and in the folders where people keep such parts for all their
//! models.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    Error, FilePart, Network, Result, WeightSet,
    detect::has_weights_name,
    glance::{find_networks, glance},
    layout::{Origin, base_folder},
    shards::list_files,
};

/// Where a model's parts may come from, besides its own file and folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartSources {
    /// Files that were chosen for parts, by the part's name (`vae`, `text_encoder`). They count more
    /// than what the model itself has.
    pub chosen: BTreeMap<String, PathBuf>,
    /// Files with parts that any model may take, where it has none of its own.
    pub shelf: Vec<PathBuf>,
}

/// A part that is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// The name of its folder, and in recipes.
    pub name: &'static str,
    /// What it is, for messages.
    pub title: &'static str,
    /// What names of its files say. Networks that were trained for different models can be alike in
    /// every shape.
    pub likely: &'static [&'static str],
    /// What names of files say that are alike, and something else.
    pub unlikely: &'static [&'static str],
}

impl Wanted {
    /// A part that nothing else is alike.
    pub fn plain((name, title): (&'static str, &'static str)) -> Self {
        Self {
            name,
            title,
            likely: &[],
            unlikely: &[],
        }
    }

    /// The same, by what file names say.
    pub fn named(self, likely: &'static [&'static str], unlikely: &'static [&'static str]) -> Self {
        Self {
            likely,
            unlikely,
            ..self
        }
    }
}

/// The places of one model.
pub(crate) struct Search<'a> {
    /// The model's folder.
    pub folder: &'a Path,
    /// The model's own file, which may hold more than its denoiser.
    pub same: Option<&'a WeightSet>,
    /// Other places.
    pub sources: &'a PartSources,
}

impl Search<'_> {
    /// Looks for a part. `choose` tells the numbers of a network that is wanted, `read_config` those
    /// of a folder of the part's own.
    ///
    /// # Errors
    /// It is nowhere, or the file that was chosen for it holds something else.
    pub fn find<T>(
        &self,
        wanted: &Wanted,
        read_config: impl Fn(&Path) -> Result<T>,
        choose: impl Fn(&Network) -> Option<T>,
    ) -> Result<(Origin, T)> {
        if let Some(found) = self.find_chosen(wanted, &choose)? {
            return Ok(found);
        }
        if let Some(same) = self.same
            && let Some(found) = take(same.path(), &find_networks(same)?, &choose)
        {
            return Ok(found);
        }
        let own = self.folder.join(wanted.name);
        let has_weights =
            || list_files(&own).is_ok_and(|names| names.iter().any(|n| has_weights_name(n)));
        if own.join("config.json").is_file() && has_weights() {
            let config = read_config(&own.join("config.json"))?;
            return Ok((Origin::Folder(own), config));
        }
        (self.find_in_files(wanted, &choose)?).ok_or_else(|| self.missing(wanted))
    }

    /// The file that was chosen.
    pub fn find_chosen<T>(
        &self,
        wanted: &Wanted,
        choose: &impl Fn(&Network) -> Option<T>,
    ) -> Result<Option<(Origin, T)>> {
        let Some(file) = self.sources.chosen.get(wanted.name) else {
            return Ok(None);
        };
        let parts = find_networks(&WeightSet::open_file(file)?)?;
        match take(file, &parts, choose) {
            Some(found) => Ok(Some(found)),
            None => Err(Error::unsupported(
                file,
                format!("{} is not {} of this model", describe(&parts), wanted.title),
            )),
        }
    }

    /// The likeliest of the files beside the model, else of those for all models.
    pub fn find_in_files<T>(
        &self,
        wanted: &Wanted,
        choose: &impl Fn(&Network) -> Option<T>,
    ) -> Result<Option<(Origin, T)>> {
        let beside: Vec<PathBuf> = (list_files(self.folder).unwrap_or_default().iter())
            .filter(|name| has_weights_name(name))
            .map(|name| self.folder.join(name))
            .collect();
        for files in [&beside, &self.sources.shelf] {
            let best = list_fitting(files, wanted, choose).into_iter().next();
            if let Some(file) = best {
                return Ok(take(&file, glance(&file).networks(), choose));
            }
        }
        Ok(None)
    }

    pub fn missing(&self, wanted: &Wanted) -> Error {
        Error::missing(
            self.folder,
            format!(
                "{} (folder {}/, or its .safetensors or .gguf file)",
                wanted.title, wanted.name
            ),
        )
    }
}

/// The files that hold a part, the likeliest first: files without a denoiser before whole models,
/// then by what their names say, plain numbers before blocks, and the larger ones first.
pub(crate) fn list_fitting<T>(
    files: &[PathBuf],
    wanted: &Wanted,
    choose: &impl Fn(&Network) -> Option<T>,
) -> Vec<PathBuf> {
    let mut found: Vec<_> = (files.iter())
        .filter_map(|file| {
            let glance = glance(file);
            let fits = |part: &FilePart| choose(&part.network).is_some();
            glance.networks().iter().any(fits).then(|| {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                let name = name.to_lowercase();
                let bytes = file.metadata().map_or(0, |metadata| metadata.len());
                let rank = (
                    glance.is_model(),
                    says(&name, wanted.unlikely),
                    !says(&name, wanted.likely),
                    name.ends_with(".gguf"),
                    Reverse(bytes),
                );
                (rank, file)
            })
        })
        .collect();
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, file)| file.clone()).collect()
}

/// Whether a file's name says one of these: short ones as words of their own.
fn says(name: &str, hints: &[&str]) -> bool {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    hints.iter().any(|hint| match hint.len() {
        0..=2 => words.clone().any(|word| word == *hint),
        _ => name.contains(hint),
    })
}

/// The first network of a file that is wanted.
fn take<T>(
    file: &Path,
    parts: &[FilePart],
    choose: &impl Fn(&Network) -> Option<T>,
) -> Option<(Origin, T)> {
    let (config, part) =
        (parts.iter()).find_map(|part| Some((choose(&part.network)?, part.clone())))?;
    let file = file.to_owned();
    Some((Origin::File { file, part }, config))
}

fn describe(parts: &[FilePart]) -> String {
    match parts {
        [] => "what it holds".to_owned(),
        parts => {
            let titles: Vec<_> = parts.iter().map(|part| part.network.title()).collect();
            format!("it holds {}, which", titles.join(", "))
        }
    }
}

/// Parts that lie outside of the model's folder or were chosen, by name: with them in
/// [`PartSources::chosen`] the same files are found again.
pub(crate) fn list_elsewhere<'a>(
    root: &Path,
    sources: &PartSources,
    origins: impl IntoIterator<Item = (&'static str, &'a Origin)>,
) -> BTreeMap<String, PathBuf> {
    let base = base_folder(root);
    (origins.into_iter())
        .filter_map(|(name, origin)| match origin {
            Origin::File { file, .. }
                if !file.starts_with(base) || sources.chosen.get(name) == Some(file) =>
            {
                Some((name.to_owned(), file.clone()))
            }
            _ => None,
        })
        .collect()
}

/// How plans and recipes name a file outside of the model's folder: by its folder's name and its own.
pub fn short_name(path: &Path) -> String {
    let parts: Vec<_> = (path.iter().rev().take(2))
        .map(|part| part.to_string_lossy())
        .collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}
