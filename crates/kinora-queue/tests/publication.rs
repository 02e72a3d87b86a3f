//! From a finished attempt to a picture under its name: collisions, full disks, crashes at each edge
//! (a crash is a queue that is dropped where it stands), late writers.

mod common;

use std::{
    fs,
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{Studio, names};
use kinora_core::{Code, Fix, JobState, WaitReason};
use kinora_queue::failpoints::{self, Edge};
use kinora_testkit::{FakeBackend, Script, plan, write_picture};

/// Fails once, at one edge.
fn fail_once(studio: &Studio, at: Edge, kind: ErrorKind) {
    let is_armed = AtomicBool::new(true);
    let hook = move |edge| {
        if edge == at && is_armed.swap(false, Ordering::SeqCst) {
            return Err(kind.into());
        }
        Ok(())
    };
    failpoints::set(&studio.queue, Arc::new(hook));
}

#[tokio::test]
async fn names_are_unique_and_nothing_is_overwritten() {
    let studio = Studio::open(FakeBackend::new());
    fs::create_dir_all(studio.outputs().join("deep/er")).unwrap();
    fs::write(studio.outputs().join("deep/er/a-2.png"), "mine").unwrap();
    let jobs: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|prompt| {
            let mut plan = plan(prompt);
            plan.output.stem = "deep/er/a".into();
            plan
        })
        .collect();
    let (_, jobs) = studio.enqueue(jobs, Default::default()).await;
    studio.queue.start();
    studio.wait_final(&jobs).await;
    insta::assert_snapshot!(studio.snapshot().await);
    let mine = fs::read(studio.outputs().join("deep/er/a-2.png")).unwrap();
    assert_eq!(mine, b"mine");
}

#[tokio::test]
async fn a_strangers_file_that_comes_in_between_is_not_overwritten() {
    let studio = Studio::open(FakeBackend::new());
    let path = studio.outputs().join("a.png");
    let stranger = path.clone();
    failpoints::set(
        &studio.queue,
        Arc::new(move |edge| match edge {
            Edge::Committed => fs::write(&stranger, "mine"),
            _ => Ok(()),
        }),
    );
    let jobs = studio.add(&["a"]).await;
    studio.queue.start();
    studio.wait_final(&jobs).await;
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    insta::assert_snapshot!(studio.snapshot().await);
}

#[tokio::test]
async fn a_full_disk_fails_the_job_with_the_reason_and_the_queue_goes_on() {
    for (at, group) in [(Edge::Prepared, 1), (Edge::Staged, 1), (Edge::Staged, 2)] {
        let studio = Studio::open(FakeBackend::new().with_limit(group));
        fail_once(&studio, at, ErrorKind::StorageFull);
        let jobs = studio.add(&["full", "after"]).await;
        studio.queue.start();
        studio.wait_final(&jobs).await;
        let failure = studio.job(jobs[0]).await.failure.unwrap();
        assert_eq!(failure.code, Code::DiskFull, "{at:?}");
        assert_eq!(failure.fix, Some(Fix::FreeDisk { bytes: None }));
        assert!(failure.message.contains("the disk is full"));
        assert_eq!(names(&studio.outputs()), ["after.png"], "{at:?}");
        let retry = studio.queue.retry(jobs[0], true).await.unwrap();
        studio.wait_state(retry, JobState::Done).await;
        assert_eq!(names(&studio.outputs()), ["after.png", "full.png"]);
    }
}

/// Fills the database, and lets it grow no further; or undoes that.
fn fill_database(studio: &Studio, is_full: bool) {
    let number = |tx: &kinora_store::Transaction<'_>, sql: &str| -> kinora_store::Result<i64> {
        Ok(tx.query_row(sql, [], |row| row.get(0))?)
    };
    let fill = |tx: &kinora_store::Transaction<'_>| {
        if !is_full {
            tx.execute_batch("DROP TABLE filler")?;
            number(tx, "PRAGMA max_page_count = 1000000")?;
            return Ok(());
        }
        tx.execute_batch("CREATE TABLE filler (x)")?;
        while number(tx, "PRAGMA freelist_count")? > 0 {
            tx.execute_batch("INSERT INTO filler VALUES (zeroblob(3000))")?;
        }
        let pages = number(tx, "PRAGMA page_count")?;
        number(tx, &format!("PRAGMA max_page_count = {pages}"))?;
        Ok(())
    };
    studio.queue.store().write(fill).unwrap();
}

