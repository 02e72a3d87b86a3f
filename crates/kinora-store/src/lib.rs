//! The database of Kinora: one SQLite file, one module per table.
//!
//! [`Store`] owns the connections: one writer, several readers, and a lock that keeps a second
//! program away. The table modules hold everything about their table — its rows, its part of the
//! migrations and its queries — as plain functions over a connection, to be called inside
//! [`Store::read`] and [`Store::write`]:
//!
//! ```
//! # fn main() -> kinora_store::Result<()> {
//! let store = kinora_store::Store::open_in_memory()?;
//! store.write(|tx| kinora_store::settings::set(tx, "theme", &"dark".into()))?;
//! let theme = store.read(|db| kinora_store::settings::get(db, "theme"))?;
//! assert_eq!(theme, Some("dark".into()));
//! # Ok(())
//! # }
//! ```
//!
//! Not here: files other than the database, events, and every decision about what runs when;
//! those are the queue's.

pub mod assets;
pub mod batch_keys;
pub mod batches;
mod codec;
pub mod counts;
mod error;
pub mod flags;
pub mod jobs;
pub mod lineage;
mod migrations;
pub mod pictures;
mod plan_templates;
mod planned_models;
pub mod sessions;
pub mod settings;
mod store;
pub mod timings;
pub mod trash;

pub use error::{Error, Result};
pub use rusqlite::{Connection, Transaction};
pub use store::Store;

/// Part of a list: `limit` rows after the first `offset` ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Rows to skip.
    pub offset: u64,
    /// Rows to return at most.
    pub limit: u32,
}

impl Page {
    /// The most rows that one page holds; larger limits are cut to it.
    pub const MAX_LIMIT: u32 = 1_000;

    /// A page from the start of the list.
    pub fn first(limit: u32) -> Self {
        Self { offset: 0, limit }
    }

    pub(crate) fn limit(self) -> u64 {
        u64::from(self.limit.min(Self::MAX_LIMIT))
    }

    fn sql_limit(self) -> i64 {
        i64::from(self.limit.min(Self::MAX_LIMIT))
    }

    fn sql_offset(self) -> i64 {
        i64::try_from(self.offset).unwrap_or(i64::MAX)
    }
}

/// A part of a list, with the length of the whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<T> {
    /// The rows of the page.
    pub rows: Vec<T>,
    /// How many rows there are on all pages together.
    pub total: u64,
}
