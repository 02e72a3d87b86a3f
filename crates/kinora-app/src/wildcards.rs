//! Wildcards: text files below `<data>/wildcards/`, one option a line, that prompts name with
//! `<wildcard:folder/name>`.
//!
//! Names are checked before they become paths, nothing is read or written through a link, and a
//! file is written whole or not at all. Files that were put there by hand count as well.
//! Not here: what a line may say (kinora-prompts).

use std::{
    collections::VecDeque,
    fs::{self, File, Metadata},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use kinora_core::{Code, Problem, Timestamp};
use kinora_prompts::{Source, SyntaxError, check_list, check_name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    bulk::decode_text,
    bytes::{format_bytes, write_whole},
    commands::NoInput,
    error::{Error, Result},
};

/// Largest file of a wildcard.
const MAX_BYTES: u64 = 4 << 20;
/// Wildcards that are listed at most.
const MAX_FILES: usize = 10_000;
/// Folders below folders.
const MAX_FOLDERS: usize = 8;
/// Bytes that are read to count options, for one list of wildcards.
const COUNTED_BYTES: u64 = 64 << 20;
const ENDING: &str = "txt";

/// One wildcard, without its lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WildcardInfo {
    /// What prompts call it: `colors`, `animals/birds`.
    pub name: String,
    /// How many options it has; None: not counted, or it cannot be read.
    pub options: Option<u32>,
    /// Size of its file in bytes.
    pub bytes: u64,
    /// When it was last changed.
    pub modified_at: Option<Timestamp>,
    /// What is wrong with it; None: nothing.
    pub fault: Option<String>,
}

/// Every wildcard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WildcardList {
    /// By name.
    pub wildcards: Vec<WildcardInfo>,
    /// The folder that they are in.
    pub folder: String,
}

/// Names a wildcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WildcardRef {
    /// Which: `colors`, `animals/birds`.
    pub name: String,
}

/// One wildcard with its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wildcard {
    /// What prompts call it.
    pub name: String,
    /// One option a line; `#` begins a comment, `2::` a weight.
    pub text: String,
}

/// A wildcard to keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaveWildcard {
    /// What prompts call it: letters, digits, spaces, `-`, `_`, dots within; `/` makes folders.
    pub name: String,
    /// One option a line; `#` begins a comment, `2::` a weight.
    pub text: String,
    /// Refuse when there is one of that name already.
    #[serde(default)]
    pub only_new: bool,
}

/// Every wildcard, by name.
pub async fn list(app: &Arc<App>, _: NoInput) -> Result<WildcardList> {
    aside(app, |folder| {
        Ok(WildcardList {
            wildcards: folder.list()?,
            folder: folder.root.display().to_string(),
        })
    })
    .await
}

/// One wildcard with its lines.
pub async fn get(app: &Arc<App>, input: WildcardRef) -> Result<Wildcard> {
    aside(app, move |folder| {
        let text = folder.load(&input.name)?;
        Ok(Wildcard {
            name: input.name,
            text,
        })
    })
    .await
}

/// Writes a wildcard, new or in place of the one of that name.
pub async fn save(app: &Arc<App>, input: SaveWildcard) -> Result<WildcardInfo> {
    aside(app, move |folder| folder.save(&input)).await
}

/// Deletes a wildcard and answers with what it said, so that it can be saved again.
pub async fn remove(app: &Arc<App>, input: WildcardRef) -> Result<Wildcard> {
    aside(app, move |folder| {
        let text = folder.remove(&input.name)?;
        Ok(Wildcard {
            name: input.name,
            text,
        })
    })
    .await
}

/// Works on the folder where blocking is allowed.
async fn aside<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&WildcardFolder) -> Result<T> + Send + 'static,
) -> Result<T> {
    let folder = WildcardFolder::new(app.config().wildcards_dir());
    tokio::task::spawn_blocking(move || work(&folder))
        .await
        .map_err(Error::internal)?
}

/// The folder of the wildcards.
#[derive(Clone, Debug)]
pub struct WildcardFolder {
    root: PathBuf,
}

