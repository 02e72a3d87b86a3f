//! The ends of attempts. Every write here carries the epoch of the worker that makes it, and
//! changes nothing when the job has moved on since.

use kinora_core::{Artifact, AssetId, Code, Failure, JobId, JobState, Timestamp, Timings};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::{
    Result, assets, batch_keys,
    codec::{self, Key},
    sessions, timings,
};

/// The engine's deaths under one job after which it is not tried again.
const POISON_DEATHS: u32 = 2;

/// Attempts of one job after which even interruptions from outside count as deaths.
const FORGIVEN_EPOCHS: u32 = 100;

/// A finished attempt, as it is stored.
pub struct Done<'a> {
    /// What was made.
    pub artifact: &'a Artifact,
    /// Path of the picture below the outputs folder; unique among the assets.
    pub path: &'a str,
    /// Where the file is until it is published, below the outputs folder.
    pub staging: &'a str,
    /// Where the time went.
    pub timings: Timings,
}

/// How a write of [`keep_result`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The asset is stored and waits to be published, which is when its job is done.
    Asset(AssetId),
    /// The attempt is not the job's any more; nothing was written.
    Late,
    /// Another asset has the path; nothing was written.
    PathTaken,
}

/// Stores an attempt's result: the asset, unpublished. The job is running until [`finish_done`],
/// since nobody may see a job that is done without its picture; but from here on it never runs
/// again.
pub fn keep_result(
    tx: &Transaction<'_>,
    job: JobId,
    epoch: u32,
    done: &Done<'_>,
    now: Timestamp,
) -> Result<Stored> {
    if assets::is_taken(tx, done.path)? {
        return Ok(Stored::PathTaken);
    }
    let row = tx
        .prepare_cached(
            "UPDATE jobs SET timings = ?3 WHERE id = ?1 AND epoch = ?2 AND state = 'running'
             RETURNING session, batch, batch_key",
        )?
        .query_row(
            params![job.key(), epoch, codec::to_json(&done.timings)?],
            |row| {
                Ok((
                    codec::optional_id(row, "session")?,
                    codec::optional_id(row, "batch")?,
                    row.get("batch_key")?,
                ))
            },
        )
        .optional()?;
    let Some((session, batch, key)) = row else {
        return Ok(Stored::Late);
    };
    let new = assets::NewAsset {
        job,
        batch,
        session,
        artifact: done.artifact,
        path: done.path,
        staging: done.staging,
    };
    let asset = assets::add(tx, new, now)?;
    if let Some(session) = session {
        sessions::touch(tx, session, None, now)?;
    }
    if let Some(kind) = batch_keys::get(tx, key)? {
        let run = timings::Run {
            model: kind.model_id,
            size: kind.shape.size,
            frames: kind.shape.video.map_or(1, |video| video.frames),
            steps: kind.shape.steps,
            timings: done.timings,
        };
        timings::add(tx, &run)?;
    }
    Ok(Stored::Asset(asset))
}

/// Publishes an asset whose file has its final name; with it, its job is done. False when it was
/// published before.
pub fn finish_done(tx: &Transaction<'_>, asset: AssetId, now: Timestamp) -> Result<bool> {
    finish_unnamed(tx, asset, now)?;
    assets::publish(tx, asset)
}

/// Ends the job of an asset that cannot be published for now: the job is done and the asset will be
/// there once the file has its name.
pub fn finish_unnamed(tx: &Transaction<'_>, asset: AssetId, now: Timestamp) -> Result<()> {
    tx.prepare_cached(
        "UPDATE jobs SET state = 'done', stop = NULL, finished_at = ?2
         WHERE id = (SELECT job FROM assets WHERE id = ?1) AND state = 'running'",
    )?
    .execute(params![asset.key(), now.0])?;
    Ok(())
}

/// Stores why a job will not work; false when the attempt is not the job's any more.
pub fn finish_failed(
    tx: &Transaction<'_>,
    job: JobId,
    epoch: u32,
    failure: &Failure,
    now: Timestamp,
) -> Result<bool> {
    let changed = tx
        .prepare_cached(
            "UPDATE jobs SET state = 'failed', stop = NULL, failure = ?3, finished_at = ?4
             WHERE id = ?1 AND epoch = ?2 AND state = 'running'",
        )?
        .execute(params![job.key(), epoch, codec::to_json(failure)?, now.0])?;
    Ok(changed > 0)
}

