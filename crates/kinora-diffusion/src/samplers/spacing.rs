//! Where the levels of a run lie: times of the training, and the rules that put levels between a
//! highest and a lowest. Each operation rounds where the reference library's rounds.

use super::{
    config::{AlignedModel, LevelRule, Spacing},
    quantile::beta_quantile,
    schedule::linear_quadratic_times,
};

/// Evenly spaced numbers with both ends, rounded as NumPy does: the last one is exact.
pub fn linspace(first: f64, last: f64, count: usize) -> Vec<f64> {
    let gaps = count.saturating_sub(1);
    let step = (last - first) / gaps.max(1) as f64;
    let mut numbers: Vec<f64> = (0..count)
        .map(|index| index as f64 * step + first)
        .collect();
    if gaps > 0 {
        numbers[gaps] = last;
    }
    numbers
}

/// `steps` times of a training with `count` of them, falling, before any rounding.
pub fn times(spacing: Spacing, steps: usize, count: usize, offset: i64) -> Vec<f64> {
    match spacing {
        Spacing::Linspace => reversed(linspace(0.0, count as f64 - 1.0, steps)),
        Spacing::Leading => leading(steps, count / steps.max(1), offset),
        Spacing::Trailing => trailing(steps, count, count),
    }
}

/// The times of a solver that counts the end of the run as one more step: `steps` of them, whole.
/// `last` is one more than the highest time.
pub fn times_with_end(
    spacing: Spacing,
    steps: usize,
    count: usize,
    last: usize,
    offset: i64,
) -> Vec<f64> {
    match spacing {
        Spacing::Linspace => {
            let mut times = reversed(linspace(0.0, last as f64 - 1.0, steps + 1));
            times.truncate(steps);
            times.into_iter().map(f64::round_ties_even).collect()
        }
        Spacing::Leading => {
            let mut times = leading(steps + 1, last / (steps + 1), offset);
            times.truncate(steps);
            times
        }
        Spacing::Trailing => trailing(steps, count, last),
    }
}

/// The times of the rules that have no spacing of their own.
pub fn times_of_rule(
    rule: LevelRule,
    steps: usize,
    count: usize,
    logs: &[f32],
) -> Option<Vec<f64>> {
    match rule {
        LevelRule::Simple => Some(
            (0..steps)
                .map(|step| {
                    let back = (step as f64 * (count as f64 / steps as f64)) as usize;
                    (count - 1).saturating_sub(back) as f64
                })
                .collect(),
        ),
        LevelRule::Uniform => {
            let mut times = linspace(count as f64 - 1.0, 0.0, steps + 1);
            times.truncate(steps);
            Some(times)
        }
        LevelRule::AlignYourSteps(model) => Some(
            aligned(model, steps)
                .into_iter()
                .map(|sigma| time_of_sigma(sigma, logs))
                .collect(),
        ),
        _ => None,
    }
}

/// Levels between a highest and a lowest, by the rules that need nothing else.
pub fn between(rule: LevelRule, highest: f64, lowest: f64, steps: usize) -> Option<Vec<f64>> {
    match rule {
        LevelRule::Karras => {
            const RHO: f64 = 7.0;
            let (low, high) = (lowest.powf(1.0 / RHO), highest.powf(1.0 / RHO));
            let ramp = linspace(0.0, 1.0, steps);
            Some(
                ramp.into_iter()
                    .map(|share| (high + share * (low - high)).powf(RHO))
                    .collect(),
            )
        }
        LevelRule::Exponential => {
            let logs = linspace(highest.ln(), lowest.ln(), steps);
            Some(logs.into_iter().map(f64::exp).collect())
        }
        LevelRule::Beta => {
            let ramp = linspace(0.0, 1.0, steps);
            Some(
                ramp.into_iter()
                    .map(|share| lowest + beta_quantile(1.0 - share, 0.6, 0.6) * (highest - lowest))
                    .collect(),
            )
        }
        LevelRule::LinearQuadratic => Some(
            linear_quadratic(steps)
                .into_iter()
                .map(|level| highest * level)
                .collect(),
        ),
        _ => None,
    }
}

/// [`LevelRule::LinearQuadratic`] from 1, without the zero at the end: a fortieth of the noise is
/// gone after half of the steps.
pub fn linear_quadratic(steps: usize) -> Vec<f64> {
    match steps {
        0 | 1 => vec![1.0; steps],
        _ => linear_quadratic_times(steps, 0.025),
    }
}

/// The published levels of "Align your steps", interpolated in their logarithm to any number of
/// steps; without the zero at the end.
pub fn aligned(model: AlignedModel, steps: usize) -> Vec<f64> {
    // The last number of each list stands where the run ends; it only guides the interpolation.
    const SD15: [f64; 11] = [
        14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029,
    ];
    const SDXL: [f64; 11] = [
        14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029,
    ];
    const SVD: [f64; 11] = [
        700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002,
    ];
    let list = match model {
        AlignedModel::Sd15 => &SD15,
        AlignedModel::Sdxl => &SDXL,
        AlignedModel::Svd => &SVD,
    };
    (0..steps)
        .map(|step| {
            let place = step as f64 * 10.0 / steps as f64;
            let index = (place as usize).min(9);
            let share = place - index as f64;
            if share == 0.0 {
                return list[index];
            }
            (list[index].ln() * (1.0 - share) + list[index + 1].ln() * share).exp()
        })
        .collect()
}

