//! Jobs: the queue itself. The columns, and what is read one job at a time; the operations are in
//! the submodules.
//!
//! The order inside a lane is priority, then position. `seq` is the order of submission.

mod claim;
mod control;
mod enqueue;
mod finish;
mod list;
mod order;
mod retry;

use kinora_core::{Job, JobId, JobState, LaneId, Plan, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};

pub use claim::{Head, claim, head, head_of_model, is_waiting};
pub use control::{
    Cancelled, Change, Removed, cancel, cancel_where, pause, remove, remove_where, resume,
};
pub use enqueue::{NewBatch, NewJob, enqueue};
pub use finish::{
    Done, Interrupted, Stored, finish_died, finish_done, finish_failed, finish_interrupted,
    finish_stopped, finish_unnamed, interrupted, keep_result, release,
};
pub use list::{JobFilter, JobSort, QueuedWork, ahead, last_of_batch, list, queued_work};
pub use order::{move_before, set_priority};
pub use retry::{Retried, retry, unretried};

use crate::{
    Result,
    codec::{self, Key},
    plan_templates::{Own, Templates},
};

/// The distance between the positions of jobs queued one after another: 24 halvings of room for
/// moving jobs in between, and half a billion jobs before an integer is no longer exact in JSON.
pub(crate) const GAP: i64 = 1 << 24;

/// Who asked a running job to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The user does not want it any more.
    Cancel,
    /// The user wants it later.
    Pause,
}

