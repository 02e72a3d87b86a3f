//! The supervisor against a scripted engine: every way in which an engine can misbehave, and what
//! becomes of the jobs. The scripted engine is this very program in another role, so the harness
//! has a `main` of its own.

mod bench;
mod double;

use std::{fs, time::Duration};

use bench::{Bench, Record, Setup, work, write_memory};
use double::{Act, Greeting};
use kinora_app::engine::{EngineConfig, EngineState, MemoryRule};
use kinora_core::{Backend, Code, Fix, Outcome};
use libtest_mimic::{Arguments, Trial};

const GIB: u64 = 1 << 30;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(double::ROLE) {
        return double::play(&arguments.next().unwrap());
    }
    macro_rules! trials {
        ($($name:ident),* $(,)?) => {
            vec![$(Trial::test(stringify!($name), || { $name(); Ok(()) })),*]
        };
    }
    let trials = trials![
        reports_are_routed_to_their_jobs,
        a_killed_engine_takes_only_unanswered_jobs_along,
        a_crash_keeps_the_last_log_lines,
        an_exit_in_the_middle_is_a_death,
        a_kill_when_memory_was_short_is_an_out_of_memory,
        a_hung_engine_is_killed,
        a_lost_device_is_told_in_its_own_words,
        failures_of_jobs_pass_through,
        nonsense_on_standard_output_is_ignored,
        another_protocol_is_refused_at_once,
        a_silent_engine_is_given_up,
        a_missing_program_is_named,
        failed_starts_are_tried_again,
        an_engine_that_dies_before_it_begins_costs_no_job,
        a_job_that_always_kills_before_it_begins_is_not_tried_for_ever,
        cancellations_reach_the_engine,
        a_job_cancelled_before_it_begins_never_reaches_the_engine,
        late_reports_of_another_attempt_are_dropped,
        unanswered_jobs_at_the_end_of_a_group_are_deaths,
        a_plan_that_cannot_fit_is_refused_with_both_numbers,
        an_engine_that_died_idle_is_replaced,
        a_group_given_up_early_does_not_disturb_the_next,
        idle_models_are_given_back,
        shutdown_ends_an_idle_engine,
        shutdown_kills_a_stubborn_engine_with_its_group,
        shutdown_does_not_wait_for_a_start,
        the_environment_is_clean,
        the_status_tells_device_and_models,
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// The acts of a group of one job that works.
fn good() -> Vec<Act> {
    vec![Act::Progress(0), Act::Done(0), Act::End]
}

fn bench(groups: Vec<Vec<Act>>) -> Bench {
    Bench::new(Setup {
        groups,
        ..Setup::default()
    })
}

fn reports_are_routed_to_their_jobs() {
    let acts = vec![
        Act::Progress(0),
        Act::Progress(1),
        Act::Done(1),
        Act::Done(0),
        Act::End,
    ];
    let bench = bench(vec![acts]);
    let works = [work(), work()];
    let record = bench.run(&works);
    assert!(works.iter().all(|work| record.is_done(work)));
    assert_eq!(record.progress_count(), 2);
    // The engine stays for the next group.
    assert!(bench.run(&works).is_done(&works[0]));
    assert_eq!(bench.starts(), 1);
}

fn a_killed_engine_takes_only_unanswered_jobs_along() {
    let acts = vec![Act::Progress(0), Act::Done(0), Act::Progress(1), Act::Kill];
    let bench = bench(vec![acts, good()]);
    let works = [work(), work()];
    let record = bench.run(&works);
    assert!(record.is_done(&works[0]));
    let death = record.interruption(&works[1]);
    assert_eq!(death.code, Code::EngineLost);
    assert!(
        death.message.contains("killed from outside"),
        "{}",
        death.message
    );
    assert!(!death.memory.is_empty(), "no memory samples");
    // The next group gets a fresh engine.
    let again = [works[1].clone()];
    assert!(bench.run(&again).is_done(&again[0]));
    assert_eq!(bench.starts(), 2);
}

fn a_crash_keeps_the_last_log_lines() {
    let acts = vec![
        Act::Progress(0),
        Act::Log("ERROR the last words".to_owned()),
        Act::Abort,
    ];
    let works = [work()];
    let death = bench(vec![acts]).run(&works).death(&works[0]);
    assert_eq!(death.code, Code::EngineLost);
    assert!(death.message.contains("SIGABRT"), "{}", death.message);
    assert!(
        death.log.iter().any(|line| line.contains("the last words")),
        "{:?}",
        death.log
    );
}

fn an_exit_in_the_middle_is_a_death() {
    let works = [work()];
    let record = bench(vec![vec![Act::Progress(0), Act::Exit(3)]]).run(&works);
    assert!(record.death(&works[0]).message.contains("exit code 3"));
}

fn a_kill_when_memory_was_short_is_an_out_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    let memory = write_memory(folder.path(), 16 * GIB, 8 * GIB);
    // The memory runs out while the job runs, and is back when the engine is gone.
    let short = "MemTotal: 16777216 kB\nMemAvailable: 20480 kB\n".to_owned();
    let counted = "oom_kill 4\n".to_owned();
    let acts = vec![
        Act::Progress(0),
        Act::Mark(memory.meminfo.clone(), short),
        Act::Mark(memory.vmstat.clone(), counted),
        Act::Kill,
    ];
    let bench = Bench::in_folder(
        folder,
        Setup {
            groups: vec![acts],
            config: EngineConfig {
                memory,
                ..Setup::default().config
            },
            ..Setup::default()
        },
    );
    let works = [work()];
    let death = bench.run(&works).death(&works[0]);
    assert_eq!(death.code, Code::OutOfMemory);
    assert!(
        death.message.contains("of memory left"),
        "{}",
        death.message
    );
}

