//! The application over a backend that does what it is told: every command, and a restart.

use std::{future::Future, sync::atomic::AtomicBool, time::Duration};

use kinora_core::{Job, JobState, Plan, PlannedModel, Priority, WeightFile};
use kinora_testkit::{FakeBackend, Script};
use serde_json::json;

use super::*;
use crate::{
    commands::{COMMANDS, Method, NoInput},
    jobs::{JobPage, Submitted},
    resolve::{Candidate, fixtures},
};

mod clips;

/// Models that never change, each with one weight file.
struct FixedCatalogue {
    candidates: Arc<Vec<Candidate>>,
    /// Whether the weight files on disk are others than the recipes say.
    are_weights_new: AtomicBool,
}

impl FixedCatalogue {
    fn new() -> Arc<Self> {
        let mut candidates = fixtures::models();
        for planned in candidates.iter_mut().filter_map(|c| c.planned.as_mut()) {
            planned.weights.push(weight('0'));
        }
        Arc::new(Self {
            candidates: Arc::new(candidates),
            are_weights_new: AtomicBool::new(false),
        })
    }
}

fn weight(digit: char) -> WeightFile {
    WeightFile {
        component: "transformer".to_owned(),
        file: "transformer/model.safetensors".to_owned(),
        bytes: 1,
        sha256: Some(digit.to_string().repeat(64)),
    }
}

impl Catalogue for FixedCatalogue {
    fn candidates(&self) -> Arc<Vec<Candidate>> {
        Arc::clone(&self.candidates)
    }

    fn refresh(&self) -> bool {
        false
    }

    fn memory_needed(&self, plan: &Plan, _: u64) -> Option<u64> {
        let is_huge = plan.model.id.as_str() == "huge";
        Some(if is_huge { u64::MAX } else { 1 })
    }

    fn loras(&self) -> Vec<kinora_catalog::loras::LoraEntry> {
        Vec::new()
    }

    fn lora(
        &self,
        _: &kinora_core::ModelId,
        name: &str,
    ) -> Result<kinora_core::PlannedLora, Problem> {
        Err(Problem::new(Code::NotFound, format!("no LoRA {name}"), ""))
    }

    fn check_lora(
        &self,
        _: &kinora_core::ModelId,
        name: &str,
    ) -> Result<kinora_catalog::LoraReport, Problem> {
        Err(Problem::new(Code::NotFound, format!("no LoRA {name}"), ""))
    }

    fn components(
        &self,
        _: &kinora_core::ModelId,
    ) -> Result<Vec<kinora_catalog::ComponentChoices>, Problem> {
        Ok(Vec::new())
    }

    fn with_components(
        &self,
        model: &kinora_core::ModelId,
        _: &std::collections::BTreeMap<String, String>,
    ) -> Result<PlannedModel, Problem> {
        let message = format!("{model} has no such part");
        Err(Problem::new(Code::NotFound, message, ""))
    }

    fn hash_weights(&self, _: &PlannedModel) -> Result<Vec<WeightFile>> {
        let is_new = self
            .are_weights_new
            .load(std::sync::atomic::Ordering::SeqCst);
        Ok(vec![weight(if is_new { '1' } else { '0' })])
    }
}

fn open(folder: &Path, backend: FakeBackend) -> Arc<App> {
    let parts = Parts {
        catalogue: FixedCatalogue::new(),
        backends: vec![Arc::new(backend)],
        logs: LogBuffer::default(),
    };
    App::open_with(Config::below(folder).unwrap(), parts).unwrap()
}

async fn call(app: &Arc<App>, name: &str, input: Value) -> Value {
    app.call(name, input.clone())
        .await
        .unwrap_or_else(|problems| panic!("{name} {input}: {problems:?}"))
}

async fn refuse(app: &Arc<App>, name: &str, input: Value) -> Problems {
    match app.call(name, input.clone()).await {
        Ok(output) => panic!("{name} {input} was not refused: {output}"),
        Err(problems) => problems,
    }
}

async fn submit(app: &Arc<App>, input: Value) -> Submitted {
    serde_json::from_value(call(app, "jobs_submit", input).await).unwrap()
}

