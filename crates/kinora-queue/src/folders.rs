//! Where things are: the outputs, the staging names beside them, the folders of jobs, the trash.

use std::path::{Path, PathBuf};

use kinora_core::{FileFormat, JobId};

use crate::{Error, Result};

/// Days after which a picture in the trash is deleted for good.
pub const TRASH_DAYS: u32 = 30;

/// The longest part of an output's path, in bytes: file systems take 255, and the number and the
/// ending need some.
const LONGEST_NAME: usize = 230;
/// The longest stem as a whole, in bytes.
const LONGEST_STEM: usize = 1_024;
/// How staging names begin and end.
const STAGING_PREFIX: &str = ".kinora-";
const STAGING_ENDING: &str = ".part";

/// The folders that the queue writes to.
#[derive(Clone, Debug)]
pub struct Folders {
    data: PathBuf,
    outputs: PathBuf,
}

impl Folders {
    /// The data folder, which is the queue's alone, and the outputs folder, which is not.
    pub fn new(data: impl Into<PathBuf>, outputs: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            outputs: outputs.into(),
        }
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The outputs folder; assets' paths are below it.
    pub fn outputs(&self) -> &Path {
        &self.outputs
    }

    /// The folder of all jobs' folders.
    pub fn jobs(&self) -> PathBuf {
        self.data.join("jobs")
    }

    /// A job's folder, for previews and checkpoints.
    pub fn scratch(&self, job: JobId) -> PathBuf {
        self.jobs().join(job.to_string())
    }

    /// The folder of the trash.
    pub fn trash(&self) -> PathBuf {
        self.data.join("trash")
    }

    /// A path below the outputs folder, as a path of this machine.
    pub fn output(&self, path: &str) -> PathBuf {
        self.outputs.join(path)
    }
}

/// Refuses stems that would leave the outputs folder, or that some file system does not take.
pub(crate) fn check_stem(stem: &str) -> Result<()> {
    let bad = |reason| {
        Err(Error::BadName {
            stem: stem.to_owned(),
            reason,
        })
    };
    if stem.len() > LONGEST_STEM {
        return bad("it is too long");
    }
    if stem.chars().any(|c| c.is_control() || c == '\\') {
        return bad("it has a character that is not allowed");
    }
    for part in stem.split('/') {
        match part {
            "" => return bad("a part of it is empty"),
            "." | ".." => return bad("it leaves the outputs folder"),
            _ if part.starts_with(STAGING_PREFIX) => return bad("it is kept for unfinished files"),
            _ if part.len() > LONGEST_NAME => return bad("a part of it is too long"),
            _ => {}
        }
    }
    Ok(())
}

/// The staging name of an attempt, in the folder of its stem; a path below the outputs folder.
pub(crate) fn staging(stem: &str, job: JobId, epoch: u32) -> String {
    let name = format!("{STAGING_PREFIX}{job}-{epoch}{STAGING_ENDING}");
    match stem.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{name}"),
        None => name,
    }
}

/// The attempt that a staging name belongs to.
pub(crate) fn parse_staging(name: &str) -> Option<(JobId, u32)> {
    let attempt = name
        .strip_prefix(STAGING_PREFIX)?
        .strip_suffix(STAGING_ENDING)?;
    let (job, epoch) = attempt.rsplit_once('-')?;
    Some((job.parse().ok()?, epoch.parse().ok()?))
}

/// The `number`-th name of a stem, counted from 1: `stem.png`, `stem-2.png`, ...
pub(crate) fn name(stem: &str, number: u32, format: FileFormat) -> String {
    let ending = format.extension();
    match number {
        0 | 1 => format!("{stem}.{ending}"),
        _ => format!("{stem}-{number}.{ending}"),
    }
}

#[cfg(test)]
mod tests {
    use kinora_core::ImageFormat;

    use super::*;

    #[test]
    fn stems_stay_below_the_outputs_folder() {
        for good in ["a", "a/b", "2026-01-01/a b…", ".a", "a..b", "ü"] {
            assert!(check_stem(good).is_ok(), "{good}");
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            "./a",
            "a\\b",
            "a\0b",
            "a\nb",
            ".kinora-x",
            "b/.kinora-x",
            &long,
        ] {
            assert!(check_stem(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn staging_names_tell_their_attempt() {
        let job = JobId::new();
        let path = staging("a/b/c", job, 12);
        let name = path.strip_prefix("a/b/").unwrap();
        assert_eq!(parse_staging(name), Some((job, 12)));
        assert_eq!(parse_staging(&staging("c", job, 1)), Some((job, 1)));
        for other in ["c.png", ".kinora-x-1.part", ".kinora-.part", "x.part"] {
            assert_eq!(parse_staging(other), None, "{other}");
        }
    }

    #[test]
    fn names_count_from_two() {
        assert_eq!(name("a/b", 1, ImageFormat::Png.into()), "a/b.png");
        assert_eq!(name("a/b", 2, ImageFormat::Jpeg.into()), "a/b-2.jpg");
    }
}