#[tokio::test]
async fn a_database_without_room_fails_what_it_cannot_keep_and_goes_on() {
    let (backend, gate) = FakeBackend::new().with_gate();
    let studio = Studio::start(backend);
    let jobs = studio.add(&["full", "after"]).await;
    let mut running = studio.wait_state(jobs[0], JobState::Running).await;
    fill_database(&studio, true);
    // A recipe that needs pages of its own.
    running.plan.negative_prompt = "blurry, ".repeat(50_000);
    studio.backend.set_recipe_plan(running.plan);
    gate.open(4);
    let failed = studio.wait_state(jobs[0], JobState::Failed).await;
    assert_eq!(failed.failure.unwrap().code, Code::DiskFull);
    assert_eq!(names(&studio.outputs()), Vec::<String>::new());
    fill_database(&studio, false);
    gate.open_wide();
    studio.wait_state(jobs[1], JobState::Done).await;
    let retry = studio.queue.retry(jobs[0], true).await.unwrap();
    studio.wait_state(retry, JobState::Done).await;
    assert_eq!(names(&studio.outputs()), ["after.png", "full.png"]);
}

#[tokio::test]
async fn jobs_say_that_they_wait_for_room_and_go_on_when_there_is_some() {
    let studio = Studio::open(FakeBackend::new());
    let jobs = studio.add(&["a", "b"]).await;
    let run = |sql: &'static str| {
        let run = |tx: &kinora_store::Transaction<'_>| Ok(tx.execute_batch(sql)?);
        studio.queue.store().write(run).unwrap();
    };
    // What a claim writes may fit into the last pages; this does not.
    run("CREATE TRIGGER grow AFTER UPDATE ON jobs
         BEGIN INSERT INTO filler VALUES (zeroblob(100000)); END");
    fill_database(&studio, true);
    studio.queue.start();
    let stuck = studio
        .wait(jobs[0], |job| job.waiting == Some(WaitReason::DiskFull))
        .await;
    assert_eq!(stuck.state, JobState::Queued);
    run("DROP TRIGGER grow");
    fill_database(&studio, false);
    studio.wait_final(&jobs).await;
    let states = [studio.job(jobs[0]).await, studio.job(jobs[1]).await];
    assert!(
        states
            .iter()
            .all(|job| job.state == JobState::Done && job.waiting.is_none())
    );
}

