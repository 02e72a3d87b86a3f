//! One Kinora per data folder: the lock that says so, and the note that tells others how to reach
//! the one that has it.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kinora_core::{Code, Problem};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const LOCK: &str = "kinora.lock";
const NOTE: &str = "instance.json";

/// How long a lock may outlive its owner.
const PARTING: Duration = Duration::from_secs(2);

/// How to reach the Kinora that has a data folder. Readable by its owner only: it holds the token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceNote {
    /// Its process.
    pub pid: u32,
    /// Where it answers; None: it does not serve.
    pub url: Option<String>,
    /// What it wants to be shown.
    pub token: Option<String>,
}

/// A data folder that is ours until this is dropped.
#[derive(Debug)]
pub struct Instance {
    data_dir: PathBuf,
    _lock: File,
}

impl Instance {
    /// Takes a data folder, which is created when it is missing.
    ///
    /// # Errors
    /// `data_folder_in_use`, naming the process that has it and where that answers.
    pub fn take(data_dir: &Path) -> Result<Self> {
        fs::create_dir_all(data_dir).map_err(|e| Error::io("create", data_dir, &e))?;
        let path = data_dir.join(LOCK);
        let lock = open_lock(&path).map_err(|e| Error::io("open", &path, &e))?;
        let end = Instant::now() + PARTING;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                // Who has it says so in the note. Without one its owner has gone, and a process that
                // it was just starting still holds the lock until it becomes that other program.
                Err(TryLockError::WouldBlock)
                    if !data_dir.join(NOTE).exists() && Instant::now() < end =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => return Err(in_use(data_dir)),
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path, &error)),
            }
        }
        let instance = Self {
            data_dir: data_dir.to_owned(),
            _lock: lock,
        };
        // The lock is what counts; without the note others are only told less of who has it. A stale
        // one would tell them wrong.
        if let Err(error) = instance.announce(None, None) {
            tracing::warn!(%error, "cannot note who has the data folder");
            let _ = fs::remove_file(data_dir.join(NOTE));
        }
        Ok(instance)
    }

    /// Tells others where this process answers.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn announce(&self, url: Option<&str>, token: Option<&str>) -> Result<()> {
        let note = InstanceNote {
            pid: std::process::id(),
            url: url.map(str::to_owned),
            token: token.map(str::to_owned),
        };
        let path = self.data_dir.join(NOTE);
        let text = serde_json::to_vec_pretty(&note).map_err(Error::internal)?;
        write_private(&path, &text).map_err(|e| Error::io("write", &path, &e))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A note that stays behind does no harm: without the lock nobody believes it.
        let _ = fs::remove_file(self.data_dir.join(NOTE));
    }
}

/// How to reach the Kinora that has this data folder; None when none runs.
pub fn find_running(data_dir: &Path) -> Option<InstanceNote> {
    let lock = File::open(data_dir.join(LOCK)).ok()?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let text = fs::read(data_dir.join(NOTE)).ok();
            Some(
                text.and_then(|text| serde_json::from_slice(&text).ok())
                    .unwrap_or_default(),
            )
        }
        _ => None,
    }
}

fn in_use(data_dir: &Path) -> Error {
    let note = find_running(data_dir).unwrap_or_default();
    let process = match note.pid {
        0 => "another Kinora".to_owned(),
        pid => format!("another Kinora (process {pid})"),
    };
    let hint = match &note.url {
        Some(url) => format!("Use it at {url}, close it first, or choose another data folder."),
        None => "Close it first, or choose another data folder.".to_owned(),
    };
    let message = format!(
        "the data folder {} is in use by {process}",
        data_dir.display()
    );
    Problem::new(Code::DataFolderInUse, message, hint).into()
}

fn open_lock(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = path.with_extension("json.part");
    match fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_has_one_owner_who_can_be_found() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert_eq!(find_running(&data), None);
        let first = Instance::take(&data).unwrap();
        first
            .announce(Some("http://127.0.0.1:8030"), Some("secret"))
            .unwrap();

        let refusal = Instance::take(&data).unwrap_err().into_problems().first;
        assert_eq!(refusal.code, Code::DataFolderInUse);
        let pid = std::process::id();
        assert!(
            refusal.message.contains(&format!("process {pid}")),
            "{}",
            refusal.message
        );
        assert!(
            refusal.hint.contains("http://127.0.0.1:8030"),
            "{}",
            refusal.hint
        );
        assert!(!format!("{refusal:?}").contains("secret"));

        let note = find_running(&data).unwrap();
        assert_eq!((note.pid, note.token.as_deref()), (pid, Some("secret")));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(data.join(NOTE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        drop(first);
        assert_eq!(find_running(&data), None);
        Instance::take(&data).unwrap();
    }
}
