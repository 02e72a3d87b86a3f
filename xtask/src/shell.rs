//! Running other programs from the repository's root, and finding what they left.

use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// The folder that holds the programs of this build: that of xtask itself, so that a target folder
/// elsewhere is honoured.
pub fn programs() -> Result<PathBuf> {
    let me = env::current_exe().context("find the build folder")?;
    Ok(me.parent().context("find the build folder")?.to_path_buf())
}

/// A program of this build, by name.
pub fn program(name: &str) -> Result<PathBuf> {
    Ok(programs()?.join(name))
}

/// Whether this xtask was built in release; what it builds is built alike.
pub fn is_release() -> bool {
    !cfg!(debug_assertions)
}

/// A command that runs in the repository's root.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// A command that runs in `ui/`.
pub fn npm(arguments: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command.current_dir(root().join("ui")).args(arguments);
    command
}

/// Runs a command to its end, showing what it prints; fails when it does.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .status()
        .with_context(|| format!("start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs a command to its end and returns what it printed.
pub fn read(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Prints a heading, in bold on a terminal.
pub fn say(text: &str) {
    if io::stderr().is_terminal() {
        eprintln!("\x1b[1m{text}\x1b[0m");
    } else {
        eprintln!("{text}");
    }
}

/// The latest change below a folder, `node_modules` and `dist` aside.
pub fn latest_change(folder: &Path) -> SystemTime {
    let mut latest = SystemTime::UNIX_EPOCH;
    let Ok(entries) = folder.read_dir() else {
        return latest;
    };
    for entry in entries.flatten() {
        if entry.file_name() == "node_modules" || entry.file_name() == "dist" {
            continue;
        }
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let changed = if metadata.is_dir() {
            latest_change(&entry.path())
        } else {
            metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
        };
        latest = latest.max(changed);
    }
    latest
}
