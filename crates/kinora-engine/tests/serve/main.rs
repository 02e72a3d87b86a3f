//! The compiled engine on the starter model: pictures, cancelling, kill -9 and resume, full disks,
//! batches, memory, and how it ends.

mod given;
mod process;
mod supervised;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::symlink, process::ExitStatusExt},
    path::Path,
    process::{Command as Program, Stdio},
};

use kinora_core::{
    Code, Fix, Plan, Stage,
    engine::{Command, Device, Report},
};
use process::{Engine, PLENTY, artifact, copy_model, failure, next_attempt, plan, starter, work};

const PROMPT: &str = "a red house on a green hill under a blue sky";

#[test]
fn a_plan_becomes_a_picture_that_carries_its_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(&[]);
    let mut plan = plan(&starter(), PROMPT, 4);
    plan.size.width = 128;
    let first = work(folder.path(), plan);
    let reports = engine.run(std::slice::from_ref(&first), PLENTY);
    let made = artifact(&reports, &first);
    let bytes = fs::read(&first.staging).unwrap();
    assert_eq!(made.bytes, bytes.len() as u64);
    assert_eq!(
        made.sha256,
        kinora_weights::hash_file(&first.staging).unwrap()
    );

    let picture = kinora_media::decode(&bytes).unwrap();
    assert_eq!((picture.width, picture.height), (128, 64));
    let inside = *kinora_media::read_metadata(&bytes).unwrap().recipe.unwrap();
    assert_eq!(inside, made.recipe.for_file());
    assert_eq!(
        (inside.device.as_str(), inside.dtype.as_str()),
        ("cpu", "f32")
    );
    for file in &inside.plan.model.weights {
        let path = starter().join(&file.file);
        assert_eq!(
            file.sha256.as_deref(),
            Some(&*kinora_weights::hash_file(&path).unwrap())
        );
    }
    let timings = made.recipe.timings.unwrap();
    assert!(timings.loading_ms > 0.0 && timings.generating_ms > 0.0 && timings.decoding_ms > 0.0);

    let stages: Vec<Stage> = (reports.iter())
        .filter_map(|report| match report {
            Report::Progress { progress } => Some(progress.stage),
            _ => None,
        })
        .collect();
    assert!(stages.is_sorted(), "{stages:?}");
    for stage in [
        Stage::Loading,
        Stage::Encoding,
        Stage::Generating,
        Stage::Decoding,
        Stage::Saving,
    ] {
        assert!(stages.contains(&stage), "{stage:?} is missing");
    }
    let preview = fs::read(first.scratch.join("preview.jpg")).unwrap();
    assert!(kinora_media::decode(&preview).is_ok());

    // The same plan makes the same bytes, in this process and in another; the second time no
    // weights are read.
    let again = next_attempt(&first);
    fs::remove_dir_all(&first.scratch).unwrap();
    fs::create_dir_all(&first.scratch).unwrap();
    let reports = engine.run(std::slice::from_ref(&again), PLENTY);
    assert_eq!(artifact(&reports, &again).sha256, made.sha256);
    assert!(
        !reports
            .iter()
            .any(|report| matches!(report, Report::Loaded { .. }))
    );
    drop(engine);
    let elsewhere = work(folder.path(), first.plan.clone());
    let reports = Engine::start(&[]).run(std::slice::from_ref(&elsewhere), PLENTY);
    assert_eq!(artifact(&reports, &elsewhere).sha256, made.sha256);
}

#[test]
fn a_cancelled_job_stops_at_its_next_step_and_keeps_its_latents() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(&["--checkpoint-steps", "100000", "--checkpoint-ms", "1000000"]);
    let long = work(folder.path(), plan(&starter(), PROMPT, 1000));
    engine.begin(std::slice::from_ref(&long), PLENTY);
    engine.await_step(&long, 3);
    engine.send(&Command::Cancel { job: long.job });
    let reports = engine.finish();
    let cancelled = Report::Cancelled {
        job: long.job,
        epoch: 1,
    };
    assert!(reports.contains(&cancelled), "{reports:?}");
    assert!(!long.staging.exists());
    assert!(long.scratch.join("checkpoint.safetensors").exists());

    // The engine goes on, and so does the job where it stopped.
    let again = next_attempt(&long);
    engine.begin(std::slice::from_ref(&again), PLENTY);
    assert!(engine.await_step(&again, 0).step >= 3);
    engine.send(&Command::Cancel { job: again.job });
    engine.finish();
}

