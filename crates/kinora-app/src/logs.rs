//! The newest log lines, kept in memory for the log view.

use std::{
    collections::VecDeque,
    fmt::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kinora_core::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{
    Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use crate::{app::App, error::Result};

/// Longest message that is kept, in bytes; files have the whole.
const MESSAGE_BYTES: usize = 4_096;

/// How bad it is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// For developers.
    Trace,
    /// For developers.
    Debug,
    /// What happened.
    Info,
    /// What may become trouble.
    Warn,
    /// What went wrong.
    Error,
}

/// Which lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogQuery {
    /// How many, at most 10,000. None: 200.
    pub lines: Option<u32>,
    /// At least this bad.
    pub level: Option<LogLevel>,
    /// Words that occur in the line.
    pub search: Option<String>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// How bad.
    pub level: LogLevel,
    /// Which part of the program.
    pub target: String,
    /// What.
    pub message: String,
}

/// The newest lines, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogPage {
    /// The lines.
    pub lines: Vec<LogLine>,
}

/// The newest lines of the log. Hosts add its [layer](LogBuffer::layer) to their subscriber; every
/// clone is the same buffer.
#[derive(Clone, Debug)]
pub struct LogBuffer(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    lines: VecDeque<LogLine>,
    capacity: usize,
}

impl Default for LogBuffer {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Lines {
            lines: VecDeque::new(),
            capacity: 2_000,
        })))
    }
}

impl LogBuffer {
    /// The layer that fills the buffer.
    pub fn layer(&self) -> LogLayer {
        LogLayer(self.clone())
    }

    /// Keeps so many lines from now on.
    pub fn set_capacity(&self, capacity: u32) {
        let mut lines = self.lock();
        lines.capacity = capacity as usize;
        lines.trim();
    }

    /// Adds a line, and forgets the oldest beyond the capacity.
    pub fn push(&self, line: LogLine) {
        let mut lines = self.lock();
        lines.lines.push_back(line);
        lines.trim();
    }

    /// The newest lines that a query asks for, oldest first.
    pub fn find(&self, query: &LogQuery) -> Vec<LogLine> {
        let level = query.level.unwrap_or(LogLevel::Trace);
        let search = query.search.as_deref().unwrap_or_default().to_lowercase();
        let is_wanted = |line: &&LogLine| {
            line.level >= level
                && (search.is_empty()
                    || line.message.to_lowercase().contains(&search)
                    || line.target.to_lowercase().contains(&search))
        };
        let count = query.lines.unwrap_or(200).min(10_000) as usize;
        let lines = self.lock();
        let mut found: Vec<LogLine> = lines
            .lines
            .iter()
            .rev()
            .filter(is_wanted)
            .take(count)
            .cloned()
            .collect();
        found.reverse();
        found
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn trim(&mut self) {
        let spare = self.lines.len().saturating_sub(self.capacity);
        self.lines.drain(..spare);
    }
}

/// Copies events of the program's log into a [`LogBuffer`].
#[derive(Debug)]
pub struct LogLayer(LogBuffer);

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        let mut text = message.text + &message.fields;
        if text.len() > MESSAGE_BYTES {
            let end = (0..=MESSAGE_BYTES)
                .rev()
                .find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
        }
        let metadata = event.metadata();
        self.0.push(LogLine {
            at: Timestamp::now(),
            level: (*metadata.level()).into(),
            target: metadata.target().to_owned(),
            message: text,
        });
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::TRACE => LogLevel::Trace,
            Level::DEBUG => LogLevel::Debug,
            Level::INFO => LogLevel::Info,
            Level::WARN => LogLevel::Warn,
            Level::ERROR => LogLevel::Error,
        }
    }
}

/// An event's message, and its other fields behind it.
#[derive(Default)]
struct Message {
    text: String,
    fields: String,
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = if field.name() == "message" {
            write!(self.text, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

/// The newest lines of the log.
pub async fn page(app: &App, input: LogQuery) -> Result<LogPage> {
    Ok(LogPage {
        lines: app.logs().find(&input),
    })
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_found() {
        let buffer = LogBuffer::default();
        let subscriber = tracing_subscriber::registry().with(buffer.layer());
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..5 {
                tracing::info!(number, "counted");
            }
            tracing::error!(path = "/x", "failed to read");
            tracing::warn!("{}", "é".repeat(MESSAGE_BYTES));
        });
        let all = buffer.find(&LogQuery::default());
        assert_eq!(all.len(), 7);
        assert_eq!(all[0].message, "counted number=0");
        assert!(all[6].message.len() <= MESSAGE_BYTES);
        let query = LogQuery {
            level: Some(LogLevel::Error),
            ..LogQuery::default()
        };
        assert_eq!(buffer.find(&query)[0].message, "failed to read path=\"/x\"");
        let query = LogQuery {
            lines: Some(2),
            search: Some("COUNTED".to_owned()),
            ..LogQuery::default()
        };
        let found = buffer.find(&query);
        assert_eq!(found[1].message, "counted number=4");
        assert_eq!(found.len(), 2);
        buffer.set_capacity(1);
        assert_eq!(buffer.find(&LogQuery::default()).len(), 1);
    }
}
