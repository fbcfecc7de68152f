//! The git commands that change a repository of this host: the environment repository and the apps' own. Only settings
//! are written by libgit2.
//!
//! Each command names its repository, drops the variables of our caller's git (`process.rs`) and runs no hooks. A
//! changed ref is on the disk when a function returns.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use git2::ErrorCode;

use crate::files::{self, FileError};
use crate::names::{AppName, BranchName, CommitId, GraduationId, ObjectId, is_ref_path};
use crate::process::{ProcessError, Program, in_words};
use crate::updates::MAIN;
use crate::vars::{Vars, host_name};

mod harmful;
mod keep;
mod loose;
mod objects;
mod quarantine;
mod settings;

pub(crate) use harmful::Harmful;
pub(crate) use keep::{kept, released};
pub(crate) use objects::{INDEX, TagText};
pub(crate) use quarantine::sweep_quarantines;
pub(crate) use settings::program;

/// How long the lock file of a ref must stay unchanged to be treated as stale.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// The formats of every repository that we make, whatever the host's `init.defaultObjectFormat` and
/// `init.defaultRefFormat` say: git(1). A git that is older than a format ignores the variable and needs none.
pub(crate) const FORMATS: [(&str, &str); 2] =
    [("GIT_DEFAULT_HASH", "sha1"), ("GIT_DEFAULT_REF_FORMAT", "files")];

/// A repository could not be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// git failed.
    #[error("cannot {action} in {}: {source}", git_dir.display())]
    Command {
        /// The action.
        action: &'static str,
        /// The repository.
        git_dir: PathBuf,
        /// What git says.
        source: ProcessError,
    },
    /// The repository's settings cannot be changed.
    #[error("cannot change the settings in {}: {}", git_dir.display(), source.message())]
    Settings {
        /// The repository.
        git_dir: PathBuf,
        /// What libgit2 says.
        source: git2::Error,
    },
    /// A ref does not have the expected value: another process has changed it.
    #[error("{name} was changed by another process (git says: {detail})")]
    RefMoved {
        /// The ref.
        name: String,
        /// git's message.
        detail: String,
    },
    /// A changed ref may not be durable.
    #[error("cannot make {name} durable: {source}")]
    Sync {
        /// The ref.
        name: String,
        /// The system's answer.
        source: FileError,
    },
    /// A file next to git's own.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name that must not be passed to git.
    #[error("{0:?} is not a valid ref name")]
    RefName(String),
    /// git's answer is not an id.
    #[error("git made an object and called it {0:?}, which is not an id")]
    Answer(String),
}

/// One change of a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefChange {
    /// The full name.
    pub name: String,
    /// The new value; none deletes the ref.
    pub new: Option<ObjectId>,
    /// The value that the ref must have for the change to happen; none if it must not exist.
    pub old: Option<ObjectId>,
}

/// A repository that is changed by git commands.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    git_dir: PathBuf,
    work_tree: Option<PathBuf>,
    user: String,
}

impl Git {
    /// The environment repository; the author of a commit is the user who asked for it.
    pub(crate) fn environment(vars: &Vars) -> Self {
        Self { git_dir: vars.git_dir(), work_tree: Some(vars.dokku_root.clone()), user: person(&vars.user) }
    }

    /// A bare repository, such as an app's.
    pub(crate) fn bare(git_dir: &Path) -> Self {
        Self { git_dir: git_dir.to_owned(), work_tree: None, user: "dokku-graduate".to_owned() }
    }

