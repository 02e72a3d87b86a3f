//! Putting jobs into the queue.

use std::collections::HashMap;

use kinora_core::{BatchId, BatchKind, JobId, LaneId, Plan, Priority, SessionId, Timestamp};
use rusqlite::{CachedStatement, Connection, Transaction, params};

use super::GAP;
use crate::{
    Result, batches,
    codec::{Key, priority_rank},
    counts,
    plan_templates::Interner,
    sessions,
};

/// Jobs asked for together.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// What they come from.
    pub kind: BatchKind,
    /// File name of the list, or the prompt.
    pub title: String,
    /// Session they belong to.
    pub session: Option<SessionId>,
    /// The jobs, in the order in which they should run.
    pub jobs: Vec<NewJob>,
}

/// A job to be queued.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// What to do.
    pub plan: Plan,
    /// Track it runs on.
    pub lane: LaneId,
    /// Who goes first.
    pub priority: Priority,
    /// Line of the list that it came from, counted from 1.
    pub line: Option<u32>,
    /// Which copy of its request it is, counted from 0.
    pub copy: u32,
}

impl NewJob {
    /// A job for this machine, interactive, from no list.
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            lane: LaneId::local(),
            priority: Priority::default(),
            line: None,
            copy: 0,
        }
    }
}

/// Queues a batch behind everything of its priorities. The session exists, or is None.
pub fn enqueue(
    tx: &Transaction<'_>,
    batch: NewBatch,
    now: Timestamp,
) -> Result<(BatchId, Vec<JobId>)> {
    let id = batches::create(tx, batch.kind, &batch.title, batch.session, now)?;
    if let Some(session) = batch.session {
        let prompt = batch.jobs.first().map(|job| job.plan.prompt.as_str());
        sessions::touch(tx, session, prompt, now)?;
    }
    let mut insert = Insert::new(tx, Some(id), batch.session)?;
    let mut position = last_position(tx)?;
    let mut ids = Vec::with_capacity(batch.jobs.len());
    for job in batch.jobs {
        position += GAP;
        ids.push(insert.job(tx, job, position, None, now)?);
    }
    insert.finish(tx)?;
    Ok((id, ids))
}

/// Inserts jobs of one batch and session, and counts them.
pub(super) struct Insert<'tx> {
    statement: CachedStatement<'tx>,
    interner: Interner,
    batch: Option<BatchId>,
    session: Option<SessionId>,
    work: HashMap<(LaneId, i64), u64>,
}

impl<'tx> Insert<'tx> {
    pub fn new(
        tx: &'tx Transaction<'_>,
        batch: Option<BatchId>,
        session: Option<SessionId>,
    ) -> Result<Self> {
        Ok(Self {
            statement: tx.prepare_cached(
                "INSERT INTO jobs (id, batch, session, line, copy, lane, priority, position, state,
                     model, batch_key, template, prompt, negative_prompt, seed, stem, retry_of,
                     created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'queued', ?9, ?10, ?11, ?12, ?13, ?14,
                     ?15, ?16, ?17)",
            )?,
            interner: Interner::default(),
            batch,
            session,
            work: HashMap::new(),
        })
    }

    pub fn job(
        &mut self,
        tx: &Transaction<'_>,
        job: NewJob,
        position: i64,
        retry_of: Option<JobId>,
        now: Timestamp,
    ) -> Result<JobId> {
        let (own, rows) = self.interner.intern(tx, job.plan)?;
        let id = JobId::new();
        self.statement.execute(params![
            id.key(),
            self.batch.map(Key::key),
            self.session.map(Key::key),
            job.line,
            job.copy,
            job.lane.as_str(),
            priority_rank(job.priority),
            position,
            rows.model,
            rows.batch_key,
            rows.template,
            own.prompt,
            own.negative_prompt,
            own.seed_column(),
            own.stem,
            retry_of.map(Key::key),
            now.0,
        ])?;
        *self.work.entry((job.lane, rows.batch_key)).or_default() += 1;
        Ok(id)
    }

    /// Counts what was inserted. Without this call the counts are wrong.
    pub fn finish(self, tx: &Transaction<'_>) -> Result<()> {
        counts::add_queued(tx, self.batch, self.session, &self.work)
    }
}

/// The largest position among the jobs that are not final.
pub(super) fn last_position(db: &Connection) -> Result<i64> {
    let mut statement = db.prepare_cached(
        "SELECT position FROM jobs WHERE state = ?1 AND priority = ?2
         ORDER BY position DESC LIMIT 1",
    )?;
    let mut last = 0;
    for state in ["queued", "paused", "running"] {
        for priority in 0..=2 {
            let mut rows = statement.query(params![state, priority])?;
            if let Some(row) = rows.next()? {
                last = last.max(row.get(0)?);
            }
        }
    }
    Ok(last)
}
