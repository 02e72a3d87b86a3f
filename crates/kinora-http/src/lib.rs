//! The HTTP face of Kinora: REST, WebSocket, media with Range, OpenAPI, the UI.
//!
//! [`serve`] puts an [`Application`] on an address. Every command of the table is a route under
//! `/api`; what carries bytes instead of JSON (media, uploads, the socket) is written by hand. One
//! guard stands before all of it: who may ask, under which name, from which page.
//!
//! Not here: what the commands do (kinora-app), and what the program prints when it starts (the
//! command line).

mod answer;
mod app;
mod application;
mod docs;
mod error;
mod guard;
mod media;
mod options;
mod pair;
mod query;
mod range;
mod rest;
mod server;
mod socket;
mod ui;
mod uploads;

pub use application::{Application, Media, MediaFile};
pub use error::Error;
pub use options::{Options, SocketTiming, generate_token};
pub use server::{Running, serve};
