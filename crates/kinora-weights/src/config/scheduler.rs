//! A schedule's numbers.

use std::path::Path;

use serde::Deserialize;

use super::{MAX_SIZE, check_sizes, read_checked};
use crate::Result;

/// How a dynamic shift bends the flow times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeShift {
    /// `e^μ / (e^μ + (1/t − 1))`.
    #[default]
    Exponential,
    /// `μ / (μ + (1/t − 1))`.
    Linear,
}

/// A flow-match Euler schedule.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct SchedulerConfig {
    /// Times of the training, the scale of a timestep.
    #[serde(rename = "num_train_timesteps")]
    pub train_timesteps: usize,
    /// The static shift.
    pub shift: f64,
    /// The shift depends on the size of the picture.
    #[serde(rename = "use_dynamic_shifting")]
    pub is_dynamic: bool,
    /// μ at the smallest size.
    pub base_shift: Option<f64>,
    /// μ at the largest size.
    pub max_shift: Option<f64>,
    /// Tokens at the smallest size.
    #[serde(rename = "base_image_seq_len")]
    pub base_tokens: Option<usize>,
    /// Tokens at the largest size.
    #[serde(rename = "max_image_seq_len")]
    pub max_tokens: Option<usize>,
    /// The last noise level is stretched to this one. None: it stays where it is.
    pub shift_terminal: Option<f64>,
    /// Form of the dynamic shift.
    pub time_shift_type: TimeShift,
    /// Levels run upwards.
    #[serde(rename = "invert_sigmas")]
    pub is_inverted: bool,
    /// Not known here.
    use_karras_sigmas: Option<bool>,
    /// Not known here.
    use_exponential_sigmas: Option<bool>,
    /// Not known here.
    use_beta_sigmas: Option<bool>,
    /// Not known here.
    stochastic_sampling: bool,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            train_timesteps: 1000,
            shift: 1.0,
            is_dynamic: false,
            base_shift: Some(0.5),
            max_shift: Some(1.15),
            base_tokens: Some(256),
            max_tokens: Some(4096),
            shift_terminal: None,
            time_shift_type: TimeShift::Exponential,
            is_inverted: false,
            use_karras_sigmas: None,
            use_exponential_sigmas: None,
            use_beta_sigmas: None,
            stochastic_sampling: false,
        }
    }
}

impl SchedulerConfig {
    /// Reads `scheduler/scheduler_config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        read_checked(path, Self::check)
    }

    /// From the text of a `scheduler_config.json`. The error reads well after the file's name and
    /// a colon.
    pub fn parse(json: &str) -> Result<Self, String> {
        let config: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    /// The schedules of the published checkpoints: dev shifts by size, schnell not at all.
    pub(crate) fn of_flux(has_guidance: bool) -> Self {
        Self {
            shift: if has_guidance { 3.0 } else { 1.0 },
            is_dynamic: has_guidance,
            ..Self::default()
        }
    }

    /// The schedule of LTX-Video up to 0.9.5 and of LTX-2: shifted by size, and stretched so that it
    /// does not end too soon.
    pub fn of_ltx() -> Self {
        Self {
            is_dynamic: true,
            base_shift: Some(0.95),
            max_shift: Some(2.05),
            base_tokens: Some(1024),
            max_tokens: Some(4096),
            shift_terminal: Some(0.1),
            ..Self::default()
        }
    }

    fn check(&self) -> Result<(), String> {
        check_sizes(&[("num_train_timesteps", self.train_timesteps)])?;
        let (base, max) = (
            self.base_tokens.unwrap_or(256),
            self.max_tokens.unwrap_or(4096),
        );
        if self.is_dynamic && (base >= max || max > MAX_SIZE) {
            return Err(format!(
                "base_image_seq_len {base} and max_image_seq_len {max} do not go together"
            ));
        }
        if !(self.shift.is_finite() && self.shift > 0.0) {
            return Err(format!("shift is {}", self.shift));
        }
        let is_finite = |value: Option<f64>| value.is_none_or(f64::is_finite);
        if !is_finite(self.base_shift) || !is_finite(self.max_shift) {
            return Err("base_shift and max_shift must be finite".to_owned());
        }
        if let Some(terminal) = self.shift_terminal
            && !(0.0..1.0).contains(&terminal)
        {
            return Err(format!("shift_terminal is {terminal}, not from 0 to 1"));
        }
        let unknown = [
            ("use_karras_sigmas", self.use_karras_sigmas),
            ("use_exponential_sigmas", self.use_exponential_sigmas),
            ("use_beta_sigmas", self.use_beta_sigmas),
            ("stochastic_sampling", Some(self.stochastic_sampling)),
        ];
        match unknown.iter().find(|(_, value)| *value == Some(true)) {
            Some((name, _)) => Err(format!("{name} is not known here")),
            None => Ok(()),
        }
    }
}
