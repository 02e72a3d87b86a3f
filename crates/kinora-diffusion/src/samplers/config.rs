//! A checkpoint's `scheduler_config.json`, of every class that is known here, with the reference
//! library's defaults of that class filled in. No arithmetic here.

mod read;

use std::path::Path;

pub(crate) use kinora_weights::without_infinities;
use kinora_weights::{SchedulerConfig, read_file_bounded};

use self::read::Raw;
use crate::{Error, Result};

/// Far above any scheduler's configuration, trained betas included.
const MAX_JSON: u64 = 4 << 20;

/// Who lists the noise levels and who steps: a class of the reference library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// `DDIMScheduler`.
    Ddim,
    /// `CogVideoXDDIMScheduler`.
    CogVideoXDdim,
    /// `CogVideoXDPMScheduler`.
    CogVideoXDpm,
    /// `DDPMScheduler`.
    Ddpm,
    /// `DPMSolverMultistepScheduler`.
    Dpmpp,
    /// `DPMSolverSinglestepScheduler`.
    DpmppSingle,
    /// `EulerDiscreteScheduler`.
    Euler,
    /// `EulerAncestralDiscreteScheduler`.
    EulerAncestral,
    /// `FlowMatchEulerDiscreteScheduler`.
    FlowEuler,
    /// `FlowMatchHeunDiscreteScheduler`.
    FlowHeun,
    /// `HeunDiscreteScheduler`.
    Heun,
    /// `LCMScheduler`.
    Lcm,
    /// `LMSDiscreteScheduler`.
    Lms,
    /// `PNDMScheduler`.
    Pndm,
    /// `TCDScheduler`.
    Tcd,
    /// `UniPCMultistepScheduler`.
    Unipc,
}

/// The classes by name.
const CLASSES: [(&str, Class); 16] = [
    ("DDIMScheduler", Class::Ddim),
    ("CogVideoXDDIMScheduler", Class::CogVideoXDdim),
    ("CogVideoXDPMScheduler", Class::CogVideoXDpm),
    ("DDPMScheduler", Class::Ddpm),
    ("DPMSolverMultistepScheduler", Class::Dpmpp),
    ("DPMSolverSinglestepScheduler", Class::DpmppSingle),
    ("EulerDiscreteScheduler", Class::Euler),
    ("EulerAncestralDiscreteScheduler", Class::EulerAncestral),
    ("FlowMatchEulerDiscreteScheduler", Class::FlowEuler),
    ("FlowMatchHeunDiscreteScheduler", Class::FlowHeun),
    ("HeunDiscreteScheduler", Class::Heun),
    ("LCMScheduler", Class::Lcm),
    ("LMSDiscreteScheduler", Class::Lms),
    ("PNDMScheduler", Class::Pndm),
    ("TCDScheduler", Class::Tcd),
    ("UniPCMultistepScheduler", Class::Unipc),
];

impl Class {
    /// The class of a name; none when it is not known here.
    pub fn from_name(name: &str) -> Option<Self> {
        let known = CLASSES.iter().find(|(known, _)| *known == name);
        known.map(|(_, class)| *class)
    }

    /// Its name in the reference library.
    pub fn name(self) -> &'static str {
        let known = CLASSES.iter().find(|(_, class)| *class == self);
        known.map_or("", |(name, _)| name)
    }

    /// Whether its levels are shares of noise, 1 down to 0, whatever the configuration says.
    fn is_flow(self) -> bool {
        matches!(self, Self::FlowEuler | Self::FlowHeun)
    }
}

/// What the network was trained to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// `√ᾱ·ε − √(1 − ᾱ)·x₀`.
    Velocity,
    /// The clean picture.
    Sample,
    /// Noise less picture.
    Flow,
}

/// How β grows over the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BetaRule {
    /// Evenly.
    Linear,
    /// Its root evenly.
    ScaledLinear,
    /// After a squared cosine, at most 0.999.
    Cosine,
}

