//! Schedules and steps against the reference library's: whole timesteps and flow levels to the last
//! bit. Then what no recording can say: that a run can be stopped between any two calls.

use std::{path::PathBuf, sync::Arc};

use candle_core::{Device, Tensor};
use kinora_core::{Rng, Sampler, Schedule};
use kinora_diffusion::{
    noise::Generator,
    parity,
    pipelines::Checkpoint,
    samplers::{Config, Options, Program, Run, State, schedule::size_shift, spacing::linspace},
};
use kinora_weights::{Dtype, SchedulerConfig, WeightSet};

// As in tools/goldens/record_schedules.py.
const STEPS: [usize; 17] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 20, 28, 37, 50, 100];
const TOKENS: [usize; 7] = [16, 240, 256, 1024, 4096, 8160, 16384];

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn read(set: &WeightSet, name: &str) -> Vec<f64> {
    let bytes = set.read(name).unwrap();
    match set.get(name).unwrap().dtype {
        Dtype::F32 => {
            let (words, _) = bytes.as_chunks();
            words
                .iter()
                .map(|word| f64::from(f32::from_le_bytes(*word)))
                .collect()
        }
        Dtype::F64 => {
            let (words, _) = bytes.as_chunks();
            words.iter().map(|word| f64::from_le_bytes(*word)).collect()
        }
        other => panic!("{name} is {other}"),
    }
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

#[test]
fn schedules_of_flux_are_exact_at_every_size() {
    let set = WeightSet::open_file(&fixture("schedules.safetensors")).unwrap();
    for (label, config, tokens) in [
        (
            "dev",
            r#"{"shift": 3.0, "use_dynamic_shifting": true}"#,
            &TOKENS[..],
        ),
        ("schnell", r#"{"shift": 1.0}"#, &TOKENS[..1]),
        ("shifted", r#"{"shift": 1.73}"#, &TOKENS[..1]),
    ] {
        let config = SchedulerConfig::parse(config).unwrap();
        let (mut sigmas, mut timesteps) = (Vec::new(), Vec::new());
        for tokens in tokens {
            for steps in STEPS {
                let options = Options {
                    mu: Some(size_shift(&config, *tokens)),
                    flow_times: Some(linspace(1.0, 1.0 / steps as f64, steps)),
                    ..Options::steps(steps)
                };
                let program = Config::of_flow(&config).unwrap().program(&options).unwrap();
                assert_eq!(program.calls.len(), steps);
                sigmas.extend(widen(&program.sigmas));
                timesteps.extend(program.timesteps());
            }
        }
        assert_eq!(
            sigmas,
            read(&set, &format!("flux.{label}.sigmas")),
            "{label}"
        );
        assert_eq!(
            timesteps,
            read(&set, &format!("flux.{label}.timesteps")),
            "{label}"
        );
    }
}

/// All configurations of the recorder: what the network is told, the levels, the latents after
/// every call, how often noise is drawn.
#[test]
fn recorded_schedulers_are_met() {
    for (case, count) in [("schedulers", 32), ("schedulers_more", 62)] {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../tools/goldens/cases")
            .join(case);
        let results = parity::run(&folder).unwrap();
        let failed: Vec<_> = results.iter().filter(|result| !result.pass).collect();
        assert!(failed.is_empty(), "{case}: {failed:#?}");
        let of = |end: &str| {
            let all = results.iter().filter(|result| result.stage.ends_with(end));
            all.count()
        };
        assert_eq!(of(".timesteps"), count);
        assert_eq!(of(".step0"), count);
        assert_eq!(of(": draws of noise"), count);
    }
}

const SD15: &str = r#"{"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "set_alpha_to_one": false, "steps_offset": 1,
    "skip_prk_steps": true, "clip_sample": true}"#;
const FLOW: &str = r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}"#;
const SEEDS: [u64; 3] = [3, 44, 555];

/// Noise for each seed, (seeds, 2, 3, 41): large and odd enough for more than one piece and a rest.
fn start_noise(generators: &mut [Generator]) -> Tensor {
    let mut noise = vec![0f32; generators.len() * 6 * 1441];
    let row = noise.len() / generators.len();
    for (part, generator) in noise.chunks_mut(row).zip(generators.iter_mut()) {
        generator.fill_normal(part);
    }
    Tensor::from_vec(noise, (generators.len(), 2, 3, 1441), &Device::Cpu).unwrap()
}

fn network(input: &Tensor, timestep: f64) -> Tensor {
    let phase = (timestep / 100.0).sin();
    input.affine(0.7, phase).unwrap().tanh().unwrap()
}

fn go_on(run: &mut Run, generators: &mut [Generator], calls: usize) {
    for _ in 0..calls {
        let timestep = run.call().unwrap().timestep;
        let output = network(&run.input().unwrap(), timestep);
        let noise = run.draw(generators).unwrap();
        run.advance(&output, noise.as_ref()).unwrap();
    }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn programs() -> Vec<(String, Arc<Program>)> {
    let mut programs = Vec::new();
    for json in [SD15, FLOW] {
        for sampler in Sampler::all() {
            let config = Config::parse(json)
                .unwrap()
                .choose(sampler, Schedule::Automatic, None);
            let options = Options {
                eta: Some(0.5),
                ..Options::steps(6)
            };
            if let Ok(config) = config {
                let program = config.program(&options).unwrap();
                programs.push((format!("{:?}", config.class), Arc::new(program)));
            }
        }
    }
    assert_eq!(programs.len(), 21);
    programs
}

/// Stopped after any call, put into a checkpoint's file and taken up by a new process, a run ends
/// in the same bytes; so does a row that goes on without the others of its batch.
#[test]
fn a_run_that_is_taken_up_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    for (name, program) in programs() {
        let calls = program.calls.len();
        let mut generators: Vec<Generator> = SEEDS
            .iter()
            .map(|seed| Generator::new(Rng::Cpu, *seed))
            .collect();
        let noise = start_noise(&mut generators);
        let begin = (
            Run::start(Arc::clone(&program), &noise, false).unwrap(),
            generators,
        );
        let (mut whole, mut generators) = begin.clone();
        go_on(&mut whole, &mut generators, calls);
        assert!(whole.call().is_none());
        let whole = bits(whole.latents());
        let row = whole.len() / SEEDS.len();
        for stop in 1..=calls {
            let (mut run, mut generators) = begin.clone();
            go_on(&mut run, &mut generators, stop);
            let checkpoint = Checkpoint {
                tiles: None,
                step: stop as u32,
                state: run.state(1).unwrap(),
                noise: generators[1].save(),
                anchors: Vec::new(),
                identity: "x".into(),
            };
            checkpoint.save(&path).unwrap();
            let read = Checkpoint::load(&path).unwrap();
            assert_eq!(read, checkpoint, "{name}");
            let mut generator = [read.generator().unwrap().unwrap()];
            let mut alone = Run::resume(Arc::clone(&program), &read.state, &Device::Cpu).unwrap();
            go_on(&mut alone, &mut generator, calls - stop);
            assert_eq!(
                bits(alone.latents()),
                whole[row..2 * row],
                "{name} at {stop}"
            );

            // The first row leaves; the others change places on the way.
            let rows = Tensor::new(&[2u32, 1], &Device::Cpu).unwrap();
            run.select(&rows).unwrap();
            let mut parted = [run.row(1).unwrap(), run.row(0).unwrap()];
            parted.swap(0, 1);
            let mut run = Run::join(&[&parted[0], &parted[1]]).unwrap();
            let mut generators = [generators[2].clone(), generators[1].clone()];
            go_on(&mut run, &mut generators, calls - stop);
            let ends = bits(run.latents());
            assert_eq!(ends[..row], whole[2 * row..], "{name} at {stop}");
            assert_eq!(ends[row..], whole[row..2 * row], "{name} at {stop}");
        }
    }
}

#[test]
fn a_state_of_another_program_is_refused() {
    let all = programs();
    let (_, lms) = all.iter().find(|(name, _)| name == "Lms").unwrap();
    let (_, euler) = all.iter().find(|(name, _)| name == "Euler").unwrap();
    let mut generators = vec![Generator::new(Rng::Cuda, 1)];
    let noise = start_noise(&mut generators);
    let mut run = Run::start(Arc::clone(lms), &noise, false).unwrap();
    go_on(&mut run, &mut generators, 2);
    let good = run.state(0).unwrap();
    assert_eq!(good.kept.len(), 2);
    let refuse = |program: &Arc<Program>, state: &State| {
        let result = Run::resume(Arc::clone(program), state, &Device::Cpu);
        assert!(result.is_err(), "{:?} {}", state.shape, state.calls);
    };
    refuse(euler, &good);
    let spoils: [fn(&mut State); 5] = [
        |state| state.calls = 99,
        |state| state.latents.truncate(3),
        |state| state.shape = vec![1, 2],
        |state| state.kept[1].1.clear(),
        |state| state.kept.truncate(1),
    ];
    for spoil in spoils {
        let mut state = good.clone();
        spoil(&mut state);
        refuse(lms, &state);
    }
    assert!(Run::resume(Arc::clone(lms), &good, &Device::Cpu).is_ok());
}

/// A run that starts from a picture takes the last steps of the same schedule.
#[test]
fn a_later_beginning_takes_the_last_steps() {
    for (json, sampler) in [
        (SD15, Sampler::Euler),
        (SD15, Sampler::Ddim),
        (SD15, Sampler::Heun),
        (FLOW, Sampler::Euler),
        (FLOW, Sampler::Heun),
        (SD15, Sampler::Lcm),
    ] {
        let config = Config::parse(json)
            .unwrap()
            .choose(sampler, Schedule::Automatic, None)
            .unwrap();
        let whole = config.program(&Options::steps(8)).unwrap();
        let options = Options {
            begin: 5,
            ..Options::steps(8)
        };
        let part = config.program(&options).unwrap();
        let rest = &whole.calls[whole.calls.len() - part.calls.len()..];
        assert_eq!(part.calls, rest, "{sampler:?}");
        assert_eq!(part.calls[0].step, 5);
        let (picture, noise) = part.start;
        assert!(noise > 0.0 && picture > 0.0, "{sampler:?}");
        for begin in [8, 9] {
            let options = Options {
                begin,
                ..options.clone()
            };
            assert!(config.program(&options).is_err());
        }
    }
}

/// The first step rule of all: bit for bit what candle's own operations give.
#[test]
fn a_flow_step_is_the_sum_that_it_says() {
    let config = Config::parse(FLOW).unwrap();
    let program = Arc::new(config.program(&Options::steps(3)).unwrap());
    let mut latents = start_noise(&mut [Generator::new(Rng::Cpu, 9)]);
    let mut run = Run::start(Arc::clone(&program), &latents, false).unwrap();
    for step in 0..3 {
        let velocity = network(&latents, program.calls[step].timestep);
        let ahead = run.look_ahead(&velocity).unwrap();
        let sigma = program.sigmas[step];
        let end = (&latents + velocity.affine(f64::from(-sigma), 0.0).unwrap()).unwrap();
        assert_eq!(bits(&ahead), bits(&end));
        let delta = program.sigmas[step + 1] - sigma;
        latents = (&latents + velocity.affine(f64::from(delta), 0.0).unwrap()).unwrap();
        run.advance(&velocity, None).unwrap();
        assert_eq!(bits(run.latents()), bits(&latents));
    }
    assert!(run.advance(&latents, None).is_err());
}
