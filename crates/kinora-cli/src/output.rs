//! What is said on standard output and standard error. Whoever reads may stop reading (`| head`); what
//! the program was asked to do goes on all the same.

use std::io::Write;

use crate::text::is_printable;

/// One line, or several, of the answer.
pub fn say(text: impl AsRef<str>) {
    write(std::io::stdout().lock(), text.as_ref());
}

/// One line, or several, that are not the answer.
pub fn tell(text: impl AsRef<str>) {
    write(std::io::stderr().lock(), text.as_ref());
}

fn write(mut to: impl Write, text: &str) {
    // Prompts and names come from anywhere: none of them steers the terminal.
    let is_safe = |c: char| is_printable(c) || c == '\n' || c == '\t';
    let text: String = text
        .chars()
        .map(|c| {
            if is_safe(c) {
                c
            } else {
                char::REPLACEMENT_CHARACTER
            }
        })
        .collect();
    // A closed pipe is the reader's wish, and nobody is left to be told of anything else.
    let _ = to
        .write_all(text.as_bytes())
        .and_then(|()| to.write_all(b"\n"))
        .and_then(|()| to.flush());
}
