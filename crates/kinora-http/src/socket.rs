//! `/ws`: every event as one JSON text. A client that says `{"subscribe": ["<job>", …]}` hears only
//! of those jobs from then on; `{"unsubscribe": […]}` takes some back, and with the last one it hears
//! everything again. `/ws?job=<id>` begins with that subscription and with the job as it is now.
//!
//! A client that reads too slowly gets `lagged` in place of what it missed, and one that gives no
//! sign of life is dropped; neither holds up anybody else.

use std::{collections::HashSet, str::FromStr, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{
        RawQuery, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use kinora_app::commands;
use kinora_core::{Event, Job, JobId, Problem};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, timeout},
};

use crate::{
    answer::{Refusal, no_route, wrong_method},
    server::Shared,
};

/// The longest message that a client may send, in bytes.
const MAX_MESSAGE: usize = 1 << 20;
/// The most jobs that one client follows.
const MAX_FOLLOWED: usize = 20_000;

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/ws", get(open).fallback(wrong_method))
}

/// What a client may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wish {
    subscribe: Vec<JobId>,
    unsubscribe: Vec<JobId>,
}

async fn open(
    State(server): State<Shared>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let query = query.unwrap_or_default();
    let job = query.split('&').find_map(|pair| pair.strip_prefix("job="));
    let job = job.map(JobId::from_str).transpose().map_err(|_| {
        Problem::in_field(
            "job",
            "the job's id is not a UUID",
            "Take it from the list of jobs.",
        )
    })?;
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Ok(rejection.into_response()),
    };
    // Listening starts before the job is read, so that nothing falls between the two.
    let events = server.app.events();
    let mut first = None;
    if let Some(id) = job {
        let command = commands::find("jobs_get").ok_or_else(no_route)?;
        let value = server.app.call(command, json!({ "id": id })).await?;
        let job = serde_json::from_value::<Job>(value).map_err(|error| {
            Refusal::new(
                kinora_core::Code::Internal,
                format!("the job could not be understood: {error}"),
                "Report this.",
            )
        })?;
        first = Some(Event::JobChanged { job: Box::new(job) });
    }
    let followed = job.into_iter().collect();
    Ok(upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| {
            Listener {
                socket,
                followed,
                limit: server.sockets.dead,
            }
            .run(server, events, first)
        }))
}

struct Listener {
    socket: WebSocket,
    /// Empty: everything.
    followed: HashSet<JobId>,
    /// How long one message may take to be sent.
    limit: Duration,
}

/// The other side is gone, or has to go.
struct Gone;

impl Listener {
    async fn run(
        mut self,
        server: Shared,
        mut events: broadcast::Receiver<Event>,
        first: Option<Event>,
    ) {
        if let Some(first) = first
            && self.send(&first).await.is_err()
        {
            return;
        }
        let mut ping = tokio::time::interval(server.sockets.ping);
        ping.reset();
        let mut heard = Instant::now();
        loop {
            let step = tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => self.tell(event).await,
                    // What was missed cannot be made up for; the client has to read it again.
                    Err(RecvError::Lagged(_)) => self.send(&Event::Lagged).await,
                    Err(RecvError::Closed) => return self.close(close_code::AWAY, "Kinora is closing").await,
                },
                message = self.socket.recv() => {
                    heard = Instant::now();
                    self.hear(message).await
                }
                _ = ping.tick() => {
                    if heard.elapsed() > server.sockets.dead {
                        Err(Gone)
                    } else {
                        self.transmit(Message::Ping(Bytes::new())).await
                    }
                }
                () = server.stop.cancelled() => {
                    return self.close(close_code::AWAY, "Kinora is closing").await;
                }
            };
            if step.is_err() {
                return;
            }
        }
    }

    /// Sends an event on, if the client wants it.
    async fn tell(&mut self, event: Event) -> Result<(), Gone> {
        let is_wanted = self.followed.is_empty()
            || match &event {
                // A followed job may be among them.
                Event::JobsChanged { .. } | Event::Lagged => true,
                event => event.job().is_some_and(|job| self.followed.contains(&job)),
            };
        if is_wanted {
            self.send(&event).await
        } else {
            Ok(())
        }
    }

    async fn hear(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), Gone> {
        match message {
            Some(Ok(Message::Text(text))) => {
                let Ok(wish) = serde_json::from_str::<Wish>(&text) else {
                    let reason = "messages are {\"subscribe\": [ids]} or {\"unsubscribe\": [ids]}";
                    self.close(close_code::POLICY, reason).await;
                    return Err(Gone);
                };
                self.followed.extend(wish.subscribe);
                for job in wish.unsubscribe {
                    self.followed.remove(&job);
                }
                if self.followed.len() > MAX_FOLLOWED {
                    self.close(close_code::POLICY, "too many jobs are followed")
                        .await;
                    return Err(Gone);
                }
                Ok(())
            }
            // Pings are answered by the protocol; pongs have served by coming.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Binary(_))) => {
                self.close(close_code::UNSUPPORTED, "messages are text")
                    .await;
                Err(Gone)
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => Err(Gone),
        }
    }

    async fn send(&mut self, event: &Event) -> Result<(), Gone> {
        match serde_json::to_string(event) {
            Ok(text) => self.transmit(Message::Text(text.into())).await,
            Err(error) => {
                tracing::error!(%error, "an event could not be written as JSON");
                Ok(())
            }
        }
    }

    async fn transmit(&mut self, message: Message) -> Result<(), Gone> {
        match timeout(self.limit, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }

    async fn close(&mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        // The other side may be gone already.
        let _ = self.transmit(Message::Close(Some(frame))).await;
    }
}
