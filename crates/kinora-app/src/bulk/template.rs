//! Prompts with holes: `a {color} fox in {spring|autumn}`.
//!
//! `{word}` is the row's cell of that column, `{a|b}` a choice on the spot, `{{` and `}}` are
//! braces, `\|` is a bar that separates nothing. Braces around anything else are left as they are,
//! so that prompts written as JSON come through whole.
//!
//! Whatever else the prompt language knows (weights, picks, groups within groups, tags) passes
//! through with its variables filled, and is drawn when the row is resolved.

use kinora_prompts::{Outline, SpanKind};

use super::columns::normalize;

/// A text with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
}

/// A piece of a text with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// As it stands.
    Text(String),
    /// A brace that is only a brace.
    Brace(String),
    /// The cell of the column with that name, and the text as it was written.
    Variable {
        /// Plain form of the heading.
        name: String,
        /// With its braces.
        written: String,
    },
    /// One of these.
    Choice(Vec<String>),
}

impl Template {
    /// Reads a text. Never fails: what is not a hole is text.
    pub fn parse(text: &str) -> Self {
        Self::read(text, true)
    }

    /// Reads a text whose choices are not the list's to make.
    pub fn without_choices(text: &str) -> Self {
        Self::read(text, false)
    }

    fn read(text: &str, with_choices: bool) -> Self {
        // What cannot be outlined is refused when it is resolved, with its place.
        let outline = Outline::of(text).ok();
        let span_at = |at: usize| outline.as_ref()?.at(at);
        let mut reader = Reader::default();
        let mut at = 0;
        // The end of the group that passes through as it is.
        let mut raw_end = 0;
        while let Some(found) = text[at..].find(['{', '}', '<', '\\']) {
            reader.literal.push_str(&text[at..at + found]);
            at += found;
            let rest = &text[at..];
            let is_raw = at < raw_end;
            if let Some(escaped) = rest.strip_prefix('\\') {
                let length = 1 + escaped.chars().next().map_or(0, char::len_utf8);
                reader.literal.push_str(&rest[..length]);
                at += length;
            } else if !is_raw && (rest.starts_with("{{") || rest.starts_with("}}")) {
                reader.push_brace(&rest[..1]);
                at += 2;
            } else if let Some((name, after)) = read_name(rest) {
                reader.push(Segment::Variable {
                    name: normalize(name),
                    written: format!("{{{name}}}"),
                });
                at += rest.len() - after.len();
            } else {
                match span_at(at).filter(|_| !is_raw) {
                    Some(span) if span.kind == SpanKind::PlainChoice && with_choices => {
                        at = span.content.end + 1;
                        reader.push(Segment::Choice(split_values(&text[span.content])));
                        continue;
                    }
                    Some(span) if span.kind != SpanKind::Braces => raw_end = span.content.end,
                    _ => {}
                }
                reader.literal.push_str(&rest[..1]);
                at += 1;
            }
        }
        reader.literal.push_str(&text[at..]);
        reader.finish()
    }

    /// The names of its variables.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Variable { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// The choices that it leaves open, in order.
    pub fn choices(&self) -> impl Iterator<Item = &[String]> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Choice(options) => Some(options.as_slice()),
            _ => None,
        })
    }

    /// The text with its holes filled: variables by `value` (left as written where it knows none),
    /// choices by the next of `picks`.
    ///
    /// Where the text goes on to the prompt language (`is_read`), braces that are only braces are
    /// marked so that they stay what they are.
    pub fn fill(
        &self,
        value: impl Fn(&str) -> Option<String>,
        picks: impl Iterator<Item = usize>,
        is_read: bool,
    ) -> String {
        let picks: Vec<usize> = picks.collect();
        let plain = self.fill_with(&value, &picks, "");
        if is_read && self.has_braces() && !kinora_prompts::is_plain(&plain) {
            return self.fill_with(&value, &picks, "\\");
        }
        plain
    }

    fn has_braces(&self) -> bool {
        let is_brace = |segment: &Segment| matches!(segment, Segment::Brace(_));
        self.segments.iter().any(is_brace)
    }

    fn fill_with(
        &self,
        value: &impl Fn(&str) -> Option<String>,
        picks: &[usize],
        mark: &str,
    ) -> String {
        let mut picks = picks.iter();
        let mut text = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Text(literal) => text.push_str(literal),
                Segment::Brace(brace) => {
                    text.push_str(mark);
                    text.push_str(brace);
                }
                Segment::Variable { name, written } => match value(name) {
                    Some(value) => text.push_str(&value),
                    None => text.push_str(written),
                },
                Segment::Choice(options) => {
                    let pick = picks.next().copied().unwrap_or(0);
                    text.push_str(options.get(pick).map_or("", String::as_str));
                }
            }
        }
        text
    }
}

/// A text with holes while it is read.
#[derive(Default)]
struct Reader {
    segments: Vec<Segment>,
    literal: String,
}

