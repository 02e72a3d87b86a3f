//! UniPC: each step is first corrected with the answer at its end, then the next is predicted.
//! W. Zhao et al., "UniPC: a unified predictor-corrector framework for fast sampling of diffusion
//! models", in the form with `B(h) = eʰ − 1` (bh2) or `h` (bh1).

use super::{
    config::{Config, Prediction},
    estimate,
    levels::Levels,
    mix::Mix,
    path::{Point, point},
    program::Call,
};
use crate::{Error, Result};

/// The calls from step `begin` on.
///
/// # Errors
/// A flow model is to be solved for the noise.
pub fn calls(config: &Config, levels: &Levels, begin: usize) -> Result<Vec<Call>> {
    if !config.predict_clean && config.prediction == Prediction::Flow {
        return Err(Error::BadRequest(
            "UniPC solves flow models for the clean picture only".to_owned(),
        ));
    }
    let (steps, most) = (levels.steps(), config.order);
    let slot = |step: usize| step % most;
    let corrected_slot = most;
    let mut order_before = 0;
    let mut calls = Vec::new();
    for step in begin..steps {
        let here = point(config, levels, step);
        let next = point(config, levels, step + 1);
        let estimate = estimate::at(config.prediction, here.alpha, here.sigma);
        let answer = if config.predict_clean {
            estimate.clean.clone()
        } else {
            estimate.noise
        };
        let older = |back: usize| {
            (
                Mix::kept(slot(step - back)),
                point(config, levels, step - back).lambda,
            )
        };
        let is_corrected =
            step > begin && step > 0 && !config.disable_corrector.contains(&(step - 1));
        let latents = if is_corrected {
            let before = point(config, levels, step - 1);
            let (newest, _) = older(1);
            let memory: Vec<(Mix, f64)> = (2..=order_before).map(older).collect();
            Stretch::new(config, before, here, newest, &memory)
                .correct(Mix::kept(corrected_slot), &answer)
        } else {
            Mix::latents()
        };
        let order = if config.lower_order_final {
            most.min(steps - step)
        } else {
            most
        };
        let order = order.min(step - begin + 1);
        let memory: Vec<(Mix, f64)> = (1..order).map(older).collect();
        let moved =
            Stretch::new(config, here, next, answer.clone(), &memory).predict(latents.clone());
        calls.push(Call {
            keeps: vec![(slot(step), answer), (corrected_slot, latents)],
            ..Call::new(
                levels.timesteps[step],
                levels.sigma(step),
                step,
                estimate.clean,
                moved,
            )
        });
        order_before = order;
    }
    Ok(calls)
}

/// One stretch of the path with what is known of the answers before it.
struct Stretch {
    /// Weight of the latents at its start.
    carry: f64,
    /// What the answer at its start contributes.
    base: Mix,
    /// Weight of the differences.
    gain: f64,
    newest: Mix,
    /// First differences of older answers.
    differences: Vec<Mix>,
    /// Where in λ the older answers lie, in units of the stretch, and its end.
    places: Vec<f64>,
    /// Right-hand sides of the order conditions.
    moments: Vec<f64>,
}

impl Stretch {
    fn new(config: &Config, from: Point, to: Point, newest: Mix, memory: &[(Mix, f64)]) -> Self {
        let h = to.lambda - from.lambda;
        let signed = if config.predict_clean { -h } else { h };
        let growth = signed.exp_m1();
        let gain = if config.is_bh1 { signed } else { growth };
        let mut places: Vec<f64> = memory
            .iter()
            .map(|(_, lambda)| (lambda - from.lambda) / h)
            .collect();
        let differences = memory
            .iter()
            .zip(&places)
            .map(|((answer, _), place)| (answer.clone() - newest.clone()) / *place)
            .collect();
        places.push(1.0);
        let mut moments = Vec::new();
        let (mut phi, mut factorial) = (growth / signed - 1.0, 1.0);
        for i in 1..=places.len() {
            moments.push(phi * factorial / gain);
            factorial *= (i + 1) as f64;
            phi = phi / signed - 1.0 / factorial;
        }
        let (carry, weight) = if config.predict_clean {
            (to.sigma / from.sigma, to.alpha)
        } else {
            (to.alpha / from.alpha, to.sigma)
        };
        Self {
            carry,
            base: -(&newest * (weight * growth)),
            gain: weight * gain,
            newest,
            differences,
            places,
            moments,
        }
    }

    /// The latents at the end, from answers up to the start.
    fn predict(self, latents: Mix) -> Mix {
        let moved = latents * self.carry + self.base;
        let count = self.differences.len();
        // The reference takes a half for order two, where the condition says about as much.
        let weights = match count {
            0 => Vec::new(),
            1 => vec![0.5],
            _ => solve(&self.places[..count], &self.moments[..count]),
        };
        let sum = weighted_sum(&self.differences, &weights);
        moved - sum * self.gain
    }

    /// The latents at the end, from answers up to the end, `answer` being the one there.
    fn correct(self, latents: Mix, answer: &Mix) -> Mix {
        let moved = latents * self.carry + self.base;
        let count = self.differences.len();
        let weights = if count == 0 {
            vec![0.5]
        } else {
            solve(&self.places, &self.moments)
        };
        let last = (answer.clone() - self.newest) * weights[count];
        let sum = weighted_sum(&self.differences, &weights) + last;
        moved - sum * self.gain
    }
}

fn weighted_sum(mixes: &[Mix], weights: &[f64]) -> Mix {
    mixes
        .iter()
        .zip(weights)
        .fold(Mix::default(), |sum, (mix, weight)| sum + mix * *weight)
}

/// The weights `w` with `Σ wⱼ·placeⱼⁱ = momentᵢ` for i = 0, 1, …: a small system, by elimination
/// with pivots.
fn solve(places: &[f64], moments: &[f64]) -> Vec<f64> {
    let size = places.len();
    let mut rows: Vec<Vec<f64>> = (0..size)
        .map(|power| {
            let mut row: Vec<f64> = places
                .iter()
                .map(|place| place.powi(power as i32))
                .collect();
            row.push(moments[power]);
            row
        })
        .collect();
    for column in 0..size {
        let pivot = (column..size)
            .max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs()))
            .unwrap_or(column);
        rows.swap(column, pivot);
        let (above, below) = rows.split_at_mut(column + 1);
        let pivot = &above[column];
        for row in below {
            let factor = row[column] / pivot[column];
            for (value, pivot) in row.iter_mut().zip(pivot).skip(column) {
                *value -= factor * pivot;
            }
        }
    }
    let mut weights = vec![0.0; size];
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|k| rows[row][k] * weights[k]).sum();
        weights[row] = (rows[row][size] - known) / rows[row][row];
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_meet_their_conditions() {
        let (places, moments) = ([-1.7, -0.6, 1.0], [0.4, -0.3, 0.25]);
        let weights = solve(&places, &moments);
        for (power, moment) in moments.iter().enumerate() {
            let sum: f64 = weights
                .iter()
                .zip(places)
                .map(|(weight, place)| weight * place.powi(power as i32))
                .sum();
            assert!((sum - moment).abs() < 1e-14, "{power}");
        }
    }
}
