//! A simulated Docker: images are trees of files, containers are real process groups.
//!
//! One daemon per host ([`server`]) owns all of it; the `docker` command ([`cli`]) and Dokku's parts
//! ([`client`]) ask it over a socket, one JSON line each way.

mod addresses;
pub(crate) mod archive;
pub(crate) mod cli;
pub(crate) mod client;
mod content;
pub(crate) mod engine;
mod format;
mod images;
mod layers;
pub(crate) mod model;
pub(crate) mod processes;
mod references;
pub(crate) mod registry;
pub(crate) mod server;
