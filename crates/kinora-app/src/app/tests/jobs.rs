//! Requests that become jobs: run, watched, refused, cancelled, tried again, taken up after a restart.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_becomes_pictures_in_a_session() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path(), FakeBackend::new().with_limit(4));
    let mut request = small("a red fox");
    request["copies"] = json!(3);
    let preflight = call(&app, "jobs_preflight", request.clone()).await;
    assert_eq!(preflight["pictures"], 3);
    assert_eq!(
        preflight["outputs"],
        json!(["a_red_fox-1", "a_red_fox-2", "a_red_fox-3"])
    );
    assert_eq!(
        preflight["estimate"]["seconds"],
        Value::Null,
        "nothing ever ran"
    );
    assert_eq!(preflight["estimate"]["wait_seconds"], 0.0);

    let submitted = submit(&app, request.clone()).await;
    let seeds: Vec<u64> = submitted.jobs.iter().map(|job| job.seed.0).collect();
    assert_eq!(seeds, [7, 8, 9]);
    let jobs = finish(&app, submitted.batch).await;
    assert!(
        jobs.iter().all(|job| job.state == JobState::Done),
        "{jobs:?}"
    );

    let assets = call(&app, "assets_list", json!({ "search": "fox" })).await;
    assert_eq!(assets["total"], 3);
    for copy in 1..=3 {
        assert!(
            app.outputs_dir()
                .join(format!("a_red_fox-{copy}.png"))
                .is_file()
        );
    }
    let session = submitted.session.unwrap();
    let sessions = call(&app, "sessions_list", json!({ "kind": "image" })).await;
    assert_eq!(sessions["sessions"][0]["id"], json!(session));
    assert_eq!(sessions["sessions"][0]["title"], "a red fox");
    assert_eq!(sessions["sessions"][0]["assets"], 3);

    let preflight = call(&app, "jobs_preflight", request).await;
    assert!(preflight["estimate"]["seconds"].as_f64().unwrap() > 0.0);
    assert!(preflight["estimate"]["runs"].as_u64().unwrap() > 0);
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_everything_and_queue_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path(), FakeBackend::new());
    let problems = refuse(&app, "jobs_submit", json!({ "prompt": "", "steps": 0 })).await;
    assert_eq!(problems.problems.len(), 2);
    let problems = refuse(
        &app,
        "jobs_submit",
        json!({ "prompt": "x", "model": "huge" }),
    )
    .await;
    assert_eq!(problems.first.code, Code::OutOfMemory);
    let unknown = json!({ "prompt": "x", "session": kinora_core::SessionId::new() });
    let problems = refuse(&app, "jobs_submit", unknown).await;
    assert_eq!(problems.first.code, Code::NotFound);
    let preflight = call(&app, "jobs_preflight", json!({ "prompt": "" })).await;
    assert_eq!(preflight["problems"][0]["field"], "prompt");
    assert_eq!(call(&app, "jobs_list", json!({})).await["total"], 0);
    assert_eq!(call(&app, "sessions_list", json!({})).await["total"], 0);

    let problems = refuse(&app, "jobs_sumbit", json!({})).await;
    assert!(problems.first.hint.contains("jobs_submit"), "{problems}");
    let problems = refuse(&app, "jobs_submit", json!({ "promt": "x" })).await;
    assert_eq!(problems.first.code, Code::InvalidInput);
    assert!(problems.first.message.contains("promt"), "{problems}");
    let problems = refuse(&app, "jobs_list", json!({ "limit": "many" })).await;
    assert_eq!(problems.first.field.as_deref(), Some("limit"));
    let missing = json!({ "id": kinora_core::JobId::new() });
    for name in [
        "jobs_get",
        "jobs_cancel",
        "jobs_retry",
        "jobs_remove",
        "jobs_pause",
    ] {
        let problems = refuse(&app, name, missing.clone()).await;
        assert_eq!(problems.first.code, Code::NotFound, "{name}");
    }
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_watched_moved_paused_and_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, gate) = FakeBackend::new().with_gate();
    let app = open(folder.path(), backend);
    let mut events = app.events();
    let running = submit(&app, small("first")).await.jobs[0].id;
    gate.open(1);
    let wanted =
        |event: &Event| matches!(event, Event::JobProgress { progress } if progress.job == running);
    until(&mut events, wanted).await;

    let waiting = submit(&app, json!({ "prompt": "x", "copies": 3 })).await;
    let ids: Vec<_> = waiting.jobs.iter().map(|job| job.id).collect();
    let job = call(&app, "jobs_get", json!({ "id": ids[2] })).await;
    assert_eq!(job["waiting"], json!({ "kind": "behind", "jobs": 3 }));
    call(&app, "jobs_move", json!({ "id": ids[2], "before": ids[0] })).await;
    let page = call(&app, "jobs_list", json!({ "active": true })).await;
    let order: Vec<&Value> = page["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| &job["id"])
        .collect();
    assert_eq!(
        order,
        [
            &json!(running),
            &json!(ids[2]),
            &json!(ids[0]),
            &json!(ids[1])
        ]
    );

    let input = json!({ "id": ids[1], "priority": Priority::Urgent });
    assert_eq!(
        call(&app, "jobs_set_priority", input).await["priority"],
        "urgent"
    );
    let paused = call(&app, "jobs_pause", json!({ "id": ids[0] })).await;
    assert_eq!(paused["state"], "paused");
    assert_eq!(
        call(&app, "jobs_resume", json!({ "id": ids[0] })).await["state"],
        "queued"
    );
    assert_eq!(
        call(&app, "queue_pause", Value::Null).await["is_paused"],
        true
    );
    let job = call(&app, "jobs_get", json!({ "id": ids[0] })).await;
    assert_eq!(job["waiting"], json!({ "kind": "queue_paused" }));

    let cancelled = call(&app, "jobs_cancel", json!({ "id": ids[0] })).await;
    assert_eq!(cancelled["state"], "cancelled");
    let problems = refuse(&app, "jobs_pause", json!({ "id": ids[0] })).await;
    assert_eq!(problems.first.code, Code::Conflict);
    let count = call(&app, "queue_cancel_all", json!({ "batch": waiting.batch })).await;
    assert_eq!(count["jobs"], 2);
    call(&app, "jobs_cancel", json!({ "id": running })).await;
    gate.open_wide();
    let wanted = |event: &Event| matches!(event, Event::JobChanged { job } if job.id == running && job.state.is_final());
    let Event::JobChanged { job } = until(&mut events, wanted).await else {
        unreachable!("only such events were waited for");
    };
    assert_eq!(job.state, JobState::Cancelled);
    assert_eq!(
        call(&app, "queue_resume", Value::Null).await["is_paused"],
        false
    );
    assert_eq!(
        call(&app, "jobs_remove", json!({ "id": running })).await["jobs"],
        1
    );
    assert_eq!(
        call(&app, "queue_clear_finished", json!({})).await["jobs"],
        3
    );
    assert_eq!(
        call(&app, "queue_status", json!({})).await["counts"]["cancelled"],
        0
    );
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    let backend = FakeBackend::new().with_script(move |_| {
        if broken.load(std::sync::atomic::Ordering::SeqCst) {
            Script::fail(Code::BadResult)
        } else {
            Script::Done
        }
    });
    let app = open(folder.path(), backend);
    let submitted = submit(
        &app,
        json!({ "prompt": "x", "copies": 2, "width": 256, "height": 256 }),
    )
    .await;
    let jobs = finish(&app, submitted.batch).await;
    assert!(jobs.iter().all(|job| job.state == JobState::Failed));
    assert_eq!(jobs[0].failure.as_ref().unwrap().code, Code::BadResult);

    is_broken.store(false, std::sync::atomic::Ordering::SeqCst);
    let input = json!({ "id": jobs[0].id, "with_fix": true });
    let again: Submitted = serde_json::from_value(call(&app, "jobs_retry", input).await).unwrap();
    assert_eq!(
        (again.batch, again.jobs[0].seed),
        (submitted.batch, submitted.jobs[0].seed)
    );
    let input = json!({ "batch": submitted.batch });
    assert_eq!(call(&app, "queue_retry_failed", input).await["jobs"], 1);
    finish(&app, submitted.batch).await;
    let table = call(
        &app,
        "batches_table",
        json!({ "id": submitted.batch, "format": "jsonl" }),
    )
    .await;
    let lines: Vec<Value> = table["text"]
        .as_str()
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "one line per picture, not per attempt");
    assert!(
        lines
            .iter()
            .all(|line| line["state"] == "done" && line["file"].is_string())
    );
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_queued_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, _gate) = FakeBackend::new().with_gate();
    let app = open(folder.path(), backend);
    let submitted = submit(
        &app,
        json!({ "prompt": "x", "copies": 5, "width": 256, "height": 256 }),
    )
    .await;
    call(
        &app,
        "settings_update",
        json!({ "theme": "dark", "default_model": "full" }),
    )
    .await;

    let parts = Parts {
        catalogue: FixedCatalogue::new(),
        backends: vec![Arc::new(FakeBackend::new())],
        logs: LogBuffer::default(),
    };
    let second = App::open_with(Config::below(folder.path()).unwrap(), parts);
    let second = second.unwrap_err().into_problems();
    assert_eq!(second.first.code, Code::DataFolderInUse);
    assert!(
        second
            .first
            .message
            .contains(&std::process::id().to_string())
    );
    app.announce("http://127.0.0.1:1", None).unwrap();
    let note = crate::instance::find_running(folder.path()).unwrap();
    assert_eq!(note.url.as_deref(), Some("http://127.0.0.1:1"));

    app.shutdown().await;
    drop(app);
    let app = open(folder.path(), FakeBackend::new().with_limit(2));
    let jobs = finish(&app, submitted.batch).await;
    assert_eq!(jobs.len(), 5);
    assert!(
        jobs.iter()
            .all(|job| job.state == JobState::Done && job.assets.len() == 1)
    );
    let settings = call(&app, "settings_get", Value::Null).await;
    assert_eq!(
        (&settings["theme"], &settings["default_model"]),
        (&json!("dark"), &json!("full"))
    );
    app.shutdown().await;
}
