//! dokku-graduate: promotes a whole Dokku environment at once.
//!
//! ARCHITECTURE.md has the map, the transaction and its promises.

pub mod cli;
pub mod commands;
pub mod error;
pub mod files;
pub mod names;
pub mod process;
pub mod protocol;
pub mod records;
pub mod settings;
pub mod ssh;
pub mod vars;
