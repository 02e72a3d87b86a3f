//! Why a model file cannot be used.

use std::{io, path::PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model file cannot be used. Every message reads well after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("read {path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that the model needs is not there.
    #[error("find {what} in {path}")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What was looked for.
        what: String,
    },
    /// The file is cut off or damaged, or someone means harm.
    #[error("read {path}: the file is damaged: {reason}")]
    Damaged {
        /// File.
        path: PathBuf,
        /// What contradicts what.
        reason: String,
    },
    /// The file is whole, but of a kind that is not read here (pickle, GGUF, a web page).
    #[error("read {path}: {reason}")]
    Unsupported {
        /// File or folder.
        path: PathBuf,
        /// What it is, and what to do about it.
        reason: String,
    },
    /// Neither names nor configuration fit any model that Kinora knows.
    #[error("recognise the model in {path}: {reason}")]
    UnknownLayout {
        /// File or folder.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
    /// A tensor that the network needs is not in the files.
    #[error("find the tensor {name} in {path}")]
    UnknownTensor {
        /// File or folder.
        path: PathBuf,
        /// Name in the one key space.
        name: String,
    },
    /// The caller's buffer has another size than the tensor.
    #[error("read {name}: it has {bytes} bytes, the buffer {buffer}")]
    WrongBuffer {
        /// Name in the one key space.
        name: String,
        /// Size of the tensor.
        bytes: usize,
        /// Size of the buffer.
        buffer: usize,
    },
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn unsupported(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Unsupported {
            path: path.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn missing(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Missing {
            path: path.into(),
            what: what.into(),
        }
    }

    pub(crate) fn unknown_layout(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::UnknownLayout {
            path: path.into(),
            reason: reason.into(),
        }
    }
}
