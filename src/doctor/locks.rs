//! Checks for locks whose holders are not graduations, and for lock files that a killed git or Dokku has left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::wording::{LEFT, command, is_older_than, listed, or_else_ok};
use crate::dokku::Dokku;
use crate::files::holders::{self, Holder};
use crate::finding::{Check, Finding};
use crate::participant::store::Store;
use crate::preflight;
use crate::vars::Vars;

/// How long a deploy may take before its lock looks abandoned.
const LONG_DEPLOY: Duration = Duration::from_secs(3600);

/// Checks every kind of lock that can block a graduation.
pub(super) fn all(vars: &Vars) -> Vec<Finding> {
    let own = own_locks(vars);
    let deploys = deploy_locks(vars);
    let paths: Vec<PathBuf> = own.iter().cloned().chain(deploys.keys().cloned()).collect();
    let held = holders::of(&paths);
    let of_own = own.iter().filter_map(|path| stray(path, held.get(path)?));
    let of_deploys = deploys.iter().filter(|(path, _)| held.contains_key(*path));
    let of_deploys = of_deploys.filter(|(path, _)| is_older_than(path, LONG_DEPLOY)).map(|(_, app)| {
        let what = format!("{app} has been locked by a deploy for more than an hour");
        Finding::warning(Check::Locks, what, format!("dokku apps:unlock {app}"))
    });
    let found =
        of_own.chain(of_deploys).chain(standing(vars)).chain(of_git(vars)).chain(marks(vars)).collect();
    or_else_ok(found, Finding::ok(Check::Locks, "no stale locks"))
}

/// Finds apps that are locked although no deploy runs: a graduation to them is refused.
fn standing(vars: &Vars) -> Vec<Finding> {
    let dokku = Dokku::new(vars);
    let locked = preflight::locked(vars, &dokku, &dokku.apps().unwrap_or_default().names);
    let found = locked.into_iter().map(|app| {
        let what =
            format!("{app} is locked, by `dokku apps:lock {app}` or by a deploy of it that was killed");
        Finding::warning(Check::Locks, what, format!("dokku apps:unlock {app}"))
    });
    found.collect()
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Returns the locks of graduations, of commits and of the settings.
fn own_locks(vars: &Vars) -> Vec<PathBuf> {
    let data = vars.data();
    let in_dir = |dir: PathBuf| names_in(&dir).into_iter().map(move |name| dir.join(name));
    let all = in_dir(data.clone()).chain(in_dir(data.join("environments")));
    all.filter(|path| path.extension().is_some_and(|extension| extension == "lock")).collect()
}

fn deploy_locks(vars: &Vars) -> BTreeMap<PathBuf, String> {
    let apps = Dokku::new(vars).apps().unwrap_or_default();
    let place = |app: &str| vars.lib_root.join("data/apps").join(app).join(".deploy.lock");
    apps.names.iter().map(|app| (place(app.as_str()), app.to_string())).collect()
}

fn stray(path: &Path, holders: &[Holder]) -> Option<Finding> {
    if holders.iter().any(|holder| holder.is_ours) {
        return None;
    }
    let pids: Vec<String> = holders.iter().map(|each| each.pid.to_string()).collect();
    let what = format!(
        "{} is held by a process that is not a graduation: {}",
        path.display(),
        holders::listed(holders)
    );
    Some(Finding::broken(Check::Locks, what, format!("kill {}", pids.join(" "))))
}

/// Finds `<file>.lock` next to files that git replaces; gitrepository-layout(5).
fn of_git(vars: &Vars) -> Option<Finding> {
    let git_dir = vars.git_dir();
    let mut left = Vec::new();
    let mut dirs = vec![git_dir.join("refs")];
    let is_lock = |path: &Path| path.extension().is_some_and(|extension| extension == "lock");
    let is_left = |path: &Path| is_lock(path) && is_older_than(path, LEFT);
    left.extend(names_in(&git_dir).into_iter().map(|name| git_dir.join(name)).filter(|path| is_left(path)));
    while let Some(dir) = dirs.pop() {
        for path in names_in(&dir).into_iter().map(|name| dir.join(name)) {
            if path.is_dir() && !path.is_symlink() {
                dirs.push(path);
            } else if is_left(&path) {
                left.push(path);
            }
        }
    }
    left.sort();
    let what = || format!("a git that was killed has left {}: nothing can be committed there", listed(&left));
    (!left.is_empty()).then(|| Finding::broken(Check::Locks, what(), command("rm -f", &left)))
}

/// Finds apps marked as part of a graduation that is over: deploys of them would wait for it.
fn marks(vars: &Vars) -> Option<Finding> {
    let dir = vars.data().join("apps");
    let is_over = |name: &String| {
        let store = name.parse().ok().and_then(|app| Store::of_app(vars, &app));
        let is_open = |store: &Store| {
            !store.is_settled() && store.graduation().is_ok_and(|graduation| graduation.is_some())
        };
        !store.as_ref().is_some_and(is_open) && is_older_than(&dir.join(name), LEFT)
    };
    let names = names_in(&dir).into_iter().filter(|name| !name.starts_with('.'));
    let left: Vec<PathBuf> = names.filter(is_over).map(|name| dir.join(name)).collect();
    let what = || format!("marks of a graduation that is over: {}", listed(&left));
    (!left.is_empty()).then(|| Finding::broken(Check::Locks, what(), command("rm -f", &left)))
}
