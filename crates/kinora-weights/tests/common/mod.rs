//! What the tests of this crate share: model files made here, and recordings of the reference.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

pub mod gguf;
pub mod models;
pub mod recorded;

pub use models::*;
