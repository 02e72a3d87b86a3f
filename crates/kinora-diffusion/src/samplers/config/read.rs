//! Reading a configuration: what the file says, that class's defaults for the rest, and what makes
//! no sense refused.

use kinora_weights::SchedulerConfig;
use serde::Deserialize;

use super::{BetaRule, Betas, Class, Config, DpmForm, LevelRule, Prediction, Spacing, Variance};
use crate::{Error, Result};

/// Times of a training; 1000 nearly everywhere.
const MAX_TIMES: usize = 100_000;

/// The fields that any class has, as they stand in the file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    pub(super) _class_name: Option<String>,
    num_train_timesteps: Option<usize>,
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    beta_schedule: Option<String>,
    trained_betas: Option<Vec<f64>>,
    prediction_type: Option<String>,
    interpolation_type: Option<String>,
    use_karras_sigmas: Option<bool>,
    use_exponential_sigmas: Option<bool>,
    use_beta_sigmas: Option<bool>,
    use_lu_lambdas: Option<bool>,
    use_flow_sigmas: Option<bool>,
    flow_shift: Option<f64>,
    sigma_min: Option<f64>,
    sigma_max: Option<f64>,
    timestep_spacing: Option<String>,
    timestep_type: Option<String>,
    steps_offset: Option<i64>,
    rescale_betas_zero_snr: Option<bool>,
    final_sigmas_type: Option<String>,
    set_alpha_to_one: Option<bool>,
    clip_sample: Option<bool>,
    clip_sample_range: Option<f64>,
    thresholding: Option<bool>,
    solver_order: Option<usize>,
    algorithm_type: Option<String>,
    pub(super) solver_type: Option<String>,
    lower_order_final: Option<bool>,
    euler_at_final: Option<bool>,
    predict_x0: Option<bool>,
    disable_corrector: Option<Vec<usize>>,
    lambda_min_clipped: Option<f64>,
    skip_prk_steps: Option<bool>,
    original_inference_steps: Option<usize>,
    timestep_scaling: Option<f64>,
    snr_shift_scale: Option<f64>,
    variance_type: Option<String>,
    stochastic_sampling: Option<bool>,
    shift: Option<f64>,
    use_dynamic_shifting: Option<bool>,
    base_shift: Option<f64>,
    max_shift: Option<f64>,
    base_image_seq_len: Option<usize>,
    max_image_seq_len: Option<usize>,
    invert_sigmas: Option<bool>,
    shift_terminal: Option<f64>,
    time_shift_type: Option<String>,
}

