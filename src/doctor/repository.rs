//! Checks the environment repository: its hooks, its settings, and whether it is served.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::wording::{INSTALL, command, or_else_ok};
use crate::files;
use crate::finding::{Check, Finding};
use crate::git::Git;
use crate::install::{self, CompanionState, GIT_READER, HOOKS};
use crate::manifest::GITIGNORE;
use crate::process::{Program, in_words};
use crate::repo::GitRepository;
use crate::ssh;
use crate::vars::Vars;

/// The first git that makes pushed data durable (`core.fsync`); git's release notes for 2.36.
const DURABLE: (u32, u32) = (2, 36);

/// The first git with all options that we use (`init --initial-branch`); git's release notes for 2.28.
const USABLE: (u32, u32) = (2, 28);

/// The answer of a client that wants nothing from upload-pack: a flush packet; gitprotocol-pack(5).
const NOTHING_WANTED: &str = "0000";

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Checks that our hooks are installed, and that chained ones can run.
pub(super) fn hooks(vars: &Vars) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, text) in HOOKS {
        let hook = vars.git_dir().join("hooks").join(name);
        let chained = install::chained_hook(&vars.git_dir(), name);
        if !install::is_file(&hook, text, 0o755) {
            let how = match (hook.symlink_metadata().is_ok(), chained.exists()) {
                (false, _) => "is missing",
                (true, false) => "is not the plugin's",
                (true, true) => "is not the plugin's, and another one is chained already",
            };
            let aside = hook.with_extension("aside");
            let remedy = match chained.exists() && hook.exists() {
                true => format!("{} && {INSTALL}", command("mv", &[hook.clone(), aside])),
                false => INSTALL.to_owned(),
            };
            found.push(Finding::broken(Check::Hooks, format!("{} {how}", hook.display()), remedy));
        }
        if chained.exists() && !is_executable(&chained) {
            let what = format!("{} is chained to ours and cannot be run", chained.display());
            found.push(Finding::broken(Check::Hooks, what, command("chmod 755", &[chained])));
        }
    }
    or_else_ok(found, Finding::ok(Check::Hooks, "pre-receive and post-receive are the plugin's"))
}

/// Checks that the repository is ours, has its settings, and keeps secrets out.
pub(super) fn settings(vars: &Vars) -> Vec<Finding> {
    let place = vars.git_dir();
    let place = place.display();
    match install::is_prepared(vars) {
        Ok(true) => {}
        Ok(false) => {
            let what = format!("{place} is not an environment repository");
            return vec![Finding::broken(Check::Repository, what, INSTALL)];
        }
        Err(error) => return vec![Finding::broken(Check::Repository, error.to_string(), INSTALL)],
    }
    let mut found = Vec::new();
    match install::wrong_settings(vars) {
        Ok(wrong) if wrong.is_empty() => {}
        Ok(wrong) => {
            let what = format!("wrong settings in {place}: {}", wrong.join(", "));
            found.push(Finding::broken(Check::Repository, what, INSTALL));
        }
        Err(error) => found.push(Finding::broken(Check::Repository, error.to_string(), INSTALL)),
    }
    match GitRepository::open(vars).and_then(|repo| repo.head()) {
        Ok(Some(_)) => {}
        Ok(None) => {
            let what = format!("{place} has no commit yet: it cannot be cloned");
            found.push(Finding::broken(Check::Repository, what, "dokku graduate:commit"));
        }
        Err(error) => {
            let git_dir = ssh::quoted(&vars.git_dir().to_string_lossy());
            let remedy = format!("git --git-dir={git_dir} fsck --full");
            found.push(Finding::broken(Check::Repository, error.to_string(), remedy));
        }
    }
    let ignore = vars.below_root(".gitignore");
    let is_ours =
        files::read(&ignore, 64 * 1024).is_ok_and(|text| text.is_some_and(|t| t == GITIGNORE.as_bytes()));
    if !is_ours {
        let what = format!(
            "{} is not the plugin's: `git add` could take secrets into the repository",
            ignore.display()
        );
        found.push(Finding::broken(Check::Repository, what, "dokku graduate:commit"));
    }
    or_else_ok(found, Finding::ok(Check::Repository, format!("{place} is the environment repository")))
}

