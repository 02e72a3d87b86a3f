//! `kinora-engine parity`: recorded cases of the reference library against this build, as a table.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use candle_core::DType;
use clap::ValueEnum;
use kinora_diffusion::parity::{StageResult, Target, run_on};

/// A number format of weights and activations.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    F32,
    Bf16,
}

impl From<Format> for DType {
    fn from(format: Format) -> Self {
        match format {
            Format::F32 => Self::F32,
            Format::Bf16 => Self::BF16,
        }
    }
}

/// Prints every stage of every case; fails when one is off or cannot be run.
pub fn compare(cases: &[PathBuf], target: &Target) -> Result<ExitCode> {
    let mut is_good = true;
    for case in cases {
        println!("{}", case.display());
        match run_on(case, target) {
            Ok(stages) => {
                print_table(&stages);
                let off = stages.iter().filter(|stage| !stage.pass).count();
                println!("  {} stages, {off} off\n", stages.len());
                is_good &= off == 0;
            }
            Err(error) => {
                println!("  failed to {error}\n");
                is_good = false;
            }
        }
    }
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_table(stages: &[StageResult]) {
    let width = stages
        .iter()
        .map(|stage| stage.stage.len())
        .max()
        .unwrap_or(0)
        .max(5);
    println!(
        "  {:width$}  {:>10}  {:>10}  {:>8}  pass",
        "stage", "max abs", "relative", "gate"
    );
    for stage in stages {
        println!(
            "  {:width$}  {:>10.3e}  {:>10.3e}  {:>8.0e}  {}",
            stage.stage,
            stage.max_abs,
            stage.relative,
            stage.gate,
            if stage.pass { "yes" } else { "NO" },
        );
    }
}
