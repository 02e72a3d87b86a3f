//! Where commands go: to an application inside this process, or to the Kinora that is already
//! running on the data folder (the window, `kinora serve`, another command), over its loopback
//! address. A process that opens the data folder answers there, whatever it was started for.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::StreamExt;
use kinora_app::{
    app::App,
    commands::{self, Command},
    config::Config,
    inputs::{self, Input},
    instance::{self, InstanceNote},
    jobs::JobPage,
    logs::LogBuffer,
    metadata::{self, MetadataReading},
};
use kinora_core::{Asset, AssetId, Code, Event, Job, JobId, Problem, Problems};
use kinora_http::{Options, Running};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tokio::{net::TcpStream, sync::broadcast};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::output;

/// Why a command of the program ended early.
#[derive(Debug)]
pub enum Refusal {
    /// The application said no, or could not.
    Problems(Box<Problems>),
    /// Ctrl+C.
    Interrupted,
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        Self::Problems(Box::new(problems))
    }
}

impl From<kinora_app::Error> for Refusal {
    fn from(error: kinora_app::Error) -> Self {
        error.into_problems().into()
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Problems::from(problem).into()
    }
}

/// An application to talk to.
pub enum Connection {
    /// In this process, with the loopback address on which other commands find it.
    Here(Arc<App>, Running),
    /// In another process of this machine.
    There(Remote),
}

/// Another process's address.
pub struct Remote {
    client: reqwest::Client,
    pid: u32,
    url: String,
    token: Option<String>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(..) => f.write_str("Here"),
            Self::There(remote) => write!(f, "There({})", remote.url),
        }
    }
}

impl Connection {
    /// Opens the application of a data folder, or finds the one that has it open.
    ///
    /// # Errors
    /// When the folder cannot be used, or its owner does not answer.
    pub async fn open(config: Config, logs: LogBuffer) -> Result<Self, Refusal> {
        let data = config.data_dir.clone();
        match App::open(config, logs).map_err(kinora_app::Error::into_problems) {
            Ok(app) => {
                let options = Options {
                    token: Some(kinora_http::generate_token()),
                    ..Options::default()
                };
                let running = kinora_http::serve(app.clone(), options)
                    .await
                    .map_err(cannot_listen)?;
                announce(&app, &running);
                Ok(Self::Here(app, running))
            }
            Err(problems) if problems.first.code == Code::DataFolderInUse => {
                let note = instance::find_running(&data).unwrap_or_default();
                let InstanceNote {
                    pid,
                    url: Some(url),
                    token,
                } = note
                else {
                    return Err(problems.into());
                };
                // Nothing here goes over a proxy, and no answer may take longer than a disk does.
                let client = reqwest::Client::builder()
                    .no_proxy()
                    .timeout(Duration::from_secs(120))
                    .build()
                    .map_err(|error| internal("prepare the connection", &error))?;
                Ok(Self::There(Remote {
                    client,
                    pid,
                    url,
                    token,
                }))
            }
            Err(problems) => Err(problems.into()),
        }
    }

    /// Runs a command of the table.
    ///
    /// # Errors
    /// What the command refuses, and a lost connection.
    pub async fn call<T: DeserializeOwned>(
        &self,
        name: &str,
        input: impl Serialize,
    ) -> Result<T, Refusal> {
        let input =
            serde_json::to_value(input).map_err(|error| internal("write the input", &error))?;
        let output = match self {
            Self::Here(app, _) => app.call(name, input).await?,
            Self::There(remote) => remote.call(name, input).await?,
        };
        serde_json::from_value(output).map_err(|error| internal("read the answer", &error))
    }

    /// Reads the settings out of a picture, as a request for the models there are.
    ///
    /// # Errors
    /// When the file is no picture, or the connection is lost.
    pub async fn read_metadata(&self, file: Vec<u8>) -> Result<MetadataReading, Refusal> {
        match self {
            Self::Here(app, _) => {
                metadata::read(app, &file).map_err(|error| error.into_problems().into())
            }
            Self::There(remote) => remote.read_metadata(file).await,
        }
    }

    /// Hands a picture in that requests can start from.
    ///
    /// # Errors
    /// When the file is no picture, or the connection is lost.
    pub async fn keep_input(&self, file: Vec<u8>) -> Result<Input, Refusal> {
        match self {
            Self::Here(app, _) => {
                inputs::keep(app, &file).map_err(|error| error.into_problems().into())
            }
            Self::There(remote) => remote.keep_input(file).await,
        }
    }

    /// The file of a stored picture.
    ///
    /// # Errors
    /// When it cannot be read, or the connection is lost.
    pub async fn read_asset(&self, asset: &Asset) -> Result<Vec<u8>, Refusal> {
        match self {
            Self::Here(app, _) => {
                let path = app.asset_file(asset);
                let bytes = kinora_app::bytes::read_bounded(&path);
                bytes.map_err(|error| kinora_app::Error::io("read", &path, &error).into())
            }
            Self::There(remote) => remote.read_asset(asset.id).await,
        }
    }

