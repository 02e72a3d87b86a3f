//! Which models there are, where they lie, whether they can be used, and what they need.
//!
//! [`Catalogue::load`] reads the entries (the `models.toml` inside the program, then the user's
//! own), looks through the model folders, and answers with [`Model`](kinora_core::Model)s. An entry
//! becomes part of a plan by [`Catalogue::plan`], and [`Catalogue::estimate`] tells what a run of
//! it takes. [`memory`] decides whether that fits.
//!
//! Only headers and configurations are read: looking through a shelf of large models takes
//! milliseconds. Deliberately absent: downloads, tensors, decisions about requests.

mod catalogue;
mod components;
mod entry;
mod extra_paths;
mod fault;
pub mod folders;
pub mod loras;
pub mod memory;
mod merge;
mod rules;

pub use catalogue::{Catalogue, Error};
pub use components::ComponentChoices;
pub use fault::Fault;
pub use folders::{Folders, find_starter};
pub use kinora_weights::{HashCache, lora::LoraReport};
