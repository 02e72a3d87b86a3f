//! What a text holds, without reading it in full: for notes, and for leaving plain text alone.

use std::ops::Range;

use crate::{
    error::SyntaxError,
    parse::read_weight,
    scan::{Groups, Kind, is_escapable, scan},
};

/// The groups of a text, for those who put something into it before it is read.
#[derive(Debug)]
pub struct Outline<'a> {
    text: &'a str,
    groups: Groups,
}

/// A group of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// What it is.
    pub kind: SpanKind,
    /// What stands between its brackets, in bytes of the text.
    pub content: Range<usize>,
}

/// What a group of a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// `{a|b}` of plain words, without weights, picks or further groups.
    PlainChoice,
    /// Any other choice, or a tag.
    Group,
    /// Braces that are text.
    Braces,
}

impl<'a> Outline<'a> {
    /// Finds the groups of a text.
    ///
    /// # Errors
    /// Brackets without a partner.
    pub fn of(text: &'a str) -> Result<Self, Vec<SyntaxError>> {
        scan(text).map(|groups| Self { text, groups })
    }

    /// The group that begins at that byte.
    pub fn at(&self, offset: usize) -> Option<Span> {
        let group = self.groups.at(offset)?;
        let content = group.content..group.end;
        let kind = match group.kind {
            Kind::Square => return None,
            Kind::Braces => SpanKind::Braces,
            Kind::Tag { .. } => SpanKind::Group,
            Kind::Choice => {
                let inside = &self.text[content.clone()];
                let is_plain = !inside.contains(['{', '<', '[', '\n'])
                    && !inside.contains("$$")
                    && inside
                        .split('|')
                        .all(|option| read_weight(option).is_ok_and(|(_, skipped)| skipped == 0));
                if is_plain {
                    SpanKind::PlainChoice
                } else {
                    SpanKind::Group
                }
            }
        };
        Some(Span { kind, content })
    }
}

/// The text with a backslash before every character that the language would read, so that it says
/// itself.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '{' | '}' | '<' | '>' | '|') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Whether reading the text as a prompt changes nothing about it: no choices, no tags of the
/// language, no escapes, no mistakes.
pub fn is_plain(text: &str) -> bool {
    if !text.contains(['{', '<', '\\']) {
        return true;
    }
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\\' && characters.next().is_some_and(is_escapable) {
            return false;
        }
    }
    scan(text).is_ok_and(|groups| !groups.has_syntax())
}

/// Whether the text gives a word a weight in numbers, as in `(word:1.2)`.
pub fn has_weights(text: &str) -> bool {
    let mut open = 0_u32;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '\\' => {
                rest = rest
                    .get(rest.chars().next().map_or(0, char::len_utf8)..)
                    .unwrap_or("")
            }
            '(' => open = open.saturating_add(1),
            ')' => open = open.saturating_sub(1),
            ':' if open > 0 => {
                let length = rest
                    .bytes()
                    .take_while(|byte| byte.is_ascii_digit() || b"+-. ".contains(byte))
                    .count();
                let (number, behind) = rest.split_at(length);
                if behind.starts_with(')') && number.trim().parse::<f32>().is_ok() {
                    return true;
                }
                rest = behind;
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_told_from_the_language() {
        for text in [
            "",
            "a red fox",
            "a {word} {",
            "{\"subject\": \"a fox\"}",
            "<lora:detail:0.8> a fox -> a hen",
            "a (fox:1.2) [b|c]",
            "C:\\fox \\(x\\)",
            "} > ] [",
        ] {
            assert!(is_plain(text), "{text}");
        }
        for text in [
            "{a|b}",
            "a \\{",
            "<random:a>",
            "<wc:x>",
            "{2$$x}",
            "{a|b",
            "<comment:>",
            "<RANDOM:a,b>",
        ] {
            assert!(!is_plain(text), "{text}");
        }
    }

    #[test]
    fn an_outline_tells_plain_choices_from_other_groups() {
        let text = "{a|b} {2::a|b} {2$$a} {a|{x}} {name} <random:a> [a|b]";
        let outline = Outline::of(text).unwrap();
        let kinds: Vec<(&str, SpanKind)> = (0..text.len())
            .filter_map(|at| outline.at(at))
            .map(|span| (&text[span.content], span.kind))
            .collect();
        use SpanKind::{Braces, Group, PlainChoice};
        assert_eq!(
            kinds,
            [
                ("a|b", PlainChoice),
                ("2::a|b", Group),
                ("2$$a", Group),
                ("a|{x}", Group),
                ("x", Braces),
                ("name", Braces),
                ("a", Group),
            ]
        );
        assert!(Outline::of("{a|b").is_err());
        let odd = "{a|b} <wc:x> \\";
        let prompt = crate::Library::default()
            .read(&escape("{a|b} <wc:x>"))
            .unwrap();
        assert_eq!(prompt.combination(0).unwrap(), "{a|b} <wc:x>");
        assert!(!is_plain(odd));
    }

    #[test]
    fn weights_are_noticed() {
        assert!(has_weights("a (red:1.2) fox"));
        assert!(has_weights("(a, (b): -0.5 )"));
        // The encoder reads this as a weight of 30, too.
        assert!(has_weights("(at 10:30)"));
        for text in ["a (red) fox", "16:9", "\\(red:1.2)", "(a:1.2", "(a:x)"] {
            assert!(!has_weights(text), "{text}");
        }
    }
}
