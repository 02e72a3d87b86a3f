//! The worker of a lane: claims a group, has the backend run it, and sees that every job of it was
//! ended.

use std::{
    any::Any,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use kinora_core::{Backend, Event, Job, JobId, LaneId, Outcome, Timestamp, Watch, Work};
use kinora_store::jobs;
use tokio::sync::{Notify, mpsc};

use crate::{
    Result, attempt,
    failpoints::Edge,
    fairness::Fairness,
    files, folders,
    publish::io_error,
    queue::Inner,
    watch::{GroupWatch, Running},
};

/// Jobs that one group holds at most, whatever the backend says.
const LARGEST_GROUP: usize = 64;
/// Rests of a worker while the database cannot be written.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// A serial track.
pub(crate) struct Lane {
    pub id: LaneId,
    pub backend: Arc<dyn Backend>,
    /// Something may be there to claim.
    pub wake: Notify,
    pub fairness: Mutex<Fairness>,
    /// A disk has no room for what was made, or to write down that more begins. Until the next claim.
    pub is_disk_full: AtomicBool,
}

/// A group as it was claimed.
struct Group {
    jobs: Vec<Job>,
    running: HashMap<JobId, Arc<Running>>,
    stops: mpsc::UnboundedReceiver<JobId>,
}

/// Runs groups until the queue ends.
pub(crate) async fn work(inner: Arc<Inner>, index: usize) {
    let mut rest = FIRST_REST;
    while !inner.ending.is_cancelled() {
        let task = inner.clone();
        let claimed = match inner.tasks.spawn_blocking(move || task.claim(index)).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(%error, "a claim panicked");
                return;
            }
        };
        let is_disk_full = claimed
            .as_ref()
            .err()
            .is_some_and(crate::Error::is_disk_full);
        inner.note_disk(index, is_disk_full);
        match claimed {
            Ok(Some(group)) => {
                rest = FIRST_REST;
                run(&inner, index, group).await;
            }
            Ok(None) => tokio::select! {
                () = inner.lanes[index].wake.notified() => {}
                () = inner.ending.cancelled() => {}
            },
            Err(error) => {
                tracing::warn!(%error, "cannot claim jobs yet");
                tokio::select! {
                    () = tokio::time::sleep(rest) => rest = (rest * 2).min(LONGEST_REST),
                    () = inner.lanes[index].wake.notified() => {}
                    () = inner.ending.cancelled() => {}
                }
            }
        }
    }
}

/// Tells the jobs that a lane holds again whenever its backend begins to start, and when it is ready:
/// they wait for a reason that was not there when they were claimed.
pub(crate) async fn tell_readiness(inner: Arc<Inner>, index: usize) {
    let backend = inner.lanes[index].backend.clone();
    for is_ready in [false, true].into_iter().cycle() {
        tokio::select! {
            () = backend.await_readiness(is_ready) => {}
            () = inner.ending.cancelled() => return,
        }
        let task = inner.clone();
        let told = inner.tasks.spawn_blocking(move || task.tell_lane(index));
        match told.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot tell which jobs wait for the engine"),
            Err(error) => {
                tracing::error!(%error, "telling which jobs wait panicked");
                return;
            }
        }
    }
}

impl Inner {
    /// Notes whether the disk keeps a lane from claiming; tells every job that waits when that changes.
    fn note_disk(&self, index: usize, is_full: bool) {
        let lane = &self.lanes[index];
        if lane.is_disk_full.swap(is_full, Ordering::SeqCst) != is_full {
            self.changes.send(Event::JobsChanged { batch: None });
        }
    }

    /// Notes that no lane goes on before there is room on the disk.
    pub fn note_full_disk(&self) {
        for index in 0..self.lanes.len() {
            self.note_disk(index, true);
        }
    }

