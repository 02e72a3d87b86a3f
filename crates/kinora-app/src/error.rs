//! Errors of every room, said to users: a code, what went wrong, and what to do next.

use std::path::Path;

use kinora_core::{Code, Problem, Problems};

/// The result of a use-case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a use-case was refused. Boxed, because results are passed around far more often than errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(Box<Problems>);

impl Error {
    /// From everything that is wrong; a defect of the caller when that is nothing.
    pub fn from_list(problems: Vec<Problem>) -> Self {
        Problems::from_list(problems).map_or_else(
            || Problem::new(Code::Internal, "nothing was wrong", REPORT).into(),
            Into::into,
        )
    }

    /// There is no such thing.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        let hint = "It may have been removed in the meantime; look at the list again.";
        Problem::new(Code::NotFound, format!("there is no {what}"), hint).into()
    }

    /// A file or folder could not be read or written.
    pub fn io(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        let message = format!("failed to {doing} {}: {error}", path.display());
        if is_disk_full(error) {
            return Problem::new(Code::DiskFull, message, FREE_DISK).into();
        }
        let hint = "Check that the folder exists and may be written to.";
        Problem::new(Code::Io, message, hint).into()
    }

    /// A defect of Kinora itself.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Problem::new(Code::Internal, message.to_string(), REPORT).into()
    }

    /// What went wrong, as it is sent.
    pub fn problems(&self) -> &Problems {
        &self.0
    }

    /// What went wrong, as it is sent.
    pub fn into_problems(self) -> Problems {
        *self.0
    }
}

const FREE_DISK: &str = "Make room on the disk, with `kinora cleanup` for example, and try again.";
const REPORT: &str = "This is a defect of Kinora; please report it with the log.";

fn is_disk_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    )
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Problems::from(problem).into()
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Self(Box::new(problems))
    }
}

impl From<Error> for Problems {
    fn from(error: Error) -> Self {
        error.into_problems()
    }
}

impl From<kinora_queue::Error> for Error {
    fn from(error: kinora_queue::Error) -> Self {
        use kinora_queue::Error as Queue;
        if error.is_disk_full() {
            return Problem::new(Code::DiskFull, format!("failed to {error}"), FREE_DISK).into();
        }
        match error {
            Queue::NoJob(id) => Self::not_found(format_args!("job {id}")),
            Queue::NoBatch(id) => Self::not_found(format_args!("batch {id}")),
            Queue::NoSession(id) => Self::not_found(format_args!("session {id}")),
            Queue::NoAsset(id) => Self::not_found(format_args!("picture {id}")),
            Queue::WrongState { state, wanted, .. } => Problem::new(
                Code::Conflict,
                format!("failed to {wanted} the job: it is {}", state.as_str()),
                "Look at the job again: it may have gone on in the meantime.",
            )
            .into(),
            Queue::WrongPlace { is_trashed, .. } => {
                let place = if is_trashed { "is in" } else { "is not in" };
                Problem::new(
                    Code::Conflict,
                    format!("the picture {place} the trash"),
                    "Look at the picture again: it may have been moved in the meantime.",
                )
                .into()
            }
            Queue::BadName { .. } => Problem::in_field(
                "output_name",
                format!("failed to {error}"),
                "Use another naming template.",
            )
            .into(),
            Queue::Store(error) => error.into(),
            Queue::Io { .. } => Problem::new(
                Code::Io,
                format!("failed to {error}"),
                "Check that the folder exists and may be written to.",
            )
            .into(),
            Queue::NoLane(_) | Queue::Ended => Self::internal(format_args!("failed to {error}")),
        }
    }
}

impl From<kinora_store::Error> for Error {
    fn from(error: kinora_store::Error) -> Self {
        use kinora_store::Error as Store;
        let message = format!("failed to {error}");
        let (code, hint) = match error {
            Store::InUse { .. } => (Code::DataFolderInUse, "Close the other Kinora first."),
            Store::Newer { .. } => (
                Code::NewerData,
                "Use the newer Kinora, or another data folder.",
            ),
            Store::Foreign { .. } => (Code::Conflict, "Choose another data folder."),
            Store::DiskFull => (Code::DiskFull, FREE_DISK),
            Store::Io { .. } => (
                Code::Io,
                "Check that the folder exists and may be written to.",
            ),
            Store::OldSqlite { .. } | Store::Encode(_) | Store::Sqlite(_) => {
                (Code::Internal, REPORT)
            }
        };
        if code == Code::Internal {
            tracing::error!(%message);
        }
        Problem::new(code, message, hint).into()
    }
}

impl From<kinora_media::Error> for Error {
    fn from(error: kinora_media::Error) -> Self {
        use kinora_media::Error as Media;
        let message = format!("failed to {error}");
        if error.is_disk_full() {
            return Problem::new(Code::DiskFull, message, FREE_DISK).into();
        }
        let (code, hint) = match error {
            Media::UnsupportedFile => (
                Code::UnsupportedFile,
                "Use a picture (PNG, JPEG, WebP) or a clip (MP4, WebM, GIF).",
            ),
            Media::Damaged { .. } => (Code::UnsupportedFile, "Use an undamaged copy of the file."),
            Media::TooLarge { .. } => (Code::UnsupportedFile, "Use a smaller picture."),
            Media::Encode { .. } | Media::EncodeClip { .. } | Media::FrameLength { .. } => {
                (Code::Internal, REPORT)
            }
            Media::Read { .. } => (Code::Io, "Check that the file is there and may be read."),
            Media::Write { .. } => (
                Code::Io,
                "Check that the folder exists and may be written to.",
            ),
        };
        Problem::new(code, message, hint).into()
    }
}
