//! What this host needs of the application. A trait, so that the transport can be tested against an
//! application that stalls, floods or refuses at will; it grows when a route needs bytes that no
//! command gives.

use std::path::PathBuf;

use bytes::Bytes;
use kinora_app::commands::Command;
use kinora_core::{AssetId, BatchId, BoxFuture, Digest, Event, JobId, Problems};
use serde_json::Value;
use tokio::sync::broadcast;

/// A file that is served as it lies on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// The file of a stored picture.
    Asset(AssetId),
    /// A small copy of a stored picture.
    Thumbnail {
        /// Of which.
        asset: AssetId,
        /// Longest side in pixels.
        longest: u32,
    },
    /// The latest preview of a running job.
    Preview {
        /// Of which.
        job: JobId,
        /// A clip as it moves, where there is that.
        is_moving: bool,
    },
    /// The contact sheet of a batch.
    Sheet(BatchId),
    /// A picture that was handed in.
    Input(Digest),
}

/// Where such a file lies, and what to tell about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaFile {
    /// The file; it lies inside one of the application's own folders.
    pub path: PathBuf,
    /// Media type.
    pub media_type: String,
    /// File name for whoever saves it.
    pub name: String,
    /// What changes when the content does; None: told from the file's size and time.
    pub version: Option<String>,
    /// Whether the content under this address never changes.
    pub is_immutable: bool,
}

/// The application behind the server.
pub trait Application: Send + Sync + 'static {
    /// Runs a command of the table.
    fn call<'a>(
        &'a self,
        command: &'static Command,
        input: Value,
    ) -> BoxFuture<'a, Result<Value, Problems>>;

    /// Everything that changes from now on.
    fn events(&self) -> broadcast::Receiver<Event>;

    /// Reads the settings out of a picture; answers with a
    /// [`MetadataReading`](kinora_app::metadata::MetadataReading).
    fn read_metadata(&self, file: Bytes) -> BoxFuture<'_, Result<Value, Problems>>;

    /// Keeps a picture that requests can start from; answers with an
    /// [`Input`](kinora_app::inputs::Input).
    fn keep_input(&self, file: Bytes) -> BoxFuture<'_, Result<Value, Problems>>;

    /// Finds, and where it has to, makes the file.
    fn find_media(&self, media: Media) -> BoxFuture<'_, Result<MediaFile, Problems>>;
}
