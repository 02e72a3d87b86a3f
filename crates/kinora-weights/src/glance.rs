//! What files hold, read once for each state of a file: every family asks the same file whether it is
//! one of its own, and a shelf of models is looked through again whenever it is shown.
//!
//! A state is what the file system tells: device, inode, size, and time of the last change. Headers
//! are large, so that only the latest are kept; what was found in them is small and stays.

use std::{
    collections::{HashMap, VecDeque},
    fs::{File, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use crate::{Error, FilePart, Result, WeightSet, identify_set, lora};

/// Headers that are kept. The largest have some 3000 tensors, about a megabyte.
const MOST_HEADERS: usize = 24;

/// Files that are remembered.
const MOST_FILES: usize = 20_000;

/// What a file is, as far as models go.
#[derive(Clone, Debug, PartialEq)]
pub enum Glance {
    /// Networks; at least one.
    Networks(Vec<FilePart>),
    /// A LoRA or one of its relatives.
    Adapter,
    /// Nothing that is used here, and why: reads well after "failed to".
    Refused(String),
}

impl Glance {
    /// The networks; none of adapters and refused files.
    pub fn networks(&self) -> &[FilePart] {
        match self {
            Self::Networks(parts) => parts,
            Self::Adapter | Self::Refused(_) => &[],
        }
    }

    /// Whether it holds a denoiser, which makes it a model.
    pub fn is_model(&self) -> bool {
        self.networks()
            .iter()
            .any(|part| part.network.is_denoiser())
    }
}

/// What a file is. Its header is read once for each state of the file.
pub fn glance(path: &Path) -> Arc<Glance> {
    let stamp = path.metadata().ok().map(|metadata| Stamp::of(&metadata));
    if let Some(stamp) = stamp
        && let Some((known, glance)) = cache().glances.get(path)
        && *known == stamp
    {
        return Arc::clone(glance);
    }
    let look = || -> Result<Glance> {
        let set = WeightSet::open_file(path)?;
        match find_networks(&set)? {
            parts if !parts.is_empty() => Ok(Glance::Networks(parts)),
            _ if lora::is_adapter(&set) => Ok(Glance::Adapter),
            _ => Ok(Glance::Refused(match identify_set(&set) {
                Err(error) => error.to_string(),
                Ok(_) => "find anything in it".to_owned(),
            })),
        }
    };
    let glance = Arc::new(look().unwrap_or_else(|error| Glance::Refused(error.to_string())));
    if let Some(stamp) = stamp {
        let mut cache = cache();
        if cache.glances.len() >= MOST_FILES {
            cache.glances.clear();
        }
        let entry = (stamp, Arc::clone(&glance));
        cache.glances.insert(path.to_owned(), entry);
    }
    glance
}

/// The networks of a whole file that was opened; none when it holds nothing that is known.
pub(crate) fn find_networks(set: &WeightSet) -> Result<Vec<FilePart>> {
    let stamp = set.stamp();
    if let Some(stamp) = stamp
        && let Some((known, parts)) = cache().networks.get(set.path())
        && *known == stamp
    {
        return Ok(parts.to_vec());
    }
    let parts = match identify_set(set) {
        Ok(identity) => identity.parts,
        // An adapter, or a network of another program.
        Err(Error::Unsupported { .. } | Error::UnknownLayout { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    if let Some(stamp) = stamp {
        let mut cache = cache();
        if cache.networks.len() >= MOST_FILES {
            cache.networks.clear();
        }
        let entry = (stamp, parts.as_slice().into());
        cache.networks.insert(set.path().to_owned(), entry);
    }
    Ok(parts)
}

/// The header of an opened file, if it was read in this state.
pub(crate) fn known_header(path: &Path, file: &File) -> Option<WeightSet> {
    let stamp = Stamp::of(&file.metadata().ok()?);
    let mut cache = cache();
    let is_it = |(known, other, _): &(Stamp, PathBuf, WeightSet)| *known == stamp && other == path;
    let at = cache.headers.iter().position(is_it)?;
    let entry = cache.headers.remove(at)?;
    let set = entry.2.clone();
    cache.headers.push_front(entry);
    Some(set)
}

/// Remembers a header; `set` holds no open file.
pub(crate) fn keep_header(path: &Path, file: &File, set: WeightSet) {
    let Ok(metadata) = file.metadata() else {
        return;
    };
    let mut cache = cache();
    #[cfg(test)]
    {
        *cache.reads.entry(path.to_owned()).or_default() += 1;
    }
    cache.headers.retain(|(_, other, _)| other != path);
    cache.headers.truncate(MOST_HEADERS - 1);
    let entry = (Stamp::of(&metadata), path.to_owned(), set);
    cache.headers.push_front(entry);
}

/// A state of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[derive(Default)]
struct Cache {
    /// The latest first.
    headers: VecDeque<(Stamp, PathBuf, WeightSet)>,
    networks: HashMap<PathBuf, (Stamp, Arc<[FilePart]>)>,
    glances: HashMap<PathBuf, (Stamp, Arc<Glance>)>,
    #[cfg(test)]
    reads: HashMap<PathBuf, usize>,
}

fn cache() -> MutexGuard<'static, Cache> {
    static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);
    CACHE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::recognise;

    fn write(path: &Path, name: &str) {
        let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}}}"#);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 16]);
        fs::write(path, bytes).unwrap();
    }

    fn reads(path: &Path) -> usize {
        cache().reads.get(path).copied().unwrap_or_default()
    }

    #[test]
    fn a_header_is_read_once_for_all_families_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write(&path, "first.weight");
        for _ in 0..3 {
            assert!(recognise(&path).is_err());
            assert!(matches!(&*glance(&path), Glance::Refused(_)));
        }
        assert_eq!(reads(&path), 1);
        write(&path, "another.weight");
        let found = glance(&path);
        let Glance::Refused(reason) = &*found else {
            panic!("it holds nothing");
        };
        assert!(reason.contains("another.weight"), "{reason}");
        assert!(recognise(&path).is_err());
        assert_eq!(reads(&path), 2);
    }

    #[test]
    fn few_headers_are_kept_and_every_answer() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..2 * MOST_HEADERS)
            .map(|number| folder.path().join(format!("{number}.safetensors")))
            .collect();
        for path in &paths {
            write(path, "a.lora_A.weight");
            assert_eq!(*glance(path), Glance::Adapter);
        }
        assert!(cache().headers.len() <= MOST_HEADERS);
        for path in &paths {
            assert_eq!(*glance(path), Glance::Adapter);
            assert_eq!(reads(path), 1);
        }
    }
}
