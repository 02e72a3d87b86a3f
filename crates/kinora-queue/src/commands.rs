//! What users do with jobs, batches and the queue, and what they see of them.

use std::sync::atomic::Ordering;

use kinora_core::{
    Batch, BatchId, Job, JobId, JobState, Plan, Priority, QueueStatus, SessionId, Timestamp,
    WaitReason,
};
use kinora_store::{
    Listed, Page, batch_keys, batches, counts, flags,
    jobs::{self, Change, JobFilter, JobSort, NewBatch, QueuedWork, Removed, Retried},
    sessions,
};

use crate::{Error, Estimate, Queue, Result, files, folders, queue::Inner};

impl Queue {
    /// Queues jobs behind everything of their priorities, in one transaction; returns the batch and
    /// the jobs in their order.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::NoLane`], [`Error::NoSession`]; nothing is queued then.
    pub async fn enqueue(&self, batch: NewBatch) -> Result<(BatchId, Vec<JobId>)> {
        self.blocking(move |inner| {
            for job in &batch.jobs {
                folders::check_stem(&job.plan.output.stem)?;
                if inner.lane(&job.lane).is_none() {
                    return Err(Error::NoLane(job.lane.clone()));
                }
            }
            let session = batch.session;
            if let Some(session) = session
                && inner.store.read(|db| sessions::get(db, session))?.is_none()
            {
                return Err(Error::NoSession(session));
            }
            let queued = inner
                .store
                .write(|tx| jobs::enqueue(tx, batch, Timestamp::now()))?;
            inner.wake();
            inner.changes.count(Some(queued.0), session);
            inner.tell_jobs(&queued.1, Some(queued.0))?;
            Ok(queued)
        })
        .await
    }

    /// One job, with its progress and the reason why it waits.
    pub async fn get(&self, job: JobId) -> Result<Job> {
        self.blocking(move |inner| inner.read_job(job)?.ok_or(Error::NoJob(job)))
            .await
    }

    /// One page of jobs, in the order asked for, or in the filter's
    /// [natural](JobFilter::natural_sort) one.
    pub async fn list(
        &self,
        filter: JobFilter,
        sort: Option<JobSort>,
        page: Page,
    ) -> Result<Listed<Job>> {
        self.blocking(move |inner| {
            let sort = sort.unwrap_or_else(|| filter.natural_sort());
            let mut listed = inner.store.read(|db| jobs::list(db, &filter, sort, page))?;
            inner.complete(&mut listed.rows)?;
            Ok(listed)
        })
        .await
    }

    /// Cancels a job: a waiting one at once, a running one at its next step.
    pub async fn cancel(&self, job: JobId) -> Result<Job> {
        self.blocking(move |inner| {
            let change = inner
                .store
                .write(|tx| jobs::cancel(tx, job, Timestamp::now()))?;
            if change == Change::Now(JobState::Cancelled) {
                inner.remove_scratch(job);
            }
            inner.changed(job, change, "cancel")
        })
        .await
    }

    /// Cancels every job of a filter that is not final; how many that are, those included that stop
    /// at their next step.
    pub async fn cancel_where(&self, filter: JobFilter) -> Result<u64> {
        self.blocking(move |inner| {
            let cancelled = inner
                .store
                .write(|tx| jobs::cancel_where(tx, &filter, Timestamp::now()))?;
            for job in &cancelled.attempted {
                inner.remove_scratch(*job);
            }
            for job in &cancelled.asked {
                inner.stop_running(*job);
                inner.tell_job(*job)?;
            }
            if cancelled.waiting > 0 {
                inner.tell_all_jobs(filter.batch, filter.session);
            }
            Ok(cancelled.waiting + cancelled.asked.len() as u64)
        })
        .await
    }

    /// Pauses a job: a waiting one at once, a running one at its next step, with its checkpoint.
    pub async fn pause(&self, job: JobId) -> Result<Job> {
        self.blocking(move |inner| {
            let change = inner.store.write(|tx| jobs::pause(tx, job))?;
            inner.changed(job, change, "pause")
        })
        .await
    }

