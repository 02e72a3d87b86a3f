//! Files that follow from the command table of kinora-app: the OpenAPI document and the TypeScript
//! client. They are committed; a test fails when they drift.

mod openapi;
mod schemas;
mod typescript;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// Writes the generated files, or with `check` only compares them with what is committed.
pub fn run(check: bool) -> Result<()> {
    let root = workspace_root();
    let mut stale = Vec::new();
    for (path, text) in generate() {
        let path = root.join(path);
        if fs::read_to_string(&path).is_ok_and(|current| current == text) {
            continue;
        }
        if check {
            stale.push(path.display().to_string());
        } else {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)
                    .with_context(|| format!("failed to create {}", folder.display()))?;
            }
            fs::write(&path, text)
                .with_context(|| format!("failed to write {}", path.display()))?;
            println!("wrote {}", path.display());
        }
    }
    if !stale.is_empty() {
        bail!(
            "generated files are not up to date: {}; run `cargo xtask codegen`",
            stale.join(", ")
        );
    }
    Ok(())
}

/// Every generated file: its path below the workspace's root, and its text.
fn generate() -> Vec<(&'static str, String)> {
    let api = schemas::Api::collect();
    vec![
        ("docs/openapi.json", openapi::document(&api)),
        ("ui/src/api/generated/types.ts", typescript::types(&api)),
        (
            "ui/src/api/generated/commands.ts",
            typescript::commands(&api),
        ),
    ]
}

fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn committed_files_are_what_would_be_generated() {
        super::run(true).unwrap();
    }
}
