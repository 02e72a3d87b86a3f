//! What can go wrong with a picture or a clip.

use std::{io, path::PathBuf};

use kinora_core::{ClipFormat, ImageFormat};

/// Why a picture or a clip could not be read or written. Messages read well after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first bytes are those of no format that Kinora knows.
    #[error(
        "read the file: it is no picture (PNG, JPEG, WebP) and no clip (MP4, WebM, GIF) that Kinora knows"
    )]
    UnsupportedFile,
    /// The file starts like a picture and then breaks its format's rules.
    #[error("read the picture: {what}")]
    Damaged {
        /// What is wrong with it.
        what: String,
    },
    /// Decoding would take more memory than Kinora gives to one picture.
    #[error(
        "decode the picture: {width} × {height} pixels are more than the {limit} million that Kinora opens"
    )]
    TooLarge {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Millions of pixels accepted.
        limit: u64,
    },
    /// The buffer and the size do not belong together, or the format cannot hold the size.
    #[error("encode a picture of {width} × {height} pixels as {format:?}: {what}")]
    Encode {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// The format asked for.
        format: ImageFormat,
        /// What the encoder said.
        what: String,
    },
    /// The format cannot hold what was asked, or its encoder failed.
    #[error("encode a clip of {width} × {height} pixels as {format:?}: {what}")]
    EncodeClip {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// The format asked for.
        format: ClipFormat,
        /// What the encoder said.
        what: String,
    },
    /// A picture of a clip does not have the clip's size.
    #[error("take a picture of {found} bytes into a clip whose pictures have {expected}")]
    FrameLength {
        /// Bytes given.
        found: usize,
        /// Bytes of a picture of the clip's size.
        expected: usize,
    },
    /// The file cannot be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk refused.
    #[error("write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Error::Damaged { what: what.into() }
    }

    /// Whether there was no room left on the disk (or in the user's quota).
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self,
            Error::Write { source, .. } if matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero
            )
        )
    }
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;
