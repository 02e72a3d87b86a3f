//! Dev only: code generation, checks and the logic behind the Makefile.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod build;
mod check;
mod codegen;
mod launch;
mod python;
mod shell;

#[derive(Parser)]
#[command(about = "Development tasks of Kinora")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Turns the example list into pictures with the built-in model
    Demo,
    /// Opens the window; serves where there is no display
    Studio,
    /// Serves the studio to browsers
    Serve,
    /// Serves, with the UI reloading as it is edited
    Dev,
    /// Builds everything
    Build {
        /// Build the engine for NVIDIA GPUs
        #[arg(long)]
        cuda: bool,
    },
    /// Runs every test: Rust, UI, browser, desktop window
    Test,
    /// Checks style, generated files, and which crate knows which
    Lint,
    /// Formats everything
    Fmt,
    /// Records the reference tensors again
    Goldens,
    /// Compares speed with the reference library, and times the queue
    Bench {
        /// Compares whole denoisers on the GPU instead, and writes docs/benchmarks-gpu.md
        #[arg(long)]
        gpu: bool,
    },
    /// Makes the pictures of the README
    DocsScreenshots,
    /// Writes what follows from the command table: docs/openapi.json and ui/src/api/generated/
    Codegen {
        /// Write nothing; fail when a committed file is not what would be written
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        // In one line and without a backtrace: what failed printed its own words right above.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Demo => launch::demo(),
        Task::Studio => launch::studio(),
        Task::Serve => launch::serve(),
        Task::Dev => launch::dev(),
        Task::Build { cuda } => build::everything(cuda),
        Task::Test => check::test(),
        Task::Lint => check::lint(),
        Task::Fmt => check::fmt(),
        Task::Goldens => python::goldens(),
        Task::Bench { gpu: false } => python::bench(),
        Task::Bench { gpu: true } => python::bench_gpu(),
        Task::DocsScreenshots => launch::screenshots(),
        Task::Codegen { check } => codegen::run(check),
    }
}
