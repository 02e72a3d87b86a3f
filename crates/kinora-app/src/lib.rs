//! The application: every use-case once, behind one table of commands.
//!
//! A host (window, HTTP server, command line) opens an [`App`](app::App), calls
//! [commands](commands::COMMANDS) on it and listens to its events; it holds no logic of its own.
//!
//! Not here: networks and tensors (the engine process), SQL (kinora-store), the order and
//! durability of jobs (kinora-queue), windows, sockets and terminals (the hosts).

pub mod app;
pub mod assets;
pub mod batches;
pub mod bulk;
pub mod bytes;
pub mod capabilities;
pub mod catalogue;
pub mod cleanup;
pub mod clips;
pub mod commands;
pub mod config;
mod decide;
pub mod engine;
pub mod error;
pub mod estimate;
pub mod inputs;
pub mod instance;
pub mod jobs;
pub mod logging;
pub mod logs;
pub mod loras;
pub mod media;
pub mod metadata;
pub mod models;
pub mod naming;
pub mod prompts;
pub mod queue;
pub mod recipes;
pub mod resolve;
pub mod sessions;
pub mod settings;
mod suggest;
pub mod system;
pub mod wildcards;

pub use app::{App, Parts};
pub use commands::{COMMANDS, Command};
pub use config::{Config, Flags};
pub use error::{Error, Result};
