//! Noise levels of flow models, to the last bit those of the reference library's
//! `FlowMatchEulerDiscreteScheduler` (`schedulers/scheduling_flow_match_euler_discrete.py`): each
//! operation below rounds where the reference's rounds.

use kinora_weights::{SchedulerConfig, TimeShift};

use super::{
    config::LevelRule,
    spacing::{between, linspace},
};

/// The noise levels of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowSchedule {
    /// What the network is told at each step, 1000 down to 0 (steps).
    pub timesteps: Vec<f32>,
    /// Share of noise before each step, and after the last (steps + 1).
    pub sigmas: Vec<f32>,
}

/// The amount μ of a shift by size: linear in the number of tokens.
pub fn size_shift(config: &SchedulerConfig, tokens: usize) -> f64 {
    let base_tokens = config.base_tokens.unwrap_or(256) as f64;
    let max_tokens = config.max_tokens.unwrap_or(4096) as f64;
    let base_shift = config.base_shift.unwrap_or(0.5);
    let max_shift = config.max_shift.unwrap_or(1.15);
    let slope = (max_shift - base_shift) / (max_tokens - base_tokens);
    let intercept = base_shift - slope * base_tokens;
    tokens as f64 * slope + intercept
}

/// Lays bent levels anew between the highest and the lowest of them, where a rule wants that.
pub(super) fn flow_match_by(
    config: &SchedulerConfig,
    rule: LevelRule,
    levels: Vec<f64>,
) -> FlowSchedule {
    let ends = levels.first().copied().zip(levels.last().copied());
    let levels = ends
        .and_then(|(highest, lowest)| between(rule, highest, lowest, levels.len()))
        .unwrap_or(levels);
    let sigmas = levels.into_iter().map(|sigma| sigma as f32).collect();
    finish(config, sigmas)
}

/// Given flow times, rounded to f32 before they are bent. `mu` counts only with a dynamic shift.
pub(super) fn bend_given(config: &SchedulerConfig, times: &[f64], mu: f64) -> Vec<f64> {
    let mut sigmas: Vec<f32> = times.iter().map(|time| *time as f32).collect();
    if config.is_dynamic {
        let amount = match config.time_shift_type {
            TimeShift::Exponential => mu.exp(),
            TimeShift::Linear => mu,
        } as f32;
        for sigma in &mut sigmas {
            *sigma = amount / (amount + (1.0 / *sigma - 1.0));
        }
    } else {
        let (shift, less) = (config.shift as f32, (config.shift - 1.0) as f32);
        for sigma in &mut sigmas {
            *sigma = shift * *sigma / (1.0 + less * *sigma);
        }
    }
    if let (Some(terminal), Some(last)) = (stretch_to(config), sigmas.last()) {
        let scale = (1.0 - *last) / (1.0 - terminal) as f32;
        for sigma in &mut sigmas {
            *sigma = 1.0 - (1.0 - *sigma) / scale;
        }
    }
    sigmas.into_iter().map(f64::from).collect()
}

/// For pipelines that give no flow times (SD3): the trained extremes and what lies evenly between
/// them, bent in f64. A static shift has bent those already and bends them again, so the low end is
/// shifted twice; that is what the reference does. `mu` counts only with a dynamic shift.
pub(super) fn bend_trained(config: &SchedulerConfig, steps: usize, mu: f64) -> Vec<f64> {
    let train = config.train_timesteps as f64;
    let trained = |timestep: f32| {
        let sigma = timestep / train as f32;
        if config.is_dynamic {
            return f64::from(sigma);
        }
        let (shift, less) = (config.shift as f32, (config.shift - 1.0) as f32);
        f64::from(shift * sigma / (1.0 + less * sigma))
    };
    let (first, last) = (trained(train as f32) * train, trained(1.0) * train);
    let times: Vec<f64> = linspace(first, last, steps)
        .into_iter()
        .map(|timestep| timestep / train)
        .collect();
    bend(config, &times, mu)
}

/// Flow times bent in f64: by the static or the dynamic shift, then stretched.
pub(super) fn bend(config: &SchedulerConfig, times: &[f64], mu: f64) -> Vec<f64> {
    let mut sigmas: Vec<f64> = times
        .iter()
        .map(|sigma| match (config.is_dynamic, config.time_shift_type) {
            (false, _) => config.shift * sigma / (1.0 + (config.shift - 1.0) * sigma),
            (true, TimeShift::Exponential) => mu.exp() / (mu.exp() + (1.0 / sigma - 1.0)),
            (true, TimeShift::Linear) => mu / (mu + (1.0 / sigma - 1.0)),
        })
        .collect();
    if let (Some(terminal), Some(last)) = (stretch_to(config), sigmas.last()) {
        let scale = (1.0 - *last) / (1.0 - terminal);
        for sigma in &mut sigmas {
            *sigma = 1.0 - (1.0 - *sigma) / scale;
        }
    }
    sigmas
}

/// The level that the last step is stretched to; 0 means none, as in the reference.
fn stretch_to(config: &SchedulerConfig) -> Option<f64> {
    config.shift_terminal.filter(|terminal| *terminal != 0.0)
}

fn finish(config: &SchedulerConfig, mut sigmas: Vec<f32>) -> FlowSchedule {
    if config.is_inverted {
        for sigma in &mut sigmas {
            *sigma = 1.0 - *sigma;
        }
    }
    let timesteps = sigmas
        .iter()
        .map(|sigma| sigma * config.train_timesteps as f32)
        .collect();
    sigmas.push(if config.is_inverted { 1.0 } else { 0.0 });
    FlowSchedule { timesteps, sigmas }
}

/// Flow times that fall slowly and evenly in the first half of the steps and ever faster in the
/// second, as Mochi's pipeline gives them; `threshold` is what is gone after the first half.
/// `steps` is at least 2.
pub fn linear_quadratic_times(steps: usize, threshold: f64) -> Vec<f64> {
    let half = steps / 2;
    let rest = steps - half;
    let (linear_steps, rest_steps) = (half as f64, rest as f64);
    let difference = linear_steps - threshold * steps as f64;
    let quadratic = difference / (half * rest * rest) as f64;
    let linear = threshold / linear_steps - 2.0 * difference / (rest_steps * rest_steps);
    let constant = quadratic * (half * half) as f64;
    (0..steps)
        .map(|step| {
            let i = step as f64;
            1.0 - if step < half {
                i * threshold / linear_steps
            } else {
                quadratic * (i * i) + linear * i + constant
            }
        })
        .collect()
}