/// Checks that it is served under its name, in the way in which Dokku runs a command that arrives over ssh.
pub(super) fn path(vars: &Vars) -> Vec<Finding> {
    let app = vars.below_root("graduate");
    if app.exists() {
        let what = "an app is called graduate, the name under which the environment repository is served";
        let remedy = format!("dokku apps:rename graduate graduate-app && {INSTALL}");
        return vec![Finding::broken(Check::RepositoryPath, what, remedy)];
    }
    let reader = install::companions(vars).into_iter().find(|companion| companion.name == GIT_READER);
    if reader.is_none_or(|reader| reader.state(vars) != CompanionState::Fine) {
        // Without it Dokku would treat the name as that of an app, and create one.
        return Vec::new();
    }
    let serve = Program::new("dokku").args(["git-upload-pack", "'graduate'"]).input(NOTHING_WANTED);
    let broken = |how: String| {
        let what = format!("the environment repository is not served as `dokku@<host>:graduate`: {how}");
        vec![Finding::broken(Check::RepositoryPath, what, INSTALL)]
    };
    match serve.capture() {
        // The first line that a server sends: four digits, an id, the ref; gitprotocol-pack(5).
        Ok((status, offered, _)) if status.success() && is_an_offer(&offered) => {
            vec![Finding::ok(Check::RepositoryPath, "served as `dokku@<host>:graduate`")]
        }
        Ok((status, _, said)) => {
            let said = String::from_utf8_lossy(&said);
            broken(format!("git-upload-pack {}: {}", in_words(status), said.trim()))
        }
        Err(error) => broken(error.to_string()),
    }
}

fn is_an_offer(bytes: &[u8]) -> bool {
    bytes.len() > 44 && bytes[..44].iter().all(u8::is_ascii_hexdigit) && bytes[44] == b' '
}

/// Checks that git is new enough.
pub(super) fn git(_: &Vars) -> Vec<Finding> {
    let remedy = "apt-get update && apt-get install --yes git";
    let said = match Program::new("git").arg("--version").read() {
        Ok(said) => said,
        Err(error) => return vec![Finding::broken(Check::Git, error.to_string(), remedy)],
    };
    let said = said.trim();
    let needed = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    vec![match version(said) {
        None => {
            Finding::warning(Check::Git, format!("unexpected answer from `git --version`: {said:?}"), remedy)
        }
        Some(version) if version < USABLE => {
            Finding::broken(Check::Git, format!("{said}, and {} is needed", needed(USABLE)), remedy)
        }
        Some(version) if version < DURABLE => {
            let what = format!(
                "{said}; from {} on, what is pushed survives an immediate power failure",
                needed(DURABLE)
            );
            Finding::warning(Check::Git, what, remedy)
        }
        Some(_) => Finding::ok(Check::Git, said),
    }]
}

/// Checks for settings of the user or the system that ours cannot override.
pub(super) fn git_settings(vars: &Vars) -> Vec<Finding> {
    if !vars.git_dir().join("config").exists() {
        return Vec::new();
    }
    match Git::environment(vars).harmful_settings() {
        Ok(harmful) => {
            let found = harmful.iter().map(|one| Finding::broken(Check::Git, one.to_string(), one.remedy()));
            found.collect()
        }
        Err(error) => vec![Finding::broken(Check::Git, error.to_string(), "git config --list --show-origin")],
    }
}

/// Parses "git version 2.39.5 (Apple Git-154)".
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("git version ")?.split(['.', ' ']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_understood() {
        assert_eq!(version("git version 2.47.3"), Some((2, 47)));
        assert_eq!(version("git version 2.9"), Some((2, 9)));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version("git version 3.0.rc1"), Some((3, 0)));
        assert_eq!(version("hub version 1"), None);
        assert!(is_an_offer(format!("00ab{} HEAD\0side-band", "4f2a".repeat(10)).as_bytes()));
        assert!(!is_an_offer(b"-----> Creating graduate..."));
    }
}
