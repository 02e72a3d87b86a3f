//! Errors as users meet them: what went wrong, why, and what to do next.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The class of an error. A code is added when some caller would act differently on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A field is missing, malformed or out of its limits.
    InvalidInput,
    /// There is no such thing.
    NotFound,
    /// The thing is in a state that does not allow this.
    Conflict,
    /// No token, or a wrong one.
    Unauthorized,
    /// The caller may not do this (wrong Host or Origin, path outside its root).
    Forbidden,
    /// The named model is not in the catalogue.
    UnknownModel,
    /// The model's files are not on this machine.
    ModelNotInstalled,
    /// The model's files are damaged or of an unknown layout.
    BadWeights,
    /// More memory is needed than the machine has.
    OutOfMemory,
    /// The disk is full.
    DiskFull,
    /// The device failed, or the engine died, while the job ran.
    EngineLost,
    /// The engine could not be started.
    EngineUnavailable,
    /// The same job killed the engine twice; it is not tried again.
    Poison,
    /// The result was not finite, or a single flat colour.
    BadResult,
    /// The file is not of a kind that Kinora reads.
    UnsupportedFile,
    /// The data folder belongs to another running Kinora.
    DataFolderInUse,
    /// The data folder was written by a newer Kinora.
    NewerData,
    /// Reading or writing failed for another reason.
    Io,
    /// A defect of Kinora itself.
    Internal,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Class.
    pub code: Code,
    /// What went wrong, and why.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// The field of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The line of the list, counted from 1 as an editor does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column of the list, by its heading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
}

impl Problem {
    /// A problem that concerns the request as a whole.
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: hint.into(),
            field: None,
            line: None,
            column: None,
        }
    }

    /// A problem with one field of the input.
    pub fn in_field(field: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            field: Some(field.to_owned()),
            ..Self::new(Code::InvalidInput, message, hint)
        }
    }

    /// The same problem, at a line of a list.
    pub fn at_line(mut self, line: u32) -> Self {
        self.line = Some(line);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(column) = &self.column {
            write!(f, "column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// What a refused command answers: its first problem, and all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problems {
    /// The first problem, spread out for callers that show one line.
    #[serde(flatten)]
    pub first: Problem,
    /// Everything that is wrong, the first included, when there is more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

impl Problems {
    /// From a list of problems; None when there are none.
    pub fn from_list(problems: Vec<Problem>) -> Option<Self> {
        let first = problems.first()?.clone();
        let problems = if problems.len() > 1 {
            problems
        } else {
            Vec::new()
        };
        Some(Self { first, problems })
    }
}

impl From<Problem> for Problems {
    fn from(first: Problem) -> Self {
        Self {
            first,
            problems: Vec::new(),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        if self.problems.len() > 1 {
            write!(f, " (and {} more)", self.problems.len() - 1)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
