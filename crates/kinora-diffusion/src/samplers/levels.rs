//! The list of noise levels of a run, as each class of the reference library makes it.

use super::{
    Options,
    config::{BetaRule, Class, Config, LevelRule, Prediction, Spacing},
    schedule::{bend, bend_given, bend_trained, flow_match_by},
    spacing::{
        between, interpolate, linear_quadratic, linspace, time_of_sigma, times, times_of_rule,
        times_with_end,
    },
    table::NoiseTable,
};
use crate::{Error, Result};

/// Levels, one more than steps, and what the network is told at each step.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    /// Before each step.
    pub timesteps: Vec<f64>,
    /// Before each step and after the last.
    pub sigmas: Vec<f32>,
}

impl Levels {
    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// A level in f64.
    pub fn sigma(&self, index: usize) -> f64 {
        f64::from(self.sigmas.get(index).copied().unwrap_or(0.0))
    }
}

/// The levels of the samplers that know levels (all but those of [`visited_times`]).
pub fn list(config: &Config, options: &Options) -> Result<Levels> {
    let levels = match config.levels {
        Class::FlowEuler | Class::FlowHeun => flow(config, options)?,
        Class::Dpmpp | Class::DpmppSingle | Class::Unipc if config.is_flow => {
            multistep_flow(config, options)?
        }
        Class::Dpmpp | Class::DpmppSingle | Class::Unipc => multistep(config, options),
        _ => by_level(config, options)?,
    };
    if levels.steps() == 0 || levels.sigmas.iter().any(|sigma| !sigma.is_finite()) {
        return Err(Error::BadRequest(format!(
            "{} steps have no finite noise levels",
            options.steps
        )));
    }
    Ok(levels)
}

/// The whole times that the samplers without levels visit, falling.
pub fn visited_times(config: &Config, steps: usize) -> Result<Vec<i64>> {
    let count = config.betas.count;
    let logs = logs(&NoiseTable::new(&config.betas, false, false).sigmas());
    let listed = match config.level_rule {
        LevelRule::Times => times(config.spacing, steps, count, config.steps_offset),
        rule => times_of_rule(rule, steps, count, &logs).ok_or_else(|| {
            Error::BadRequest(format!(
                "{} follows the training's times; noise levels of another rule are not for it",
                config.class.name()
            ))
        })?,
    };
    Ok(listed
        .into_iter()
        .map(|time| time.round_ties_even() as i64)
        .collect())
}

/// Euler, Heun and their kin: levels of the training's own measure.
fn by_level(config: &Config, options: &Options) -> Result<Levels> {
    let (steps, count) = (options.steps, config.betas.count);
    let table = NoiseTable::new(&config.betas, config.is_zero_snr, true).sigmas();
    let logs = logs(&table);
    if config.is_log_linear && config.level_rule == LevelRule::Times {
        return Err(Error::BadRequest(
            "interpolation_type \"log_linear\" is not known here".to_owned(),
        ));
    }
    let given = times_of_rule(config.level_rule, steps, count, &logs);
    let aligned = match config.level_rule {
        LevelRule::AlignYourSteps(model) => Some(super::spacing::aligned(model, steps)),
        _ => None,
    };
    let mut timesteps: Vec<f64> = given
        .unwrap_or_else(|| times(config.spacing, steps, count, config.steps_offset))
        .into_iter()
        .map(|time| f64::from(time as f32))
        .collect();
    let mut sigmas = aligned.unwrap_or_else(|| {
        timesteps
            .iter()
            .map(|time| interpolate(&table, *time))
            .collect()
    });
    let highest = config.sigma_max.or(sigmas.first().copied());
    let lowest = config.sigma_min.or(sigmas.last().copied());
    let laid = highest
        .zip(lowest)
        .and_then(|(highest, lowest)| between(rule_of(config), highest, lowest, steps));
    if let Some(laid) = laid {
        timesteps = laid
            .iter()
            .map(|sigma| f64::from(time_of_sigma(*sigma, &logs) as f32))
            .collect();
        sigmas = laid;
    }
    sigmas.push(if config.ends_at_sigma_min {
        table.first().copied().map_or(0.0, f64::from)
    } else {
        0.0
    });
    let sigmas: Vec<f32> = sigmas.into_iter().map(|sigma| sigma as f32).collect();
    if config.is_continuous && config.prediction == Prediction::Velocity {
        timesteps = sigmas[..sigmas.len() - 1]
            .iter()
            .map(|sigma| f64::from(0.25 * f64::from(*sigma).ln() as f32))
            .collect();
    }
    Ok(Levels { timesteps, sigmas })
}

