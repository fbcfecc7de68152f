//! The part of the installation that runs as Dokku's user: the plugin's data, and the environment repository with its
//! hooks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::step::{InstallError, Notes, ensure_file, former_dir, free_name, make_private_dir};
use super::takeover;
use crate::environment::{self, Environment};
use crate::files::{self, FileError};
use crate::git::{Git, GitError};
use crate::manifest::GITIGNORE;
use crate::process::Program;
use crate::ssh;
use crate::vars::{self, Vars};

/// Our git hooks, with their text.
pub(crate) const HOOKS: [(&str, &str); 2] = [
    ("pre-receive", include_str!("../../hooks/pre-receive")),
    ("post-receive", include_str!("../../hooks/post-receive")),
];

/// A text that every version of our hooks contains.
const HOOK_MARK: &str = "graduate/dokku-graduate";

/// The setting that distinguishes our repository from any other.
const VERSION: (&str, &str) = ("graduate.version", "1");

/// Returns the place of a hook that existed before ours and is chained to it.
pub(crate) fn chained_hook(git_dir: &Path, name: &str) -> PathBuf {
    git_dir.join("hooks").join(format!("{name}.before-graduate"))
}

/// The private key with which this host connects to its destinations; the public key is next to it, with `.pub`.
pub(crate) fn ssh_key_path(vars: &Vars) -> PathBuf {
    vars.data().join("ssh/id_ed25519")
}

/// Makes everything that does not exist yet.
pub(super) fn prepare(vars: &Vars, notes: &mut Notes) {
    if notes.keep(prepare_data(vars)).is_none() {
        return;
    }
    notes.keep(prepare_ssh_key(vars));
    let Some(moved) = notes.keep(prepare_repository(vars)) else { return };
    if let Some(place) = moved {
        notes.done(format!(
            "the repository that was in {} was moved to {}; its history may hold secrets and is not served",
            vars.git_dir().display(),
            place.display()
        ));
    }
    let is_new = !Git::environment(vars).has_head();
    takeover::take_settings(vars, notes);
    takeover::take_releases(vars, notes);
    if is_new {
        commit_initial_state(vars, notes);
    }
}

fn prepare_data(vars: &Vars) -> Result<(), InstallError> {
    let data = vars.data();
    make_private_dir(&data)?;
    let secret = environment::secret_path(vars);
    if !secret.exists() {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(InstallError::Random)?;
        files::create_exclusively(&secret, &bytes)?;
    }
    Ok(())
}

fn prepare_ssh_key(vars: &Vars) -> Result<(), InstallError> {
    let key = ssh_key_path(vars);
    if key.exists() {
        return Ok(());
    }
    make_private_dir(key.parent().unwrap_or(&key))?;
    ssh::public_key(vars).map(drop).map_err(InstallError::Key)
}

fn settings(vars: &Vars) -> Vec<(&'static str, String)> {
    let hooks = vars.git_dir().join("hooks").to_string_lossy().into_owned();
    let fixed = [
        VERSION,
        ("core.bare", "false"),
        ("core.logAllRefUpdates", "true"),
        // The request tag is the decision: it must be durable before anything goes live.
        ("core.fsync", "committed,reference"),
        ("core.pager", "cat"),
        ("receive.advertisePushOptions", "true"),
        ("receive.denyCurrentBranch", "refuse"),
        ("receive.denyDeletes", "false"),
        ("receive.denyNonFastForwards", "false"),
        ("receive.fsckObjects", "true"),
        ("receive.maxInputSize", "256m"),
        // The last value counts, and this one is read after those of the user and of the system.
        ("transfer.hideRefs", "!refs"),
    ];
    // Settings of the user must not bypass the hooks.
    let of_place = ("core.hooksPath", hooks);
    fixed.into_iter().map(|(name, value)| (name, value.to_owned())).chain([of_place]).collect()
}

/// Reports whether the environment repository was made by us.
///
/// # Errors
/// git cannot read its configuration.
pub(crate) fn is_prepared(vars: &Vars) -> Result<bool, GitError> {
    Ok(Git::environment(vars).setting(VERSION.0)?.is_some())
}

/// Returns the names of the repository's settings that have wrong values.
///
/// # Errors
/// git cannot read its configuration.
pub(crate) fn wrong_settings(vars: &Vars) -> Result<Vec<String>, GitError> {
    let wanted = settings(vars);
    let wanted: Vec<(&str, &str)> = wanted.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let wrong = Git::environment(vars).differing(&wanted)?;
    Ok(wrong.into_iter().map(|(name, _)| name.to_owned()).collect())
}

