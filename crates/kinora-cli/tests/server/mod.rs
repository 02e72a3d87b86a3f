//! A real `kinora serve` in a folder of its own, for tests: started, asked over HTTP, killed.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long anything may take on a busy machine before the test gives up.
const PATIENCE: Duration = Duration::from_secs(180);

/// Reproducible moments (SplitMix64): a failure can be looked at again.
pub struct Moments(pub u64);

impl Moments {
    /// A number below `below`.
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

/// A running server.
pub struct Server {
    child: Child,
    data: PathBuf,
    url: String,
    token: String,
    client: reqwest::Client,
    started: Instant,
}

impl Server {
    /// Starts the program on a data folder and waits until it answers.
    pub async fn start(data: &Path) -> Self {
        Self::start_with(data, &[]).await
    }

    /// The same, with further options of `kinora serve`.
    pub async fn start_with(data: &Path, options: &[&str]) -> Self {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_kinora"));
        assert!(
            program.with_file_name("kinora-engine").exists(),
            "kinora-engine is not built: run `cargo build -p kinora-engine` first"
        );
        let started = Instant::now();
        let child = Command::new(&program)
            .args(["serve", "--port", "0"])
            .args(options)
            .env("KINORA_DATA_DIR", data)
            .env_remove("KINORA_TOKEN")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut server = Self {
            child,
            data: data.to_path_buf(),
            url: String::new(),
            token: String::new(),
            client,
            started,
        };
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "the server does not come up");
            assert!(
                server.child.try_wait().unwrap().is_none(),
                "the server ended at once"
            );
            if server.read_instance() && server.is_healthy().await {
                return server;
            }
            pause().await;
        }
    }

    fn read_instance(&mut self) -> bool {
        let Ok(text) = std::fs::read_to_string(self.data.join("instance.json")) else {
            return false;
        };
        let Ok(instance) = serde_json::from_str::<Value>(&text) else {
            return false;
        };
        if instance["pid"] != self.child.id() {
            return false;
        }
        let Some(url) = instance["url"].as_str() else {
            return false;
        };
        self.url = url.to_owned();
        self.token = instance["token"].as_str().unwrap_or_default().to_owned();
        true
    }

    async fn is_healthy(&self) -> bool {
        let answer = self
            .client
            .get(format!("{}/healthz", self.url))
            .send()
            .await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client without the token.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Reads a route.
    pub async fn get(&self, route: &str) -> Value {
        let answer = self
            .client
            .get(format!("{}{route}", self.url))
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "GET {route}: {status} {body:#}");
        body
    }

    /// Calls a route with a body.
    pub async fn post(&self, route: &str, input: &Value) -> Value {
        let request = self
            .client
            .post(format!("{}{route}", self.url))
            .bearer_auth(&self.token)
            .json(input);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "POST {route}: {status} {body:#}");
        body
    }

    /// Jobs in some states, comma-separated; all of them when empty.
    pub async fn jobs(&self, states: &str) -> Vec<Value> {
        let filter: String = states
            .split(',')
            .filter(|s| !s.is_empty())
            .map(|s| format!("&states={s}"))
            .collect();
        let page = self.get(&format!("/api/jobs?limit=500{filter}")).await;
        page["jobs"].as_array().unwrap().clone()
    }

    /// Waits until a job is being denoised or until there is nothing left; returns running jobs.
    pub async fn wait_for_running(&self) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let running = self.jobs("running").await;
            if !running.is_empty() || self.jobs("queued").await.is_empty() {
                return running;
            }
            assert!(Instant::now() < end, "no job begins");
            pause().await;
        }
    }

    /// Waits until the engine works on a job, told by its progress; false when nothing is left to do.
    pub async fn wait_for_work(&self) -> bool {
        let end = Instant::now() + PATIENCE;
        loop {
            let unfinished = self.jobs("running,queued").await;
            if unfinished.is_empty() {
                return false;
            }
            if unfinished.iter().any(|job| job["progress"].is_object()) {
                return true;
            }
            assert!(Instant::now() < end, "no job is worked on");
            pause().await;
        }
    }

    /// Time since the program was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until no job is unfinished.
    pub async fn wait_until_idle(&self) {
        let end = Instant::now() + 3 * PATIENCE;
        while !self.jobs("queued,running,paused").await.is_empty() {
            assert!(Instant::now() < end, "the jobs do not end");
            pause().await;
        }
    }

    /// Process id of the engine, when it runs.
    pub async fn engine_pid(&self) -> Option<u32> {
        let system = self.get("/api/system").await;
        system["engine"]["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
    }

    /// `kill -9` on the program and on its engine, in this order, and a fresh start.
    pub async fn kill_and_restart(mut self) -> Self {
        let engine = self.engine_pid().await;
        self.child.kill().unwrap();
        if let Some(engine) = engine {
            kill(engine);
        }
        self.child.wait().unwrap();
        let data = self.data.clone();
        drop(self);
        Self::start(&data).await
    }

    /// Ends the program in its ordinary way.
    pub async fn stop(mut self) {
        let status = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
        let end = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the server does not end");
            pause().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A failed test leaves nothing behind; a server that has ended already is no failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `kill -9`; the process may be gone already.
pub fn kill(pid: u32) {
    signal("-9", pid);
}

/// Sends a signal; the process may be gone already.
pub fn signal(signal: &str, pid: u32) {
    let _ = Command::new("kill")
        .args([signal, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

/// The time between two looks at something that has no event across a process border.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}
