//! The server over a real TCP port, before an application that records what it is asked and answers
//! by its commands' own schemas. In `app` the real application stands behind it.

mod app;
mod fake;
mod guard;
mod media;
mod openapi;
mod pages;
mod rest;
mod schema;
mod socket;
