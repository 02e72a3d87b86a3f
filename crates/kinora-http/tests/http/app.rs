//! The real application behind the server, with a scripted backend: from a request to the bytes of
//! its picture, and every operation of the API document.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::StreamExt;
use kinora_app::{
    app::{App, Parts},
    config::Config,
    logs::LogBuffer,
    models::Catalogue,
    resolve::Candidate,
};
use kinora_core::{
    Capabilities, Family, IntRange, Mode, Model, ModelDefaults, ModelId, ModelSource, Plan,
    PlannedModel, Sampler, Schedule, Size, SizeRule, WeightFile,
};
use kinora_http::{Options, Running, serve};
use kinora_testkit::FakeBackend;
use reqwest::{Client, Response};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::schema::Api;

/// One model that is always there, and a giant that fits into no machine.
struct OneModel(Arc<Vec<Candidate>>);

impl Catalogue for OneModel {
    fn candidates(&self) -> Arc<Vec<Candidate>> {
        Arc::clone(&self.0)
    }

    fn refresh(&self) -> bool {
        false
    }

    fn memory_needed(&self, plan: &Plan, _: u64) -> Option<u64> {
        let is_giant = plan.model.id.as_str() == "giant";
        Some(if is_giant { 1 << 60 } else { 1 << 10 })
    }

    fn loras(&self) -> Vec<kinora_app::models::LoraEntry> {
        Vec::new()
    }

    fn components(
        &self,
        _: &ModelId,
    ) -> Result<Vec<kinora_app::models::ComponentChoices>, kinora_core::Problem> {
        Ok(Vec::new())
    }

    fn with_components(
        &self,
        model: &ModelId,
        _: &std::collections::BTreeMap<String, String>,
    ) -> Result<PlannedModel, kinora_core::Problem> {
        Err(kinora_core::Problem::new(
            kinora_core::Code::NotFound,
            format!("{model} has no such part"),
            "",
        ))
    }

    fn lora(
        &self,
        _: &ModelId,
        name: &str,
    ) -> Result<kinora_core::PlannedLora, kinora_core::Problem> {
        Err(kinora_core::Problem::new(
            kinora_core::Code::NotFound,
            format!("no LoRA {name}"),
            "",
        ))
    }

    fn check_lora(
        &self,
        _: &ModelId,
        name: &str,
    ) -> Result<kinora_app::models::LoraReport, kinora_core::Problem> {
        Err(kinora_core::Problem::new(
            kinora_core::Code::NotFound,
            format!("no LoRA {name}"),
            "",
        ))
    }

    fn hash_weights(
        &self,
        model: &PlannedModel,
    ) -> Result<Vec<WeightFile>, kinora_app::error::Error> {
        Ok(model.weights.clone())
    }
}

fn one_model() -> OneModel {
    let weights: Vec<WeightFile> = ["transformer", "vae"]
        .map(|component| WeightFile {
            component: component.into(),
            file: format!("{component}.safetensors"),
            bytes: 1000,
            sha256: Some("ab".repeat(32)),
        })
        .into();
    let id = ModelId::new("starter");
    let model = Model {
        id: id.clone(),
        name: "Starter".into(),
        family: Family::Flux,
        variant: "schnell".into(),
        description: "Paints.".into(),
        category: "fast".into(),
        tags: vec![],
        source: ModelSource::BuiltIn,
        capabilities: Capabilities {
            cfg_always: false,
            strength: None,
            more_images: 0,
            video: None,
            loras: false,
            modes: vec![Mode::TextToImage],
            size: SizeRule {
                min: 64,
                max: 512,
                multiple: 16,
                default: Size {
                    width: 64,
                    height: 64,
                },
                presets: vec![],
            },
            steps: IntRange {
                min: 1,
                max: 8,
                default: 4,
            },
            guidance: None,
            true_cfg: None,
            step_cache: None,
            copies: IntRange {
                min: 1,
                max: 16,
                default: 1,
            },
            prompt_chars: 2000,
            prompt_weights: false,
            prompt_schedule: false,
            text_tokens: 64,
            samplers: vec![Sampler::Euler],
            schedules: vec![Schedule::FlowMatch],
        },
        defaults: ModelDefaults {
            width: 64,
            height: 64,
            steps: 4,
            guidance: None,
        },
        is_installed: true,
        fault: None,
        bytes: 2000,
        memory_bytes: 2000,
        approval_url: None,
        example_prompts: vec![],
    };
    let planned = PlannedModel {
        components: Default::default(),
        parts: Default::default(),
        id,
        name: "Starter".into(),
        family: Family::Flux,
        variant: "schnell".into(),
        root: "/models".into(),
        weights,
    };
    let giant = Candidate {
        model: Model {
            id: ModelId::new("giant"),
            ..model.clone()
        },
        planned: Some(PlannedModel {
            id: ModelId::new("giant"),
            ..planned.clone()
        }),
    };
    let starter = Candidate {
        model,
        planned: Some(planned),
    };
    OneModel(Arc::new(vec![starter, giant]))
}

