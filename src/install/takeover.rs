//! The migration from the 2015 plugin: takes over its environments, hooks and releases.
//!
//! It kept files in Dokku's root: `GRADUATE_ENVIRONMENTS` (lines of `<name>=<address>`) and two scripts of hooks (one
//! command per line). The repository there has a lightweight tag for each graduation. What has been taken over is moved
//! away, so that nothing is taken over twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::step::{InstallError, Notes, TakeoverError, former_dir, free_name, make_private_dir};
use crate::coordinator::ledger;
use crate::files::{self, FileError};
use crate::git::{Git, RefChange, TagText};
use crate::manifest::{Deploy, GITIGNORE, MANIFEST_FILE, MANIFEST_VERSION, Manifest};
use crate::names::{AppName, BranchName, CommitId, EnvironmentName, ObjectId};
use crate::process::Program;
use crate::repo::GitRepository;
use crate::repo::former::{self, FormerApp, FormerRelease};
use crate::runs::Runs;
use crate::settings::{Address, HookKind, Settings, SettingsError, Url};
use crate::ssh;
use crate::vars::Vars;

/// The largest file that is taken over, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// The file of environments.
const ENVIRONMENTS: &str = "GRADUATE_ENVIRONMENTS";

/// The files of hooks.
const HOOKS: [(HookKind, &str); 2] =
    [(HookKind::Pre, "GRADUATE_PRE_HOOKS"), (HookKind::Post, "GRADUATE_POST_HOOKS")];

/// The files by which its processes communicated, and temporary files of its interrupted commands.
const REMAINS: [&str; 4] =
    ["GRADUATE_STATUS", "TMP_GRADUATE_ENVIRONMENTS", "TMP_GRADUATE_PRE_HOOKS", "TMP_GRADUATE_POST_HOOKS"];

/// The text in its plugin's description.
const DESCRIPTION: &str = "manages dokku application pipelines";

/// Marks a repository whose releases have been taken over.
const TAKEN: &str = "graduate-taken-over";

/// Takes over the settings: environments and hooks.
pub(super) fn take_settings(vars: &Vars, notes: &mut Notes) {
    let taken = take_environments(vars, notes);
    notes.keep(taken);
    for (kind, name) in HOOKS {
        let taken = take_hooks(vars, kind, name, notes);
        notes.keep(taken);
    }
    for name in REMAINS {
        let path = vars.below_root(name);
        if path.is_file() {
            notes.keep(set_aside(vars, &path));
        }
    }
}

