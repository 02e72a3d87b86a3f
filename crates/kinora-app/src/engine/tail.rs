//! The last lines that the engine logged, kept for post-mortems.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// How many lines a post-mortem shows.
pub(super) const LINES: usize = 50;

/// Longest line kept, in bytes.
const LINE_LIMIT: usize = 2000;

/// A ring of lines.
#[derive(Debug, Default)]
pub(super) struct Tail(Mutex<VecDeque<String>>);

impl Tail {
    /// Adds a line, and forgets the oldest one when there are too many.
    pub fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(shorten(line, LINE_LIMIT).to_owned());
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}

/// The longest beginning of a text that has at most so many bytes and ends between characters.
pub(super) fn shorten(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_stay_and_long_ones_are_cut_between_characters() {
        let tail = Tail::default();
        for number in 0..LINES + 7 {
            tail.push(&number.to_string());
        }
        let lines = tail.lines();
        assert_eq!(lines.len(), LINES);
        assert_eq!((lines[0].as_str(), lines[LINES - 1].as_str()), ("7", "56"));
        assert_eq!(shorten("aé", 2), "a");
        assert_eq!(shorten("aé", 3), "aé");
    }
}
