//! DDPM: the mean of the posterior and fresh noise of its variance. J. Ho et al., "Denoising
//! diffusion probabilistic models", equations 6 and 7.

use super::{
    config::{Config, Variance},
    estimate,
    mix::{Mix, Operand},
    program::Call,
    table::NoiseTable,
};

/// The calls at the times from `begin` on.
pub fn calls(config: &Config, table: &NoiseTable, times: &[i64], begin: usize) -> Vec<Call> {
    (begin..times.len())
        .map(|step| {
            let time = times[step];
            let alpha = table.alpha(time);
            let alpha_next = times.get(step + 1).map_or(1.0, |next| table.alpha(*next));
            let (beta, beta_next) = (1.0 - alpha, 1.0 - alpha_next);
            let (kept, added) = (alpha / alpha_next, 1.0 - alpha / alpha_next);
            let estimate = estimate::at(config.prediction, alpha.sqrt(), beta.sqrt()).clean;
            let clean: Mix = match config.clip {
                Some(_) => Operand::Clipped.into(),
                None => estimate.clone(),
            };
            let mut next = clean * (alpha_next.sqrt() * added / beta)
                + Mix::latents() * (kept.sqrt() * beta_next / beta);
            if time > 0 {
                let posterior = (beta_next / beta * added).max(1e-20);
                let variance = match config.variance {
                    Variance::Small => posterior,
                    Variance::Large => added,
                };
                next = next + Mix::noise() * variance.sqrt();
            }
            Call {
                clip: config.clip.map(|limit| (estimate.clone(), limit)),
                draws: usize::from(time > 0),
                ..Call::new(time as f64, beta.sqrt(), step, estimate, next)
            }
        })
        .collect()
}