impl WildcardFolder {
    /// The folder at that place; it need not exist.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The file of that name. Refuses names that are none, and links on the way.
    fn path(&self, name: &str) -> Result<PathBuf> {
        if !check_name(name) {
            let message = "this is no name for a wildcard";
            let hint = "Use letters, digits, spaces, - and _; / stands between folders.";
            return Err(Problem::in_field("name", message, hint).into());
        }
        let mut path = self.root.clone();
        let parts: Vec<&str> = name.split('/').collect();
        let (last, folders) = parts.split_last().unwrap_or((&name, &[]));
        for part in folders {
            path.push(part);
            refuse_link(&path)?;
        }
        path.push(format!("{last}.{ENDING}"));
        refuse_link(&path)?;
        Ok(path)
    }

    /// The lines of a wildcard; None: there is none of that name.
    fn find(&self, name: &str) -> Result<Option<String>> {
        let path = self.path(name)?;
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| {
            if !file.metadata()?.is_file() {
                return Err(ErrorKind::NotFound.into());
            }
            file.take(MAX_BYTES + 1).read_to_end(&mut bytes)
        });
        match read {
            Ok(_) if bytes.len() as u64 > MAX_BYTES => Err(too_large("text").into()),
            Ok(_) => Ok(Some(decode_text(&bytes)?)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(Error::io("read", &path, &error)),
        }
    }

    fn load(&self, name: &str) -> Result<String> {
        self.find(name)?
            .ok_or_else(|| Error::not_found(format_args!("wildcard \"{name}\"")))
    }

    fn save(&self, input: &SaveWildcard) -> Result<WildcardInfo> {
        let path = self.path(&input.name)?;
        if input.text.len() as u64 > MAX_BYTES {
            return Err(too_large("text").into());
        }
        let options = check_list(&input.text)
            .map_err(|faults| Error::from_list(faults.iter().map(problem_of).collect()))?;
        if input.only_new && path.exists() {
            let problem = Problem {
                field: Some("name".to_owned()),
                ..Problem::new(
                    Code::Conflict,
                    format!("there is a wildcard \"{}\" already", input.name),
                    "Choose another name, or edit that one.",
                )
            };
            return Err(problem.into());
        }
        write_whole(&path, input.text.as_bytes()).map_err(|error| match error.kind() {
            // A wildcard of that name stands where the folder has to be, or the reverse.
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::IsADirectory => {
                let message = "a file or folder of that name is in the way";
                Problem::in_field("name", message, "Choose another name.").into()
            }
            _ => Error::io("write", &path, &error),
        })?;
        let metadata = fs::metadata(&path).map_err(|e| Error::io("read", &path, &e))?;
        Ok(WildcardInfo {
            options: u32::try_from(options).ok(),
            ..info(&input.name, &metadata)
        })
    }

