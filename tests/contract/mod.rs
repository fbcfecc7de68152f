//! How a Dokku host behaves, as far as the product relies on it: on the simulated hosts in every run of the tests, on
//! real ones where the `GRADUATE_E2E_*` variables name some (see `support/real.rs`). What the simulation gets wrong
//! here would be wrong in every story.
//!
//! Observed on real hosts and relied upon, but without a test here:
//!
//! - over ssh: no terminal unless `ssh -t`; a client that is gone is not noticed by a hook; `kill` of `git push` alone
//!   is not either (`interruptions`, on simulated hosts);
//! - the proxy: all `web` containers are switched at once and no request fails meanwhile (`graduations` has visitors);
//!   proxies other than nginx; nginx sends requests to a container that has got an old one's address after a reboot;
//! - a killed deploy: what SIGTERM and SIGKILL leave (`simulated-dokku`'s own tests), `builds:cancel`;
//! - a reboot while an app is held, `ps:restore` (`interruptions`);
//! - builders other than `dockerfile`, `push-on-release`, schedulers other than `docker-local`;
//! - networks (`attach-post-create`, `attach-post-deploy`), host networks, published ports, named storage;
//! - `docker save` and `docker load`, partial archives;
//! - `plugin:update`, `plugin:install` of a git url, `dokku help`; `user-auth`; access by forced commands (`peers`);
//! - which release of Dokku brought what.

mod branches;
mod builders;
mod containers;
mod deploys;
pub(crate) mod probe;
mod ssh;
