//! The application behind the window: opened before it, closed after it.

use std::sync::Arc;

use kinora_app::{
    app::App,
    config::{Config, Flags},
    logging,
};
use kinora_core::{Code, Problem, Problems};
use kinora_http::{Options, Running};
use tauri::{AppHandle, Emitter, Manager, Runtime};
use tauri_plugin_dialog::{DialogExt, MessageDialogKind};
use tokio::sync::broadcast::error::RecvError;

/// Event that carries what changed to the page.
const CHANGED: &str = "kinora://event";

/// The application, and the loopback server that the window reads pictures from.
pub struct Studio {
    /// The application.
    pub app: Arc<App>,
    media: Running,
    /// Writes out the last log lines when dropped.
    _flush: Option<logging::Flush>,
}

impl Studio {
    /// Address of the loopback server.
    pub fn media_base(&self) -> String {
        self.media.url()
    }

    /// Token of this launch for that server.
    pub fn token(&self) -> &str {
        self.media.token().unwrap_or_default()
    }
}

/// Opens the application and its media server, and passes its events on to the page.
///
/// # Errors
/// When the data folder cannot be used or no loopback port is free; the user is told in a dialogue.
pub fn open<R: Runtime>(handle: &AppHandle<R>) -> Result<Studio, Box<dyn std::error::Error>> {
    let opened = tauri::async_runtime::block_on(open_quietly());
    match opened {
        Ok(studio) => {
            forward_events(handle.clone(), &studio.app);
            Ok(studio)
        }
        Err(problems) => {
            let text = format!("{}\n\n{}", problems.first.message, problems.first.hint);
            handle
                .dialog()
                .message(text)
                .title("Kinora cannot start")
                .kind(MessageDialogKind::Error)
                .blocking_show();
            Err(problems.into())
        }
    }
}

async fn open_quietly() -> Result<Studio, Problems> {
    let config = Config::load(&Flags::default())?;
    let (logs, flush) = logging::start(&config, false);
    let app = App::open(config, logs)?;
    let options = Options {
        token: Some(kinora_http::generate_token()),
        trusted_origins: vec!["tauri://localhost".to_owned()],
        ..Options::default()
    };
    let media = kinora_http::serve(Arc::clone(&app), options)
        .await
        .map_err(|error| {
            Problem::new(
                Code::Io,
                format!("failed to {error}"),
                "Close programs that take up loopback ports.",
            )
        })?;
    // The command line finds the window here.
    app.announce(&media.url(), media.token())?;
    Ok(Studio {
        app,
        media,
        _flush: flush,
    })
}

fn forward_events<R: Runtime>(handle: AppHandle<R>, app: &App) {
    let mut events = app.events();
    tauri::async_runtime::spawn(async move {
        loop {
            let event = match events.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => kinora_core::Event::Lagged,
                Err(RecvError::Closed) => break,
            };
            if let Err(error) = handle.emit_to(crate::window::LABEL, CHANGED, event) {
                tracing::warn!(%error, "could not pass an event to the window");
            }
        }
    });
}

/// Closes the application; jobs that are running are taken up at the next start.
pub fn close<R: Runtime>(handle: &AppHandle<R>) {
    if let Some(studio) = handle.try_state::<Studio>() {
        tauri::async_runtime::block_on(async {
            studio.media.begin_stop();
            studio.app.shutdown().await;
        });
    }
}

/// Says on the terminal why the program ends; a dialogue was shown where one could be.
pub fn report(error: &dyn std::error::Error) {
    eprintln!("kinora-desktop: {error}");
}
