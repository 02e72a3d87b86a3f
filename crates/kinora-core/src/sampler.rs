//! Step rules and spacings of noise levels, and the names that other programs have for them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A step rule.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// First-order Euler. For flow models `x + (σ₊ − σ)·v`.
    #[default]
    Euler,
    /// Euler below the next level and fresh noise back up to it.
    EulerAncestral,
    /// Second order, two network calls a step.
    Heun,
    /// DPM-Solver++ of second order with one step's memory.
    #[serde(rename = "dpmpp_2m")]
    Dpmpp2m,
    /// The same with fresh noise.
    #[serde(rename = "dpmpp_2m_sde")]
    Dpmpp2mSde,
    /// DPM-Solver++ of third order with two steps' memory and fresh noise.
    #[serde(rename = "dpmpp_3m_sde")]
    Dpmpp3mSde,
    /// DPM-Solver++ in blocks of two orders with fresh noise.
    DpmppSde,
    /// Implicit: the same noise from start to end.
    Ddim,
    /// The training's own chain, with fresh noise.
    Ddpm,
    /// Linear multistep over the noise, with a start of its own.
    Pndm,
    /// Predictor and corrector.
    Unipc,
    /// Linear multistep over the slopes.
    Lms,
    /// Latent consistency: a few jumps to the picture.
    Lcm,
    /// Trajectory consistency: a few jumps along the way.
    Tcd,
}

/// How the noise levels of a run are spaced.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Evenly from the noisy end, what others call simple. For flow models evenly spaced flow
    /// times, shifted as the checkpoint's scheduler configuration says.
    #[default]
    FlowMatch,
    /// As the checkpoint's scheduler configuration says.
    Automatic,
    /// The training's times evenly, both ends included.
    Normal,
    /// Dense at low noise: Karras and others, ρ = 7.
    Karras,
    /// Evenly in their logarithm.
    Exponential,
    /// At the quantiles of a beta distribution: dense at both ends.
    Beta,
    /// The training's times evenly, as if one more step followed.
    SgmUniform,
    /// Levels that were found by search for few steps.
    AlignYourSteps,
    /// Multiples of a whole step of the training's times, from the clean end.
    Leading,
    /// The training's times evenly from the noisy end.
    Trailing,
    /// For flow models, half of the steps within the noisiest fortieth, evenly, the others along a
    /// parabola to the clean end: A. Polyak and others, "Movie Gen", 2024.
    LinearQuadratic,
}

/// Ours, A1111's, ComfyUI's.
const SAMPLERS: [(Sampler, &str, &str); 14] = [
    (Sampler::Euler, "Euler", "euler"),
    (Sampler::EulerAncestral, "Euler a", "euler_ancestral"),
    (Sampler::Heun, "Heun", "heun"),
    (Sampler::Dpmpp2m, "DPM++ 2M", "dpmpp_2m"),
    (Sampler::Dpmpp2mSde, "DPM++ 2M SDE", "dpmpp_2m_sde"),
    (Sampler::Dpmpp3mSde, "DPM++ 3M SDE", "dpmpp_3m_sde"),
    (Sampler::DpmppSde, "DPM++ SDE", "dpmpp_sde"),
    (Sampler::Ddim, "DDIM", "ddim"),
    (Sampler::Ddpm, "DDPM", "ddpm"),
    (Sampler::Pndm, "PLMS", "ipndm"),
    (Sampler::Unipc, "UniPC", "uni_pc"),
    (Sampler::Lms, "LMS", "lms"),
    (Sampler::Lcm, "LCM", "lcm"),
    (Sampler::Tcd, "TCD", "tcd"),
];

/// Other names that files carry: older versions, variants that step alike, other programs.
const SAMPLER_ALIASES: [(&str, Sampler); 20] = [
    ("k_euler", Sampler::Euler),
    ("sample_euler", Sampler::Euler),
    ("k_euler_a", Sampler::EulerAncestral),
    ("k_euler_ancestral", Sampler::EulerAncestral),
    ("sample_euler_ancestral", Sampler::EulerAncestral),
    ("k_heun", Sampler::Heun),
    ("sample_heun", Sampler::Heun),
    ("k_dpmpp_2m", Sampler::Dpmpp2m),
    ("sample_dpmpp_2m", Sampler::Dpmpp2m),
    ("dpmpp_2m_sde_gpu", Sampler::Dpmpp2mSde),
    ("sample_dpmpp_2m_sde", Sampler::Dpmpp2mSde),
    ("dpmpp_3m_sde_gpu", Sampler::Dpmpp3mSde),
    ("sample_dpmpp_3m_sde", Sampler::Dpmpp3mSde),
    ("dpmpp_sde_gpu", Sampler::DpmppSde),
    ("sample_dpmpp_sde", Sampler::DpmppSde),
    ("pndm", Sampler::Pndm),
    ("unipc", Sampler::Unipc),
    ("uni_pc_bh2", Sampler::Unipc),
    ("k_lms", Sampler::Lms),
    ("sample_lms", Sampler::Lms),
];

