//! ComfyUI's `extra_model_paths.yaml`: folders of models elsewhere, by their kind. People who share
//! one collection between programs have it listed there.
//!
//! A section is a tree with a `base_path`; its other lines name folders below it by kind, several in
//! a text of several lines. Paths are what the user wrote, wherever they lead; they are looked at
//! and never written to. What is wrong with a line is told with its number, and the others count.

use std::{
    env,
    path::{Path, PathBuf},
};

use kinora_weights::read_file_bounded;
use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::{fault::Fault, folders::tree_of};

/// The file's name in ComfyUI's folder.
const NAME: &str = "extra_model_paths.yaml";

/// A file of some dozens of lines.
const MAX_BYTES: u64 = 1 << 20;

/// Folders that are taken from one file.
const MAX_PLACES: usize = 1000;

/// What lies in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A tree whose folders' names tell.
    Tree,
    /// Files that are models each.
    Models,
    /// Parts that models share.
    Parts,
    /// LoRA files and their relatives.
    Adapters,
}

impl Kind {
    /// Of a key of the file; None for what is not used here (`controlnet`, `embeddings` …).
    fn of(key: &str) -> Option<Self> {
        match key {
            "checkpoints" | "diffusion_models" | "unet" | "unet_gguf" => Some(Self::Models),
            "vae"
            | "text_encoders"
            | "clip"
            | "clip_gguf"
            | "clip_vision"
            | "style_models"
            | "latent_upscale_models" => Some(Self::Parts),
            "loras" => Some(Self::Adapters),
            _ => None,
        }
    }
}

/// A folder that is looked through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The folder.
    pub path: PathBuf,
    /// What lies in it.
    pub kind: Kind,
}

/// Every folder to look through: the model folders as they were named, what the files of paths among
/// them list, and what such a file in a ComfyUI folder lists. A folder that lies in one of the trees,
/// or is listed twice, counts once.
pub(crate) fn list_places(model_folders: &[PathBuf]) -> (Vec<Place>, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut places = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in model_folders {
        if is_paths_file(folder) {
            files.push(folder.clone());
            continue;
        }
        places.push(Place {
            path: folder.clone(),
            kind: Kind::Tree,
        });
        let is_models = folder.file_name().is_some_and(|name| name == "models");
        let program = is_models.then(|| folder.parent()).flatten();
        let beside = [Some(folder.as_path()), program].into_iter().flatten();
        files.extend(
            beside
                .map(|folder| folder.join(NAME))
                .filter(|file| file.is_file()),
        );
    }
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let trees: Vec<PathBuf> = (places.iter())
        .map(|place| real(&tree_of(&place.path)))
        .collect();
    let mut known: Vec<PathBuf> = Vec::new();
    let mut read: Vec<PathBuf> = Vec::new();
    for file in files {
        if read.contains(&real(&file)) {
            continue;
        }
        read.push(real(&file));
        let listed = read_paths(&file, &mut faults);
        for place in listed.into_iter().take(MAX_PLACES) {
            let path = real(&place.path);
            // Adapters of a tree are looked for in its own folders of them alone.
            let is_searched =
                place.kind != Kind::Adapters && trees.iter().any(|tree| path.starts_with(tree));
            if !is_searched && !known.contains(&path) {
                known.push(path);
                places.push(place);
            }
        }
    }
    (places, faults)
}

/// Whether a path among the model folders is a file of paths instead.
fn is_paths_file(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let is_yaml = ending.is_some_and(|ending| ["yaml", "yml"].contains(&ending));
    is_yaml && !path.is_dir()
}

/// One line's text in a section.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    section: String,
    key: String,
    /// Lines of the value, each with its number in the file.
    lines: Vec<(usize, String)>,
}

