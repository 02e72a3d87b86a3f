//! How many jobs stand where: for the queue, each session and each batch, kept by the database
//! itself, so that showing a batch of a hundred thousand jobs costs six rows.

use std::collections::HashMap;

use kinora_core::{BatchId, LaneId, SessionId, StateCounts};
use rusqlite::{Connection, Transaction, params};

use crate::{
    Result,
    codec::{self, Key},
};

/// The triggers live with the table of jobs, which is created after this one.
pub(crate) const V1: &str = "
CREATE TABLE counts (
    -- The id of a session or a batch; empty for the whole queue.
    scope BLOB NOT NULL,
    state TEXT NOT NULL,
    jobs INTEGER NOT NULL CHECK (jobs >= 0),
    PRIMARY KEY (scope, state)
) STRICT, WITHOUT ROWID;

-- Queued jobs by kind of work: what the time that is left is summed from.
CREATE TABLE queued_work (
    lane TEXT NOT NULL,
    batch_key INTEGER NOT NULL REFERENCES batch_keys (id),
    jobs INTEGER NOT NULL CHECK (jobs >= 0),
    PRIMARY KEY (lane, batch_key)
) STRICT, WITHOUT ROWID;
";

/// Counts of the whole queue.
pub fn of_queue(db: &Connection) -> Result<StateCounts> {
    of_scope(db, &[])
}

/// Counts of one session.
pub fn of_session(db: &Connection, session: SessionId) -> Result<StateCounts> {
    of_scope(db, &session.key())
}

/// Counts of one batch.
pub fn of_batch(db: &Connection, batch: BatchId) -> Result<StateCounts> {
    of_scope(db, &batch.key())
}

/// Counts jobs that were just queued, by lane and row of [`batch_keys`](crate::batch_keys).
pub(crate) fn add_queued(
    tx: &Transaction<'_>,
    batch: Option<BatchId>,
    session: Option<SessionId>,
    work: &HashMap<(LaneId, i64), u64>,
) -> Result<()> {
    let mut kind = tx.prepare_cached(
        "INSERT INTO queued_work (lane, batch_key, jobs) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs",
    )?;
    for ((lane, batch_key), jobs) in work {
        kind.execute(params![lane.as_str(), batch_key, codec::to_natural(*jobs)])?;
    }
    let jobs = work.values().sum();
    let mut statement = tx.prepare_cached(
        "INSERT INTO counts (scope, state, jobs) VALUES (?1, 'queued', ?2)
         ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs",
    )?;
    let jobs = codec::to_natural(jobs);
    statement.execute(params![[0_u8; 0].as_slice(), jobs])?;
    for scope in [batch.map(Key::key), session.map(Key::key)]
        .into_iter()
        .flatten()
    {
        statement.execute(params![scope, jobs])?;
    }
    Ok(())
}

fn of_scope(db: &Connection, scope: &[u8]) -> Result<StateCounts> {
    let mut statement = db.prepare_cached("SELECT state, jobs FROM counts WHERE scope = ?1")?;
    let mut counts = StateCounts::default();
    let mut rows = statement.query([scope])?;
    while let Some(row) = rows.next()? {
        *counts.get_mut(codec::state(row, "state")?) = codec::natural(row, "jobs")?;
    }
    Ok(counts)
}
