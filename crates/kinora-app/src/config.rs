//! Where things lie and how the program is reached, and where each of these values came from:
//! flag, else environment, else `config.toml`, else default.
//!
//! When the data folder is chosen (by any of the first three), everything lies below it:
//! configuration, models, outputs and the Hugging Face cache too, unless they are chosen
//! themselves. Otherwise folders follow the XDG rules of the desktop.
//!
//! Not here: what a user changes in the window (settings).

mod decision;
mod names;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use directories::{BaseDirs, ProjectDirs, UserDirs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    commands::NoInput,
    error::{Error, Result},
};
use decision::Decision;

/// Where the HTTP server listens when nothing else is said.
pub const DEFAULT_PORT: u16 = 8030;

/// Disk for encoded prompts when nothing else is said, in mebibytes: about 250 prompts of FLUX.1 on a
/// processor, twice as many on a GPU.
pub const DEFAULT_TEXT_CACHE_MB: u64 = 2048;

/// Where a value came from, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueSource {
    /// An option on the command line.
    Flag,
    /// An environment variable.
    Environment,
    /// `config.toml`.
    File,
    /// Built in, or following from another value.
    Default,
}

/// One value and its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigValue {
    /// Name in `config.toml`.
    pub key: String,
    /// Environment variable.
    pub variable: String,
    /// The value as text; secrets only as `set`; None: not set.
    pub value: Option<String>,
    /// Where it came from.
    pub source: ValueSource,
    /// More about where: the file's path, or what the default follows from.
    pub detail: Option<String>,
    /// What it is for.
    pub description: String,
}

/// The configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigReport {
    /// The file that was read, or would be if it existed.
    pub file: String,
    /// Every value.
    pub values: Vec<ConfigValue>,
}

/// What the command line says; None: nothing.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--models-dir`
    pub models_dir: Option<PathBuf>,
    /// `--more-models-dir`; empty: nothing
    pub more_models_dirs: Vec<PathBuf>,
    /// `--outputs-dir`
    pub outputs_dir: Option<PathBuf>,
    /// `--host`
    pub host: Option<String>,
    /// `--port`
    pub port: Option<u16>,
    /// `--token`
    pub token: Option<String>,
    /// `--log`
    pub log: Option<String>,
    /// `--hf-home`
    pub hf_home: Option<PathBuf>,
    /// `--engine`
    pub engine: Option<PathBuf>,
    /// `--text-cache-mb`
    pub text_cache_mb: Option<u64>,
    /// `--allowed-hosts`; empty: nothing
    pub allowed_hosts: Vec<String>,
    /// `--trusted-origins`; empty: nothing
    pub trusted_origins: Vec<String>,
}

/// Every value, decided.
#[derive(Clone, Debug)]
pub struct Config {
    /// Database, work files, caches.
    pub data_dir: PathBuf,
    /// Where models are looked for and downloaded to.
    pub models_dir: PathBuf,
    /// Further folders in which models are looked for: trees of other programs, and
    /// ComfyUI's files that list folders.
    pub more_models_dirs: Vec<PathBuf>,
    /// Where pictures go.
    pub outputs_dir: PathBuf,
    /// Address to listen on: an IP address, or `localhost`.
    pub host: String,
    /// Port to listen on; 0: any free one.
    pub port: u16,
    /// What clients have to show; None: nothing, on loopback only.
    pub token: Option<String>,
    /// Further names under which clients may address the server, as a proxy or a router gives them.
    pub allowed_hosts: Vec<String>,
    /// Origins besides the server's own whose pages may ask.
    pub trusted_origins: Vec<String>,
    /// Log filter: `info`, `debug`, `kinora_queue=trace`.
    pub log: String,
    /// Cache of the Hugging Face programs, in which models are found as well.
    pub hf_home: PathBuf,
    /// The engine program; None: looked for beside this one.
    pub engine: Option<PathBuf>,
    /// How much disk encoded prompts may take, in mebibytes; 0: none are kept.
    pub text_cache_mb: u64,
    report: ConfigReport,
}

/// What the values depend on besides the flags; replaced in tests.
pub struct Surroundings<'a> {
    /// Reads an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Folder that relative paths of flags and environment are below.
    pub current_dir: PathBuf,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// Folder of `config.toml` when no data folder is chosen.
    pub config_dir: PathBuf,
    /// Data folder when none is chosen.
    pub data_dir: PathBuf,
    /// Outputs folder when neither it nor a data folder is chosen.
    pub pictures_dir: Option<PathBuf>,
    /// The user's cache folder.
    pub cache_dir: PathBuf,
}

