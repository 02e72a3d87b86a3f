//! The command line, as data. Every option's help is the documentation that users meet first.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

mod kept;
mod look;

pub use kept::*;
pub use look::*;

/// Pictures from prompts, on this machine.
#[derive(Debug, Parser)]
#[command(
    name = "kinora",
    version,
    arg_required_else_help = true,
    propagate_version = true
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command. Flag, then environment, then `config.toml`, then default.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Folder of the queue, the settings and the logs [env: KINORA_DATA_DIR]
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        help_heading = "Everywhere"
    )]
    pub data_dir: Option<PathBuf>,
    /// Folder of the models [env: KINORA_MODELS_DIR]
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        help_heading = "Everywhere"
    )]
    pub models_dir: Option<PathBuf>,
    /// A further folder to look for models in, such as ComfyUI's or A1111's, or a file
    /// that lists folders, ComfyUI's extra_model_paths.yaml; several are possible
    /// [env: KINORA_MORE_MODELS_DIRS]
    #[arg(
        long = "more-models-dir",
        global = true,
        value_name = "FOLDER",
        help_heading = "Everywhere"
    )]
    pub more_models_dirs: Vec<PathBuf>,
    /// Folder of the pictures [env: KINORA_OUTPUTS_DIR]
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        help_heading = "Everywhere"
    )]
    pub outputs_dir: Option<PathBuf>,
    /// Log filter, such as `info` or `kinora_queue=debug` [env: KINORA_LOG]
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        help_heading = "Everywhere"
    )]
    pub log: Option<String>,
    /// Folder of the Hugging Face cache [env: HF_HOME]
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        help_heading = "Everywhere"
    )]
    pub hf_home: Option<PathBuf>,
    /// The program that computes, when it does not lie beside this one [env: KINORA_ENGINE]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub engine: Option<PathBuf>,
    /// Disk for encoded prompts in MiB; 0 keeps none [env: KINORA_TEXT_CACHE_MB]
    #[arg(long, global = true, value_name = "MIB", help_heading = "Everywhere")]
    pub text_cache_mb: Option<u64>,
    /// Answer in JSON, one document (or one line per event) on standard output
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub json: bool,
    /// Nothing but results and errors
    #[arg(short, long, global = true, help_heading = "Everywhere")]
    pub quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Paint a prompt
    Generate(Generate),
    /// Make a clip: from a picture, from words alone, or from a draft in full
    Video(Box<Video>),
    /// Paint a list of prompts: plain lines, CSV, TSV or JSONL
    Bulk(Bulk),
    /// Look at jobs and steer them
    #[command(subcommand)]
    Jobs(Jobs),
    /// Look at stored pictures, trash and restore them
    #[command(subcommand)]
    Assets(Assets),
    /// Look at sessions and name them
    #[command(subcommand)]
    Sessions(Sessions),
    /// Look at the models
    #[command(subcommand)]
    Models(Models),
    /// Look at LoRA files, and at what of them fits a model
    #[command(subcommand)]
    Loras(Loras),
    /// Look at what a prompt with choices becomes
    #[command(subcommand)]
    Prompts(Prompts),
    /// Keep lists of options that prompts can name
    #[command(subcommand)]
    Wildcards(Wildcards),
    /// Serve the studio to browsers
    Serve(Serve),
    /// Make a picture again from the recipe inside it
    Run(Run),
    /// Say whether a picture's recipe makes the same bytes here, and what differs
    Verify(Verify),
    /// Check this machine and say what to do
    Doctor,
    /// See and remove what finished jobs left behind
    Cleanup(Cleanup),
    /// Show the configuration
    #[command(subcommand)]
    Config(Config),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// `kinora serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Address to listen on; any but loopback asks for a token [env: KINORA_HOST]
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Port [env: KINORA_PORT]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Token that browsers and programs have to show [env: KINORA_TOKEN]
    #[arg(long, value_name = "TEXT", hide_env_values = true)]
    pub token: Option<String>,
    /// Further names under which browsers may address it, as a proxy gives them; separated by commas
    /// [env: KINORA_ALLOWED_HOSTS]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub allowed_hosts: Vec<String>,
    /// Origins besides its own whose pages may ask, such as https://studio.example; separated by
    /// commas [env: KINORA_TRUSTED_ORIGINS]
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    pub trusted_origins: Vec<String>,
}

/// `kinora run`
#[derive(Debug, Args)]
pub struct Run {
    /// A picture made by Kinora, or a recipe as JSON
    pub file: PathBuf,
    /// Queue it and return at once
    #[arg(long)]
    pub detach: bool,
}

/// `kinora verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// A picture made by Kinora
    pub file: PathBuf,
    /// Also make it again and compare the bytes
    #[arg(long)]
    pub render: bool,
    /// Compare with another picture or clip, wherever it was made, instead of with this machine
    #[arg(long, value_name = "FILE", conflicts_with = "render")]
    pub against: Option<PathBuf>,
}

/// `kinora cleanup`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["status", "list", "hours", "job", "all"]))]
pub struct Cleanup {
    /// How much there is
    #[arg(long)]
    pub status: bool,
    /// What there is
    #[arg(long)]
    pub list: bool,
    /// Remove what is older than this many hours
    #[arg(long, value_name = "N")]
    pub hours: Option<u32>,
    /// Remove what one job left
    #[arg(long, value_name = "ID")]
    pub job: Option<String>,
    /// Remove everything that finished jobs left
    #[arg(long)]
    pub all: bool,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

/// `kinora config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Show every value and where it came from
    Show,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
