//! Where log lines go: a file in the data folder that rolls daily, the log view, and the terminal
//! for hosts that own one.

use std::io::IsTerminal;

use tracing_appender::non_blocking;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{config::Config, logs::LogBuffer};

/// Writes out what is not written yet when dropped.
pub type Flush = non_blocking::WorkerGuard;

/// Log files kept; older ones are removed.
const KEPT_FILES: usize = 14;

/// Starts logging; returns the lines of the log view. Lines of the file are flushed when the guard
/// is dropped.
pub fn start(config: &Config, on_terminal: bool) -> (LogBuffer, Option<Flush>) {
    let filter = || EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let folder = config.data_dir.join("logs");
    // A log that cannot be written must not keep anyone from working; it is told on the terminal.
    let appender = std::fs::create_dir_all(&folder).ok().and_then(|()| {
        tracing_appender::rolling::Builder::new()
            .rotation(tracing_appender::rolling::Rotation::DAILY)
            .filename_prefix("kinora")
            .filename_suffix("log")
            .max_log_files(KEPT_FILES)
            .build(&folder)
            .ok()
    });
    let (file, guard) = match appender {
        Some(appender) => {
            let (writer, guard) = non_blocking(appender);
            (
                Some(
                    tracing_subscriber::fmt::layer()
                        .with_ansi(false)
                        .with_writer(writer)
                        .with_filter(filter()),
                ),
                Some(guard),
            )
        }
        None => (None, None),
    };
    let buffer = LogBuffer::default();
    let terminal = on_terminal.then(|| {
        tracing_subscriber::fmt::layer()
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .with_filter(filter())
    });
    tracing_subscriber::registry()
        .with(file)
        .with(terminal)
        .with(buffer.layer().with_filter(filter()))
        .init();
    (buffer, guard)
}
