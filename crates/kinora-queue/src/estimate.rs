//! How long work takes, from this machine's own finished runs.
//!
//! A run's time is `load + encode + steps × step + decode + save`. Each part is the median of the
//! runs of the same model and size. For a size that never ran, the nearest size that did is scaled
//! by the number of pixels: steps, decoding and saving grow with it, encoding the prompt does not.
//! The pixels of a clip are those of all its frames.

use std::collections::{BTreeMap, HashMap, VecDeque};

use kinora_core::{ModelId, Size};
use kinora_store::timings::{KEPT, Run};

/// What a job will take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Seconds from its start to its file, the model being loaded.
    pub seconds: f64,
    /// How far off that may be, in seconds: 1.5 median deviations of the runs behind it.
    pub spread_seconds: f64,
    /// Seconds more when the model has to be loaded first; 0 while that never happened.
    pub load_seconds: f64,
    /// Seconds of one denoising step.
    pub step_seconds: f64,
    /// Seconds after the last step.
    pub tail_seconds: f64,
    /// How many runs it rests on.
    pub runs: usize,
    /// Whether they had this very size.
    pub is_exact: bool,
}

/// Width, height and frames.
type Shape = (u32, u32, u32);

/// The runs, by model and shape.
#[derive(Default)]
pub(crate) struct History {
    models: HashMap<ModelId, BTreeMap<Shape, VecDeque<Run>>>,
}

impl History {
    pub fn new(runs: Vec<Run>) -> Self {
        let mut history = Self::default();
        for run in runs {
            history.add(run);
        }
        history
    }

    pub fn add(&mut self, run: Run) {
        let shapes = self.models.entry(run.model.clone()).or_default();
        let shape = (run.size.width, run.size.height, run.frames);
        let runs = shapes.entry(shape).or_default();
        if runs.len() >= KEPT as usize {
            runs.pop_front();
        }
        runs.push_back(run);
    }

    /// None for a model that never finished a run. `frames` is 1 for a picture.
    pub fn estimate(
        &self,
        model: &ModelId,
        size: Size,
        frames: u32,
        steps: u32,
    ) -> Option<Estimate> {
        let shapes = self.models.get(model)?;
        let wanted = (size.width, size.height, frames);
        let pixels = |(width, height, frames): Shape| {
            (f64::from(width) * f64::from(height) * f64::from(frames)).max(1.0)
        };
        let distance = |shape: Shape| (pixels(shape) / pixels(wanted)).ln().abs();
        let (nearest, runs) = match shapes.get_key_value(&wanted) {
            Some(exact) => exact,
            None => shapes
                .iter()
                .min_by(|(a, _), (b, _)| distance(**a).total_cmp(&distance(**b)))?,
        };
        let scale = pixels(wanted) / pixels(*nearest);
        let step = median(runs.iter().map(step_ms))? * scale;
        let encode = median(runs.iter().map(|run| run.timings.encoding_ms))?;
        let tail = median(runs.iter().map(tail_ms))? * scale;
        let total = |step: f64, encode: f64, tail: f64| encode + f64::from(steps) * step + tail;
        let ms = total(step, encode, tail);
        let deviation = median(runs.iter().map(|run| {
            let same = total(
                step_ms(run) * scale,
                run.timings.encoding_ms,
                tail_ms(run) * scale,
            );
            (same - ms).abs()
        }))?;
        let loads = shapes
            .values()
            .flatten()
            .map(|run| run.timings.loading_ms)
            .filter(|ms| *ms > 0.0);
        Some(Estimate {
            seconds: ms / 1e3,
            spread_seconds: 1.5 * deviation / 1e3,
            load_seconds: median(loads).unwrap_or(0.0) / 1e3,
            step_seconds: step / 1e3,
            tail_seconds: tail / 1e3,
            runs: runs.len(),
            is_exact: *nearest == wanted,
        })
    }
}

fn step_ms(run: &Run) -> f64 {
    let steps = run.steps.saturating_sub(run.timings.resumed_steps).max(1);
    run.timings.generating_ms / f64::from(steps)
}

fn tail_ms(run: &Run) -> f64 {
    run.timings.decoding_ms + run.timings.saving_ms
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some((values[middle - 1] + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use kinora_core::Timings;

    use super::*;

    fn run(width: u32, steps: u32, step_ms: f64) -> Run {
        Run {
            model: ModelId::new("m"),
            size: Size { width, height: 64 },
            frames: 1,
            steps,
            timings: Timings {
                encoding_ms: 10.0,
                generating_ms: step_ms * f64::from(steps),
                decoding_ms: 20.0,
                saving_ms: 5.0,
                ..Timings::default()
            },
        }
    }

    fn estimate(history: &History, width: u32, steps: u32) -> Option<Estimate> {
        history.estimate(&ModelId::new("m"), Size { width, height: 64 }, 1, steps)
    }

    #[test]
    fn without_runs_there_is_no_estimate() {
        assert_eq!(estimate(&History::default(), 64, 4), None);
    }

    #[test]
    fn one_slow_run_does_not_spoil_it() {
        let runs = vec![run(64, 4, 100.0), run(64, 8, 102.0), run(64, 4, 9_000.0)];
        let estimate = estimate(&History::new(runs), 64, 10).unwrap();
        assert!((estimate.seconds - (10.0 * 0.102 + 0.035)).abs() < 1e-9);
        assert!(estimate.is_exact && estimate.runs == 3);
        assert!((estimate.spread_seconds - 1.5 * 0.02).abs() < 1e-9);
    }

    #[test]
    fn another_size_is_scaled_from_the_nearest() {
        let history = History::new(vec![run(64, 4, 100.0), run(256, 4, 1_000.0)]);
        let near = estimate(&history, 128, 4).unwrap();
        // 128 lies as far from both; either way it grows with the pixels.
        assert!(!near.is_exact);
        let large = estimate(&history, 512, 4).unwrap();
        assert!((large.step_seconds - 2.0).abs() < 1e-9);
        assert!((large.seconds - (8.0 + 0.05 + 0.01)).abs() < 1e-9);
    }

    #[test]
    fn a_clip_costs_as_many_pixels_as_its_frames_have() {
        let clip = |frames, step_ms| Run {
            frames,
            ..run(64, 4, step_ms)
        };
        let history = History::new(vec![clip(33, 330.0), clip(81, 900.0)]);
        let size = Size {
            width: 64,
            height: 64,
        };
        let of = |frames| {
            history
                .estimate(&ModelId::new("m"), size, frames, 1)
                .unwrap()
        };
        assert!(of(33).is_exact && of(81).is_exact);
        assert!((of(33).step_seconds - 0.33).abs() < 1e-9);
        assert!((of(17).step_seconds - 0.17).abs() < 1e-9);
    }

    #[test]
    fn resumed_steps_do_not_count_and_loading_is_told_apart() {
        let mut resumed = run(64, 10, 0.0);
        resumed.timings.generating_ms = 500.0;
        resumed.timings.resumed_steps = 5;
        resumed.timings.loading_ms = 3_000.0;
        let estimate = estimate(&History::new(vec![resumed, run(64, 10, 100.0)]), 64, 1).unwrap();
        assert!((estimate.step_seconds - 0.1).abs() < 1e-9);
        assert!((estimate.load_seconds - 3.0).abs() < 1e-9);
    }
}
