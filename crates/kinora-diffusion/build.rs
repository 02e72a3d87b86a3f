//! With the feature `cuda`: compiles `kernels/*.cu` to PTX. Without it, nothing.
//!
//! PTX for compute capability 8.0 runs on every NVIDIA GPU from Ampere on: the driver compiles it
//! for the GPU at hand when it is first used and keeps the result. So one program serves RTX 30 to
//! 50, H100 and DGX Spark; `CUDA_COMPUTE_CAP` only decides what candle's own kernels are built for.

use std::{
    env,
    ffi::OsStr,
    fs, iter,
    path::{Path, PathBuf},
    process::Command,
};

/// What the kernels need at least: bf16, asynchronous copies, matrix products of 16×8×16.
const ARCHITECTURE: &str = "compute_80";

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH", "PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    if let Err(message) = compile_all() {
        println!("cargo::error={message}");
    }
}

fn compile_all() -> Result<(), String> {
    let nvcc = find_nvcc()?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let entries = fs::read_dir("kernels").map_err(|error| format!("read kernels/: {error}"))?;
    let mut sources: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension() == Some(OsStr::new("cu")))
        .collect();
    sources.sort();
    let mut table = String::from("&[\n");
    for source in &sources {
        let name = source
            .file_stem()
            .and_then(OsStr::to_str)
            .ok_or_else(|| format!("{} has no name", source.display()))?;
        compile(&nvcc, source, &out.join(format!("{name}.ptx")))?;
        table += &format!(
            "    (\"{name}\", include_str!(concat!(env!(\"OUT_DIR\"), \"/{name}.ptx\"))),\n"
        );
    }
    table += "]\n";
    fs::write(out.join("ptx.rs"), table).map_err(|error| format!("write ptx.rs: {error}"))
}

fn compile(nvcc: &Path, source: &Path, ptx: &Path) -> Result<(), String> {
    let output = Command::new(nvcc)
        .args(["-ptx", "-O3", "-std=c++17", "-arch", ARCHITECTURE])
        .arg("-o")
        .args([ptx, source])
        .output()
        .map_err(|error| format!("run {}: {error}", nvcc.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // A build script's message is one line.
    Err(format!(
        "nvcc cannot compile {}: {}",
        source.display(),
        said.lines().collect::<Vec<_>>().join(" | ")
    ))
}

/// `NVCC`, or nvcc in `CUDA_HOME`, `CUDA_PATH`, the path, or where NVIDIA's packages put it.
fn find_nvcc() -> Result<PathBuf, String> {
    if let Some(named) = env::var_os("NVCC") {
        return Ok(named.into());
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(env::var_os)
        .map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    homes
        .chain(env::split_paths(&path))
        .chain(iter::once(PathBuf::from("/usr/local/cuda/bin")))
        .map(|folder| folder.join("nvcc"))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            "the feature cuda needs NVIDIA's compiler, and nvcc was not found: install the CUDA \
             toolkit (12.8 or newer; 13.0 for a DGX Spark) and put it on the path, or name its \
             folder in CUDA_HOME; without the feature Kinora computes on the processor"
                .to_owned()
        })
}