    fn command(&self) -> Program {
        let email = format!("{}@{}", self.user.replace(' ', "-"), host_name());
        let program = program().arg("--git-dir").arg(&self.git_dir);
        let program = match &self.work_tree {
            Some(work_tree) => program.arg("--work-tree").arg(work_tree).dir(work_tree),
            None => program,
        };
        program
            .env("GIT_AUTHOR_NAME", &self.user)
            .env("GIT_AUTHOR_EMAIL", &email)
            .env("GIT_COMMITTER_NAME", &self.user)
            .env("GIT_COMMITTER_EMAIL", &email)
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(ProcessError) -> GitError {
        let git_dir = self.git_dir.clone();
        move |source| GitError::Command { action, git_dir, source }
    }

    /// Makes an empty repository whose branch is `main`, with the settings given.
    ///
    /// # Errors
    /// git cannot write there.
    pub(crate) fn init(&self, settings: &[(&str, &str)]) -> Result<(), GitError> {
        // `init --bare` makes a repository in exactly this place; the settings then correct core.bare.
        let init = program().args(["init", "--quiet", "--bare", "--initial-branch=main", "--template="]);
        let init = FORMATS.iter().fold(init, |init, (name, value)| init.env(name, value));
        init.arg(&self.git_dir).run().map_err(self.failed("make a repository"))?;
        self.configure(settings).map(drop)
    }

    /// One of the repository's own settings; none if it is not set or the repository does not exist.
    ///
    /// # Errors
    /// git cannot read its configuration.
    pub(crate) fn setting(&self, name: &str) -> Result<Option<String>, GitError> {
        let file = self.git_dir.join("config");
        if !file.exists() {
            return Ok(None);
        }
        let get = program().args(["config", "--file"]).arg(&file).args(["--get", name]);
        let (status, stdout, stderr) = get.capture().map_err(self.failed("read the settings"))?;
        match status.code() {
            Some(0) => Ok(Some(String::from_utf8_lossy(&stdout).trim_end().to_owned())),
            Some(1) => Ok(None), // git-config(1): the name is not set
            Some(_) | None => Err(self.failed("read the settings")(ProcessError::Failed {
                program: "git config".to_owned(),
                how: in_words(status),
                output: String::from_utf8_lossy(&stderr).into_owned(),
            })),
        }
    }

    fn config(&self) -> Program {
        program().args(["config", "--file"]).arg(self.git_dir.join("config"))
    }

    /// The settings that the repository does not have with these values.
    ///
    /// # Errors
    /// git cannot read its configuration.
    pub(crate) fn differing<'a>(
        &self,
        settings: &[(&'a str, &'a str)],
    ) -> Result<Vec<(&'a str, &'a str)>, GitError> {
        let listed = self.config().args(["--list", "--null"]).read();
        let listed = listed.map_err(self.failed("read the settings"))?;
        let is_set = |name: &str, value: &str| {
            let pairs = listed.split('\0').filter_map(|pair| pair.split_once('\n'));
            let mut values = pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
            values.next() == Some(value) && values.next().is_none()
        };
        Ok(settings.iter().filter(|(name, value)| !is_set(name, value)).copied().collect())
    }

    /// Gives the repository these settings; returns whether any was different.
    ///
    /// # Errors
    /// git cannot read or write its configuration.
    pub(crate) fn configure(&self, settings: &[(&str, &str)]) -> Result<bool, GitError> {
        let differing = self.differing(settings)?;
        if differing.is_empty() {
            return Ok(false);
        }
        self.replace(&differing)
            .map_err(|source| GitError::Settings { git_dir: self.git_dir.clone(), source })?;
        Ok(true)
    }

    /// Sets each of these settings once, whatever values it had. libgit2 does it for all in one process.
    fn replace(&self, settings: &[(&str, &str)]) -> Result<(), git2::Error> {
        let mut config = git2::Config::open(&self.git_dir.join("config"))?;
        for (name, value) in settings {
            match config.remove_multivar(name, ".*") {
                Err(error) if error.code() != ErrorCode::NotFound => return Err(error),
                Ok(()) | Err(_) => config.set_str(name, value)?,
            }
        }
        Ok(())
    }

    /// Commits `.gitignore` and the manifests as they are in the work tree, and nothing else, to the branch `main`;
    /// none if `main` has this state already.
    ///
    /// # Errors
    /// git fails; [`GitError::RefMoved`] if another commit is made at the same time.
    pub(crate) fn commit_manifests(&self, message: &str) -> Result<Option<CommitId>, GitError> {
        let add = self.command().args(["add", "--all", "--", ".gitignore"]);
        add.run().map_err(self.failed("add .gitignore"))?;
        // git treats the pattern as an error if it matches neither a file nor an index entry.
        let add = self.command().args(["add", "--all", "--ignore-errors", "--", ":(glob)*/graduate.json"]);
        if let Err(source) = add.run()
            && !source.to_string().contains("did not match any files")
        {
            return Err(self.failed("add the manifests")(source));
        }
        let tree = self.command().arg("write-tree").read().map_err(self.failed("write a tree"))?;
        let tree = parse_id(&tree)?;
        let parent = self.object(MAIN)?;
        if parent.is_some() && self.object(&format!("{MAIN}^{{tree}}"))? == Some(tree) {
            return Ok(None);
        }
        // Plumbing only: what git-commit(1) makes of a message and of HEAD depends on settings.
        let parents: Vec<CommitId> = parent.into_iter().collect();
        let commit = self.make_commit(tree, &parents, message)?;
        self.compare_and_swap(MAIN, Some(commit), parent)?;
        Ok(Some(commit))
    }