    /// Has a paused job wait again, at its old place.
    pub async fn resume(&self, job: JobId) -> Result<Job> {
        self.blocking(move |inner| {
            let change = inner.store.write(|tx| jobs::resume(tx, job))?;
            // A running job that was told to pause stops all the same, and then waits again.
            let change = match change {
                Change::Asked => Change::Unchanged,
                other => other,
            };
            inner.wake();
            inner.changed(job, change, "resume")
        })
        .await
    }

    /// Claims nothing more until the queue is resumed; running jobs go on.
    pub async fn pause_queue(&self) -> Result<QueueStatus> {
        self.set_paused(true).await
    }

    /// Claims jobs again.
    pub async fn resume_queue(&self) -> Result<QueueStatus> {
        self.set_paused(false).await
    }

    async fn set_paused(&self, is_paused: bool) -> Result<QueueStatus> {
        self.blocking(move |inner| {
            if inner.store.write(|tx| flags::set_paused(tx, is_paused))? {
                // Every waiting job has another reason to wait now.
                inner.tell_all_jobs(None, None);
            }
            inner.wake();
            inner.read_status()
        })
        .await
    }

    /// Puts a waiting job directly before another one of its lane, whose priority it takes over; or
    /// at the end of its own priority's line.
    pub async fn move_before(&self, job: JobId, other: Option<JobId>) -> Result<Job> {
        self.blocking(move |inner| {
            if let Some(other) = other
                && inner.store.read(|db| jobs::state(db, other))?.is_none()
            {
                return Err(Error::NoJob(other));
            }
            let change = inner.store.write(|tx| jobs::move_before(tx, job, other))?;
            inner.wake();
            inner.changed(job, change, "move")
        })
        .await
    }

    /// Gives a waiting job another priority, at the end of that priority's line.
    pub async fn set_priority(&self, job: JobId, priority: Priority) -> Result<Job> {
        self.blocking(move |inner| {
            let change = inner
                .store
                .write(|tx| jobs::set_priority(tx, job, priority))?;
            inner.wake();
            inner.changed(job, change, "move")
        })
        .await
    }

    /// Queues a failed or cancelled job's plan again, as a new job of its batch and session. With
    /// `with_fix`, the fix that its failure names goes into the plan.
    pub async fn retry(&self, job: JobId, with_fix: bool) -> Result<JobId> {
        self.blocking(move |inner| {
            let retried = inner
                .store
                .write(|tx| jobs::retry(tx, job, with_fix, Timestamp::now()))?;
            match retried {
                Retried::By(new) => {
                    inner.wake();
                    inner.tell_job(new)?;
                    Ok(new)
                }
                Retried::Refused(state) => Err(Error::WrongState {
                    job,
                    state,
                    wanted: "retry",
                }),
                Retried::Missing => Err(Error::NoJob(job)),
            }
        })
        .await
    }

    /// [Retries](Self::retry) every failed job of a filter that was not tried again yet, in one
    /// transaction; returns the new jobs.
    pub async fn retry_failed(&self, filter: JobFilter, with_fix: bool) -> Result<Vec<JobId>> {
        self.blocking(move |inner| {
            let new = inner.store.write(|tx| {
                let mut new = Vec::new();
                for job in jobs::unretried(tx, &filter)? {
                    if let Retried::By(id) = jobs::retry(tx, job, with_fix, Timestamp::now())? {
                        new.push(id);
                    }
                }
                Ok(new)
            })?;
            inner.wake();
            inner.tell_jobs(&new, filter.batch)?;
            Ok(new)
        })
        .await
    }

    /// Forgets a final job, with its folder; its pictures stay.
    pub async fn remove(&self, job: JobId) -> Result<()> {
        self.blocking(move |inner| {
            let found = inner.store.read(|db| jobs::get(db, job))?;
            match inner.store.write(|tx| jobs::remove(tx, job))? {
                Removed::Gone => {
                    inner.remove_scratch(job);
                    inner.tell_job(job)?;
                    if let Some(found) = found {
                        inner.changes.count(found.batch, found.session);
                    }
                    Ok(())
                }
                Removed::Refused(state) => Err(Error::WrongState {
                    job,
                    state,
                    wanted: "remove",
                }),
                Removed::Missing => Err(Error::NoJob(job)),
            }
        })
        .await
    }

