//! dokku-graduate: promotes a whole Dokku environment at once.
//!
//! ARCHITECTURE.md has the map, the transaction and its promises.

pub mod after_deploy;
pub mod agent;
pub mod attach;
pub mod cli;
pub mod commands;
pub mod coordinator;
pub mod decision;
pub mod diff;
pub mod docker;
pub mod doctor;
pub mod dokku;
pub mod environment;
pub mod error;
pub mod factors;
pub mod files;
pub mod finding;
pub mod git;
pub mod history;
pub mod hook;
pub mod install;
pub mod journal;
pub mod legible;
pub mod link;
pub mod local;
pub mod manifest;
pub mod mapping;
pub mod names;
pub mod order;
pub mod participant;
pub mod plan;
pub mod process;
pub mod protocol;
pub mod receive;
pub mod records;
pub mod repo;
pub mod report;
pub mod settings;
pub mod ssh;
pub mod transaction;
pub mod transfer;
pub mod trigger;
pub mod updates;
pub mod vars;
pub mod view;
