//! DPM-Solver++ with several steps' memory, of order one to three, with and without fresh noise
//! (2M, 2M SDE, 3M SDE). C. Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion
//! probabilistic models".

use super::{
    config::{Config, DpmForm},
    estimate,
    levels::Levels,
    mix::Mix,
    path::{Point, point},
    program::Call,
};

/// Runs with fewer steps end in lower order.
const SHORT: usize = 15;

/// The calls from step `begin` on.
pub fn calls(config: &Config, levels: &Levels, begin: usize) -> Vec<Call> {
    let steps = levels.steps();
    let slot = |step: usize| step % 2;
    (begin..steps)
        .map(|step| {
            let here = point(config, levels, step);
            let next = point(config, levels, step + 1);
            let clean = estimate::at(config.prediction, here.alpha, here.sigma).clean;
            let is_short = config.lower_order_final && steps < SHORT;
            let is_last = step + 1 == steps
                && (config.euler_at_final || is_short || !config.ends_at_sigma_min);
            let is_before_last = step + 2 == steps && is_short;
            let memory = step - begin;
            let order = if config.order == 1 || memory < 1 || is_last {
                1
            } else if config.order == 2 || memory < 2 || is_before_last {
                2
            } else {
                3
            };
            let before = |back: usize| {
                (
                    Mix::kept(slot(step - back)),
                    point(config, levels, step - back).lambda,
                )
            };
            let stretch = next.lambda - here.lambda;
            let slopes = match order {
                1 => Slopes::First,
                2 => {
                    let (older, lambda) = before(1);
                    let ratio = (here.lambda - lambda) / stretch;
                    Slopes::Second((clean.clone() - older) / ratio)
                }
                _ => {
                    let ((old, old_lambda), (oldest, oldest_lambda)) = (before(1), before(2));
                    let near = (here.lambda - old_lambda) / stretch;
                    let far = (old_lambda - oldest_lambda) / stretch;
                    let recent = (clean.clone() - old.clone()) / near;
                    let earlier = (old - oldest) / far;
                    let bend = recent.clone() - earlier;
                    Slopes::Third(recent + &bend * (near / (near + far)), bend / (near + far))
                }
            };
            let moved = advance(
                here,
                next,
                config.is_stochastic,
                config.dpm_form,
                (Mix::latents(), &clean),
                slopes,
            );
            Call {
                draws: usize::from(config.is_stochastic),
                keeps: vec![(slot(step), clean.clone())],
                ..Call::new(
                    levels.timesteps[step],
                    levels.sigma(step),
                    step,
                    clean,
                    moved,
                )
            }
        })
        .collect()
}

/// How the clean estimate changes with λ, in units of the stretch.
pub(super) enum Slopes {
    /// Not known.
    First,
    /// Its first difference.
    Second(Mix),
    /// First and second differences.
    Third(Mix, Mix),
}

/// From one point of the path to a later one, given the latents and the clean estimate at the first
/// and the estimate's differences.
pub(super) fn advance(
    here: Point,
    next: Point,
    is_stochastic: bool,
    form: DpmForm,
    (latents, clean): (Mix, &Mix),
    slopes: Slopes,
) -> Mix {
    let h = next.lambda - here.lambda;
    // With fresh noise the estimate counts twice as far.
    let reach = if is_stochastic { 2.0 * h } else { h };
    let shrink = if is_stochastic { (-h).exp() } else { 1.0 };
    let gain = -(-reach).exp_m1();
    let base = latents * (next.sigma / here.sigma * shrink) + clean * (next.alpha * gain);
    let second = |slope: Mix| slope * (next.alpha * (1.0 - gain / reach));
    let moved = match slopes {
        Slopes::First => base,
        Slopes::Second(slope) if form == DpmForm::Midpoint => {
            base + slope * (0.5 * next.alpha * gain)
        }
        Slopes::Second(slope) => base + second(slope),
        Slopes::Third(slope, bend) => {
            let third = (gain - reach) / (reach * reach) + 0.5;
            // Without noise the weight of the bend is −(e⁻ʰ − 1 + h)/h² + ½; with noise the
            // reference takes the same with 2h and the other sign.
            let third = if is_stochastic { third - 1.0 } else { third };
            base + second(slope) + bend * (next.alpha * third)
        }
    };
    if is_stochastic {
        moved + Mix::noise() * (next.sigma * gain.sqrt())
    } else {
        moved
    }
}
