//! SHA-256 of weight files, and a memory of them, so that a file is hashed once in its life.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result, json::read_json_bounded};

/// Version of the cache file; another one is thrown away, for hashes can be had again.
const VERSION: u32 = 1;

/// A cache of a hundred thousand files stays below this.
const MAX_CACHE_BYTES: u64 = 64 << 20;

/// SHA-256 of a file, lower-case hex.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(path)(error)),
        }
    }
    Ok(format!("{:x}", hasher.finalize()))
}

/// What makes a file the same file as before, without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
    device: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(Error::io(path))?;
        Ok(Self {
            bytes: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    stamp: Stamp,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    files: BTreeMap<PathBuf, Entry>,
}

/// Hashes by path, each valid as long as size, time of change and inode are the same.
#[derive(Clone, Debug, Default)]
pub struct HashCache {
    path: PathBuf,
    files: BTreeMap<PathBuf, Entry>,
    is_changed: bool,
}

impl HashCache {
    /// Loads the cache, or begins an empty one: what it knew can always be computed again, so a
    /// file that is absent, damaged or of another version is no error.
    pub fn load(path: &Path) -> Self {
        let files = match read_json_bounded::<Stored>(path, MAX_CACHE_BYTES) {
            Ok(stored) if stored.version == VERSION => stored.files,
            _ => BTreeMap::new(),
        };
        Self {
            path: path.to_owned(),
            files,
            is_changed: false,
        }
    }

    /// The hash of a file, if it is known and the file is unchanged.
    pub fn get(&self, path: &Path) -> Option<&str> {
        let entry = self.files.get(path)?;
        (Stamp::of(path).ok()? == entry.stamp).then_some(entry.sha256.as_str())
    }

    /// The hash of a file, computed when it is not known. A file that changes meanwhile is not
    /// remembered.
    pub fn hash(&mut self, path: &Path) -> Result<String> {
        if let Some(sha256) = self.get(path) {
            return Ok(sha256.to_owned());
        }
        let stamp = Stamp::of(path)?;
        let sha256 = hash_file(path)?;
        if Stamp::of(path)? == stamp {
            let entry = Entry {
                stamp,
                sha256: sha256.clone(),
            };
            self.files.insert(path.to_owned(), entry);
            self.is_changed = true;
        }
        Ok(sha256)
    }

    /// Writes the cache if it changed since it was loaded. What another process added meanwhile
    /// is kept.
    pub fn save(&mut self) -> Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        let mut files = Self::load(&self.path).files;
        files.extend(self.files.clone());
        let stored = Stored {
            version: VERSION,
            files,
        };
        write_atomically(&self.path, &stored).map_err(Error::io(&self.path))?;
        self.files = stored.files;
        self.is_changed = false;
        Ok(())
    }
}

fn write_atomically(path: &Path, stored: &Stored) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = folder.join(format!(".{name}.{}.part", std::process::id()));
    let write = || {
        let mut file = File::create(&part)?;
        file.write_all(&serde_json::to_vec(stored)?)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        File::open(folder)?.sync_all()
    };
    let result = write();
    if result.is_err() {
        // The first error is the one worth telling.
        let _ = fs::remove_file(&part);
    }
    result
}
