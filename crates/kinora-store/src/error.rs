//! What can go wrong with the database, as far as callers act differently on it.

use std::path::PathBuf;

use thiserror::Error;

/// The result of a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the database could not do something.
#[derive(Debug, Error)]
pub enum Error {
    /// Another process, or another store of this one, holds the database.
    #[error("open {}: it is in use by another process", path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The database was written by a newer program.
    #[error(
        "open {}: it has format {found}, and this program knows formats up to {known}",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// The file is a database of another program.
    #[error("open {}: it is not a Kinora database", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The SQLite that is linked in has known defects in what Kinora uses.
    #[error("open the database: SQLite {found} is older than 3.51.3")]
    OldSqlite {
        /// Its version.
        found: String,
    },
    /// No room for the change; nothing was written.
    #[error("write the database: the disk is full")]
    DiskFull,
    /// A file beside the database could not be written.
    #[error("write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A value could not be written as JSON.
    #[error("write a value as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    /// Anything else that SQLite reports, damaged rows included.
    #[error("use the database: {0}")]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Error::DiskFull,
            _ => Error::Sqlite(error),
        }
    }
}