#[test]
fn a_killed_job_resumes_with_the_bytes_of_an_unbroken_run() {
    check_killing(None);
}

#[test]
fn a_killed_job_that_reuses_steps_resumes_with_the_bytes_of_an_unbroken_run() {
    check_killing(Some(0.15));
}

fn check_killing(step_cache: Option<f32>) {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        step_cache,
        ..plan(&starter(), PROMPT, 60)
    };
    let unbroken = work(folder.path(), plan.clone());
    let reports = Engine::start(&[]).run(std::slice::from_ref(&unbroken), PLENTY);
    assert_eq!(
        artifact(&reports, &unbroken)
            .recipe
            .timings
            .unwrap()
            .resumed_steps,
        0
    );

    let mut broken = work(folder.path(), plan);
    for step in [17, 33] {
        let mut engine = Engine::start(&["--checkpoint-steps", "4"]);
        engine.begin(std::slice::from_ref(&broken), PLENTY);
        engine.await_step(&broken, step);
        engine.child.kill().unwrap();
        engine.wait();
        assert!(!broken.staging.exists());
        broken = next_attempt(&broken);
    }
    let reports = Engine::start(&[]).run(std::slice::from_ref(&broken), PLENTY);
    let made = artifact(&reports, &broken);
    let resumed = made.recipe.timings.unwrap().resumed_steps;
    assert!((28..60).contains(&resumed), "resumed at {resumed}");
    assert_eq!(
        fs::read(&broken.staging).unwrap(),
        fs::read(&unbroken.staging).unwrap()
    );
}

#[test]
fn a_checkpoint_of_other_work_is_left_aside() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(&["--checkpoint-steps", "1"]);
    let plan = plan(&starter(), PROMPT, 6);
    let clean = work(folder.path(), plan.clone());
    let mut other = plan.clone();
    other.prompt = "a lake at night".to_owned();
    let other = work(folder.path(), other);
    let damaged = work(folder.path(), plan);
    for job in [&clean, &other] {
        let reports = engine.run(std::slice::from_ref(job), PLENTY);
        artifact(&reports, job);
    }
    let kept = other.scratch.join("checkpoint.safetensors");
    let foreign = next_attempt(&clean);
    fs::copy(&kept, foreign.scratch.join("checkpoint.safetensors")).unwrap();
    let half = fs::read(&kept).unwrap();
    fs::write(
        damaged.scratch.join("checkpoint.safetensors"),
        &half[..half.len() / 2],
    )
    .unwrap();
    for job in [&foreign, &damaged] {
        let reports = engine.run(std::slice::from_ref(job), PLENTY);
        let made = artifact(&reports, job);
        assert_eq!(made.recipe.timings.unwrap().resumed_steps, 0);
        assert_eq!(
            fs::read(&job.staging).unwrap(),
            fs::read(&clean.staging).unwrap()
        );
    }
}

#[test]
fn a_checkpoint_older_than_the_weights_is_left_aside() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    copy_model(&starter(), &copy);
    let mut engine = Engine::start(&["--checkpoint-steps", "1"]);
    let mut job = work(folder.path(), plan(&copy, PROMPT, 4));
    let mut resumed = Vec::new();
    for is_touched in [false, false, true] {
        if is_touched {
            let file = copy.join("vae/diffusion_pytorch_model.safetensors");
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, bytes).unwrap();
        }
        job = next_attempt(&job);
        let reports = engine.run(std::slice::from_ref(&job), PLENTY);
        resumed.push(
            artifact(&reports, &job)
                .recipe
                .timings
                .unwrap()
                .resumed_steps,
        );
    }
    assert_eq!(resumed, [0, 4, 0]);
}

#[test]
fn a_full_disk_fails_one_job_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(&[]);
    let plan = plan(&starter(), PROMPT, 2);
    let (full, fine) = (work(folder.path(), plan.clone()), work(folder.path(), plan));
    // Every write to this device is refused for want of room.
    symlink("/dev/full", &full.staging).unwrap();
    let reports = engine.run(&[full.clone(), fine.clone()], PLENTY);
    let failed = failure(&reports, &full);
    assert_eq!(failed.code, Code::DiskFull);
    assert_eq!(failed.fix, Some(Fix::FreeDisk { bytes: None }));
    assert_eq!(failed.stage, Some(Stage::Saving));
    assert!(!failed.log.is_empty() && !failed.memory.is_empty());
    assert!(!full.staging.is_symlink(), "something was left behind");
    artifact(&reports, &fine);
}

