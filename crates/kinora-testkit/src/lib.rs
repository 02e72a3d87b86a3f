//! Dev only: a backend that does what a script says, and plans to feed it.
//!
//! Not here: golden comparison, which the networks bring themselves.

mod backend;
mod fixtures;

pub use backend::{Call, FakeBackend, Gate, Script};
pub use fixtures::{plan, write_picture};
