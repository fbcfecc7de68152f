//! The `dokku` command and Dokku's own plugins, as far as they are simulated.
//!
//! As on a real host, each piece of Dokku is a file in a plugin's directory and runs as a process of its
//! own; here each such file is a link to one binary, and [`core`] says which function it stands for.

pub(crate) mod checks;
pub(crate) mod core;
mod cron;
pub(crate) mod dispatch;
pub(crate) mod plugins;

mod appjson;
mod apps;
mod build;
mod builds;
mod capture;
mod config;
mod container;
mod domains;
mod environment;
mod git;
mod jobs;
mod keys;
mod lock;
mod network;
mod nginx;
mod procfile;
mod ps;
mod registry;
mod release;
mod reports;
mod scheduler;
mod settings;
mod sources;
