//! Step rules and schedules: numbers only. No model, no device policy, no randomness.
//!
//! A [`Config`] says what the checkpoint's training was and which rule steps; [`Config::program`]
//! works out, once and in f64, everything that a run does between the calls of its network: a
//! [`Program`]. A [`Run`] carries latents through a program, one [`Call`] at a time, and can be
//! stopped and taken up between any two of them:
//!
//! ```text
//! let program = Arc::new(config.choose(sampler, schedule)?.program(&options)?);
//! let mut run = Run::start(program.clone(), noise)?;     // or Run::resume(program, &state, device)?
//! while let Some(call) = run.call() {
//!     let output = network(&run.input()?, call.timestep)?;
//!     let noise = run.draw(&mut generators)?;            // None where the rule wants none
//!     run.advance(&output, noise.as_ref())?;
//! }
//! ```
//!
//! One file per rule. All of them are linear in the tensors they read, so a rule is a list of
//! weights and one kernel serves all. The reference for each is the class of the same name in the
//! reference library, to its roundings.

pub mod choice;
pub mod cogvideox;
pub mod config;
pub mod ddim;
pub mod ddpm;
pub mod dpmpp;
pub mod dpmpp_single;
pub mod estimate;
pub mod euler;
pub mod euler_ancestral;
pub mod heun;
pub mod lcm;
pub mod levels;
pub mod lms;
pub mod mix;
pub mod path;
pub mod pndm;
pub mod program;
mod quantile;
pub mod run;
pub mod schedule;
pub mod spacing;
pub mod table;
pub mod tcd;
pub mod unipc;

use self::{
    config::Spacing,
    levels::{Levels, visited_times},
    table::NoiseTable,
};
pub use self::{
    config::{Class, Config, Prediction},
    program::{Call, Program},
    run::{Run, State},
};
use crate::{Error, Result};

/// Far above any use.
const MAX_STEPS: usize = 10_000;

/// What a run asks of a schedule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Steps of the whole schedule.
    pub steps: usize,
    /// The first step that is taken; the ones before are left to a picture that the run starts
    /// from.
    pub begin: usize,
    /// How far the levels of a flow model are shifted, where that depends on the size.
    pub mu: Option<f64>,
    /// Flow times, falling, one for each step, for pipelines that give their own.
    pub flow_times: Option<Vec<f64>>,
    /// η of DDIM (default 0), γ of TCD (default 0.3).
    pub eta: Option<f64>,
}

impl Options {
    /// A whole run of so many steps.
    pub fn steps(steps: usize) -> Self {
        Self {
            steps,
            ..Self::default()
        }
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::BadRequest(what));
        if !(1..=MAX_STEPS).contains(&self.steps) {
            return refuse(format!("{} steps", self.steps));
        }
        if self.begin >= self.steps {
            return refuse(format!("step {} of {}", self.begin + 1, self.steps));
        }
        if let Some(times) = &self.flow_times
            && times.len() != self.steps
        {
            return refuse(format!(
                "{} flow times for {} steps",
                times.len(),
                self.steps
            ));
        }
        if self.eta.is_some_and(|eta| !(0.0..=1.0).contains(&eta)) {
            return refuse("eta must lie from 0 to 1".to_owned());
        }
        Ok(())
    }
}

impl Config {
    /// Everything that a run does between the calls of its network.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when the options ask for what this configuration cannot do.
    pub fn program(&self, options: &Options) -> Result<Program> {
        options.check()?;
        match self.class {
            Class::Ddim
            | Class::Ddpm
            | Class::Pndm
            | Class::Lcm
            | Class::Tcd
            | Class::CogVideoXDdim
            | Class::CogVideoXDpm => self.program_of_times(options),
            _ => self.program_of_levels(options),
        }
    }

