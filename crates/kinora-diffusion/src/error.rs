//! What can go wrong between weights and pixels. One variant per thing that a caller treats
//! differently; being cancelled is not an error and is not here.

use std::path::PathBuf;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of loading or running a model. Every message reads well after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor of the model is missing or not what its configuration says.
    #[error("use the weights in {}: {reason}", path.display())]
    BadWeights {
        /// File or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the model cannot be read.
    #[error(transparent)]
    Weights(#[from] kinora_weights::Error),
    /// The request does not fit the model.
    #[error("run the request: {0}")]
    BadRequest(String),
    /// The work does not fit into memory, even in its smallest form.
    #[error("fit into memory: {needed} bytes are needed and {available} are available")]
    OutOfMemory {
        /// Bytes.
        needed: u64,
        /// Bytes.
        available: u64,
    },
    /// A result holds NaN or infinity, or the same value everywhere.
    #[error("compute the {stage}: the result is {fault}")]
    NotFinite {
        /// Which result: `latents`, `picture`.
        stage: &'static str,
        /// `not finite`, `one constant value`.
        fault: &'static str,
    },
    /// A checkpoint was made by other work than the work at hand, or is damaged.
    #[error("resume from the checkpoint: {0}")]
    BadCheckpoint(String),
    /// Tensors of these shapes or formats do not go together.
    #[error("fit tensors together: {0}")]
    Shape(String),
    /// A tensor operation failed.
    #[error("compute: {0}")]
    Device(#[from] candle_core::Error),
    /// Reading or writing a file failed.
    #[error("read or write {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Returns early with [`Error::Shape`].
macro_rules! bail_shape {
    ($($message:tt)*) => {
        return Err($crate::Error::Shape(format!($($message)*)))
    };
}
pub(crate) use bail_shape;

impl Error {
    /// Names the file of an input/output failure.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// A fault of a weight file or its configuration.
    pub fn bad_weights(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::BadWeights {
            path: path.into(),
            reason: reason.into(),
        }
    }
}
