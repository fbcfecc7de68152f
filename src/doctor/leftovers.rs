//! Checks for what killed processes have left: graduations to this host, and files.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::wording::{LEFT, command, is_older_than, listed, or_else_ok};
use crate::docker::Keeper;
use crate::dokku::Dokku;
use crate::files::FileError;
use crate::finding::{Check, Finding};
use crate::git;
use crate::names::AppName;
use crate::participant::owed;
use crate::participant::store::{Graduation, Store};
use crate::report;
use crate::vars::Vars;

/// Checks for unsettled graduations to this host, and for those that could not put an app back.
pub(super) fn graduations(vars: &Vars) -> Vec<Finding> {
    let (all, owed) = match Store::all(vars).and_then(|all| Ok((all, owed(vars)?))) {
        Ok(found) => found,
        Err(error) => {
            let remedy = command("ls -l", &[vars.data().join("incoming")]);
            return vec![Finding::broken(Check::Graduations, error.to_string(), remedy)];
        }
    };
    let open = all.into_iter().filter(|(_, store)| !store.is_settled());
    let open = open.filter_map(|(_, store)| unsettled(&store, store.graduation().ok()??));
    let stuck = owed
        .into_iter()
        .filter_map(|(id, app)| Some(not_put_back(&app, Store::at(vars, &id).graduation().ok()??)));
    or_else_ok(open.chain(stuck).collect(), Finding::ok(Check::Graduations, "none to this host is in doubt"))
}

/// The source may know the app by another name.
fn not_put_back(app: &AppName, graduation: Graduation) -> Finding {
    let Graduation { id, environment, source, .. } = graduation;
    Finding::warning(
        Check::Graduations,
        format!("graduation {id} from {source} could not put {app} back; bring back from there what ran"),
        report::bring_back(&environment, app.as_str()),
    )
}

fn unsettled(store: &Store, graduation: Graduation) -> Option<Finding> {
    if UnixStream::connect(store.socket()).is_ok() {
        let by = graduation.described();
        let what = format!(
            "a graduation to this host is in progress: {by}; `dokku graduate:abort --incoming` ends it"
        );
        return Some(Finding::note(Check::Graduations, what));
    }
    let Graduation { id, environment, source, .. } = graduation;
    let what = format!("graduation {id} from {source} was interrupted");
    Some(match store.lease_left() {
        Ok(left) if left.as_secs() == 0 => Finding::warning(
            Check::Graduations,
            format!("{what}; settle it from there"),
            format!("dokku graduate:recover {environment}"),
        ),
        Ok(left) => {
            Finding::note(Check::Graduations, format!("{what}; it is given up in {} s", left.as_secs()))
        }
        Err(error) => Finding::note(Check::Graduations, format!("{what}: {error}")),
    })
}

/// Checks for unfinished temporary files, and for sockets without a listener.
pub(super) fn files(vars: &Vars) -> Vec<Finding> {
    let data = vars.data();
    let mut left = Vec::new();
    for dir in ["", "ssh", "environments", "apps", "pushes", "sources"].map(|name| data.join(name)) {
        left.extend(abandoned(&dir, is_unfinished));
    }
    let is_of_keys = |name: &str| name.starts_with(".authorized_keys.");
    left.extend(abandoned(&vars.below_root(".ssh"), is_of_keys));
    for dir in [data.join("graduations"), data.join("incoming")] {
        for each in paths_in(&dir) {
            left.extend(abandoned(&each, is_unfinished));
        }
    }
    let apps = Dokku::new(vars).apps().unwrap_or_default();
    for app in apps.names {
        left.extend(abandoned(&vars.below_root(app.as_str()), |name| name.starts_with(".graduate.json.")));
    }
    let is_ours = |name: &str| name == ".git.graduate-new" || name.starts_with("..gitignore.");
    left.extend(abandoned(&vars.dokku_root, is_ours));
    left.extend(abandoned(&vars.git_dir(), |name| name.starts_with(git::INDEX)));
    let objects = vars.git_dir().join("objects");
    for dir in paths_in(&objects).into_iter().filter(|path| path.is_dir()).chain([objects]) {
        // Files that git itself would remove after some weeks; git-prune(1).
        left.extend(abandoned(&dir, |name| name.starts_with("tmp_")));
    }
    left.extend(paths_in(&data.join("ssh")).into_iter().filter(|path| is_dead_socket(path)));
    left.sort();
    left.dedup();
    let mut found = match left.as_slice() {
        [] => Vec::new(),
        left => {
            let what = format!("processes that were killed have left {}", listed(left));
            vec![Finding::warning(Check::LeftOvers, what, command("rm -rf", left))]
        }
    };
    found.extend(images(vars));
    or_else_ok(found, Finding::ok(Check::LeftOvers, "none"))
}

/// Finds images that are still kept for graduations that no longer need them. The next graduation to this host releases
/// them.
fn images(vars: &Vars) -> Option<Finding> {
    let needed = || -> Result<_, FileError> {
        let open = Store::all(vars)?.into_iter().filter(|(_, store)| !store.is_settled());
        Ok((open.map(|(id, _)| id).collect::<Vec<_>>(), owed(vars)?))
    };
    // The checks of Docker and of the graduations report these errors.
    let (keepers, (open, owed)) = (Keeper::all().ok()?, needed().ok()?);
    let is_needed = |keeper: &Keeper| {
        open.iter().any(|id| keeper.is_of_graduation(id))
            || owed.iter().any(|(id, app)| keeper.is_of(id, app))
    };
    let left: Vec<Keeper> = keepers.into_iter().filter(|keeper| !is_needed(keeper)).collect();
    let first = left.first()?;
    let what = match left.len() {
        1 => format!("a graduation that is over still keeps the image {}", first.name()),
        count => format!("graduations that are over still keep {count} images, as {}", first.name()),
    };
    let listed = |of: fn(&Keeper) -> String| left.iter().map(of).collect::<Vec<_>>().join(" ");
    let remedy =
        format!("docker rm -f {}; docker rmi -f {}", listed(Keeper::container), listed(Keeper::name));
    Some(Finding::warning(Check::LeftOvers, what, remedy))
}

fn paths_in(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Matches `.<name>.<random>`: a temporary file, to be renamed to `<name>` when complete.
fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name[1..].contains('.')
}

fn abandoned(dir: &Path, is_meant: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let is_named = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(&is_meant);
    paths_in(dir).into_iter().filter(is_named).filter(|path| is_older_than(path, LEFT)).collect()
}

fn is_dead_socket(path: &Path) -> bool {
    let is_socket = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket && is_older_than(path, LEFT) && UnixStream::connect(path).is_err()
}