/// The noise of the training.
#[derive(Clone, Debug, PartialEq)]
pub struct Betas {
    /// At the first time.
    pub first: f64,
    /// At the last time.
    pub last: f64,
    /// How many times.
    pub count: usize,
    /// The way between.
    pub rule: BetaRule,
    /// All of them, given; then the rest does not count.
    pub trained: Option<Vec<f64>>,
}

/// Which of the training's times a run visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Evenly with both ends.
    Linspace,
    /// Multiples of a whole step, from the low end.
    Leading,
    /// Evenly from the high end.
    Trailing,
}

/// How the noise levels lie between the highest and the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelRule {
    /// Where the training's times put them.
    Times,
    /// T. Karras et al., "Elucidating the design space of diffusion-based generative models", ρ 7.
    Karras,
    /// Evenly in their logarithm.
    Exponential,
    /// At the quantiles of a beta distribution with both parameters 0.6.
    Beta,
    /// C. Lu et al., "DPM-Solver++": evenly in λ.
    Lambda,
    /// Times that fall in whole steps from the last time of the training.
    Simple,
    /// Times evenly, as if one more step followed.
    Uniform,
    /// A. Polyak and others, "Movie Gen": half of the steps close to pure noise, evenly, then along
    /// a parabola; for flow models, whose shift it takes no heed of.
    LinearQuadratic,
    /// A. Sabour et al., "Align your steps": ten levels found by search, interpolated.
    AlignYourSteps(AlignedModel),
}

/// Whose levels [`LevelRule::AlignYourSteps`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlignedModel {
    /// Stable Diffusion 1.x.
    Sd15,
    /// Stable Diffusion XL.
    Sdxl,
    /// Stable Video Diffusion.
    Svd,
}

/// The form of a second-order DPM-Solver step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DpmForm {
    /// Midpoint.
    Midpoint,
    /// Heun.
    Heun,
}

/// How DDPM's noise is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variance {
    /// The posterior's.
    Small,
    /// β.
    Large,
}

/// A scheduler's configuration, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Whose rule steps.
    pub class: Class,
    /// Whose list of levels is used; differs from `class` when a user picked another rule for a
    /// flow model, whose levels belong to the checkpoint.
    pub levels: Class,
    /// The noise of the training.
    pub betas: Betas,
    /// What the network says.
    pub prediction: Prediction,
    /// The training's times of a run.
    pub spacing: Spacing,
    /// Added to times with [`Spacing::Leading`].
    pub steps_offset: i64,
    /// The levels of a run.
    pub level_rule: LevelRule,
    /// Lowest level of the rules that do not follow the times.
    pub sigma_min: Option<f64>,
    /// Highest level of the rules that do not follow the times.
    pub sigma_max: Option<f64>,
    /// The last level is the training's lowest rather than 0.
    pub ends_at_sigma_min: bool,
    /// The last time of the training is pure noise.
    pub is_zero_snr: bool,
    /// After the last step nothing of the noise is left; else the training's first time.
    pub alpha_to_one: bool,
    /// The estimate of the clean picture is cut off at ± this.
    pub clip: Option<f64>,
    /// The network is told a logarithm of the level rather than a time.
    pub is_continuous: bool,
    /// Levels lie evenly in their logarithm where no other rule holds.
    pub is_log_linear: bool,
    /// Highest order of the solver.
    pub order: usize,
    /// Fresh noise at every step of DPM-Solver.
    pub is_stochastic: bool,
    /// Form of DPM-Solver's second order.
    pub dpm_form: DpmForm,
    /// UniPC takes `B(h) = h` instead of `eʰ − 1`.
    pub is_bh1: bool,
    /// The last steps of a short run are of lower order.
    pub lower_order_final: bool,
    /// The last step is of first order.
    pub euler_at_final: bool,
    /// UniPC solves for the clean picture rather than the noise.
    pub predict_clean: bool,
    /// Steps after which UniPC does not correct.
    pub disable_corrector: Vec<usize>,
    /// λ below which times are left out.
    pub lambda_min: f64,
    /// Levels are shares of noise (DPM-Solver and UniPC).
    pub is_flow: bool,
    /// PNDM starts without its Runge–Kutta steps.
    pub skip_prk: bool,
    /// Steps of the teacher (LCM, TCD).
    pub original_steps: usize,
    /// LCM's scale of times.
    pub timestep_scaling: f64,
    /// CogVideoX's divisor of the signal-to-noise ratio.
    pub snr_scale: f64,
    /// DDPM's noise.
    pub variance: Variance,
    /// A flow step is a jump to the clean picture and back with fresh noise.
    pub is_stochastic_flow: bool,
    /// Shift and shape of flow levels.
    pub flow: SchedulerConfig,
    raw: Raw,
}