/// DPM-Solver and UniPC on the training's times: whole timesteps.
fn multistep(config: &Config, options: &Options) -> Levels {
    let (steps, count) = (options.steps, config.betas.count);
    let noise = NoiseTable::new(&config.betas, config.is_zero_snr, true);
    let table = noise.sigmas();
    let logs = logs(&table);
    let is_unipc = config.levels == Class::Unipc;
    let last = if is_unipc {
        count
    } else {
        count - times_below(&noise, config.lambda_min)
    };
    let spacing = if config.levels == Class::DpmppSingle {
        Spacing::Linspace
    } else {
        config.spacing
    };
    let rule = rule_of(config);
    let highest = config.sigma_max.or(table.last().copied().map(f64::from));
    let lowest = config.sigma_min.or(table.first().copied().map(f64::from));
    let laid = highest
        .zip(lowest)
        .and_then(|(highest, lowest)| between(rule, highest, lowest, steps));
    let (timesteps, mut sigmas) = match laid {
        Some(sigmas) => {
            let is_rounded = match rule {
                LevelRule::Karras | LevelRule::Lambda => {
                    config.levels != Class::Dpmpp || config.betas.rule != BetaRule::Cosine
                }
                _ => false,
            } || config.level_rule == LevelRule::Lambda;
            let whole = |sigma: &f64| {
                let time = time_of_sigma(*sigma, &logs);
                if is_rounded {
                    time.round_ties_even()
                } else {
                    time.trunc()
                }
            };
            (sigmas.iter().map(whole).collect::<Vec<f64>>(), sigmas)
        }
        None => {
            let listed = times_of_rule(rule, steps, count, &logs);
            let timesteps: Vec<f64> = listed
                .unwrap_or_else(|| times_with_end(spacing, steps, count, last, config.steps_offset))
                .into_iter()
                .map(f64::round_ties_even)
                .collect();
            let sigmas = timesteps
                .iter()
                .map(|time| interpolate(&table, *time))
                .collect();
            (timesteps, sigmas)
        }
    };
    let end = match (config.ends_at_sigma_min, rule) {
        (false, _) => 0.0,
        (true, LevelRule::Karras | LevelRule::Exponential | LevelRule::Beta) if is_unipc => {
            sigmas.last().copied().unwrap_or(0.0)
        }
        (true, _) => table.first().copied().map_or(0.0, f64::from),
    };
    sigmas.push(end);
    Levels {
        timesteps,
        sigmas: sigmas.into_iter().map(|sigma| sigma as f32).collect(),
    }
}

