//! Every edge between the states of a job, over a real database and real files.

mod common;

use std::{fs, time::Duration};

use common::Studio;
use kinora_core::{Code, Failure, Fix, JobId, JobState, Priority, WaitReason};
use kinora_queue::{BatchKind, Error, JobFilter, NewBatch, NewJob};
use kinora_testkit::{FakeBackend, Script, plan};

/// The script that a job's prompt names.
fn by_prompt() -> FakeBackend {
    FakeBackend::new().with_script(|work| match work.plan.prompt.as_str() {
        "fail" => Script::fail(Code::BadResult),
        "die" => Script::Die { after: 1 },
        "die once" if work.epoch == 1 => Script::Die { after: 1 },
        "hang" => Script::Hang,
        "panic" => Script::Panic,
        "panic once" if work.epoch == 1 => Script::Panic,
        "forget" => Script::Forget,
        "lie" => Script::Lie,
        "quit" => Script::Quit,
        _ => Script::Done,
    })
}

#[tokio::test]
async fn every_outcome_ends_its_job_and_no_other() {
    let studio = Studio::start(by_prompt());
    let jobs = studio
        .add(&[
            "done",
            "fail",
            "die",
            "die once",
            "panic",
            "panic once",
            "forget",
            "lie",
            "quit",
            "after",
        ])
        .await;
    studio.wait_final(&jobs).await;
    insta::assert_snapshot!(studio.snapshot().await);
}

#[tokio::test]
async fn a_claimed_job_says_that_the_engine_is_starting_until_it_is_ready() {
    let studio = Studio::open(FakeBackend::new());
    studio.backend.set_ready(false);
    let jobs = studio.add(&["first", "second"]).await;
    studio.queue.start();
    let claimed = studio
        .wait(jobs[0], |job| job.state == JobState::Running)
        .await;
    assert_eq!(claimed.waiting, Some(WaitReason::EngineStarting));
    assert_eq!(claimed.progress, None);
    // Its turn has not come, whatever the engine does.
    let next = studio.job(jobs[1]).await;
    assert_eq!(next.waiting, Some(WaitReason::Behind { jobs: 1 }));
    studio.backend.set_ready(true);
    studio.wait_final(&jobs).await;
    assert_eq!(studio.job(jobs[0]).await.waiting, None);
}

#[tokio::test]
async fn a_claimed_job_is_told_of_again_when_its_engine_is_ready() {
    let studio = Studio::open(FakeBackend::new());
    studio.backend.set_ready(false);
    let jobs = studio.add(&["first"]).await;
    studio.queue.start();
    studio
        .wait(jobs[0], |job| job.state == JobState::Running)
        .await;
    let mut events = studio.queue.events();
    studio.backend.set_script(|_| Script::Hang);
    studio.backend.set_ready(true);
    // Nothing else about the job changes, so that this is the engine's doing.
    loop {
        let event = events.recv().await.unwrap();
        let kinora_core::Event::JobChanged { job } = event else {
            continue;
        };
        assert_eq!((job.id, job.state), (jobs[0], JobState::Running));
        if job.waiting.is_none() {
            break;
        }
        assert_eq!(job.waiting, Some(WaitReason::EngineStarting));
    }
    studio.queue.cancel(jobs[0]).await.unwrap();
    studio.wait_final(&jobs).await;
}

#[tokio::test]
async fn one_group_has_different_outcomes() {
    let studio = Studio::open(by_prompt().with_limit(8));
    let jobs = studio.add(&["a", "fail", "lie", "b", "forget"]).await;
    studio.queue.start();
    studio.wait_final(&jobs).await;
    insta::assert_snapshot!(studio.snapshot().await);
    assert_eq!(
        studio.prompts_of_calls(),
        [vec!["a", "fail", "lie", "b", "forget"], vec!["forget"]]
    );
}

#[tokio::test]
async fn the_innocent_of_a_dead_group_are_done() {
    let studio = Studio::open(by_prompt().with_limit(4));
    let jobs = studio.add(&["a", "die", "b"]).await;
    studio.queue.start();
    studio.wait_final(&jobs).await;
    insta::assert_snapshot!(studio.snapshot().await);
    // After the first death everyone runs alone, so that the second has one culprit.
    assert_eq!(
        studio.prompts_of_calls(),
        [vec!["a", "die", "b"], vec!["a"], vec!["die"], vec!["b"]]
    );
}