fn a_hung_engine_is_killed() {
    let bench = Bench::new(Setup {
        groups: vec![vec![Act::Progress(0), Act::Hang], good()],
        config: EngineConfig {
            stall_timeout: Duration::from_millis(300),
            ..Setup::default().config
        },
        ..Setup::default()
    });
    let works = [work()];
    let death = bench.run(&works).death(&works[0]);
    assert_eq!(death.code, Code::EngineLost);
    assert!(
        death.message.contains("did not answer"),
        "{}",
        death.message
    );
    assert!(bench.run(&works).is_done(&works[0]));
}

fn a_lost_device_is_told_in_its_own_words() {
    // It reports, and does not even manage to end.
    let bench = bench(vec![vec![Act::Progress(0), Act::Fatal, Act::Hang], good()]);
    let works = [work()];
    let death = bench.run(&works).death(&works[0]);
    assert_eq!(death.message, "go on: the device is lost");
    assert!(bench.run(&works).is_done(&works[0]));
    assert_eq!(bench.starts(), 2);
}

fn failures_of_jobs_pass_through() {
    let codes = [
        Code::OutOfMemory,
        Code::DiskFull,
        Code::BadWeights,
        Code::BadResult,
    ];
    let mut acts: Vec<Act> = (0..codes.len())
        .map(|place| Act::Fail(place, codes[place]))
        .collect();
    acts.push(Act::End);
    let bench = bench(vec![acts, good()]);
    let works = codes.map(|_| work());
    let record = bench.run(&works);
    for (work, code) in works.iter().zip(codes) {
        assert_eq!(record.failure(work).code, code);
    }
    // The engine is none the worse for it.
    assert!(bench.run(&works[..1]).is_done(&works[0]));
    assert_eq!(bench.starts(), 1);
}

fn nonsense_on_standard_output_is_ignored() {
    let mut acts = vec![
        Act::Print("warning: something unrelated".to_owned()),
        Act::Print("{\"type\":\"done\"}".to_owned()),
        Act::Print("{\"type\":\"unheard_of\",\"job\":5}".to_owned()),
        Act::Print("[".repeat(100_000)),
        Act::Print(String::new()),
    ];
    acts.extend(good());
    let works = [work()];
    assert!(bench(vec![acts]).run(&works).is_done(&works[0]));
}

