//! What the studio keeps: jobs, pictures, sessions, models, LoRA files, lists of words.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, builder::PossibleValuesParser};

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