/// The folders that a file lists.
fn read_paths(file: &Path, faults: &mut Vec<Fault>) -> Vec<Place> {
    let mut places = Vec::new();
    let mut tell = |line: Option<usize>, reason: String| {
        let fault = Fault::new(file, reason);
        faults.push(match line {
            Some(line) => fault.at_key(&format!("line {line}")),
            None => fault,
        });
    };
    let text = match read_file_bounded(file, MAX_BYTES) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => {
                tell(None, "it is not UTF-8 text".to_owned());
                return places;
            }
        },
        Err(error) => {
            tell(None, format!("failed to {error}"));
            return places;
        }
    };
    let entries = match parse(&text, &mut |line, reason| tell(Some(line), reason)) {
        Ok(entries) => entries,
        Err((line, reason)) => {
            tell(Some(line), format!("it is not YAML: {reason}"));
            return places;
        }
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    let bases: Vec<(&str, usize, PathBuf)> = (entries.iter())
        .filter(|entry| entry.key == "base_path")
        .filter_map(|entry| {
            let (line, path) = entry.lines.first()?;
            Some((entry.section.as_str(), *line, folder.join(expand(path))))
        })
        .collect();
    for (section, line, base) in &bases {
        if !base.is_dir() {
            let reason = format!("there is no folder {} (base of {section})", base.display());
            tell(Some(*line), reason);
        }
    }
    for entry in &entries {
        let Some(kind) = Kind::of(&entry.key) else {
            continue;
        };
        let base = bases.iter().find(|(section, ..)| *section == entry.section);
        if base.is_some_and(|(.., base)| !base.is_dir()) {
            continue;
        }
        let base = base.map_or(folder, |(.., base)| base);
        for (line, path) in &entry.lines {
            let path = base.join(existing(base, path));
            if path.is_dir() {
                places.push(Place { path, kind });
            } else {
                let reason = format!(
                    "there is no folder {} ({} of {})",
                    path.display(),
                    entry.key,
                    entry.section
                );
                tell(Some(*line), reason);
            }
        }
    }
    places
}

/// A path of a text of several lines. There `#` is part of the text, though ComfyUI's own example
/// has comments behind paths.
fn existing<'a>(base: &Path, path: &'a str) -> &'a str {
    match path.split_once(" #") {
        Some((before, _)) if !base.join(path).exists() => before.trim_end(),
        _ => path,
    }
}

/// `~` and `$VARIABLE` of a base path; variables that are not set stay as they are written.
fn expand(path: &str) -> PathBuf {
    let home = || env::var_os("HOME").map(PathBuf::from);
    let mut expanded = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, end) = match after
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
        {
            Some((name, end)) => (name, end),
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let len = after.find(|c| !is_name(c)).unwrap_or(after.len());
                after.split_at(len)
            }
        };
        match env::var(name).ok().filter(|_| !name.is_empty()) {
            Some(value) => {
                expanded.push_str(&value);
                rest = end;
            }
            None => {
                expanded.push('$');
                rest = after;
            }
        }
    }
    expanded.push_str(rest);
    match (Path::new(&expanded).strip_prefix("~"), home()) {
        (Ok(below), Some(home)) => home.join(below),
        _ => PathBuf::from(expanded),
    }
}

/// Where the parser is.
enum Level {
    /// Outside of the table of sections.
    Outside,
    /// Among sections; the name of the one whose value comes.
    Sections(Option<String>),
    /// In a section; the key whose value comes.
    Section(String, Option<String>),
}

/// The texts of all sections. What has another form than a text is told and passed over.
///
/// # Errors
/// The line and what is wrong, where it is no YAML.
fn parse(text: &str, tell: &mut dyn FnMut(usize, String)) -> Result<Vec<Entry>, (usize, String)> {
    let mut entries = Vec::new();
    let mut level = Level::Outside;
    // Depth of what is passed over.
    let mut ignored = 0usize;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let line = error.marker().line();
            (line, error.info().to_owned())
        })?;
        let line = span.start.line();
        let is_start = matches!(event, Event::MappingStart(..) | Event::SequenceStart(..));
        let is_end = matches!(event, Event::MappingEnd | Event::SequenceEnd);
        if ignored > 0 {
            ignored = ignored + usize::from(is_start) - usize::from(is_end);
            continue;
        }
        level = match (level, event) {
            (Level::Outside, Event::MappingStart(..)) => Level::Sections(None),
            (Level::Outside, Event::Scalar(value, ..)) if is_nothing(&value) => Level::Outside,
            (Level::Outside, Event::Scalar(..) | Event::SequenceStart(..)) => {
                tell(line, "it is no table of sections".to_owned());
                ignored = usize::from(is_start);
                Level::Outside
            }
            (Level::Outside, _) => Level::Outside,
            (Level::Sections(None), Event::Scalar(name, ..)) => {
                Level::Sections(Some(name.into_owned()))
            }
            (Level::Sections(_), Event::MappingEnd) => Level::Outside,
            (Level::Sections(Some(name)), Event::MappingStart(..)) => Level::Section(name, None),
            // A section without lines.
            (Level::Sections(Some(_)), Event::Scalar(value, ..)) if is_nothing(&value) => {
                Level::Sections(None)
            }
            // A name that is no text has a value nevertheless.
            (Level::Sections(None), _) => {
                ignored = usize::from(is_start);
                Level::Sections(Some("?".to_owned()))
            }
            (Level::Sections(Some(name)), _) => {
                tell(line, format!("the section {name:?} is no table of folders"));
                ignored = usize::from(is_start);
                Level::Sections(None)
            }
            (Level::Section(..), Event::MappingEnd) => Level::Sections(None),
            (Level::Section(section, None), Event::Scalar(key, ..)) => {
                Level::Section(section, Some(key.into_owned()))
            }
            (Level::Section(section, Some(key)), Event::Scalar(value, style, ..)) => {
                // A block begins in the line after its sign.
                let first = match style {
                    ScalarStyle::Literal | ScalarStyle::Folded => block_line(text, line),
                    _ => line,
                };
                let lines = (value.lines().enumerate())
                    .map(|(index, path)| (first + index, path.trim().to_owned()))
                    .filter(|(_, path)| !is_nothing(path))
                    .collect();
                entries.push(Entry {
                    section: section.clone(),
                    key,
                    lines,
                });
                Level::Section(section, None)
            }
            (Level::Section(section, None), _) => {
                ignored = usize::from(is_start);
                Level::Section(section, Some("?".to_owned()))
            }
            (Level::Section(section, Some(key)), _) => {
                tell(line, format!("{key} of {section} is no text of paths"));
                ignored = usize::from(is_start);
                Level::Section(section, None)
            }
        };
    }
    Ok(entries)
}

