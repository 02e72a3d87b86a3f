//! How far a job is and how long it will take: shares of the stages, and speeds measured before.

use std::collections::HashMap;

use kinora_core::{Plan, Size, Stage, Timings};

/// The share of a whole run that each stage takes, when nothing is known yet. Loading counts only
/// where a model has to be loaded.
fn share(stage: Stage) -> f32 {
    match stage {
        Stage::Loading => 0.10,
        Stage::Encoding => 0.05,
        Stage::Generating => 0.78,
        Stage::Decoding => 0.14,
        Stage::Saving => 0.03,
    }
}

const STAGES: [Stage; 5] = [
    Stage::Loading,
    Stage::Encoding,
    Stage::Generating,
    Stage::Decoding,
    Stage::Saving,
];

/// The part of a whole job that is done, 0 to 1.
pub fn fraction(stage: Stage, step: u32, steps: u32, has_loading: bool) -> f32 {
    let share = |stage| match stage {
        Stage::Loading if !has_loading => 0.0,
        other => share(other),
    };
    let total: f32 = STAGES.iter().copied().map(share).sum();
    let before: f32 = (STAGES.iter().copied())
        .filter(|&other| other < stage)
        .map(share)
        .sum();
    let within = if steps == 0 {
        0.0
    } else {
        step.min(steps) as f32 / steps as f32
    };
    ((before + share(stage) * within) / total).clamp(0.0, 1.0)
}

/// What one kind of run cost the last time, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// One step of the denoiser for the whole batch.
    pub step_ms: f64,
    /// One decode.
    pub decode_ms: f64,
    /// One file.
    pub save_ms: f64,
}

/// Runs of one shape cost the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shape {
    model: String,
    size: Size,
    /// That a step works through.
    frames: u32,
    batch: u32,
    has_cfg: bool,
    /// Bits of the threshold below which steps are reused.
    step_cache: Option<u32>,
}

/// What runs cost in this process so far.
#[derive(Debug, Default)]
pub struct Pace(HashMap<Shape, Cost>);

impl Pace {
    /// The last cost of such a run.
    pub fn get(&self, plan: &Plan, batch: u32) -> Option<Cost> {
        self.0.get(&shape(plan, batch)).copied()
    }

    /// Learns from a finished job.
    pub fn learn(&mut self, plan: &Plan, timings: &Timings) {
        let batch = timings.batch.max(1);
        let steps = plan.steps.saturating_sub(timings.resumed_steps);
        if steps == 0 {
            return;
        }
        let cost = Cost {
            step_ms: timings.generating_ms * f64::from(batch) / f64::from(steps),
            decode_ms: timings.decoding_ms,
            save_ms: timings.saving_ms,
        };
        self.0.insert(shape(plan, batch), cost);
    }
}

fn shape(plan: &Plan, batch: u32) -> Shape {
    Shape {
        model: plan.model.id.as_str().to_owned(),
        size: plan.size,
        frames: plan.video.map_or(1, |video| video.worked_frames()),
        batch,
        has_cfg: plan.true_cfg.is_some(),
        step_cache: plan.step_cache.map(f32::to_bits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_grows_from_nothing_to_all() {
        for has_loading in [false, true] {
            let mut last = -1.0;
            for stage in STAGES {
                for step in 0..=4 {
                    let now = fraction(stage, step, 4, has_loading);
                    assert!(now >= last, "{stage:?} {step}");
                    last = now;
                }
            }
            assert_eq!(fraction(Stage::Loading, 0, 0, has_loading), 0.0);
            assert!((last - 1.0).abs() < 1e-6);
        }
        // Without a model to load, loading is over as soon as it begins.
        assert_eq!(fraction(Stage::Encoding, 0, 1, false), 0.0);
        assert!(fraction(Stage::Encoding, 0, 1, true) > 0.05);
    }
}
