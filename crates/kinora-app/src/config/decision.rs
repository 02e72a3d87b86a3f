//! The values while they are decided: each is looked for in order, and recorded with where it came
//! from.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use kinora_core::{Code, Problem};
use serde::Deserialize;

use super::{ConfigValue, Surroundings, ValueSource};
use crate::suggest::did_you_mean;

/// What `config.toml` may hold.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct File {
    pub data_dir: Option<PathBuf>,
    pub models_dir: Option<PathBuf>,
    pub more_models_dirs: Option<Vec<PathBuf>>,
    pub outputs_dir: Option<PathBuf>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub token: Option<String>,
    pub log: Option<String>,
    pub hf_home: Option<PathBuf>,
    pub engine: Option<PathBuf>,
    pub allowed_hosts: Option<Vec<String>>,
    pub trusted_origins: Option<Vec<String>>,
    pub text_cache_mb: Option<u64>,
}

pub(super) const FILE_KEYS: [&str; 13] = [
    "data_dir",
    "models_dir",
    "more_models_dirs",
    "outputs_dir",
    "host",
    "port",
    "token",
    "log",
    "hf_home",
    "engine",
    "allowed_hosts",
    "trusted_origins",
    "text_cache_mb",
];

/// The values while they are decided.
pub(super) struct Decision<'a> {
    pub around: &'a Surroundings<'a>,
    /// What cannot be used.
    pub problems: Vec<Problem>,
    /// What was decided so far.
    pub values: Vec<ConfigValue>,
    /// The `config.toml` that is read.
    pub file_path: PathBuf,
}