/// DPM-Solver and UniPC on shares of noise: their own lists, cut to whole timesteps.
fn multistep_flow(config: &Config, options: &Options) -> Result<Levels> {
    let (steps, count) = (options.steps, config.betas.count as f64);
    let shift = match options.mu {
        Some(mu) if config.flow.is_dynamic => mu.exp(),
        _ => config.flow.shift,
    };
    let mut sigmas = if config.level_rule == LevelRule::LinearQuadratic {
        linear_quadratic(steps)
    } else if config.levels == Class::Unipc {
        let table = NoiseTable::new(&config.betas, config.is_zero_snr, true).sigmas();
        let ends = table.last().copied().zip(table.first().copied());
        let laid = ends.and_then(|(highest, lowest)| {
            let highest = config.sigma_max.unwrap_or(f64::from(highest));
            let lowest = config.sigma_min.unwrap_or(f64::from(lowest));
            between(rule_of(config), highest, lowest, steps)
        });
        match laid {
            Some(laid) => laid
                .into_iter()
                .map(|sigma| sigma / (sigma + 1.0))
                .collect(),
            None => {
                let mut even = linspace(1.0, 1.0 / count, steps + 1);
                even.truncate(steps);
                let even = options.flow_times.clone().unwrap_or(even);
                let mut sigmas = bend(&config.flow, &even, needed_mu(config, options)?);
                const EDGE: f64 = 1e-6;
                if let Some(first) = sigmas.first_mut()
                    && (*first - 1.0).abs() < EDGE
                {
                    *first -= EDGE;
                }
                sigmas
            }
        }
    } else {
        let mut sigmas: Vec<f64> = linspace(1.0, 1.0 / count, steps + 1)
            .into_iter()
            .map(|alpha| {
                let sigma = 1.0 - alpha;
                shift * sigma / (1.0 + (shift - 1.0) * sigma)
            })
            .collect();
        sigmas.reverse();
        sigmas.truncate(steps);
        sigmas
    };
    let timesteps = sigmas.iter().map(|sigma| (sigma * count).trunc()).collect();
    let lowest = if config.levels == Class::Unipc {
        sigmas.last().copied()
    } else {
        let table = NoiseTable::new(&config.betas, config.is_zero_snr, true).sigmas();
        table.first().copied().map(f64::from)
    };
    sigmas.push(match lowest {
        Some(lowest) if config.ends_at_sigma_min => lowest,
        _ => 0.0,
    });
    Ok(Levels {
        timesteps,
        sigmas: sigmas.into_iter().map(|sigma| sigma as f32).collect(),
    })
}

/// Shares of noise as a flow model's own scheduler lists them.
fn flow(config: &Config, options: &Options) -> Result<Levels> {
    let mut flow = config.flow.clone();
    if config.levels == Class::FlowHeun {
        flow.is_dynamic = false;
        flow.shift_terminal = None;
        flow.is_inverted = false;
    }
    let mu = needed_mu(config, options)?;
    let bent = match &options.flow_times {
        Some(times) => bend_given(&flow, times, mu),
        None => bend_trained(&flow, options.steps, mu),
    };
    let schedule = flow_match_by(&flow, config.level_rule, bent);
    Ok(Levels {
        timesteps: schedule.timesteps.into_iter().map(f64::from).collect(),
        sigmas: schedule.sigmas,
    })
}

fn needed_mu(config: &Config, options: &Options) -> Result<f64> {
    match options.mu {
        None if config.flow.is_dynamic && config.levels != Class::FlowHeun => {
            Err(Error::BadRequest(
                "this model's noise levels depend on the size of the picture, which was not told"
                    .to_owned(),
            ))
        }
        mu => Ok(mu.unwrap_or(0.0)),
    }
}

/// λ evenly is the logarithm of the level evenly.
fn rule_of(config: &Config) -> LevelRule {
    match config.level_rule {
        LevelRule::Lambda => LevelRule::Exponential,
        rule => rule,
    }
}

/// How many of the training's times have λ below a bound.
fn times_below(noise: &NoiseTable, bound: f64) -> usize {
    if bound == f64::NEG_INFINITY {
        return 0;
    }
    let lambda = |alpha: &f64| {
        let alpha = *alpha as f32;
        alpha.sqrt().ln() - (1.0 - alpha).sqrt().ln()
    };
    let below = noise
        .alphas
        .iter()
        .filter(|alpha| f64::from(lambda(alpha)) < bound);
    below.count().min(noise.alphas.len() - 1)
}

fn logs(table: &[f32]) -> Vec<f32> {
    table
        .iter()
        .map(|sigma| f64::from(*sigma).ln() as f32)
        .collect()
}