    /// Tells the jobs that a lane holds.
    fn tell_lane(&self, index: usize) -> Result<()> {
        let held: Vec<JobId> = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.keys().copied().collect()
        };
        for job in held {
            let found = self.read_job(job)?;
            if found.is_some_and(|found| found.lane == self.lanes[index].id) {
                self.tell_job(job)?;
            }
        }
        Ok(())
    }

    /// Claims the next group of a lane; None when there is none, or the queue is paused.
    fn claim(&self, index: usize) -> Result<Option<Group>> {
        let lane = &self.lanes[index];
        loop {
            if self.ending.is_cancelled() || self.store.read(kinora_store::flags::is_paused)? {
                return Ok(None);
            }
            let mut fairness = lane.fairness.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(choice) = self.store.read(|db| fairness.choose(db, &lane.id))? else {
                return Ok(None);
            };
            let limit = match choice.head.deaths {
                0 => catch_unwind(AssertUnwindSafe(|| {
                    lane.backend.group_limit(&choice.head.plan)
                }))
                .unwrap_or(1)
                .clamp(1, LARGEST_GROUP),
                _ => 1,
            };
            let (sender, stops) = mpsc::unbounded_channel();
            let claimed = self.store.write(|tx| {
                let claimed = jobs::claim(tx, choice.head.seq, limit, Timestamp::now())?;
                let running: Vec<_> = claimed
                    .iter()
                    .map(|job| Arc::new(Running::new(job, sender.clone())))
                    .collect();
                // Before the commit, so that whoever finds the job running finds it here too.
                for running in &running {
                    self.note_running(running.clone());
                }
                Ok((claimed, running))
            });
            let (jobs, running) = match claimed {
                Ok(claimed) => claimed,
                Err(error) => {
                    // Nothing was claimed after all.
                    self.forget_unclaimed()?;
                    return Err(error.into());
                }
            };
            if jobs.is_empty() {
                // Cancelled, moved or paused since it was chosen: look again.
                continue;
            }
            fairness.note(&choice);
            return Ok(Some(Group {
                running: running.into_iter().map(|r| (r.job, r)).collect(),
                jobs,
                stops,
            }));
        }
    }

    /// Forgets attempts that were noted in a transaction which then failed.
    fn forget_unclaimed(&self) -> Result<()> {
        let noted: Vec<_> = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.values().cloned().collect()
        };
        for running in noted {
            let attempt = self.store.read(|db| jobs::attempt(db, running.job))?;
            if attempt != Some((kinora_core::JobState::Running, running.epoch)) {
                self.forget_running(&running);
            }
        }
        Ok(())
    }

    /// Makes the folders of an attempt, and writes the job's plan into its own.
    fn prepare(&self, job: &Job) -> Result<Work> {
        let staging = folders::staging(&job.plan.output.stem, job.id, job.epoch);
        let staging = self.folders.output(&staging);
        if let Some(folder) = staging.parent() {
            files::create_folder(folder).map_err(|e| io_error(folder, e))?;
        }
        let scratch = self.folders.scratch(job.id);
        let metadata = scratch.join("metadata.json");
        if !metadata.exists() {
            files::create_folder(&scratch).map_err(|e| io_error(&scratch, e))?;
            let description = serde_json::json!({
                "job": job.id,
                "batch": job.batch,
                "session": job.session,
                "line": job.line,
                "copy": job.copy,
                "retry_of": job.retry_of,
                "created_at": job.created_at,
                "plan": job.plan,
            });
            let text = format!("{description:#}\n");
            files::write(&metadata, text.as_bytes()).map_err(|e| io_error(&metadata, e))?;
        }
        self.reach(Edge::Prepared)
            .map_err(|e| io_error(&scratch, e))?;
        Ok(Work {
            job: job.id,
            epoch: job.epoch,
            plan: job.plan.clone(),
            staging,
            scratch,
        })
    }

    /// Tells of a claimed group and prepares it; a job whose folders cannot be made comes back with
    /// the reason.
    fn begin(&self, jobs: &[Job]) -> Vec<(JobId, Result<Work>)> {
        for job in jobs {
            self.board
                .begin(job.id, job.epoch, self.estimate(&job.plan));
            if let Err(error) = self.tell_job(job.id) {
                tracing::warn!(%error, "cannot tell that a job runs");
            }
        }
        let claimed = self.reach(Edge::Claimed);
        if let Err(error) = claimed {
            tracing::warn!(%error, "planned failure after a claim");
        }
        jobs.iter().map(|job| (job.id, self.prepare(job))).collect()
    }
}

/// Runs one group to its end.
async fn run(inner: &Arc<Inner>, index: usize, group: Group) {
    let watch = GroupWatch {
        inner: inner.clone(),
        jobs: group.running,
        stops: tokio::sync::Mutex::new(group.stops),
        runtime: tokio::runtime::Handle::current(),
    };
    // Claimed in the moment in which the queue ended: it has looked for running jobs already.
    if inner.ending.is_cancelled() {
        watch.jobs.values().for_each(|running| running.stop());
    }
    let (task, jobs) = (inner.clone(), group.jobs);
    let begun = match inner.tasks.spawn_blocking(move || task.begin(&jobs)).await {
        Ok(begun) => begun,
        Err(error) => {
            tracing::error!(%error, "a group could not begin");
            Vec::new()
        }
    };
    let mut works = Vec::with_capacity(begun.len());
    for (job, work) in begun {
        match work {
            Ok(work) => works.push(work),
            Err(crate::Error::Io { path, source }) => {
                let failure = attempt::failure_of_folder(&path, source);
                watch.finish(job, Outcome::Failed(Box::new(failure))).await;
            }
            Err(error) => {
                let failure = attempt::failure_of(&error);
                watch.finish(job, Outcome::Failed(Box::new(failure))).await;
            }
        }
    }
    let mut panic = None;
    if !works.is_empty() {
        let backend = inner.lanes[index].backend.clone();
        let run = catch_unwind(AssertUnwindSafe(|| backend.run(works, &watch)));
        let result = match run {
            Ok(future) => AssertUnwindSafe(future).catch_unwind().await,
            Err(panic) => Err(panic),
        };
        panic = result.err().map(|panic| panic_message(&*panic));
    }
    let forgotten: Vec<_> = watch
        .jobs
        .values()
        .filter(|running| !running.is_finished())
        .cloned()
        .collect();
    for running in forgotten {
        let outcome = match &panic {
            // What ended because the program ends is nobody's fault.
            None if inner.ending.is_cancelled() => Outcome::Cancelled,
            panic => Outcome::Died(Box::new(attempt::unfinished(panic.as_deref()))),
        };
        watch.finish(running.job, outcome).await;
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}