impl Decision<'_> {
    /// A variable's value; an empty one counts as not set.
    pub fn variable(&self, name: &str) -> Option<OsString> {
        (self.around.variable)(name).filter(|value| !value.is_empty())
    }

    pub fn absolute(&self, path: &Path) -> PathBuf {
        self.absolute_below(path, &self.around.current_dir)
    }

    /// An absolute path: `~` is the home, relative ones are below `folder`.
    fn absolute_below(&self, path: &Path, folder: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.around.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => folder.join(path),
        }
    }

    pub fn read_file(&mut self) -> File {
        let path = self.file_path.clone();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return File::default(),
            Err(error) => {
                self.problems.push(Problem::new(
                    Code::Io,
                    format!("failed to read {}: {error}", path.display()),
                    "Make the file readable, or remove it.",
                ));
                return File::default();
            }
        };
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                self.problems.push(Problem::new(
                    Code::InvalidInput,
                    format!("{} is not TOML: {error}", path.display()),
                    "Correct the line that is named.",
                ));
                return File::default();
            }
        };
        for key in table
            .keys()
            .filter(|key| !FILE_KEYS.contains(&key.as_str()))
        {
            self.problems.push(Problem::in_field(
                key,
                format!("{} has the unknown key \"{key}\"", path.display()),
                format!(
                    "It may have {}.{}",
                    FILE_KEYS.join(", "),
                    did_you_mean(key, FILE_KEYS)
                ),
            ));
        }
        match table.try_into() {
            Ok(file) => file,
            Err(error) => {
                self.problems.push(Problem::new(
                    Code::InvalidInput,
                    format!("{} cannot be used: {}", path.display(), error.message()),
                    "Correct that value.",
                ));
                File::default()
            }
        }
    }

    pub fn refuse(&mut self, key: &str, why: String, hint: &str) {
        let origin = self
            .values
            .iter()
            .find(|value| value.key == key)
            .map_or_else(String::new, |value| match value.source {
                ValueSource::Flag => format!(" of --{}", key.replace('_', "-")),
                ValueSource::Environment => format!(" of {}", value.variable),
                ValueSource::File => format!(" in {}", self.file_path.display()),
                ValueSource::Default => String::new(),
            });
        self.problems.push(Problem::in_field(
            key,
            format!("the {key}{origin} cannot be used: {why}"),
            hint,
        ));
    }

    fn record(
        &mut self,
        key: &str,
        variable: &str,
        description: &str,
        value: Option<String>,
        source: ValueSource,
        detail: Option<String>,
    ) {
        self.values.push(ConfigValue {
            key: key.to_owned(),
            variable: variable.to_owned(),
            value,
            source,
            detail,
            description: description.to_owned(),
        });
    }

    fn file_detail(&self) -> Option<String> {
        Some(self.file_path.display().to_string())
    }

    fn choose_path(
        &self,
        variable: &str,
        flag: Option<&PathBuf>,
        file: Option<PathBuf>,
    ) -> Option<(PathBuf, ValueSource, Option<String>)> {
        let folder = self.file_path.parent().unwrap_or(Path::new("/"));
        if let Some(path) = flag {
            return Some((self.absolute(path), ValueSource::Flag, None));
        }
        if let Some(path) = self.variable(variable) {
            let path = self.absolute(Path::new(&path));
            return Some((path, ValueSource::Environment, None));
        }
        let path = file.filter(|path| !path.as_os_str().is_empty())?;
        let path = self.absolute_below(&path, folder);
        Some((path, ValueSource::File, self.file_detail()))
    }

    pub fn path(
        &mut self,
        key: &str,
        variable: &str,
        description: &str,
        flag: Option<&PathBuf>,
        file: Option<PathBuf>,
        default: impl FnOnce() -> (PathBuf, &'static str),
    ) -> PathBuf {
        let (path, source, detail) = self.choose_path(variable, flag, file).unwrap_or_else(|| {
            let (path, from) = default();
            (path, ValueSource::Default, Some(format!("from {from}")))
        });
        let shown = Some(path.display().to_string());
        self.record(key, variable, description, shown, source, detail);
        path
    }

    /// Several folders: repeated on the command line, separated as in `PATH` in the environment, a
    /// list in the file. The strongest source decides alone.
    pub fn paths(
        &mut self,
        key: &str,
        variable: &str,
        description: &str,
        flag: &[PathBuf],
        file: Option<Vec<PathBuf>>,
    ) -> Vec<PathBuf> {
        let folder = self.file_path.parent().unwrap_or(Path::new("/")).to_owned();
        let (paths, source, detail): (Vec<PathBuf>, _, _) = if !flag.is_empty() {
            let paths = flag.iter().map(|path| self.absolute(path));
            (paths.collect(), ValueSource::Flag, None)
        } else if let Some(value) = self.variable(variable) {
            let paths = std::env::split_paths(&value).filter(|path| !path.as_os_str().is_empty());
            let paths = paths.map(|path| self.absolute(&path));
            (paths.collect(), ValueSource::Environment, None)
        } else if let Some(paths) = file {
            let paths = paths.iter().filter(|path| !path.as_os_str().is_empty());
            let paths = paths.map(|path| self.absolute_below(path, &folder));
            (paths.collect(), ValueSource::File, self.file_detail())
        } else {
            (Vec::new(), ValueSource::Default, None)
        };
        let shown: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let shown = (!shown.is_empty()).then(|| shown.join(", "));
        self.record(key, variable, description, shown, source, detail);
        paths
    }

    pub fn engine(&mut self, flag: Option<&PathBuf>, file: Option<PathBuf>) -> Option<PathBuf> {
        let chosen = self.choose_path("KINORA_ENGINE", flag, file);
        let shown = chosen.as_ref().map(|(path, ..)| path.display().to_string());
        let (path, source, detail) = match chosen {
            Some((path, source, detail)) => (Some(path), source, detail),
            None => (
                None,
                ValueSource::Default,
                Some("looked for beside this program".to_owned()),
            ),
        };
        let description = "The engine program that computes pictures";
        self.record(
            "engine",
            "KINORA_ENGINE",
            description,
            shown,
            source,
            detail,
        );
        path
    }

    /// Several words: repeated on the command line, separated by commas in the environment, a list
    /// in the file. Nothing is added up: the strongest source decides alone.
    pub fn list(
        &mut self,
        key: &str,
        variable: &str,
        description: &str,
        flag: &[String],
        file: Option<Vec<String>>,
    ) -> Vec<String> {
        let joined = |words: &[String]| words.join(",");
        let flag = (!flag.is_empty()).then(|| joined(flag));
        let file = file.map(|words| joined(&words));
        let text = self.text(key, variable, description, flag, file, None, false);
        let text = text.unwrap_or_default();
        let words = text.split(',').map(str::trim);
        words
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[expect(clippy::too_many_arguments, reason = "one row of a table of values")]
    pub fn text(
        &mut self,
        key: &str,
        variable: &str,
        description: &str,
        flag: Option<String>,
        file: Option<String>,
        default: Option<&str>,
        is_secret: bool,
    ) -> Option<String> {
        let from_variable = match self.variable(variable).map(OsString::into_string) {
            Some(Ok(value)) => Some(value),
            Some(Err(_)) => {
                self.problems.push(Problem::in_field(
                    key,
                    format!("the value of {variable} is not text"),
                    "Set it to plain text.",
                ));
                None
            }
            None => None,
        };
        let (value, source, detail) = if let Some(value) = flag {
            (Some(value), ValueSource::Flag, None)
        } else if let Some(value) = from_variable {
            (Some(value), ValueSource::Environment, None)
        } else if let Some(value) = file.filter(|value| !value.is_empty()) {
            (Some(value), ValueSource::File, self.file_detail())
        } else {
            (default.map(str::to_owned), ValueSource::Default, None)
        };
        let shown = if is_secret {
            value.as_ref().map(|_| "set".to_owned())
        } else {
            value.clone()
        };
        self.record(key, variable, description, shown, source, detail);
        value
    }
}
