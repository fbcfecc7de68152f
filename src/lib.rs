//! dokku-graduate: promotes a whole Dokku environment at once.
//!
//! ARCHITECTURE.md has the map, the transaction and its promises.

pub mod names;
