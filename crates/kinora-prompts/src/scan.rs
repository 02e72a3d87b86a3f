//! Which brackets belong together. One pass over the text, whatever it holds.

use std::collections::HashMap;

use crate::{
    MAX_BYTES,
    error::{Fault, SyntaxError},
};

/// Tags of the language, as they are written, and what they are.
const TAGS: [(&str, Tag); 10] = [
    ("random", Tag::Random),
    ("wildcard", Tag::Wildcard),
    ("wc", Tag::Wildcard),
    ("repeat", Tag::Repeat),
    ("setvar", Tag::SetVariable),
    ("var", Tag::Variable),
    ("comment", Tag::Comment),
    ("alternate", Tag::Alternate),
    ("alt", Tag::Alternate),
    ("fromto", Tag::Change),
];
/// Longest name that is taken for a misspelled tag.
const MAX_TAG: usize = 16;
/// Faults that are worth listing.
pub const MAX_FAULTS: usize = 20;

/// A tag of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    Random,
    Wildcard,
    Repeat,
    SetVariable,
    Variable,
    Comment,
    Alternate,
    Change,
}

/// What a pair of brackets is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{…|…}`
    Choice,
    /// `{…}` that is text.
    Braces,
    /// `[…]`
    Square,
    /// `<tag[detail]:…>`
    Tag {
        tag: Tag,
        /// What stands in its square brackets.
        detail: Option<String>,
    },
}

/// A pair of brackets.
#[derive(Clone, Debug)]
pub struct Group {
    pub kind: Kind,
    /// Where its content begins.
    pub content: usize,
    /// Where its closing bracket stands.
    pub end: usize,
}

/// The groups of a text, by the place where they begin.
#[derive(Debug, Default)]
pub struct Groups(HashMap<usize, Group>);

impl Groups {
    /// The group that begins there.
    pub fn at(&self, offset: usize) -> Option<&Group> {
        self.0.get(&offset)
    }
}

struct Open {
    start: usize,
    content: usize,
    kind: Kind,
    has_bar: bool,
}

/// Whether a backslash before this character is taken away.
pub fn is_escapable(character: char) -> bool {
    matches!(character, '{' | '}' | '|' | '<' | '>' | '$')
}

/// Pairs the brackets of a text.
pub fn scan(text: &str) -> Result<Groups, Vec<SyntaxError>> {
    if text.len() > MAX_BYTES {
        return Err(vec![SyntaxError::new(Fault::TooLong, text, 0)]);
    }
    let mut scan = Scan {
        text,
        groups: Groups::default(),
        open: Vec::new(),
        braces: 0,
        tags: 0,
        faults: Vec::new(),
    };
    scan.run();
    if scan.faults.is_empty() {
        return Ok(scan.groups);
    }
    scan.faults.sort_by_key(|(offset, _)| *offset);
    scan.faults.truncate(MAX_FAULTS);
    let faults = scan.faults.into_iter();
    Err(faults
        .map(|(offset, fault)| SyntaxError::new(fault, text, offset))
        .collect())
}

/// `2$$…` or `1-3$$…`: braces around it are a choice even without a bar.
fn begins_with_picks(content: &str) -> bool {
    let Some((head, _)) = content.split_once("$$") else {
        return false;
    };
    let head = head.trim();
    let is_part = |byte: u8| byte.is_ascii_digit() || byte == b'-';
    !head.is_empty() && head.len() < 24 && head.bytes().all(is_part)
}

struct Scan<'a> {
    text: &'a str,
    groups: Groups,
    open: Vec<Open>,
    /// Open braces and tags on the stack, so that a closing bracket alone costs nothing.
    braces: usize,
    tags: usize,
    faults: Vec<(usize, Fault)>,
}