    /// The rules that know noise levels.
    fn program_of_levels(&self, options: &Options) -> Result<Program> {
        let levels = levels::list(self, options)?;
        let begin = options.begin;
        if begin >= levels.steps() {
            return Err(Error::BadRequest(format!(
                "step {} of {}",
                begin + 1,
                levels.steps()
            )));
        }
        let is_scaled = !self.is_flow && self.is_measured_in_levels();
        let calls = match self.class {
            Class::FlowEuler => euler::flow_calls(self, &levels, begin),
            Class::EulerAncestral => euler_ancestral::calls(self, &levels, begin),
            Class::Heun | Class::FlowHeun => heun::calls(self, &levels, begin),
            Class::Lms => lms::calls(self, &levels, begin),
            Class::Dpmpp => dpmpp::calls(self, &levels, begin),
            Class::DpmppSingle => dpmpp_single::calls(self, &levels, begin),
            Class::Unipc => unipc::calls(self, &levels, begin)?,
            _ => euler::calls(self, &levels, begin),
        };
        let sigmas = match self.class {
            Class::Heun | Class::FlowHeun => heun::listed_sigmas(&levels),
            _ => levels.sigmas.clone(),
        };
        let scale = if is_scaled {
            self.initial_scale(&levels)
        } else {
            1.0
        };
        let first = levels.sigma(begin);
        let start = if self.is_flow && self.flow.is_inverted {
            (first, 1.0 - first)
        } else if self.is_flow {
            (1.0 - first, first)
        } else if is_scaled {
            (1.0, first)
        } else {
            let point = path::point(self, &levels, begin);
            (point.alpha, point.sigma)
        };
        Program::new(calls, sigmas, scale, start)
    }

    /// The rules that know times of the training only.
    fn program_of_times(&self, options: &Options) -> Result<Program> {
        let steps = options.steps;
        if steps > self.betas.count {
            return Err(Error::BadRequest(format!(
                "{steps} steps; the training had {} times",
                self.betas.count
            )));
        }
        let table = match self.class {
            Class::CogVideoXDdim | Class::CogVideoXDpm => {
                NoiseTable::shifted(&self.betas, self.is_zero_snr, self.snr_scale)
            }
            Class::Pndm => NoiseTable::new(&self.betas, false, false),
            _ => NoiseTable::new(&self.betas, self.is_zero_snr, false),
        };
        let begin = options.begin;
        let (times, stages) = match self.class {
            Class::Lcm | Class::Tcd => (lcm::times(self, steps)?, 0),
            Class::Pndm => pndm::times(self, steps, visited_times(self, steps)?)?,
            _ => (visited_times(self, steps)?, 0),
        };
        if begin >= times.len() {
            return Err(Error::BadRequest(format!(
                "step {} of {}",
                begin + 1,
                times.len()
            )));
        }
        let calls = match self.class {
            Class::Ddpm => ddpm::calls(self, &table, &times, begin),
            Class::Lcm => lcm::calls(self, &table, &times, begin),
            Class::Tcd => tcd::calls(self, &table, &times, begin, options.eta.unwrap_or(0.3)),
            Class::Pndm => pndm::calls(self, &table, steps, (&times, stages), begin),
            Class::CogVideoXDdim => cogvideox::ddim_calls(self, &table, &times, begin),
            Class::CogVideoXDpm => cogvideox::dpm_calls(self, &table, &times, begin),
            _ => ddim::calls(self, &table, &times, begin, options.eta.unwrap_or(0.0)),
        };
        let alpha = table.alpha(times[begin]);
        let start = (alpha.sqrt(), (1.0 - alpha).sqrt());
        Program::new(calls, Vec::new(), 1.0, start)
    }

    /// Whether latents are the picture plus noise of the level, scaled on their way into the
    /// network.
    fn is_measured_in_levels(&self) -> bool {
        matches!(
            self.class,
            Class::Euler | Class::EulerAncestral | Class::Heun | Class::Lms
        )
    }

    fn initial_scale(&self, levels: &Levels) -> f64 {
        let highest = levels.sigmas.iter().copied().fold(0.0, f32::max);
        f64::from(match self.spacing {
            Spacing::Leading => (highest * highest + 1.0).sqrt(),
            Spacing::Linspace | Spacing::Trailing => highest,
        })
    }
}
