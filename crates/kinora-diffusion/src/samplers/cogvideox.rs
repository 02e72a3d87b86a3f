//! The two rules of CogVideoX, whose noise tables divide the signal-to-noise ratio: DDIM, and a
//! stochastic DPM-Solver++ of second order.

use super::{config::Config, ddim::alpha_at, estimate, mix::Mix, program::Call, table::NoiseTable};

/// The calls of the DDIM rule at the times from `begin` on.
pub fn ddim_calls(config: &Config, table: &NoiseTable, times: &[i64], begin: usize) -> Vec<Call> {
    let stride = (config.betas.count / times.len().max(1)) as i64;
    (begin..times.len())
        .map(|step| {
            let time = times[step];
            let (alpha, next) = (table.alpha(time), alpha_at(config, table, time - stride));
            let clean = estimate::at(config.prediction, alpha.sqrt(), (1.0 - alpha).sqrt()).clean;
            let carry = ((1.0 - next) / (1.0 - alpha)).sqrt();
            let moved = Mix::latents() * carry + &clean * (next.sqrt() - alpha.sqrt() * carry);
            Call::new(time as f64, (1.0 - alpha).sqrt(), step, clean, moved)
        })
        .collect()
}

/// The calls of the stochastic rule at the times from `begin` on.
pub fn dpm_calls(config: &Config, table: &NoiseTable, times: &[i64], begin: usize) -> Vec<Call> {
    let stride = (config.betas.count / times.len().max(1)) as i64;
    let lambda = |alpha: f64| 0.5 * (alpha / (1.0 - alpha)).ln();
    (begin..times.len())
        .map(|step| {
            let time = times[step];
            let (alpha, next) = (table.alpha(time), alpha_at(config, table, time - stride));
            let clean = estimate::at(config.prediction, alpha.sqrt(), (1.0 - alpha).sqrt()).clean;
            let h = lambda(next) - lambda(alpha);
            // From the second step to the one before the last the estimate is extrapolated.
            let is_second = step > begin && time >= stride;
            let ahead = if is_second {
                let ratio = (lambda(alpha) - lambda(table.alpha(times[step - 1]))) / h;
                &clean * (1.0 + 0.5 / ratio) - Mix::kept(0) * (0.5 / ratio)
            } else {
                clean.clone()
            };
            let moved = Mix::latents() * (((1.0 - next) / (1.0 - alpha)).sqrt() * (-h).exp())
                - ahead * ((-2.0 * h).exp_m1() * next.sqrt())
                + Mix::noise() * ((1.0 - next) * -(-2.0 * h).exp_m1()).sqrt();
            Call {
                // The reference draws for a step of first order before it takes the second.
                draws: if is_second { 2 } else { 1 },
                keeps: vec![(0, clean.clone())],
                ..Call::new(time as f64, (1.0 - alpha).sqrt(), step, clean, moved)
            }
        })
        .collect()
}