impl Config {
    /// Decides every value from the flags, this process's environment, and `config.toml`.
    ///
    /// # Errors
    /// Every value that cannot be used, with where it came from.
    pub fn load(flags: &Flags) -> Result<Self> {
        let home = BaseDirs::new();
        let project = ProjectDirs::from("", "", "kinora");
        let fallback = |name: &str| std::env::temp_dir().join("kinora").join(name);
        let surroundings = Surroundings {
            variable: &|name| std::env::var_os(name),
            current_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            home: home.as_ref().map(|dirs| dirs.home_dir().to_owned()),
            config_dir: project
                .as_ref()
                .map_or_else(|| fallback("config"), |dirs| dirs.config_dir().to_owned()),
            data_dir: project
                .as_ref()
                .map_or_else(|| fallback("data"), |dirs| dirs.data_dir().to_owned()),
            pictures_dir: UserDirs::new()
                .and_then(|dirs| dirs.picture_dir().map(|path| path.join("Kinora"))),
            cache_dir: home
                .as_ref()
                .map_or_else(|| fallback("cache"), |dirs| dirs.cache_dir().to_owned()),
        };
        Self::decide(flags, &surroundings)
    }

    /// Every folder in which models are looked for, the own one first.
    pub fn model_folders(&self) -> Vec<PathBuf> {
        let own = std::iter::once(&self.models_dir);
        own.chain(&self.more_models_dirs).cloned().collect()
    }

    /// The same, from given surroundings.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn decide(flags: &Flags, around: &Surroundings<'_>) -> Result<Self> {
        let mut decision = Decision {
            around,
            problems: Vec::new(),
            values: Vec::new(),
            file_path: PathBuf::new(),
        };
        // The data folder decides where config.toml is, so it is looked for before the file.
        let early = flags.data_dir.clone().or_else(|| {
            decision
                .variable("KINORA_DATA_DIR")
                .map(|value| PathBuf::from(&value))
        });
        let config_dir = match &early {
            Some(folder) => decision.absolute(folder),
            None => around.config_dir.clone(),
        };
        decision.file_path = config_dir.join("config.toml");
        let file = decision.read_file();

        let data_dir = decision.path(
            "data_dir",
            "KINORA_DATA_DIR",
            "Database, work files and caches",
            flags.data_dir.as_ref(),
            file.data_dir,
            || (around.data_dir.clone(), "the desktop's rules"),
        );
        let is_chosen = decision
            .values
            .last()
            .is_some_and(|value| value.source != ValueSource::Default);
        let below = |name: &str| (data_dir.join(name), "data_dir");
        let models_dir = decision.path(
            "models_dir",
            "KINORA_MODELS_DIR",
            "Where models are looked for and downloaded to",
            flags.models_dir.as_ref(),
            file.models_dir,
            || below("models"),
        );
        let more_models_dirs = decision.paths(
            "more_models_dirs",
            "KINORA_MORE_MODELS_DIRS",
            "Further folders in which models are looked for: trees of ComfyUI, A1111 and Forge, and extra_model_paths.yaml",
            &flags.more_models_dirs,
            file.more_models_dirs,
        );
        let outputs_dir = decision.path(
            "outputs_dir",
            "KINORA_OUTPUTS_DIR",
            "Where pictures go",
            flags.outputs_dir.as_ref(),
            file.outputs_dir,
            || match &around.pictures_dir {
                Some(folder) if !is_chosen => (folder.clone(), "the desktop's rules"),
                _ => below("outputs"),
            },
        );
        let hf_home = decision.path(
            "hf_home",
            "HF_HOME",
            "Cache of the Hugging Face programs, in which models are found as well",
            flags.hf_home.as_ref(),
            file.hf_home,
            || {
                if is_chosen {
                    below("huggingface")
                } else {
                    (around.cache_dir.join("huggingface"), "the desktop's rules")
                }
            },
        );
        let host = decision.text(
            "host",
            "KINORA_HOST",
            "Address to listen on: an IP address or localhost",
            flags.host.clone(),
            file.host,
            Some("127.0.0.1"),
            false,
        );
        let host = host.unwrap_or_default();
        if host != "localhost" && host.parse::<std::net::IpAddr>().is_err() {
            decision.refuse(
                "host",
                format!("\"{host}\" is neither an IP address nor localhost"),
                "Use 127.0.0.1 for this machine only, or 0.0.0.0 for the whole network.",
            );
        }
        let port = decision.text(
            "port",
            "KINORA_PORT",
            "Port to listen on; 0: any free one",
            flags.port.map(|port| port.to_string()),
            file.port.map(|port| port.to_string()),
            Some(&DEFAULT_PORT.to_string()),
            false,
        );
        let port = port.unwrap_or_default().parse().unwrap_or_else(|_| {
            decision.refuse(
                "port",
                "it is not a number from 0 to 65535".to_owned(),
                "Use a number such as 8030.",
            );
            DEFAULT_PORT
        });
        let token = decision.text(
            "token",
            "KINORA_TOKEN",
            "What clients have to show; needed on any address but loopback",
            flags.token.clone(),
            file.token,
            None,
            true,
        );
        if let Some(token) = &token
            && (token.len() < 8 || !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            decision.refuse(
                "token",
                "it has fewer than 8 characters, or some that are not plain letters, digits and \
                 signs"
                    .to_owned(),
                "Use a long random word.",
            );
        }
        let allowed_hosts = decision.list(
            "allowed_hosts",
            "KINORA_ALLOWED_HOSTS",
            "Further names under which the server may be addressed, by a proxy for example",
            &flags.allowed_hosts,
            file.allowed_hosts,
        );
        let allowed_hosts = names::hosts(&mut decision, allowed_hosts);
        let trusted_origins = decision.list(
            "trusted_origins",
            "KINORA_TRUSTED_ORIGINS",
            "Origins besides the server's own whose pages may ask, such as https://studio.example",
            &flags.trusted_origins,
            file.trusted_origins,
        );
        let trusted_origins = names::origins(&mut decision, trusted_origins);
        let log = decision.text(
            "log",
            "KINORA_LOG",
            "Log filter: info, debug, kinora_queue=trace",
            flags.log.clone(),
            file.log,
            Some("info"),
            false,
        );
        let engine = decision.engine(flags.engine.as_ref(), file.engine);
        let text_cache_mb = decision.text(
            "text_cache_mb",
            "KINORA_TEXT_CACHE_MB",
            "Disk for encoded prompts in MiB, with which text encoders are read less often; 0: none",
            flags.text_cache_mb.map(|number| number.to_string()),
            file.text_cache_mb.map(|number| number.to_string()),
            Some(&DEFAULT_TEXT_CACHE_MB.to_string()),
            false,
        );
        let text_cache_mb = text_cache_mb
            .unwrap_or_default()
            .parse()
            .unwrap_or_else(|_| {
                decision.refuse(
                    "text_cache_mb",
                    "it is not a whole number of MiB".to_owned(),
                    "Use a number such as 2048, or 0 to keep no encoded prompts.",
                );
                DEFAULT_TEXT_CACHE_MB
            });

