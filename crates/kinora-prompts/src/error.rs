//! What is wrong with a prompt, and where.

use std::fmt;

use crate::{MAX_DEPTH, MAX_OPTIONS, MAX_PICKS};

/// A place in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Bytes before it.
    pub offset: usize,
    /// Line, from 1.
    pub line: u32,
    /// Character of the line, from 1.
    pub column: u32,
}

impl Position {
    /// The place `offset` bytes into `text`.
    pub fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let last = before.rsplit('\n').next().unwrap_or_default();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            offset,
            line: number(before.matches('\n').count() + 1),
            column: number(last.chars().count() + 1),
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A bracket has no partner.
    #[error("{0} is not closed")]
    Unclosed(String),
    /// The part before `$$`, or a tag's number, is no number.
    #[error("\"{0}\" is no number of picks")]
    BadCount(String),
    /// More is picked than there is.
    #[error("{asked} are picked of {options}")]
    TooManyPicks {
        /// At least so many are wanted.
        asked: u32,
        /// So many there are.
        options: usize,
    },
    /// A choice without anything to choose.
    #[error("there is nothing to choose from")]
    NoOptions,
    /// A weight too large or too finely written.
    #[error("\"{0}\" is no weight")]
    BadWeight(String),
    /// A range of numbers that runs backwards or too far.
    #[error("\"{0}\" is no range of numbers")]
    BadRange(String),
    /// `<repeat…>` without a number.
    #[error("this repeat does not say how often")]
    BadRepeat,
    /// `<fromto…>` without a step, or not of two texts.
    #[error("this change needs a step and two texts")]
    BadChange,
    /// The name of a wildcard or variable is not one.
    #[error("\"{0}\" is no name")]
    BadName(String),
    /// There is no wildcard of that name.
    #[error("there is no wildcard \"{name}\"")]
    UnknownWildcard {
        /// Its name.
        name: String,
        /// One that is spelled alike.
        similar: Option<String>,
    },
    /// The wildcard cannot be read.
    #[error("the wildcard \"{name}\" cannot be read: {reason}")]
    UnreadableWildcard {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A wildcard contains itself.
    #[error("the wildcard \"{0}\" contains itself")]
    Cycle(String),
    /// A variable that nothing sets.
    #[error("nothing sets the variable \"{0}\"")]
    UnknownVariable(String),
    /// A tag that is spelled almost like one of the language.
    #[error("there is no <{written}:…>")]
    Misspelled {
        /// As it stands there.
        written: String,
        /// What was probably meant.
        meant: &'static str,
    },
    /// Groups within groups within groups.
    #[error("groups are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// The text is too long to be read.
    #[error("the text is too long")]
    TooLong,
    /// The wildcard has too many lines.
    #[error("a wildcard has at most {MAX_OPTIONS} lines")]
    TooManyOptions,
    /// Too many subsets to count.
    #[error("this picks from too many options")]
    TooMuchToCount,
    /// The text becomes too long, or repeats too often, when it is expanded.
    #[error("the text becomes too long when it is expanded")]
    TooMuchWork,
}

impl Fault {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Fault::Unclosed(bracket) if bracket.starts_with('<') => {
                "Write > where it ends, or \\< for a plain character.".to_owned()
            }
            Fault::Unclosed(_) => "Write } where it ends, or \\{ for a plain character.".to_owned(),
            Fault::BadCount(_) => format!(
                "Write a number up to {MAX_PICKS} or a range, such as {{2$$a|b|c}} or {{1-2$$a|b|c}}."
            ),
            Fault::TooManyPicks { .. } => "Pick fewer, or add options.".to_owned(),
            Fault::NoOptions => "Add an option.".to_owned(),
            Fault::BadWeight(_) => {
                "Use a number up to 1000000 with up to six decimals, such as 2.5.".to_owned()
            }
            Fault::BadRange(_) => "Begin with the smaller number, such as 1-5.".to_owned(),
            Fault::BadRepeat => {
                format!("Write <repeat[3]:…> or <repeat:1-3,…>, up to {MAX_PICKS} times.")
            }
            Fault::BadChange => "Write it as <fromto[0.5]:before,after>.".to_owned(),
            Fault::BadName(_) => {
                "Use letters, digits, spaces, - and _; / stands between folders.".to_owned()
            }
            Fault::UnknownWildcard { similar, .. } => match similar {
                Some(name) => format!("Did you mean \"{name}\"? Or add the list in the settings."),
                None => "Add the list in the settings, or correct the name.".to_owned(),
            },
            Fault::UnreadableWildcard { .. } => "Correct the file, or save it anew.".to_owned(),
            Fault::Cycle(_) => "Take the wildcard out of its own lines.".to_owned(),
            Fault::UnknownVariable(name) => format!("Set it first: <setvar[{name}]:…>."),
            Fault::Misspelled { meant, .. } => {
                format!("Write <{meant}:…>, or \\< for a plain character.")
            }
            Fault::TooDeep => "Nest fewer groups; wildcards can hold parts of them.".to_owned(),
            Fault::TooLong => "Shorten it; long lists belong into a wildcard.".to_owned(),
            Fault::TooManyOptions => "Split it into several wildcards.".to_owned(),
            Fault::TooMuchToCount => "Pick fewer, or from fewer options.".to_owned(),
            Fault::TooMuchWork => "Repeat less, or pick less.".to_owned(),
        }
    }
}

/// Something that is wrong with a prompt, or with a line of a wildcard that it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// What is wrong.
    pub fault: Fault,
    /// Where it begins.
    pub at: Position,
    /// The wildcard that it is in; None: the prompt itself.
    pub wildcard: Option<String>,
}

impl SyntaxError {
    /// A fault `offset` bytes into `text`.
    pub(crate) fn new(fault: Fault, text: &str, offset: usize) -> Self {
        Self {
            fault,
            at: Position::of(text, offset),
            wildcard: None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        self.fault.hint()
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.wildcard {
            write!(f, "wildcard {name}, line {}, ", self.at.line)?;
        } else if self.at.line > 1 {
            write!(f, "line {}, ", self.at.line)?;
        }
        write!(f, "column {}: {}", self.at.column, self.fault)
    }
}

impl std::error::Error for SyntaxError {}