impl Scan<'_> {
    fn run(&mut self) {
        let bytes = self.text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'\\' => {
                    let next = self.text[at + 1..].chars().next();
                    at += 1 + next.map_or(0, char::len_utf8);
                    continue;
                }
                b'{' => {
                    self.braces += 1;
                    self.push(at, at + 1, Kind::Braces);
                }
                b'[' => self.push(at, at + 1, Kind::Square),
                b'<' => {
                    if let Some((content, kind)) = self.read_tag(at) {
                        if let Kind::Tag {
                            tag: Tag::Comment, ..
                        } = kind
                        {
                            at = self.skip_comment(at, content, kind);
                            continue;
                        }
                        self.tags += 1;
                        self.push(at, content, kind);
                        at = content;
                        continue;
                    }
                }
                b'|' => self.mark_bar(),
                b']' if self.is_in_square() => self.close(at),
                b'}' if self.braces > 0 => {
                    self.drop_to(|kind| *kind == Kind::Braces);
                    self.close(at);
                }
                b'>' if self.tags > 0 => {
                    self.drop_to(|kind| matches!(kind, Kind::Tag { .. }));
                    self.close(at);
                }
                _ => {}
            }
            at += 1;
        }
        while !self.open.is_empty() {
            self.drop_last();
        }
    }

    fn is_in_square(&self) -> bool {
        let last = self.open.last();
        last.is_some_and(|open| open.kind == Kind::Square)
    }

    fn push(&mut self, start: usize, content: usize, kind: Kind) {
        self.open.push(Open {
            start,
            content,
            kind,
            has_bar: false,
        });
    }

    fn mark_bar(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.has_bar = true;
        }
    }

    /// Gives up what was opened since the last bracket of that kind.
    fn drop_to(&mut self, is_wanted: impl Fn(&Kind) -> bool) {
        while self.open.last().is_some_and(|open| !is_wanted(&open.kind)) {
            self.drop_last();
        }
    }

    /// The last opened bracket has no partner: text, or a mistake.
    fn drop_last(&mut self) {
        let Some(open) = self.open.pop() else {
            return;
        };
        match open.kind {
            Kind::Tag { .. } => {
                self.tags -= 1;
                let name = &self.text[open.start..open.content];
                self.faults
                    .push((open.start, Fault::Unclosed(format!("{name}…"))));
            }
            Kind::Braces => {
                self.braces -= 1;
                if open.has_bar {
                    let what = "the choice that begins here".to_owned();
                    self.faults.push((open.start, Fault::Unclosed(what)));
                }
            }
            // Its bars belong to what is around it.
            Kind::Square if open.has_bar => self.mark_bar(),
            Kind::Square | Kind::Choice => {}
        }
    }

    fn close(&mut self, end: usize) {
        let Some(open) = self.open.pop() else {
            return;
        };
        let kind = match open.kind {
            Kind::Braces => {
                self.braces -= 1;
                if open.has_bar || begins_with_picks(&self.text[open.content..end]) {
                    Kind::Choice
                } else {
                    Kind::Braces
                }
            }
            Kind::Tag { .. } => {
                self.tags -= 1;
                open.kind
            }
            other => other,
        };
        let group = Group {
            kind,
            content: open.content,
            end,
        };
        self.groups.0.insert(open.start, group);
    }

    /// Comments hold anything; only `<` and `>` are paired in them. Returns where the text goes on.
    fn skip_comment(&mut self, start: usize, content: usize, kind: Kind) -> usize {
        let mut depth = 0_usize;
        for (place, byte) in self.text.bytes().enumerate().skip(content) {
            match byte {
                b'<' => depth += 1,
                b'>' if depth > 0 => depth -= 1,
                b'>' => {
                    let group = Group {
                        kind,
                        content,
                        end: place,
                    };
                    self.groups.0.insert(start, group);
                    return place + 1;
                }
                _ => {}
            }
        }
        let what = "<comment:…".to_owned();
        self.faults.push((start, Fault::Unclosed(what)));
        self.text.len()
    }

    /// A tag of the language at `at`, and where its content begins.
    fn read_tag(&mut self, at: usize) -> Option<(usize, Kind)> {
        let rest = &self.text[at + 1..];
        let length = rest
            .bytes()
            .take(MAX_TAG + 1)
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let name = &rest[..length];
        let mut behind = &rest[length..];
        let mut detail = None;
        if let Some(inside) = behind.strip_prefix('[') {
            // A detail is a number or a name: a few characters, so looking for its end is cheap.
            let end = inside
                .bytes()
                .take(128)
                .position(|byte| matches!(byte, b']' | b'<' | b'>' | b'{' | b'\n'))?;
            detail = Some(inside[..end].to_owned());
            behind = inside[end..].strip_prefix(']')?;
        }
        let content = self.text.len() - behind.strip_prefix(':')?.len();
        let lower = name.to_ascii_lowercase();
        let found = TAGS.iter().find(|(known, _)| *known == lower);
        if let Some((_, tag)) = found {
            return Some((content, Kind::Tag { tag: *tag, detail }));
        }
        // Short names are spelled like too many other words.
        let meant = TAGS.iter().map(|(known, _)| *known).find(|known| {
            let most = known.len() / 4;
            known.len() > 4 && strsim::osa_distance(known, &lower) <= most
        });
        if let Some(meant) = meant {
            let written = name.to_owned();
            self.faults.push((at, Fault::Misspelled { written, meant }));
        }
        None
    }
}

impl Groups {
    /// Whether one of them is of the language, and not only text.
    pub fn has_syntax(&self) -> bool {
        let is_syntax = |group: &Group| matches!(group.kind, Kind::Choice | Kind::Tag { .. });
        self.0.values().any(is_syntax)
    }
}
