//! The edges between two durable writes, where a crash or a full disk has to be survived. With the
//! feature `failpoints`, tests put a hook there; without it, [`reach`] is nothing.

/// Where a worker is between two durable writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Edge {
    /// Jobs are running in the database, and no backend knows of them.
    Claimed,
    /// The job's folders are there; the backend is about to run.
    Prepared,
    /// The file is complete under its staging name; the database knows nothing of it.
    Staged,
    /// The database has the asset, unpublished; the file has its staging name, the job runs.
    Committed,
    /// The file has its final name; the asset is not published, the job runs.
    Renamed,
    /// The asset is published and the job done; the job's folder is still there.
    Published,
    /// An asset's way into or out of the trash is written down; its file has not moved.
    TrashNoted,
    /// The file has moved; the way is still written down.
    TrashMoved,
}

impl Edge {
    /// Every edge.
    pub const ALL: [Edge; 8] = [
        Edge::Claimed,
        Edge::Prepared,
        Edge::Staged,
        Edge::Committed,
        Edge::Renamed,
        Edge::Published,
        Edge::TrashNoted,
        Edge::TrashMoved,
    ];
}

#[cfg(feature = "failpoints")]
pub use hooks::{Hook, set};

#[cfg(feature = "failpoints")]
mod hooks {
    use std::{io, sync::Arc};

    use super::Edge;
    use crate::Queue;

    /// Called at each edge: returns an error to plan one there, or never returns.
    pub type Hook = Arc<dyn Fn(Edge) -> io::Result<()> + Send + Sync>;

    /// Puts a hook into a queue.
    pub fn set(queue: &Queue, hook: Hook) {
        let mut slot = queue.inner().hook.lock().unwrap_or_else(|e| e.into_inner());
        *slot = Some(hook);
    }
}

impl crate::queue::Inner {
    #[cfg(feature = "failpoints")]
    pub(crate) fn reach(&self, edge: Edge) -> std::io::Result<()> {
        let hook = self
            .hook
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone();
        hook.map_or(Ok(()), |hook| hook(edge))
    }

    #[cfg(not(feature = "failpoints"))]
    #[inline(always)]
    pub(crate) fn reach(&self, _: Edge) -> std::io::Result<()> {
        Ok(())
    }
}