    /// The object that a full name resolves to; none if there is none.
    fn object(&self, name: &str) -> Result<Option<ObjectId>, GitError> {
        let parse = self.command().args(["rev-parse", "--verify", "--quiet", name]);
        match parse.read_unless(str::is_empty) {
            Ok(id) if id.is_empty() => Ok(None),
            Ok(id) => parse_id(&id).map(Some),
            Err(source) => Err(self.failed("read a ref")(source)),
        }
    }

    /// Reports whether the repository has a first commit.
    pub(crate) fn has_head(&self) -> bool {
        self.command().args(["rev-parse", "--verify", "--quiet", "HEAD"]).run().is_ok()
    }

    /// Paths in the index that are neither `.gitignore` nor a manifest: an operator added them by force.
    ///
    /// # Errors
    /// The index cannot be read.
    pub(crate) fn foreign_paths(&self) -> Result<Vec<String>, GitError> {
        let listed = self.command().args(["ls-files", "-z"]).read().map_err(self.failed("list the files"))?;
        let is_ours = |path: &str| {
            let app = path.strip_suffix("/graduate.json").map(str::parse::<AppName>);
            path == ".gitignore" || app.is_some_and(|app| app.is_ok())
        };
        let paths = listed.split('\0').filter(|path| !path.is_empty() && !is_ours(path));
        Ok(paths.map(str::to_owned).collect())
    }

    /// Sets a ref to `new` if and only if its value is `old`; the change is on the disk when this returns.
    ///
    /// # Errors
    /// [`GitError::RefMoved`] if its value is not `old`.
    pub(crate) fn compare_and_swap(
        &self,
        name: &str,
        new: Option<ObjectId>,
        old: Option<ObjectId>,
    ) -> Result<(), GitError> {
        self.change_refs(&[RefChange { name: name.to_owned(), new, old }])
    }

    /// Makes all changes or none (a ref transaction of git, git-update-ref(1)); they are on the disk when this returns.
    ///
    /// # Errors
    /// [`GitError::RefMoved`] if a ref does not have the value that its change expects.
    pub(crate) fn change_refs(&self, changes: &[RefChange]) -> Result<(), GitError> {
        let mut input = "start\n".to_owned();
        for change in changes {
            self.free_ref(&change.name)?;
            let text = |id: Option<ObjectId>| id.map_or(ObjectId::ABSENT.to_owned(), |id| id.to_string());
            input += &format!("update {} {} {}\n", change.name, text(change.new), text(change.old));
        }
        input += "prepare\ncommit\n";
        let update = self.command().args(["update-ref", "--no-deref", "--stdin"]).input(input);
        if let Err(source) = update.run() {
            let detail = source.to_string();
            let moved = ["but expected", "reference already exists", "unable to resolve reference"];
            let name = changes.iter().map(|change| &change.name).find(|name| detail.contains(name.as_str()));
            return Err(match name {
                Some(name) if moved.iter().any(|words| detail.contains(words)) => {
                    GitError::RefMoved { name: name.clone(), detail }
                }
                Some(_) | None => self.failed("move refs")(source),
            });
        }
        changes.iter().try_for_each(|change| self.sync_ref(&change.name))
    }

    /// Prepares a transaction that would point each of these refs to a commit, and aborts it: an obstacle to writing
    /// them later is an error now.
    ///
    /// # Errors
    /// git could not write one of the refs.
    pub(crate) fn could_write(&self, names: &[String], commit: CommitId) -> Result<(), GitError> {
        let mut input = "start\n".to_owned();
        for name in names {
            self.free_ref(name)?;
            input += &format!("update {name} {commit}\n");
        }
        input += "prepare\nabort\n";
        let update = self.command().args(["update-ref", "--no-deref", "--stdin"]).input(input);
        update.run().map_err(self.failed("write the refs of a graduation"))
    }

    /// Removes the stale lock file of a ref that a killed git has left behind. git holds such a lock for milliseconds,
    /// so that one that stays unchanged for `LOCK_PATIENCE` is stale.
    ///
    /// # Errors
    /// The lock file cannot be removed.
    pub(crate) fn free_ref(&self, name: &str) -> Result<(), GitError> {
        check_ref_name(name)?;
        let lock = self.git_dir.join(format!("{name}.lock"));
        let which = || fs::metadata(&lock).ok().map(|found| (found.ino(), found.ctime(), found.ctime_nsec()));
        let found = which();
        if found.is_some() {
            thread::sleep(LOCK_PATIENCE);
        }
        if found.is_some() && found == which() {
            files::remove(&lock)?;
        }
        Ok(())
    }

