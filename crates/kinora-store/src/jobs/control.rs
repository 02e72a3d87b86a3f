//! What users do with jobs: cancel, pause, resume, remove. Waiting jobs change at once; running
//! ones are asked to stop, durably.

use kinora_core::{JobId, JobState, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction, params, params_from_iter};

use super::{JobFilter, state};
use crate::{
    Result, batches,
    codec::{self, Key},
};

/// What became of a request to change one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is in another state now.
    Now(JobState),
    /// It runs, and was asked to stop at its next step.
    Asked,
    /// It was so already.
    Unchanged,
    /// Its state does not allow this.
    Refused(JobState),
    /// There is no such job.
    Missing,
}

/// Cancels one job.
pub fn cancel(tx: &Transaction<'_>, job: JobId, now: Timestamp) -> Result<Change> {
    let Some(state) = state(tx, job)? else {
        return Ok(Change::Missing);
    };
    match state {
        JobState::Queued | JobState::Paused => {
            tx.execute(
                "UPDATE jobs SET state = 'cancelled', finished_at = ?2 WHERE id = ?1",
                params![job.key(), now.0],
            )?;
            Ok(Change::Now(JobState::Cancelled))
        }
        JobState::Running => ask_to_stop(tx, job, "cancel"),
        JobState::Cancelled => Ok(Change::Unchanged),
        JobState::Done | JobState::Failed => Ok(Change::Refused(state)),
    }
}

/// Pauses one job.
pub fn pause(tx: &Transaction<'_>, job: JobId) -> Result<Change> {
    let Some(state) = state(tx, job)? else {
        return Ok(Change::Missing);
    };
    match state {
        JobState::Queued => {
            tx.execute(
                "UPDATE jobs SET state = 'paused' WHERE id = ?1",
                [job.key()],
            )?;
            Ok(Change::Now(JobState::Paused))
        }
        JobState::Running => {
            // Who cancelled a job does not get it back by pausing it.
            let is_cancelling: bool = tx.query_row(
                "SELECT stop IS 'cancel' FROM jobs WHERE id = ?1",
                [job.key()],
                |row| row.get(0),
            )?;
            if is_cancelling {
                return Ok(Change::Refused(state));
            }
            ask_to_stop(tx, job, "pause")
        }
        JobState::Paused => Ok(Change::Unchanged),
        JobState::Done | JobState::Failed | JobState::Cancelled => Ok(Change::Refused(state)),
    }
}

/// Resumes one job: a paused one waits again at its old place, and one that was about to pause
/// waits again as soon as it has stopped.
pub fn resume(tx: &Transaction<'_>, job: JobId) -> Result<Change> {
    let Some(state) = state(tx, job)? else {
        return Ok(Change::Missing);
    };
    match state {
        JobState::Paused => {
            tx.execute(
                "UPDATE jobs SET state = 'queued' WHERE id = ?1",
                [job.key()],
            )?;
            Ok(Change::Now(JobState::Queued))
        }
        JobState::Running => {
            let changed = tx.execute(
                "UPDATE jobs SET stop = NULL WHERE id = ?1 AND stop = 'pause'",
                [job.key()],
            )?;
            Ok(if changed > 0 {
                Change::Asked
            } else {
                Change::Unchanged
            })
        }
        JobState::Queued => Ok(Change::Unchanged),
        JobState::Done | JobState::Failed | JobState::Cancelled => Ok(Change::Refused(state)),
    }
}

fn ask_to_stop(tx: &Transaction<'_>, job: JobId, stop: &str) -> Result<Change> {
    let changed = tx.execute(
        "UPDATE jobs SET stop = ?2 WHERE id = ?1 AND stop IS NOT ?2",
        params![job.key(), stop],
    )?;
    Ok(if changed > 0 {
        Change::Asked
    } else {
        Change::Unchanged
    })
}

/// What became of a request to cancel many jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Waiting jobs that are cancelled now.
    pub waiting: u64,
    /// The waiting ones that had been claimed before, and so may have left files in their folders.
    pub attempted: Vec<JobId>,
    /// Running jobs that were asked to stop.
    pub asked: Vec<JobId>,
}

/// Cancels every job of a filter that is not final yet.
pub fn cancel_where(tx: &Transaction<'_>, filter: &JobFilter, now: Timestamp) -> Result<Cancelled> {
    let (scope, keys) = filter.scope_sql();
    let mut cancelled = Cancelled::default();
    if filter.has(JobState::Running) {
        cancelled.asked = tx
            .prepare(&format!(
                "UPDATE jobs SET stop = 'cancel'
                 WHERE state = 'running' AND stop IS NOT 'cancel' AND {scope} RETURNING id"
            ))?
            .query_map(params_from_iter(&keys), |row| codec::id(row, "id"))?
            .collect::<rusqlite::Result<_>>()?;
    }
    for state in [JobState::Queued, JobState::Paused] {
        if !filter.has(state) {
            continue;
        }
        let state = state.as_str();
        cancelled.attempted.extend(
            tx.prepare(&format!(
                "SELECT id FROM jobs WHERE state = '{state}' AND epoch > 0 AND {scope}"
            ))?
            .query_map(params_from_iter(&keys), |row| codec::id(row, "id"))?
            .collect::<rusqlite::Result<Vec<JobId>>>()?,
        );
        let changed = tx.execute(
            &format!(
                "UPDATE jobs SET state = 'cancelled', finished_at = {}
                 WHERE state = '{state}' AND {scope}",
                now.0
            ),
            params_from_iter(&keys),
        )?;
        cancelled.waiting += changed as u64;
    }
    Ok(cancelled)
}

/// What became of a request to remove one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone; its assets stay.
    Gone,
    /// It is not final.
    Refused(JobState),
    /// There is no such job.
    Missing,
}

/// Forgets a final job.
pub fn remove(tx: &Transaction<'_>, job: JobId) -> Result<Removed> {
    let Some(state) = state(tx, job)? else {
        return Ok(Removed::Missing);
    };
    if !state.is_final() || has_unpublished(tx, job)? {
        return Ok(Removed::Refused(state));
    }
    tx.execute("DELETE FROM jobs WHERE id = ?1", [job.key()])?;
    batches::remove_empty(tx)?;
    Ok(Removed::Gone)
}

/// Forgets every final job of a filter; returns those that are gone.
pub fn remove_where(tx: &Transaction<'_>, filter: &JobFilter) -> Result<Vec<JobId>> {
    let (scope, keys) = filter.scope_sql();
    let mut removed = Vec::new();
    for state in JobState::ALL {
        if !state.is_final() || !filter.has(state) {
            continue;
        }
        let state = state.as_str();
        removed.extend(
            tx.prepare(&format!(
                "DELETE FROM jobs WHERE state = '{state}' AND {scope}
                 AND NOT EXISTS (SELECT 1 FROM assets WHERE job = jobs.id AND published = 0)
                 RETURNING id"
            ))?
            .query_map(params_from_iter(&keys), |row| codec::id(row, "id"))?
            .collect::<rusqlite::Result<Vec<JobId>>>()?,
        );
    }
    batches::remove_empty(tx)?;
    Ok(removed)
}

/// Whether a picture of the job is on its way to its final name.
fn has_unpublished(db: &Connection, job: JobId) -> Result<bool> {
    Ok(db
        .query_row(
            "SELECT 1 FROM assets WHERE job = ?1 AND published = 0",
            [job.key()],
            |_| Ok(()),
        )
        .optional()?
        .is_some())
}