#[tokio::test]
async fn a_queue_in_memory_behaves_the_same() {
    let studio = Studio::open_in_memory(by_prompt());
    let jobs = studio.add(&["done", "fail", "die once"]).await;
    insta::assert_snapshot!("in_memory_before", studio.snapshot().await);
    studio.queue.start();
    studio.wait_final(&jobs).await;
    insta::assert_snapshot!("in_memory_after", studio.snapshot().await);
}

#[tokio::test]
async fn cancelling_is_immediate_while_waiting_and_at_the_next_step_while_running() {
    let (backend, gate) = FakeBackend::new().with_gate();
    let studio = Studio::start(backend);
    let jobs = studio.add(&["runs", "waits"]).await;
    studio.wait_state(jobs[0], JobState::Running).await;
    gate.open(1);
    studio.wait_steps(1).await;

    let waiting = studio.queue.cancel(jobs[1]).await.unwrap();
    assert_eq!(waiting.state, JobState::Cancelled);
    let running = studio.queue.cancel(jobs[0]).await.unwrap();
    assert_eq!(running.state, JobState::Running);
    assert!(running.is_cancelling);
    gate.open(1);
    let stopped = studio.wait_state(jobs[0], JobState::Cancelled).await;
    assert!(!stopped.is_cancelling && stopped.finished_at.is_some());
    assert_eq!(studio.queue.progress(jobs[0]), None);

    // Final is final, and cancelling twice is no error.
    let again = studio.queue.cancel(jobs[0]).await.unwrap();
    assert_eq!(again.state, JobState::Cancelled);
    insta::assert_snapshot!(studio.snapshot().await);
}

#[tokio::test]
async fn a_picture_that_is_finished_before_it_stops_is_kept() {
    let (backend, gate) = FakeBackend::new().with_script(|_| Script::Deaf).with_gate();
    let studio = Studio::start(backend);
    let jobs = studio.add(&["late"]).await;
    studio.wait_state(jobs[0], JobState::Running).await;
    studio.queue.cancel(jobs[0]).await.unwrap();
    gate.open_wide();
    let done = studio.wait_state(jobs[0], JobState::Done).await;
    assert!(!done.is_cancelling);
    assert_eq!(common::names(&studio.outputs()), ["late.png"]);
}

#[tokio::test]
async fn a_cancelled_job_whose_backend_does_not_listen_is_cancelled_at_the_end() {
    let studio = Studio::start(FakeBackend::new().with_script(|_| Script::Ignore));
    let jobs = studio.add(&["a"]).await;
    studio.wait_state(jobs[0], JobState::Running).await;
    studio.queue.cancel(jobs[0]).await.unwrap();
    studio.queue.shutdown(Duration::ZERO).await.unwrap();
    assert_eq!(studio.job(jobs[0]).await.state, JobState::Cancelled);
}

#[tokio::test]
async fn an_attempt_that_was_ended_from_outside_blames_nobody() {
    let studio = Studio::open(FakeBackend::new().with_limit(2).with_script(
        |work| match work.epoch {
            1..=3 => Script::Interrupt { after: work.epoch },
            _ => Script::Done,
        },
    ));
    let jobs = studio.add(&["a", "b"]).await;
    studio.queue.start();
    studio.wait_final(&jobs).await;
    insta::assert_snapshot!(studio.snapshot().await);
}

#[tokio::test]
async fn a_paused_job_keeps_its_folder_and_goes_on_at_its_place() {
    let (backend, gate) = FakeBackend::new().with_gate();
    let studio = Studio::start(backend);
    let jobs = studio.add(&["first", "second"]).await;
    gate.open(1);
    studio.wait_steps(1).await;
    let scratch = studio.queue.folders().scratch(jobs[0]);
    fs::write(scratch.join("checkpoint"), "step 1").unwrap();

    studio.queue.pause_queue().await.unwrap();
    studio.queue.pause(jobs[0]).await.unwrap();
    gate.open(1);
    studio.wait_state(jobs[0], JobState::Paused).await;
    insta::assert_snapshot!("paused", studio.snapshot().await);

    let resumed = studio.queue.resume(jobs[0]).await.unwrap();
    assert_eq!(resumed.state, JobState::Queued);
    assert_eq!(resumed.waiting, Some(WaitReason::QueuePaused));
    assert_eq!(fs::read(scratch.join("checkpoint")).unwrap(), b"step 1");
    gate.open_wide();
    studio.queue.resume_queue().await.unwrap();
    studio.wait_final(&jobs).await;
    assert_eq!(
        studio.prompts_of_calls(),
        [["first"], ["first"], ["second"]]
    );
    insta::assert_snapshot!("resumed", studio.snapshot().await);
}

