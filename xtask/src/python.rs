//! What needs the reference library: recording goldens, and timing side by side. Both run in a
//! Python environment of their own, made on first use.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell::{command, programs, root, run, say};

/// Records the reference tensors again.
pub fn goldens() -> Result<()> {
    let python = environment()?;
    say("Recording");
    let out = root().join("tools/goldens/cases");
    run(command(python)
        .arg("tools/goldens/golden.py")
        .arg("--cases")
        .arg("flux_dev,flux_schnell")
        .arg("--out")
        .arg(out))
}

/// Compares speed with the reference library, times the queue, and writes both into
/// docs/benchmarks.md. Fails when a limit of the queue was missed, after everything is written.
pub fn bench() -> Result<()> {
    let python = environment()?;
    say("Building in release");
    for (package, example) in [
        ("kinora-diffusion", "bench"),
        ("kinora-diffusion", "bench_networks"),
        ("kinora-diffusion", "bench_cases"),
        ("kinora-queue", "queue_bench"),
    ] {
        run(command("cargo")
            .args(["build", "--quiet", "--release"])
            .args(["-p", package, "--example", example]))?;
    }
    say("Timing (some minutes; nothing else should run meanwhile)");
    run(command(python)
        .args(["tools/bench/compare.py", "--out", "docs/benchmarks.md"])
        .arg("--examples")
        .arg(examples()?))
}

/// Compares whole denoisers on the GPU with the reference library, and writes
/// docs/benchmarks-gpu.md. The environment's torch must be one for CUDA.
pub fn bench_gpu() -> Result<()> {
    let python = environment()?;
    say("Building in release, for NVIDIA");
    run(command("cargo")
        .args(["build", "--quiet", "--release", "--features", "cuda"])
        .args(["-p", "kinora-diffusion", "--example", "bench_gpu"]))?;
    say("Timing (some minutes; nothing else should run meanwhile)");
    run(command(python)
        .args(["tools/bench/gpu.py", "--out", "docs/benchmarks-gpu.md"])
        .arg("--examples")
        .arg(examples()?))
}

/// Where examples lie in release: beside the programs; xtask itself may have been built in another
/// profile.
fn examples() -> Result<PathBuf> {
    let folder = programs()?;
    let parent = folder.parent().context("find the build folder")?;
    Ok(parent.join("release/examples"))
}

/// The interpreter of the environment with the reference library; makes it when it is not there.
fn environment() -> Result<PathBuf> {
    let folder = root().join(".venv");
    let python = folder.join("bin/python");
    let requirements = Path::new("tools/goldens/requirements.txt");
    let stamp = folder.join("installed.txt");
    let wanted = std::fs::read_to_string(root().join(requirements))?;
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    say("Making the Python environment of the reference library (2 GB, some minutes)");
    run(command("python3").args(["-m", "venv"]).arg(&folder))?;
    run(command(&python)
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "-r"])
        .arg(requirements))?;
    let packages = crate::shell::read(command(&python).args([
        "-c",
        "import sysconfig; print(sysconfig.get_path('purelib'))",
    ]))?;
    run(command(&python).args(["tools/goldens/tools/stub_cuda.py", &packages]))?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}
