//! `kinora serve`: the studio for browsers, until Ctrl+C.

use kinora_app::{app::App, config::Config, logs::LogBuffer};
use kinora_core::{Code, Problem};
use kinora_http::Options;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    connection::{Refusal, announce, cannot_listen},
    exit, output,
};

/// Serves until the program is told to end.
///
/// # Errors
/// When the data folder or the address cannot be used.
pub async fn run(config: Config, logs: LogBuffer, is_json: bool) -> Result<u8, Refusal> {
    let options = Options {
        host: config.host.clone(),
        port: config.port,
        token: config.token.clone(),
        allowed_hosts: config.allowed_hosts.clone(),
        trusted_origins: config.trusted_origins.clone(),
        ..Options::default()
    };
    let is_open = !is_loopback(&config.host);
    let app = App::open(config, logs)?;
    let running = match kinora_http::serve(app.clone(), options).await {
        Ok(running) => running,
        Err(error) => {
            app.shutdown().await;
            return Err(cannot_listen(error));
        }
    };
    announce(&app, &running);
    greet(&running, is_open, is_json);
    let ended = wait_for_end().await;
    output::tell("Ending: running pictures stop at their next step and go on at the next start.");
    if let Err(error) = running.stop().await {
        tracing::warn!(%error, "the server did not end in order");
    }
    app.shutdown().await;
    ended.map(|()| exit::DONE)
}

fn greet(running: &kinora_http::Running, is_open: bool, is_json: bool) {
    if is_json {
        output::say(
            json!({ "url": running.url(), "pairing_link": running.pairing_link() }).to_string(),
        );
        return;
    }
    output::say(format!("Kinora answers at {}", running.url()));
    if let Some(link) = running.pairing_link() {
        output::say(format!("Pair a browser with {link}"));
        if is_open && let Some(code) = running.pairing_code() {
            output::say(code);
        }
    }
    output::say(format!(
        "Documentation of the API: {}/docs    End with Ctrl+C.",
        running.url()
    ));
}

async fn wait_for_end() -> Result<(), Refusal> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Problem::new(
                Code::Internal,
                format!("failed to listen for signals: {error}"),
                "",
            )
        })
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
