//! DDIM: the estimate of the picture, noised again with the estimate of the noise. J. Song et al.,
//! "Denoising diffusion implicit models"; η replaces a part of the noise by fresh noise.

use super::{
    config::Config,
    estimate,
    mix::{Mix, Operand},
    program::Call,
    table::NoiseTable,
};

/// The calls at the times from `begin` on. `eta` is from 0 to 1.
pub fn calls(
    config: &Config,
    table: &NoiseTable,
    times: &[i64],
    begin: usize,
    eta: f64,
) -> Vec<Call> {
    let stride = (config.betas.count / times.len().max(1)) as i64;
    (begin..times.len())
        .map(|step| {
            let time = times[step];
            let (alpha, alpha_next) = (table.alpha(time), alpha_at(config, table, time - stride));
            let (beta, beta_next) = (1.0 - alpha, 1.0 - alpha_next);
            let estimate = estimate::at(config.prediction, alpha.sqrt(), beta.sqrt());
            let clean: Mix = match config.clip {
                Some(_) => Operand::Clipped.into(),
                None => estimate.clean.clone(),
            };
            let variance = beta_next / beta * (1.0 - alpha / alpha_next);
            let fresh = eta * variance.sqrt();
            let rest = (beta_next - fresh * fresh).max(0.0).sqrt();
            let mut next = clean * alpha_next.sqrt() + estimate.noise * rest;
            if eta > 0.0 {
                next = next + Mix::noise() * fresh;
            }
            Call {
                clip: config.clip.map(|limit| (estimate.clean.clone(), limit)),
                draws: usize::from(eta > 0.0),
                ..Call::new(time as f64, beta.sqrt(), step, estimate.clean, next)
            }
        })
        .collect()
}

/// ᾱ at a time, or what counts as ᾱ after the last step.
pub(super) fn alpha_at(config: &Config, table: &NoiseTable, time: i64) -> f64 {
    if time < 0 && config.alpha_to_one {
        1.0
    } else {
        table.alpha(time)
    }
}
