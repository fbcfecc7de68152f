//! Examines a host and its links; each finding has the command that repairs it.
//!
//! It changes nothing, takes no lock, and continues after any finding. The agent runs [`host`] on a destination, so
//! that both ends of a link are examined by the same checks.

use crate::finding::Finding;
use crate::vars::Vars;

mod apps;
mod docker;
mod leftovers;
mod link;
mod locks;
mod ownership;
mod plugin;
mod refs;
mod repository;
mod secrets;
mod sources;
mod space;
mod wording;

pub(crate) use link::{Linked, examine};
pub(crate) use space::kept_in_words;

/// Returns all findings of this host.
pub(crate) fn host(vars: &Vars) -> Vec<Finding> {
    let checks: [fn(&Vars) -> Vec<Finding>; 24] = [
        plugin::version_and_links,
        plugin::companions,
        plugin::trigger_order,
        repository::hooks,
        repository::settings,
        refs::names,
        repository::path,
        plugin::dokku,
        repository::git,
        repository::git_settings,
        ownership::owners,
        ownership::modes,
        secrets::ssh_key,
        secrets::secret,
        secrets::settings,
        secrets::signers,
        secrets::approvals,
        sources::all,
        docker::answers,
        space::disks,
        apps::all,
        locks::all,
        leftovers::graduations,
        leftovers::files,
    ];
    checks.into_iter().flat_map(|check| check(vars)).collect()
}
