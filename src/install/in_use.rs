//! Whether a graduation is in progress: its processes and triggers must not meet the files of another version, or none.

use std::fs;

use crate::coordinator::EnvironmentHolder;
use crate::files::{FileError, Lock};
use crate::names::EnvironmentName;
use crate::participant;
use crate::vars::Vars;

/// Returns the graduations from and to this host that are in progress, in words.
///
/// # Errors
/// A lock cannot be examined.
pub(super) fn graduations(vars: &Vars) -> Result<Vec<String>, FileError> {
    let dir = vars.data().join("environments");
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".lock"));
        let Some(environment) = name.and_then(|name| name.parse::<EnvironmentName>().ok()) else { continue };
        found.extend(Lock::look(&entry.path())?.map(|holder: Option<EnvironmentHolder>| match holder {
            Some(EnvironmentHolder { by, since, .. }) => {
                format!(
                    "a graduation to {environment} by {by} is in progress since {}",
                    since.format("%Y-%m-%d %H:%M:%SZ")
                )
            }
            None => format!("a graduation to {environment} is in progress"),
        }));
    }
    found.extend(
        participant::in_progress(vars)?.map(|by| format!("a graduation to this host is in progress: {by}")),
    );
    Ok(found)
}