fn another_protocol_is_refused_at_once() {
    let bench = Bench::new(Setup {
        greeting: Greeting::OtherProtocol,
        ..Setup::default()
    });
    let works = [work()];
    let failure = bench.run(&works).failure(&works[0]);
    assert_eq!(failure.code, Code::EngineUnavailable);
    assert!(failure.message.contains("protocol"), "{}", failure.message);
    assert_eq!(bench.starts(), 1);
    let status = bench.await_status(|status| status.pid.is_none());
    assert_eq!(status.last_failure, Some(failure.message));
}

fn a_silent_engine_is_given_up() {
    let bench = Bench::new(Setup {
        greeting: Greeting::Silence,
        config: EngineConfig {
            handshake_timeout: Duration::from_millis(200),
            start_attempts: 2,
            ..Setup::default().config
        },
        ..Setup::default()
    });
    let works = [work(), work()];
    let record = bench.run(&works);
    for work in &works {
        let failure = record.failure(work);
        assert_eq!(failure.code, Code::EngineUnavailable);
        assert!(failure.message.contains("not ready"), "{}", failure.message);
    }
    // Both processes are gone.
    let status = bench.await_status(|status| status.pid.is_none());
    assert_eq!(status.state, EngineState::Unavailable);
}

fn a_missing_program_is_named() {
    let program = "/nowhere/kinora-engine";
    let bench = Bench::new(Setup {
        config: EngineConfig {
            program: Some(program.into()),
            ..Setup::default().config
        },
        ..Setup::default()
    });
    let works = [work()];
    let failure = bench.run(&works).failure(&works[0]);
    assert_eq!(failure.code, Code::EngineUnavailable);
    assert!(failure.message.contains(program), "{}", failure.message);
    assert_eq!(bench.backend.status().state, EngineState::Unavailable);
}

fn failed_starts_are_tried_again() {
    let bench = Bench::new(Setup {
        greeting: Greeting::DieFirst(2),
        groups: vec![good()],
        ..Setup::default()
    });
    let works = [work()];
    assert!(bench.run(&works).is_done(&works[0]));
    assert_eq!(bench.starts(), 3);

    let bench = Bench::new(Setup {
        greeting: Greeting::DieFirst(3),
        ..Setup::default()
    });
    let failure = bench.run(&works).failure(&works[0]);
    assert_eq!(failure.code, Code::EngineUnavailable);
    assert!(
        failure.message.contains("exit code 7"),
        "{}",
        failure.message
    );
    assert!(
        failure
            .log
            .iter()
            .any(|line| line.contains("no device this time"))
    );
}

fn an_engine_that_dies_before_it_begins_costs_no_job() {
    let bench = bench(vec![vec![Act::Kill], vec![Act::Kill], good()]);
    let works = [work()];
    assert!(bench.run(&works).is_done(&works[0]));
    assert_eq!(bench.starts(), 3);
}

fn a_job_that_always_kills_before_it_begins_is_not_tried_for_ever() {
    let bench = bench(vec![vec![Act::Kill]]);
    let works = [work()];
    assert_eq!(
        bench.run(&works).interruption(&works[0]).code,
        Code::EngineLost
    );
    assert_eq!(bench.starts(), 3);
}

fn cancellations_reach_the_engine() {
    let acts = vec![
        Act::Progress(0),
        Act::AwaitCancel(0),
        Act::Done(1),
        Act::End,
    ];
    let bench = bench(vec![acts]);
    let works = [work(), work()];
    let record = Record::new();
    bench.block_on(async {
        let cancel = async {
            record.progressed().await;
            record.cancel(works[0].job);
        };
        tokio::join!(bench.backend.run(works.to_vec(), &record), cancel);
    });
    assert_eq!(record.outcome(&works[0]), Outcome::Cancelled);
    assert!(record.is_done(&works[1]));
}

