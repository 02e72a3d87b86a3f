//! DPM-Solver++ in blocks: orders one, two and three in turn, each from the latents at which its
//! block began (DPM++ SDE where fresh noise is added). C. Lu et al., "DPM-Solver++: fast solver
//! for guided sampling of diffusion probabilistic models".

use super::{
    config::{Config, DpmForm},
    dpmpp::{Slopes, advance},
    estimate,
    levels::Levels,
    mix::Mix,
    path::point,
    program::Call,
};

/// Estimates of the last two steps, then the latents at which the block began.
const BLOCK_START: usize = 2;

/// The calls from step `begin` on.
pub fn calls(config: &Config, levels: &Levels, begin: usize) -> Vec<Call> {
    let steps = levels.steps();
    let orders = orders(config, steps);
    let slot = |step: usize| step % 2;
    (begin..steps)
        .map(|step| {
            let here = point(config, levels, step);
            let next = point(config, levels, step + 1);
            let clean = estimate::at(config.prediction, here.alpha, here.sigma).clean;
            let order = orders[step].min(step - begin + 1);
            // Where the block began: its point, the estimate there, and the latents.
            let back = order - 1;
            let origin = point(config, levels, step - back);
            let first = if back == 0 {
                clean.clone()
            } else {
                Mix::kept(slot(step - back))
            };
            let h = next.lambda - origin.lambda;
            let slopes = match order {
                1 => Slopes::First,
                2 => {
                    let ratio = (here.lambda - origin.lambda) / h;
                    Slopes::Second((clean.clone() - first.clone()) / ratio)
                }
                _ => {
                    let middle = point(config, levels, step - 1);
                    let (far, near) = (
                        (here.lambda - origin.lambda) / h,
                        (middle.lambda - origin.lambda) / h,
                    );
                    let early = (Mix::kept(slot(step - 1)) - first.clone()) / near;
                    let late = (clean.clone() - first.clone()) / far;
                    match config.dpm_form {
                        DpmForm::Midpoint => Slopes::Second(late),
                        DpmForm::Heun => Slopes::Third(
                            (&early * far - &late * near) / (far - near),
                            (late - early) * 2.0 / (far - near),
                        ),
                    }
                }
            };
            // The midpoint form of order three weighs its slope as Heun's of order two.
            let form = if order == 3 {
                DpmForm::Heun
            } else {
                config.dpm_form
            };
            let start = if back == 0 {
                Mix::latents()
            } else {
                Mix::kept(BLOCK_START)
            };
            let moved = advance(
                origin,
                next,
                config.is_stochastic,
                form,
                (start, &first),
                slopes,
            );
            let mut keeps = vec![(slot(step), clean.clone())];
            if order == 1 {
                keeps.push((BLOCK_START, Mix::latents()));
            }
            Call {
                draws: usize::from(config.is_stochastic),
                keeps,
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

/// Which order each step has.
fn orders(config: &Config, steps: usize) -> Vec<usize> {
    let order = config.order;
    let ends_low =
        config.lower_order_final || !config.ends_at_sigma_min || !steps.is_multiple_of(order);
    let mut orders: Vec<usize> = (0..steps).map(|step| step % order + 1).collect();
    if ends_low && order > 1 && steps.is_multiple_of(order) {
        // The last block gives one step up so that the very last is of first order.
        let last = &mut orders[steps - order..];
        let low: &[usize] = if order == 3 { &[1, 2, 1] } else { &[1, 1] };
        last.copy_from_slice(low);
    }
    if !config.ends_at_sigma_min
        && let Some(last) = orders.last_mut()
    {
        *last = 1;
    }
    orders
}
