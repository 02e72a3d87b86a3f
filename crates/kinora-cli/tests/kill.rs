//! Nothing is lost: forty jobs, and `kill -9` on the engine or on the whole program again and
//! again while they run. In the end there are forty pictures, none twice, and no stray file.
//!
//! Needs the program `kinora-engine` beside `kinora`: `cargo test --workspace` builds both.

mod server;

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use server::{Moments, Server};

const JOBS: usize = 40;
const KILLS: usize = 60;
/// From the start of the program until its engine works on a job again, at most.
const RESTART_LIMIT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_jobs_survive_sixty_kills() {
    let data = tempfile::tempdir().unwrap();
    let mut moments = Moments(20_261_121);
    let mut server = Server::start(data.path()).await;
    let list: String = (0..JOBS)
        .map(|index| {
            format!(
                "{{\"prompt\": \"a red house by the sea, picture {index}\", \"seed\": {index}}}\n"
            )
        })
        .collect();
    let defaults = json!({ "width": 128, "height": 128, "steps": 24 });
    let input =
        json!({ "text": list, "name": "kill.jsonl", "format": "jsonl", "defaults": defaults });
    let submitted = server.post("/api/bulk", &input).await;
    assert_eq!(submitted["pictures"], JOBS);

    let (mut engine_kills, mut app_kills) = (0, 0);
    let mut restarts = Vec::new();
    while engine_kills + app_kills < KILLS {
        if server.jobs("queued,running").await.is_empty() {
            // Faster than expected: more of the same, so that every kill meets a running job.
            let more = json!({ "prompt": "a boat at night", "copies": 1, "width": 128, "height": 128, "steps": 24 });
            server.post("/api/jobs", &more).await;
        }
        let running = server.wait_for_running().await;
        tokio::time::sleep(Duration::from_millis(moments.next(350))).await;
        // The engine may die once under a job; the second time it is the job that is to blame, and
        // that rule has a test of its own.
        let is_engines_turn = moments.next(3) == 0 && running.iter().all(|job| job["deaths"] == 0);
        if is_engines_turn && let Some(pid) = server.engine_pid().await {
            server::kill(pid);
            engine_kills += 1;
        } else {
            server = server.kill_and_restart().await;
            if server.wait_for_work().await {
                restarts.push(server.age());
            }
            app_kills += 1;
        }
    }
    restarts.sort_unstable();
    let (median, slowest) = (restarts[restarts.len() / 2], restarts[restarts.len() - 1]);
    eprintln!(
        "killed the engine {engine_kills} and the program {app_kills} times; from the start of the \
         program until a job runs again: median {median:?}, slowest {slowest:?} of {}",
        restarts.len()
    );
    assert!(slowest <= RESTART_LIMIT, "restarts took {restarts:?}");

    server.wait_until_idle().await;
    let jobs = server.jobs("").await;
    assert!(jobs.len() >= JOBS);
    for job in &jobs {
        assert_eq!(job["state"], "done", "{job:#}");
        assert_eq!(job["assets"].as_array().unwrap().len(), 1, "{job:#}");
    }
    check_outputs(&server, jobs.len(), &data.path().join("outputs")).await;
    server.stop().await;
}

/// Every asset has its file, every file its asset, and no two are of one job.
async fn check_outputs(server: &Server, jobs: usize, folder: &Path) {
    let page = server.get("/api/assets?limit=500").await;
    let assets = page["assets"].as_array().unwrap();
    assert_eq!(assets.len(), jobs);
    let makers: HashSet<&str> = assets
        .iter()
        .map(|asset| asset["job"].as_str().unwrap())
        .collect();
    assert_eq!(makers.len(), jobs, "a job has two pictures");
    let known: HashMap<String, &Value> = assets
        .iter()
        .map(|asset| (asset["path"].as_str().unwrap().to_owned(), asset))
        .collect();
    let mut files = Vec::new();
    list_files(folder, folder, &mut files);
    assert_eq!(files.len(), jobs, "stray or missing files: {files:?}");
    for file in files {
        let asset = known
            .get(&file)
            .unwrap_or_else(|| panic!("nobody knows {file}"));
        let bytes = fs::read(folder.join(&file)).unwrap();
        let hash: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(asset["sha256"], hash, "{file} is not what was stored");
    }
}

fn list_files(root: &Path, folder: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list_files(root, &path, files);
        } else {
            files.push(
                path.strip_prefix(root)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
}
