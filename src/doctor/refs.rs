//! Checks for refs of the environment repository that a push could not have made: those that block ours, and ambiguous
//! ones.

use super::wording::or_else_ok;
use crate::environment::back_to_main;
use crate::finding::{Check, Finding};
use crate::repo::{GitRepository, RepoError, deletion};
use crate::settings::Settings;
use crate::ssh::quoted;
use crate::updates::MAIN;
use crate::vars::Vars;

/// Checks for names that no push may create, and which branch is checked out.
pub(super) fn names(vars: &Vars) -> Vec<Finding> {
    // The checks of settings and repository report what cannot be read.
    let (Ok(repo), Ok(settings)) = (GitRepository::open(vars), Settings::load(vars)) else {
        return Vec::new();
    };
    found(vars, &repo, &settings).unwrap_or_else(|error| {
        let git_dir = quoted(&vars.git_dir().to_string_lossy());
        vec![Finding::broken(Check::Refs, error.to_string(), format!("git --git-dir={git_dir} fsck --full"))]
    })
}

fn found(vars: &Vars, repo: &GitRepository, settings: &Settings) -> Result<Vec<Finding>, RepoError> {
    let (blocking, confusing) = repo.misnamed(&settings.names())?;
    let mut found: Vec<Finding> = blocking
        .iter()
        .map(|name| {
            let what = format!("{name} blocks the refs that record a graduation: none can begin");
            Finding::broken(Check::Refs, what, deletion(vars, name))
        })
        .collect();
    found.extend(
        confusing
            .iter()
            .map(|why| Finding::warning(Check::Refs, why.to_string(), deletion(vars, why.name()))),
    );
    let branch = repo.branch()?;
    if branch.as_deref() != Some(MAIN) {
        let what = format!(
            "{} is checked out instead of main: nothing can be committed",
            branch.as_deref().unwrap_or("no branch")
        );
        found.push(Finding::broken(Check::Refs, what, back_to_main(vars)));
    }
    Ok(or_else_ok(found, Finding::ok(Check::Refs, "no ref confuses git or blocks a graduation")))
}
