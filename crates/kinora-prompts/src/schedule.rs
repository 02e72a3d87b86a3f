//! Prompts that change between steps: `[a|b]` takes turns, `[from:to:when]` changes once.
//!
//! The notation is A1111's. `when` below 1 is a part of all steps, else a number of steps:
//! `[a:b:0.25]` says `a` for the first quarter. `[to:when]` adds, `[from::when]` takes away. Square
//! brackets without a bar or a number play words down; they are text here.

use crate::MAX_DEPTH;

/// What a prompt says at each step.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptSchedule {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    /// One after the other, from step to step.
    Turns(Vec<Vec<Part>>),
    /// The first before that step, then the second.
    Change {
        from: Vec<Part>,
        to: Vec<Part>,
        when: f32,
    },
}

impl PromptSchedule {
    /// Reads a prompt; None: it says the same at every step.
    pub fn parse(text: &str) -> Option<Self> {
        let ends = pair(text);
        let parts = read(text, 0, text.len(), &ends, 0);
        let changes = parts.iter().any(|part| !matches!(part, Part::Text(_)));
        changes.then_some(Self { parts })
    }

    /// The text at a step, counted from 0, of so many.
    pub fn at(&self, step: u32, steps: u32) -> String {
        let mut text = String::new();
        write(&self.parts, step, steps, &mut text);
        text
    }

    /// The text of every step. Equal ones in a row need to be encoded once.
    pub fn texts(&self, steps: u32) -> Vec<String> {
        (0..steps).map(|step| self.at(step, steps)).collect()
    }
}

fn write(parts: &[Part], step: u32, steps: u32, text: &mut String) {
    for part in parts {
        match part {
            Part::Text(plain) => text.push_str(plain),
            Part::Turns(turns) => {
                let turn = step as usize % turns.len().max(1);
                if let Some(parts) = turns.get(turn) {
                    write(parts, step, steps, text);
                }
            }
            Part::Change { from, to, when } => {
                let limit = if *when < 1.0 {
                    (when * steps as f32).floor()
                } else {
                    when.floor()
                };
                let is_before = (step as f32) < limit;
                write(if is_before { from } else { to }, step, steps, text);
            }
        }
    }
}

/// For each opening square bracket with a partner, the place of that: 0 for every other byte.
fn pair(text: &str) -> Vec<u32> {
    let mut ends = vec![0_u32; text.len()];
    let mut open = Vec::new();
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'[' => open.push(at),
            b']' => {
                if let Some(start) = open.pop() {
                    ends[start] = u32::try_from(at).unwrap_or(0);
                }
            }
            _ => {}
        }
    }
    ends
}