impl Config {
    /// Reads `scheduler/scheduler_config.json`.
    ///
    /// # Errors
    /// The file cannot be read, its class is not known here, or a value makes no sense.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_file_bounded(path, MAX_JSON)?;
        let text = String::from_utf8_lossy(&bytes);
        Self::parse(&text).map_err(|error| match error {
            Error::BadRequest(reason) => Error::bad_weights(path, reason),
            other => other,
        })
    }

    /// From the text of a `scheduler_config.json`.
    pub fn parse(json: &str) -> Result<Self> {
        let raw: Raw = serde_json::from_str(&without_infinities(json))
            .map_err(|error| Error::BadRequest(format!("it is no scheduler's: {error}")))?;
        let name = raw._class_name.clone().unwrap_or_default();
        let class = Class::from_name(&name).ok_or_else(|| {
            Error::BadRequest(format!("the scheduler {name:?} is not known here"))
        })?;
        Self::resolve(class, raw)
    }

    /// The same, for a description that names its class elsewhere.
    pub fn parse_as(class: &str, json: &str) -> Result<Self> {
        let raw: Raw = serde_json::from_str(&without_infinities(json))
            .map_err(|error| Error::BadRequest(format!("it is no scheduler's: {error}")))?;
        let known = Class::from_name(class).ok_or_else(|| {
            Error::BadRequest(format!("the scheduler {class:?} is not known here"))
        })?;
        Self::resolve(known, raw)
    }

    /// A flow model's, from what its layout says.
    pub fn of_flow(flow: &SchedulerConfig) -> Result<Self> {
        let mut config = Self::resolve(Class::FlowEuler, Raw::default())?;
        config.betas.count = flow.train_timesteps;
        config.flow = flow.clone();
        Ok(config)
    }

    /// Wan's, for files that come without: UniPC on flow times. Plans tell the shift.
    pub fn of_wan() -> Result<Self> {
        Self::parse_as(
            "UniPCMultistepScheduler",
            r#"{
                "prediction_type": "flow_prediction",
                "use_flow_sigmas": true,
                "flow_shift": 5.0
            }"#,
        )
    }

    /// The configuration of this checkpoint for another class: what the file says is taken over,
    /// what it does not say is that class's default. A flow model keeps its list of levels.
    ///
    /// # Errors
    /// The class cannot step a flow model, or needs one.
    pub fn with_class(&self, class: Class) -> Result<Self> {
        if class == self.class {
            return Ok(self.clone());
        }
        let is_flow = self.is_flow;
        if !is_flow && class.is_flow() {
            return Err(Error::BadRequest(format!(
                "{} steps flow models only",
                class.name()
            )));
        }
        if is_flow
            && !class.is_flow()
            && !matches!(class, Class::Unipc | Class::Dpmpp | Class::DpmppSingle)
        {
            return Err(Error::BadRequest(format!(
                "{} cannot step a flow model",
                class.name()
            )));
        }
        let mut raw = self.raw.clone();
        if class != Class::Unipc && class != Class::Dpmpp && class != Class::DpmppSingle {
            // These say what kind of DPM-Solver it was; another class reads them otherwise.
            raw.solver_type = None;
        }
        let mut config = Self::resolve(class, raw)?;
        if is_flow {
            config.is_flow = true;
            config.prediction = Prediction::Flow;
            config.levels = self.levels;
            config.flow = self.flow.clone();
            config.spacing = self.spacing;
            config.level_rule = self.level_rule;
            config.betas = self.betas.clone();
            config.ends_at_sigma_min = self.ends_at_sigma_min;
        }
        Ok(config)
    }
}
