//! Prompts with emphasis, `(word:1.2)`, of any length, for CLIP encoders.
//!
//! The notation is A1111's: round brackets stress what they hold (1.1 times, or as the number after
//! a colon says), square ones play it down (by 1.1), a backslash takes a bracket as it is, `BREAK`
//! begins a new chunk. A prompt longer than an encoder takes is cut into chunks that are encoded one
//! by one and put in a row.
//!
//! Not here: which words there are (alternatives, wildcards); that is decided before a plan is made.

use candle_core::{DType, Tensor};

use super::Tokenizer;
use crate::{Error, Result};

/// What one bracket does.
const STRESS: f32 = 1.1;
/// Weights beyond it are of no use.
const MAX_WEIGHT: f32 = 100.0;
/// Chunks of a prompt, far above any use.
const MAX_CHUNKS: usize = 64;
/// Begins a new chunk.
const BREAK: &str = "BREAK";

/// A prompt cut into chunks of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunks {
    /// Token ids of each chunk, begin, end and padding included.
    pub ids: Vec<Vec<u32>>,
    /// Their weights.
    pub weights: Vec<Vec<f32>>,
}

impl Chunks {
    /// Cuts a prompt into chunks of `length` tokens.
    pub fn encode(tokenizer: &Tokenizer, prompt: &str, length: usize) -> Result<Self> {
        let empty = tokenizer.encode_unpadded("")?;
        let (Some(&begin), Some(&end)) = (empty.first(), empty.last()) else {
            return Err(Error::Shape(
                "the tokenizer sets no begin and end".to_owned(),
            ));
        };
        let room = length.saturating_sub(2).max(1);
        let mut chunks: Vec<Vec<(u32, f32)>> = vec![Vec::new()];
        for part in parse(prompt) {
            let Part::Text { text, weight } = part else {
                chunks.push(Vec::new());
                continue;
            };
            let ids = tokenizer.encode_unpadded(&text)?;
            let inner = ids.get(1..ids.len().saturating_sub(1)).unwrap_or(&[]);
            for id in inner {
                match chunks.last_mut() {
                    Some(chunk) if chunk.len() < room => chunk.push((*id, weight)),
                    _ => chunks.push(vec![(*id, weight)]),
                }
            }
        }
        if chunks.len() > MAX_CHUNKS {
            return Err(Error::BadRequest(format!(
                "a prompt of {} chunks; {MAX_CHUNKS} of {room} tokens are possible",
                chunks.len()
            )));
        }
        let padding = tokenizer.padding();
        let mut all = Self {
            ids: Vec::with_capacity(chunks.len()),
            weights: Vec::with_capacity(chunks.len()),
        };
        for chunk in chunks {
            let mut ids = vec![begin];
            let mut weights = vec![1.0];
            ids.extend(chunk.iter().map(|(id, _)| id));
            weights.extend(chunk.iter().map(|(_, weight)| weight));
            ids.push(end);
            ids.resize(length.max(ids.len()), padding);
            weights.resize(ids.len(), 1.0);
            all.ids.push(ids);
            all.weights.push(weights);
        }
        Ok(all)
    }

    /// As many chunks as `count`, with empty ones behind.
    pub fn extend_to(mut self, count: usize, tokenizer: &Tokenizer, length: usize) -> Result<Self> {
        if self.ids.len() < count {
            let empty = Self::encode(tokenizer, "", length)?;
            for (ids, weights) in empty.ids.iter().zip(&empty.weights) {
                self.ids.resize(count, ids.clone());
                self.weights.resize(count, weights.clone());
            }
        }
        Ok(self)
    }

