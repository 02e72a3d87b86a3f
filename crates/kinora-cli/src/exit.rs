//! What the program's exit code says.

use kinora_core::{Code, Problems};

/// Everything that was asked for was done.
pub const DONE: u8 = 0;
/// Something failed for a reason of its own; the message says which.
pub const FAILED: u8 = 1;
/// The command line or the input was wrong; nothing was queued. (clap uses the same number.)
pub const WRONG_INPUT: u8 = 2;
/// There is no such job, asset, model or file.
pub const NOT_FOUND: u8 = 3;
/// The machine has too little memory or disk.
pub const NO_ROOM: u8 = 4;
/// Some jobs of a batch failed or were cancelled; the others are done.
pub const PARTLY: u8 = 5;
/// Another Kinora holds the data folder and does not answer, or refuses the token.
pub const NOT_REACHED: u8 = 6;
/// `kinora verify`: the file differs from what its recipe makes here.
pub const DIFFERS: u8 = 7;
/// Stopped by Ctrl+C.
pub const INTERRUPTED: u8 = 130;

/// The exit code that fits an error.
pub fn code_for(problems: &Problems) -> u8 {
    code_of(problems.first.code)
}

/// The exit code that fits a class of errors.
pub fn code_of(code: Code) -> u8 {
    match code {
        Code::InvalidInput | Code::UnknownModel | Code::Conflict => WRONG_INPUT,
        Code::NotFound | Code::ModelNotInstalled => NOT_FOUND,
        Code::OutOfMemory | Code::DiskFull => NO_ROOM,
        Code::Unauthorized | Code::Forbidden | Code::DataFolderInUse => NOT_REACHED,
        Code::BadWeights
        | Code::EngineLost
        | Code::EngineUnavailable
        | Code::Poison
        | Code::BadResult
        | Code::UnsupportedFile
        | Code::NewerData
        | Code::Io
        | Code::Internal => FAILED,
    }
}
