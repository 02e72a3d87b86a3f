//! The program `kinora`: the application on a command line. Reads arguments, calls commands of the
//! table, prints answers. It decides nothing that the window or the server would decide otherwise.

mod args;
mod commands;
mod connection;
mod exit;
mod follow;
mod output;
mod text;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use kinora_app::{
    config::{Config, Flags},
    logging,
};

use crate::{
    args::{Cli, Command},
    connection::{Connection, Refusal},
};

/// What commands work with.
pub struct Context {
    /// Where commands go.
    pub connection: Connection,
    /// Whether answers are JSON.
    pub is_json: bool,
    /// Whether progress is not shown.
    pub is_quiet: bool,
}

impl Context {
    /// Prints an answer: as it is in JSON, else as the given text.
    pub fn print(&self, answer: &impl serde::Serialize, text: impl FnOnce() -> String) {
        if self.is_json {
            match serde_json::to_string_pretty(answer) {
                Ok(json) => output::say(json),
                Err(error) => output::tell(format!("kinora: failed to write the answer: {error}")),
            }
        } else {
            let text = text();
            if !text.is_empty() {
                output::say(text);
            }
        }
    }

    /// Tells something that is not the answer, on standard error.
    pub fn tell(&self, text: impl AsRef<str>) {
        if !self.is_quiet {
            output::tell(text);
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "kinora", &mut script);
        output::say(String::from_utf8_lossy(&script).trim_end());
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::tell(format!("kinora: failed to start: {error}"));
            return exit::FAILED.into();
        }
    };
    let is_json = cli.global.json;
    let code = match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(refusal) => report(&refusal, is_json),
    };
    // Whatever still blocks a thread (a slow disk) has nothing more to say to the user.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code.into()
}

async fn run(cli: Cli) -> Result<u8, Refusal> {
    let config = Config::load(&flags(&cli))?;
    let (logs, _flush) = logging::start(&config, matches!(cli.command, Command::Serve(_)));
    match cli.command {
        Command::Serve(_) => return commands::serve::run(config, logs, cli.global.json).await,
        Command::Doctor => return commands::doctor::run(config, logs, cli.global.json).await,
        Command::Config(args::Config::Show) => {
            return Ok(commands::config::show(&config, cli.global.json));
        }
        _ => {}
    }
    let context = Context {
        connection: Connection::open(config, logs).await?,
        is_json: cli.global.json,
        is_quiet: cli.global.quiet || cli.global.json,
    };
    let result = match cli.command {
        Command::Generate(arguments) => commands::generate::run(&context, arguments).await,
        Command::Video(arguments) => commands::video::run(&context, *arguments).await,
        Command::Bulk(arguments) => commands::bulk::run(&context, arguments).await,
        Command::Jobs(arguments) => commands::jobs::run(&context, arguments).await,
        Command::Assets(arguments) => commands::assets::run(&context, arguments).await,
        Command::Sessions(arguments) => commands::sessions::run(&context, arguments).await,
        Command::Models(arguments) => commands::models::run(&context, arguments).await,
        Command::Loras(arguments) => commands::loras::run(&context, arguments).await,
        Command::Prompts(arguments) => commands::prompts::run(&context, arguments).await,
        Command::Wildcards(arguments) => commands::wildcards::run(&context, arguments).await,
        Command::Run(arguments) => commands::recipe::run(&context, arguments).await,
        Command::Verify(arguments) => commands::recipe::verify(&context, arguments).await,
        Command::Cleanup(arguments) => commands::cleanup::run(&context, arguments).await,
        Command::Serve(_) | Command::Doctor | Command::Config(_) | Command::Completions { .. } => {
            Ok(exit::DONE)
        }
    };
    context.connection.close().await;
    result
}

/// The flags that take part in the configuration.
fn flags(cli: &Cli) -> Flags {
    let mut flags = Flags {
        data_dir: cli.global.data_dir.clone(),
        models_dir: cli.global.models_dir.clone(),
        more_models_dirs: cli.global.more_models_dirs.clone(),
        outputs_dir: cli.global.outputs_dir.clone(),
        log: cli.global.log.clone(),
        hf_home: cli.global.hf_home.clone(),
        engine: cli.global.engine.clone(),
        text_cache_mb: cli.global.text_cache_mb,
        ..Flags::default()
    };
    if let Command::Serve(serve) = &cli.command {
        flags.host = serve.host.clone();
        flags.port = serve.port;
        flags.token = serve.token.clone();
        flags.allowed_hosts = serve.allowed_hosts.clone();
        flags.trusted_origins = serve.trusted_origins.clone();
    }
    flags
}

/// Says why a command ended early; returns the exit code that fits.
fn report(refusal: &Refusal, is_json: bool) -> u8 {
    match refusal {
        Refusal::Interrupted => {
            output::tell(
                "\nkinora: stopped; what is queued stays queued and goes on at the next start",
            );
            exit::INTERRUPTED
        }
        Refusal::Problems(problems) => {
            if is_json {
                match serde_json::to_string_pretty(problems) {
                    Ok(json) => output::say(json),
                    Err(error) => {
                        output::tell(format!("kinora: failed to write the answer: {error}"))
                    }
                }
            } else {
                let all = if problems.problems.is_empty() {
                    std::slice::from_ref(&problems.first)
                } else {
                    &problems.problems
                };
                for problem in all {
                    output::tell(format!("kinora: {problem}"));
                    if !problem.hint.is_empty() {
                        output::tell(format!("        {}", problem.hint));
                    }
                }
            }
            exit::code_for(problems)
        }
    }
}
