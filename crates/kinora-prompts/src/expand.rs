//! One text out of a prompt: drawn from a seed, or that of a number.

use std::collections::HashMap;

use crate::{
    MAX_WORK,
    combine::{digits_of, power},
    draw::Draws,
    error::{Fault, SyntaxError},
    parse::{Node, Pick, Prompt, Sequence},
};

impl Prompt {
    /// Draws one text. The same seed and stream draw the same text, in every version.
    ///
    /// # Errors
    /// When the text becomes too long.
    pub fn draw(&self, mut draws: Draws) -> Result<String, SyntaxError> {
        expand(self, 0, Some(&mut draws))
    }
}

/// With `draws`, whatever they say; without, the combination of that number.
pub fn expand(
    prompt: &Prompt,
    index: u128,
    draws: Option<&mut Draws>,
) -> Result<String, SyntaxError> {
    let mut expansion = Expansion {
        draws,
        variables: HashMap::new(),
        work: MAX_WORK,
    };
    let mut text = String::new();
    let done = expansion.sequence(&prompt.root, index, &mut text);
    match done {
        Ok(()) => Ok(text),
        Err(TooMuch) => Err(SyntaxError::new(Fault::TooMuchWork, prompt.text(), 0)),
    }
}

/// The bound on work was reached.
struct TooMuch;

struct Expansion<'a> {
    draws: Option<&'a mut Draws>,
    variables: HashMap<String, String>,
    /// What may still be done.
    work: usize,
}

impl Expansion<'_> {
    fn spend(&mut self, work: usize) -> Result<(), TooMuch> {
        self.work = self.work.checked_sub(work).ok_or(TooMuch)?;
        Ok(())
    }

    fn write(&mut self, text: &str, out: &mut String) -> Result<(), TooMuch> {
        self.spend(text.len())?;
        out.push_str(text);
        Ok(())
    }

    fn sequence(
        &mut self,
        sequence: &Sequence,
        index: u128,
        out: &mut String,
    ) -> Result<(), TooMuch> {
        let digits = match self.draws {
            Some(_) => Vec::new(),
            None => sequence.digits(index),
        };
        for (place, node) in sequence.nodes.iter().enumerate() {
            self.spend(1)?;
            self.node(node, digits.get(place).copied().unwrap_or(0), out)?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, index: u128, out: &mut String) -> Result<(), TooMuch> {
        match node {
            Node::Text(text) => self.write(text, out),
            Node::Pick(pick) => {
                let chosen = match &mut self.draws {
                    Some(draws) => {
                        let drawn = draw_options(pick, draws);
                        // Looking through long lists for each pick is work as well.
                        let looks = pick.options.bodies.len() * (drawn.len().max(1) - 1);
                        self.spend(looks / 16)?;
                        drawn.into_iter().map(|option| (option, 0)).collect()
                    }
                    None => pick.subset(index),
                };
                for (place, (option, index)) in chosen.into_iter().enumerate() {
                    if place > 0 {
                        self.write(&pick.separator, out)?;
                    }
                    self.spend(1)?;
                    if let Some(body) = pick.options.bodies.get(option) {
                        self.sequence(body, index, out)?;
                    }
                }
                Ok(())
            }
            Node::Number {
                low,
                high,
                decimals,
            } => {
                let span = high.abs_diff(*low);
                let step = match &mut self.draws {
                    Some(draws) => draws.below(span.saturating_add(1)),
                    None => u64::try_from(index).unwrap_or(span).min(span),
                };
                let number = low.saturating_add_unsigned(step);
                self.write(&decimal(number, *decimals), out)
            }
            Node::Repeat {
                low,
                high,
                separator,
                body,
            } => {
                let (times, digits) = match &mut self.draws {
                    Some(draws) => {
                        let more = draws.below(u64::from(high - low) + 1);
                        (low + u32::try_from(more).unwrap_or(0), Vec::new())
                    }
                    None => repeats(index, body.count(), *low, *high),
                };
                for turn in 0..times {
                    self.spend(1)?;
                    if turn > 0 {
                        self.write(separator, out)?;
                    }
                    let digit = digits.get(turn as usize).copied().unwrap_or(0);
                    self.sequence(body, digit, out)?;
                }
                Ok(())
            }
            Node::Set {
                name,
                is_shown,
                body,
            } => {
                let mut value = String::new();
                self.sequence(body, index, &mut value)?;
                if *is_shown {
                    self.write(&value, out)?;
                }
                self.variables.insert(name.clone(), value);
                Ok(())
            }
            Node::Get(name) => {
                let Some(value) = self.variables.get(name).cloned() else {
                    return Ok(());
                };
                self.write(&value, out)
            }
            Node::Marked {
                before,
                separator,
                after,
                parts,
            } => {
                self.write(before, out)?;
                let mut places = Vec::with_capacity(parts.len());
                if self.draws.is_none() {
                    let mut index = index;
                    for part in parts.iter().rev() {
                        places.push(index % part.count().max(1));
                        index /= part.count().max(1);
                    }
                    places.reverse();
                }
                for (place, part) in parts.iter().enumerate() {
                    if place > 0 {
                        self.write(separator, out)?;
                    }
                    self.sequence(part, places.get(place).copied().unwrap_or(0), out)?;
                }
                self.write(after, out)
            }
        }
    }
}

/// How often a repetition of that number repeats, and the combination of each turn.
fn repeats(mut index: u128, base: u128, low: u32, high: u32) -> (u32, Vec<u128>) {
    let mut times = low;
    while times < high {
        let count = power(base, times);
        if index < count {
            break;
        }
        index -= count;
        times += 1;
    }
    (times, digits_of(index, base, times))
}

/// Which options are drawn, in the order in which they are written; none twice.
fn draw_options(pick: &Pick, draws: &mut Draws) -> Vec<usize> {
    let options = &pick.options;
    let more = if pick.low < pick.high {
        draws.below(u64::from(pick.high - pick.low) + 1)
    } else {
        0
    };
    let size = pick.low as usize + usize::try_from(more).unwrap_or(0);
    let all = options.weights.last().copied().unwrap_or(0);
    if size == 1 {
        let ticket = draws.below(all);
        return vec![options.weights.partition_point(|sum| *sum <= ticket)];
    }
    let weight = |option: usize| {
        let before = option.checked_sub(1).and_then(|i| options.weights.get(i));
        options.weights.get(option).copied().unwrap_or(0) - before.copied().unwrap_or(0)
    };
    let mut left = all;
    let mut is_drawn = vec![false; options.bodies.len()];
    for _ in 0..size {
        let mut ticket = draws.below(left);
        let drawn = (0..is_drawn.len())
            .filter(|option| !is_drawn[*option])
            .find(|option| match ticket.checked_sub(weight(*option)) {
                Some(rest) => {
                    ticket = rest;
                    false
                }
                None => true,
            });
        let Some(drawn) = drawn else {
            break;
        };
        is_drawn[drawn] = true;
        left -= weight(drawn);
    }
    let drawn = is_drawn.into_iter().enumerate();
    drawn
        .filter_map(|(option, is_drawn)| is_drawn.then_some(option))
        .collect()
}

/// A number of units of its last decimal, as it is written.
fn decimal(number: i64, decimals: u32) -> String {
    if decimals == 0 {
        return number.to_string();
    }
    let unit = 10_u64.pow(decimals);
    let (whole, rest) = (number.unsigned_abs() / unit, number.unsigned_abs() % unit);
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{whole}.{rest:0width$}", width = decimals as usize)
}