impl Config {
    pub(super) fn resolve(class: Class, raw: Raw) -> Result<Self> {
        use Class::*;
        let refuse = |what: String| Err(Error::BadRequest(what));
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let is_given = |value: Option<bool>| value == Some(true);
        let count = raw.num_train_timesteps.unwrap_or(1000);
        let offset = raw.steps_offset.unwrap_or(0);
        if !(2..=MAX_TIMES).contains(&count) {
            return refuse(format!("num_train_timesteps is {count}"));
        }
        if offset.unsigned_abs() > count as u64 {
            return refuse(format!("steps_offset is {offset}"));
        }
        let new_style = matches!(class, Heun | Lcm | Tcd | CogVideoXDdim | CogVideoXDpm);
        let (first, last) = if new_style {
            (0.00085, 0.012)
        } else {
            (0.0001, 0.02)
        };
        let scaled = matches!(class, Lcm | Tcd | CogVideoXDdim | CogVideoXDpm);
        let rule = match text(&raw.beta_schedule).as_str() {
            "" if scaled => BetaRule::ScaledLinear,
            "" | "linear" => BetaRule::Linear,
            "scaled_linear" => BetaRule::ScaledLinear,
            "squaredcos_cap_v2" => BetaRule::Cosine,
            other => return refuse(format!("beta_schedule {other:?} is not known here")),
        };
        let betas = Betas {
            first: raw.beta_start.unwrap_or(first),
            last: raw.beta_end.unwrap_or(last),
            count,
            rule,
            trained: raw.trained_betas.clone(),
        };
        check_betas(&betas)?;
        let is_multistep = matches!(class, Dpmpp | DpmppSingle | Unipc);
        let is_flow = class.is_flow() || (is_multistep && is_given(raw.use_flow_sigmas));
        let prediction = match text(&raw.prediction_type).as_str() {
            _ if class.is_flow() => Prediction::Flow,
            "" | "epsilon" => Prediction::Epsilon,
            "v_prediction" => Prediction::Velocity,
            "sample" | "original_sample" => Prediction::Sample,
            "flow_prediction" if is_multistep => Prediction::Flow,
            other => {
                return refuse(format!(
                    "prediction_type {other:?} is not known for {}",
                    class.name()
                ));
            }
        };
        let leading = matches!(
            class,
            Ddim | Ddpm | Pndm | CogVideoXDdim | CogVideoXDpm | Lcm | Tcd
        );
        let spacing = match text(&raw.timestep_spacing).as_str() {
            "" if leading => Spacing::Leading,
            "" | "linspace" => Spacing::Linspace,
            "leading" => Spacing::Leading,
            "trailing" => Spacing::Trailing,
            other => return refuse(format!("timestep_spacing {other:?} is not known here")),
        };
        let rules = [
            (raw.use_karras_sigmas, LevelRule::Karras),
            (raw.use_exponential_sigmas, LevelRule::Exponential),
            (raw.use_beta_sigmas, LevelRule::Beta),
            (raw.use_lu_lambdas, LevelRule::Lambda),
        ];
        let mut given = rules.iter().filter(|(flag, _)| is_given(*flag));
        let level_rule = given.next().map_or(LevelRule::Times, |(_, rule)| *rule);
        if given.next().is_some() {
            return refuse("more than one rule for the noise levels is switched on".to_owned());
        }
        if is_given(raw.thresholding) {
            return refuse("dynamic thresholding is not known here".to_owned());
        }
        let algorithm = text(&raw.algorithm_type);
        if is_multistep
            && !matches!(
                algorithm.as_str(),
                "" | "dpmsolver++" | "sde-dpmsolver++" | "deis"
            )
        {
            return refuse(format!("algorithm_type {algorithm:?} is not known here"));
        }
        let variance = match text(&raw.variance_type).as_str() {
            "" | "fixed_small" | "fixed_small_log" => Variance::Small,
            "fixed_large" => Variance::Large,
            other => return refuse(format!("variance_type {other:?} is not known here")),
        };
        let order = raw.solver_order.unwrap_or(2);
        if is_multistep && !(1..=3).contains(&order) {
            return refuse(format!("solver_order is {order}; 1 to 3 are possible"));
        }
        let clips_by_default = matches!(class, Ddim | Ddpm);
        let clips = matches!(class, Ddim | Ddpm | Lcm | Heun)
            && raw.clip_sample.unwrap_or(clips_by_default);
        let numbers = [
            ("sigma_min", raw.sigma_min),
            ("sigma_max", raw.sigma_max),
            ("clip_sample_range", raw.clip_sample_range),
            ("timestep_scaling", raw.timestep_scaling),
            ("snr_shift_scale", raw.snr_shift_scale),
        ];
        if let Some((name, Some(value))) = numbers
            .iter()
            .find(|(_, value)| value.is_some_and(|value| !(value.is_finite() && value > 0.0)))
        {
            return refuse(format!("{name} is {value}"));
        }
        let original_steps = raw.original_inference_steps.unwrap_or(50);
        if !(1..=count).contains(&original_steps) {
            return refuse(format!("original_inference_steps is {original_steps}"));
        }
        Ok(Self {
            class,
            levels: class,
            betas,
            prediction,
            spacing,
            steps_offset: offset,
            level_rule,
            sigma_min: raw.sigma_min,
            sigma_max: raw.sigma_max,
            ends_at_sigma_min: raw.final_sigmas_type.as_deref() == Some("sigma_min"),
            is_zero_snr: is_given(raw.rescale_betas_zero_snr),
            alpha_to_one: raw.set_alpha_to_one.unwrap_or(class != Pndm),
            clip: clips.then(|| raw.clip_sample_range.unwrap_or(1.0)),
            is_continuous: raw.timestep_type.as_deref() == Some("continuous"),
            is_log_linear: raw.interpolation_type.as_deref() == Some("log_linear"),
            order,
            is_stochastic: algorithm == "sde-dpmsolver++",
            dpm_form: if raw.solver_type.as_deref() == Some("heun") {
                DpmForm::Heun
            } else {
                DpmForm::Midpoint
            },
            is_bh1: raw.solver_type.as_deref() == Some("bh1"),
            lower_order_final: raw.lower_order_final.unwrap_or(class != DpmppSingle),
            euler_at_final: is_given(raw.euler_at_final),
            predict_clean: raw.predict_x0.unwrap_or(true),
            disable_corrector: raw.disable_corrector.clone().unwrap_or_default(),
            lambda_min: raw.lambda_min_clipped.unwrap_or(f64::NEG_INFINITY),
            is_flow,
            skip_prk: is_given(raw.skip_prk_steps),
            original_steps,
            timestep_scaling: raw.timestep_scaling.unwrap_or(10.0),
            snr_scale: raw.snr_shift_scale.unwrap_or(3.0),
            variance,
            is_stochastic_flow: is_given(raw.stochastic_sampling),
            flow: flow_of(class, &raw)?,
            raw,
        })
    }
}

