//! The GPU process: plans come in on standard input, pictures and progress go out.
//!
//! `kinora-engine serve` is what the application starts and supervises. It speaks the protocol of
//! [`kinora_core::engine`], keeps models loaded, and is built to die: whatever it loses, the
//! application still has. `parity` and `probe` are for people and scripts.
//!
//! Not here: the queue, retries, file names, networking. The mathematics is `kinora-diffusion`.

mod commands;
mod control;
mod device;
mod diffusion;
mod failures;
mod group;
mod hashes;
mod job;
mod lifetime;
mod log;
mod memory;
mod models;
mod pace;
mod parity;
mod reports;
mod runner;
mod serve;
mod sources;
mod worker;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use device::DeviceChoice;
use group::Rhythm;
use kinora_diffusion::parity::Target;
use serve::ServeOptions;

/// The part of Kinora that computes.
#[derive(Debug, Parser)]
#[command(name = "kinora-engine", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs jobs for the application: commands on standard input, reports on standard output.
    Serve {
        /// Where to compute: auto, cpu or cuda.
        #[arg(long, env = "KINORA_DEVICE", default_value = "auto")]
        device: DeviceChoice,
        /// Longest time between two checkpoints, in milliseconds.
        #[arg(long, default_value_t = 2000)]
        checkpoint_ms: u64,
        /// Most denoising steps between two checkpoints.
        #[arg(long, default_value_t = 8)]
        checkpoint_steps: u32,
        /// Shortest time between two previews of a job, in milliseconds.
        #[arg(long, default_value_t = 250)]
        preview_ms: u64,
        /// File that remembers the hashes of weight files.
        #[arg(long)]
        hash_cache: Option<PathBuf>,
        /// Folder that keeps encoded prompts, so that text encoders are read less often.
        #[arg(long)]
        text_cache: Option<PathBuf>,
        /// Size of that folder at most, in mebibytes.
        #[arg(long, default_value_t = 2048)]
        text_cache_mb: u64,
        /// Niceness when computing on the CPU, so that windows stay smooth.
        #[arg(long, default_value_t = 5)]
        niceness: i32,
    },
    /// Compares recorded cases of the reference library with this build, stage by stage.
    Parity {
        /// Where to compute: auto, cpu or cuda.
        #[arg(long, default_value = "cpu")]
        device: DeviceChoice,
        /// Number format to compute in: f32, or bf16 with wider gates.
        #[arg(long, value_enum, default_value = "f32")]
        dtype: parity::Format,
        /// Folders of recorded cases.
        #[arg(required = true)]
        cases: Vec<PathBuf>,
    },
    /// Tells as JSON what this machine computes on.
    Probe {
        /// Where to compute: auto, cpu or cuda.
        #[arg(long, env = "KINORA_DEVICE", default_value = "auto")]
        device: DeviceChoice,
    },
}

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Serve {
            device,
            checkpoint_ms,
            checkpoint_steps,
            preview_ms,
            hash_cache,
            text_cache,
            text_cache_mb,
            niceness,
        } => serve::serve(ServeOptions {
            device,
            rhythm: Rhythm {
                checkpoint_interval: Duration::from_millis(checkpoint_ms),
                checkpoint_steps,
                preview_interval: Duration::from_millis(preview_ms),
            },
            hash_cache,
            text_cache: text_cache.filter(|_| text_cache_mb > 0),
            text_cache_bytes: text_cache_mb.saturating_mul(1 << 20),
            niceness,
        }),
        Command::Parity {
            device,
            dtype,
            cases,
        } => {
            let (device, _) = device.open()?;
            let dtype = dtype.into();
            parity::compare(&cases, &Target { device, dtype })
        }
        Command::Probe { device } => {
            let (_, words) = device.open()?;
            println!("{}", serde_json::to_string_pretty(&words)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}