#[tokio::test]
async fn a_job_that_is_resumed_before_it_has_stopped_runs_again() {
    let (backend, gate) = FakeBackend::new().with_gate();
    let studio = Studio::start(backend);
    let jobs = studio.add(&["a"]).await;
    studio.wait_state(jobs[0], JobState::Running).await;
    studio.queue.pause(jobs[0]).await.unwrap();
    studio.queue.resume(jobs[0]).await.unwrap();
    gate.open_wide();
    let done = studio.wait_state(jobs[0], JobState::Done).await;
    assert_eq!((done.epoch, done.deaths), (2, 0));
}

#[tokio::test]
async fn a_paused_queue_claims_nothing_and_stays_so_over_a_restart() {
    let studio = Studio::open(FakeBackend::new());
    studio.queue.pause_queue().await.unwrap();
    let jobs = studio.add(&["a"]).await;
    studio.queue.start();
    let studio = studio.reopen(FakeBackend::new()).await;
    studio.queue.start();
    assert!(studio.queue.status().await.unwrap().is_paused);
    assert_eq!(
        studio.job(jobs[0]).await.waiting,
        Some(WaitReason::QueuePaused)
    );
    studio.queue.resume_queue().await.unwrap();
    studio.wait_state(jobs[0], JobState::Done).await;
    assert_eq!(studio.prompts_of_calls(), [["a"]]);
}

#[tokio::test]
async fn shutting_down_lets_running_jobs_wait_again() {
    let (backend, _gate) = FakeBackend::new().with_limit(2).with_gate();
    let studio = Studio::open(backend.with_script(|work| match work.plan.prompt.as_str() {
        "hangs" => Script::Hang,
        _ => Script::Ignore,
    }));
    let jobs = studio.add(&["ignores", "hangs", "waits"]).await;
    studio.queue.start();
    studio.wait_state(jobs[1], JobState::Running).await;
    // "ignores" does not stop, and is abandoned.
    studio.queue.shutdown(Duration::ZERO).await.unwrap();
    insta::assert_snapshot!(studio.snapshot().await);

    let studio = studio.reopen(FakeBackend::new()).await;
    studio.queue.start();
    studio.wait_final(&jobs).await;
    assert!(
        studio
            .snapshot()
            .await
            .contains("ignores: done, epoch 2, deaths 0")
    );
}

#[tokio::test]
async fn many_are_cancelled_at_once_by_batch() {
    let (backend, gate) = FakeBackend::new().with_gate();
    let studio = Studio::open(backend);
    let plans = |prompts: [&str; 3]| prompts.iter().map(|prompt| plan(prompt)).collect();
    let (mine, jobs) = studio
        .enqueue(plans(["a", "b", "c"]), Priority::Interactive)
        .await;
    let (_, others) = studio
        .enqueue(plans(["x", "y", "z"]), Priority::Interactive)
        .await;
    studio.queue.start();
    studio.wait_state(jobs[0], JobState::Running).await;
    studio.queue.pause(jobs[1]).await.unwrap();
    let count = studio.queue.cancel_where(JobFilter::of_batch(mine)).await;
    assert_eq!(count.unwrap(), 3);
    gate.open_wide();
    studio.wait_final(&jobs).await;
    studio.wait_final(&others).await;
    insta::assert_snapshot!(studio.snapshot().await);
}

