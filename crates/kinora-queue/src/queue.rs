//! The queue as a handle: opening, starting, ending.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use kinora_core::{Backend, Event, JobId, LaneId, Progress};
use kinora_store::{Store, timings};
use tokio::{
    sync::{Notify, broadcast},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Error, Folders, Result, changes,
    changes::Changes,
    estimate::History,
    files,
    lane::{self, Lane},
    progress::Board,
    watch::Running,
};

/// How long single writes may take when the queue ends.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// The durable queue. Cheap to clone; every clone is the same queue.
///
/// One queue per database: the store's lock sees to that.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

pub(crate) struct Inner {
    pub store: Store,
    pub folders: Folders,
    pub lanes: Vec<Lane>,
    pub changes: Changes,
    pub board: Board,
    pub history: Mutex<History>,
    /// Every job that a worker of this process holds.
    pub running: Mutex<HashMap<JobId, Arc<Running>>>,
    /// High numbers given to stems, to look for the next ones from there. Its lock is held from the
    /// look for a free name until the name is taken.
    pub numbers: Mutex<HashMap<String, u32>>,
    /// Set when the queue ends: nothing is claimed any more.
    pub ending: CancellationToken,
    /// Everything that was spawned: the queue has ended when these have.
    pub tasks: TaskTracker,
    /// The workers, for those that do not end by themselves.
    workers: Mutex<Vec<JoinHandle<()>>>,
    #[cfg(feature = "failpoints")]
    pub hook: Mutex<Option<crate::failpoints::Hook>>,
}

impl Queue {
    /// Opens the queue in a database, and puts right what a crash has left: running jobs wait
    /// again, pictures between their commit and their final name get it, moves into and out of the
    /// trash are finished. Runs nothing yet. Blocks for as long as that takes.
    ///
    /// # Errors
    /// What the database or the file system report. Pictures that cannot be put right now are left
    /// for the next start.
    pub fn open(store: Store, folders: Folders, backends: Vec<Arc<dyn Backend>>) -> Result<Self> {
        for folder in [
            folders.outputs().to_path_buf(),
            folders.jobs(),
            folders.trash(),
        ] {
            files::create_folder(&folder).map_err(|source| Error::Io {
                path: folder,
                source,
            })?;
        }
        let history = History::new(store.read(timings::all)?);
        let inner = Inner {
            store,
            folders,
            lanes: backends.into_iter().map(Lane::new).collect(),
            changes: Changes::new(),
            board: Board::default(),
            history: Mutex::new(history),
            running: Mutex::default(),
            numbers: Mutex::default(),
            ending: CancellationToken::new(),
            tasks: TaskTracker::new(),
            workers: Mutex::default(),
            #[cfg(feature = "failpoints")]
            hook: Mutex::default(),
        };
        inner.recover()?;
        Ok(Self(Arc::new(inner)))
    }

    /// Starts one worker per lane, and sweeps what is left over in the background. Called inside a
    /// tokio runtime, once.
    pub fn start(&self) {
        let mut workers = self
            .0
            .workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !workers.is_empty() || self.0.ending.is_cancelled() {
            return;
        }
        for index in 0..self.0.lanes.len() {
            let work = lane::work(self.0.clone(), index);
            workers.push(self.0.tasks.spawn(work));
            self.0
                .tasks
                .spawn(lane::tell_readiness(self.0.clone(), index));
        }
        self.0.tasks.spawn(changes::tell_counts(self.0.clone()));
        let inner = self.0.clone();
        self.0.tasks.spawn_blocking(move || match inner.sweep() {
            Ok(swept) => tracing::debug!(?swept, "swept what was left over"),
            Err(error) => tracing::warn!(%error, "cannot sweep what is left over"),
        });
    }

    /// Ends the queue: claims nothing more, and asks running jobs to stop at their next step, with
    /// their checkpoints, to go on at the next start. What has not stopped within `grace` is
    /// abandoned; its job waits again too.
    ///
    /// # Errors
    /// What the database reports.
    pub async fn shutdown(&self, grace: Duration) -> Result<()> {
        self.0.ending.cancel();
        let running: Vec<_> = {
            let running = self
                .0
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            running.values().cloned().collect()
        };
        for job in running {
            job.stop();
        }
        let workers: Vec<_> = {
            let mut workers = self
                .0
                .workers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            workers.drain(..).collect()
        };
        let deadline = tokio::time::Instant::now() + grace;
        for mut worker in workers {
            match tokio::time::timeout_at(deadline, &mut worker).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a worker panicked"),
                Err(_) => {
                    worker.abort();
                    // Aborted or finished in the last moment, it has let go of its jobs.
                    let _ = worker.await;
                }
            }
        }
        // What is left are single writes.
        self.0.tasks.close();
        let ended = tokio::time::timeout(LAST_WRITES, self.0.tasks.wait()).await;
        if ended.is_err() {
            tracing::warn!("some writes of the queue have not ended");
        }
        self.blocking(|inner| inner.release_abandoned()).await
    }

    /// What changes from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.changes.subscribe()
    }

    /// Tells an event through the queue's channel, so that hosts listen in one place only.
    pub fn tell(&self, event: Event) {
        self.0.changes.send(event);
    }

    /// The latest progress of every running job.
    pub fn all_progress(&self) -> Vec<Progress> {
        self.0.board.all()
    }

    /// The latest progress of one running job.
    pub fn progress(&self, job: JobId) -> Option<Progress> {
        self.0.board.get(job)
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The folders.
    pub fn folders(&self) -> &Folders {
        &self.0.folders
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// Runs blocking work on a thread for it.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.0.clone();
        match self.0.tasks.spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(error) => {
                tracing::error!(%error, "a call of the queue did not return");
                Err(Error::Ended)
            }
        }
    }
}

impl Inner {
    /// Wakes the workers: something may be there to claim.
    pub fn wake(&self) {
        for lane in &self.lanes {
            lane.wake.notify_one();
        }
    }

    pub fn lane(&self, id: &LaneId) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.id == *id)
    }
}

impl Lane {
    /// Row of the model that the backend has loaded, as far as the queue knows.
    pub fn loaded(&self) -> Option<i64> {
        self.fairness
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .loaded()
    }

    fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            id: backend.lane(),
            backend,
            wake: Notify::new(),
            fairness: Mutex::default(),
            is_disk_full: AtomicBool::new(false),
        }
    }
}