fn a_job_cancelled_before_it_begins_never_reaches_the_engine() {
    let bench = bench(vec![good()]);
    let works = [work(), work()];
    let record = Record::new();
    record.cancel(works[0].job);
    bench.block_on(bench.backend.run(works.to_vec(), &record));
    assert_eq!(record.outcome(&works[0]), Outcome::Cancelled);
    // The engine got one job, the second, and called it its first.
    assert!(record.is_done(&works[1]));

    let record = Record::new();
    record.cancel(works[0].job);
    record.cancel(works[1].job);
    bench.block_on(bench.backend.run(works.to_vec(), &record));
    assert_eq!(record.outcome(&works[1]), Outcome::Cancelled);
    assert_eq!(
        fs::read_to_string(bench.folder.path().join("groups")).unwrap(),
        "1"
    );
}

fn late_reports_of_another_attempt_are_dropped() {
    let acts = vec![Act::Progress(0), Act::DoneLate(0), Act::Kill];
    let works = [work()];
    let record = bench(vec![acts]).run(&works);
    assert_eq!(record.interruption(&works[0]).code, Code::EngineLost);
}

fn unanswered_jobs_at_the_end_of_a_group_are_deaths() {
    let bench = bench(vec![vec![Act::Progress(0), Act::Done(0), Act::End], good()]);
    let works = [work(), work()];
    let record = bench.run(&works);
    assert!(record.is_done(&works[0]));
    let death = record.death(&works[1]);
    assert!(death.message.contains("unanswered"), "{}", death.message);
    assert!(bench.run(&works[..1]).is_done(&works[0]));
    assert_eq!(bench.starts(), 2);
}

fn a_plan_that_cannot_fit_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let memory = write_memory(folder.path(), 4 * GIB, 2 * GIB);
    let bench = Bench::in_folder(
        folder,
        Setup {
            groups: vec![good()],
            config: EngineConfig {
                memory,
                memory_reserve: Some(GIB),
                memory_rule: MemoryRule {
                    denoise_per_pixel: 4096,
                    ..MemoryRule::default()
                },
                ..Setup::default().config
            },
            ..Setup::default()
        },
    );
    let small = work();
    let mut large = work();
    large.plan.size.width = 768;
    large.plan.size.height = 768;
    let record = bench.run(&[large.clone(), small.clone()]);
    let failure = record.failure(&large);
    assert_eq!(failure.code, Code::OutOfMemory);
    // 202 MiB whatever the size, 2304 for 768², 512 for a tile; and of 2 GiB, one is kept.
    assert!(failure.message.contains("2.9 GiB"), "{}", failure.message);
    assert!(failure.message.contains("1.0 GiB"), "{}", failure.message);
    assert!(
        matches!(failure.fix, Some(Fix::Resize { width, height }) if width == height && width < 768),
        "{:?}",
        failure.fix
    );
    assert!(record.is_done(&small));
    // Two of the small ones fit together, a third does not.
    assert_eq!(bench.backend.group_limit(&small.plan), 2);
}

fn an_engine_that_died_idle_is_replaced() {
    let mut acts = good();
    acts.push(Act::Kill);
    let bench = bench(vec![acts, good()]);
    let works = [work()];
    assert!(bench.run(&works).is_done(&works[0]));
    bench.await_status(|status| status.state == EngineState::Stopped);
    assert!(bench.run(&works).is_done(&works[0]));
    assert_eq!(bench.starts(), 2);
}

fn a_group_given_up_early_does_not_disturb_the_next() {
    let bench = bench(vec![
        vec![Act::Progress(0), Act::AwaitCancel(0), Act::End],
        good(),
    ]);
    let first = [work()];
    let second = [work()];
    let record = Record::new();
    bench.block_on(async {
        tokio::select! {
            () = bench.backend.run(first.to_vec(), &record) => panic!("it cannot end"),
            () = record.progressed() => {}
        }
    });
    assert_eq!(record.outcome_count(), 0);
    assert!(bench.run(&second).is_done(&second[0]));
    assert_eq!(bench.starts(), 1);
}

