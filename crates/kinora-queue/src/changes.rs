//! Telling everyone what changed. Single jobs and assets at once and in order; counts of batches,
//! sessions and the queue gathered, at most five times a second.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kinora_core::{AssetId, BatchId, Event, Job, JobId, SessionId};
use kinora_store::{assets, batches, sessions};
use tokio::sync::{Notify, broadcast};

use crate::{Result, queue::Inner};

/// Events that a slow listener may lag behind before it has to read everything again.
const CAPACITY: usize = 4_096;
/// Rest between two rounds of counts.
const REST: Duration = Duration::from_millis(200);
/// Up to so many jobs changed at once are told one by one.
pub(crate) const FEW: usize = 32;

pub(crate) struct Changes {
    sender: broadcast::Sender<Event>,
    /// Held while a job or asset is read and told, so that nobody is told an older state last.
    order: Mutex<()>,
    dirty: Mutex<Dirty>,
    wake: Notify,
}

#[derive(Default)]
struct Dirty {
    is_queue: bool,
    batches: HashSet<BatchId>,
    sessions: HashSet<SessionId>,
}

impl Changes {
    pub fn new() -> Self {
        Self {
            sender: broadcast::channel(CAPACITY).0,
            order: Mutex::default(),
            dirty: Mutex::default(),
            wake: Notify::new(),
        }
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    pub fn send(&self, event: Event) {
        // An error means that nobody listens.
        let _ = self.sender.send(event);
    }

    /// Has the counts of a batch, a session and the queue told soon.
    pub fn count(&self, batch: Option<BatchId>, session: Option<SessionId>) {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        dirty.is_queue = true;
        dirty.batches.extend(batch);
        dirty.sessions.extend(session);
        drop(dirty);
        self.wake.notify_one();
    }
}

impl Inner {
    /// Tells a job as it is now, and its counts soon; returns what was told.
    pub(crate) fn tell_job(&self, id: JobId) -> Result<Option<Job>> {
        let _order = self
            .changes
            .order
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = self.read_job(id)?;
        match &found {
            Some(job) => {
                self.changes.count(job.batch, job.session);
                self.changes.send(Event::JobChanged {
                    job: Box::new(job.clone()),
                });
            }
            None => self.changes.send(Event::JobRemoved { job: id }),
        }
        Ok(found)
    }

    /// Tells few jobs one by one, and many as a whole.
    pub(crate) fn tell_jobs(&self, ids: &[JobId], batch: Option<BatchId>) -> Result<()> {
        if ids.len() <= FEW {
            return ids.iter().try_for_each(|id| self.tell_job(*id).map(drop));
        }
        self.changes.send(Event::JobsChanged { batch });
        let session = match batch {
            Some(batch) => self
                .store
                .read(|db| batches::get(db, batch))?
                .and_then(|batch| batch.session),
            None => None,
        };
        self.changes.count(batch, session);
        Ok(())
    }

    /// Tells that jobs of anywhere changed: every batch and session with them.
    pub(crate) fn tell_all_jobs(&self, batch: Option<BatchId>, session: Option<SessionId>) {
        self.changes.send(Event::JobsChanged { batch });
        self.changes.count(batch, session);
    }

    /// Tells an asset as it is now.
    pub(crate) fn tell_asset(&self, id: AssetId) -> Result<()> {
        let _order = self
            .changes
            .order
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match self.store.read(|db| assets::get(db, id))? {
            Some(asset) => {
                self.changes.count(asset.batch, asset.session);
                self.changes.send(Event::AssetChanged {
                    asset: Box::new(asset),
                });
            }
            None => self.changes.send(Event::AssetRemoved { asset: id }),
        }
        Ok(())
    }

    /// Tells the counts that changed since the last call.
    pub(crate) fn tell_counts(&self) -> Result<()> {
        let dirty = {
            let mut dirty = self
                .changes
                .dirty
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *dirty)
        };
        for id in dirty.batches {
            if let Some(batch) = self.read_batch(id)? {
                self.changes.send(Event::BatchChanged { batch });
            }
        }
        for id in dirty.sessions {
            if let Some(session) = self.store.read(|db| sessions::get(db, id))? {
                self.changes.send(Event::SessionChanged { session });
            }
        }
        if dirty.is_queue {
            let queue = self.read_status()?;
            self.changes.send(Event::QueueChanged { queue });
        }
        Ok(())
    }
}

/// Tells counts as they change, until the queue ends.
pub(crate) async fn tell_counts(inner: Arc<Inner>) {
    let ended = inner.ending.clone();
    loop {
        tokio::select! {
            () = inner.changes.wake.notified() => {}
            () = ended.cancelled() => break,
        }
        let task = inner.clone();
        match inner.tasks.spawn_blocking(move || task.tell_counts()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot tell what changed"),
            Err(_) => break,
        }
        tokio::select! {
            () = tokio::time::sleep(REST) => {}
            () = ended.cancelled() => break,
        }
    }
}