/// The first line of a block's text: the one of its sign, or of its first character, is known.
fn block_line(text: &str, line: usize) -> usize {
    let own = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let before_comment = own.split(" #").next().unwrap_or_default().trim_end();
    let is_sign = before_comment.ends_with(['|', '>'])
        || before_comment.ends_with("|-")
        || before_comment.ends_with(">-")
        || before_comment.ends_with("|+")
        || before_comment.ends_with(">+");
    line + usize::from(is_sign)
}

/// Whether a plain text stands for nothing.
fn is_nothing(value: &str) -> bool {
    matches!(value, "" | "~" | "null" | "Null" | "NULL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_paths_follow_the_home_and_the_variables() {
        let home = env::var("HOME").unwrap_or_default();
        assert_eq!(expand("~/x"), Path::new(&home).join("x"));
        assert_eq!(expand("$HOME/x"), Path::new(&format!("{home}/x")));
        assert_eq!(expand("a${HOME}b"), Path::new(&format!("a{home}b")));
        for kept in ["/a/$KINORA_NOT_SET/b", "/a/${x", "/cost $", "~ada/x", "$"] {
            assert_eq!(expand(kept), Path::new(kept));
        }
    }

    fn lines(text: &str) -> Vec<(String, usize, String)> {
        let mut told = Vec::new();
        let mut tell = |line, reason: String| told.push((String::new(), line, reason));
        match parse(text, &mut tell) {
            Ok(entries) => {
                for entry in entries {
                    let name = format!("{}.{}", entry.section, entry.key);
                    told.extend(
                        (entry.lines.into_iter()).map(|(line, path)| (name.clone(), line, path)),
                    );
                }
            }
            Err((line, reason)) => told.push(("error".to_owned(), line, reason)),
        }
        told
    }

    #[test]
    fn values_of_several_lines_know_their_lines() {
        let text = "# mine\ncomfy:\n  base_path: /data\n  loras: |\n    a/loras\n\n    b/loras # old\n  \
                    vae: vae/\nempty:\nother: ~\n";
        let text_of = |name: &str, line, path: &str| (name.to_owned(), line, path.to_owned());
        assert_eq!(
            lines(text),
            [
                text_of("comfy.base_path", 3, "/data"),
                text_of("comfy.loras", 5, "a/loras"),
                text_of("comfy.loras", 7, "b/loras # old"),
                text_of("comfy.vae", 8, "vae/"),
            ]
        );
    }

    #[test]
    fn other_forms_are_told_with_their_line_and_passed_over() {
        let text = "a:\n  vae: [x, {y: z}]\n  loras: l\nb: 3\nc:\n  - d\n[k]: v\ne:\n  unet: u\n";
        let told = lines(text);
        let of = |line: usize| told.iter().find(|(_, own, _)| *own == line).cloned();
        assert_eq!(of(2).unwrap().2, "vae of a is no text of paths");
        assert_eq!(of(3).unwrap().0, "a.loras");
        assert_eq!(of(4).unwrap().2, "the section \"b\" is no table of folders");
        assert!(of(9).is_some_and(|(name, ..)| name == "e.unet"), "{told:?}");
        for text in [
            "[",
            "a: b: c\n",
            "x:\n\t- y",
            "\"",
            "&a *a: *b",
            "- x",
            "{{{{",
        ] {
            assert!(
                lines(text)
                    .iter()
                    .all(|(name, ..)| name.is_empty() || name == "error")
            );
        }
        assert_eq!(lines(""), []);
        // Deep nesting takes no stack.
        let deep = format!("a: {}", "[".repeat(100_000));
        assert!(!lines(&deep).is_empty());
    }
}