fn read(text: &str, start: usize, end: usize, ends: &[u32], depth: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut literal_from = start;
    let mut at = start;
    let bytes = text.as_bytes();
    let push_text = |parts: &mut Vec<Part>, from: usize, to: usize| {
        if from < to {
            parts.push(Part::Text(text[from..to].to_owned()));
        }
    };
    while at < end {
        match bytes[at] {
            b'\\' => at += 1,
            b'[' if ends[at] > 0 && depth < MAX_DEPTH => {
                let close = ends[at] as usize;
                if let Some(part) = read_brackets(text, at + 1, close, ends, depth + 1) {
                    push_text(&mut parts, literal_from, at);
                    parts.push(part);
                    at = close + 1;
                    literal_from = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    push_text(&mut parts, literal_from, end);
    parts
}

/// What stands between two square brackets, when it is a schedule.
fn read_brackets(text: &str, start: usize, end: usize, ends: &[u32], depth: usize) -> Option<Part> {
    let bars = separators(text, start, end, ends, b'|');
    let between = |from: usize, to: usize| read(text, from, to, ends, depth);
    if !bars.is_empty() {
        let mut turns = Vec::with_capacity(bars.len() + 1);
        let mut from = start;
        for bar in bars {
            turns.push(between(from, bar));
            from = bar + 1;
        }
        turns.push(between(from, end));
        return Some(Part::Turns(turns));
    }
    let colons = separators(text, start, end, ends, b':');
    let last = *colons.last()?;
    let number = text[last + 1..end].trim();
    let is_number = !number.is_empty()
        && number
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let when: f32 = is_number.then(|| number.parse().ok())??;
    match colons.as_slice() {
        [_] => Some(Part::Change {
            from: Vec::new(),
            to: between(start, last),
            when,
        }),
        [first, _] => Some(Part::Change {
            from: between(start, *first),
            to: between(first + 1, last),
            when,
        }),
        _ => None,
    }
}

/// Where a character stands outside of inner brackets, square or round.
fn separators(text: &str, start: usize, end: usize, ends: &[u32], wanted: u8) -> Vec<usize> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut round) = (start, 0_usize);
    while at < end {
        match bytes[at] {
            b'\\' => at += 1,
            b'[' if ends[at] > 0 => at = ends[at] as usize,
            b'(' => round += 1,
            b')' => round = round.saturating_sub(1),
            byte if byte == wanted && round == 0 => found.push(at),
            _ => {}
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(prompt: &str, steps: u32) -> Vec<String> {
        PromptSchedule::parse(prompt).unwrap().texts(steps)
    }

    #[test]
    fn turns_are_taken_from_step_to_step() {
        assert_eq!(
            texts("a [cow|horse|hen] here", 4),
            ["a cow here", "a horse here", "a hen here", "a cow here"]
        );
        assert_eq!(texts("[a|]b", 2), ["ab", "b"]);
    }

    /// The examples of the notation's inventor.
    #[test]
    fn changes_happen_once() {
        let of = |prompt: &str, step| PromptSchedule::parse(prompt).unwrap().at(step, 100);
        let cat = "a [fantasy:cyberpunk:16] landscape";
        assert_eq!(of(cat, 0), "a fantasy landscape");
        assert_eq!(of(cat, 15), "a fantasy landscape");
        assert_eq!(of(cat, 16), "a cyberpunk landscape");
        let nested = "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas \
                      tree:0.75][ in foreground::0.6][ in background:0.25] [shoddy:masterful:0.5]";
        for (step, expected) in [
            (
                0,
                "fantasy landscape with a mountain and an oak in foreground shoddy",
            ),
            (
                25,
                "fantasy landscape with a lake and an oak in foreground in background shoddy",
            ),
            (
                50,
                "fantasy landscape with a lake and an oak in foreground in background masterful",
            ),
            (
                60,
                "fantasy landscape with a lake and an oak in background masterful",
            ),
            (
                75,
                "fantasy landscape with a lake and a christmas tree in background masterful",
            ),
        ] {
            assert_eq!(of(nested, step), expected, "step {step}");
        }
        assert_eq!(of("[[a|b]:c:2] [(x:1.2):y:1]", 1), "b y");
    }

    #[test]
    fn what_changes_nothing_is_text() {
        for text in [
            "",
            "a fox",
            "[played down] [[twice]]",
            "[a:b]",
            "[http://x.y]",
            "[a:b:c:0.5]",
            "\\[a|b\\]",
            "[(a|b)]",
            "[a|b",
            "a|b]",
            "[a:]",
            "[:]",
        ] {
            assert_eq!(PromptSchedule::parse(text), None, "{text}");
        }
    }

    #[test]
    fn hostile_brackets_end_in_time() {
        for text in [
            "[".repeat(200_000),
            "]".repeat(200_000),
            "[|".repeat(50_000) + &"]".repeat(50_000),
            "[a:".repeat(20_000) + &":1]".repeat(20_000),
            "\\".repeat(99_999),
            "é[日|本]".repeat(10_000),
        ] {
            if let Some(schedule) = PromptSchedule::parse(&text) {
                assert!(schedule.at(3, 10).len() <= text.len());
            }
        }
    }
}
