//! What a worker takes: the head of the line, and jobs that can go through the network with it.

use kinora_core::{BatchId, Job, LaneId, Plan, Priority, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::{
    Result,
    codec::{self, Key, priority_rank},
    flags,
    plan_templates::{Own, Templates},
};

/// The first job of a line, before it is claimed.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Its row.
    pub seq: i64,
    /// Row of its model.
    pub model: i64,
    /// Its batch.
    pub batch: Option<BatchId>,
    /// How often the engine died under it.
    pub deaths: u32,
    /// The user put it there.
    pub is_moved: bool,
    /// What to do.
    pub plan: Plan,
}

/// Whether a job of this priority waits on the lane.
pub fn is_waiting(db: &Connection, lane: &LaneId, priority: Priority) -> Result<bool> {
    Ok(db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM jobs
                 WHERE lane = ?1 AND priority = ?2 AND state = 'queued')",
        )?
        .query_row(params![lane.as_str(), priority_rank(priority)], |row| {
            row.get(0)
        })?)
}

/// The first queued job of one priority.
pub fn head(db: &Connection, lane: &LaneId, priority: Priority) -> Result<Option<Head>> {
    let seq = db
        .prepare_cached(
            "SELECT seq FROM jobs WHERE lane = ?1 AND priority = ?2 AND state = 'queued'
             ORDER BY position LIMIT 1",
        )?
        .query_row(params![lane.as_str(), priority_rank(priority)], |row| {
            row.get(0)
        })
        .optional()?;
    seq.map(|seq| read_head(db, seq)).transpose()
}

/// The first queued job of one priority that runs on the model of row `model`, of one batch when
/// that is given.
pub fn head_of_model(
    db: &Connection,
    lane: &LaneId,
    priority: Priority,
    model: i64,
    batch: Option<BatchId>,
) -> Result<Option<Head>> {
    let seq = db
        .prepare_cached(
            "SELECT seq FROM jobs
             WHERE lane = ?1 AND priority = ?2 AND state = 'queued' AND model = ?3
               AND (?4 IS NULL OR batch = ?4)
             ORDER BY position LIMIT 1",
        )?
        .query_row(
            params![
                lane.as_str(),
                priority_rank(priority),
                model,
                batch.map(Key::key)
            ],
            |row| row.get(0),
        )
        .optional()?;
    seq.map(|seq| read_head(db, seq)).transpose()
}

fn read_head(db: &Connection, seq: i64) -> Result<Head> {
    let mut statement = db.prepare_cached("SELECT * FROM jobs WHERE seq = ?1")?;
    let mut rows = statement.query([seq])?;
    let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let mut plan = Templates::default().get(db, row.get("template")?)?;
    Own::read(row)?.put(&mut plan);
    Ok(Head {
        seq,
        model: row.get("model")?,
        batch: codec::optional_id(row, "batch")?,
        deaths: row.get("deaths")?,
        is_moved: row.get("is_moved")?,
        plan,
    })
}

/// The plus keeps the planner from walking through every queued job.
pub(super) const CLAIM: &str =
    "UPDATE jobs SET state = 'running', epoch = epoch + 1, started_at = ?3
             WHERE +state = 'queued' AND seq IN (
                 SELECT ?1
                 UNION ALL
                 SELECT seq FROM (
                     SELECT other.seq FROM jobs AS head JOIN jobs AS other
                         ON other.lane = head.lane AND other.priority = head.priority
                         AND other.batch_key = head.batch_key
                     WHERE head.seq = ?1 AND head.state = 'queued' AND head.deaths = 0
                       AND other.state = 'queued' AND other.deaths = 0 AND other.seq <> ?1
                     ORDER BY other.position LIMIT ?2))
             RETURNING seq, position";

/// Claims the job of row `head`, and up to `limit - 1` queued jobs of its lane and priority that
/// are batchable with it, in their order. Jobs under which the engine died neither join a group nor
/// are joined, so that a second death names its culprit. Empty when the queue is paused, or when
/// the head is not queued any more.
pub fn claim(tx: &Transaction<'_>, head: i64, limit: usize, now: Timestamp) -> Result<Vec<Job>> {
    if flags::is_paused(tx)? {
        return Ok(Vec::new());
    }
    let others = i64::try_from(limit.saturating_sub(1)).unwrap_or(i64::MAX);
    let mut seqs = tx
        .prepare_cached(CLAIM)?
        .query_map(params![head, others, now.0], |row| {
            Ok((row.get("position")?, row.get("seq")?))
        })?
        .collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
    // The head leads, whatever the positions of those that joined it.
    seqs.sort_unstable_by_key(|(position, seq)| (*seq != head, *position, *seq));
    let mut templates = Templates::default();
    seqs.into_iter()
        .map(|(_, seq)| super::read(tx, seq, &mut templates))
        .collect()
}