#[tokio::test]
async fn jobs_behind_a_picture_without_room_for_its_name_say_so() {
    let (backend, gate) = FakeBackend::new().with_gate();
    let studio = Studio::open(backend);
    let is_full = Arc::new(AtomicBool::new(true));
    let hook = {
        let is_full = is_full.clone();
        move |edge| match edge {
            Edge::Committed if is_full.load(Ordering::SeqCst) => Err(ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    };
    failpoints::set(&studio.queue, Arc::new(hook));
    let jobs = studio.add(&["a", "b"]).await;
    studio.queue.start();
    gate.open_wide();
    studio
        .wait(jobs[1], |job| job.waiting == Some(WaitReason::DiskFull))
        .await;
    is_full.store(false, Ordering::SeqCst);
    studio.wait_final(&jobs).await;
    assert_eq!(names(&studio.outputs()), ["a.png", "b.png"]);
    assert_eq!(studio.job(jobs[1]).await.waiting, None);
}

#[tokio::test]
async fn a_rename_that_fails_once_is_repeated() {
    for at in [Edge::Committed, Edge::Renamed, Edge::Published] {
        let studio = Studio::open(FakeBackend::new());
        fail_once(&studio, at, ErrorKind::PermissionDenied);
        let jobs = studio.add(&["a"]).await;
        let mut events = studio.queue.events();
        studio.queue.start();
        common::next(&mut events, |event| {
            matches!(event, kinora_core::Event::AssetChanged { .. })
        })
        .await;
        let done = studio.wait(jobs[0], |job| !job.assets.is_empty()).await;
        assert_eq!(done.state, JobState::Done, "{at:?}");
        assert_eq!(names(&studio.outputs()), ["a.png"], "{at:?}");
    }
}

#[tokio::test]
async fn a_job_is_done_when_its_picture_has_its_name_and_not_before() {
    for at in [Edge::Committed, Edge::Renamed] {
        let studio = Studio::open(FakeBackend::new());
        // It waits at this edge for room until the program ends.
        failpoints::set(
            &studio.queue,
            Arc::new(move |edge| match edge == at {
                true => Err(ErrorKind::StorageFull.into()),
                false => Ok(()),
            }),
        );
        let jobs = studio.add(&["a", "b"]).await;
        studio.queue.start();
        studio
            .wait(jobs[1], |job| job.waiting == Some(WaitReason::DiskFull))
            .await;
        let job = studio.job(jobs[0]).await;
        assert_eq!(job.state, JobState::Running, "{at:?}");
        assert_eq!(job.assets, [], "{at:?}");
        let studio = studio.reopen(FakeBackend::new()).await;
        let job = studio.job(jobs[0]).await;
        assert_eq!((job.state, job.epoch), (JobState::Done, 1), "{at:?}");
        studio.only_asset(jobs[0]).await;
        assert_eq!(names(&studio.outputs()), ["a.png"], "{at:?}");
    }
}

#[tokio::test]
async fn what_a_crash_left_between_commit_and_name_is_published_at_start() {
    for at in [Edge::Committed, Edge::Renamed] {
        let studio = Studio::open(FakeBackend::new());
        // Every try fails: as good as a process that dies there.
        failpoints::set(
            &studio.queue,
            Arc::new(move |edge| match edge == at {
                true => Err(ErrorKind::PermissionDenied.into()),
                false => Ok(()),
            }),
        );
        let jobs = studio.add(&["a"]).await;
        studio.queue.start();
        studio.wait_state(jobs[0], JobState::Done).await;
        assert_eq!(studio.job(jobs[0]).await.assets, [], "{at:?}");
        let studio = studio.reopen(FakeBackend::new()).await;
        assert_eq!(names(&studio.outputs()), ["a.png"], "{at:?}");
        let asset = studio.only_asset(jobs[0]).await;
        assert_eq!(studio.queue.asset(asset).await.unwrap().path, "a.png");
        // Its folder goes with the sweep.
        studio.queue.sweep().await.unwrap();
        assert!(!studio.queue.folders().scratch(jobs[0]).exists());
    }
}

#[tokio::test]
async fn parts_that_nobody_will_finish_are_swept_and_others_left_alone() {
    let (backend, gate) = FakeBackend::new().with_gate();
    let studio = Studio::start(backend.with_script(|work| match work.plan.prompt.as_str() {
        "fail" => Script::fail(Code::Io),
        _ => Script::Done,
    }));
    gate.open(2);
    let jobs = studio.add(&["fail", "runs"]).await;
    studio.wait_final(&jobs[..1]).await;
    let running = studio.wait_state(jobs[1], JobState::Running).await;
    let deep = studio.outputs().join("x/y");
    fs::create_dir_all(&deep).unwrap();
    let part = |job, epoch| format!(".kinora-{job}-{epoch}.part");
    // Of an attempt that ended; of one that runs; of another data folder's job; a user's own file.
    fs::write(deep.join(part(jobs[0], 1)), "late").unwrap();
    let mine = studio.outputs().join(part(jobs[1], running.epoch));
    fs::write(&mine, "half a picture").unwrap();
    let other = deep.join(part(kinora_core::JobId::new(), 1));
    fs::write(&other, "theirs").unwrap();
    fs::write(deep.join("notes.part"), "theirs").unwrap();
    let orphan = studio.queue.folders().scratch(kinora_core::JobId::new());
    fs::create_dir_all(&orphan).unwrap();

    let swept = studio.queue.sweep().await.unwrap();
    assert_eq!((swept.parts, swept.folders, swept.assets), (1, 1, 0));
    assert!(mine.exists() && other.exists() && deep.join("notes.part").exists());
    assert!(!orphan.exists());
    // The failed job keeps its folder.
    assert!(studio.queue.folders().scratch(jobs[0]).exists());
    gate.open_wide();
    studio.wait_state(jobs[1], JobState::Done).await;
}

#[tokio::test]
async fn a_job_that_was_running_when_the_process_died_runs_again_at_once() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let (backend, _gate) = FakeBackend::new().with_gate();
    let studio = Studio::open_in(folder.clone(), backend);
    let jobs = studio.add(&["interrupted", "cancelled", "paused"]).await;
    // As a worker leaves them that is killed: running, with half a file.
    let claimed = studio
        .queue
        .store()
        .write(|tx| {
            let lane = kinora_core::LaneId::local();
            let head = kinora_store::jobs::head(tx, &lane, Default::default())?.unwrap();
            kinora_store::jobs::claim(tx, head.seq, 3, kinora_core::Timestamp::now())
        })
        .unwrap();
    assert_eq!(claimed.len(), 3);
    for job in &jobs {
        let part = format!(".kinora-{job}-1.part");
        fs::write(studio.outputs().join(part), "half a picture").unwrap();
    }
    let scratch = studio.queue.folders().scratch(jobs[0]);
    fs::create_dir_all(&scratch).unwrap();
    fs::write(scratch.join("checkpoint"), "step 17").unwrap();
    studio.queue.cancel(jobs[1]).await.unwrap();
    studio.queue.pause(jobs[2]).await.unwrap();
    drop(studio);

    let studio = Studio::open_in(folder, FakeBackend::new());
    insta::assert_snapshot!("recovered", studio.snapshot().await);
    assert_eq!(fs::read(scratch.join("checkpoint")).unwrap(), b"step 17");
    studio.queue.start();
    let done = studio.wait_state(jobs[0], JobState::Done).await;
    assert_eq!((done.epoch, done.deaths), (2, 0));
}

#[tokio::test]
async fn a_writer_that_is_late_leaves_neither_asset_nor_file() {
    let studio = Studio::open(FakeBackend::new());
    let jobs = studio.add(&["a"]).await;
    let store = studio.queue.store();
    let claim = || {
        store
            .write(|tx| {
                let lane = kinora_core::LaneId::local();
                let head = kinora_store::jobs::head(tx, &lane, Default::default())?.unwrap();
                kinora_store::jobs::claim(tx, head.seq, 1, kinora_core::Timestamp::now())
            })
            .unwrap()
    };
    let first = claim().remove(0);
    let now = kinora_core::Timestamp::now();
    store
        .write(|tx| kinora_store::jobs::release(tx, first.id, first.epoch, now))
        .unwrap();
    let second = claim().remove(0);
    assert_eq!((first.epoch, second.epoch), (1, 2));
    // The first worker comes back with a picture.
    let staging = format!(".kinora-{}-1.part", first.id);
    let artifact = write_picture(&studio.outputs().join(&staging), &first.plan).unwrap();
    let done = kinora_store::jobs::Done {
        artifact: &artifact,
        path: "a.png",
        staging: &staging,
        timings: Default::default(),
    };
    let stored = store
        .write(|tx| kinora_store::jobs::keep_result(tx, first.id, first.epoch, &done, now))
        .unwrap();
    assert_eq!(stored, kinora_store::jobs::Stored::Late);
    let job = studio.job(jobs[0]).await;
    assert_eq!((job.state, job.epoch), (JobState::Running, 2));
    let swept = studio.queue.sweep().await.unwrap();
    assert_eq!(swept.parts, 1);
    assert_eq!(names(&studio.outputs()), Vec::<String>::new());
}

#[tokio::test]
async fn a_jobs_folder_holds_its_plan_and_goes_when_it_is_done() {
    let (backend, gate) = FakeBackend::new().with_gate();
    let studio = Studio::start(backend);
    let jobs = studio.add(&["a"]).await;
    gate.open(1);
    studio.wait_steps(1).await;
    let folder = studio.queue.folders().scratch(jobs[0]);
    let text = fs::read_to_string(folder.join("metadata.json")).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(metadata["job"], serde_json::json!(jobs[0]));
    let stored: kinora_core::Plan = serde_json::from_value(metadata["plan"].clone()).unwrap();
    assert_eq!(stored, plan("a"));
    gate.open_wide();
    studio.wait_state(jobs[0], JobState::Done).await;
    assert!(!folder.exists());
}
