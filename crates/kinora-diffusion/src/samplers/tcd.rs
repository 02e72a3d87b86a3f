//! TCD: to a time below the next, and fresh noise back up to it; γ says how far below. J. Zheng et
//! al., "Trajectory consistency distillation".

use super::{config::Config, estimate, mix::Mix, program::Call, table::NoiseTable};

/// The calls at the times from `begin` on; `gamma` is from 0 to 1.
pub fn calls(
    config: &Config,
    table: &NoiseTable,
    times: &[i64],
    begin: usize,
    gamma: f64,
) -> Vec<Call> {
    (begin..times.len())
        .map(|step| {
            let time = times[step];
            let next_time = times.get(step + 1).copied().unwrap_or(0);
            let below = ((1.0 - gamma) as f32 * next_time as f32).floor() as i64;
            let (alpha, alpha_below) = (table.alpha(time), table.alpha(below));
            let estimate = estimate::at(config.prediction, alpha.sqrt(), (1.0 - alpha).sqrt());
            let noised =
                &estimate.clean * alpha_below.sqrt() + estimate.noise * (1.0 - alpha_below).sqrt();
            let is_noised = gamma > 0.0 && step + 1 < times.len();
            let next = if is_noised {
                let ratio = table.alpha(next_time) / alpha_below;
                noised * ratio.sqrt() + Mix::noise() * (1.0 - ratio).max(0.0).sqrt()
            } else {
                noised
            };
            Call {
                draws: usize::from(is_noised),
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
