//! The command line, as data. Every option's help is the documentation that users meet first.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};
use clap_complete::Shell;

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

/// What a picture may be told; shared by `generate` and, as defaults, by `bulk`.
#[derive(Clone, Debug, Default, Args)]
pub struct Look {
    /// Model; `kinora models list` shows them
    #[arg(short, long, value_name = "ID")]
    pub model: Option<String>,
    /// What to keep away from
    #[arg(short, long, value_name = "TEXT")]
    pub negative: Option<String>,
    /// One picture for each combination of the prompt's choices; without, each picture draws its own
    /// words
    #[arg(long)]
    pub combinations: bool,
    /// Take prompts as they are written: no choices, no tags
    #[arg(long, conflicts_with = "combinations")]
    pub plain: bool,
    /// Size in pixels
    #[arg(short, long, value_name = "WxH", value_parser = parse_size)]
    pub size: Option<(u32, u32)>,
    /// Denoising steps
    #[arg(long, value_name = "N")]
    pub steps: Option<u32>,
    /// Distilled guidance, for models that have it
    #[arg(long, value_name = "X")]
    pub guidance: Option<f32>,
    /// Classifier-free guidance against the negative prompt
    #[arg(long, value_name = "X")]
    pub true_cfg: Option<f32>,
    /// Reuse most of an earlier step where the first block differs by no more than this share: 0.05
    /// changes little, 0.2 saves much
    #[arg(long, value_name = "X")]
    pub step_cache: Option<f32>,
    /// Seed; random when left out
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Pictures of each prompt
    #[arg(short, long, value_name = "N")]
    pub copies: Option<u32>,
    /// Which of PyTorch's generators the noise equals
    #[arg(long, value_parser = PossibleValuesParser::new(["cpu", "cuda"]))]
    pub rng: Option<String>,
    /// Picture to start from, to edit, to vary, or to begin a clip with: a file, or `asset:` with an
    /// id; several are possible where a model takes several
    #[arg(short, long, value_name = "PICTURE", help_heading = "Pictures")]
    pub image: Vec<String>,
    /// What of that picture is painted anew: white is, black stays
    #[arg(long, value_name = "PICTURE", help_heading = "Pictures")]
    pub mask: Option<String>,
    /// How far it may move away from that picture, above 0 up to 1; of variations, how much the
    /// picture counts: one for all, or one for each in their order
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        help_heading = "Pictures"
    )]
    pub strength: Vec<f32>,
    /// LoRA by its name in the folder `loras`, with a weight behind a colon; several are possible.
    /// For one of two networks (Wan 2.2) `:high` or `:low` follows
    #[arg(long, value_name = "NAME[:WEIGHT][:EXPERT]", help_heading = "Pictures")]
    pub lora: Vec<String>,
    /// File to take for a part of the model instead of its own, such as `vae=ae.safetensors`; several
    /// are possible. `kinora models components` lists parts and files
    #[arg(long, value_name = "PART=FILE", help_heading = "Pictures")]
    pub component: Vec<String>,
    /// Frames of a clip
    #[arg(long, value_name = "N", help_heading = "Clips")]
    pub frames: Option<u32>,
    /// Length of a clip in seconds, instead of frames
    #[arg(
        long,
        value_name = "X",
        conflicts_with = "frames",
        help_heading = "Clips"
    )]
    pub seconds: Option<f32>,
    /// Frames in a second
    #[arg(long, value_name = "N", help_heading = "Clips")]
    pub fps: Option<u32>,
    /// Picture that the clip ends with
    #[arg(long, value_name = "PICTURE", help_heading = "Clips")]
    pub end_image: Option<String>,
    /// Guidance of the second of two experts
    #[arg(long, value_name = "X", help_heading = "Clips")]
    pub cfg_2: Option<f32>,
    /// Share of the steps that the second of two experts takes, 0 to 1
    #[arg(long, value_name = "X", help_heading = "Clips")]
    pub low_share: Option<f32>,
    /// Noise level below which the second of two experts takes over, 0 to 1, instead of a share
    #[arg(
        long,
        value_name = "X",
        conflicts_with = "low_share",
        help_heading = "Clips"
    )]
    pub boundary: Option<f32>,
    /// How far the times are shifted towards noise
    #[arg(long, value_name = "X", help_heading = "Clips")]
    pub shift: Option<f32>,
    /// Frames that the network sees at once: a longer clip goes through it in overlapping windows
    #[arg(long, value_name = "N", help_heading = "Clips")]
    pub context_frames: Option<u32>,
    /// Frames that neighbouring windows share
    #[arg(
        long,
        value_name = "N",
        requires = "context_frames",
        help_heading = "Clips"
    )]
    pub context_overlap: Option<u32>,
    /// Frames go through the VAE in tiles, however much memory there is
    #[arg(long, help_heading = "Clips")]
    pub vae_tiling: bool,
    /// Leave out the sound that the model makes with the pictures
    #[arg(long, help_heading = "Clips")]
    pub no_sound: bool,
    /// Step rule; `kinora models show ID` lists them
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<String>,
    /// Spacing of the noise levels
    #[arg(long, value_name = "NAME")]
    pub schedule: Option<String>,
    /// File format: a picture's or a clip's
    #[arg(long, value_parser = PossibleValuesParser::new([
        "png", "jpeg", "webp", "mp4", "mp4_h265", "mp4_av1", "webm", "gif", "animated_webp", "frames",
    ]))]
    pub format: Option<String>,
    /// Naming template, such as `{date}_{seed}_{prompt}`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub output: Option<String>,
    /// Session that the results belong to
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Before or after other work
    #[arg(long, value_parser = PossibleValuesParser::new(["bulk", "interactive", "urgent"]))]
    pub priority: Option<String>,
}