/// The value at a place between the entries of a table, as `numpy.interp`.
pub fn interpolate(table: &[f32], place: f64) -> f64 {
    let Some(last) = table.len().checked_sub(1) else {
        return 0.0;
    };
    if place <= 0.0 {
        return f64::from(table[0]);
    }
    let index = place as usize;
    if index >= last {
        return f64::from(table[last]);
    }
    let (low, high) = (f64::from(table[index]), f64::from(table[index + 1]));
    (high - low) * (place - index as f64) + low
}

/// The time at which the training had a level, between two times where it lies between; `logs` are
/// the logarithms of the training's levels, rising.
pub fn time_of_sigma(sigma: f64, logs: &[f32]) -> f64 {
    if logs.len() < 2 {
        return 0.0;
    }
    let log = sigma.max(1e-10).ln();
    let below = logs.partition_point(|known| f64::from(*known) <= log);
    let index = below.saturating_sub(1).min(logs.len() - 2);
    let (low, high) = (logs[index], logs[index + 1]);
    let share = ((f64::from(low) - log) / f64::from(low - high)).clamp(0.0, 1.0);
    (1.0 - share) * index as f64 + share * (index + 1) as f64
}

fn leading(steps: usize, ratio: usize, offset: i64) -> Vec<f64> {
    (0..steps)
        .rev()
        .map(|step| (step * ratio) as f64 + offset as f64)
        .collect()
}

/// `numpy.arange(last, 0, -count / steps)`, rounded, less one.
fn trailing(steps: usize, count: usize, last: usize) -> Vec<f64> {
    let (last, ratio) = (last as f64, count as f64 / steps.max(1) as f64);
    let length = (last / ratio).ceil() as usize;
    // NumPy takes the first difference, after its rounding, for all.
    let step = (last - ratio) - last;
    (0..length)
        .map(|i| (last + i as f64 * step).round_ties_even() - 1.0)
        .collect()
}

fn reversed(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.reverse();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacings_of_few_steps() {
        assert_eq!(
            times(Spacing::Leading, 4, 1000, 1),
            [751.0, 501.0, 251.0, 1.0]
        );
        assert_eq!(
            times(Spacing::Trailing, 4, 1000, 1),
            [999.0, 749.0, 499.0, 249.0]
        );
        assert_eq!(times(Spacing::Linspace, 1, 1000, 0), [0.0]);
        assert_eq!(times(Spacing::Linspace, 3, 1000, 0), [999.0, 499.5, 0.0]);
        assert_eq!(
            times_with_end(Spacing::Linspace, 2, 1000, 1000, 0),
            [999.0, 500.0]
        );
        assert_eq!(
            times_of_rule(LevelRule::Simple, 3, 1000, &[]).unwrap(),
            [999.0, 666.0, 333.0]
        );
        assert_eq!(
            times_of_rule(LevelRule::Uniform, 2, 1000, &[]).unwrap(),
            [999.0, 499.5]
        );
    }

    /// The list that comes with the distilled LTX models.
    #[test]
    fn eight_linear_and_quadratic_steps_are_the_published_ones() {
        let published = [
            1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875,
        ];
        for (ours, theirs) in linear_quadratic(8).into_iter().zip(published) {
            assert!((ours - theirs).abs() < 1e-12, "{ours} {theirs}");
        }
        assert_eq!(linear_quadratic(1), [1.0]);
        for steps in 2..60 {
            let levels = linear_quadratic(steps);
            assert_eq!((levels.len(), levels[0]), (steps, 1.0));
            assert!(levels.windows(2).all(|pair| pair[0] > pair[1]), "{steps}");
            assert!(levels[steps - 1] > 0.0);
        }
    }

    #[test]
    fn aligned_levels_are_the_published_ones_at_ten_steps() {
        let ten = aligned(AlignedModel::Sd15, 10);
        assert_eq!(ten[0], 14.615);
        assert_eq!(ten[9], 0.152);
        let twenty = aligned(AlignedModel::Sd15, 20);
        assert_eq!(twenty[2], ten[1]);
        assert!((twenty[1] - (14.615f64 * 6.475).sqrt()).abs() < 1e-12);
        assert!(twenty.windows(2).all(|pair| pair[0] > pair[1]));
        assert_eq!(aligned(AlignedModel::Svd, 1), [700.0]);
    }

    #[test]
    fn times_of_levels_invert_the_table() {
        let table: Vec<f32> = (1..100).map(|i| i as f32 * 0.1).collect();
        let logs: Vec<f32> = table.iter().map(|sigma| sigma.ln()).collect();
        for place in [0.0, 3.0, 50.5, 98.0] {
            let time = time_of_sigma(interpolate(&table, place), &logs);
            assert!((time - place).abs() < 0.01, "{place} {time}");
        }
        assert_eq!(time_of_sigma(0.0, &logs), 0.0);
        assert_eq!(time_of_sigma(1e9, &logs), 98.0);
    }
}