#[test]
fn room_that_ends_in_the_middle_of_a_file_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    // A limit of one block per file: previews, checkpoints and the picture all hit it.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" serve --device cpu --checkpoint-steps 1";
    let mut shell = Program::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_kinora-engine")]);
    let mut engine = Engine::start_program(shell);
    let job = work(folder.path(), plan(&starter(), PROMPT, 3));
    let reports = engine.run(std::slice::from_ref(&job), PLENTY);
    assert_eq!(failure(&reports, &job).code, Code::DiskFull);
    assert!(!job.staging.exists());
    assert_eq!(fs::read_dir(&job.scratch).unwrap().count(), 0);
}

#[test]
fn two_jobs_go_through_the_denoiser_together_and_get_the_bytes_that_they_get_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(&[]);
    let first = plan(&starter(), PROMPT, 3);
    let mut second = plan(&starter(), "a yellow moon over a dark forest", 3);
    second.seed = kinora_core::Seed(8);
    let together = [first, second].map(|plan| work(folder.path(), plan));
    let alone = together.clone().map(|job| work(folder.path(), job.plan));
    let reports = engine.run(&together, PLENTY);
    for (job, twin) in together.iter().zip(&alone) {
        assert_eq!(artifact(&reports, job).recipe.timings.unwrap().batch, 2);
        let twins = engine.run(std::slice::from_ref(twin), PLENTY);
        assert_eq!(artifact(&twins, twin).recipe.timings.unwrap().batch, 1);
        let bytes = |path| fs::read(path).unwrap();
        assert!(
            bytes(&job.staging) == bytes(&twin.staging),
            "a picture of a batch has other bytes alone"
        );
    }
    assert_ne!(
        fs::read(&together[0].staging).unwrap(),
        fs::read(&together[1].staging).unwrap()
    );
}

#[test]
fn one_job_of_a_batch_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(&[]);
    let jobs = [0, 1].map(|_| work(folder.path(), plan(&starter(), PROMPT, 60)));
    engine.begin(&jobs, PLENTY);
    engine.await_step(&jobs[0], 2);
    engine.send(&Command::Cancel { job: jobs[0].job });
    let reports = engine.finish();
    let place = |wanted: &dyn Fn(&Report) -> bool| reports.iter().position(wanted);
    let cancelled =
        place(&|report| matches!(report, Report::Cancelled { job, .. } if *job == jobs[0].job));
    let done = place(&|report| matches!(report, Report::Done { job, .. } if *job == jobs[1].job));
    // It does not wait for the other one to end.
    assert!(
        cancelled.is_some() && cancelled < done,
        "{cancelled:?} {done:?}"
    );
}