/// `kinora generate`
#[derive(Debug, Args)]
pub struct Generate {
    /// What to paint; `-` reads it from standard input. May be left out where pictures say enough
    #[arg(required_unless_present = "image")]
    pub prompt: Option<String>,
    /// How
    #[command(flatten)]
    pub look: Look,
    /// Queue it and return at once
    #[arg(long)]
    pub detach: bool,
    /// Say what would be done, how long it takes and what it needs, and do nothing
    #[arg(long, conflicts_with = "detach")]
    pub dry_run: bool,
}

/// `kinora video`
#[derive(Debug, Args)]
pub struct Video {
    /// What happens in it; `-` reads it from standard input. May be left out where a picture is given
    #[arg(required_unless_present_any = ["image", "full"])]
    pub prompt: Option<String>,
    /// How
    #[command(flatten)]
    pub look: Look,
    /// A small and fast try first, to be made full with --full
    #[arg(long)]
    pub draft: bool,
    /// Make these drafts full: same words, picture and seed, all the pixels, steps and frames
    #[arg(long, value_name = "ASSET", num_args = 1.., conflicts_with_all = ["prompt", "draft", "image", "dry_run"])]
    pub full: Vec<String>,
    /// Queue it and return at once
    #[arg(long)]
    pub detach: bool,
    /// Say what would be done, how long it takes and what it needs, and do nothing
    #[arg(long, conflicts_with = "detach")]
    pub dry_run: bool,
}

/// How the columns of a list combine.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Combine {
    /// Every value of one column with every value of the others
    Product,
    /// First with first, second with second
    Zip,
}

/// What a list is written in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ListFormat {
    /// One prompt a line
    Lines,
    /// Comma-separated, with a heading
    Csv,
    /// Tab-separated, with a heading
    Tsv,
    /// One JSON object a line
    Jsonl,
}

/// `kinora bulk`
#[derive(Debug, Args)]
pub struct Bulk {
    /// The list; `-` reads it from standard input
    pub file: PathBuf,
    /// What holds for rows that do not say otherwise
    #[command(flatten)]
    pub look: Look,
    /// What the list is written in; recognised when left out
    #[arg(long, value_enum)]
    pub list_format: Option<ListFormat>,
    /// How cells with several values combine
    #[arg(long, value_enum)]
    pub combine: Option<Combine>,
    /// Name of the batch; the file's name when left out
    #[arg(long)]
    pub name: Option<String>,
    /// Queue it and return at once
    #[arg(long)]
    pub detach: bool,
    /// Check every row, say how long it takes and what it needs, and do nothing
    #[arg(long, conflicts_with = "detach")]
    pub dry_run: bool,
    /// Make a contact sheet in the end
    #[arg(long, conflicts_with = "detach")]
    pub contact_sheet: bool,
    /// Write a results table beside it (row, file, seed, time)
    #[arg(long, conflicts_with = "detach")]
    pub table: bool,
}

/// A job's state, for filters.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum State {
    /// Waiting
    Queued,
    /// Waiting to be resumed
    Paused,
    /// Being painted
    Running,
    /// Finished
    Done,
    /// Failed
    Failed,
    /// Cancelled
    Cancelled,
}

/// `kinora jobs`
#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// List jobs
    List {
        /// Only these states
        #[arg(long, value_enum, value_delimiter = ',')]
        state: Vec<State>,
        /// Only this batch
        #[arg(long, value_name = "ID")]
        batch: Option<String>,
        /// Only this session
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Skip this many
        #[arg(long, default_value_t = 0)]
        offset: u32,
    },
    /// Show one job, with its post-mortem when it failed
    Show {
        /// Which
        id: String,
    },
    /// Follow jobs until they are done
    Watch {
        /// Which; all active ones when left out
        ids: Vec<String>,
    },
    /// Cancel jobs
    Cancel {
        /// Which
        #[arg(required_unless_present_any = ["all", "batch", "session"])]
        ids: Vec<String>,
        /// Every job that is not finished
        #[arg(long)]
        all: bool,
        /// Every unfinished job of this batch
        #[arg(long, value_name = "ID")]
        batch: Option<String>,
        /// Every unfinished job of this session
        #[arg(long, value_name = "ID")]
        session: Option<String>,
    },
    /// Hold jobs back; without ids, the whole queue
    Pause {
        /// Which
        ids: Vec<String>,
    },
    /// Let jobs go on; without ids, the whole queue
    Resume {
        /// Which
        ids: Vec<String>,
    },
    /// Try failed jobs again
    Retry {
        /// Which; all failed ones when left out
        ids: Vec<String>,
        /// Apply the change that fits the failure
        #[arg(long)]
        fix: bool,
        /// Only failed jobs of this batch
        #[arg(long, value_name = "ID")]
        batch: Option<String>,
    },
    /// Change the order
    Move {
        /// Which
        id: String,
        /// In front of this job; to the end when left out
        #[arg(long, value_name = "ID")]
        before: Option<String>,
    },
    /// Change who goes first
    Priority {
        /// Which
        id: String,
        /// How important
        #[arg(value_parser = PossibleValuesParser::new(["bulk", "interactive", "urgent"]))]
        priority: String,
    },
    /// Forget finished jobs; their pictures stay
    Remove {
        /// Which
        #[arg(required_unless_present = "finished")]
        ids: Vec<String>,
        /// Every finished job
        #[arg(long)]
        finished: bool,
    },
}