/// Shift and shape of flow levels. DPM-Solver and UniPC call the shift by another name.
fn flow_of(class: Class, raw: &Raw) -> Result<SchedulerConfig> {
    let shift = if class.is_flow() {
        raw.shift
    } else {
        raw.flow_shift.or(raw.shift)
    };
    let plain = serde_json::json!({
        "num_train_timesteps": raw.num_train_timesteps.unwrap_or(1000),
        "shift": shift.unwrap_or(1.0),
        "use_dynamic_shifting": raw.use_dynamic_shifting.unwrap_or(false),
        "base_shift": raw.base_shift.unwrap_or(0.5),
        "max_shift": raw.max_shift.unwrap_or(1.15),
        "base_image_seq_len": raw.base_image_seq_len.unwrap_or(256),
        "max_image_seq_len": raw.max_image_seq_len.unwrap_or(4096),
        "invert_sigmas": raw.invert_sigmas.unwrap_or(false),
        "shift_terminal": raw.shift_terminal,
        "time_shift_type": raw.time_shift_type.as_deref().unwrap_or("exponential"),
    });
    SchedulerConfig::parse(&plain.to_string()).map_err(Error::BadRequest)
}

fn check_betas(betas: &Betas) -> Result<()> {
    let is_beta = |beta: f64| beta > 0.0 && beta < 1.0;
    if let Some(trained) = &betas.trained {
        if trained.len() != betas.count || !trained.iter().copied().all(is_beta) {
            return Err(Error::BadRequest(format!(
                "trained_betas are not {} numbers from 0 to 1",
                betas.count
            )));
        }
    } else if !is_beta(betas.first) || !is_beta(betas.last) {
        return Err(Error::BadRequest(format!(
            "betas from {} to {}",
            betas.first, betas.last
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_bring_their_own_defaults() {
        let pndm = Config::parse(
            r#"{"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear",
                "set_alpha_to_one": false, "steps_offset": 1, "skip_prk_steps": true}"#,
        )
        .unwrap();
        assert_eq!(pndm.spacing, Spacing::Leading);
        assert_eq!(pndm.steps_offset, 1);
        let euler = pndm.with_class(Class::Euler).unwrap();
        assert_eq!(euler.spacing, Spacing::Linspace);
        assert_eq!(euler.betas.rule, BetaRule::ScaledLinear);
        assert_eq!(euler.steps_offset, 1);
        assert_eq!(pndm.with_class(Class::Ddim).unwrap().clip, Some(1.0));
        assert!(pndm.with_class(Class::FlowHeun).is_err());
        let flow = Config::parse(r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#).unwrap();
        assert!(flow.with_class(Class::Lms).is_err());
        let unipc = flow.with_class(Class::Unipc).unwrap();
        assert_eq!(unipc.levels, Class::FlowEuler);
        assert_eq!(unipc.prediction, Prediction::Flow);
    }

    #[test]
    fn python_s_own_numbers_are_read() {
        let json = r#"{"_class_name": "DPMSolverMultistepScheduler",
            "lambda_min_clipped": -Infinity, "_note": "an \" Infinity", "sigma_max": NaN}"#;
        let config = Config::parse(json).unwrap();
        assert_eq!(config.lambda_min, f64::NEG_INFINITY);
        assert_eq!(config.sigma_max, None);
        assert!(kinora_weights::without_infinities(json).contains(r#""an \" Infinity""#));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for json in [
            "[]",
            r#"{"_class_name": "KarrasVeScheduler"}"#,
            r#"{"_class_name": "DDIMScheduler", "beta_schedule": "sigmoid"}"#,
            r#"{"_class_name": "DDIMScheduler", "beta_end": 7}"#,
            r#"{"_class_name": "DDIMScheduler", "num_train_timesteps": 1}"#,
            r#"{"_class_name": "DDIMScheduler", "thresholding": true}"#,
            r#"{"_class_name": "DDIMScheduler", "steps_offset": -9223372036854775808}"#,
            r#"{"_class_name": "DDIMScheduler", "trained_betas": [0.5]}"#,
            r#"{"_class_name": "UniPCMultistepScheduler", "solver_order": 9}"#,
            r#"{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver"}"#,
            r#"{"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true,
                "use_beta_sigmas": true}"#,
            r#"{"_class_name": "EulerDiscreteScheduler", "sigma_max": -3}"#,
        ] {
            assert!(
                matches!(Config::parse(json), Err(Error::BadRequest(_))),
                "{json}"
            );
        }
    }
}