#[test]
fn the_least_recently_used_model_leaves_when_memory_is_short() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    copy_model(&starter(), &copy);
    let mut engine = Engine::start(&[]);
    let ours = work(folder.path(), plan(&starter(), PROMPT, 1));
    let theirs = work(folder.path(), plan(&copy, PROMPT, 1));
    let loaded = |reports: &[Report]| {
        (reports.iter())
            .filter_map(|report| match report {
                Report::Loaded { models, bytes } => Some((models.join(" "), *bytes)),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let first = loaded(&engine.run(std::slice::from_ref(&ours), PLENTY));
    let [(name, bytes)] = &first[..] else {
        panic!("{first:?}");
    };
    assert_eq!(name, "image");
    let both = loaded(&engine.run(std::slice::from_ref(&theirs), PLENTY));
    assert_eq!(both, [("copy image".to_owned(), 2 * bytes)]);

    // What one picture needs besides its model, from the engine's own refusal.
    let refused = engine.run(&[next_attempt(&ours)], 1);
    let refusal = failure(&refused, &ours);
    assert_eq!(refusal.code, Code::OutOfMemory);
    assert!(refusal.message.contains("0.0 MiB"), "{}", refusal.message);
    let needed: f64 = (refusal.message.split_whitespace())
        .find_map(|word| word.parse().ok())
        .unwrap();
    let needed = (needed * 1_048_576.0) as u64;

    // Not enough for both and a run: the copy, used last, stays; then it is the copy's turn.
    let budget = needed + bytes / 2;
    let again = next_attempt(&theirs);
    let reports = engine.run(std::slice::from_ref(&again), budget);
    artifact(&reports, &again);
    assert_eq!(loaded(&reports), [("copy".to_owned(), *bytes)]);
    let again = next_attempt(&next_attempt(&ours));
    let reports = engine.run(std::slice::from_ref(&again), budget);
    artifact(&reports, &again);
    assert_eq!(
        loaded(&reports),
        [(String::new(), 0), ("image".to_owned(), *bytes)]
    );

    engine.send(&Command::Unload);
    let empty = Report::Loaded {
        models: Vec::new(),
        bytes: 0,
    };
    assert_eq!(engine.next(), Some(empty));
}

#[test]
fn damaged_weights_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    copy_model(&starter(), &copy);
    let plan = plan(&copy, PROMPT, 1);
    let file = copy.join("transformer/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&file).unwrap();
    let mut engine = Engine::start(&[]);

    // Cut off; of another size than planned; and of the right size with other bytes.
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let job = work(folder.path(), plan.clone());
    let reports = engine.run(std::slice::from_ref(&job), PLENTY);
    let failed = failure(&reports, &job);
    assert_eq!(failed.code, Code::BadWeights);
    assert_eq!(failed.fix, Some(Fix::RepairModel));
    assert!(
        failed.message.contains("diffusion_pytorch_model"),
        "{}",
        failed.message
    );

    fs::write(&file, &whole).unwrap();
    let mut planned = plan.clone();
    let place = planned
        .model
        .weights
        .iter()
        .position(|file| file.component == "transformer");
    planned.model.weights[place.unwrap()].sha256 = Some("0".repeat(64));
    let job = work(folder.path(), planned);
    let reports = engine.run(std::slice::from_ref(&job), PLENTY);
    assert_eq!(failure(&reports, &job).code, Code::BadWeights);
    assert!(!job.staging.exists());

    let job = work(folder.path(), plan);
    let reports = engine.run(std::slice::from_ref(&job), PLENTY);
    artifact(&reports, &job);
}

#[test]
fn the_end_of_input_ends_the_engine_at_its_next_step() {
    let folder = tempfile::tempdir().unwrap();
    for is_asked in [false, true] {
        let mut engine = Engine::start(&[]);
        let job = work(folder.path(), plan(&starter(), PROMPT, 1000));
        engine.begin(std::slice::from_ref(&job), PLENTY);
        engine.await_step(&job, 2);
        if is_asked {
            engine.send(&Command::Shutdown);
        } else {
            engine.hang_up();
        }
        let (status, reports) = engine.wait();
        assert!(status.success(), "{status}");
        // The job is left as it is, to be gone on with.
        assert!(
            reports
                .iter()
                .all(|report| matches!(report, Report::Progress { .. })),
            "{reports:?}"
        );
        assert!(job.scratch.join("checkpoint.safetensors").exists());
    }
}

#[test]
fn the_engine_does_not_outlive_whoever_started_it() {
    // The shell is the parent, and gives its standard input on by another number: what it starts in
    // the background would have none otherwise. The other end of the pipe stays open in this test.
    let script = "exec 3<&0; \"$0\" serve --device cpu <&3 & wait";
    let mut shell = Program::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_kinora-engine")]);
    let mut engine = Engine::start_program(shell);
    engine.child.kill().unwrap();
    // Its output ends only when the engine itself has ended.
    let (status, reports) = engine.wait();
    assert_eq!(status.signal(), Some(9), "{status}");
    assert!(reports.is_empty(), "{reports:?}");
}

#[test]
fn the_engine_lets_others_go_first() {
    let engine = Engine::start(&[]);
    let pid = engine.child.id();
    let adjustment = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(adjustment.trim(), "500");
    let niceness = |stat: String| -> i32 {
        // The name in parentheses may hold anything; the niceness is the 17th field after it.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().nth(16).unwrap().parse().unwrap()
    };
    let ours = niceness(fs::read_to_string("/proc/self/stat").unwrap());
    let theirs = niceness(fs::read_to_string(format!("/proc/{pid}/stat")).unwrap());
    assert_eq!(theirs, ours.max(5));
}

#[test]
fn nonsense_from_the_application_is_fatal() {
    let mut engine = Engine::start(&[]);
    engine.send_line("{\"type\":\"sing\"}");
    let (status, reports) = engine.wait();
    assert_eq!(status.code(), Some(2));
    assert!(matches!(&reports[..], [Report::Fatal { failure }] if failure.code == Code::Internal));
}

#[test]
fn hashes_are_remembered_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("hashes.json");
    let mut engine = Engine::start(&["--hash-cache", cache.to_str().unwrap()]);
    let job = work(folder.path(), plan(&starter(), PROMPT, 1));
    let reports = engine.run(std::slice::from_ref(&job), PLENTY);
    artifact(&reports, &job);
    engine.hang_up();
    engine.wait();
    let mut known = kinora_weights::HashCache::load(&cache);
    for file in &job.plan.model.weights {
        let path = starter().join(&file.file);
        assert!(known.get(&path).is_some(), "{}", path.display());
        assert_eq!(known.hash(&path).unwrap().len(), 64);
    }
}

#[test]
fn a_prompt_that_was_encoded_before_reads_no_text_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let (texts, hashes) = (folder.path().join("texts"), folder.path().join("hashes"));
    let run = |seed: u64, with_cache: bool| {
        let log = folder.path().join("log");
        let mut program = Program::new(env!("CARGO_BIN_EXE_kinora-engine"));
        program.args(["serve", "--device", "cpu"]);
        if with_cache {
            program.arg("--text-cache").arg(&texts);
            program.arg("--hash-cache").arg(&hashes);
        }
        program.stderr(fs::File::create(&log).unwrap());
        let mut engine = Engine::start_program(program);
        let mut plan = plan(&starter(), PROMPT, 2);
        plan.seed.0 = seed;
        let job = work(folder.path(), plan);
        artifact(&engine.run(std::slice::from_ref(&job), PLENTY), &job);
        engine.hang_up();
        engine.wait();
        let lines = fs::read_to_string(log).unwrap();
        let is_read = lines.contains("reading encoder=");
        (is_read, fs::read(&job.staging).unwrap())
    };
    let kept = || -> Vec<_> {
        let entries = fs::read_dir(&texts).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert!(run(1, true).0);
    let names = kept();
    assert!(!names.is_empty());
    let (is_read, with) = run(2, true);
    assert!(!is_read);
    let (is_read, without) = run(2, false);
    assert!(is_read);
    assert!(with == without);
    // By now what the files hold is known, whatever was known at first.
    let (is_read, again) = run(2, true);
    assert!(!is_read && again == with);
    assert_eq!(kept().len(), names.len());

    // A file that is damaged is computed anew.
    for name in kept() {
        let path = texts.join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    }
    let (is_read, again) = run(2, true);
    assert!(is_read && again == with);
    assert!(!run(2, true).0);
}

#[test]
fn probe_tells_the_device_as_json() {
    let probe = Program::new(env!("CARGO_BIN_EXE_kinora-engine"))
        .args(["probe", "--device", "cpu"])
        .output()
        .unwrap();
    assert!(probe.status.success());
    let device: Device = serde_json::from_slice(&probe.stdout).unwrap();
    assert_eq!(device.kind, "cpu");
    assert!(device.memory > 0);
}

#[test]
fn parity_passes_on_the_recorded_cases_and_names_a_stage_that_is_off() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/goldens/cases");
    let run = |case: &Path| {
        let output = Program::new(env!("CARGO_BIN_EXE_kinora-engine"))
            .arg("parity")
            .arg(case)
            .output()
            .unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), table)
    };
    let (code, table) = run(&cases.join("flux_schnell"));
    assert_eq!(code, Some(0), "{table}");
    assert!(
        table.contains("step0.latents") && table.contains(" 0 off"),
        "{table}"
    );

    // The same case with a VAE that is scaled otherwise: everything before it still agrees.
    let folder = tempfile::tempdir().unwrap();
    let case = folder.path().join("case");
    copy_model(&cases.join("flux_schnell"), &case);
    let config = case.join("model/vae/config.json");
    let text = fs::read_to_string(&config).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["scaling_factor"] = serde_json::json!(0.2);
    fs::write(&config, json.to_string()).unwrap();
    let (code, table) = run(&case);
    assert_eq!(code, Some(1), "{table}");
    let off: Vec<&str> = table.lines().filter(|line| line.ends_with("NO")).collect();
    assert!(
        !off.is_empty()
            && off
                .iter()
                .all(|line| line.contains("vae") || line.contains("out.pixels")),
        "{table}"
    );
}

#[test]
fn parity_fails_on_what_is_no_case() {
    let folder = tempfile::tempdir().unwrap();
    let mut parity = Program::new(env!("CARGO_BIN_EXE_kinora-engine"))
        .arg("parity")
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = (BufReader::new(parity.stdout.take().unwrap()).lines())
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(parity.wait().unwrap().code(), Some(1));
    assert!(
        lines.iter().any(|line| line.contains("failed to")),
        "{lines:?}"
    );
}
