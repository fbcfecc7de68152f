//! The settings of our git calls: no setting of Dokku's user or of the system reaches them, and the settings of a
//! repository that would change what a call does are pinned.
//!
//! We do not call the git that serves pushes to the environment repository: for it the repository has its own settings
//! (`install/repository.rs`), and `graduate:doctor` names the settings that these cannot override.

use crate::process::Program;

/// Settings that a repository may have and that would change what our calls do, each with the value that they need;
/// git-config(1).
const PINNED: &[(&str, &str)] = &[
    // Which files `git add` takes, and with which content.
    ("core.attributesFile", "/dev/null"),
    ("core.autocrlf", "false"),
    ("core.eol", "lf"),
    ("core.excludesFile", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.ignoreCase", "false"),
    ("core.safecrlf", "false"),
    ("core.sparseCheckout", "false"),
    ("core.splitIndex", "false"),
    ("core.symlinks", "true"),
    ("core.untrackedCache", "false"),
    ("submodule.recurse", "false"),
    // Programs that would run.
    ("core.hooksPath", "/dev/null"),
    ("core.pager", "cat"),
    ("core.askPass", "true"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("receive.autogc", "false"),
    // How objects and refs are written.
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("core.filesRefLockTimeout", "1000"),
    ("core.fsync", "committed,reference"),
    ("core.fsyncMethod", "batch"),
    ("core.packedRefsTimeout", "1000"),
    ("core.preferSymlinkRefs", "false"),
    ("i18n.commitEncoding", "UTF-8"),
    ("i18n.logOutputEncoding", "UTF-8"),
    // What is read, and how it is shown.
    ("color.ui", "false"),
    ("core.abbrev", "auto"),
    ("core.quotePath", "true"),
    ("core.useReplaceRefs", "false"),
    ("core.warnAmbiguousRefs", "false"),
    ("safe.bareRepository", "all"),
    ("safe.directory", "*"),
    // What is pushed and received.
    ("protocol.ssh.allow", "always"),
    ("push.followTags", "false"),
    ("push.gpgSign", "false"),
    ("push.negotiate", "false"),
    ("push.pushOption", ""),
    ("push.recurseSubmodules", "no"),
    // git obeys the last value, and nothing is hidden.
    ("transfer.hideRefs", "!refs"),
];

/// git(1) as we call it: without the settings and attributes of the user and of the system, and without prompts.
pub(crate) fn program() -> Program {
    let git = Program::new("git")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C");
    PINNED.iter().fold(git, |git, (name, value)| git.arg("-c").arg(format!("{name}={value}")))
}
