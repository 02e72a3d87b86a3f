//! Trying again: a new job with the old one's plan, and the fix that fits when that is wanted.

use kinora_core::{Fix, JobId, JobState, Timestamp};
use rusqlite::{Connection, Transaction, params_from_iter};

use super::{
    GAP, JobFilter, NewJob,
    enqueue::{Insert, last_position},
    get,
};
use crate::{
    Result,
    codec::{self},
};

/// What became of a request to try a job again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// By this new job.
    By(JobId),
    /// It has not failed, nor was it cancelled.
    Refused(JobState),
    /// There is no such job.
    Missing,
}

/// Queues a failed or cancelled job's plan again, in its batch and session, behind everything else.
/// With `with_fix`, a [`Fix::Resize`] of its failure goes into the plan; the other fixes are things
/// that the user does before.
pub fn retry(tx: &Transaction<'_>, job: JobId, with_fix: bool, now: Timestamp) -> Result<Retried> {
    let Some(old) = get(tx, job)? else {
        return Ok(Retried::Missing);
    };
    if !matches!(old.state, JobState::Failed | JobState::Cancelled) {
        return Ok(Retried::Refused(old.state));
    }
    let mut plan = old.plan;
    let fix = old.failure.and_then(|failure| failure.fix);
    if let (true, Some(Fix::Resize { width, height })) = (with_fix, fix) {
        plan.size.width = width;
        plan.size.height = height;
    }
    let new = NewJob {
        plan,
        lane: old.lane,
        priority: old.priority,
        line: old.line,
        copy: old.copy,
    };
    let position = last_position(tx)? + GAP;
    let mut insert = Insert::new(tx, old.batch, old.session)?;
    let id = insert.job(tx, new, position, Some(job), now)?;
    insert.finish(tx)?;
    Ok(Retried::By(id))
}

/// The failed jobs of a filter that were not tried again yet, oldest first.
pub fn unretried(db: &Connection, filter: &JobFilter) -> Result<Vec<JobId>> {
    let (scope, keys) = filter.scope_sql();
    let mut statement = db.prepare(&format!(
        "SELECT id FROM jobs WHERE state = 'failed' AND {scope}
           AND NOT EXISTS (SELECT 1 FROM jobs AS later WHERE later.retry_of = jobs.id)
         ORDER BY seq"
    ))?;
    let rows = statement.query_map(params_from_iter(&keys), |row| codec::id(row, "id"))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
