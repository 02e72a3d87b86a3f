//! Batches: jobs that were asked for together.

use kinora_core::{Batch, BatchId, BatchKind, SessionId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::{
    Listed, Page, Result,
    codec::{self, Key},
    counts,
};

pub(crate) const V1: &str = "
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    session BLOB REFERENCES sessions (id) ON DELETE SET NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX batches_session ON batches (session);
";

/// Makes an empty batch.
pub(crate) fn create(
    tx: &Transaction<'_>,
    kind: BatchKind,
    title: &str,
    session: Option<SessionId>,
    now: Timestamp,
) -> Result<BatchId> {
    let id = BatchId::new();
    tx.prepare_cached(
        "INSERT INTO batches (id, kind, title, session, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        id.key(),
        codec::to_word(&kind)?,
        title,
        session.map(Key::key),
        now.0
    ])?;
    Ok(id)
}

/// One batch; its time is left to be filled in.
pub fn get(db: &Connection, id: BatchId) -> Result<Option<Batch>> {
    let bare = db
        .prepare_cached("SELECT * FROM batches WHERE id = ?1")?
        .query_row([id.key()], bare_batch)
        .optional()?;
    bare.map(|batch| complete(db, batch)).transpose()
}

/// Batches, the newest first, of one session or of all; their times are left to be filled in.
pub fn list(db: &Connection, session: Option<SessionId>, page: Page) -> Result<Listed<Batch>> {
    let filter = match session {
        Some(_) => "WHERE session = ?1",
        None => "WHERE ?1 IS NULL",
    };
    let key = session.map(Key::key);
    let total = db
        .prepare_cached(&format!("SELECT count(*) FROM batches {filter}"))?
        .query_row([key], |row| codec::natural(row, 0))?;
    let bare = db
        .prepare_cached(&format!(
            "SELECT * FROM batches {filter} ORDER BY seq DESC LIMIT ?2 OFFSET ?3"
        ))?
        .query_map(
            params![key, page.sql_limit(), page.sql_offset()],
            bare_batch,
        )?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let rows = bare
        .into_iter()
        .map(|batch| complete(db, batch))
        .collect::<Result<_>>()?;
    Ok(Listed { rows, total })
}

/// Forgets the batches that have neither jobs nor pictures left.
pub(crate) fn remove_empty(tx: &Transaction<'_>) -> Result<()> {
    tx.execute_batch(
        "DELETE FROM batches WHERE
             NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.batch = batches.id)
             AND NOT EXISTS (SELECT 1 FROM assets WHERE assets.batch = batches.id);
         DELETE FROM counts WHERE jobs = 0 AND scope <> x''",
    )?;
    Ok(())
}

fn bare_batch(row: &Row<'_>) -> rusqlite::Result<Batch> {
    Ok(Batch {
        id: codec::id(row, "id")?,
        kind: codec::word(row, "kind")?,
        title: row.get("title")?,
        session: codec::optional_id(row, "session")?,
        counts: Default::default(),
        created_at: Timestamp(row.get("created_at")?),
        eta_seconds: None,
    })
}

fn complete(db: &Connection, mut batch: Batch) -> Result<Batch> {
    batch.counts = counts::of_batch(db, batch.id)?;
    Ok(batch)
}
