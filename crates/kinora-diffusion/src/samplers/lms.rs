//! The linear multistep rule: a polynomial through the last four slopes, integrated to the next
//! level (after K. Crowson's k-diffusion).

use super::{
    config::Config,
    estimate::{clean_at_level, input_scale},
    levels::Levels,
    mix::Mix,
    program::Call,
};

/// Slopes that count at most.
const ORDER: usize = 4;

/// The calls from step `begin` on.
pub fn calls(config: &Config, levels: &Levels, begin: usize) -> Vec<Call> {
    let slot = |step: usize| step % (ORDER - 1);
    (begin..levels.steps())
        .map(|step| {
            let sigma = levels.sigma(step);
            let clean = clean_at_level(config.prediction, sigma);
            let slope = (Mix::latents() - clean.clone()) / sigma;
            let order = (step + 1).min(ORDER);
            let mut next = Mix::latents() + &slope * weight(levels, step, order, 0);
            // A run that begins later has fewer slopes than its place would allow.
            for back in 1..order.min(step - begin + 1) {
                next = next + Mix::kept(slot(step - back)) * weight(levels, step, order, back);
            }
            Call {
                input_scale: input_scale(sigma),
                keeps: vec![(slot(step), slope)],
                ..Call::new(levels.timesteps[step], sigma, step, clean, next)
            }
        })
        .collect()
}

/// The integral, over a step, of the polynomial that is 1 at the level `back` steps ago and 0 at
/// the other levels of the order. Gauss–Legendre with three points is exact up to degree five.
fn weight(levels: &Levels, step: usize, order: usize, back: usize) -> f64 {
    let (from, to) = (levels.sigma(step), levels.sigma(step + 1));
    let root = (3.0f64 / 5.0).sqrt();
    let points = [(-root, 5.0 / 9.0), (0.0, 8.0 / 9.0), (root, 5.0 / 9.0)];
    let basis = |tau: f64| -> f64 {
        (0..order)
            .filter(|other| *other != back)
            .map(|other| {
                let (own, other) = (levels.sigma(step - back), levels.sigma(step - other));
                (tau - other) / (own - other)
            })
            .product()
    };
    let half = (to - from) / 2.0;
    let sum: f64 = points
        .iter()
        .map(|(place, share)| share * basis(from + half * (place + 1.0)))
        .sum();
    half * sum
}