    /// Weighs the states of the chunks, (chunks, tokens, width), and puts them in a row:
    /// (1, chunks · tokens, width).
    ///
    /// States are multiplied with their tokens' weights; then each chunk is scaled so that its mean
    /// is what it was.
    pub fn weigh(&self, states: &Tensor) -> Result<Tensor> {
        let (chunks, tokens, width) = states.dims3()?;
        let is_plain = self.weights.iter().flatten().all(|weight| *weight == 1.0);
        let weighed = if is_plain {
            states.clone()
        } else {
            let dtype = states.dtype();
            let states = states.to_dtype(DType::F32)?;
            let weights =
                Tensor::from_vec(self.weights.concat(), (chunks, tokens, 1), states.device())?;
            let weighed = states.broadcast_mul(&weights)?;
            let means = |tensor: &Tensor| -> Result<Vec<f32>> {
                Ok(tensor
                    .reshape((chunks, tokens * width))?
                    .mean(1)?
                    .to_vec1()?)
            };
            let factors: Vec<f32> = means(&states)?
                .into_iter()
                .zip(means(&weighed)?)
                .map(|(before, after)| before / after)
                // A mean of nothing says nothing.
                .map(|factor| if factor.is_finite() { factor } else { 1.0 })
                .collect();
            let factors = Tensor::from_vec(factors, (chunks, 1, 1), states.device())?;
            weighed.broadcast_mul(&factors)?.to_dtype(dtype)?
        };
        Ok(weighed.reshape((1, chunks * tokens, width))?)
    }
}

/// A piece of a prompt.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// Words of one weight.
    Text { text: String, weight: f32 },
    /// A new chunk begins.
    Break,
}

/// Takes the notation apart. Brackets without a partner count to the end; a closing one alone is a
/// letter.
fn parse(prompt: &str) -> Vec<Part> {
    let mut pieces: Vec<(String, f32)> = Vec::new();
    let mut round: Vec<usize> = Vec::new();
    let mut square: Vec<usize> = Vec::new();
    let mut text = String::new();
    let mut rest = prompt;
    let end_text = |text: &mut String, pieces: &mut Vec<(String, f32)>| {
        if !text.is_empty() {
            pieces.push((std::mem::take(text), 1.0));
        }
    };
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        rest = after;
        match character {
            '\\' => match after.chars().next() {
                Some(next @ ('(' | ')' | '[' | ']' | '\\')) => {
                    text.push(next);
                    rest = &after[next.len_utf8()..];
                }
                _ => text.push('\\'),
            },
            '(' => {
                end_text(&mut text, &mut pieces);
                round.push(pieces.len());
            }
            '[' => {
                end_text(&mut text, &mut pieces);
                square.push(pieces.len());
            }
            ':' => match read_weight(after).zip(round.last().copied()) {
                Some(((weight, behind), first)) => {
                    end_text(&mut text, &mut pieces);
                    round.pop();
                    multiply(&mut pieces[first..], weight);
                    rest = behind;
                }
                None => text.push(':'),
            },
            ')' if !round.is_empty() => {
                end_text(&mut text, &mut pieces);
                let first = round.pop().unwrap_or(0);
                multiply(&mut pieces[first..], STRESS);
            }
            ']' if !square.is_empty() => {
                end_text(&mut text, &mut pieces);
                let first = square.pop().unwrap_or(0);
                multiply(&mut pieces[first..], 1.0 / STRESS);
            }
            other => text.push(other),
        }
    }
    end_text(&mut text, &mut pieces);
    for first in round {
        multiply(&mut pieces[first..], STRESS);
    }
    for first in square {
        multiply(&mut pieces[first..], 1.0 / STRESS);
    }
    let mut parts: Vec<Part> = Vec::new();
    for (text, weight) in pieces {
        for (i, text) in split_at_breaks(&text).into_iter().enumerate() {
            if i > 0 {
                parts.push(Part::Break);
            }
            match parts.last_mut() {
                Some(Part::Text {
                    text: before,
                    weight: same,
                }) if *same == weight => before.push_str(&text),
                _ if text.is_empty() => {}
                _ => parts.push(Part::Text { text, weight }),
            }
        }
    }
    parts
}

fn multiply(pieces: &mut [(String, f32)], factor: f32) {
    for (_, weight) in pieces {
        *weight = (*weight * factor).clamp(-MAX_WEIGHT, MAX_WEIGHT);
    }
}

