//! Recorded scheduler configurations: each is driven by an analytic model in place of a network.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::{DType, Device, Tensor};
use kinora_weights::{Dtype, WeightSet, read_file_bounded};
use serde::Deserialize;

use super::{GATE_RUN, GATE_SIGMAS, StageResult, measure};
use crate::{
    Error, Result,
    layers::TensorSource,
    samplers::{
        Config, Options, Run,
        config::{AlignedModel, LevelRule, without_infinities},
        schedule::linear_quadratic_times,
        spacing::linspace,
    },
};

/// Far above any case description.
const MAX_JSON: u64 = 16 << 20;
/// What Mochi's pipeline asks for.
const MOCHI_THRESHOLD: f64 = 0.025;

/// A folder of scheduler configurations.
pub(super) struct Schedulers {
    path: PathBuf,
    cases: BTreeMap<String, Case>,
    golden: WeightSet,
}

#[derive(Deserialize)]
struct Description {
    #[serde(default)]
    schedulers: Option<BTreeMap<String, Case>>,
}

#[derive(Deserialize)]
struct Case {
    class: String,
    config: serde_json::Value,
    #[serde(default)]
    options: CaseOptions,
    init_noise_sigma: f64,
    n: usize,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CaseOptions {
    mu: Option<f64>,
    /// Flow times evenly from 1 to 1/n are given.
    lin: bool,
    /// Mochi's flow times are given.
    mochi: bool,
    /// Arguments of every step.
    step: StepOptions,
    /// The first step that is taken.
    begin: usize,
    /// A rule for the levels that the reference has no flag for.
    schedule: Option<Rule>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rule {
    Simple,
    SgmUniform,
    AlignYourSteps,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StepOptions {
    eta: Option<f64>,
}

/// Opens a folder if it is one of scheduler configurations.
pub(super) fn open(path: &Path) -> Result<Option<Schedulers>> {
    let file = path.join("case.json");
    let json = read_file_bounded(&file, MAX_JSON)?;
    let json = without_infinities(&String::from_utf8_lossy(&json));
    let description: Description = serde_json::from_str(&json)
        .map_err(|error| Error::bad_weights(&file, format!("it is not a case: {error}")))?;
    let Some(cases) = description.schedulers else {
        return Ok(None);
    };
    Ok(Some(Schedulers {
        path: path.to_owned(),
        cases,
        golden: WeightSet::open_file(&path.join("golden.safetensors"))?,
    }))
}

impl Schedulers {
    /// Every configuration: what the network is told, the noise levels, the latents after every
    /// call, and how often noise is drawn.
    pub fn compare(&self) -> Result<Vec<StageResult>> {
        let mut results = Vec::new();
        for (name, case) in &self.cases {
            self.compare_one(name, case, &mut results)?;
        }
        if results.is_empty() {
            return Err(Error::bad_weights(
                &self.path,
                "the case holds no scheduler",
            ));
        }
        Ok(results)
    }

    fn compare_one(&self, name: &str, case: &Case, out: &mut Vec<StageResult>) -> Result<()> {
        let mut config = Config::parse_as(&case.class, &case.config.to_string())?;
        match case.options.schedule {
            Some(Rule::Simple) => config.level_rule = LevelRule::Simple,
            Some(Rule::SgmUniform) => config.level_rule = LevelRule::Uniform,
            Some(Rule::AlignYourSteps) => {
                config.level_rule = LevelRule::AlignYourSteps(AlignedModel::Sd15);
            }
            None => {}
        }
        let times = if case.options.lin {
            Some(linspace(1.0, 1.0 / case.n as f64, case.n))
        } else if case.options.mochi {
            Some(linear_quadratic_times(case.n, MOCHI_THRESHOLD))
        } else {
            None
        };
        let program = Arc::new(config.program(&Options {
            steps: case.n,
            begin: case.options.begin,
            mu: case.options.mu,
            flow_times: times,
            eta: case.options.step.eta,
        })?);
        self.compare_list(name, "timesteps", &program.timesteps(), out)?;
        let sigmas: Vec<f64> = program
            .sigmas
            .iter()
            .map(|sigma| f64::from(*sigma))
            .collect();
        self.compare_list(name, "sigmas", &sigmas, out)?;
        let scale = [program.initial_scale];
        let stage = format!("{name}.init_noise_sigma");
        let difference = (scale[0] / case.init_noise_sigma - 1.0).abs();
        out.push(exact(stage, difference, GATE_SIGMAS));

        let bias = self.numbers("bias")?;
        let mut run = Run::start(
            program,
            &self.golden.tensor("x0")?.to_dtype(DType::F32)?,
            false,
        )?;
        let mut draws = 0;
        while let Some(call) = run.call() {
            let (timestep, wanted, done) = (call.timestep, call.draws, run.done());
            draws += wanted;
            let noise = match wanted {
                0 => None,
                // Of several draws the last is used.
                _ => Some(self.golden.tensor(&format!("{name}.noise{}", draws - 1))?),
            };
            let output = answer(&run.input()?, timestep, &bias)?;
            run.advance(&output, noise.as_ref())?;
            let stage = format!("{name}.step{done}");
            let golden = self.numbers(&stage)?;
            let ours = run.latents().to_dtype(DType::F64)?.flatten_all()?;
            out.push(measure(stage, &ours.to_vec1()?, &golden, GATE_RUN));
        }
        let recorded = (0..)
            .take_while(|draw| self.golden.has(&format!("{name}.noise{draw}")))
            .count();
        let difference = recorded.abs_diff(draws) as f64;
        out.push(exact(format!("{name}: draws of noise"), difference, 0.0));
        if self.golden.has(&format!("{name}.step{}", run.done())) {
            return Err(Error::bad_weights(
                &self.path,
                format!("{name} was recorded with more calls than are made here"),
            ));
        }
        Ok(())
    }

    /// Whole timesteps and those of flow models are the same to the last bit; other levels, and
    /// the timesteps that come from them, depend on how a build takes roots and logarithms.
    fn compare_list(
        &self,
        name: &str,
        what: &str,
        ours: &[f64],
        out: &mut Vec<StageResult>,
    ) -> Result<()> {
        let stage = format!("{name}.{what}");
        if !self.golden.has(&stage) {
            return Ok(());
        }
        let is_whole = self.golden.get(&stage)?.dtype == Dtype::I64;
        let golden = self.numbers(&stage)?;
        let is_fraction = |number: &f64| number.fract() != 0.0;
        let gate = if is_whole || (what == "timesteps" && !golden.iter().any(is_fraction)) {
            0.0
        } else {
            GATE_SIGMAS
        };
        let worst = ours
            .iter()
            .zip(&golden)
            .map(|(a, b)| {
                if a == b {
                    0.0
                } else {
                    (a - b).abs() / b.abs().max(1e-30)
                }
            })
            .fold(0.0, f64::max);
        let mut result = measure(stage, ours, &golden, gate);
        if result.max_abs.is_finite() {
            result.relative = worst;
            result.pass = worst <= gate;
        }
        out.push(result);
        Ok(())
    }

    fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        let bytes = self.golden.read(name)?;
        Ok(match self.golden.get(name)?.dtype {
            Dtype::F32 => {
                let words = bytes.as_chunks::<4>().0.iter();
                words
                    .map(|word| f64::from(f32::from_le_bytes(*word)))
                    .collect()
            }
            Dtype::F64 => {
                let words = bytes.as_chunks::<8>().0.iter();
                words.map(|word| f64::from_le_bytes(*word)).collect()
            }
            Dtype::I64 => {
                let words = bytes.as_chunks::<8>().0.iter();
                words.map(|word| i64::from_le_bytes(*word) as f64).collect()
            }
            other => {
                return Err(Error::bad_weights(
                    &self.path,
                    format!("{name} is stored as {other}"),
                ));
            }
        })
    }
}

/// A result whose distance is given.
fn exact(stage: String, distance: f64, gate: f64) -> StageResult {
    StageResult {
        stage,
        max_abs: distance,
        relative: distance,
        gate,
        pass: distance <= gate,
    }
}

/// The recorder's stand-in for a network: `tanh(0.7 x + sin(t / 100)) + 0.1 bias`.
fn answer(latents: &Tensor, timestep: f64, bias: &[f64]) -> Result<Tensor> {
    let phase = (timestep / 100.0).sin() as f32;
    let values: Vec<f32> = latents.flatten_all()?.to_vec1()?;
    let answer: Vec<f32> = values
        .iter()
        .zip(bias)
        .map(|(x, bias)| (0.7 * x + phase).tanh() + 0.1 * *bias as f32)
        .collect();
    Ok(Tensor::from_vec(answer, latents.shape(), &Device::Cpu)?)
}