/// Makes the repository, or repairs its settings and hooks. Returns where a repository that existed there was moved.
fn prepare_repository(vars: &Vars) -> Result<Option<PathBuf>, InstallError> {
    let git_dir = vars.git_dir();
    let wanted = settings(vars);
    let mut wanted: Vec<(&str, &str)> = wanted.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let git = Git::environment(vars);
    if git.setting(VERSION.0)?.is_some() {
        git.configure(&wanted)?;
        install_hooks(&git_dir)?;
        return Ok(None);
    }
    // Made under another name and then renamed, so that the repository is complete when it appears.
    let new = vars.below_root(".git.graduate-new");
    if new.exists() {
        fs::remove_dir_all(&new).map_err(FileError::of("remove", &new))?;
    }
    let email = format!("dokku@{}", vars::host_name());
    wanted.extend([("user.name", "dokku"), ("user.email", email.as_str())]);
    Git::bare(&new).init(&wanted)?;
    keep_hooks(&git_dir, &new)?;
    install_hooks(&new)?;
    let moved = match git_dir.symlink_metadata() {
        Ok(_) => Some(move_away(vars, &git_dir)?),
        Err(_) => None,
    };
    fs::rename(&new, &git_dir).map_err(FileError::of("make", &git_dir))?;
    Ok(moved)
}

/// Copies the hooks of the existing repository into the new one, for [`install_hooks`] to chain.
fn keep_hooks(old: &Path, new: &Path) -> Result<(), InstallError> {
    let hooks = new.join("hooks");
    fs::create_dir_all(&hooks).map_err(FileError::of("make", &hooks))?;
    for (name, _) in HOOKS {
        let hook = old.join("hooks").join(name);
        if hook.is_file() {
            fs::copy(&hook, hooks.join(name)).map_err(FileError::of("copy", &hook))?;
        }
    }
    Ok(())
}

/// Installs our hooks; existing ones that are not ours become chained.
fn install_hooks(git_dir: &Path) -> Result<(), InstallError> {
    for (name, text) in HOOKS {
        let hook = git_dir.join("hooks").join(name);
        let chained = chained_hook(git_dir, name);
        let is_foreign = hook.symlink_metadata().is_ok()
            && !fs::read(&hook).is_ok_and(|old| String::from_utf8_lossy(&old).contains(HOOK_MARK));
        if is_foreign {
            if chained.symlink_metadata().is_ok() {
                let remedy = "another hook is chained already: join the two in `<name>.before-graduate`, remove this \
                              one, and run `dokku plugin:install`; graduations do not work until then";
                return Err(InstallError::Foreign { path: hook, remedy });
            }
            fs::rename(&hook, &chained).map_err(FileError::of("chain", &hook))?;
        }
        ensure_file(&hook, text, 0o755)?;
    }
    Ok(())
}

/// Removes our hooks; the chained ones get their names back.
pub(super) fn remove_hooks(git_dir: &Path) -> Result<(), InstallError> {
    for (name, _) in HOOKS {
        let hook = git_dir.join("hooks").join(name);
        let chained = chained_hook(git_dir, name);
        if fs::read(&hook).is_ok_and(|text| String::from_utf8_lossy(&text).contains(HOOK_MARK)) {
            files::remove(&hook)?;
        }
        if chained.symlink_metadata().is_ok() && hook.symlink_metadata().is_err() {
            fs::rename(&chained, &hook).map_err(FileError::of("restore", &hook))?;
        }
    }
    Ok(())
}

/// Moves a repository that is not ours to a directory that is not served: its history may hold secrets.
fn move_away(vars: &Vars, git_dir: &Path) -> Result<PathBuf, InstallError> {
    let store = former_dir(vars);
    make_private_dir(&store)?;
    let to = free_name(&store, |number| format!("{number}.git"));
    match fs::rename(git_dir, &to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            Program::new("cp").args(["-a", "--"]).arg(git_dir).arg(&to).run()?;
            fs::remove_dir_all(git_dir).map_err(FileError::of("remove", git_dir))?;
        }
        moved => moved.map_err(FileError::of("move", git_dir))?,
    }
    if to.is_dir() {
        make_private_dir(&to)?;
    }
    Ok(to)
}

/// Makes the first commit of a new repository, so that it can be cloned.
fn commit_initial_state(vars: &Vars, notes: &mut Notes) {
    let git = Git::environment(vars);
    notes.done(format!(
        "{} is a Git repository now; clone it with `git clone dokku@{}:graduate`",
        vars.dokku_root.display(),
        vars::host_name()
    ));
    let committed = Environment::open(vars).and_then(|environment| environment.commit(Some("Initial state")));
    if let Err(error) = committed {
        notes.problem(format!("{error}; then run `dokku graduate:commit`"));
        let ignore = ensure_file(&vars.below_root(".gitignore"), GITIGNORE, 0o644);
        if notes.keep(ignore).is_some() {
            notes.keep(git.commit_manifests("Initial state").map_err(InstallError::from));
        }
    }
}
