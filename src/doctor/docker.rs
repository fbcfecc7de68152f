//! Docker and its store of images.

use crate::docker::images::Info;
use crate::finding::{Check, Finding};
use crate::vars::Vars;

/// Checks that Docker answers.
pub(super) fn answers(_: &Vars) -> Vec<Finding> {
    vec![match Info::ask() {
        Ok(Info { root, is_containerd }) => {
            let store = if is_containerd { "containerd's store" } else { "its own store" };
            let what = format!("answers, and keeps its files in {}, images in {store}", root.display());
            Finding::ok(Check::Docker, what)
        }
        Err(error) => Finding::broken(Check::Docker, error.to_string(), "systemctl restart docker"),
    }]
}
