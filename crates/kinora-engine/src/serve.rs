//! `kinora-engine serve`: threads, and the order in which they begin and end.
//!
//! Commands are read by one thread, reports written by another, and everything that touches a
//! tensor happens on the main thread.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
};

use anyhow::{Context, Result};
use crossbeam_channel::unbounded;
use kinora_core::{
    Code, Failure, Fix,
    engine::{PROTOCOL, Report},
};
use kinora_diffusion::pipelines::{Shelf, TextCache};

use crate::{
    commands::{self, Order},
    control::Control,
    device::DeviceChoice,
    diffusion::DiffusionRunner,
    group::{Rhythm, Surroundings},
    hashes::WeightHashes,
    lifetime,
    log::{self, LogTail},
    memory::floor_of,
    reports::{Reports, claim_stdout},
    runner::Runner,
    worker::Worker,
};

/// How to serve.
#[derive(Debug)]
pub struct ServeOptions {
    /// Where to compute.
    pub device: DeviceChoice,
    /// How often what is kept and shown.
    pub rhythm: Rhythm,
    /// File that remembers hashes of weight files.
    pub hash_cache: Option<PathBuf>,
    /// Folder that keeps encoded prompts.
    pub text_cache: Option<PathBuf>,
    /// Size of that folder at most.
    pub text_cache_bytes: u64,
    /// Niceness where there is no GPU.
    pub niceness: i32,
}

/// Serves one application until it leaves.
///
/// # Errors
/// Standard output cannot be used, or a thread cannot be started.
pub fn serve(options: ServeOptions) -> Result<ExitCode> {
    lifetime::end_with_parent();
    let log = log::start();
    let out = claim_stdout().context("failed to claim standard output")?;
    let (reports, writer) = Reports::start(out).context("failed to start the writer")?;
    lifetime::offer_to_the_oom_killer();
    // Before any thread that computes: the kernel counts niceness by thread.
    if !options.device.may_be_gpu() {
        lifetime::be_nice(options.niceness);
    }

    let exit = match catch_unwind(AssertUnwindSafe(|| compute(&options, &log, &reports))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            reports.tell(Report::Fatal { failure });
            ExitCode::from(2)
        }
        Err(panic) => {
            let failure = describe_panic(panic.as_ref(), &log);
            reports.tell(Report::Fatal {
                failure: Box::new(failure),
            });
            ExitCode::from(3)
        }
    };
    // The last words get out before the process ends; a reader that is gone ends the writer too.
    drop(reports);
    if writer.join().is_err() {
        tracing::error!("the writer of reports panicked");
    }
    Ok(exit)
}

fn compute(
    options: &ServeOptions,
    log: &LogTail,
    reports: &Reports,
) -> std::result::Result<(), Box<Failure>> {
    let hashes = WeightHashes::open(options.hash_cache.as_deref());
    let texts = options.text_cache.as_ref().map(|folder| {
        let hashes = hashes.clone();
        let sha256_of = move |path: &Path| hashes.known(path);
        Arc::new(TextCache::new(folder, options.text_cache_bytes, sha256_of))
    });
    let shelf = {
        let hashes = hashes.clone();
        Shelf::new(move |path| hashes.known(path))
    };
    let runner = DiffusionRunner::open(options.device, texts, shelf).map_err(|error| {
        Box::new(Failure {
            log: log.lines(),
            ..Failure::new(
                Code::EngineUnavailable,
                format!("open the device: {error}"),
                "Look whether the driver is installed, or compute on the CPU (KINORA_DEVICE=cpu).",
            )
        })
    })?;
    let device = runner.device().clone();
    if device.kind == "cpu" {
        lifetime::be_nice(options.niceness);
    }
    let control = Arc::new(Control::default());
    let around = Surroundings {
        reports: reports.clone(),
        control: Arc::clone(&control),
        hashes,
        log: log.clone(),
        rhythm: options.rhythm,
        device: if device.kind == "cpu" {
            "cpu".to_owned()
        } else {
            device.name.clone()
        },
        dtype: runner.dtype().to_owned(),
        memory_floor: floor_of(&device),
    };
    let (sender, orders) = unbounded::<Order>();
    thread::Builder::new()
        .name("commands".to_owned())
        .spawn(move || commands::read(io::stdin(), &control, &sender))
        .map_err(|error| {
            Box::new(Failure::new(
                Code::EngineUnavailable,
                format!("start a thread: {error}"),
                "Look whether the machine is out of processes.",
            ))
        })?;
    tracing::info!(device = device.name, dtype = runner.dtype(), "ready");
    reports.tell(Report::Ready {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        device,
    });
    Worker::new(runner, around).run(&orders)
}

/// A panic as the failure that ends the engine.
pub fn describe_panic(panic: &(dyn Any + Send), log: &LogTail) -> Failure {
    let words = panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it said nothing".to_owned());
    Failure {
        fix: Some(Fix::Retry),
        log: log.lines(),
        ..Failure::new(
            Code::Internal,
            format!("go on: the engine panicked: {words}"),
            "This is a defect of Kinora; please report it with the log.",
        )
    }
}
