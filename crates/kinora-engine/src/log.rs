//! The log: to standard error for the application, and the last lines kept for post-mortems.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Layer, layer::Context, layer::SubscriberExt, util::SubscriberInitExt,
};

/// How many lines a post-mortem shows.
const LINES: usize = 50;

/// Longest line kept, in characters.
const LINE_LIMIT: usize = 2000;

/// The last lines of the log.
#[derive(Clone, Debug, Default)]
pub struct LogTail(Arc<Mutex<VecDeque<String>>>);

impl LogTail {
    /// The lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// One line per event on standard error and in the tail: the level first, so that the application
/// can log it at the same one.
struct LineLayer<W> {
    tail: LogTail,
    out: fn() -> W,
}

impl<S: Subscriber, W: io::Write + 'static> Layer<S> for LineLayer<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = LineWriter(format!("{} ", event.metadata().level()));
        event.record(&mut line);
        let line: String = line.0.replace(['\n', '\r'], " ");
        let line: String = line.chars().take(LINE_LIMIT).collect();
        // In one piece, so that lines of several threads do not mix. Without standard error there
        // is nobody to tell.
        let _ = (self.out)().write_all(format!("{line}\n").as_bytes());
        self.tail.push(line);
    }
}

struct LineWriter(String);

impl Visit for LineWriter {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing into a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// Starts logging at what `KINORA_LOG` says, `info` by default, and logs panics before they unwind.
pub fn start() -> LogTail {
    let tail = LogTail::default();
    let filter = EnvFilter::try_from_env("KINORA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::registry()
        .with(
            LineLayer {
                tail: tail.clone(),
                out: io::stderr,
            }
            .with_filter(filter),
        )
        .init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("panic: {panic}")));
    tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_last_lines_with_their_level_and_fields() {
        let tail = LogTail::default();
        let subscriber = tracing_subscriber::registry().with(LineLayer {
            tail: tail.clone(),
            out: io::sink,
        });
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..LINES + 3 {
                tracing::warn!(number, name = "a\nb", "counted");
            }
        });
        let lines = tail.lines();
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines[0], "WARN counted number=3 name=a b");
    }
}
