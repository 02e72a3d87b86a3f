//! The order inside a lane: priorities, and moving a job before another.

use kinora_core::{JobId, JobState, Priority};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Change, GAP, enqueue::last_position};
use crate::{
    Result,
    codec::{self, Key, priority_rank},
};

/// A waiting job's place.
struct Place {
    seq: i64,
    lane: String,
    priority: i64,
    position: i64,
    state: JobState,
}

fn place(db: &Connection, job: JobId) -> Result<Option<Place>> {
    Ok(db
        .prepare_cached("SELECT seq, lane, priority, position, state FROM jobs WHERE id = ?1")?
        .query_row([job.key()], |row| {
            Ok(Place {
                seq: row.get("seq")?,
                lane: row.get("lane")?,
                priority: row.get("priority")?,
                position: row.get("position")?,
                state: codec::state(row, "state")?,
            })
        })
        .optional()?)
}

fn is_waiting(state: JobState) -> bool {
    matches!(state, JobState::Queued | JobState::Paused)
}

/// Gives a waiting job another priority, at the end of that priority's line.
pub fn set_priority(tx: &Transaction<'_>, job: JobId, priority: Priority) -> Result<Change> {
    let Some(found) = place(tx, job)? else {
        return Ok(Change::Missing);
    };
    if !is_waiting(found.state) {
        return Ok(Change::Refused(found.state));
    }
    let priority = priority_rank(priority);
    if priority == found.priority {
        return Ok(Change::Unchanged);
    }
    let position = last_position(tx)? + GAP;
    tx.execute(
        "UPDATE jobs SET priority = ?2, position = ?3, is_moved = 0 WHERE seq = ?1",
        params![found.seq, priority, position],
    )?;
    Ok(Change::Now(found.state))
}

/// Puts a waiting job directly before another one of its lane, whose priority it takes over; or at
/// the end of its own priority's line.
///
/// Returns [`Change::Refused`] with the state that stands in the way when either does not wait, and
/// [`Change::Missing`] when either does not exist, or the other is on another lane.
pub fn move_before(tx: &Transaction<'_>, job: JobId, other: Option<JobId>) -> Result<Change> {
    let Some(moved) = place(tx, job)? else {
        return Ok(Change::Missing);
    };
    if !is_waiting(moved.state) {
        return Ok(Change::Refused(moved.state));
    }
    let Some(other) = other else {
        let position = last_position(tx)? + GAP;
        tx.execute(
            "UPDATE jobs SET position = ?2, is_moved = 0 WHERE seq = ?1",
            params![moved.seq, position],
        )?;
        return Ok(Change::Now(moved.state));
    };
    if other == job {
        return Ok(Change::Unchanged);
    }
    let Some(mut next) = place(tx, other)?.filter(|next| next.lane == moved.lane) else {
        return Ok(Change::Missing);
    };
    if !is_waiting(next.state) {
        return Ok(Change::Refused(next.state));
    }
    let mut previous = position_before(tx, &next, moved.seq)?;
    if next.position - previous < 2 {
        spread(tx, &next)?;
        if let Some(again) = place(tx, other)? {
            next = again;
        }
        previous = position_before(tx, &next, moved.seq)?;
    }
    let position = previous + (next.position - previous) / 2;
    tx.execute(
        "UPDATE jobs SET priority = ?2, position = ?3, is_moved = 1 WHERE seq = ?1",
        params![moved.seq, next.priority, position],
    )?;
    Ok(Change::Now(moved.state))
}

/// The position of the job before `next`, not counting the job that moves.
fn position_before(db: &Connection, next: &Place, moved: i64) -> Result<i64> {
    let mut statement = db.prepare_cached(
        "SELECT position FROM jobs
         WHERE state = ?1 AND priority = ?2 AND position < ?3 AND lane = ?4 AND seq <> ?5
         ORDER BY position DESC LIMIT 1",
    )?;
    let mut previous = next.position - 2 * GAP;
    for state in ["queued", "paused", "running"] {
        let found: Option<i64> = statement
            .query_row(
                params![state, next.priority, next.position, next.lane, moved],
                |row| row.get(0),
            )
            .optional()?;
        previous = previous.max(found.unwrap_or(i64::MIN));
    }
    Ok(previous)
}

/// Gives the jobs of a line even positions again, in the same order.
fn spread(tx: &Transaction<'_>, line: &Place) -> Result<()> {
    let seqs = tx
        .prepare_cached(
            "SELECT seq FROM jobs
             WHERE state IN ('queued', 'paused', 'running') AND priority = ?1 AND lane = ?2
             ORDER BY position, seq",
        )?
        .query_map(params![line.priority, line.lane], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    let mut update = tx.prepare_cached("UPDATE jobs SET position = ?2 WHERE seq = ?1")?;
    for (index, seq) in seqs.into_iter().enumerate() {
        update.execute(params![seq, (index as i64 + 1) * GAP])?;
    }
    Ok(())
}