struct Studio {
    app: Arc<App>,
    server: Running,
    client: Client,
    api: Api,
    folder: tempfile::TempDir,
}

impl Studio {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::below(folder.path()).unwrap();
        let parts = Parts {
            catalogue: Arc::new(one_model()),
            backends: vec![Arc::new(FakeBackend::new())],
            logs: LogBuffer::default(),
        };
        let app = App::open_with(config, parts).unwrap();
        let server = serve(Arc::clone(&app), Options::default()).await.unwrap();
        Self {
            app,
            server,
            client: Client::new(),
            api: Api::committed(),
            folder,
        }
    }

    async fn get(&self, path: &str) -> Response {
        self.client
            .get(format!("{}{path}", self.server.url()))
            .send()
            .await
            .unwrap()
    }

    /// Calls an operation as the document describes it, and holds the answer against it.
    async fn call(&self, id: &str, input: Value) -> (u16, Value) {
        let (operation, path) = self.api.operation(id);
        let (method, mut route) = (self.method(id), path.clone());
        let mut members: Map<String, Value> = input.as_object().unwrap().clone();
        let mut query = Vec::new();
        let plain = |value: &Value| match value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            let Some(value) = members.remove(name) else {
                continue;
            };
            if parameter["in"] == "path" {
                let segment = plain(&value).replace('/', "%2F");
                route = route.replace(&format!("{{{name}}}"), &segment);
            } else {
                query.push((name.to_owned(), plain(&value)));
            }
        }
        let mut request = self
            .client
            .request(method, format!("{}{route}", self.server.url()))
            .query(&query);
        if operation["requestBody"].is_object() {
            request = request.json(&members);
        } else {
            assert!(members.is_empty(), "{id} does not take {members:?}");
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap();
        let schema = if status == 200 {
            operation["responses"]["200"]["content"]["application/json"]["schema"].clone()
        } else {
            json!({ "$ref": "#/components/schemas/Problems" })
        };
        assert_eq!(
            self.api.differences(&body, &schema),
            Vec::<String>::new(),
            "{id}: {status} {body}"
        );
        (status, body)
    }

    fn method(&self, id: &str) -> reqwest::Method {
        let found = self
            .api
            .operations()
            .find(|(_, _, operation)| operation["operationId"] == id);
        found.unwrap().1.to_uppercase().parse().unwrap()
    }

    async fn done(&self, id: &str, input: Value) -> Value {
        let (status, body) = self.call(id, input).await;
        assert_eq!(status, 200, "{id}: {body}");
        body
    }

    /// Queues pictures and listens until every one is done; the assets' ids.
    async fn make(&self, request: Value) -> (Value, Vec<String>) {
        let url = format!("{}/ws", self.server.url().replace("http", "ws"));
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let submitted = self.done("jobs_submit", request).await;
        let mut waiting: BTreeSet<String> = submitted["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].as_str().unwrap().to_owned())
            .collect();
        let event_schema = json!({ "$ref": "#/components/schemas/Event" });
        let (mut assets, mut kinds) = (Vec::new(), BTreeSet::new());
        while !waiting.is_empty() {
            let message = socket.next().await.unwrap().unwrap();
            let Ok(text) = message.into_text() else {
                continue;
            };
            if text.is_empty() {
                continue;
            }
            let event: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                self.api.differences(&event, &event_schema),
                Vec::<String>::new()
            );
            kinds.insert(event["type"].as_str().unwrap().to_owned());
            if event["type"] == "job_changed" && event["job"]["state"] == "done" {
                let job = event["job"]["id"].as_str().unwrap();
                assert!(waiting.remove(job));
                assets.extend(
                    event["job"]["assets"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|id| id.as_str().unwrap().to_owned()),
                );
            }
        }
        for kind in ["job_changed", "job_progress"] {
            assert!(kinds.contains(kind), "{kinds:?}");
        }
        (submitted, assets)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_becomes_pictures_that_are_served_in_parts() {
    let studio = Studio::open().await;
    let (submitted, assets) = studio
        .make(json!({"prompt": "a fox in the snow", "copies": 2, "seed": 77}))
        .await;
    assert_eq!(assets.len(), 2);
    let asset = studio.done("assets_get", json!({"id": assets[0]})).await;
    let url = format!("/media/assets/{}", assets[0]);
    let whole = studio.get(&url).await;
    assert_eq!(
        whole.headers()["etag"],
        format!("\"{}\"", asset["sha256"].as_str().unwrap()).as_str()
    );
    assert_eq!(whole.headers()["content-type"], "image/png");
    let whole = whole.bytes().await.unwrap();
    let digest: String = Sha256::digest(&whole)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(asset["sha256"], digest.as_str());
    let part = studio
        .client
        .get(format!("{}{url}", studio.server.url()))
        .header("range", "bytes=8-15")
        .send()
        .await
        .unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), whole[8..16]);

    // Thumbnails are made once and kept.
    for size in [256, 512] {
        let url = format!("/media/thumbnails/{}?size={size}", assets[0]);
        let first = studio.get(&url).await;
        assert_eq!(
            (first.status().as_u16(), &first.headers()["content-type"]),
            (200, &"image/jpeg".parse().unwrap())
        );
        let first = first.bytes().await.unwrap();
        assert_eq!(
            kinora_media::probe(&first).unwrap().width,
            64,
            "small pictures stay as they are"
        );
        assert_eq!(studio.get(&url).await.bytes().await.unwrap(), first);
    }
    let kept = std::fs::read_dir(studio.app.config().thumbnails_dir())
        .unwrap()
        .count();
    assert_eq!(kept, 2, "no half-written files are left");

    // The contact sheet is there once it was drawn.
    let batch = submitted["batch"].as_str().unwrap();
    assert_eq!(
        studio.get(&format!("/media/sheets/{batch}")).await.status(),
        404
    );
    let sheet = studio
        .done("batches_contact_sheet", json!({"id": batch}))
        .await;
    assert_eq!(sheet["pictures"], 2);
    let drawn = studio
        .get(sheet["url"].as_str().unwrap())
        .await
        .bytes()
        .await
        .unwrap();
    assert_eq!(
        u64::from(kinora_media::probe(&drawn).unwrap().width),
        sheet["width"].as_u64().unwrap()
    );

    // Previews are whatever the job's folder holds.
    let job = submitted["jobs"][0]["id"].as_str().unwrap();
    let preview = format!("/media/previews/{job}?v=1");
    assert_eq!(studio.get(&preview).await.status(), 404);
    let folder = studio.app.job_folder(job.parse().unwrap());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("preview.jpg"),
        kinora_media::encode_jpeg(&[9; 3], 1, 1, 80).unwrap(),
    )
    .unwrap();
    assert_eq!(studio.get(&preview).await.status(), 200);
    // A clip's moves; where there is nothing that moves, the still one is shown.
    let moving = format!("{preview}&moving=1");
    for (is_there, media_type) in [(false, "image/jpeg"), (true, "image/webp")] {
        if is_there {
            let rate = kinora_core::FrameRate::whole(4);
            let webp = kinora_media::encode_animation(&[&[9; 3]], (1, 1), rate, 80).unwrap();
            std::fs::write(folder.join("preview.webp"), webp).unwrap();
        }
        let shown = studio.get(&moving).await;
        assert_eq!(shown.headers()["content-type"], media_type);
    }

    // A file that leads out of the folder is not followed.
    let file = studio
        .app
        .outputs_dir()
        .join(asset["path"].as_str().unwrap());
    std::fs::remove_file(&file).unwrap();
    assert_eq!(studio.get(&url).await.status(), 404);
    let secret = studio.folder.path().join("secret");
    std::fs::write(&secret, "root:").unwrap();
    std::os::unix::fs::symlink(&secret, &file).unwrap();
    assert_eq!(studio.get(&url).await.status(), 403);
    studio.app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_handed_in_and_shown() {
    let studio = Studio::open().await;
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../kinora-media/tests/fixtures/a1111.png"
    );
    let bytes = std::fs::read(fixture).unwrap();
    let url = format!("{}/api/inputs", studio.server.url());
    let send = |body: Vec<u8>| studio.client.post(&url).body(body).send();
    let answer = send(bytes.clone()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let input: Value = answer.json().await.unwrap();
    let digest = input["reference"].as_str().unwrap();
    let digest = digest.strip_prefix("input:").unwrap();
    let shown = format!("{}/media/inputs/{digest}", studio.server.url());
    let shown = studio.client.get(shown).send().await.unwrap();
    assert_eq!(shown.headers()["content-type"], "image/png");
    assert_eq!(shown.bytes().await.unwrap(), bytes);
    // What is no picture is refused, and nothing is read by a path.
    let answer = send(b"#!/bin/sh".to_vec()).await.unwrap();
    assert_eq!(answer.status(), 415);
    for name in ["..%2f..%2fetc%2fpasswd", "a", &"0".repeat(64)] {
        let url = format!("{}/media/inputs/{name}", studio.server.url());
        let status = studio.client.get(url).send().await.unwrap().status();
        assert!(status.is_client_error(), "{name}: {status}");
    }
    let request = json!({ "prompt": "a hill", "image": "/etc/passwd" });
    let url = format!("{}/api/jobs", studio.server.url());
    let answer = studio.client.post(url).json(&request).send().await.unwrap();
    assert_eq!(answer.status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_tell_their_settings_when_they_are_uploaded() {
    let studio = Studio::open().await;
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../kinora-media/tests/fixtures/a1111.png"
    );
    let url = format!("{}/api/metadata", studio.server.url());
    let answer = studio
        .client
        .post(&url)
        .body(std::fs::read(fixture).unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let reading: Value = answer.json().await.unwrap();
    let schema = json!({ "$ref": "#/components/schemas/MetadataReading" });
    assert_eq!(
        studio.api.differences(&reading, &schema),
        Vec::<String>::new()
    );
    assert_eq!(reading["source"], "a1111");
    assert_eq!(reading["request"]["seed"], 965_400_086);
    let answer = studio
        .client
        .post(&url)
        .body("no picture")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 415);
    studio.app.shutdown().await;
}

/// Every command of the document, asked of the real application.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_with_both_numbers_and_what_does() {
    let studio = Studio::open().await;
    let input = json!({"prompt": "x", "model": "giant"});
    let (status, body) = studio.call("jobs_submit", input.clone()).await;
    assert_eq!((status, &body["code"]), (507, &json!("out_of_memory")));
    let message = body["message"].as_str().unwrap();
    assert!(
        message.contains("needs 1048576.0 TiB of memory") && message.contains("can give"),
        "{message}"
    );
    let hint = body["hint"].as_str().unwrap();
    assert!(hint.ends_with("These models fit: starter."), "{hint}");
    let preflight = studio.done("jobs_preflight", input).await;
    assert_eq!(preflight["problems"][0]["code"], "out_of_memory");
    let queue = studio.done("queue_status", json!({})).await;
    assert_eq!(queue["counts"]["queued"], 0);
    studio.app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_answers_as_documented() {
    let studio = Studio::open().await;
    let (submitted, assets) = studio.make(json!({"prompt": "a fox", "copies": 3})).await;
    let (job, batch, asset) = (&submitted["jobs"][0]["id"], &submitted["batch"], &assets[0]);
    let other = &assets[1];
    // A job that waits can be moved about, and a cancelled one tried again.
    studio.done("queue_pause", json!({})).await;
    let waiting = studio
        .done("jobs_submit", json!({"prompt": "a hill", "copies": 2}))
        .await;
    let (first, second) = (&waiting["jobs"][0]["id"], &waiting["jobs"][1]["id"]);
    studio.done("jobs_pause", json!({"id": first})).await;
    studio.done("jobs_resume", json!({"id": first})).await;
    studio
        .done(
            "jobs_set_priority",
            json!({"id": first, "priority": "bulk"}),
        )
        .await;
    studio
        .done(
            "jobs_set_priority",
            json!({"id": second, "priority": "bulk"}),
        )
        .await;
    studio
        .done("jobs_move", json!({"id": second, "before": first}))
        .await;
    let cancelled = studio.done("jobs_cancel", json!({"id": first})).await;
    assert_eq!(cancelled["state"], "cancelled");
    let again = studio
        .done("jobs_retry", json!({"id": first, "with_fix": true}))
        .await;
    assert_eq!(again["pictures"], 1);
    let list = json!({"text": "prompt,seed\na barn,1\na mill,2\n", "name": "two.csv"});
    let recipe = studio.done("assets_get", json!({"id": asset})).await["recipe"].clone();
    let session = studio
        .done("sessions_create", json!({"title": "New"}))
        .await["id"]
        .clone();
    let nobody = "01900000-0000-7000-8000-00000000dead";
    // What has to work, and what has to be refused with which status.
    let steps: Vec<(&str, Value, u16)> = vec![
        ("system_info", json!({}), 200),
        ("system_logs", json!({"lines": 5}), 200),
        ("capabilities_get", json!({}), 200),
        ("models_list", json!({}), 200),
        ("models_get", json!({"id": "starter"}), 200),
        ("models_get", json!({"id": "nothing"}), 404),
        ("models_components", json!({"id": "starter"}), 200),
        ("loras_list", json!({}), 200),
        (
            "loras_check",
            json!({"model": "starter", "name": "ink"}),
            404,
        ),
        ("jobs_preflight", json!({"prompt": "x", "width": 100}), 200),
        ("jobs_submit", json!({"prompt": ""}), 400),
        ("jobs_submit", json!({"prompt": "x", "nonsense": 1}), 400),
        ("jobs_submit", json!({"prompt": "x", "model": "giant"}), 507),
        (
            "jobs_list",
            json!({"states": "done,failed", "limit": 2}),
            200,
        ),
        ("jobs_list", json!({"limit": "many"}), 400),
        ("jobs_get", json!({"id": job}), 200),
        ("jobs_get", json!({"id": nobody}), 404),
        ("jobs_cancel", json!({"id": job}), 409),
        ("jobs_pause", json!({"id": job}), 409),
        ("jobs_resume", json!({"id": job}), 409),
        ("jobs_move", json!({"id": job, "before": null}), 409),
        (
            "jobs_set_priority",
            json!({"id": job, "priority": "bulk"}),
            409,
        ),
        ("jobs_retry", json!({"id": job, "with_fix": false}), 409),
        ("queue_status", json!({}), 200),
        ("queue_pause", json!({}), 200),
        ("queue_cancel_all", json!({}), 200),
        ("queue_retry_failed", json!({}), 200),
        ("queue_resume", json!({}), 200),
        (
            "wildcards_save",
            json!({"name": "animals/small birds", "text": "owl\n2::hen\n"}),
            200,
        ),
        (
            "wildcards_save",
            json!({"name": "animals/small birds", "text": "x", "only_new": true}),
            409,
        ),
        (
            "wildcards_save",
            json!({"name": "../x", "text": "owl"}),
            400,
        ),
        ("wildcards_save", json!({"name": "x", "text": "{a|"}), 400),
        ("wildcards_list", json!({}), 200),
        ("wildcards_get", json!({"name": "animals/small birds"}), 200),
        ("wildcards_get", json!({"name": "nothing"}), 404),
        (
            "prompts_preview",
            json!({"prompt": "a <wildcard:animals/small birds>", "expansion": "combinations"}),
            200,
        ),
        ("prompts_preview", json!({"prompt": "{a|"}), 200),
        ("jobs_submit", json!({"prompt": "<wildcard:nothing>"}), 400),
        (
            "wildcards_remove",
            json!({"name": "animals/small birds"}),
            200,
        ),
        (
            "wildcards_remove",
            json!({"name": "animals/small birds"}),
            404,
        ),
        ("bulk_check", list.clone(), 200),
        ("bulk_submit", list, 200),
        ("batches_list", json!({"limit": 1}), 200),
        ("batches_get", json!({"id": batch}), 200),
        ("batches_table", json!({"id": batch, "format": "tsv"}), 200),
        ("batches_contact_sheet", json!({"id": batch}), 200),
        (
            "assets_list",
            json!({"search": "fox", "sort": "oldest"}),
            200,
        ),
        ("assets_get", json!({"id": asset}), 200),
        ("assets_relatives", json!({"id": asset}), 200),
        ("clips_animate", json!({"images": []}), 400),
        (
            "clips_animate",
            json!({"images": [format!("asset:{asset}")], "model": "starter"}),
            400,
        ),
        ("clips_make_full", json!({"ids": [asset]}), 409),
        ("recipes_verify", json!({"asset": asset}), 200),
        ("recipes_verify", json!({"recipe": recipe}), 200),
        (
            "recipes_verify",
            json!({"recipe": recipe, "against": asset}),
            200,
        ),
        ("recipes_verify", json!({}), 400),
        (
            "recipes_verify",
            json!({"asset": asset, "recipe": recipe}),
            400,
        ),
        ("recipes_verify", json!({"recipe": {"kinora": "1"}}), 400),
        ("recipes_run", json!({"recipe": recipe}), 200),
        ("assets_trash", json!({"ids": [asset]}), 200),
        ("assets_restore", json!({"ids": [asset]}), 200),
        ("assets_purge", json!({"ids": [asset]}), 409),
        ("assets_trash", json!({"ids": [other]}), 200),
        ("assets_purge", json!({"ids": [other]}), 200),
        ("sessions_list", json!({}), 200),
        ("sessions_create", json!({}), 200),
        (
            "sessions_rename",
            json!({"id": session, "title": "Old"}),
            200,
        ),
        (
            "sessions_remove",
            json!({"id": session, "with_assets": true}),
            200,
        ),
        ("settings_get", json!({}), 200),
        ("settings_update", json!({}), 200),
        ("config_show", json!({}), 200),
        ("cleanup_status", json!({}), 200),
        ("cleanup_list", json!({}), 200),
        ("cleanup_run", json!({"all": true, "dry_run": true}), 200),
        ("jobs_remove", json!({"id": job}), 200),
        ("queue_clear_finished", json!({}), 200),
    ];
    let covered: BTreeSet<&str> = steps.iter().map(|(id, ..)| *id).collect();
    let all: BTreeSet<&str> = kinora_app::commands::COMMANDS
        .iter()
        .map(|command| command.name)
        .collect();
    assert_eq!(covered, all, "a new command gets a line here");
    let mut wrong = Vec::new();
    for (id, input, expected) in steps {
        let (status, body) = studio.call(id, input.clone()).await;
        if status != expected {
            wrong.push(format!("{id} {input}: {status}, not {expected}: {body}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    studio.app.shutdown().await;
}