    /// The jobs of a list that still exist, whatever their state.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Job>, Refusal> {
        let mut jobs = Vec::with_capacity(ids.len());
        if let [id] = ids {
            jobs.push(self.call("jobs_get", json!({ "id": id })).await?);
            return Ok(jobs);
        }
        // One batch is the ordinary case: read it in pages instead of one by one.
        let Some(first) = ids.first() else {
            return Ok(jobs);
        };
        let first: Job = self.call("jobs_get", json!({ "id": first })).await?;
        let wanted: std::collections::HashSet<_> = ids.iter().copied().collect();
        if let Some(batch) = first.batch {
            let mut offset = 0;
            loop {
                let page: JobPage = self
                    .call(
                        "jobs_list",
                        json!({ "batch": batch, "offset": offset, "limit": 500 }),
                    )
                    .await?;
                offset += page.jobs.len() as u64;
                let is_last = page.jobs.is_empty() || offset >= page.total;
                jobs.extend(page.jobs.into_iter().filter(|job| wanted.contains(&job.id)));
                if is_last {
                    break;
                }
            }
        }
        let found: std::collections::HashSet<_> = jobs.iter().map(|job| job.id).collect();
        for id in ids.iter().filter(|id| !found.contains(id)) {
            match self.call("jobs_get", json!({ "id": id })).await {
                Ok(job) => jobs.push(job),
                Err(Refusal::Problems(problems)) if problems.first.code == Code::NotFound => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(jobs)
    }

    /// Listens to everything that changes from now on.
    ///
    /// # Errors
    /// When the other process does not answer.
    pub async fn events(&self) -> Result<Events, Refusal> {
        match self {
            Self::Here(app, _) => Ok(Events::Here(app.events())),
            Self::There(remote) => remote.events().await,
        }
    }

    /// Ends an application of this process; jobs that are running are taken up at the next start.
    pub async fn close(self) {
        if let Self::Here(app, running) = self {
            app.shutdown().await;
            if let Err(error) = running.stop().await {
                tracing::warn!(%error, "the loopback address did not close in order");
            }
        }
    }
}

/// A stream of events.
pub enum Events {
    /// From this process.
    Here(broadcast::Receiver<Event>),
    /// From another one.
    There(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
}

impl Events {
    /// Waits for the next event.
    ///
    /// # Errors
    /// When there will be no more.
    pub async fn next(&mut self) -> Result<Event, Refusal> {
        let lost = || {
            Problem::new(
                Code::EngineUnavailable,
                "the other Kinora ended while this command was waiting",
                "The queue is kept: start Kinora again, or repeat this command.",
            )
        };
        match self {
            Self::Here(events) => match events.recv().await {
                Ok(event) => Ok(event),
                Err(broadcast::error::RecvError::Lagged(_)) => Ok(Event::Lagged),
                Err(broadcast::error::RecvError::Closed) => Err(lost().into()),
            },
            Self::There(socket) => loop {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        // A newer Kinora may tell of things that this one does not know.
                        if let Ok(event) = serde_json::from_str(&text) {
                            return Ok(event);
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(lost().into()),
                    Some(Ok(_)) => {}
                }
            },
        }
    }
}

impl Remote {
    async fn call(&self, name: &str, input: Value) -> Result<Value, Refusal> {
        let command = commands::find(name).ok_or_else(|| {
            Problem::new(Code::Internal, format!("there is no command `{name}`"), "")
        })?;
        let (path, rest) = split_input(command, input);
        let method = reqwest::Method::from_bytes(command.method.as_str().as_bytes())
            .map_err(|error| internal("write the request", &error))?;
        let request = self.client.request(method, format!("{}{path}", self.url));
        self.answer(if command.method.has_body() {
            request.json(&rest)
        } else {
            request.query(&query(&rest))
        })
        .await
    }

    async fn read_metadata(&self, file: Vec<u8>) -> Result<MetadataReading, Refusal> {
        let request = self.client.post(format!("{}/api/metadata", self.url));
        let request = request
            .header("content-type", "application/octet-stream")
            .body(file);
        serde_json::from_value(self.answer(request).await?)
            .map_err(|error| internal("read the answer", &error))
    }

    async fn keep_input(&self, file: Vec<u8>) -> Result<Input, Refusal> {
        let request = self.client.post(format!("{}/api/inputs", self.url));
        let request = request
            .header("content-type", "application/octet-stream")
            .body(file);
        serde_json::from_value(self.answer(request).await?)
            .map_err(|error| internal("read the answer", &error))
    }