    /// Forgets every final job of a filter, with its folder; returns how many.
    pub async fn remove_where(&self, filter: JobFilter) -> Result<u64> {
        self.blocking(move |inner| {
            let removed = inner.store.write(|tx| jobs::remove_where(tx, &filter))?;
            for job in &removed {
                inner.remove_scratch(*job);
            }
            if !removed.is_empty() {
                inner.tell_all_jobs(filter.batch, filter.session);
            }
            Ok(removed.len() as u64)
        })
        .await
    }

    /// The queue as a whole.
    pub async fn status(&self) -> Result<QueueStatus> {
        self.blocking(Inner::read_status).await
    }

    /// One batch, with the time until it is done.
    pub async fn batch(&self, id: BatchId) -> Result<Batch> {
        self.blocking(move |inner| inner.read_batch(id)?.ok_or(Error::NoBatch(id)))
            .await
    }

    /// Batches, the newest first, of one session or of all.
    pub async fn batches(&self, session: Option<SessionId>, page: Page) -> Result<Listed<Batch>> {
        self.blocking(move |inner| {
            let mut listed = inner.store.read(|db| batches::list(db, session, page))?;
            for batch in &mut listed.rows {
                inner.estimate_batch(batch)?;
            }
            Ok(listed)
        })
        .await
    }

    /// Seconds until a job is done, from this machine's own history: what is before it, and itself.
    /// None for jobs that do not go on by themselves, and while the history is too short.
    pub async fn eta(&self, job: JobId) -> Result<Option<f64>> {
        self.blocking(move |inner| {
            let job = inner.read_job(job)?.ok_or(Error::NoJob(job))?;
            match job.state {
                JobState::Queued => inner.eta_through(&job),
                JobState::Running => Ok(job
                    .progress
                    .and_then(|progress| progress.eta_seconds)
                    .map(f64::from)),
                _ => Ok(None),
            }
        })
        .await
    }

    /// What a plan will take, from this machine's own history; None for a model that never ran.
    pub fn estimate(&self, plan: &Plan) -> Option<Estimate> {
        self.inner().estimate(plan)
    }
}

impl Inner {
    /// One job, with its progress and the reason why it waits.
    pub fn read_job(&self, id: JobId) -> Result<Option<Job>> {
        let Some(job) = self.store.read(|db| jobs::get(db, id))? else {
            return Ok(None);
        };
        let mut job = [job];
        self.complete(&mut job)?;
        let [job] = job;
        Ok(Some(job))
    }

