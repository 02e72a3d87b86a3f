//! The socket: all events, some jobs only, slow and dead listeners.

use std::{str::FromStr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use kinora_core::{
    Code, Event, JobId, Problem, Session, SessionId, SessionKind, StateCounts, Timestamp,
};
use kinora_http::{Options, SocketTiming};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::fake::Site;

const ONE: &str = "01900000-0000-7000-8000-000000000001";
const TWO: &str = "01900000-0000-7000-8000-000000000002";
/// Far more than anything here takes; only a defect waits so long.
const LONG: Duration = Duration::from_secs(20);

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn open(site: &Site, path: &str) -> Self {
        let before = site.app.listeners();
        let url = format!("ws://{}{path}", site.server.address());
        let (socket, _) = connect_async(url).await.unwrap();
        // The upgrade is answered after the listener was made.
        assert_eq!(site.app.listeners(), before + 1);
        Self(socket)
    }

    async fn say(&mut self, text: Value) {
        self.0.send(Message::text(text.to_string())).await.unwrap();
    }

    async fn hear_message(&mut self) -> Option<Message> {
        let next = timeout(LONG, self.0.next())
            .await
            .expect("the server says something");
        next.and_then(Result::ok)
    }

    /// The next event as JSON.
    async fn hear(&mut self) -> Value {
        loop {
            match self.hear_message().await.expect("the socket is open") {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// A round through the server, behind everything said before.
    async fn settle(&mut self) {
        self.0.send(Message::Ping("x".into())).await.unwrap();
        loop {
            match self.hear_message().await.expect("the socket is open") {
                Message::Pong(data) if data == "x" => return,
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn removed(job: &str) -> Event {
    Event::JobRemoved {
        job: JobId::from_str(job).unwrap(),
    }
}

#[tokio::test]
async fn everybody_hears_everything_at_first() {
    let site = Site::open().await;
    let mut clients = [
        Client::open(&site, "/ws").await,
        Client::open(&site, "/ws").await,
    ];
    site.app.send(Event::ModelsChanged);
    site.app.send(removed(ONE));
    for client in &mut clients {
        assert_eq!(client.hear().await, json!({"type": "models_changed"}));
        assert_eq!(
            client.hear().await,
            json!({"type": "job_removed", "job": ONE})
        );
    }
}

#[tokio::test]
async fn who_follows_jobs_hears_of_those_alone() {
    let site = Site::open().await;
    let mut client = Client::open(&site, "/ws").await;
    client.say(json!({"subscribe": [ONE]})).await;
    client.settle().await;
    site.app.send(removed(TWO));
    site.app.send(Event::SettingsChanged);
    site.app.send(removed(ONE));
    assert_eq!(client.hear().await["job"], ONE);
    // Many jobs at once may be about these, too.
    site.app.send(Event::JobsChanged { batch: None });
    assert_eq!(client.hear().await["type"], "jobs_changed");
    client
        .say(json!({"subscribe": [TWO], "unsubscribe": [ONE]}))
        .await;
    client.settle().await;
    site.app.send(removed(ONE));
    site.app.send(removed(TWO));
    assert_eq!(client.hear().await["job"], TWO);
    // Nobody followed any more: everything again.
    client.say(json!({"unsubscribe": [TWO]})).await;
    client.settle().await;
    site.app.send(Event::SettingsChanged);
    assert_eq!(client.hear().await["type"], "settings_changed");
}

#[tokio::test]
async fn a_socket_for_one_job_begins_with_the_job_as_it_is() {
    let site = Site::open().await;
    let mut client = Client::open(&site, &format!("/ws?job={ONE}")).await;
    let first = client.hear().await;
    assert_eq!(first["type"], "job_changed");
    assert_eq!(first["job"]["id"], ONE);
    assert_eq!(
        site.app.asked(),
        [("jobs_get".to_owned(), json!({"id": ONE}))]
    );
    site.app.send(removed(TWO));
    site.app.send(removed(ONE));
    assert_eq!(client.hear().await["job"], ONE);
    site.app.refuse(
        "jobs_get",
        Problem::new(Code::NotFound, "there is no such job", "Look at the list."),
    );
    let url = format!("ws://{}/ws?job={TWO}", site.server.address());
    let refused = connect_async(url).await.err().unwrap().to_string();
    assert!(refused.contains("404"), "{refused}");
}

#[tokio::test]
async fn a_slow_listener_is_told_that_it_missed_something_and_holds_up_nobody() {
    let site = Site::open().await;
    let mut slow = Client::open(&site, "/ws").await;
    let mut quick = Client::open(&site, "/ws").await;
    // 50 MB: more than the buffers of a connection and the channel hold.
    let session = Session {
        id: SessionId::new(),
        kind: SessionKind::Image,
        title: "x".repeat(250_000),
        counts: StateCounts::default(),
        assets: 0,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    };
    for _ in 0..200 {
        site.app.send(Event::SessionChanged {
            session: session.clone(),
        });
        site.app.send(Event::ModelsChanged);
        // The quick one hears it all, whatever the other does.
        assert_eq!(quick.hear().await["type"], "session_changed");
        assert_eq!(quick.hear().await["type"], "models_changed");
    }
    let mut heard = 0;
    while slow.hear().await["type"] != "lagged" {
        heard += 1;
        assert!(heard < 400, "the slow one missed nothing");
    }
    // It is not cut off: what comes from now on arrives.
    site.app.send(Event::SettingsChanged);
    while slow.hear().await["type"] != "settings_changed" {}
}

#[tokio::test]
async fn a_listener_that_gives_no_sign_of_life_is_dropped() {
    let sockets = SocketTiming {
        ping: Duration::from_millis(50),
        dead: Duration::from_secs(2),
    };
    let site = Site::open_with(Options {
        sockets,
        ..Options::default()
    })
    .await;
    // The client library answers pings only while it is read from: this one is dead.
    let dead = Client::open(&site, "/ws").await;
    let mut alive = Client::open(&site, "/ws").await;
    let waited = timeout(LONG, async {
        while site.app.listeners() > 1 {
            // Reading answers the pings.
            let _ = timeout(Duration::from_millis(5), alive.0.next()).await;
        }
    });
    waited.await.expect("the dead listener is dropped");
    drop(dead);
    site.app.send(Event::ModelsChanged);
    assert_eq!(alive.hear().await["type"], "models_changed");
    // One that closes is gone at once.
    alive.0.close(None).await.unwrap();
    let gone = timeout(LONG, async {
        while site.app.listeners() > 0 {
            tokio::task::yield_now().await;
        }
    });
    gone.await.expect("the closed listener is forgotten");
}

#[tokio::test]
async fn nonsense_ends_the_socket_with_a_reason() {
    let site = Site::open().await;
    for message in [
        Message::text("{"),
        Message::text("{\"subscribe\": [\"x\"]}"),
        Message::text("{\"shout\": 1}"),
        Message::binary(vec![0]),
    ] {
        let mut client = Client::open(&site, "/ws").await;
        client.0.send(message).await.unwrap();
        match client.hear_message().await {
            Some(Message::Close(Some(frame))) => {
                assert!(frame.reason.contains("message"), "{frame:?}")
            }
            other => panic!("{other:?}"),
        }
        while client.hear_message().await.is_some() {}
    }
}

#[tokio::test]
async fn sockets_are_closed_when_the_server_ends() {
    let site = Site::open().await;
    let mut client = Client::open(&site, "/ws").await;
    let stopping = tokio::spawn(site.server.stop());
    match client.hear_message().await {
        Some(Message::Close(Some(frame))) => assert_eq!(u16::from(frame.code), 1001),
        other => panic!("{other:?}"),
    }
    while client.hear_message().await.is_some() {}
    stopping.await.unwrap().unwrap();
}
