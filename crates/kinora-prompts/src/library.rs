//! Wildcards: lists of options with a name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    MAX_BYTES, MAX_OPTIONS,
    error::{Fault, Position, SyntaxError},
    parse::{Around, Options, Prompt, Sequence, parse, read_weight},
    scan::MAX_FAULTS,
};

/// Longest name of a wildcard or variable, in bytes.
const MAX_NAME: usize = 200;

/// Where wildcards come from.
pub trait Source: Send + Sync {
    /// The lines of a wildcard; None: there is none of that name. The name was
    /// [checked](check_name).
    ///
    /// # Errors
    /// Why it cannot be read, in a few words.
    fn read(&self, name: &str) -> Result<Option<String>, String>;

    /// The names that there are.
    fn names(&self) -> Vec<String>;
}

/// No wildcards at all.
impl Source for () {
    fn read(&self, _: &str) -> Result<Option<String>, String> {
        Ok(None)
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

type Known = Result<Arc<Options>, Vec<SyntaxError>>;

/// Reads prompts. Keeps each wildcard that it met, so a list of prompts reads it once; for fresh
/// contents make a new one.
pub struct Library {
    source: Box<dyn Source>,
    known: Mutex<HashMap<String, Known>>,
}

impl Library {
    /// With the wildcards of `source`.
    pub fn new(source: impl Source + 'static) -> Self {
        Self {
            source: Box::new(source),
            known: Mutex::new(HashMap::new()),
        }
    }

    /// Reads a prompt.
    ///
    /// # Errors
    /// Everything that is wrong with it and with the wildcards that it uses, at most 20 things.
    pub fn read(&self, text: &str) -> Result<Prompt, Vec<SyntaxError>> {
        parse(text, Some(self), &mut Around::default())
    }

    /// The options of a wildcard; `around` are those that it is used in.
    pub(crate) fn options(&self, name: &str, around: &mut Around) -> Known {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(name) {
            return known.clone();
        }
        around.wildcards.push(name.to_owned());
        let read = self.read_options(name, around);
        around.wildcards.pop();
        // A circle is found from wherever it is entered; what depends on the way in is not kept.
        if !around.is_lost {
            lock().insert(name.to_owned(), read.clone());
        }
        read
    }

    fn read_options(&self, name: &str, around: &mut Around) -> Known {
        let whole = |fault| {
            Err(vec![SyntaxError {
                fault,
                at: Position::default(),
                wildcard: None,
            }])
        };
        match self.source.read(name) {
            Ok(Some(text)) => read_list(&text, Some(self), name, around).map(Arc::new),
            Ok(None) => {
                let lower = name.to_lowercase();
                let names = self.source.names().into_iter();
                let near = names
                    .map(|known| (strsim::osa_distance(&known.to_lowercase(), &lower), known))
                    .filter(|(distance, known)| *distance <= 1 + known.chars().count() / 4)
                    .min();
                whole(Fault::UnknownWildcard {
                    name: name.to_owned(),
                    similar: near.map(|(_, known)| known),
                })
            }
            Err(reason) => whole(Fault::UnreadableWildcard {
                name: name.to_owned(),
                reason,
            }),
        }
    }
}

impl Default for Library {
    fn default() -> Self {
        Self::new(())
    }
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").finish_non_exhaustive()
    }
}

/// Checks the lines of a wildcard by themselves, without the wildcards that they name, and counts
/// its options.
///
/// # Errors
/// Everything that is wrong, by line, at most 20 things.
pub fn check_list(text: &str) -> Result<usize, Vec<SyntaxError>> {
    read_list(text, None, "", &mut Around::default()).map(|options| options.bodies.len())
}

/// Whether that is a name for a wildcard: letters, digits, spaces, `-`, `_` and dots within, with
/// `/` between folders. No part begins with a dot or ends with a dot or space, so the name is also
/// a path that stays where it belongs on every file system.
pub fn check_name(name: &str) -> bool {
    let is_part = |part: &str| {
        let is_inside = |letter: char| letter.is_alphanumeric() || " -_.".contains(letter);
        !part.is_empty()
            && part.chars().all(is_inside)
            && !part.starts_with(['.', ' ', '-'])
            && !part.ends_with(['.', ' '])
            && !is_reserved(part)
    };
    name.len() <= MAX_NAME && name.split('/').all(is_part) && name.split('/').count() <= 8
}

/// Names that Windows keeps for devices, with any ending.
fn is_reserved(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default().trim_end();
    let upper = stem.to_ascii_uppercase();
    matches!(upper.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || (upper.len() == 4
            && (upper.starts_with("COM") || upper.starts_with("LPT"))
            && upper.ends_with(|digit: char| digit.is_ascii_digit()))
}

/// One option a line: `#` begins a comment, `2::` a weight; empty lines count for nothing.
fn read_list(
    text: &str,
    library: Option<&Library>,
    name: &str,
    around: &mut Around,
) -> Result<Options, Vec<SyntaxError>> {
    let mut options: Vec<(u64, Sequence)> = Vec::new();
    let mut faults = Vec::new();
    let whole = |fault| {
        vec![SyntaxError {
            fault,
            at: Position::default(),
            wildcard: None,
        }]
    };
    for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1_u32..) {
        let written = line.trim();
        if written.is_empty() || written.starts_with('#') {
            continue;
        }
        if options.len() >= MAX_OPTIONS {
            return Err(whole(Fault::TooManyOptions));
        }
        let placed = |mut error: SyntaxError, skipped: usize| {
            // What is wrong in a wildcard that this line uses has a place of its own.
            if error.wildcard.is_none() {
                let before = line.len() - line.trim_start().len() + skipped;
                let column = line.get(..before).map_or(0, |start| start.chars().count());
                error.at.line = number;
                error.at.column += u32::try_from(column).unwrap_or(0);
                error.wildcard = Some(name.to_owned());
            }
            error
        };
        let (weight, skipped) = match read_weight(written) {
            Ok(read) => read,
            Err(fault) => {
                faults.push(placed(SyntaxError::new(fault, written, 0), 0));
                continue;
            }
        };
        let mut option = written[skipped..].trim_start();
        if skipped == 0 {
            // A line that has to begin with # is written \#.
            option = option
                .strip_prefix('\\')
                .filter(|rest| rest.starts_with('#'))
                .unwrap_or(option);
        }
        if option.len() > MAX_BYTES {
            return Err(whole(Fault::TooLong));
        }
        match parse(option, library, around) {
            Ok(prompt) => options.push((weight, prompt.root)),
            Err(errors) => {
                let skipped = written.len() - option.len();
                faults.extend(errors.into_iter().map(|error| placed(error, skipped)));
            }
        }
        if faults.len() >= MAX_FAULTS {
            break;
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let options = Options::new(options);
    if options.bodies.is_empty() {
        return Err(whole(Fault::NoOptions));
    }
    Ok(options)
}