    fn remove(&self, name: &str) -> Result<String> {
        let path = self.path(name)?;
        // What is too large or not a text can go, too; it only cannot come back.
        let text = match self.find(name) {
            Ok(Some(text)) => text,
            Ok(None) => return Err(Error::not_found(format_args!("wildcard \"{name}\""))),
            Err(_) => String::new(),
        };
        fs::remove_file(&path).map_err(|error| Error::io("delete", &path, &error))?;
        // Folders that are empty now; the first that is not ends it.
        let mut folder = path.parent();
        while let Some(empty) = folder.filter(|folder| *folder != self.root) {
            if fs::remove_dir(empty).is_err() {
                break;
            }
            folder = empty.parent();
        }
        if let Some(folder) = folder {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|error| Error::io("write", folder, &error))?;
        }
        Ok(text)
    }

    fn list(&self) -> Result<Vec<WildcardInfo>> {
        let mut left = COUNTED_BYTES;
        let mut wildcards: Vec<WildcardInfo> = self
            .files()?
            .into_iter()
            .map(|(name, metadata)| {
                let mut info = info(&name, &metadata);
                if let Some(rest) = left.checked_sub(info.bytes) {
                    left = rest;
                    match self
                        .find(&name)
                        .map(|text| check_list(&text.unwrap_or_default()))
                    {
                        Ok(Ok(options)) => info.options = u32::try_from(options).ok(),
                        Ok(Err(faults)) => info.fault = faults.first().map(describe),
                        Err(error) => info.fault = Some(error.problems().first.message.clone()),
                    }
                }
                info
            })
            .collect();
        wildcards.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(wildcards)
    }

    /// Every file that has a name prompts can use; links are passed over.
    fn files(&self) -> Result<Vec<(String, Metadata)>> {
        let mut files = Vec::new();
        let mut folders = VecDeque::from([(self.root.clone(), String::new(), 0)]);
        while let Some((folder, prefix, depth)) = folders.pop_front() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                // Nothing was ever kept, or it went while we looked.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("read", &folder, &error)),
            };
            for entry in entries.flatten() {
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                let Ok(file_name) = entry.file_name().into_string() else {
                    continue;
                };
                if metadata.is_dir() && depth < MAX_FOLDERS {
                    let below = format!("{prefix}{file_name}/");
                    folders.push_back((entry.path(), below, depth + 1));
                } else if metadata.is_file()
                    && let Some(stem) = file_name.strip_suffix(&format!(".{ENDING}"))
                {
                    let name = format!("{prefix}{stem}");
                    if check_name(&name) {
                        files.push((name, metadata));
                    }
                }
                if files.len() >= MAX_FILES {
                    return Ok(files);
                }
            }
        }
        Ok(files)
    }
}

impl Source for WildcardFolder {
    fn read(&self, name: &str) -> Result<Option<String>, String> {
        self.find(name)
            .map_err(|error| error.problems().first.message.clone())
    }

    fn names(&self) -> Vec<String> {
        let files = self.files().unwrap_or_default();
        files.into_iter().map(|(name, _)| name).collect()
    }
}

fn info(name: &str, metadata: &Metadata) -> WildcardInfo {
    let modified = metadata.modified().ok();
    let since = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    WildcardInfo {
        name: name.to_owned(),
        options: None,
        bytes: metadata.len(),
        modified_at: since
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .map(Timestamp),
        fault: None,
    }
}

fn too_large(field: &str) -> Problem {
    Problem::in_field(
        field,
        format!("a wildcard has at most {}", format_bytes(MAX_BYTES)),
        "Split it into several.",
    )
}

fn describe(fault: &SyntaxError) -> String {
    if fault.at.line == 0 {
        return fault.fault.to_string();
    }
    format!(
        "line {}, column {}: {}",
        fault.at.line, fault.at.column, fault.fault
    )
}

fn problem_of(fault: &SyntaxError) -> Problem {
    let mut problem = Problem::in_field("text", describe(fault), fault.hint());
    problem.line = (fault.at.line > 0).then_some(fault.at.line);
    if problem.line.is_some() {
        problem.message = format!("column {}: {}", fault.at.column, fault.fault);
    }
    problem
}