pub(crate) const V1: &str = "
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    batch BLOB REFERENCES batches (id) ON DELETE SET NULL,
    session BLOB REFERENCES sessions (id) ON DELETE SET NULL,
    line INTEGER,
    copy INTEGER NOT NULL,
    lane TEXT NOT NULL,
    -- 0 bulk, 1 interactive, 2 urgent.
    priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 2),
    position INTEGER NOT NULL,
    -- The user put it where it is: nothing passes it to save a change of models.
    is_moved INTEGER NOT NULL DEFAULT 0 CHECK (is_moved IN (0, 1)),
    state TEXT NOT NULL
        CHECK (state IN ('queued', 'paused', 'running', 'done', 'failed', 'cancelled')),
    -- What a running job was asked to become.
    stop TEXT CHECK (stop IN ('cancel', 'pause')),
    epoch INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    model INTEGER NOT NULL REFERENCES planned_models (id),
    batch_key INTEGER NOT NULL REFERENCES batch_keys (id),
    -- The plan: a template, and what this job brings itself.
    template INTEGER NOT NULL REFERENCES plan_templates (id),
    prompt TEXT NOT NULL,
    negative_prompt TEXT NOT NULL,
    seed INTEGER NOT NULL,
    stem TEXT NOT NULL,
    -- May name a job that was removed since.
    retry_of BLOB,
    failure TEXT,
    timings TEXT,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    CHECK ((state = 'failed') = (failure IS NOT NULL)),
    CHECK ((state IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK (stop IS NULL OR state = 'running')
) STRICT;

CREATE INDEX jobs_head ON jobs (lane, priority, position) WHERE state = 'queued';
CREATE INDEX jobs_model ON jobs (lane, priority, model, position, batch) WHERE state = 'queued';
CREATE INDEX jobs_batchable ON jobs (lane, priority, batch_key, position)
    WHERE state = 'queued' AND deaths = 0;
CREATE INDEX jobs_run ON jobs (state, priority DESC, position);
CREATE INDEX jobs_state ON jobs (state);
CREATE INDEX jobs_batch ON jobs (batch, state);
CREATE INDEX jobs_batch_last ON jobs (batch, priority DESC, position) WHERE state = 'queued';
CREATE INDEX jobs_session ON jobs (session, state);
CREATE INDEX jobs_retry ON jobs (retry_of) WHERE retry_of IS NOT NULL;

CREATE TRIGGER jobs_final BEFORE UPDATE OF state ON jobs
WHEN OLD.state IN ('done', 'failed', 'cancelled') BEGIN
    SELECT raise(ABORT, 'a final state never changes');
END;

-- Insertions are counted where they are made, a whole batch at once.
CREATE TRIGGER jobs_work_leave AFTER UPDATE OF state ON jobs WHEN OLD.state = 'queued' BEGIN
    UPDATE queued_work SET jobs = jobs - 1
        WHERE lane = OLD.lane AND batch_key = OLD.batch_key;
END;

CREATE TRIGGER jobs_work_enter AFTER UPDATE OF state ON jobs WHEN NEW.state = 'queued' BEGIN
    INSERT INTO queued_work VALUES (NEW.lane, NEW.batch_key, 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER jobs_count_delete AFTER DELETE ON jobs BEGIN
    UPDATE counts SET jobs = jobs - 1
        WHERE scope IN (x'', OLD.batch, OLD.session) AND state = OLD.state;
END;

CREATE TRIGGER jobs_count_update AFTER UPDATE OF state, batch, session ON jobs BEGIN
    UPDATE counts SET jobs = jobs - 1
        WHERE scope IN (x'', OLD.batch, OLD.session) AND state = OLD.state;
    INSERT INTO counts SELECT x'', NEW.state, 1 WHERE true
        ON CONFLICT DO UPDATE SET jobs = jobs + 1;
    INSERT INTO counts SELECT NEW.batch, NEW.state, 1 WHERE NEW.batch IS NOT NULL
        ON CONFLICT DO UPDATE SET jobs = jobs + 1;
    INSERT INTO counts SELECT NEW.session, NEW.state, 1 WHERE NEW.session IS NOT NULL
        ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
";

/// One job, with its assets; without progress and without the reason why it waits.
pub fn get(db: &Connection, id: JobId) -> Result<Option<Job>> {
    match seq_of(db, id)? {
        Some(seq) => Ok(Some(read(db, seq, &mut Templates::default())?)),
        None => Ok(None),
    }
}

/// Where a job stands, without reading its plan.
pub fn state(db: &Connection, id: JobId) -> Result<Option<JobState>> {
    Ok(db
        .prepare_cached("SELECT state FROM jobs WHERE id = ?1")?
        .query_row([id.key()], |row| codec::state(row, "state"))
        .optional()?)
}

/// Where a job stands, and under which epoch.
pub fn attempt(db: &Connection, id: JobId) -> Result<Option<(JobState, u32)>> {
    Ok(db
        .prepare_cached("SELECT state, epoch FROM jobs WHERE id = ?1")?
        .query_row([id.key()], |row| {
            Ok((codec::state(row, "state")?, row.get("epoch")?))
        })
        .optional()?)
}

pub(crate) fn seq_of(db: &Connection, id: JobId) -> Result<Option<i64>> {
    Ok(db
        .prepare_cached("SELECT seq FROM jobs WHERE id = ?1")?
        .query_row([id.key()], |row| row.get(0))
        .optional()?)
}

/// Reads the job of one row.
pub(crate) fn read(db: &Connection, seq: i64, templates: &mut Templates) -> Result<Job> {
    let mut statement = db.prepare_cached("SELECT * FROM jobs WHERE seq = ?1")?;
    let mut rows = statement.query([seq])?;
    let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let mut plan = templates.get(db, row.get("template")?)?;
    Own::read(row)?.put(&mut plan);
    let mut job = bare_job(row, plan)?;
    if job.state == JobState::Done {
        job.assets = crate::assets::ids_of_job(db, job.id)?;
    }
    Ok(job)
}

/// Everything in the job's own row.
fn bare_job(row: &Row<'_>, plan: Plan) -> rusqlite::Result<Job> {
    Ok(Job {
        id: codec::id(row, "id")?,
        batch: codec::optional_id(row, "batch")?,
        session: codec::optional_id(row, "session")?,
        line: row.get("line")?,
        copy: row.get("copy")?,
        lane: LaneId::new(row.get::<_, String>("lane")?),
        priority: codec::priority(row, "priority")?,
        position: row.get("position")?,
        state: codec::state(row, "state")?,
        epoch: row.get("epoch")?,
        deaths: row.get("deaths")?,
        plan,
        retry_of: codec::optional_id(row, "retry_of")?,
        failure: codec::optional_json(row, "failure")?,
        timings: codec::optional_json(row, "timings")?,
        assets: Vec::new(),
        created_at: Timestamp(row.get("created_at")?),
        started_at: row.get::<_, Option<i64>>("started_at")?.map(Timestamp),
        finished_at: row.get::<_, Option<i64>>("finished_at")?.map(Timestamp),
        is_cancelling: row.get::<_, Option<String>>("stop")?.as_deref() == Some("cancel"),
        progress: None,
        waiting: None,
    })
}

#[cfg(test)]
mod tests;
