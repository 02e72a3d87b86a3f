//! From a user's choice of rule and spacing to a configuration, on top of the checkpoint's own.

use kinora_core::{Sampler, Schedule};

use super::config::{AlignedModel, Class, Config, LevelRule, Spacing};
use crate::{Error, Result};

impl Config {
    /// This checkpoint's configuration with another rule and spacing. `aligned` says whose levels
    /// [`Schedule::AlignYourSteps`] takes; None where there are none for the family.
    ///
    /// LCM and TCD visit their teacher's times whatever the spacing.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for combinations that make no sense, such as DDIM on a flow model.
    pub fn choose(
        &self,
        sampler: Sampler,
        schedule: Schedule,
        aligned: Option<AlignedModel>,
    ) -> Result<Self> {
        let mut config = self.with_class(self.class_of(sampler))?;
        match sampler {
            Sampler::Dpmpp2m => (config.order, config.is_stochastic) = (2, false),
            Sampler::Dpmpp2mSde | Sampler::DpmppSde => {
                (config.order, config.is_stochastic) = (2, true);
            }
            Sampler::Dpmpp3mSde => (config.order, config.is_stochastic) = (3, true),
            _ => {}
        }
        if config.is_flow {
            config.level_rule = flow_rule(schedule, self.level_rule)?;
            return Ok(config);
        }
        let (rule, spacing) = match schedule {
            Schedule::Automatic => (config.level_rule, config.spacing),
            Schedule::FlowMatch => (LevelRule::Simple, config.spacing),
            Schedule::Normal => (LevelRule::Times, Spacing::Linspace),
            Schedule::Leading => (LevelRule::Times, Spacing::Leading),
            Schedule::Trailing => (LevelRule::Times, Spacing::Trailing),
            // From the training's highest level to its lowest, as elsewhere.
            Schedule::Karras => (LevelRule::Karras, Spacing::Linspace),
            Schedule::Exponential => (LevelRule::Exponential, Spacing::Linspace),
            Schedule::Beta => (LevelRule::Beta, Spacing::Linspace),
            Schedule::SgmUniform => (LevelRule::Uniform, config.spacing),
            Schedule::LinearQuadratic => {
                return Err(Error::BadRequest(format!(
                    "the spacing {:?} is for flow models only",
                    schedule.a1111_name()
                )));
            }
            Schedule::AlignYourSteps => {
                let aligned = aligned.ok_or_else(|| {
                    Error::BadRequest("this model has no levels found by search".to_owned())
                })?;
                (LevelRule::AlignYourSteps(aligned), config.spacing)
            }
        };
        (config.level_rule, config.spacing) = (rule, spacing);
        Ok(config)
    }

    fn class_of(&self, sampler: Sampler) -> Class {
        match sampler {
            Sampler::Euler if self.is_flow => Class::FlowEuler,
            Sampler::Heun if self.is_flow => Class::FlowHeun,
            Sampler::Euler => Class::Euler,
            Sampler::EulerAncestral => Class::EulerAncestral,
            Sampler::Heun => Class::Heun,
            Sampler::Dpmpp2m | Sampler::Dpmpp2mSde | Sampler::Dpmpp3mSde => Class::Dpmpp,
            Sampler::DpmppSde => Class::DpmppSingle,
            Sampler::Ddim => Class::Ddim,
            Sampler::Ddpm => Class::Ddpm,
            Sampler::Pndm => Class::Pndm,
            Sampler::Unipc => Class::Unipc,
            Sampler::Lms => Class::Lms,
            Sampler::Lcm => Class::Lcm,
            Sampler::Tcd => Class::Tcd,
        }
    }
}

/// Flow models space evenly in flow time by nature; what others call so is the same for them.
fn flow_rule(schedule: Schedule, own: LevelRule) -> Result<LevelRule> {
    match schedule {
        Schedule::Automatic => Ok(own),
        Schedule::FlowMatch | Schedule::Normal | Schedule::SgmUniform => Ok(LevelRule::Times),
        Schedule::Karras => Ok(LevelRule::Karras),
        Schedule::Exponential => Ok(LevelRule::Exponential),
        Schedule::Beta => Ok(LevelRule::Beta),
        Schedule::LinearQuadratic => Ok(LevelRule::LinearQuadratic),
        Schedule::Leading | Schedule::Trailing | Schedule::AlignYourSteps => {
            Err(Error::BadRequest(format!(
                "the spacing {:?} is not for flow models",
                schedule.a1111_name()
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samplers::{Options, Prediction};

    const SD15: &str = r#"{"_class_name": "PNDMScheduler", "beta_start": 0.00085,
        "beta_end": 0.012, "beta_schedule": "scaled_linear", "set_alpha_to_one": false,
        "steps_offset": 1, "skip_prk_steps": true, "clip_sample": false}"#;
    const FLOW: &str = r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}"#;

    /// Every rule with every spacing either gives a program that ends clean, or says why not.
    #[test]
    fn every_choice_gives_a_program_or_a_reason() {
        for (json, possible) in [(SD15, 131), (FLOW, 56)] {
            let own = Config::parse(json).unwrap();
            let mut made = 0;
            for sampler in Sampler::all() {
                for schedule in Schedule::all() {
                    let program = own
                        .choose(sampler, schedule, Some(AlignedModel::Sd15))
                        .and_then(|config| config.program(&Options::steps(12)));
                    match program {
                        Ok(program) => {
                            made += 1;
                            assert!(program.calls.len() >= 12, "{sampler:?} {schedule:?}");
                            let times = program.timesteps();
                            assert!(
                                times.windows(2).all(|pair| pair[0] >= pair[1]),
                                "{sampler:?} {schedule:?} {times:?}"
                            );
                        }
                        Err(Error::BadRequest(reason)) => assert!(!reason.is_empty()),
                        Err(other) => panic!("{sampler:?} {schedule:?}: {other}"),
                    }
                }
            }
            assert_eq!(made, possible, "{json}");
        }
    }

    /// However far a model shifts its times, this spacing stays what it is.
    #[test]
    fn linear_and_quadratic_levels_are_not_shifted() {
        let wanted: Vec<f32> = (crate::samplers::spacing::linear_quadratic(8).into_iter())
            .map(|level| level as f32)
            .chain([0.0])
            .collect();
        let dynamic = r#"{"_class_name": "FlowMatchEulerDiscreteScheduler",
            "use_dynamic_shifting": true, "shift_terminal": 0.1}"#;
        for json in [FLOW, dynamic] {
            let own = Config::parse(json).unwrap();
            for sampler in [Sampler::Euler, Sampler::Dpmpp2m, Sampler::Unipc] {
                let config = own
                    .choose(sampler, Schedule::LinearQuadratic, None)
                    .unwrap();
                let options = Options {
                    mu: Some(1.2),
                    ..Options::steps(8)
                };
                assert_eq!(config.program(&options).unwrap().sigmas, wanted);
            }
        }
    }

    #[test]
    fn a_flow_model_keeps_its_levels_whoever_steps() {
        let own = Config::parse(FLOW).unwrap();
        let options = Options::steps(6);
        let levels = own.program(&options).unwrap().sigmas;
        for sampler in [Sampler::Unipc, Sampler::Dpmpp2m, Sampler::Dpmpp2mSde] {
            let config = own.choose(sampler, Schedule::FlowMatch, None).unwrap();
            assert_eq!(config.prediction, Prediction::Flow);
            assert_eq!(config.program(&options).unwrap().sigmas, levels);
        }
        assert!(
            own.choose(Sampler::Ddim, Schedule::FlowMatch, None)
                .is_err()
        );
    }
}
