//! Euler's rule to a level below the next, and fresh noise back up to it (after K. Crowson's
//! k-diffusion).

use super::{
    config::Config,
    estimate::{clean_at_level, input_scale},
    levels::Levels,
    mix::Mix,
    program::Call,
};

/// The calls from step `begin` on.
pub fn calls(config: &Config, levels: &Levels, begin: usize) -> Vec<Call> {
    (begin..levels.steps())
        .map(|step| {
            let (sigma, next) = (levels.sigma(step), levels.sigma(step + 1));
            let up = (next * next * (sigma * sigma - next * next) / (sigma * sigma)).sqrt();
            let down = (next * next - up * up).sqrt();
            let clean = clean_at_level(config.prediction, sigma);
            let slope = (Mix::latents() - clean.clone()) / sigma;
            let moved = Mix::latents() + slope * (down - sigma) + Mix::noise() * up;
            Call {
                input_scale: input_scale(sigma),
                // Drawn at the last step too, where nothing of it is used.
                draws: 1,
                ..Call::new(levels.timesteps[step], sigma, step, clean, moved)
            }
        })
        .collect()
}
