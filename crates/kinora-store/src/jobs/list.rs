//! Lists of jobs, and what waits before whom. Each page is merged from one indexed scan per state,
//! so that it costs what it shows and not what there is.

use kinora_core::{BatchId, Job, JobId, JobState, LaneId, SessionId, StateCounts};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use crate::{
    Listed, Page, Result, batches,
    codec::{self, Key},
    counts,
    plan_templates::Templates,
};

/// Which jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only these states; empty: all.
    pub states: Vec<JobState>,
    /// Only of this session.
    pub session: Option<SessionId>,
    /// Only of this batch.
    pub batch: Option<BatchId>,
    /// Only jobs that are not final.
    pub active: bool,
}

/// In which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobSort {
    /// Running, then queued as they will run, then paused; final ones last.
    Run,
    /// As submitted, the newest first.
    Newest,
    /// As submitted, the oldest first.
    Oldest,
}

impl JobFilter {
    /// Every job of one batch.
    pub fn of_batch(batch: BatchId) -> Self {
        Self {
            batch: Some(batch),
            ..Self::default()
        }
    }

    /// Every job in one of these states.
    pub fn in_states(states: &[JobState]) -> Self {
        Self {
            states: states.to_vec(),
            ..Self::default()
        }
    }

    /// Whether jobs in this state belong to the filter.
    pub fn has(&self, state: JobState) -> bool {
        (self.states.is_empty() || self.states.contains(&state))
            && !(self.active && state.is_final())
    }

    /// The order that fits the filter when none is asked for: a batch as its list was written, the
    /// active queue as it runs, anything else from its latest.
    pub fn natural_sort(&self) -> JobSort {
        let is_active = JobState::ALL
            .into_iter()
            .all(|state| !state.is_final() || !self.has(state));
        if self.batch.is_some() {
            JobSort::Oldest
        } else if is_active {
            JobSort::Run
        } else {
            JobSort::Newest
        }
    }

    /// Session and batch as a condition, with the values of its parameters.
    pub(super) fn scope_sql(&self) -> (&'static str, Vec<[u8; 16]>) {
        match (self.batch, self.session) {
            (Some(batch), Some(session)) => (
                "batch = ?1 AND session = ?2",
                vec![batch.key(), session.key()],
            ),
            (Some(batch), None) => ("batch = ?1", vec![batch.key()]),
            (None, Some(session)) => ("session = ?1", vec![session.key()]),
            (None, None) => ("true", Vec::new()),
        }
    }
}

/// One page of jobs, with their assets; without progress and without the reasons why they wait.
pub fn list(db: &Connection, filter: &JobFilter, sort: JobSort, page: Page) -> Result<Listed<Job>> {
    let mut counts = counts(db, filter)?;
    let parts: Vec<Part> = RUN_ORDER
        .into_iter()
        .filter(|state| filter.has(*state))
        .map(|state| Part {
            state,
            jobs: *counts.get_mut(state),
        })
        .filter(|part| part.jobs > 0)
        .collect();
    let total = parts.iter().map(|part| part.jobs).sum();
    let seqs = match sort {
        JobSort::Run => seqs_as_they_run(db, filter, &parts, page)?,
        JobSort::Newest => seqs_as_submitted(db, filter, &parts, page, true)?,
        JobSort::Oldest => seqs_as_submitted(db, filter, &parts, page, false)?,
    };
    let mut templates = Templates::default();
    let rows = seqs
        .into_iter()
        .map(|seq| super::read(db, seq, &mut templates))
        .collect::<Result<_>>()?;
    Ok(Listed { rows, total })
}

/// The states in the order in which [`JobSort::Run`] shows them.
const RUN_ORDER: [JobState; 6] = [
    JobState::Running,
    JobState::Queued,
    JobState::Paused,
    JobState::Done,
    JobState::Failed,
    JobState::Cancelled,
];

/// The jobs of a filter in one state.
struct Part {
    state: JobState,
    jobs: u64,
}

