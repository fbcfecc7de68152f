//! dokku-graduate: promotes a whole Dokku environment at once.
//!
//! ARCHITECTURE.md has the map, the transaction and its promises.

pub mod commands;
pub mod dokku;
pub mod environment;
pub mod factors;
pub mod files;
pub mod git;
pub mod install;
pub mod manifest;
pub mod names;
pub mod process;
pub mod protocol;
pub mod records;
pub mod repo;
pub mod vars;
