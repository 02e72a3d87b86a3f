//! Every combination of a prompt: how many there are, without making them, and the n-th of them.
//!
//! Combinations are numbered like the digits of a number: what stands further right changes first.
//! Each option counts once, whatever its weight.

use crate::{
    error::SyntaxError,
    expand::expand,
    parse::{Node, Options, Pick, Prompt, Sequence},
};

/// A product that stays at the largest number once it is there.
pub fn multiply(a: u128, b: u128) -> u128 {
    a.saturating_mul(b)
}

impl Prompt {
    /// How many combinations there are; `u128::MAX` stands for that or more.
    pub fn count(&self) -> u128 {
        self.root.count()
    }

    /// The combination of that number, counted from 0.
    ///
    /// # Errors
    /// When the text becomes too long.
    pub fn combination(&self, index: u128) -> Result<String, SyntaxError> {
        expand(self, index, None)
    }

    /// All combinations in their order, each made when it is asked for.
    pub fn combinations(&self) -> Combinations<'_> {
        Combinations {
            prompt: self,
            next: 0,
        }
    }
}

/// The combinations of a prompt, one by one.
#[derive(Clone, Debug)]
pub struct Combinations<'a> {
    prompt: &'a Prompt,
    next: u128,
}

impl Iterator for Combinations<'_> {
    type Item = Result<String, SyntaxError>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.next < self.prompt.count()).then(|| {
            let text = self.prompt.combination(self.next);
            self.next += 1;
            text
        })
    }

    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        self.next = self.next.saturating_add(n as u128);
        self.next()
    }
}

impl Node {
    /// How many texts it can become.
    pub fn count(&self) -> u128 {
        match self {
            Node::Text(_) | Node::Get(_) => 1,
            Node::Pick(pick) => pick.count(),
            Node::Number { low, high, .. } => u128::from(high.abs_diff(*low)) + 1,
            Node::Repeat {
                low, high, body, ..
            } => (*low..=*high).fold(0_u128, |sum, times| {
                sum.saturating_add(power(body.count(), times))
            }),
            Node::Set { body, .. } => body.count(),
            Node::Marked { parts, .. } => parts.iter().map(Sequence::count).fold(1, multiply),
        }
    }
}

/// `base` to the power of `times`, at most `u128::MAX`.
pub fn power(base: u128, times: u32) -> u128 {
    base.saturating_pow(times)
}

impl Options {
    /// Sums of the combinations up to and with each option.
    pub fn counts(&self) -> &[u128] {
        self.counted.get_or_init(|| {
            let mut sum = 0_u128;
            let sums = self.bodies.iter().map(|body| {
                sum = sum.saturating_add(body.count());
                sum
            });
            sums.collect()
        })
    }
}

impl Pick {
    /// How many texts it can become: options for one pick, subsets for several.
    pub fn count(&self) -> u128 {
        if (self.low, self.high) == (1, 1) {
            return self.options.counts().last().copied().unwrap_or(0);
        }
        let table = self.table();
        (self.low..=self.high).fold(0_u128, |sum, size| {
            sum.saturating_add(table.subsets(0, size as usize))
        })
    }

    /// Its table of subsets, made when it is first needed.
    pub fn table(&self) -> &Table {
        self.table.get_or_init(|| {
            let bodies = &self.options.bodies;
            Table::new(bodies, self.high as usize)
        })
    }

    /// The options of the subset of that number, in the order in which they are written, with the
    /// number of the combination within each.
    pub fn subset(&self, mut index: u128) -> Vec<(usize, u128)> {
        if (self.low, self.high) == (1, 1) {
            let counts = self.options.counts();
            let option = counts.partition_point(|sum| *sum <= index);
            let before = option.checked_sub(1).and_then(|i| counts.get(i));
            return vec![(option, index - before.copied().unwrap_or(0))];
        }
        let table = self.table();
        let mut size = self.low;
        while size < self.high {
            let subsets = table.subsets(0, size as usize);
            if index < subsets {
                break;
            }
            index -= subsets;
            size += 1;
        }
        let mut left = size as usize;
        let mut chosen = Vec::with_capacity(left);
        for (option, body) in self.options.bodies.iter().enumerate() {
            if left == 0 {
                break;
            }
            let behind = table.subsets(option + 1, left - 1);
            let with_it = multiply(body.count(), behind);
            if index < with_it {
                chosen.push((option, index / behind.max(1)));
                index %= behind.max(1);
                left -= 1;
            } else {
                index -= with_it;
            }
        }
        chosen
    }
}

/// How many subsets of each size the options from each place on have, where an option counts as
/// often as it has combinations. (These are the elementary symmetric polynomials of the counts.)
#[derive(Debug)]
pub struct Table {
    cells: Vec<u128>,
    width: usize,
}

impl Table {
    fn new(bodies: &[Sequence], most: usize) -> Self {
        let width = most + 1;
        let mut cells = vec![0_u128; (bodies.len() + 1) * width];
        cells[bodies.len() * width] = 1;
        for (place, body) in bodies.iter().enumerate().rev() {
            for size in 0..width {
                let without = cells[(place + 1) * width + size];
                let with_it = if size == 0 {
                    0
                } else {
                    multiply(body.count(), cells[(place + 1) * width + size - 1])
                };
                cells[place * width + size] = without.saturating_add(with_it);
            }
        }
        Self { cells, width }
    }

    fn subsets(&self, place: usize, size: usize) -> u128 {
        let cell = self.cells.get(place * self.width + size);
        cell.copied().unwrap_or(0)
    }
}

impl Sequence {
    /// How many texts it can become; counted when it is first asked for.
    pub fn count(&self) -> u128 {
        *self.counted.get_or_init(|| {
            let counts = self.nodes.iter().map(Node::count);
            counts.fold(1, multiply)
        })
    }

    /// The number of each piece's combination within the sequence's of that number.
    pub fn digits(&self, mut index: u128) -> Vec<u128> {
        let mut digits: Vec<u128> = self
            .nodes
            .iter()
            .rev()
            .map(|node| {
                let count = node.count().max(1);
                let digit = index % count;
                index /= count;
                digit
            })
            .collect();
        digits.reverse();
        digits
    }
}

/// The digits of a number with `places` digits, each below `base`.
pub fn digits_of(mut index: u128, base: u128, places: u32) -> Vec<u128> {
    let base = base.max(1);
    let mut digits: Vec<u128> = (0..places)
        .map(|_| {
            let digit = index % base;
            index /= base;
            digit
        })
        .collect();
    digits.reverse();
    digits
}