/// Waits until nothing of a batch is unfinished and its pictures are there, by its events.
async fn finish(app: &Arc<App>, batch: kinora_core::BatchId) -> Vec<Job> {
    let mut events = app.events();
    within(async {
        loop {
            let input = json!({ "batch": batch, "limit": 1000 });
            let page: JobPage =
                serde_json::from_value(call(app, "jobs_list", input).await).unwrap();
            // A picture gets its name just after its job is done.
            let is_over = |job: &Job| match job.state {
                JobState::Done => !job.assets.is_empty(),
                state => state.is_final(),
            };
            if page.jobs.iter().all(is_over) {
                return page.jobs;
            }
            // Whatever it is, or that some were missed: look again.
            let _ = events.recv().await;
        }
    })
    .await
}

/// Waits for a job's event that fits.
async fn until(
    events: &mut broadcast::Receiver<Event>,
    is_wanted: impl Fn(&Event) -> bool,
) -> Event {
    within(async {
        loop {
            if let Ok(event) = events.recv().await
                && is_wanted(&event)
            {
                return event;
            }
        }
    })
    .await
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, work)
        .await
        .expect("it hangs")
}

fn small(prompt: &str) -> Value {
    json!({ "prompt": prompt, "width": 256, "height": 256, "seed": 7, "output_name": "{prompt}-{copy}" })
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_list_becomes_a_batch_with_a_table_and_a_sheet() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Arc::new(FakeBackend::new().with_limit(8));
    let parts = Parts {
        catalogue: FixedCatalogue::new(),
        backends: vec![Arc::clone(&backend) as Arc<dyn Backend>],
        logs: LogBuffer::default(),
    };
    let app = App::open_with(Config::below(folder.path()).unwrap(), parts).unwrap();
    let bad = json!({ "text": "prompt,steps\nx,1\n,2\ny,none\nz,99\n", "name": "bad.csv" });
    let check = call(&app, "bulk_check", bad.clone()).await;
    let lines: Vec<u64> = check["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [3, 4, 5]);
    assert_eq!(check["estimate"], Value::Null);
    let problems = refuse(&app, "bulk_submit", bad).await;
    assert_eq!(problems.problems.len(), 3);
    assert_eq!(
        call(&app, "queue_status", json!({})).await["counts"]["queued"],
        0
    );

    call(&app, "queue_pause", json!({})).await;
    let text = "prompt,animal,model,size,copies,output\n\
                =a {animal},fox|owl,fast,256x256,,{animal}\n\
                b,,full,256x256,2,b{copy}\n\
                c,,fast,256x256,,c\n";
    let list = json!({ "text": text, "name": "my animals.csv" });
    let check = call(&app, "bulk_check", list.clone()).await;
    assert_eq!(
        (&check["pictures"], &check["total_rows"]),
        (&json!(5), &json!(4))
    );
    assert_eq!(check["rows"][1]["output"], "owl");
    let submitted = call(&app, "bulk_submit", list).await;
    let submitted: Submitted = serde_json::from_value(submitted).unwrap();
    assert_eq!(submitted.pictures, 5);
    call(&app, "queue_resume", json!({})).await;
    let jobs = finish(&app, submitted.batch).await;
    let places: Vec<_> = jobs
        .iter()
        .map(|job| (job.line.unwrap(), job.copy))
        .collect();
    assert_eq!(
        places,
        [(2, 0), (2, 1), (3, 0), (3, 1), (4, 0)],
        "the order of the list"
    );
    let groups: Vec<Vec<String>> = backend
        .calls()
        .into_iter()
        .map(|call| call.prompts)
        .collect();
    assert_eq!(
        groups,
        [vec!["=a fox", "=a owl", "c"], vec!["b", "b"]],
        "each model once"
    );

    let batch = call(&app, "batches_get", json!({ "id": submitted.batch })).await;
    assert_eq!(batch["title"], "my animals.csv");
    assert_eq!(call(&app, "batches_list", json!({})).await["total"], 1);
    let table = call(&app, "batches_table", json!({ "id": submitted.batch })).await;
    assert_eq!(table["name"], "my_animals-results.csv");
    let text = table["text"].as_str().unwrap();
    assert!(
        text.starts_with("line,copy,state,prompt,negative,model,seed,"),
        "{text}"
    );
    assert!(text.contains("\n2,1,done,'=a fox,,fast,"), "{text}");
    assert!(text.contains(",b2.png,"), "{text}");
    let table = call(
        &app,
        "batches_table",
        json!({ "id": submitted.batch, "format": "tsv" }),
    )
    .await;
    assert_eq!(table["text"].as_str().unwrap().lines().count(), 6);

    let sheet = call(
        &app,
        "batches_contact_sheet",
        json!({ "id": submitted.batch }),
    )
    .await;
    assert_eq!(sheet["pictures"], 5);
    let bytes = std::fs::read(sheet["path"].as_str().unwrap()).unwrap();
    let picture = kinora_media::decode(&bytes).unwrap();
    assert_eq!(
        json!([picture.width, picture.height]),
        json!([sheet["width"], sheet["height"]])
    );
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_go_to_the_trash_and_back_and_with_their_session() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path(), FakeBackend::new());
    let submitted = submit(&app, small("a")).await;
    let asset = finish(&app, submitted.batch).await[0].assets[0];
    let file = app.outputs_dir().join("a-1.png");
    let ids = json!({ "ids": [asset] });
    assert_eq!(call(&app, "assets_trash", ids.clone()).await["assets"], 1);
    assert!(!file.exists());
    assert_eq!(
        call(&app, "assets_list", json!({ "trashed": true })).await["total"],
        1
    );
    let stored = app.queue().asset(asset).await.unwrap();
    assert!(app.asset_file(&stored).is_file(), "it is in the trash");
    let problems = refuse(&app, "assets_trash", ids.clone()).await;
    assert_eq!(problems.first.code, Code::Conflict);
    call(&app, "assets_restore", ids.clone()).await;
    assert!(file.is_file());

    let session = submitted.session.unwrap();
    let rename = json!({ "id": session, "title": "  Mine " });
    assert_eq!(call(&app, "sessions_rename", rename).await["title"], "Mine");
    let problems = refuse(
        &app,
        "sessions_rename",
        json!({ "id": session, "title": " " }),
    )
    .await;
    assert_eq!(problems.first.field.as_deref(), Some("title"));
    let created = call(
        &app,
        "sessions_create",
        json!({ "kind": "bulk", "title": "lists" }),
    )
    .await;
    assert_eq!(created["kind"], "bulk");
    let page = call(&app, "sessions_list", json!({ "kind": "bulk" })).await;
    assert_eq!(
        (&page["total"], &page["sessions"][0]["title"]),
        (&json!(1), &json!("lists"))
    );
    let input = json!({ "id": session, "with_assets": true });
    let removed = call(&app, "sessions_remove", input).await;
    assert_eq!(removed, json!({ "cancelled_jobs": 0, "trashed_assets": 1 }));
    let problems = refuse(&app, "sessions_remove", json!({ "id": session })).await;
    assert_eq!(problems.first.code, Code::NotFound);
    call(&app, "assets_purge", ids).await;
    let problems = refuse(&app, "assets_get", json!({ "id": asset })).await;
    assert_eq!(problems.first.code, Code::NotFound);
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_runs_again_and_differences_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = FixedCatalogue::new();
    let parts = Parts {
        catalogue: Arc::clone(&catalogue) as Arc<dyn Catalogue>,
        backends: vec![Arc::new(FakeBackend::new())],
        logs: LogBuffer::default(),
    };
    let app = App::open_with(Config::below(folder.path()).unwrap(), parts).unwrap();
    let submitted = submit(&app, small("a")).await;
    let first = finish(&app, submitted.batch).await[0].assets[0];
    let recipe = call(&app, "assets_get", json!({ "id": first })).await["recipe"].clone();
    let again = call(&app, "recipes_run", json!({ "recipe": recipe })).await;
    let again: Submitted = serde_json::from_value(again).unwrap();
    assert_eq!(again.notes, []);
    let second = finish(&app, again.batch).await[0].assets[0];
    let input = json!({ "asset": first, "against": second });
    let verification = call(&app, "recipes_verify", input).await;
    let part = |verification: &Value, name: &str| {
        let parts = verification["parts"].as_array().unwrap().clone();
        let found = parts.into_iter().find(|part| part["part"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {verification}"))
    };
    for name in [
        "build",
        "numerics",
        "model",
        "weights/transformer",
        "file",
        "plan/steps",
        "plan/seed",
        "pixels",
    ] {
        assert_eq!(part(&verification, name)["is_same"], true, "{name}");
    }

    // A recipe from anywhere is compared in the same way, without a file.
    let input = json!({ "recipe": recipe, "against": second });
    let loose = call(&app, "recipes_verify", input).await;
    assert_eq!(loose["is_same"], true, "{loose}");
    assert_eq!(part(&loose, "plan/seed")["is_same"], true);
    let names = loose["parts"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|part| part["part"].as_str().unwrap()).collect();
    assert!(
        !names.contains(&"file") && !names.contains(&"pixels"),
        "{names:?}"
    );
    for input in [json!({}), json!({ "asset": first, "recipe": recipe })] {
        let problems = refuse(&app, "recipes_verify", input).await;
        assert_eq!(problems.first.code, Code::InvalidInput);
        assert_eq!(problems.first.field.as_deref(), Some("asset"));
    }

    // Another seed gives other pixels; other weights are refused unless allowed.
    let other = submit(
        &app,
        json!({ "prompt": "a", "width": 256, "height": 256, "seed": 8 }),
    )
    .await;
    let other = finish(&app, other.batch).await[0].assets[0];
    let verification = call(
        &app,
        "recipes_verify",
        json!({ "asset": first, "against": other }),
    )
    .await;
    assert_eq!(verification["is_same"], false);
    assert_eq!(part(&verification, "plan/seed")["actual"], "8");
    let pixels = part(&verification, "pixels");
    assert_eq!(pixels["is_same"], false);
    let difference = pixels["actual"].as_str().unwrap();
    assert!(
        difference.contains("differ, by at most 1 of 255"),
        "{difference}"
    );
    catalogue
        .are_weights_new
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let problems = refuse(&app, "recipes_run", json!({ "recipe": recipe })).await;
    assert_eq!(problems.first.field.as_deref(), Some("weights/transformer"));
    let input = json!({ "recipe": recipe, "allow_differences": true });
    let allowed = call(&app, "recipes_run", input).await;
    assert_eq!(allowed["notes"].as_array().unwrap().len(), 1);
    std::fs::write(app.outputs_dir().join("a-1.png"), b"changed").unwrap();
    let verification = call(&app, "recipes_verify", json!({ "asset": first })).await;
    assert_eq!(part(&verification, "file")["is_same"], false);
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_measured_and_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path(), FakeBackend::new());
    let submitted = submit(
        &app,
        json!({ "prompt": "x", "copies": 2, "width": 256, "height": 256 }),
    )
    .await;
    let jobs = finish(&app, submitted.batch).await;
    call(&app, "assets_trash", json!({ "ids": [jobs[0].assets[0]] })).await;
    call(
        &app,
        "batches_contact_sheet",
        json!({ "id": submitted.batch }),
    )
    .await;
    std::fs::write(app.outputs_dir().join("mine.txt"), b"12345").unwrap();
    let work = app.job_folder(jobs[0].id);
    std::fs::create_dir_all(&work).unwrap();
    std::fs::write(work.join("preview.jpg"), b"123").unwrap();

    let status = call(&app, "cleanup_status", json!({})).await;
    assert_eq!(
        (&status["pictures"]["count"], &status["trash"]["count"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(status["unknown_files"], json!({ "count": 1, "bytes": 5 }));
    assert_eq!(status["missing_files"], 0);
    assert_eq!(status["caches"]["count"], 1);
    assert!(status["database"]["bytes"].as_u64().unwrap() > 0);
    let list = call(&app, "cleanup_list", json!({})).await;
    assert_eq!(list["folders"][0]["job"], json!(jobs[0].id));
    assert_eq!(list["folders"][0]["state"], "done");

    for input in [json!({}), json!({ "hours": 1, "all": true })] {
        assert_eq!(
            refuse(&app, "cleanup_run", input).await.first.code,
            Code::InvalidInput
        );
    }
    let young = call(&app, "cleanup_run", json!({ "hours": 1 })).await;
    assert_eq!(
        (&young["work"]["count"], &young["trash"]["count"]),
        (&json!(0), &json!(0))
    );
    let dry = call(&app, "cleanup_run", json!({ "all": true, "dry_run": true })).await;
    assert!(work.exists());
    let wet = call(&app, "cleanup_run", json!({ "all": true })).await;
    assert!(!work.exists());
    for part in ["work", "trash", "caches"] {
        assert_eq!(dry[part], wet[part], "{part}");
        assert!(wet[part]["count"].as_u64().unwrap() > 0, "{part}");
    }
    assert!(
        app.outputs_dir().join("mine.txt").is_file(),
        "files of others stay"
    );
    let status = call(&app, "cleanup_status", json!({})).await;
    assert_eq!(
        (&status["pictures"]["count"], &status["trash"]["count"]),
        (&json!(1), &json!(0))
    );
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_draw_from_wildcards_and_say_what_they_become() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path(), FakeBackend::new().with_limit(8));
    let list = json!({ "name": "animals/birds", "text": "owl\nhen\n" });
    assert_eq!(call(&app, "wildcards_save", list).await["options"], 2);
    let prompt = "a {red|blue} <wildcard:animals/birds>";

    let input = json!({ "prompt": prompt, "expansion": "combinations", "limit": 3 });
    let preview = call(&app, "prompts_preview", input).await;
    assert_eq!(
        (&preview["total"], &preview["is_plain"]),
        (&json!(4), &json!(false))
    );
    let texts: Vec<&str> = preview["expansions"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|text| text["prompt"].as_str())
        .collect();
    assert_eq!(texts, ["a red owl", "a red hen", "a blue owl"]);

    // A preview with a seed shows the very words that its pictures get.
    let input = json!({ "prompt": prompt, "seed": 7, "limit": 6 });
    let preview = call(&app, "prompts_preview", input).await;
    let mut request = small(prompt);
    request["copies"] = json!(6);
    let submitted = submit(&app, request).await;
    let jobs = finish(&app, submitted.batch).await;
    for (job, shown) in jobs.iter().zip(preview["expansions"].as_array().unwrap()) {
        assert_eq!(job.plan.prompt, shown["prompt"]);
        assert_eq!(json!(job.plan.seed), shown["seed"]);
        assert_eq!(job.plan.template.as_ref().unwrap().prompt, prompt);
        // The file says what was painted, and nothing of where the words came from.
        let asset = app.queue().asset(job.assets[0]).await.unwrap();
        assert_eq!(asset.recipe.plan.template, job.plan.template);
        assert_eq!(asset.recipe.for_file().plan.template, None);
        let run = json!({ "recipe": asset.recipe, "output_name": "again-{seed}" });
        let again: Submitted =
            serde_json::from_value(call(&app, "recipes_run", run).await).unwrap();
        assert_eq!(
            finish(&app, again.batch).await[0].plan.prompt,
            job.plan.prompt
        );
    }

    let mut request = small(prompt);
    request["expansion"] = json!("combinations");
    assert_eq!(
        call(&app, "jobs_preflight", request.clone()).await["pictures"],
        4
    );
    assert_eq!(submit(&app, request).await.pictures, 4);

    let mistake = json!({ "prompt": "x\n{a|b", "negative_prompt": "<wildcard:animals/bird>" });
    let preview = call(&app, "prompts_preview", mistake.clone()).await;
    let problems = preview["problems"].as_array().unwrap();
    assert_eq!(
        (&problems[0]["line"], &problems[0]["column"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(problems[1]["field"], "negative_prompt");
    assert!(
        problems[1]["hint"]
            .as_str()
            .unwrap()
            .contains("animals/birds")
    );
    let refused = refuse(&app, "jobs_submit", json!({ "prompt": "x\n{a|b" })).await;
    assert_eq!(
        refused.first.message,
        "line 2, column 1: the choice that begins here is not closed"
    );

    // In a list, columns come first; plain choices are combined, the rest is drawn.
    let rows = "prompt,animal\n\"a {red|blue} {animal} {2$$x|{animal}} {{y}}\",fox\n";
    let input = json!({ "text": rows, "defaults": { "seed": 3 } });
    let check = call(&app, "bulk_check", input.clone()).await;
    assert_eq!(check["problems"], json!([]));
    assert_eq!(
        (&check["total_rows"], &check["pictures"]),
        (&json!(2), &json!(2))
    );
    let listed: Submitted = serde_json::from_value(call(&app, "bulk_submit", input).await).unwrap();
    let prompts: Vec<String> = finish(&app, listed.batch)
        .await
        .into_iter()
        .map(|job| job.plan.prompt)
        .collect();
    assert_eq!(prompts, ["a red fox x, fox {y}", "a blue fox x, fox {y}"]);
    let input = json!({
        "text": "a <wildcard:animals/birds> {x|y}\n<wildcard:nothing>\n",
        "defaults": { "expansion": "combinations" }
    });
    let check = call(&app, "bulk_check", input).await;
    assert_eq!(check["problems"][0]["line"], 2);
    assert_eq!(check["total_rows"], 3);

    let gone = call(&app, "wildcards_remove", json!({ "name": "animals/birds" })).await;
    assert_eq!(gone["text"], "owl\nhen\n");
    refuse(&app, "jobs_submit", small(prompt)).await;
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_checked_and_reading_commands_read() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path(), FakeBackend::new());
    let mut events = app.events();
    let bad = json!({ "default_copies": 0, "trash_days": 31, "output_template": "{sed}", "default_model": "fst" });
    let problems = refuse(&app, "settings_update", bad).await;
    let fields: Vec<_> = problems
        .problems
        .iter()
        .filter_map(|p| p.field.as_deref())
        .collect();
    assert_eq!(
        fields,
        [
            "default_copies",
            "trash_days",
            "output_template",
            "default_model"
        ]
    );
    let good = json!({ "default_copies": 2, "output_template": "{seed}", "format": "webp" });
    call(&app, "settings_update", good).await;
    until(&mut events, |event| *event == Event::SettingsChanged).await;
    let input = json!({ "prompt": "x", "seed": 5 });
    let preflight = call(&app, "jobs_preflight", input).await;
    assert_eq!(preflight["outputs"], json!(["5", "6"]));
    let reset = call(&app, "settings_update", json!({ "output_template": "" })).await;
    assert_eq!(reset["output_template"], settings::DEFAULT_TEMPLATE);
    assert_eq!(reset["default_copies"], 2);

    let plain = |command: &&commands::Command| {
        command.method == Method::Get && command.path_parameters().next().is_none()
    };
    for command in COMMANDS.iter().filter(plain) {
        let empty = serde_json::to_value(NoInput {}).unwrap();
        let output = call(&app, command.name, Value::Null).await;
        assert!(output.is_object(), "{command:?}");
        call(&app, command.name, empty).await;
    }
    let system = call(&app, "system_info", json!({})).await;
    assert!(system["memory"]["total"].as_u64().unwrap() > 0);
    assert!(system["cpu"]["cores"].as_u64().unwrap() > 0);
    assert_eq!(system["folders"].as_array().unwrap().len(), 3);
    let models = call(&app, "models_list", json!({})).await;
    assert_eq!(models["default"], "fast");
    assert_eq!(
        call(&app, "models_get", json!({ "id": "full" })).await["name"],
        "FULL"
    );
    let problems = refuse(&app, "models_get", json!({ "id": "nope" })).await;
    assert_eq!(problems.first.code, Code::NotFound);
    app.shutdown().await;
}

#[test]
fn this_machines_own_parts_fit_together() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = Config::below(folder.path()).unwrap();
        let app = App::open(config, LogBuffer::default()).unwrap();
        let models = call(&app, "models_list", json!({})).await;
        assert_eq!(models["default"], "starter");
        let preflight = call(&app, "jobs_preflight", json!({ "prompt": "a lighthouse" })).await;
        assert_eq!(preflight["problems"], json!([]));
        assert!(preflight["estimate"]["memory_needed"].as_u64().unwrap() > 1 << 20);
        let system = call(&app, "system_info", json!({})).await;
        assert_eq!(
            system["engine"]["state"], "stopped",
            "nothing was asked of it"
        );
        app.shutdown().await;
    });
}