    async fn read_asset(&self, id: AssetId) -> Result<Vec<u8>, Refusal> {
        let request = self.client.get(format!("{}/media/assets/{id}", self.url));
        self.bytes(request).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value, Refusal> {
        let body = self.bytes(request).await?;
        serde_json::from_slice(&body).map_err(|error| internal("read the answer", &error))
    }

    /// The body of an answer, or the refusal that it is.
    async fn bytes(&self, mut request: reqwest::RequestBuilder) -> Result<Vec<u8>, Refusal> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let is_refusal = !answer.status().is_success();
        let body = answer
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?;
        if is_refusal {
            let problems: Problems = serde_json::from_slice(&body)
                .map_err(|error| internal("read the refusal", &error))?;
            return Err(problems.into());
        }
        Ok(body.into())
    }

    async fn events(&self) -> Result<Events, Refusal> {
        let url = format!("{}/ws", self.url.replacen("http", "ws", 1));
        let mut request = url
            .into_client_request()
            .map_err(|error| self.unreachable(&error))?;
        if let Some(token) = &self.token {
            let bearer = format!("Bearer {token}")
                .parse()
                .map_err(|error| self.unreachable(&error))?;
            request.headers_mut().insert("authorization", bearer);
        }
        let (socket, _) = tokio_tungstenite::connect_async(request)
            .await
            .map_err(|error| self.unreachable(&error))?;
        Ok(Events::There(Box::new(socket)))
    }

    fn unreachable(&self, error: &dyn fmt::Display) -> Refusal {
        Problem::new(
            Code::DataFolderInUse,
            format!(
                "another Kinora (process {}) has the data folder open, and it cannot be reached at {}: {error}",
                self.pid, self.url
            ),
            "Close it, or give this command a folder of its own with --data-dir.",
        )
        .into()
    }
}

/// Puts members of the input into the path where the route names them; returns the rest.
fn split_input(command: &Command, input: Value) -> (String, Map<String, Value>) {
    let mut rest = match input {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    let mut path = String::new();
    for part in command.path.split('/').skip(1) {
        path.push('/');
        match part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        {
            Some(name) => {
                let value = rest.remove(name).unwrap_or(Value::Null);
                path.push_str(&escape(&plain(&value)));
            }
            None => path.push_str(part),
        }
    }
    (path, rest)
}

/// One path segment with everything escaped that is not plain.
fn escape(segment: &str) -> String {
    segment
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Input members as query pairs: lists repeat their name, absent ones are left out.
fn query(members: &Map<String, Value>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (name, value) in members {
        match value {
            Value::Null => {}
            Value::Array(values) => {
                pairs.extend(values.iter().map(|value| (name.clone(), plain(value))))
            }
            value => pairs.push((name.clone(), plain(value))),
        }
    }
    pairs
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Notes in the data folder where this process answers. Whoever does not find the note cannot reach
/// this process, which is no reason to do nothing: on a full disk, `cleanup` is the way out.
pub fn announce(app: &App, running: &Running) {
    if let Err(error) = app.announce(&running.url(), running.token()) {
        tracing::warn!(%error, "other commands do not find this one");
        output::tell(format!(
            "kinora: {error}; other commands do not find this one until it has ended"
        ));
    }
}

/// What keeps a server from its address.
pub fn cannot_listen(error: kinora_http::Error) -> Refusal {
    let message = format!("failed to {error}");
    match error {
        kinora_http::Error::TokenRequired { .. } => Problem::in_field(
            "token",
            message,
            format!(
                "A fresh one, for example: --token {}",
                kinora_http::generate_token()
            ),
        ),
        kinora_http::Error::Resolve { .. } => Problem::in_field(
            "host",
            message,
            "Give an address of this machine, such as 127.0.0.1 or 0.0.0.0.",
        ),
        kinora_http::Error::Bind { .. } => Problem::new(
            Code::Io,
            message,
            "Choose another port with --port, or 0 for any free one.",
        ),
    }
    .into()
}

fn internal(doing: &str, error: &dyn fmt::Display) -> Refusal {
    Problem::new(
        Code::Internal,
        format!("failed to {doing}: {error}"),
        "Both programs have to be of the same version; please report this if they are.",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_split_as_the_route_says() {
        let command = commands::find("jobs_move").unwrap();
        let (path, rest) = split_input(command, json!({ "id": "a/b", "before": null }));
        assert_eq!(path, "/api/jobs/a%2Fb/move");
        assert_eq!(Value::Object(rest), json!({ "before": null }));
    }

    #[test]
    fn lists_repeat_their_name_in_the_query() {
        let Value::Object(members) =
            json!({ "states": ["queued", "running"], "limit": 5, "batch": null })
        else {
            unreachable!()
        };
        let pairs = query(&members);
        assert_eq!(
            pairs,
            [("limit", "5"), ("states", "queued"), ("states", "running")]
                .map(|(a, b)| (a.into(), b.into()))
        );
    }
}