impl Reader {
    fn push(&mut self, segment: Segment) {
        if !self.literal.is_empty() {
            let literal = std::mem::take(&mut self.literal);
            self.segments.push(Segment::Text(literal));
        }
        self.segments.push(segment);
    }

    fn push_brace(&mut self, brace: &str) {
        self.push(Segment::Brace(brace.to_owned()));
    }

    fn finish(mut self) -> Template {
        if !self.literal.is_empty() {
            self.segments.push(Segment::Text(self.literal));
        }
        Template {
            segments: self.segments,
        }
    }
}

/// The name between braces at the beginning of `text`, and what follows it.
fn read_name(text: &str) -> Option<(&str, &str)> {
    let (inside, after) = text.strip_prefix('{')?.split_once('}')?;
    let is_name = inside
        .trim()
        .starts_with(|first: char| first.is_alphabetic() || first == '_')
        && inside
            .chars()
            .all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-' | ' '));
    is_name.then_some((inside, after))
}

/// The values of a cell: separated by `|`, with or without braces around them all.
pub fn split_values(cell: &str) -> Vec<String> {
    let trimmed = cell.trim();
    let inside = trimmed
        .strip_prefix('{')
        .and_then(|inside| inside.strip_suffix('}'))
        .filter(|inside| has_bar(inside) && !inside.contains(['{', '}']))
        .unwrap_or(trimmed);
    let mut values = vec![String::new()];
    let mut letters = inside.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.next_if_eq(&'|').is_some() => push_last(&mut values, '|'),
            '|' => values.push(String::new()),
            other => push_last(&mut values, other),
        }
    }
    for value in &mut values {
        *value = value.trim().to_owned();
    }
    values
}

fn push_last(values: &mut [String], letter: char) {
    if let Some(last) = values.last_mut() {
        last.push(letter);
    }
}

fn has_bar(text: &str) -> bool {
    text.replace("\\|", "").contains('|')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str, picks: &[usize]) -> String {
        let value = |name: &str| (name == "color").then(|| "red".to_owned());
        Template::parse(text).fill(value, picks.iter().copied(), true)
    }

    #[test]
    fn holes_are_filled_and_everything_else_is_kept() {
        for (text, picks, expected) in [
            ("a {color} fox", &[][..], "a red fox"),
            ("a { Color } fox", &[], "a red fox"),
            ("a {size} fox", &[], "a {size} fox"),
            ("{a|b} {c|d}", &[1, 0], "b c"),
            ("{ a cat | a dog }", &[1], "a dog"),
            ("{a|}x", &[1], "x"),
            ("{{color}}", &[], "{color}"),
            ("a } b { c", &[], "a } b { c"),
            (
                "{\"subject\": \"a {color} fox\"}",
                &[],
                "{\"subject\": \"a red fox\"}",
            ),
            ("{}", &[], "{}"),
            ("{5}", &[], "{5}"),
            ("{x\\|y}", &[], "{x\\|y}"),
            ("{é|日本}", &[1], "日本"),
            // What the prompt language knows beyond plain choices passes through.
            ("{2::a|b} {color}", &[], "{2::a|b} red"),
            ("{2$$a|{color}|c}", &[], "{2$$a|red|c}"),
            ("{a|{b|{color}}} {c|d}", &[1], "{a|{b|red}} d"),
            (
                "<random:{color},b> <wildcard:{color}/x>",
                &[],
                "<random:red,b> <wildcard:red/x>",
            ),
            ("{{a|b}} {2$$c|d}", &[], "\\{a|b\\} {2$$c|d}"),
            ("{{color}} {2$$c|d}", &[], "\\{color\\} {2$$c|d}"),
            ("\\{a|b\\} {color}", &[], "\\{a|b\\} red"),
            ("{a|b", &[], "{a|b"),
            ("{color} {a|<random:x", &[], "red {a|<random:x"),
        ] {
            assert_eq!(fill(text, picks), expected, "{text}");
        }
    }

    #[test]
    fn choices_can_be_left_to_the_prompt_language() {
        let value = |name: &str| (name == "color").then(|| "red".to_owned());
        let fill = |text: &str, is_read| {
            Template::without_choices(text).fill(value, std::iter::empty(), is_read)
        };
        assert_eq!(fill("{a|b} {color}", true), "{a|b} red");
        assert_eq!(fill("{{a|b}} {color}", true), "\\{a|b\\} red");
        assert_eq!(fill("{{a|b}} {color}", false), "{a|b} red");
    }

    #[test]
    fn cells_hold_several_values() {
        assert_eq!(split_values("red|blue"), ["red", "blue"]);
        assert_eq!(split_values(" {red | blue} "), ["red", "blue"]);
        assert_eq!(split_values("red"), ["red"]);
        assert_eq!(split_values(""), [""]);
        assert_eq!(split_values("a\\|b|c"), ["a|b", "c"]);
        assert_eq!(split_values("red|"), ["red", ""]);
        assert_eq!(split_values("{red}"), ["{red}"]);
    }
}
