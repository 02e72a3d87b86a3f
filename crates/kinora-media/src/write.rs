//! A finished picture onto the disk, so that it is there after a power cut.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use kinora_core::{Artifact, AssetKind, ImageFormat, Recipe};
use sha2::{Digest, Sha256};

use crate::{
    encode::encode,
    error::{Error, Result},
};

/// Encodes RGB pixels (height, width, 3) with their recipe, writes them to `staging` and syncs the
/// file and its folder. The folder exists already. A file that could not be finished is removed.
///
/// Naming the file for good is the caller's: it renames `staging` once its own books are straight.
pub fn write_picture(
    staging: &Path,
    rgb: &[u8],
    width: u32,
    height: u32,
    format: ImageFormat,
    recipe: &Recipe,
) -> Result<Artifact> {
    let bytes = encode(rgb, width, height, format, recipe)?;
    write_synced(staging, &bytes).map_err(|source| {
        // Best effort: the error that counts is the one that is told.
        let _ = fs::remove_file(staging);
        Error::Write {
            path: staging.to_owned(),
            source,
        }
    })?;
    let digest = Sha256::digest(&bytes);
    Ok(Artifact {
        kind: AssetKind::Image,
        format: format.into(),
        width,
        height,
        bytes: bytes.len() as u64,
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        clip: None,
        recipe: recipe.clone(),
    })
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
