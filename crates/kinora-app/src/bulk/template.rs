//! Prompts with holes: `a {color} fox in {spring|autumn}`.
//!
//! `{word}` is the row's cell of that column, `{a|b}` a choice on the spot, `{{` and `}}` are
//! braces, `\|` is a bar that separates nothing. Braces around anything else are left as they are,
//! so that prompts written as JSON come through whole.

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
        let mut segments = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = rest.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some((hole, after)) = read_hole(rest) {
                if !literal.is_empty() {
                    segments.push(Segment::Text(std::mem::take(&mut literal)));
                }
                segments.push(hole);
                rest = after;
            } else {
                literal.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            segments.push(Segment::Text(literal));
        }
        Self { segments }
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
    pub fn fill(
        &self,
        value: impl Fn(&str) -> Option<String>,
        mut picks: impl Iterator<Item = usize>,
    ) -> String {
        let mut text = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Text(literal) => text.push_str(literal),
                Segment::Variable { name, written } => match value(name) {
                    Some(value) => text.push_str(&value),
                    None => text.push_str(written),
                },
                Segment::Choice(options) => {
                    let pick = picks.next().unwrap_or(0);
                    text.push_str(options.get(pick).map_or("", String::as_str));
                }
            }
        }
        text
    }
}

/// A hole at the beginning of `text`, and what follows it.
fn read_hole(text: &str) -> Option<(Segment, &str)> {
    let (inside, after) = text.strip_prefix('{')?.split_once('}')?;
    if inside.contains(['{', '\n']) {
        return None;
    }
    if has_bar(inside) {
        return Some((Segment::Choice(split_values(inside)), after));
    }
    let is_name = inside
        .trim()
        .starts_with(|first: char| first.is_alphabetic() || first == '_')
        && inside
            .chars()
            .all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-' | ' '));
    is_name.then(|| {
        let variable = Segment::Variable {
            name: normalize(inside),
            written: format!("{{{inside}}}"),
        };
        (variable, after)
    })
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
        Template::parse(text).fill(value, picks.iter().copied())
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
        ] {
            assert_eq!(fill(text, picks), expected, "{text}");
        }
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
