//! Switches of the queue that outlive the process.

use rusqlite::{Connection, Transaction};

use crate::Result;

pub(crate) const V1: &str = "
CREATE TABLE queue_flags (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    is_paused INTEGER NOT NULL CHECK (is_paused IN (0, 1))
) STRICT;
INSERT INTO queue_flags (id, is_paused) VALUES (1, 0);
";

/// Whether the user paused the queue.
pub fn is_paused(db: &Connection) -> Result<bool> {
    Ok(db
        .prepare_cached("SELECT is_paused FROM queue_flags")?
        .query_row([], |row| row.get(0))?)
}

/// Pauses or resumes the queue; whether that changed anything.
pub fn set_paused(tx: &Transaction<'_>, is_paused: bool) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE queue_flags SET is_paused = ?1 WHERE is_paused <> ?1",
        [is_paused],
    )?;
    Ok(changed > 0)
}