    /// Fills in what is not stored.
    fn complete(&self, found: &mut [Job]) -> Result<()> {
        let queued: Vec<_> = found
            .iter()
            .filter(|job| job.state == JobState::Queued)
            .map(|job| job.id)
            .collect();
        let mut ahead = std::collections::HashMap::new();
        let mut is_paused = false;
        let mut running = 0;
        if !queued.is_empty() {
            self.store.read(|db| {
                is_paused = flags::is_paused(db)?;
                running = counts::of_queue(db)?.running;
                ahead.extend(jobs::ahead(db, &queued)?);
                Ok(())
            })?;
        }
        for job in found {
            match job.state {
                JobState::Running => {
                    job.progress = self.board.get(job.id);
                    let is_ready = || {
                        self.lane(&job.lane)
                            .is_none_or(|lane| lane.backend.is_ready())
                    };
                    if job.progress.is_none() && !is_ready() {
                        job.waiting = Some(WaitReason::EngineStarting);
                    }
                }
                JobState::Queued if is_paused => job.waiting = Some(WaitReason::QueuePaused),
                JobState::Queued
                    if self
                        .lane(&job.lane)
                        .is_some_and(|lane| lane.is_disk_full.load(Ordering::SeqCst)) =>
                {
                    job.waiting = Some(WaitReason::DiskFull);
                }
                JobState::Queued => {
                    let jobs = ahead.get(&job.id).copied().unwrap_or(0) + running;
                    job.waiting = Some(WaitReason::Behind { jobs });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Acts on what a store call has changed about one job.
    fn changed(&self, job: JobId, change: Change, wanted: &'static str) -> Result<Job> {
        match change {
            Change::Asked => self.stop_running(job),
            Change::Now(_) | Change::Unchanged => {}
            Change::Refused(state) => return Err(Error::WrongState { job, state, wanted }),
            Change::Missing => return Err(Error::NoJob(job)),
        }
        self.tell_job(job)?.ok_or(Error::NoJob(job))
    }

    fn remove_scratch(&self, job: JobId) {
        let folder = self.folders.scratch(job);
        if let Err(error) = files::remove_folder(&folder) {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove a job's folder");
        }
    }

    pub fn read_status(&self) -> Result<QueueStatus> {
        let (is_paused, counts) = self
            .store
            .read(|db| Ok((flags::is_paused(db)?, counts::of_queue(db)?)))?;
        let mut eta_seconds = Some(0.0_f64);
        for lane in &self.lanes {
            let work = self
                .store
                .read(|db| jobs::queued_work(db, &lane.id, None))?;
            let lane_eta = self.eta_of(lane, &work)?;
            eta_seconds = eta_seconds.zip(lane_eta).map(|(a, b)| a.max(b));
        }
        if counts.queued + counts.running == 0 {
            eta_seconds = None;
        }
        Ok(QueueStatus {
            is_paused,
            counts,
            eta_seconds,
        })
    }

    pub fn read_batch(&self, id: BatchId) -> Result<Option<Batch>> {
        let Some(mut batch) = self.store.read(|db| batches::get(db, id))? else {
            return Ok(None);
        };
        self.estimate_batch(&mut batch)?;
        Ok(Some(batch))
    }

    fn estimate_batch(&self, batch: &mut Batch) -> Result<()> {
        if batch.counts.queued > 0 {
            let last = self
                .store
                .read(|db| match jobs::last_of_batch(db, batch.id)? {
                    Some(last) => jobs::get(db, last),
                    None => Ok(None),
                })?;
            if let Some(last) = last {
                batch.eta_seconds = self.eta_through(&last)?;
            }
        } else if batch.counts.running > 0 {
            batch.eta_seconds = self.board.remaining();
        }
        Ok(())
    }

    /// Seconds until a queued job is done: what runs, what is before it, and itself.
    fn eta_through(&self, job: &Job) -> Result<Option<f64>> {
        let (Some(lane), Some(own)) = (self.lane(&job.lane), self.estimate(&job.plan)) else {
            return Ok(None);
        };
        let work = self
            .store
            .read(|db| jobs::queued_work(db, &job.lane, Some(job)))?;
        Ok(self.eta_of(lane, &work)?.map(|before| before + own.seconds))
    }

    /// Seconds until a lane has done what runs and this work, each model being loaded once.
    fn eta_of(&self, lane: &crate::lane::Lane, work: &[QueuedWork]) -> Result<Option<f64>> {
        let Some(mut seconds) = self.board.remaining() else {
            return Ok(None);
        };
        let mut loaded = Vec::new();
        loaded.extend(lane.loaded());
        for part in work {
            let Some(kind) = self.store.read(|db| batch_keys::get(db, part.batch_key))? else {
                return Ok(None);
            };
            let shape = &kind.shape;
            let frames = shape.video.map_or(1, |video| video.worked_frames());
            let estimate = self.estimate_kind(&kind.model_id, shape.size, frames, shape.steps);
            let Some(estimate) = estimate else {
                return Ok(None);
            };
            seconds += estimate.seconds * part.jobs as f64;
            if !loaded.contains(&kind.model) {
                loaded.push(kind.model);
                seconds += estimate.load_seconds;
            }
        }
        Ok(Some(seconds))
    }
}