/// Ours, A1111's, ComfyUI's. Each program lacks some; the nearest name stands there.
const SCHEDULES: [(Schedule, &str, &str); 11] = [
    (Schedule::FlowMatch, "Simple", "simple"),
    (Schedule::Automatic, "Automatic", "normal"),
    (Schedule::Normal, "Normal", "normal"),
    (Schedule::Karras, "Karras", "karras"),
    (Schedule::Exponential, "Exponential", "exponential"),
    (Schedule::Beta, "Beta", "beta"),
    (Schedule::SgmUniform, "SGM Uniform", "sgm_uniform"),
    (
        Schedule::AlignYourSteps,
        "Align Your Steps",
        "align_your_steps",
    ),
    (Schedule::Leading, "DDIM", "ddim_uniform"),
    (Schedule::Trailing, "Trailing", "trailing"),
    (
        Schedule::LinearQuadratic,
        "Linear Quadratic",
        "linear_quadratic",
    ),
];

impl Sampler {
    /// Every step rule.
    pub fn all() -> impl Iterator<Item = Self> {
        SAMPLERS.iter().map(|(sampler, _, _)| *sampler)
    }

    /// Its name in A1111 and its kin; where they have none, the name that people would look for.
    pub fn a1111_name(self) -> &'static str {
        let names = SAMPLERS.iter().find(|(sampler, _, _)| *sampler == self);
        names.map_or("Euler", |(_, name, _)| name)
    }

    /// Its name in ComfyUI; where it has none, the nearest.
    pub fn comfyui_name(self) -> &'static str {
        let names = SAMPLERS.iter().find(|(sampler, _, _)| *sampler == self);
        names.map_or("euler", |(_, _, name)| name)
    }

    /// Whether every step adds fresh noise.
    pub fn is_stochastic(self) -> bool {
        matches!(
            self,
            Self::EulerAncestral
                | Self::Dpmpp2mSde
                | Self::Dpmpp3mSde
                | Self::DpmppSde
                | Self::Ddpm
                | Self::Lcm
                | Self::Tcd
        )
    }

    /// Reads a name of A1111, ComfyUI or ours, in any case. Older A1111 wrote the spacing behind the
    /// rule (`DPM++ 2M Karras`); then it is the second.
    pub fn from_name(name: &str) -> Option<(Self, Option<Schedule>)> {
        let name = name.trim().to_lowercase();
        let of = |name: &str| {
            let own = SAMPLERS
                .iter()
                .find(|(_, a1111, comfyui)| a1111.to_lowercase() == name || *comfyui == name)
                .map(|(sampler, _, _)| *sampler);
            let alias = SAMPLER_ALIASES.iter().find(|(alias, _)| *alias == name);
            own.or(alias.map(|(_, sampler)| *sampler))
        };
        if let Some(sampler) = of(&name) {
            return Some((sampler, None));
        }
        SCHEDULES.iter().find_map(|(schedule, a1111, _)| {
            let rule = name.strip_suffix(&format!(" {}", a1111.to_lowercase()))?;
            Some((of(rule.trim_end())?, Some(*schedule)))
        })
    }
}

impl Schedule {
    /// Every spacing.
    pub fn all() -> impl Iterator<Item = Self> {
        SCHEDULES.iter().map(|(schedule, _, _)| *schedule)
    }

