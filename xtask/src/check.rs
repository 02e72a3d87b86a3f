//! Tests and lints of every kind, in the order in which they fail fastest.

use std::fs;

use anyhow::{Result, bail};

use crate::{
    build,
    shell::{command, npm, program, programs, root, run, say},
};

/// Every test: Rust, UI, browser, desktop window.
pub fn test() -> Result<()> {
    say("UI: types, lints, unit tests");
    run(&mut npm(&["run", "--silent", "typecheck"]))?;
    run(&mut npm(&["run", "--silent", "lint"]))?;
    run(&mut npm(&["test", "--silent"]))?;
    build::ui()?;
    say("Rust");
    run(command("cargo").args(["test", "--workspace"]))?;
    build::packages(&["kinora-cli", "kinora-engine", "kinora-desktop"])?;
    say("Browser");
    run(npm(&["run", "--silent", "test:e2e"]).env("KINORA_E2E_PROGRAM", program("kinora")?))?;
    say("Desktop window");
    run(npm(&["run", "--silent", "test:desktop"]).env("KINORA_PROGRAMS", programs()?))
}

/// Clippy, rustfmt, ESLint, Prettier, generated files, and licences where cargo-deny is installed.
pub fn lint() -> Result<()> {
    run(command("cargo").args(["fmt", "--all", "--check"]))?;
    run(command("cargo").args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    crate::codegen::run(true)?;
    run(&mut npm(&["run", "--silent", "lint"]))?;
    run(&mut npm(&["run", "--silent", "typecheck"]))?;
    house_rules()?;
    if command("cargo")
        .args(["deny", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        run(command("cargo").args([
            "deny",
            "--log-level",
            "error",
            "check",
            "licenses",
            "bans",
            "sources",
        ]))?;
    } else {
        say("Licences were not checked: `cargo install cargo-deny` to have them checked here.");
    }
    Ok(())
}

/// Formats everything.
pub fn fmt() -> Result<()> {
    run(command("cargo").args(["fmt", "--all"]))?;
    run(&mut npm(&["run", "--silent", "format"]))
}

/// Which crate may know which: the arrows of docs/ARCHITECTURE.md.
const ARROWS: &[(&str, &[&str])] = &[
    ("kinora-core", &[]),
    ("kinora-weights", &["kinora-core"]),
    ("kinora-prompts", &[]),
    ("kinora-media", &["kinora-core"]),
    ("kinora-diffusion", &["kinora-core", "kinora-weights"]),
    (
        "kinora-engine",
        &[
            "kinora-core",
            "kinora-weights",
            "kinora-media",
            "kinora-diffusion",
            "kinora-prompts",
        ],
    ),
    ("kinora-catalog", &["kinora-core", "kinora-weights"]),
    ("kinora-store", &["kinora-core"]),
    ("kinora-queue", &["kinora-core", "kinora-store"]),
    (
        "kinora-app",
        &[
            "kinora-core",
            "kinora-catalog",
            "kinora-media",
            "kinora-prompts",
            "kinora-queue",
            "kinora-store",
        ],
    ),
    ("kinora-http", &["kinora-core", "kinora-app"]),
    ("kinora-cli", &["kinora-core", "kinora-app", "kinora-http"]),
    ("kinora-testkit", &["kinora-core"]),
];

/// Fails when a crate's manifest imports what its room must not know.
pub fn house_rules() -> Result<()> {
    let mut faults = Vec::new();
    for (name, allowed) in ARROWS {
        let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml"))?;
        let product = manifest
            .split("[dev-dependencies]")
            .next()
            .unwrap_or_default();
        for line in product.lines() {
            let Some(dependency) = line.split(['.', ' ', '=']).next() else {
                continue;
            };
            if dependency.starts_with("kinora-") && !allowed.contains(&dependency) {
                faults.push(format!("{name} must not import {dependency}"));
            }
            if dependency.starts_with("candle")
                && !["kinora-diffusion", "kinora-engine"].contains(name)
            {
                faults.push(format!("{name} must not link candle"));
            }
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        bail!("{}", faults.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rooms_know_only_whom_they_may() {
        super::house_rules().unwrap();
    }
}