#[tokio::test]
async fn what_failed_is_retried_with_the_fix_that_fits() {
    let studio = Studio::start(FakeBackend::new().with_script(|work| {
        let mut failure = Failure::new(Code::OutOfMemory, "fit", "Make it smaller.");
        failure.fix = Some(Fix::Resize {
            width: 32,
            height: 32,
        });
        match work.plan.size.width {
            64 => Script::Fail {
                after: 0,
                failure: Box::new(failure),
            },
            _ => Script::Done,
        }
    }));
    let jobs = studio.add(&["a", "b"]).await;
    studio.wait_final(&jobs).await;
    let plain = studio.queue.retry(jobs[0], false).await.unwrap();
    assert_eq!(
        studio.wait(plain, |job| job.state.is_final()).await.state,
        JobState::Failed
    );
    // "a" was tried again already: its retry is, and "b".
    let filter = JobFilter::default();
    let fixed = studio
        .queue
        .retry_failed(filter.clone(), true)
        .await
        .unwrap();
    assert_eq!(fixed.len(), 2);
    studio.wait_final(&fixed).await;
    assert_eq!(studio.queue.retry_failed(filter, true).await.unwrap(), []);
    insta::assert_snapshot!(studio.snapshot().await);
    assert!(matches!(
        studio.queue.retry(fixed[0], true).await,
        Err(Error::WrongState {
            state: JobState::Done,
            ..
        })
    ));
}

#[tokio::test]
async fn only_final_jobs_are_removed_and_their_pictures_stay() {
    let (backend, gate) = by_prompt().with_gate();
    let studio = Studio::start(backend);
    let jobs = studio.add(&["done", "fail", "runs"]).await;
    gate.open(6);
    studio.wait_final(&jobs[..2]).await;
    studio.wait_state(jobs[2], JobState::Running).await;
    let asset = studio.only_asset(jobs[0]).await;

    studio.queue.remove(jobs[0]).await.unwrap();
    assert!(matches!(
        studio.queue.get(jobs[0]).await,
        Err(Error::NoJob(_))
    ));
    assert_eq!(studio.queue.asset(asset).await.unwrap().job, None);
    assert!(matches!(
        studio.queue.remove(jobs[2]).await,
        Err(Error::WrongState { .. })
    ));
    let all = JobFilter::default();
    assert_eq!(studio.queue.remove_where(all).await.unwrap(), 1);
    assert!(!studio.queue.folders().scratch(jobs[1]).exists());
    insta::assert_snapshot!(studio.snapshot().await);
    gate.open_wide();
    studio.wait_final(&jobs[2..]).await;
}

#[tokio::test]
async fn what_cannot_be_queued_is_refused_as_a_whole() {
    let studio = Studio::open(FakeBackend::new());
    let mut escaping = plan("b");
    escaping.output.stem = "../b".into();
    let batch = |jobs| NewBatch {
        kind: BatchKind::List,
        title: "list".into(),
        session: None,
        jobs,
    };
    let refused = batch(vec![NewJob::new(plan("a")), NewJob::new(escaping)]);
    assert!(matches!(
        studio.queue.enqueue(refused).await,
        Err(Error::BadName { .. })
    ));
    let refused = batch(vec![NewJob {
        lane: kinora_core::LaneId::new("nowhere"),
        ..NewJob::new(plan("a"))
    }]);
    assert!(matches!(
        studio.queue.enqueue(refused).await,
        Err(Error::NoLane(_))
    ));
    let refused = NewBatch {
        session: Some(kinora_core::SessionId::new()),
        ..batch(vec![NewJob::new(plan("a"))])
    };
    assert!(matches!(
        studio.queue.enqueue(refused).await,
        Err(Error::NoSession(_))
    ));
    assert_eq!(studio.queue.status().await.unwrap().counts.total(), 0);
    let missing = JobId::new();
    assert!(matches!(
        studio.queue.cancel(missing).await,
        Err(Error::NoJob(_))
    ));
    assert!(matches!(
        studio.queue.pause(missing).await,
        Err(Error::NoJob(_))
    ));
    assert!(matches!(
        studio.queue.resume(missing).await,
        Err(Error::NoJob(_))
    ));
    assert!(matches!(
        studio.queue.retry(missing, true).await,
        Err(Error::NoJob(_))
    ));
    assert!(matches!(
        studio.queue.remove(missing).await,
        Err(Error::NoJob(_))
    ));
}

#[tokio::test]
async fn a_second_queue_on_the_same_database_is_refused() {
    let studio = Studio::open(FakeBackend::new());
    let path = studio.folder.path().join("data/kinora.db");
    assert!(matches!(
        kinora_queue::Store::open(&path),
        Err(kinora_store::Error::InUse { .. })
    ));
    let studio = studio.reopen(FakeBackend::new()).await;
    assert_eq!(studio.queue.status().await.unwrap().counts.total(), 0);
}
