//! Asking for pictures, and looking after the jobs that make them.
//! Not here: what happens to a job between being queued and being done (kinora-queue).

use std::sync::Arc;

use kinora_core::{BatchId, Job, JobId, JobState, Priority, Request, Seed, SessionId, SessionKind};
use kinora_queue::{BatchKind, JobFilter, NewBatch, NewJob, Page};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    decide::Decisions,
    error::{Error, Result},
    estimate, inputs,
    queue::JobCount,
    resolve::{Place, resolve},
    sessions,
};

/// Jobs that an answer to a submission lists; the others are found by their batch.
const LISTED_JOBS: usize = 1_000;
/// Rows of a page when none are asked for.
pub(crate) const PAGE_ROWS: u32 = 100;
/// Longest title of a batch in characters.
const TITLE_CHARS: usize = 200;
/// Names of files that a preflight shows.
const SHOWN_OUTPUTS: usize = 4;

/// Something that was decided differently than asked, or that is worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    /// The member of the request that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The line of the list that it is about, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// One sentence for people.
    pub message: String,
}

/// A job that was just queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubmittedJob {
    /// Id.
    pub id: JobId,
    /// Its seed.
    pub seed: Seed,
}

/// What was queued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Submitted {
    /// The jobs' batch.
    pub batch: BatchId,
    /// The session that they belong to.
    pub session: Option<SessionId>,
    /// How many jobs were queued.
    pub pictures: u64,
    /// The jobs in the order of the request or list; at most the first 1,000.
    pub jobs: Vec<SubmittedJob>,
    /// What was decided differently than asked.
    pub notes: Vec<Note>,
}

/// Names a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRef {
    /// Which.
    pub id: JobId,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JobQuery {
    /// In one of these states; empty: in any.
    pub states: Vec<JobState>,
    /// Of one session.
    pub session: Option<SessionId>,
    /// Of one batch.
    pub batch: Option<BatchId>,
    /// Only those that are not finished.
    pub active: bool,
    /// How many to skip.
    pub offset: u64,
    /// How many to answer with, at most 1,000. None: 100.
    pub limit: Option<u32>,
}

/// One page of jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobPage {
    /// The jobs of this page.
    pub jobs: Vec<Job>,
    /// How many there are in all.
    pub total: u64,
}

/// A second attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryJob {
    /// The failed or cancelled job.
    pub id: JobId,
    /// Apply the fix that its failure suggests (a smaller size, say).
    #[serde(default)]
    pub with_fix: bool,
}

/// A new place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveJob {
    /// The job to move.
    pub id: JobId,
    /// The job that it goes before; None: the end.
    #[serde(default)]
    pub before: Option<JobId>,
}

/// A new priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPriority {
    /// Which job.
    pub id: JobId,
    /// Who goes first.
    pub priority: Priority,
}

/// What is about to be queued.
pub(crate) struct Submission {
    pub kind: BatchKind,
    /// Prompt, or the list's name.
    pub title: String,
    /// None: a new one.
    pub session: Option<SessionId>,
    pub jobs: Vec<NewJob>,
    pub notes: Vec<Note>,
}

/// Queues jobs as one batch, in a session of their own where none is named.
pub(crate) async fn enqueue(app: &Arc<App>, submission: Submission) -> Result<Submitted> {
    inputs::secure(app, submission.jobs.iter().map(|job| &job.plan)).await?;
    let kind = match submission.kind {
        BatchKind::Copies => SessionKind::Image,
        BatchKind::List => SessionKind::Bulk,
    };
    let (session, is_new) = match submission.session {
        Some(session) => (session, false),
        None => {
            let title = match kind {
                SessionKind::Image => "",
                SessionKind::Bulk => submission.title.as_str(),
            };
            (sessions::begin(app, kind, title)?.id, true)
        }
    };
    let seeds: Vec<Seed> = submission
        .jobs
        .iter()
        .take(LISTED_JOBS)
        .map(|job| job.plan.seed)
        .collect();
    let queued = app
        .queue()
        .enqueue(NewBatch {
            kind: submission.kind,
            title: submission.title.chars().take(TITLE_CHARS).collect(),
            session: Some(session),
            jobs: submission.jobs,
        })
        .await;
    let (batch, ids) = match queued {
        Ok(queued) => queued,
        Err(error) => {
            if is_new {
                sessions::forget(app, session)?;
            }
            return Err(error.into());
        }
    };
    Ok(Submitted {
        batch,
        session: Some(session),
        pictures: ids.len() as u64,
        jobs: ids
            .into_iter()
            .zip(seeds)
            .map(|(id, seed)| SubmittedJob { id, seed })
            .collect(),
        notes: submission.notes,
    })
}

