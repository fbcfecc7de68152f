//! A Dokku host in a directory, for tests.
//!
//! What is real: sshd, git and its hooks, every process of a deploy in its place in the process tree,
//! containers as process groups, triggers as programs of plugins. What is simulated, by links to one
//! binary: the `dokku` command, `plugn`, Docker, and nginx. It behaves as a real Dokku 0.38 was seen to
//! behave, with shorter waits, and knows nothing of any plugin.
//!
//! Tests use [`Host`]; people use the binary (`simulated-dokku create|start|stop|info <dir>`).

mod call;
mod docker;
mod dokku;
mod files;
pub mod host;
pub mod layout;
pub mod outcome;
mod properties;
mod retire;
mod roles;
mod router;
mod sshd;
mod sweep;

pub use host::Host;
pub use roles::run;
