//! The documents say what is: generated pages are current, links lead somewhere, examples and messages are the program's.
//!
//! `SNAPSHOTS=overwrite cargo test --test documents` rewrites the generated pages.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod examples;
mod generated;
mod links;
mod literals;
mod messages;
mod pages;
mod prose;