/// Ends an attempt that stopped as it was asked: the job is cancelled, paused, or, when it was
/// resumed in the meantime, queued again. None when the attempt is not the job's any more.
pub fn finish_stopped(
    tx: &Transaction<'_>,
    job: JobId,
    epoch: u32,
    now: Timestamp,
) -> Result<Option<JobState>> {
    Ok(tx
        .prepare_cached(
            "UPDATE jobs SET
                 state = CASE stop WHEN 'cancel' THEN 'cancelled' WHEN 'pause' THEN 'paused'
                         ELSE 'queued' END,
                 finished_at = CASE stop WHEN 'cancel' THEN ?3 END,
                 stop = NULL
             WHERE id = ?1 AND epoch = ?2 AND state = 'running' RETURNING state",
        )?
        .query_row(params![job.key(), epoch, now.0], |row| {
            codec::state(row, "state")
        })
        .optional()?)
}

/// Ends an attempt whose engine died: the job waits again, is what the user asked it to be, or has
/// failed for good when it died before. None when the attempt is not the job's any more.
pub fn finish_died(
    tx: &Transaction<'_>,
    job: JobId,
    epoch: u32,
    failure: &Failure,
    now: Timestamp,
) -> Result<Option<JobState>> {
    let deaths: Option<u32> = tx
        .prepare_cached(
            "UPDATE jobs SET deaths = deaths + 1
             WHERE id = ?1 AND epoch = ?2 AND state = 'running' RETURNING deaths",
        )?
        .query_row(params![job.key(), epoch], |row| row.get(0))
        .optional()?;
    let Some(deaths) = deaths else {
        return Ok(None);
    };
    let is_cancelled = tx
        .prepare_cached("SELECT stop IS 'cancel' FROM jobs WHERE id = ?1")?
        .query_row([job.key()], |row| row.get::<_, bool>(0))?;
    if deaths < POISON_DEATHS || is_cancelled {
        return finish_stopped(tx, job, epoch, now);
    }
    let poison = Failure {
        code: Code::Poison,
        message: format!(
            "run the job: the engine died under it twice, so it is not tried again; \
             the last time it failed to {}",
            failure.message
        ),
        hint: if failure.hint.is_empty() {
            "Try a smaller size or another model; other jobs are not affected.".into()
        } else {
            failure.hint.clone()
        },
        ..failure.clone()
    };
    finish_failed(tx, job, epoch, &poison, now)?;
    Ok(Some(JobState::Failed))
}

/// Ends an attempt that was ended from outside: the job waits again, or is what the user asked it to
/// be, and its deaths stay as they are; but what happens for ever is somebody's fault after all.
pub fn finish_interrupted(
    tx: &Transaction<'_>,
    job: JobId,
    epoch: u32,
    failure: &Failure,
    now: Timestamp,
) -> Result<Option<JobState>> {
    if epoch >= FORGIVEN_EPOCHS {
        return finish_died(tx, job, epoch, failure, now);
    }
    finish_stopped(tx, job, epoch, now)
}

/// Ends an attempt because the program ends: as [`finish_stopped`], without blaming anybody.
pub fn release(tx: &Transaction<'_>, job: JobId, epoch: u32, now: Timestamp) -> Result<bool> {
    Ok(finish_stopped(tx, job, epoch, now)?.is_some())
}

/// A job that was running when the program ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Interrupted {
    /// Which.
    pub job: JobId,
    /// Its last attempt.
    pub epoch: u32,
    /// The stem of its output.
    pub stem: String,
}

/// The jobs in state running that have no result yet; at start, those whose process is gone.
pub fn interrupted(db: &Connection) -> Result<Vec<Interrupted>> {
    let mut statement = db.prepare_cached(
        "SELECT id, epoch, stem FROM jobs WHERE state = 'running'
             AND NOT EXISTS (SELECT 1 FROM assets WHERE job = jobs.id AND published = 0)
         ORDER BY priority, position",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Interrupted {
            job: codec::id(row, "id")?,
            epoch: row.get("epoch")?,
            stem: row.get("stem")?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
