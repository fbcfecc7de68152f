//! The rules of the house that the compiler does not know, as tests. They read the product's source; `bands.rs` has the table
//! of what may import what.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod bands;
mod logs;
mod names;
mod scripts;
mod shown;
mod size;
mod source;
mod words;