/// Reports what the operator must still do about the old plugin; runs as root, which can read all plugins.
pub(super) fn look_for_plugin(vars: &Vars, notes: &mut Notes) {
    for path in fs::read_dir(&vars.plugins_enabled).into_iter().flatten().flatten().map(|entry| entry.path())
    {
        let description = fs::read_to_string(path.join("plugin.toml")).unwrap_or_default();
        if description.contains(DESCRIPTION) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            notes.problem(format!(
                "the plugin of 2015 is still installed as {name}, and restores its own zzz_graduate at every installation: \
                 remove it with `dokku plugin:uninstall {name}`, then run `dokku plugin:install`"
            ));
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, FileError> {
    let bytes = files::read(path, MAX_FILE)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Moves a file to the directory of the old repository, under a free name.
fn set_aside(vars: &Vars, path: &Path) -> Result<PathBuf, InstallError> {
    let dir = former_dir(vars);
    make_private_dir(&dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let to = free_name(&dir, |number| if number == 1 { name.clone() } else { format!("{name}.{number}") });
    fs::rename(path, &to).map_err(FileError::of("move", path))?;
    Ok(to)
}

/// Takes over the environments. An address was the part after `dokku@`: a host. A line that is not a valid environment
/// is left out and reported. If the settings cannot be written, the next installation tries all of them again.
fn take_environments(vars: &Vars, notes: &mut Notes) -> Result<(), InstallError> {
    let path = vars.below_root(ENVIRONMENTS);
    let Some(text) = read(&path)? else { return Ok(()) };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, address) = line.split_once('=').unwrap_or((line, ""));
        let (name, address) = (name.trim(), address.trim());
        let why_not = match (name.parse::<EnvironmentName>(), address.parse::<Url>()) {
            (Err(error), _) => error.to_string(),
            (Ok(_), Err(error)) => error.to_string(),
            (Ok(name), Ok(url)) => match take_environment(vars, &name, &url) {
                Ok(()) => {
                    notes.done(format!(
                        "environment {name} ({address}) was taken over; accept the key of `dokku \
                         graduate:key` there, then pin its host key and test the link with `dokku \
                         graduate:add-environment {name} {address}`"
                    ));
                    continue;
                }
                Err(TakeoverError::Settings(error @ SettingsError::EnvironmentExists { .. })) => {
                    error.to_string()
                }
                Err(error) => return Err(error.into()),
            },
        };
        notes.problem(format!("environment {name:?} was not taken over: {why_not}"));
    }
    set_aside(vars, &path).map(drop)
}

fn take_environment(vars: &Vars, name: &EnvironmentName, url: &Url) -> Result<(), TakeoverError> {
    Settings::change(vars, |settings| {
        settings.add_environment(name, &Address::Ssh(url.clone()))?;
        Ok(ssh::write_config(vars, name, url)?)
    })
}

/// Takes over the hooks of one kind, which were one script. Each line becomes a hook, as the old commands counted them;
/// a script whose lines are not complete commands becomes one hook.
fn take_hooks(vars: &Vars, kind: HookKind, name: &str, notes: &mut Notes) -> Result<(), InstallError> {
    let path = vars.below_root(name);
    let Some(text) = read(&path)? else { return Ok(()) };
    let is_command = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let lines: Vec<String> = text.lines().map(str::trim).filter(is_command).map(str::to_owned).collect();
    let is_whole = |line: &String| Program::new("bash").args(["-n", "-c", line]).run().is_ok();
    let are_apart = lines.iter().all(is_whole);
    let aside = set_aside(vars, &path)?;
    let hooks =
        if are_apart { lines } else { vec![format!("bash -e {}", ssh::quoted(&aside.to_string_lossy()))] };
    let add = |settings: &mut Settings| -> Result<usize, TakeoverError> {
        let before = settings.hooks(kind).len();
        for hook in &hooks {
            if !settings.hooks(kind).contains(hook) {
                settings.add_hook(kind, hook)?;
            }
        }
        Ok(settings.hooks(kind).len() - before)
    };
    match Settings::change(vars, add) {
        Ok(count) if are_apart => {
            notes.done(format!("{count} {kind} hooks were taken over; each runs in a bash of its own now"));
        }
        Ok(_) => {
            notes.done(format!("the {kind} hooks were taken over as one: `bash -e {}`", aside.display()))
        }
        Err(error) => {
            // Nothing was taken over: the next installation tries again.
            fs::rename(&aside, &path).map_err(FileError::of("move", &aside))?;
            return Err(error.into());
        }
    }
    Ok(())
}

/// Takes over the releases in the repositories that were moved away.
pub(super) fn take_releases(vars: &Vars, notes: &mut Notes) {
    let entries = fs::read_dir(former_dir(vars)).into_iter().flatten().flatten();
    let mut repositories: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    repositories.sort();
    for path in repositories {
        if path.extension().is_some_and(|extension| extension == "git") && !path.join(TAKEN).exists() {
            let taken = take_releases_of(vars, &path, notes);
            notes.keep(taken);
        }
    }
}

fn take_releases_of(vars: &Vars, path: &Path, notes: &mut Notes) -> Result<(), InstallError> {
    let mark = path.join(TAKEN);
    let (releases, left) = match former::releases(path) {
        Ok(found) => found,
        Err(error) => {
            // Reported once, not at every installation of any plugin.
            files::write_atomically(&mark, b"")?;
            notes.problem(format!(
                "no releases of 2015 were taken over: {error}; to try again, remove {} and run \
                 `dokku plugin:install`",
                mark.display()
            ));
            return Ok(());
        }
    };
    let repo = GitRepository::open(vars).map_err(TakeoverError::from)?;
    let git = Git::environment(vars);
    let read_ref = |name: &str| repo.read_ref(name).map_err(TakeoverError::from);
    let mut counts: BTreeMap<EnvironmentName, usize> = BTreeMap::new();
    let mut newest: BTreeMap<EnvironmentName, CommitId> = BTreeMap::new();
    let mut last: Option<(CommitId, CommitId)> = None;
    for release in &releases {
        let commit = match last {
            Some((former, commit)) if former == release.commit => commit,
            Some((_, commit)) => make_state(&git, release, Some(commit))?,
            None => make_state(&git, release, None)?,
        };
        last = Some((release.commit, commit));
        if read_ref(&release.tag.ref_name())?.is_none() {
            let object = make_release_tag(&git, release, commit)?;
            git.change_refs(&[RefChange { name: release.tag.ref_name(), new: Some(object), old: None }])?;
            *counts.entry(release.tag.environment().clone()).or_default() += 1;
        }
        newest.insert(release.tag.environment().clone(), commit);
    }
    for (environment, commit) in newest {
        let name = ledger::branch(&environment);
        if read_ref(&name)?.is_none() {
            git.change_refs(&[RefChange { name, new: Some(commit), old: None }])?;
        }
    }
    // The host's history continues from there.
    if let Some((_, commit)) = last
        && !git.has_head()
    {
        let name = "refs/heads/main".to_owned();
        git.change_refs(&[RefChange { name, new: Some(commit), old: None }])?;
    }
    files::write_atomically(&mark, b"")?;
    for (environment, count) in counts {
        notes.done(format!("{count} releases of {environment} were taken over from {}", path.display()));
    }
    if !left.is_empty() {
        let names = left.join(", ");
        notes.problem(format!(
            "these tags in {} name no release that can be taken over: {names}",
            path.display()
        ));
    }
    Ok(())
}

/// Makes a commit of the state that a graduation of 2015 deployed. Its config, stored in plain text, is not taken over.
fn make_state(
    git: &Git,
    release: &FormerRelease,
    parent: Option<CommitId>,
) -> Result<CommitId, InstallError> {
    let manifest = |(app, former): (&AppName, &FormerApp)| {
        let manifest = Manifest {
            app: app.clone(),
            config: BTreeMap::new(),
            deploy: Deploy {
                from_image: None,
                branch: former.branch.parse().unwrap_or_else(|_| BranchName::master()).into(),
                image: None,
                revision: Runs::Revision(former.revision),
                source: None,
            },
            factors: BTreeMap::new(),
            scale: former.scale.clone(),
            version: MANIFEST_VERSION,
        };
        (format!("{app}/{MANIFEST_FILE}"), Some(manifest.to_text().into_bytes()))
    };
    let mut files = vec![(".gitignore".to_owned(), Some(GITIGNORE.as_bytes().to_vec()))];
    files.extend(release.apps.iter().map(manifest));
    let tree = git.make_tree(None, &files)?;
    let parents: Vec<CommitId> = parent.into_iter().collect();
    let message = format!("State of 2015\n\nTaken-over-from: {}\n", release.commit);
    Ok(git.make_commit_of(release.time_s, tree, &parents, &message)?)
}

fn make_release_tag(git: &Git, release: &FormerRelease, commit: CommitId) -> Result<ObjectId, InstallError> {
    let FormerRelease { tag, commit: former, time_s, .. } = release;
    let message = format!("Release of {commit} to {}\n\nTaken-over-from: {former}\n", tag.environment());
    let name = tag.to_string();
    let text = TagText { name: &name, tagger: "dokku-graduate", time_s: *time_s, message: &message };
    Ok(git.make_tag(commit, &text)?)
}
