//! An application that records what it is asked, and a client that says exactly what it is told to.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use kinora_app::commands::Command;
use kinora_core::{BoxFuture, Code, Event, Problem, Problems};
use kinora_http::{Application, Media, MediaFile, Options, Running, serve};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::broadcast,
};

use crate::schema::Api;

#[derive(Clone)]
pub struct Fake(Arc<Inner>);

struct Inner {
    events: broadcast::Sender<Event>,
    asked: Mutex<Vec<(String, Value)>>,
    refusals: Mutex<HashMap<String, Problem>>,
    files: Mutex<HashMap<String, MediaFile>>,
    api: Api,
}

impl Fake {
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            // Small, so that a slow listener falls behind soon.
            events: broadcast::channel(16).0,
            asked: Mutex::default(),
            refusals: Mutex::default(),
            files: Mutex::default(),
            api: Api::committed(),
        }))
    }

    pub fn send(&self, event: Event) {
        // Without listeners there is nobody to miss it.
        let _ = self.0.events.send(event);
    }

    pub fn listeners(&self) -> usize {
        self.0.events.receiver_count()
    }

    /// What it was asked since the last question.
    pub fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.0.asked.lock().unwrap())
    }

    pub fn refuse(&self, command: &str, problem: Problem) {
        self.0
            .refusals
            .lock()
            .unwrap()
            .insert(command.to_owned(), problem);
    }

    pub fn put_file(&self, media: Media, path: PathBuf, version: Option<&str>) {
        let file = MediaFile {
            path,
            media_type: "image/png".to_owned(),
            name: "a fox, 猫.png".to_owned(),
            version: version.map(str::to_owned),
            is_immutable: version.is_some(),
        };
        self.0
            .files
            .lock()
            .unwrap()
            .insert(format!("{media:?}"), file);
    }
}

impl Application for Fake {
    fn call<'a>(
        &'a self,
        command: &'static Command,
        input: Value,
    ) -> BoxFuture<'a, Result<Value, Problems>> {
        Box::pin(async move {
            self.0
                .asked
                .lock()
                .unwrap()
                .push((command.name.to_owned(), input));
            if let Some(problem) = self.0.refusals.lock().unwrap().get(command.name) {
                return Err(problem.clone().into());
            }
            let (operation, _) = self.0.api.operation(command.name);
            let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
            Ok(self.0.api.sample(schema))
        })
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    fn read_metadata(&self, file: Bytes) -> BoxFuture<'_, Result<Value, Problems>> {
        self.0
            .asked
            .lock()
            .unwrap()
            .push(("metadata".to_owned(), json!(file.len())));
        let schema = json!({ "$ref": "#/components/schemas/MetadataReading" });
        Box::pin(async move { Ok(self.0.api.sample(&schema)) })
    }

    fn keep_input(&self, file: Bytes) -> BoxFuture<'_, Result<Value, Problems>> {
        self.0
            .asked
            .lock()
            .unwrap()
            .push(("keep_input".to_owned(), json!(file.len())));
        let schema = json!({ "$ref": "#/components/schemas/Input" });
        Box::pin(async move { Ok(self.0.api.sample(&schema)) })
    }

    fn find_media(&self, media: Media) -> BoxFuture<'_, Result<MediaFile, Problems>> {
        let found = self
            .0
            .files
            .lock()
            .unwrap()
            .get(&format!("{media:?}"))
            .cloned();
        let missing =
            || Problem::new(Code::NotFound, "there is no such file", "Look elsewhere.").into();
        Box::pin(async move { found.ok_or_else(missing) })
    }
}

/// A server with a fake application behind it.
pub struct Site {
    pub app: Fake,
    pub server: Running,
}

impl Site {
    pub async fn open() -> Self {
        Self::open_with(Options::default()).await
    }

    pub async fn open_with(options: Options) -> Self {
        let app = Fake::new();
        let server = serve(app.clone(), options).await.unwrap();
        Self { app, server }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    /// Sends a request byte for byte, and takes the answer apart.
    pub async fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.server.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        Answer::parse(&bytes)
    }

    /// `GET` with headers of one's own; `Host` is right unless given.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, headers, "").await
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            request += &format!("Host: {}\r\n", self.server.address());
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        self.raw(&format!("{request}\r\n{body}")).await
    }
}

/// An answer taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("an answer has a head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(k, v)| (k.to_lowercase(), v.to_owned()))
            .collect();
        Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The class of a refusal.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}
