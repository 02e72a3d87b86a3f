//! Building: the UI first, for the programs carry it inside.

use std::{env, fs, iter, path::PathBuf};

use anyhow::{Result, bail};

use crate::shell::{command, is_release, latest_change, npm, root, run, say};

/// Builds the UI unless its bundle is newer than its sources.
pub fn ui() -> Result<()> {
    let ui = root().join("ui");
    let bundle = ui.join("dist/assets");
    let built = fs::metadata(&bundle).and_then(|metadata| metadata.modified());
    if built.is_ok_and(|built| built > latest_change(&ui)) {
        return Ok(());
    }
    say("Building the UI");
    run(&mut npm(&["run", "--silent", "build"]))
}

/// Builds packages in the profile of this xtask.
pub fn packages(names: &[&str]) -> Result<()> {
    let mut cargo = command("cargo");
    cargo.arg("build");
    if is_release() {
        cargo.arg("--release");
    }
    for name in names {
        cargo.args(["-p", name]);
    }
    run(&mut cargo)
}

/// Builds everything that a user runs; with `cuda`, the engine for NVIDIA GPUs.
pub fn everything(cuda: bool) -> Result<()> {
    ui()?;
    packages(&["kinora-cli", "kinora-desktop"])?;
    if !cuda {
        return packages(&["kinora-engine"]);
    }
    let nvcc = nvcc()?;
    let mut cargo = command("cargo");
    cargo.args([
        "build",
        "--release",
        "-p",
        "kinora-engine",
        "--features",
        "cuda",
    ]);
    // The build scripts look for nvcc on the path only.
    if let Some(folder) = nvcc.parent() {
        let others = env::var_os("PATH").unwrap_or_default();
        let folders = iter::once(folder.to_path_buf()).chain(env::split_paths(&others));
        cargo.env("PATH", env::join_paths(folders)?);
    }
    run(&mut cargo)
}

/// NVIDIA's compiler: on the path, in `CUDA_HOME` or `CUDA_PATH`, or where its packages put it.
///
/// # Errors
/// When there is none, and when nothing says for which GPU to build.
fn nvcc() -> Result<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(env::var_os)
        .map(PathBuf::from)
        .chain([PathBuf::from("/usr/local/cuda")]);
    let folders = homes.map(|home| home.join("bin"));
    let Some(nvcc) = find("nvcc", folders) else {
        bail!(
            "nvcc was not found: install NVIDIA's CUDA toolkit (12.8 or newer; 13.0 for a DGX \
             Spark) and put it on the path, or name its folder in CUDA_HOME"
        );
    };
    if env::var_os("CUDA_COMPUTE_CAP").is_none() && find("nvidia-smi", iter::empty()).is_none() {
        bail!(
            "there is no NVIDIA driver here to ask which GPU to build for: set CUDA_COMPUTE_CAP \
             (121 for a DGX Spark, 120 for RTX 50, 90 for H100, 89 for RTX 40, 86 for RTX 30)"
        );
    }
    Ok(nvcc)
}

/// A program, in these folders or on the path.
fn find(name: &str, folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut candidates = folders
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file())
}