fn idle_models_are_given_back() {
    let acts = vec![Act::Load("Starter".to_owned()), Act::Done(0), Act::End];
    let bench = Bench::new(Setup {
        groups: vec![acts],
        config: EngineConfig {
            idle_unload: Some(Duration::from_millis(50)),
            ..Setup::default().config
        },
        ..Setup::default()
    });
    let mut status = bench.backend.subscribe();
    let loaded = bench.block_on(async {
        let works = [work()];
        let record = Record::new();
        let watch = async {
            status
                .wait_for(|status| !status.models.is_empty())
                .await
                .is_ok()
        };
        let (loaded, ()) = tokio::join!(watch, bench.backend.run(works.to_vec(), &record));
        loaded
    });
    assert!(loaded);
    let status = bench.await_status(|status| status.models.is_empty());
    assert_eq!((status.state, status.model_bytes), (EngineState::Idle, 0));
}

fn shutdown_ends_an_idle_engine() {
    let bench = bench(vec![good()]);
    let works = [work()];
    assert!(bench.run(&works).is_done(&works[0]));
    let pid = bench.backend.status().pid.unwrap();
    bench.block_on(bench.backend.shutdown());
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
    assert_eq!(bench.backend.status().state, EngineState::Stopped);
    // Whoever comes later is turned away, and nothing is started for it.
    assert_eq!(
        bench.run(&works).interruption(&works[0]).code,
        Code::EngineLost
    );
    assert_eq!(bench.starts(), 1);
}

fn shutdown_kills_a_stubborn_engine_with_its_group() {
    let bench = Bench::new(Setup {
        groups: vec![vec![Act::Progress(0), Act::Hang]],
        is_obedient: false,
        ..Setup::default()
    });
    let works = [work()];
    let record = Record::new();
    bench.block_on(async {
        let shutdown = async {
            record.progressed().await;
            bench.backend.shutdown().await;
        };
        tokio::join!(bench.backend.run(works.to_vec(), &record), shutdown);
    });
    let death = record.interruption(&works[0]);
    assert!(death.message.contains("closed"), "{}", death.message);
    assert_eq!(bench.backend.status().pid, None);
}

fn shutdown_does_not_wait_for_a_start() {
    let bench = Bench::new(Setup {
        greeting: Greeting::Silence,
        ..Setup::default()
    });
    let works = [work()];
    let record = Record::new();
    let mut status = bench.backend.subscribe();
    bench.block_on(async {
        let shutdown = async {
            let is_started = status.wait_for(|status| status.pid.is_some());
            assert!(is_started.await.is_ok());
            bench.backend.shutdown().await;
        };
        tokio::join!(bench.backend.run(works.to_vec(), &record), shutdown);
    });
    let interruption = record.interruption(&works[0]);
    assert!(
        interruption.message.contains("closed"),
        "{}",
        interruption.message
    );
    bench.await_status(|status| status.pid.is_none());
}

fn the_environment_is_clean() {
    let acts = vec![Act::Progress(0), Act::LogEnvironment, Act::Kill];
    let works = [work()];
    // The test runner's own environment is full of variables that the engine has no business with.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let death = bench(vec![acts]).run(&works).interruption(&works[0]);
    let names: Vec<&str> = (death.log.iter())
        .filter_map(|line| line.strip_prefix("variable "))
        .collect();
    assert!(names.contains(&"PATH"), "{names:?}");
    let foreign: Vec<&&str> = (names.iter())
        .filter(|name| name.starts_with("CARGO") || name.starts_with("RUST_LOG"))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(names.len() < 16, "{names:?}");
}

fn the_status_tells_device_and_models() {
    let mut acts = vec![Act::Load("Starter".to_owned())];
    acts.extend(good());
    let bench = bench(vec![acts]);
    assert_eq!(bench.backend.status().state, EngineState::Stopped);
    let device = bench.block_on(bench.backend.warm_up()).unwrap();
    assert_eq!(device.name, "a stand-in");
    assert_eq!(bench.backend.status().state, EngineState::Idle);
    bench.run(&[work()]);
    let status = bench.backend.status();
    assert_eq!(status.device, Some(device));
    assert_eq!(status.models, ["Starter"]);
    assert_eq!(status.model_bytes, 5);
    assert_eq!(status.starts, 1);
    assert!(status.resident > 0 && status.pid.is_some());
}
