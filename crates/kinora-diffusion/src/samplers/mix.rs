//! Weighted sums of the tensors that a step reads, with weights in f64.
//!
//! Every rule in this folder is linear in the latents, the network's answer, fresh noise and what
//! earlier steps kept. So a rule is written as its paper has it, over [`Mix`] values, long before
//! there is a tensor; what is left for the loop is one weighted sum. No tensors here.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// A tensor that a step reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operand {
    /// The latents before the step, as they went into the network but for the input's scale.
    Latents,
    /// What the network answered.
    Output,
    /// The estimate of the clean picture, cut off at a limit.
    Clipped,
    /// Fresh standard normals.
    Noise,
    /// What an earlier step left in a slot.
    Kept(usize),
}

/// A weighted sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mix {
    terms: Vec<(Operand, f64)>,
}

impl Mix {
    /// The latents.
    pub fn latents() -> Self {
        Operand::Latents.into()
    }

    /// The network's answer.
    pub fn output() -> Self {
        Operand::Output.into()
    }

    /// Fresh noise.
    pub fn noise() -> Self {
        Operand::Noise.into()
    }

    /// What lies in a slot.
    pub fn kept(slot: usize) -> Self {
        Operand::Kept(slot).into()
    }

    /// The terms that count, in the order of [`Operand`]: each operand at most once, no zero
    /// weights.
    pub fn terms(&self) -> &[(Operand, f64)] {
        &self.terms
    }

    /// The weight of one operand.
    pub fn weight(&self, operand: Operand) -> f64 {
        let term = self.terms.iter().find(|(other, _)| *other == operand);
        term.map_or(0.0, |(_, weight)| *weight)
    }

    /// Whether all weights are finite.
    pub fn is_finite(&self) -> bool {
        self.terms.iter().all(|(_, weight)| weight.is_finite())
    }

    fn merge(mut self, other: &Self, sign: f64) -> Self {
        for (operand, weight) in &other.terms {
            match self.terms.iter_mut().find(|(known, _)| known == operand) {
                Some((_, known)) => *known += sign * weight,
                None => self.terms.push((*operand, sign * weight)),
            }
        }
        self.terms.sort_by_key(|(operand, _)| *operand);
        self.terms.retain(|(_, weight)| *weight != 0.0);
        self
    }
}

impl From<Operand> for Mix {
    fn from(operand: Operand) -> Self {
        Self {
            terms: vec![(operand, 1.0)],
        }
    }
}

impl Add for Mix {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.merge(&other, 1.0)
    }
}

impl Sub for Mix {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.merge(&other, -1.0)
    }
}

impl Neg for Mix {
    type Output = Self;

    fn neg(self) -> Self {
        self * -1.0
    }
}

impl Mul<f64> for Mix {
    type Output = Self;

    fn mul(mut self, factor: f64) -> Self {
        for (_, weight) in &mut self.terms {
            *weight *= factor;
        }
        self.terms.retain(|(_, weight)| *weight != 0.0);
        self
    }
}

impl Mul<f64> for &Mix {
    type Output = Mix;

    fn mul(self, factor: f64) -> Mix {
        self.clone() * factor
    }
}

impl Div<f64> for Mix {
    type Output = Self;

    fn div(mut self, divisor: f64) -> Self {
        for (_, weight) in &mut self.terms {
            *weight /= divisor;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_each_operand_once_and_in_order() {
        let mix = Mix::noise() * 0.5 + Mix::latents() - Mix::output() * 2.0 + Mix::latents() * 3.0;
        assert_eq!(
            mix.terms(),
            [
                (Operand::Latents, 4.0),
                (Operand::Output, -2.0),
                (Operand::Noise, 0.5)
            ]
        );
        assert_eq!((mix.clone() / 4.0).weight(Operand::Latents), 1.0);
        assert!((mix.clone() - mix).terms().is_empty());
        assert!(!(Mix::kept(1) / 0.0).is_finite());
    }
}