fn refuse_link(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(Problem::new(
            Code::Forbidden,
            "the wildcard is a link to another place",
            "Copy the file into the folder of the wildcards instead.",
        )
        .into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(name: &str, text: &str) -> SaveWildcard {
        SaveWildcard {
            name: name.to_owned(),
            text: text.to_owned(),
            only_new: false,
        }
    }

    #[test]
    fn what_is_kept_is_listed_read_and_deleted() {
        let root = tempfile::tempdir().unwrap();
        let folder = WildcardFolder::new(root.path().join("wildcards"));
        assert_eq!(folder.list().unwrap(), []);
        assert_eq!(folder.find("colors").unwrap(), None);
        let saved = folder
            .save(&keep("animals/small birds", "owl\n2::hen\n"))
            .unwrap();
        assert_eq!((saved.options, saved.bytes), (Some(2), 11));
        folder.save(&keep("colors", "red\n")).unwrap();
        folder.save(&keep("colors", "red\nblue\n")).unwrap();
        let names: Vec<(String, Option<u32>)> = folder
            .list()
            .unwrap()
            .into_iter()
            .map(|wildcard| (wildcard.name, wildcard.options))
            .collect();
        assert_eq!(
            names,
            [
                ("animals/small birds".to_owned(), Some(2)),
                ("colors".to_owned(), Some(2))
            ]
        );
        assert_eq!(folder.load("colors").unwrap(), "red\nblue\n");
        let again = SaveWildcard {
            only_new: true,
            ..keep("colors", "x")
        };
        let refusal = folder.save(&again).unwrap_err();
        assert_eq!(refusal.problems().first.code, Code::Conflict);
        assert_eq!(
            folder.remove("animals/small birds").unwrap(),
            "owl\n2::hen\n"
        );
        assert!(!root.path().join("wildcards/animals").exists());
        let gone = folder.remove("animals/small birds").unwrap_err();
        assert_eq!(gone.problems().first.code, Code::NotFound);
        // Nothing is left over of writing.
        assert_eq!(fs::read_dir(&folder.root).unwrap().count(), 1);
    }

    #[test]
    fn nothing_outside_of_the_folder_is_touched() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("secret.txt"), "x").unwrap();
        let folder = WildcardFolder::new(root.path().join("wildcards"));
        fs::create_dir(&folder.root).unwrap();
        for name in [
            "../secret",
            "/etc/passwd",
            "a/../../secret",
            "",
            "a\0b",
            ".x",
        ] {
            for refusal in [
                folder.find(name).map(drop),
                folder.save(&keep(name, "x")).map(drop),
                folder.remove(name).map(drop),
            ] {
                let problem = refusal.unwrap_err().into_problems().first;
                assert_eq!(problem.field.as_deref(), Some("name"), "{name}");
            }
        }
        std::os::unix::fs::symlink(root.path(), folder.root.join("out")).unwrap();
        std::os::unix::fs::symlink(root.path().join("secret.txt"), folder.root.join("link.txt"))
            .unwrap();
        for name in ["out/secret", "link"] {
            let refusal = folder.find(name).unwrap_err().into_problems().first;
            assert_eq!(refusal.code, Code::Forbidden, "{name}");
            assert!(folder.save(&keep(name, "y")).is_err());
            assert!(folder.remove(name).is_err());
        }
        assert_eq!(folder.list().unwrap(), []);
        let secret = fs::read_to_string(root.path().join("secret.txt")).unwrap();
        assert_eq!(secret, "x");
    }

    #[test]
    fn files_made_elsewhere_are_read_with_care() {
        let root = tempfile::tempdir().unwrap();
        let folder = WildcardFolder::new(root.path().to_owned());
        let write = |name: &str, bytes: &[u8]| fs::write(root.path().join(name), bytes).unwrap();
        write("good.txt", b"\xEF\xBB\xBFred\r\nblue\r\n");
        write("bytes.txt", b"\xFF\xC0\x80");
        write("large.txt", &vec![b'x'; 4 * 1024 * 1024 + 1]);
        write("wrong.txt", b"a\n{b|\n");
        write("empty.txt", b"\n# nothing\n");
        write("notes.md", b"x");
        write(".hidden.txt", b"x");
        fs::create_dir(root.path().join("folder.txt")).unwrap();
        let shown: Vec<String> = folder
            .list()
            .unwrap()
            .into_iter()
            .map(|wildcard| {
                let said = wildcard.fault.unwrap_or_default();
                format!("{} {:?} {said}", wildcard.name, wildcard.options)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "bytes None the list is not a text in UTF-8",
                "empty None there is nothing to choose from",
                "good Some(2) ",
                "large None a wildcard has at most 4.0 MiB",
                "wrong None line 2, column 1: the choice that begins here is not closed",
            ]
        );
        assert_eq!(folder.find("folder").unwrap(), None);
        let refusal = folder.save(&keep("x", "a\n  {b|\n")).unwrap_err();
        let problem = refusal.into_problems().first;
        assert_eq!(
            (problem.field.as_deref(), problem.line),
            (Some("text"), Some(2))
        );
        assert!(folder.save(&keep("folder", "a")).is_err());
        assert!(folder.save(&keep("good/x", "a")).is_ok());
        assert!(folder.remove("bytes").is_ok());
    }
}
