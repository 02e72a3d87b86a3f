//! Euler's rule, of first order: along the straight line to the next level.
//!
//! For flow models `x + (σ₊ − σ)·v`; for others algorithm 2 of T. Karras et al., "Elucidating the
//! design space of diffusion-based generative models", without churn.

use super::{
    config::Config,
    estimate::{clean_at_level, input_scale},
    levels::Levels,
    mix::Mix,
    program::Call,
};

/// The calls from step `begin` on, over levels of the training's measure.
pub fn calls(config: &Config, levels: &Levels, begin: usize) -> Vec<Call> {
    (begin..levels.steps())
        .map(|step| {
            let (sigma, next) = (levels.sigma(step), levels.sigma(step + 1));
            let clean = clean_at_level(config.prediction, sigma);
            let slope = (Mix::latents() - clean.clone()) / sigma;
            let moved = Mix::latents() + slope * (next - sigma);
            Call {
                input_scale: input_scale(sigma),
                ..Call::new(levels.timesteps[step], sigma, step, clean, moved)
            }
        })
        .collect()
}

/// The calls from step `begin` on, of a flow model.
pub fn flow_calls(config: &Config, levels: &Levels, begin: usize) -> Vec<Call> {
    (begin..levels.steps())
        .map(|step| {
            let (sigma, next) = (levels.sigmas[step], levels.sigmas[step + 1]);
            // Pictures lie at level 1 where levels run upwards.
            let end = if config.flow.is_inverted { 1.0 } else { 0.0 };
            let clean = Mix::latents() + Mix::output() * f64::from(end - sigma);
            let moved = if config.is_stochastic_flow {
                let next = f64::from(next);
                clean.clone() * (1.0 - next) + Mix::noise() * next
            } else {
                // The difference is rounded to f32, as everything of a flow schedule.
                Mix::latents() + Mix::output() * f64::from(next - sigma)
            };
            Call {
                draws: usize::from(config.is_stochastic_flow),
                ..Call::new(levels.timesteps[step], f64::from(sigma), step, clean, moved)
            }
        })
        .collect()
}