/// A stretch of a sorted part: from its start, or, when that is shorter, backwards from its end.
struct Stretch {
    offset: u64,
    limit: u64,
    is_backwards: bool,
}

impl Stretch {
    fn new(offset: u64, limit: u64, total: u64) -> Self {
        let limit = limit.min(total.saturating_sub(offset));
        let after = total.saturating_sub(offset + limit);
        Self {
            offset: offset.min(after),
            limit,
            is_backwards: after < offset,
        }
    }
}

/// State after state, each through the index of its order.
fn seqs_as_they_run(
    db: &Connection,
    filter: &JobFilter,
    parts: &[Part],
    page: Page,
) -> Result<Vec<i64>> {
    let (scope, keys) = filter.scope_sql();
    let mut offset = page.offset;
    let mut limit = page.limit();
    let mut seqs = Vec::new();
    for part in parts {
        if limit == 0 {
            break;
        }
        if offset >= part.jobs {
            offset -= part.jobs;
            continue;
        }
        let stretch = Stretch::new(offset, limit, part.jobs);
        let order = match stretch.is_backwards {
            false => "priority DESC, position, seq",
            true => "priority, position DESC, seq DESC",
        };
        let sql = format!(
            "SELECT seq FROM jobs WHERE state = '{}' AND {scope} ORDER BY {order}",
            part.state.as_str()
        );
        let found = select(db, &sql, &keys, &stretch)?;
        limit -= stretch.limit;
        offset = 0;
        seqs.extend(found);
    }
    Ok(seqs)
}

/// The states merged, each through an index that ends in the order of submission.
fn seqs_as_submitted(
    db: &Connection,
    filter: &JobFilter,
    parts: &[Part],
    page: Page,
    is_newest_first: bool,
) -> Result<Vec<i64>> {
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let (scope, keys) = filter.scope_sql();
    let total = parts.iter().map(|part| part.jobs).sum();
    let stretch = Stretch::new(page.offset, page.limit(), total);
    // Without this the planner may prefer an index in another order, and sort.
    let index = match (filter.batch, filter.session) {
        (Some(_), _) => "jobs_batch",
        (None, Some(_)) => "jobs_session",
        (None, None) => "jobs_state",
    };
    let arms: Vec<_> = parts
        .iter()
        .map(|part| {
            let state = part.state.as_str();
            format!("SELECT seq FROM jobs INDEXED BY {index} WHERE state = '{state}' AND {scope}")
        })
        .collect();
    let order = match is_newest_first != stretch.is_backwards {
        true => "seq DESC",
        false => "seq",
    };
    let sql = format!("{} ORDER BY {order}", arms.join(" UNION ALL "));
    select(db, &sql, &keys, &stretch)
}

fn select(db: &Connection, sql: &str, keys: &[[u8; 16]], stretch: &Stretch) -> Result<Vec<i64>> {
    let sql = format!("{sql} LIMIT {} OFFSET {}", stretch.limit, stretch.offset);
    let mut statement = db.prepare(&sql)?;
    let rows = statement.query_map(params_from_iter(keys), |row| row.get(0))?;
    let mut seqs = rows.collect::<rusqlite::Result<Vec<i64>>>()?;
    if stretch.is_backwards {
        seqs.reverse();
    }
    Ok(seqs)
}

fn counts(db: &Connection, filter: &JobFilter) -> Result<StateCounts> {
    match (filter.batch, filter.session) {
        (None, None) => counts::of_queue(db),
        (None, Some(session)) => counts::of_session(db, session),
        (Some(batch), None) => counts::of_batch(db, batch),
        // A batch belongs to one session, as a whole.
        (Some(batch), Some(session)) => match batches::get(db, batch)? {
            Some(found) if found.session == Some(session) => Ok(found.counts),
            _ => Ok(StateCounts::default()),
        },
    }
}

