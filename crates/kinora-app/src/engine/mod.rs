//! The supervisor of `kinora-engine`: this machine's GPU as a [`Backend`](kinora_core::Backend).
//!
//! The engine is a child process that may die at any moment (a poisoned device, an out-of-memory
//! kill); what is here starts it on demand, hands it groups of jobs, routes its reports, notices how
//! it ended, and starts a fresh one. It decides nothing about the jobs themselves: how often a job
//! may be tried again, and in which order, is the queue's business.
//!
//! ```text
//! backend.rs   LocalBackend: one group at a time, reports to the watch, cancellations to the engine
//! session.rs   one group on one engine, from `Run` to its last answer
//! child.rs     the process: pipes, threads, handshake, stop
//! exit.rs      how it ended, in words
//! memory.rs    what the machine has, what a plan needs, what is refused
//! locate.rs    where the program is, what environment it gets
//! ```

mod backend;
mod child;
mod config;
mod exit;
mod locate;
mod memory;
mod session;
mod tail;

pub use crate::system::{EngineState, EngineStatus};
pub use backend::LocalBackend;
pub use child::StartError;
pub use config::EngineConfig;
pub use exit::Exit;
pub use locate::{ENGINE_VARIABLE, find_engine};
pub use memory::{MemoryRule, MemorySource};