    /// Makes the present value of a ref durable, whichever process wrote it: syncs its loose file (or else the packed
    /// refs) and the directories above.
    ///
    /// # Errors
    /// [`GitError::Sync`].
    pub(crate) fn sync_ref(&self, name: &str) -> Result<(), GitError> {
        check_ref_name(name)?;
        let loose = self.git_dir.join(name);
        let file = if loose.exists() { loose.clone() } else { self.git_dir.join("packed-refs") };
        let directories = loose.ancestors().skip(1).take_while(|dir| dir.starts_with(&self.git_dir));
        for path in std::iter::once(file.as_path()).chain(directories) {
            match File::open(path).and_then(|file| file.sync_all()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    let source = FileError::of("sync", path)(error);
                    return Err(GitError::Sync { name: name.to_owned(), source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Checks that a ref could be written: there is room in its directory, or in the nearest directory above that
    /// exists.
    ///
    /// # Errors
    /// The system's answer to an attempt to write there.
    pub(crate) fn can_write_ref(&self, name: &str) -> Result<(), GitError> {
        check_ref_name(name)?;
        let path = self.git_dir.join(name);
        let above = path.ancestors().skip(1).find(|dir| dir.is_dir()).unwrap_or(&self.git_dir);
        let attempt = || {
            let mut file = tempfile::tempfile_in(above)?;
            file.write_all(&[0; 4096])?;
            file.sync_all()
        };
        Ok(attempt().map_err(FileError::of("write in", above))?)
    }

    /// Reports whether the repository has this commit.
    pub(crate) fn has_commit(&self, commit: CommitId) -> bool {
        self.command().args(["cat-file", "-e", &format!("{commit}^{{commit}}")]).run().is_ok()
    }

    /// The graduations that have refs in a repository.
    ///
    /// # Errors
    /// git fails.
    pub(crate) fn graduations_with_refs(&self) -> Result<BTreeSet<GraduationId>, GitError> {
        if !self.git_dir.join("HEAD").exists() {
            return Ok(BTreeSet::new());
        }
        let list = self.command().args(["for-each-ref", "--format=%(refname:lstrip=2)", "refs/graduate/"]);
        let list = list.read().map_err(self.failed("list the refs of graduations"))?;
        let ids = list.lines().filter_map(|name| name.split('/').next()?.parse().ok());
        Ok(ids.collect())
    }

    /// Deletes the refs that a graduation has left in a repository, `refs/graduate/<id>/*`. An app that was being
    /// created when the host lost its power has no repository yet, and no refs.
    ///
    /// # Errors
    /// git fails.
    pub(crate) fn delete_graduation_refs(&self, id: &GraduationId) -> Result<(), GitError> {
        if !self.git_dir.join("HEAD").exists() {
            return Ok(());
        }
        let pattern = format!("refs/graduate/{id}/");
        let list = self.command().args(["for-each-ref", "--format=delete %(refname)", &pattern]).read();
        let input = list.map_err(self.failed("list the refs of a graduation"))?;
        if !input.is_empty() {
            let delete = self.command().args(["update-ref", "--stdin"]).input(input);
            delete.run().map_err(self.failed("delete the refs of a graduation"))?;
        }
        // git leaves the directories behind; an empty one that cannot be removed does no harm.
        let _ = fs::remove_dir(self.git_dir.join("refs/graduate").join(id.as_str()));
        let _ = fs::remove_dir(self.git_dir.join("refs/graduate"));
        Ok(())
    }
}

/// Moves the deploy branch of an app. Afterwards the branch is a loose file, the only place where Dokku looks.
///
/// # Errors
/// [`GitError::RefMoved`] if its value is not `old`.
pub(crate) fn update_app_ref(
    repository: &Path,
    branch: &BranchName,
    new: Option<CommitId>,
    old: Option<CommitId>,
) -> Result<(), GitError> {
    let (git, name) = (Git::bare(repository), branch.head());
    git.compare_and_swap(&name, new, old)?;
    // git does not write a ref that has the value already, loose or packed.
    git.make_loose(&name)
}

fn check_ref_name(name: &str) -> Result<(), GitError> {
    let is_plain = name.strip_prefix("refs/").is_some_and(is_ref_path);
    if is_plain { Ok(()) } else { Err(GitError::RefName(name.to_owned())) }
}

fn parse_id(text: &str) -> Result<ObjectId, GitError> {
    text.trim().parse().map_err(|_| GitError::Answer(text.trim().to_owned()))
}

/// A name in the form that git takes for a person: without the characters that end a name in a commit.
fn person(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control() && !"<>".contains(*c)).take(80).collect();
    let name = name.trim_matches(|c: char| c.is_whitespace() || ".,:;\"'\\".contains(c));
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
#[path = "git_tests.rs"]
mod tests;
