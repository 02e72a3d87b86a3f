//! Durable jobs: states, lanes, workers, cancellation, events.
//!
//! [`Queue`] keeps jobs in the database, runs them on [backends](kinora_core::Backend), one worker
//! per lane, stores their pictures, and tells everyone what changed. It promises:
//!
//! - A job that was queued is done, failed or cancelled once, whatever dies in between. Every write
//!   of a worker carries the job's epoch; a late one is thrown away.
//! - A finished picture is there under its final name exactly when its asset is, and never replaces
//!   another file; `publish.rs` tells the order of writes.
//! - Interactive work goes before bulk, bulk cannot starve, and a model is loaded once for all the
//!   jobs of a batch that need it.
//!
//! ```no_run
//! # async fn example(backend: std::sync::Arc<dyn kinora_core::Backend>, plan: kinora_core::Plan)
//! #     -> kinora_queue::Result<()> {
//! use kinora_queue::{BatchKind, Folders, NewBatch, NewJob, Queue, Store};
//!
//! let folders = Folders::new("/data", "/pictures");
//! let store = Store::open(&folders.data().join("kinora.db"))?;
//! let queue = Queue::open(store, folders, vec![backend])?;
//! queue.start();
//! let mut events = queue.events();
//! let (batch, jobs) = queue
//!     .enqueue(NewBatch {
//!         kind: BatchKind::Copies,
//!         title: plan.prompt.clone(),
//!         session: None,
//!         jobs: vec![NewJob::new(plan)],
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! Not here: what a plan means, who runs it, and every decision about requests; the queue only
//! knows [`Backend`](kinora_core::Backend).

mod attempt;
mod changes;
mod commands;
mod error;
mod estimate;
pub mod failpoints;
mod fairness;
mod files;
mod folders;
mod lane;
mod library;
mod progress;
mod publish;
mod queue;
mod recovery;
mod trash;
mod watch;

pub use error::{Error, Result};
pub use estimate::Estimate;
pub use fairness::{PASSES_PER_HEAD, TURNS_PER_LOWER_PRIORITY};
pub use folders::{Folders, TRASH_DAYS};
pub use kinora_core::BatchKind;
pub use kinora_store::{
    Listed, Page, Store,
    assets::{AssetFilter, AssetSort},
    jobs::{JobFilter, JobSort, NewBatch, NewJob},
};
pub use progress::PROGRESS_PER_SECOND;
pub use queue::Queue;
pub use recovery::Swept;