        if !decision.problems.is_empty() {
            return Err(Error::from_list(decision.problems));
        }
        Ok(Self {
            data_dir,
            models_dir,
            more_models_dirs,
            outputs_dir,
            host,
            port,
            token,
            allowed_hosts,
            trusted_origins,
            log: log.unwrap_or_default(),
            hf_home,
            engine,
            text_cache_mb,
            report: ConfigReport {
                file: decision.file_path.display().to_string(),
                values: decision.values,
            },
        })
    }

    /// A configuration with every folder below one, for tests and demonstrations.
    ///
    /// # Errors
    /// As [`Config::load`], from a `config.toml` in that folder.
    pub fn below(folder: &Path) -> Result<Self> {
        let flags = Flags {
            data_dir: Some(folder.to_owned()),
            ..Flags::default()
        };
        Self::decide(
            &flags,
            &Surroundings {
                variable: &|_| None,
                current_dir: folder.to_owned(),
                home: None,
                config_dir: folder.to_owned(),
                data_dir: folder.to_owned(),
                pictures_dir: None,
                cache_dir: folder.to_owned(),
            },
        )
    }

    /// Every value with where it came from.
    pub fn report(&self) -> &ConfigReport {
        &self.report
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.data_dir.join("kinora.db")
    }

    /// What is known of the hashes of weight files.
    pub fn hashes(&self) -> PathBuf {
        self.data_dir.join("hashes.json")
    }

    /// Wildcards: lists of options that prompts can name.
    pub fn wildcards_dir(&self) -> PathBuf {
        self.data_dir.join("wildcards")
    }

    /// Previews and checkpoints, one folder per job.
    pub fn jobs_dir(&self) -> PathBuf {
        self.data_dir.join("jobs")
    }

    /// Pictures that were handed in, by content.
    pub fn inputs_dir(&self) -> PathBuf {
        self.data_dir.join("inputs")
    }

    /// Thumbnails, made again when needed.
    pub fn thumbnails_dir(&self) -> PathBuf {
        self.data_dir.join("thumbnails")
    }

    /// Encoded prompts, made again when needed.
    pub fn texts_dir(&self) -> PathBuf {
        self.data_dir.join("texts")
    }

    /// Contact sheets, made again when needed.
    pub fn sheets_dir(&self) -> PathBuf {
        self.data_dir.join("sheets")
    }
}

/// Every value with where it came from.
pub async fn show(app: &App, _: NoInput) -> Result<ConfigReport> {
    Ok(app.config().report().clone())
}

#[cfg(test)]
mod tests;