/// How many queued jobs of its lane are before each of these jobs, which are queued; jobs that are
/// not are left out.
pub fn ahead(db: &Connection, jobs: &[JobId]) -> Result<Vec<(JobId, u64)>> {
    let mut places = Vec::with_capacity(jobs.len());
    let mut place = db.prepare_cached(
        "SELECT lane, priority, position FROM jobs WHERE id = ?1 AND state = 'queued'",
    )?;
    for job in jobs {
        let found: Option<(String, i64, i64)> = place
            .query_row([job.key()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        if let Some((lane, priority, position)) = found {
            places.push((lane, -priority, position, *job));
        }
    }
    places.sort_unstable();
    let mut between = db.prepare_cached(
        "SELECT count(*) FROM jobs WHERE lane = ?1 AND priority = ?2 AND state = 'queued'
           AND position >= ?3 AND position < ?4",
    )?;
    // One walk along the line: each count goes on from the one before.
    let mut before: Option<(String, i64, i64, u64)> = None;
    let mut counted = Vec::with_capacity(places.len());
    for (lane, urgency, position, job) in places {
        let mut sum = 0;
        let mut from = (i64::from(i32::MIN), i64::MIN);
        if let Some((last_lane, last_urgency, last_position, last_sum)) = &before
            && *last_lane == lane
        {
            sum = *last_sum;
            from = (*last_urgency, *last_position);
        }
        for step in (-2).max(from.0)..=urgency {
            let low = if step == from.0 { from.1 } else { i64::MIN };
            let high = if step == urgency { position } else { i64::MAX };
            sum += between.query_row(params![lane, -step, low, high], |row| {
                codec::natural(row, 0)
            })?;
        }
        counted.push((job, sum));
        before = Some((lane, urgency, position, sum));
    }
    Ok(counted)
}

/// Queued jobs of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedWork {
    /// Row of [`batch_keys`](crate::batch_keys).
    pub batch_key: i64,
    /// How many.
    pub jobs: u64,
}

/// The queued job of a batch that will run last.
pub fn last_of_batch(db: &Connection, batch: BatchId) -> Result<Option<JobId>> {
    Ok(db
        .prepare_cached(
            "SELECT id FROM jobs WHERE batch = ?1 AND state = 'queued'
             ORDER BY priority, position DESC LIMIT 1",
        )?
        .query_row([batch.key()], |row| codec::id(row, "id"))
        .optional()?)
}

/// The queued jobs of a lane by kind: all of them, or those before one job, as far as its priority's
/// and the higher lines are concerned.
pub fn queued_work(
    db: &Connection,
    lane: &LaneId,
    before: Option<&Job>,
) -> Result<Vec<QueuedWork>> {
    let mut all = db
        .prepare_cached(
            "SELECT batch_key, jobs FROM queued_work WHERE lane = ?1 AND jobs > 0
             ORDER BY batch_key",
        )?
        .query_map([lane.as_str()], |row| {
            Ok(QueuedWork {
                batch_key: row.get("batch_key")?,
                jobs: codec::natural(row, "jobs")?,
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let Some(job) = before else {
        return Ok(all);
    };
    // What is not before it is it and what is after it: for most of those who ask, next to nothing.
    let mut after = db.prepare_cached(
        "SELECT count(*) FROM jobs INDEXED BY jobs_batchable
         WHERE lane = ?1 AND state = 'queued' AND deaths = 0
           AND priority = ?2 AND batch_key = ?3 AND position >= ?4",
    )?;
    let own = codec::priority_rank(job.priority);
    for work in &mut all {
        for priority in 0..=own {
            let from = if priority == own {
                job.position
            } else {
                i64::MIN
            };
            let later = after.query_row(
                params![lane.as_str(), priority, work.batch_key, from],
                |row| codec::natural(row, 0),
            )?;
            work.jobs = work.jobs.saturating_sub(later);
        }
    }
    all.retain(|work| work.jobs > 0);
    Ok(all)
}
