//! Encoders in memory that several models share: FLUX.1 dev and Kontext, or two checkpoints beside
//! one T5, have their text encoder in memory once.
//!
//! What is shared is what was read from the same numbers for the same purpose: files are the same
//! when they are one file in one state, or when what they hold is known to be the same. The shelf
//! owns nothing: an encoder leaves memory with the last model that uses it.

use std::{
    any::Any,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::text_cache::HashOf;

/// The encoders that are in memory.
pub struct Shelf {
    sha256_of: HashOf,
    entries: Mutex<Vec<Entry>>,
}

struct Entry {
    purpose: String,
    files: Vec<(PathBuf, FileState)>,
    network: Weak<dyn Any + Send + Sync>,
}

/// A file as it was: device, inode, length, time of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState(u64, u64, u64, (i64, i64));

impl FileState {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        let modified = (meta.mtime(), meta.mtime_nsec());
        Some(Self(meta.dev(), meta.ino(), meta.len(), modified))
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shelf({} encoders)", self.entries().len())
    }
}

impl Shelf {
    /// An empty one. `sha256_of` tells what a file holds as it is now, where that is known; it must
    /// not take long.
    pub fn new(sha256_of: impl Fn(&Path) -> Option<String> + Send + Sync + 'static) -> Self {
        Self {
            sha256_of: Box::new(sha256_of),
            entries: Mutex::default(),
        }
    }

    /// The encoder that was read from such files. `purpose` is everything else that decides what it
    /// is.
    pub(crate) fn find<T: Any + Send + Sync>(
        &self,
        purpose: &str,
        files: &[PathBuf],
    ) -> Option<Arc<T>> {
        let wanted = states(files)?;
        let mut entries = self.entries();
        entries.retain(|entry| entry.network.strong_count() > 0);
        let mut alike = entries.iter().filter(|entry| entry.purpose == purpose);
        let entry = alike.find(|entry| {
            entry.files.len() == wanted.len()
                && (entry.files.iter().zip(&wanted))
                    .all(|(kept, wanted)| self.is_same(kept, wanted))
        })?;
        entry.network.upgrade()?.downcast().ok()
    }

    fn is_same(&self, kept: &(PathBuf, FileState), wanted: &(PathBuf, FileState)) -> bool {
        if kept.1 == wanted.1 {
            return true;
        }
        // What its path holds now counts only while it is the file that was read.
        FileState::of(&kept.0) == Some(kept.1)
            && (self.sha256_of)(&kept.0)
                .zip((self.sha256_of)(&wanted.0))
                .is_some_and(|(kept, wanted)| kept == wanted)
    }

    /// Tells of an encoder that was read from files which were not changed meanwhile: `before` is
    /// how they were.
    pub(crate) fn put<T: Any + Send + Sync>(
        &self,
        purpose: &str,
        before: Option<Read>,
        network: &Arc<T>,
    ) {
        let Some(Read(files)) = before else { return };
        if files
            .iter()
            .any(|(path, state)| FileState::of(path) != Some(*state))
        {
            return;
        }
        let network: Weak<T> = Arc::downgrade(network);
        self.entries().push(Entry {
            purpose: purpose.to_owned(),
            files,
            network,
        });
    }

    /// Tells of an encoder that is about to change, so that nobody else gets it.
    pub(crate) fn take<T: Any + Send + Sync>(&self, network: &Arc<T>) {
        let is_it = |entry: &Entry| std::ptr::addr_eq(entry.network.as_ptr(), Arc::as_ptr(network));
        self.entries().retain(|entry| !is_it(entry));
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files as they were before they were read.
pub(crate) struct Read(Vec<(PathBuf, FileState)>);

impl Read {
    /// None where one of them is not there.
    pub fn of(files: &[PathBuf]) -> Option<Self> {
        states(files).map(Self)
    }
}

fn states(files: &[PathBuf]) -> Option<Vec<(PathBuf, FileState)>> {
    let state = |path: &PathBuf| Some((path.clone(), FileState::of(path)?));
    files.iter().map(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_is_found_by_its_file_and_by_what_another_file_holds() {
        let folder = tempfile::tempdir().unwrap();
        let [first, copy, other] = ["first", "copy", "other"].map(|name| {
            let path = folder.path().join(name);
            fs::write(&path, if name == "other" { "2" } else { "1" }).unwrap();
            vec![path]
        });
        let shelf = Shelf::new(|path| fs::read_to_string(path).ok());
        let encoder = Arc::new(7u32);
        shelf.put("T5 in f32", Read::of(&first), &encoder);
        let found = |purpose: &str, files: &[PathBuf]| shelf.find::<u32>(purpose, files);
        assert!(Arc::ptr_eq(&found("T5 in f32", &first).unwrap(), &encoder));
        assert!(Arc::ptr_eq(&found("T5 in f32", &copy).unwrap(), &encoder));
        assert!(found("T5 in f32", &other).is_none());
        assert!(found("T5 in bf16", &first).is_none());
        assert!(shelf.find::<u64>("T5 in f32", &first).is_none());

        // The file that it was read from is not what lies there now.
        fs::write(&first[0], "22").unwrap();
        assert!(found("T5 in f32", &first).is_none());
        assert!(found("T5 in f32", &copy).is_none());
    }

    #[test]
    fn what_changes_or_leaves_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weights");
        fs::write(&file, "1").unwrap();
        let files = [file];
        let shelf = Shelf::new(|_| None);
        let encoder = Arc::new(7u32);
        shelf.put("CLIP", Read::of(&files), &encoder);
        shelf.take(&encoder);
        assert!(shelf.find::<u32>("CLIP", &files).is_none());

        shelf.put("CLIP", Read::of(&files), &encoder);
        drop(encoder);
        assert!(shelf.find::<u32>("CLIP", &files).is_none());
        assert!(shelf.entries().is_empty());

        let read = Read::of(&files);
        fs::write(&files[0], "22").unwrap();
        let encoder = Arc::new(8u32);
        shelf.put("CLIP", read, &encoder);
        assert!(
            shelf.find::<u32>("CLIP", &files).is_none(),
            "changed while it was read"
        );
    }
}