/// A number and the bracket that closes behind it, and what follows.
fn read_weight(text: &str) -> Option<(f32, &str)> {
    let (number, behind) = text.split_once(')')?;
    let number = number.trim();
    let is_number = |character: char| character.is_ascii_digit() || "+-.".contains(character);
    if number.is_empty() || !number.chars().all(is_number) {
        return None;
    }
    let weight: f32 = number.parse().ok()?;
    weight.is_finite().then_some((weight, behind))
}

/// Cuts where `BREAK` stands as a word of its own.
fn split_at_breaks(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text;
    while let Some(at) = rest.find(BREAK) {
        let (before, after) = (&rest[..at], &rest[at + BREAK.len()..]);
        let is_alone =
            !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric);
        if let Some(part) = parts.last_mut() {
            part.push_str(before);
            if !is_alone {
                part.push_str(BREAK);
            }
        }
        if is_alone {
            parts.push(String::new());
        }
        rest = after;
    }
    if let Some(part) = parts.last_mut() {
        part.push_str(rest);
    }
    parts
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn shown(prompt: &str) -> String {
        let shown = parse(prompt).into_iter().map(|part| match part {
            Part::Text { text, weight } => format!("{text}|{weight:.3}"),
            Part::Break => "BREAK".to_owned(),
        });
        shown.collect::<Vec<_>>().join(" / ")
    }

    /// The examples of the notation's inventor, and some that are hostile.
    #[test]
    fn the_notation_is_taken_apart() {
        for (prompt, expected) in [
            ("normal text", "normal text|1.000"),
            (
                "an (important) word",
                "an |1.000 / important|1.100 /  word|1.000",
            ),
            ("(unbalanced", "unbalanced|1.100"),
            (r"\(literal\]", "(literal]|1.000"),
            ("(unnecessary)(parens)", "unnecessaryparens|1.100"),
            (
                "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
                "a |1.000 / house|1.573 /  |1.100 / on|1.000 /  a |1.100 / hill|0.550 / , sun, |1.100 \
                 / sky|1.464 / .|1.100",
            ),
            ("ratio 16:9, 5:4)", "ratio 16:9, 5:4)|1.000"),
            ("(a:)(b:x)(c:1.5e9)", "a:b:xc:1.5e9|1.100"),
            ("(a: -0.5 )", "a|-0.500"),
            ("one BREAK two", "one |1.000 / BREAK /  two|1.000"),
            (
                "BREAKFAST (a BREAK b)",
                "BREAKFAST |1.000 / a |1.100 / BREAK /  b|1.100",
            ),
            ("", ""),
            ("]) (", "]) |1.000"),
            ("((a:99):99)", "a|100.000"),
        ] {
            assert_eq!(shown(prompt), expected, "{prompt}");
        }
    }

    #[test]
    fn weights_keep_the_mean_of_each_chunk() {
        let states: Vec<f32> = (0..24).map(|i| ((i * 7) % 11) as f32 + 1.0).collect();
        let states = Tensor::from_vec(states, (2, 4, 3), &Device::Cpu).unwrap();
        let mut chunks = Chunks {
            ids: vec![vec![0; 4]; 2],
            weights: vec![vec![1.0; 4]; 2],
        };
        let plain = chunks.weigh(&states).unwrap();
        assert_eq!(plain.dims(), [1, 8, 3]);
        chunks.weights[1][2] = 1.5;
        let rows = |tensor: &Tensor| tensor.reshape((8, 3)).unwrap().to_vec2::<f32>().unwrap();
        let (before, after) = (rows(&plain), rows(&chunks.weigh(&states).unwrap()));
        assert_eq!(before[..4], after[..4]);
        let mean = |rows: &[Vec<f32>]| rows.iter().flatten().sum::<f32>() / 12.0;
        assert!((mean(&before[4..]) - mean(&after[4..])).abs() < 1e-5);
        let stress = (after[6][0] / before[6][0]) / (after[5][0] / before[5][0]);
        assert!((stress - 1.5).abs() < 1e-5, "{stress}");
    }
}