    /// Its name in A1111 and its kin.
    pub fn a1111_name(self) -> &'static str {
        let names = SCHEDULES.iter().find(|(schedule, _, _)| *schedule == self);
        names.map_or("Automatic", |(_, name, _)| name)
    }

    /// Its name in ComfyUI; where it has none, the nearest.
    pub fn comfyui_name(self) -> &'static str {
        let names = SCHEDULES.iter().find(|(schedule, _, _)| *schedule == self);
        names.map_or("normal", |(_, _, name)| name)
    }

    /// Reads a name of A1111, ComfyUI or ours, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim().to_lowercase();
        // ComfyUI has one word for two of ours: its own meaning comes first.
        let own = match name.as_str() {
            "normal" | "uniform" => Some(Self::Normal),
            "flow_match" => Some(Self::FlowMatch),
            "leading" => Some(Self::Leading),
            "ays" => Some(Self::AlignYourSteps),
            _ => None,
        };
        own.or_else(|| {
            let known = SCHEDULES
                .iter()
                .find(|(_, a1111, comfyui)| a1111.to_lowercase() == name || *comfyui == name);
            known.map(|(schedule, _, _)| *schedule)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names by which each rule is known, and what is stored.
    #[test]
    fn samplers_are_known_by_their_names_everywhere() {
        let table = [
            ("euler", "Euler", "euler"),
            ("euler_ancestral", "Euler a", "euler_ancestral"),
            ("heun", "Heun", "heun"),
            ("dpmpp_2m", "DPM++ 2M", "dpmpp_2m"),
            ("dpmpp_2m_sde", "DPM++ 2M SDE", "dpmpp_2m_sde"),
            ("dpmpp_3m_sde", "DPM++ 3M SDE", "dpmpp_3m_sde"),
            ("dpmpp_sde", "DPM++ SDE", "dpmpp_sde"),
            ("ddim", "DDIM", "ddim"),
            ("ddpm", "DDPM", "ddpm"),
            ("pndm", "PLMS", "ipndm"),
            ("unipc", "UniPC", "uni_pc"),
            ("lms", "LMS", "lms"),
            ("lcm", "LCM", "lcm"),
            ("tcd", "TCD", "tcd"),
        ];
        assert_eq!(Sampler::all().count(), table.len());
        for (sampler, (stored, a1111, comfyui)) in Sampler::all().zip(table) {
            let json = serde_json::to_value(sampler).unwrap();
            assert_eq!(json, stored);
            assert_eq!(sampler.a1111_name(), a1111);
            assert_eq!(sampler.comfyui_name(), comfyui);
            for name in [stored, a1111, comfyui, &a1111.to_uppercase()] {
                assert_eq!(Sampler::from_name(name), Some((sampler, None)), "{name}");
            }
        }
    }

    #[test]
    fn schedules_are_known_by_their_names_everywhere() {
        let table = [
            ("flow_match", "Simple", "simple"),
            ("automatic", "Automatic", "normal"),
            ("normal", "Normal", "normal"),
            ("karras", "Karras", "karras"),
            ("exponential", "Exponential", "exponential"),
            ("beta", "Beta", "beta"),
            ("sgm_uniform", "SGM Uniform", "sgm_uniform"),
            ("align_your_steps", "Align Your Steps", "align_your_steps"),
            ("leading", "DDIM", "ddim_uniform"),
            ("trailing", "Trailing", "trailing"),
            ("linear_quadratic", "Linear Quadratic", "linear_quadratic"),
        ];
        assert_eq!(Schedule::all().count(), table.len());
        for (schedule, (stored, a1111, comfyui)) in Schedule::all().zip(table) {
            assert_eq!(serde_json::to_value(schedule).unwrap(), stored);
            assert_eq!(schedule.a1111_name(), a1111);
            assert_eq!(schedule.comfyui_name(), comfyui);
            for name in [stored, a1111] {
                assert_eq!(Schedule::from_name(name), Some(schedule), "{name}");
            }
            if schedule != Schedule::Automatic {
                assert_eq!(Schedule::from_name(comfyui), Some(schedule), "{comfyui}");
            }
        }
    }

    #[test]
    fn older_names_carry_the_spacing_and_unknown_ones_are_none() {
        for (name, sampler, schedule) in [
            ("DPM++ 2M Karras", Sampler::Dpmpp2m, Some(Schedule::Karras)),
            (
                "DPM++ 2M SDE Exponential",
                Sampler::Dpmpp2mSde,
                Some(Schedule::Exponential),
            ),
            ("LMS Karras", Sampler::Lms, Some(Schedule::Karras)),
            (
                "DPM++ SDE Karras",
                Sampler::DpmppSde,
                Some(Schedule::Karras),
            ),
            (" k_euler_a ", Sampler::EulerAncestral, None),
            ("dpmpp_2m_sde_gpu", Sampler::Dpmpp2mSde, None),
            ("uni_pc_bh2", Sampler::Unipc, None),
        ] {
            assert_eq!(
                Sampler::from_name(name),
                Some((sampler, schedule)),
                "{name}"
            );
        }
        for name in [
            "",
            "Restart",
            "DPM fast",
            "Karras",
            "DPM++ 2M Turbo",
            "euler_cfg_pp",
        ] {
            assert_eq!(Sampler::from_name(name), None, "{name}");
        }
        for name in ["", "kl_optimal", "Polyexponential"] {
            assert_eq!(Schedule::from_name(name), None, "{name}");
        }
    }
}
