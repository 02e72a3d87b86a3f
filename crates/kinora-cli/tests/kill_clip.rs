//! A clip is not lost either: `kill -9` on the engine or on the whole program at twenty moments, from
//! the first step to the last byte of the file. Every clip is the file of a run that nobody broke.
//!
//! Needs the program `kinora-engine` beside `kinora`: `cargo test --workspace` builds both.

mod server;

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde_json::{Value, json};

use server::{Moments, Server};

const KILLS: usize = 20;

/// Puts the tiny model of a recorded case among the models.
fn install(models: &Path) {
    let case = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tools/goldens/cases/wan22_t2v_a14b/model");
    copy_folder(&case, &models.join("tiny-clips"));
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

async fn queue(server: &Server, model: &str) {
    let request = json!({
        "prompt": "waves crashing at sunset", "model": model, "seed": 7, "steps": 40,
        "width": 128, "height": 128, "video": { "frames": 33 },
    });
    server.post("/api/jobs", &request).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clip_survives_twenty_kills() {
    let data = tempfile::tempdir().unwrap();
    install(&data.path().join("models"));
    let mut moments = Moments(20_261_122);
    let mut server = Server::start(data.path()).await;
    let models = server.get("/api/models").await;
    let model = models["models"]
        .as_array()
        .unwrap()
        .iter()
        .find(|model| model["name"] == "tiny-clips")
        .and_then(|model| model["id"].as_str())
        .unwrap()
        .to_owned();
    queue(&server, &model).await;
    server.wait_until_idle().await;
    assert_eq!(server.jobs("done").await.len(), 1);

    let (mut engine_kills, mut app_kills, mut met) = (0, 0, BTreeMap::<String, usize>::new());
    while engine_kills + app_kills < KILLS {
        if server.jobs("queued,running").await.is_empty() {
            queue(&server, &model).await;
        }
        let running = server.wait_for_running().await;
        tokio::time::sleep(Duration::from_millis(moments.next(900))).await;
        let unfinished = server.jobs("running").await;
        let stage = (unfinished.first())
            .and_then(|job| job["progress"]["stage"].as_str())
            .unwrap_or("none");
        *met.entry(stage.to_owned()).or_default() += 1;
        // The engine may die once under a job; the second time it is the job that is to blame.
        let is_engines_turn = moments.next(3) == 0 && running.iter().all(|job| job["deaths"] == 0);
        if is_engines_turn && let Some(pid) = server.engine_pid().await {
            server::kill(pid);
            engine_kills += 1;
        } else {
            server = server.kill_and_restart().await;
            app_kills += 1;
        }
    }
    server.wait_until_idle().await;
    let jobs = server.jobs("").await;
    eprintln!(
        "killed the engine {engine_kills} and the program {app_kills} times over {} clips, in the \
         stages {met:?}",
        jobs.len()
    );
    let page = server.get("/api/assets?limit=500").await;
    let assets = page["assets"].as_array().unwrap();
    assert_eq!(assets.len(), jobs.len());
    let hashes: Vec<&Value> = assets.iter().map(|asset| &asset["sha256"]).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    for job in &jobs {
        assert_eq!(job["state"], "done", "{job:#}");
        assert_eq!(job["assets"].as_array().unwrap().len(), 1, "{job:#}");
    }
    server.stop().await;
}
