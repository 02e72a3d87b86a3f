//! LCM: straight to the clean picture, and back to the next level with fresh noise. S. Luo et al.,
//! "Latent consistency models", algorithm 3.

use super::{
    config::Config,
    estimate,
    mix::{Mix, Operand},
    program::Call,
    table::NoiseTable,
};
use crate::{Error, Result};

/// The scale of the data that the boundary condition assumes.
const SIGMA_DATA: f64 = 0.5;

/// The calls at the times from `begin` on.
pub fn calls(config: &Config, table: &NoiseTable, times: &[i64], begin: usize) -> Vec<Call> {
    (begin..times.len())
        .map(|step| {
            let time = times[step];
            let alpha = table.alpha(time);
            let estimate = estimate::at(config.prediction, alpha.sqrt(), (1.0 - alpha).sqrt());
            let estimate = estimate.clean;
            let clean: Mix = match config.clip {
                Some(_) => Operand::Clipped.into(),
                None => estimate.clone(),
            };
            let scaled = time as f64 * config.timestep_scaling;
            let square = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
            let denoised = clean * (scaled / square.sqrt())
                + Mix::latents() * (SIGMA_DATA * SIGMA_DATA / square);
            let next = match times.get(step + 1) {
                Some(next) => {
                    let alpha = table.alpha(*next);
                    denoised * alpha.sqrt() + Mix::noise() * (1.0 - alpha).sqrt()
                }
                None => denoised,
            };
            Call {
                clip: config.clip.map(|limit| (estimate.clone(), limit)),
                draws: usize::from(step + 1 < times.len()),
                ..Call::new(time as f64, (1.0 - alpha).sqrt(), step, estimate, next)
            }
        })
        .collect()
}

/// The times of a run: as many of the teacher's as there are steps, evenly, falling.
///
/// # Errors
/// More steps than the teacher had.
pub fn times(config: &Config, steps: usize) -> Result<Vec<i64>> {
    let teacher = config.original_steps;
    if steps > teacher {
        return Err(Error::BadRequest(format!(
            "{steps} steps; this model was distilled from {teacher} and can do no more"
        )));
    }
    let stride = config.betas.count / teacher;
    Ok((0..steps)
        .map(|step| {
            let index = (step as f64 * (teacher as f64 / steps as f64)).floor() as usize;
            ((teacher - index) * stride) as i64 - 1
        })
        .collect())
}
