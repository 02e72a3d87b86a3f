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
mod jobs;
mod library;
mod lists;
mod prompts;

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