/// Checks a request and estimates its cost, without queueing anything.
pub async fn preflight(app: &Arc<App>, request: Request) -> Result<estimate::Preflight> {
    let decisions = Decisions::gather(app);
    let resolved = decisions.with(|context| {
        let place = Place {
            batch: decisions.batch_tag(),
            ..Place::default()
        };
        resolve(&request, place, context)
    });
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(problems) => {
            return Ok(estimate::Preflight {
                problems,
                notes: Vec::new(),
                pictures: 0,
                outputs: Vec::new(),
                outline: None,
                estimate: None,
            });
        }
    };
    let priority = request.priority.unwrap_or_default();
    let estimate = estimate::of_plans(app, &decisions, resolved.plans.iter(), priority).await?;
    let mut notes = resolved.notes;
    notes.extend(estimate::disk_note(&estimate));
    let outputs = resolved.plans.iter().take(SHOWN_OUTPUTS);
    Ok(estimate::Preflight {
        problems: Vec::new(),
        notes,
        pictures: u32::try_from(resolved.plans.len()).unwrap_or(u32::MAX),
        outputs: outputs.map(|plan| plan.output.stem.clone()).collect(),
        outline: resolved.plans.first().map(estimate::Outline::of),
        estimate: Some(estimate),
    })
}

/// Queues the pictures of one request.
pub async fn submit(app: &Arc<App>, request: Request) -> Result<Submitted> {
    let decisions = Decisions::gather(app);
    let resolved = decisions
        .with(|context| {
            let place = Place {
                batch: decisions.batch_tag(),
                ..Place::default()
            };
            resolve(&request, place, context)
        })
        .map_err(Error::from_list)?;
    let priority = request.priority.unwrap_or_default();
    let jobs = resolved
        .plans
        .into_iter()
        .zip(0..)
        .map(|(plan, copy)| NewJob {
            priority,
            copy,
            ..NewJob::new(plan)
        });
    let submission = Submission {
        kind: BatchKind::Copies,
        title: request.prompt.clone(),
        session: request.session,
        jobs: jobs.collect(),
        notes: resolved.notes,
    };
    enqueue(app, submission).await
}

/// Jobs, filtered and paged: a batch as its list was written, unfinished jobs as they will run,
/// anything else from its newest.
pub async fn list(app: &App, input: JobQuery) -> Result<JobPage> {
    let filter = JobFilter {
        states: input.states,
        session: input.session,
        batch: input.batch,
        active: input.active,
    };
    let page = Page {
        offset: input.offset,
        limit: input.limit.unwrap_or(PAGE_ROWS),
    };
    let listed = app.queue().list(filter, None, page).await?;
    Ok(JobPage {
        jobs: listed.rows,
        total: listed.total,
    })
}

/// One job with its progress or its failure.
pub async fn get(app: &App, input: JobRef) -> Result<Job> {
    Ok(app.queue().get(input.id).await?)
}

/// Cancels a job.
pub async fn cancel(app: &App, input: JobRef) -> Result<Job> {
    Ok(app.queue().cancel(input.id).await?)
}

/// Sets a job aside.
pub async fn pause(app: &App, input: JobRef) -> Result<Job> {
    Ok(app.queue().pause(input.id).await?)
}

/// Puts a paused job back.
pub async fn resume(app: &App, input: JobRef) -> Result<Job> {
    Ok(app.queue().resume(input.id).await?)
}

/// Queues a failed or cancelled job's plan again.
pub async fn retry(app: &App, input: RetryJob) -> Result<Submitted> {
    let id = app.queue().retry(input.id, input.with_fix).await?;
    let job = app.queue().get(id).await?;
    let batch = job
        .batch
        .ok_or_else(|| Error::internal("the new attempt has no batch"))?;
    Ok(Submitted {
        batch,
        session: job.session,
        pictures: 1,
        jobs: vec![SubmittedJob {
            id,
            seed: job.plan.seed,
        }],
        notes: Vec::new(),
    })
}

/// Moves a waiting job before another one, or to the end.
pub async fn r#move(app: &App, input: MoveJob) -> Result<Job> {
    Ok(app.queue().move_before(input.id, input.before).await?)
}

/// Changes who goes first.
pub async fn set_priority(app: &App, input: SetPriority) -> Result<Job> {
    Ok(app.queue().set_priority(input.id, input.priority).await?)
}

/// Forgets a finished job; its pictures stay.
pub async fn remove(app: &App, input: JobRef) -> Result<JobCount> {
    app.queue().remove(input.id).await?;
    Ok(JobCount { jobs: 1 })
}
