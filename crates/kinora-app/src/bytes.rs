//! Bytes: how many, for people, and files of them.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
};

use uuid::Uuid;

/// Largest picture file that is read whole.
const MAX_FILE: u64 = 512 << 20;

/// A file's bytes, unless it is larger than any picture.
pub fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Writes a file whole or not at all; its folder is made when it is missing.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // Two requests at once must not write into one file.
    let part = path.with_extension(format!("{}.part", Uuid::now_v7()));
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&part, path)) {
        // Best effort: the error that counts is the one that is told.
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

/// `1.4 GiB`, `12.0 MiB`, `300 bytes`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    UNITS
        .into_iter()
        .find(|(unit, _)| bytes >= *unit)
        .map_or_else(
            || format!("{bytes} bytes"),
            |(unit, name)| format!("{:.1} {name}", bytes as f64 / unit as f64),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_unit_that_fits_is_used() {
        assert_eq!(format_bytes(0), "0 bytes");
        assert_eq!(format_bytes(1536), "1.5 KiB");
        assert_eq!(format_bytes(3 << 30), "3.0 GiB");
    }
}