/// `kinora assets`
#[derive(Debug, Subcommand)]
pub enum Assets {
    /// List pictures and clips, the newest first
    List {
        /// Words of the prompt, the model, or a seed
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Only pictures, or only clips
        #[arg(long, value_name = "KIND", value_parser = ["image", "video"])]
        kind: Option<String>,
        /// Only this model
        #[arg(long, value_name = "ID")]
        model: Option<String>,
        /// Only this session
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        /// What is in the trash
        #[arg(long)]
        trashed: bool,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Skip this many
        #[arg(long, default_value_t = 0)]
        offset: u32,
    },
    /// Show the settings and timings of a picture or a clip
    Show {
        /// Which
        id: String,
    },
    /// Move pictures to the trash
    Trash {
        /// Which
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Take pictures back from the trash
    Restore {
        /// Which
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Delete trashed pictures for good
    Purge {
        /// Which
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// `kinora sessions`
#[derive(Debug, Subcommand)]
pub enum Sessions {
    /// List sessions
    List,
    /// Begin a session
    Create {
        /// Its name
        title: String,
    },
    /// Rename a session
    Rename {
        /// Which
        id: String,
        /// Its new name
        title: String,
    },
    /// Delete a session; its pictures stay
    Remove {
        /// Which
        id: String,
    },
}

/// `kinora models`
#[derive(Debug, Subcommand)]
pub enum Models {
    /// List models
    List,
    /// Show what a model can do
    Show {
        /// Which
        id: String,
    },
    /// List the parts of a model for which other files can be chosen, and the files that fit
    Components {
        /// Which
        id: String,
    },
}

/// `kinora loras`
#[derive(Debug, Subcommand)]
pub enum Loras {
    /// List the files in the folder `loras` of the models folder
    List,
    /// Say what of files fits a model, before anything is run
    Check {
        /// Which, as the list names them; all that can be used when left out
        names: Vec<String>,
        /// The model; the one that a prompt without a model gets when left out
        #[arg(short, long, value_name = "ID")]
        model: Option<String>,
    },
}

/// `kinora prompts`
#[derive(Debug, Subcommand)]
pub enum Prompts {
    /// Show what a prompt becomes, and how many combinations it has
    Preview(Preview),
}

/// `kinora prompts preview`
#[derive(Debug, Args)]
pub struct Preview {
    /// The prompt; `-` reads it from standard input
    pub prompt: String,
    /// What to keep away from
    #[arg(short, long, value_name = "TEXT")]
    pub negative: Option<String>,
    /// List the combinations in their order; without, draws of seeds
    #[arg(long)]
    pub combinations: bool,
    /// Seed of the first draw; examples when left out
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Model that would read it
    #[arg(short, long, value_name = "ID")]
    pub model: Option<String>,
    /// At most this many, up to 200
    #[arg(long, default_value_t = 10)]
    pub limit: u32,
}

/// `kinora wildcards`
#[derive(Debug, Subcommand)]
pub enum Wildcards {
    /// List wildcards
    List,
    /// Print the lines of a wildcard
    Show {
        /// Which, such as `colors` or `animals/birds`
        name: String,
    },
    /// Keep a list as a wildcard, in place of the one of that name
    Set {
        /// What prompts will call it
        name: String,
        /// A text file with one option a line; `-` reads it from standard input
        file: PathBuf,
        /// Refuse when there is one of that name
        #[arg(long)]
        only_new: bool,
    },
    /// Delete a wildcard
    Delete {
        /// Which
        name: String,
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

/// Reads `256x256`.
fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let (width, height) = text
        .split_once(['x', 'X', '×'])
        .ok_or("write it as WIDTHxHEIGHT, such as 256x256")?;
    let number = |text: &str| {
        text.trim()
            .parse()
            .map_err(|_| format!("`{text}` is not a number of pixels"))
    };
    Ok((number(width)?, number(height)?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_size("320x192"), Ok((320, 192)));
        assert_eq!(parse_size("320×192"), Ok((320, 192)));
        assert!(parse_size("320").is_err());
        assert!(parse_size("ax3").is_err());
    }
}
