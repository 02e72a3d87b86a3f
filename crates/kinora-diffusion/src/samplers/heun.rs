//! Heun's rule, of second order: two calls a step, the second at the next level, and the mean of
//! both slopes. The last step, which ends at 0, is Euler's.

use super::{
    config::Config,
    estimate::{clean_at_level, input_scale},
    levels::Levels,
    mix::{Mix, Operand},
    program::Call,
};

/// Where half a step along the first slope waits for the second.
const HALF: usize = 0;

/// The calls from step `begin` on.
pub fn calls(config: &Config, levels: &Levels, begin: usize) -> Vec<Call> {
    let mut calls = Vec::new();
    for step in begin..levels.steps() {
        let (sigma, next) = (levels.sigma(step), levels.sigma(step + 1));
        let way = if config.is_flow {
            f64::from(levels.sigmas[step + 1] - levels.sigmas[step])
        } else {
            next - sigma
        };
        let slope = slope(config, sigma);
        let moved = Mix::latents() + &slope * way;
        let mut first = call(config, levels.timesteps[step], sigma, step, moved);
        if step + 1 == levels.steps() {
            calls.push(first);
            break;
        }
        first.keeps = vec![(HALF, Mix::latents() + slope * (way / 2.0))];
        calls.push(first);
        let moved = Mix::kept(HALF) + self::slope(config, next) * (way / 2.0);
        calls.push(call(config, levels.timesteps[step + 1], next, step, moved));
    }
    calls
}

/// What the reference lists: each level between the first and the last twice.
pub fn listed_sigmas(levels: &Levels) -> Vec<f32> {
    let between = levels.sigmas.get(1..levels.steps()).unwrap_or_default();
    let first = levels.sigmas.iter().take(1);
    let last = levels.sigmas.iter().skip(levels.steps());
    let twice = between.iter().flat_map(|sigma| [sigma, sigma]);
    first.chain(twice).chain(last).copied().collect()
}

/// dx/dσ at a level.
fn slope(config: &Config, sigma: f64) -> Mix {
    if config.is_flow {
        return Mix::output();
    }
    let clean = match config.clip {
        Some(_) => Operand::Clipped.into(),
        None => clean_at_level(config.prediction, sigma),
    };
    (Mix::latents() - clean) / sigma
}

fn call(config: &Config, timestep: f64, sigma: f64, step: usize, next: Mix) -> Call {
    let clean = clean_at_level(config.prediction, sigma);
    Call {
        input_scale: if config.is_flow {
            1.0
        } else {
            input_scale(sigma)
        },
        clip: config.clip.map(|limit| (clean.clone(), limit)),
        ..Call::new(timestep, sigma, step, clean, next)
    }
}
