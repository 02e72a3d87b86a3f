//! PNDM: a linear multistep rule over the noise, started by Runge–Kutta steps or by a step taken
//! twice. L. Liu et al., "Pseudo numerical methods for diffusion models on manifolds".

use super::{
    config::{Config, Prediction},
    ddim::alpha_at,
    estimate,
    mix::Mix,
    program::Call,
    table::NoiseTable,
};
use crate::{Error, Result};

/// Slots: answers in turn, then the latents that a step started from, then the weighted answers of
/// a Runge–Kutta step.
const ANSWERS: usize = 3;
const START: usize = ANSWERS;
const SUM: usize = ANSWERS + 1;

/// The times of the calls, falling, and how many of them belong to Runge–Kutta steps.
///
/// # Errors
/// Too few steps for the Runge–Kutta start.
pub fn times(config: &Config, steps: usize, listed: Vec<i64>) -> Result<(Vec<i64>, usize)> {
    // The multistep part counts on rising lists.
    let mut rising = listed;
    rising.reverse();
    if config.skip_prk {
        // The second time twice: its first visit only improves the start.
        let mut times: Vec<i64> = rising.iter().rev().copied().collect();
        if times.len() > 1 {
            times.insert(1, times[1]);
        }
        return Ok((times, 0));
    }
    let Some(first) = rising.len().checked_sub(4) else {
        return Err(Error::BadRequest(format!(
            "{steps} steps; the Runge–Kutta start of this sampler takes at least 4"
        )));
    };
    let half = (config.betas.count / steps / 2) as i64;
    let mut stages: Vec<i64> = rising[first..]
        .iter()
        .flat_map(|time| [*time, time + half])
        .collect();
    stages.pop();
    let mut start: Vec<i64> = stages.iter().flat_map(|time| [*time, *time]).collect();
    start.pop();
    start.remove(0);
    start.reverse();
    let count = start.len();
    start.extend(rising[..rising.len() - 3].iter().rev());
    Ok((start, count))
}

/// The calls at `times` from the call `begin` on; the first `stages` of all belong to Runge–Kutta
/// steps.
pub fn calls(
    config: &Config,
    table: &NoiseTable,
    steps: usize,
    (times, stages): (&[i64], usize),
    begin: usize,
) -> Vec<Call> {
    let stride = (config.betas.count / steps.max(1)) as i64;
    let mut memory = Memory::default();
    let mut sum = Mix::default();
    times[begin..]
        .iter()
        .enumerate()
        .map(|(counter, &time)| {
            let alpha = table.alpha(time);
            let estimate = estimate::at(config.prediction, alpha.sqrt(), (1.0 - alpha).sqrt());
            let output = Mix::output();
            let mut keeps = Vec::new();
            let (from, to, latents, answer);
            if counter < stages {
                to = time - if counter % 2 == 0 { stride / 2 } else { 0 };
                from = times[counter / 4 * 4];
                let weight = [1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0][counter % 4];
                if counter % 4 == 0 {
                    keeps.push((memory.push(), output.clone()));
                    keeps.push((START, Mix::latents()));
                    latents = Mix::latents();
                    sum = Mix::default();
                } else {
                    latents = Mix::kept(START);
                }
                let added = sum.clone() + &output * weight;
                answer = if counter % 4 == 3 {
                    added
                } else {
                    keeps.push((SUM, added));
                    sum = Mix::kept(SUM);
                    output
                };
            } else if counter == 1 {
                // The same step again, now from both of its ends.
                (from, to) = (time + stride, time);
                latents = Mix::kept(START);
                answer = (output + memory.older(1)) / 2.0;
            } else {
                (from, to) = (time, time - stride);
                latents = Mix::latents();
                answer = match memory.count {
                    0 => {
                        keeps.push((START, Mix::latents()));
                        output
                    }
                    1 => (output * 3.0 - memory.older(1)) / 2.0,
                    2 => (output * 23.0 - memory.older(1) * 16.0 + memory.older(2) * 5.0) / 12.0,
                    _ => {
                        (output * 55.0 - memory.older(1) * 59.0 + memory.older(2) * 37.0
                            - memory.older(3) * 9.0)
                            / 24.0
                    }
                };
                keeps.push((memory.push(), Mix::output()));
            }
            let next = transfer(config, table, (from, to), latents, answer);
            let step = (counter + begin).min(steps.saturating_sub(1));
            Call {
                keeps,
                ..Call::new(
                    time as f64,
                    (1.0 - alpha).sqrt(),
                    step,
                    estimate.clean,
                    next,
                )
            }
        })
        .collect()
}

/// Which slots hold the latest answers.
#[derive(Default)]
struct Memory {
    pushed: usize,
    count: usize,
}

impl Memory {
    /// The slot for the present answer, which from the next call on is the newest.
    fn push(&mut self) -> usize {
        let slot = self.pushed % ANSWERS;
        self.pushed += 1;
        self.count = (self.count + 1).min(ANSWERS);
        slot
    }

    /// The answer so many before the present one.
    fn older(&self, back: usize) -> Mix {
        Mix::kept((self.pushed - back) % ANSWERS)
    }
}

/// From one time to another along one answer: equation 9 of the paper.
fn transfer(
    config: &Config,
    table: &NoiseTable,
    (from, to): (i64, i64),
    latents: Mix,
    answer: Mix,
) -> Mix {
    let (alpha, next) = (table.alpha(from), alpha_at(config, table, to));
    let (beta, beta_next) = (1.0 - alpha, 1.0 - next);
    let noise = if config.prediction == Prediction::Velocity {
        answer * alpha.sqrt() + &latents * beta.sqrt()
    } else {
        answer
    };
    let divisor = alpha * beta_next.sqrt() + (alpha * beta * next).sqrt();
    latents * (next / alpha).sqrt() - noise * ((next - alpha) / divisor)
}
