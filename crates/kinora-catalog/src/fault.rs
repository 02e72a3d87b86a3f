//! Something that is wrong with a file of the catalogue. It is told; the rest goes on without it.

use std::{fmt, path::PathBuf};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// File or folder.
    pub path: PathBuf,
    /// Entry of `models.toml`, by its id, or by its number where it has none.
    pub entry: Option<String>,
    /// Key inside the entry.
    pub key: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

impl Fault {
    /// A fault of a whole file or folder.
    pub(crate) fn new(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            entry: None,
            key: None,
            reason: reason.into(),
        }
    }

    /// The same fault, inside an entry.
    pub(crate) fn in_entry(mut self, entry: &str) -> Self {
        self.entry = Some(entry.to_owned());
        self
    }

    /// The same fault, at a key.
    pub(crate) fn at_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned()).filter(|key| !key.is_empty() && key != ".");
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        if let Some(entry) = &self.entry {
            write!(f, "model {entry}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.reason)
    }
}
