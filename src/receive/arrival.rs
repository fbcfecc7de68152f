//! Checks the objects of a push while they are in git's quarantine, before they become part of an app's repository.

use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::git;
use crate::names::{CommitId, ObjectId};
use crate::process::{ProcessError, Program, in_words};

/// The largest total size of the unpacked objects of a push, in bytes: 32 GiB, as for an image.
pub(super) const MAX_UNFOLDED: u64 = 32 << 30;

/// Why the objects are not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArrivalError {
    /// They unpack to more bytes than a graduation may send.
    #[error(
        "the objects unpack to more than {} MiB; push a larger history there by hand, before it is deployed",
        .0 >> 20
    )]
    TooLarge(u64),
    /// Some objects belong neither to the revision nor to its history.
    #[error("{count} objects do not belong to the requested revision, for example {first}")]
    Unasked {
        /// How many.
        count: usize,
        /// One of them.
        first: ObjectId,
    },
    /// git's answer cannot be parsed.
    #[error("unexpected answer from git about the objects: {0:?}")]
    Answer(String),
    /// git cannot be run.
    #[error(transparent)]
    Git(#[from] ProcessError),
}

/// Checks the objects in `quarantine` for the new commit `to` of `repository`: unpacked they have at most `limit`
/// bytes, and all of them belong to the commit's history. An object that the repository had already may have been sent
/// again.
///
/// # Errors
/// See [`ArrivalError`].
pub(super) fn check(
    repository: &Path,
    quarantine: &Path,
    to: CommitId,
    limit: u64,
) -> Result<(), ArrivalError> {
    let objects = repository.join("objects");
    let git = |store: &Path| git::program().arg("--git-dir").arg(repository).env(STORE, store);
    let (mut came, mut unfolded) = (Vec::new(), 0_u64);
    // The size that git gives for a delta is that of the whole object.
    let all = git(quarantine).args(["cat-file", "--batch-all-objects", "--unordered", "--buffer"]);
    each_line(all.arg("--batch-check=%(objectname) %(objectsize)"), |line| {
        let (id, size) = line.split_once(' ').unwrap_or_default();
        unfolded = unfolded.saturating_add(size.parse().map_err(|_| answer(line))?);
        came.push(object(id)?);
        if unfolded <= limit { Ok(()) } else { Err(ArrivalError::TooLarge(limit)) }
    })?;
    let history = git(quarantine).env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &objects);
    let history = history.args(["rev-list", "--objects", "--no-object-names"]).arg(to.to_string());
    let mut asked_for = Vec::new();
    each_line(history.args(["--not", "--all"]), |line| {
        asked_for.push(object(line)?);
        Ok(())
    })?;
    asked_for.sort_unstable();
    came.retain(|id| asked_for.binary_search(id).is_err());
    if came.is_empty() {
        return Ok(());
    }
    // A delta's base is stored a second time, as is what the source did not know to be here; these exist in `objects`.
    let names: String = came.iter().map(|id| format!("{id}\n")).collect();
    let known = git(&objects).args(["cat-file", "--buffer", "--batch-check=%(objectname)"]).input(names);
    let mut unasked = Vec::new();
    each_line(known, |line| {
        let missing = line.strip_suffix(" missing").map(object).transpose()?;
        unasked.extend(missing);
        Ok(())
    })?;
    match unasked.first() {
        Some(first) => Err(ArrivalError::Unasked { count: unasked.len(), first: *first }),
        None => Ok(()),
    }
}

/// The variable that names git's object store; git(1).
const STORE: &str = "GIT_OBJECT_DIRECTORY";

fn answer(text: impl ToString) -> ArrivalError {
    ArrivalError::Answer(text.to_string())
}

fn object(text: &str) -> Result<ObjectId, ArrivalError> {
    text.parse().map_err(|_| answer(text))
}

/// Passes each line of a program's output to `take`. An error stops reading, and with it the program.
fn each_line(
    program: Program,
    mut take: impl FnMut(&str) -> Result<(), ArrivalError>,
) -> Result<(), ArrivalError> {
    let (program, output) = program.output_in_one().map_err(answer)?;
    let mut running = program.spawn()?;
    for line in BufReader::new(output).lines() {
        take(&line.map_err(answer)?)?;
    }
    let status = running.wait()?;
    if status.success() { Ok(()) } else { Err(answer(in_words(status))) }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A repository with one commit, and a quarantine.
    struct Around {
        dir: tempfile::TempDir,
    }

    impl Around {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in ["source", "app"] {
                let init =
                    git::FORMATS.iter().fold(Program::new("git"), |git, (name, value)| git.env(name, value));
                init.args(["init", "-q", "--bare"]).arg(dir.path().join(name)).run().unwrap();
            }
            std::fs::create_dir(dir.path().join("quarantine")).unwrap();
            Self { dir }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn source(&self) -> Program {
            git::program().arg("--git-dir").arg(self.path("source"))
        }

        fn read(&self, program: Program) -> ObjectId {
            program.read().unwrap().trim().parse().unwrap()
        }

        fn blob(&self, content: impl Into<Vec<u8>>) -> ObjectId {
            self.read(self.source().args(["hash-object", "-w", "--stdin"]).input(content))
        }

        /// Makes a commit of one file.
        fn commit(&self, file: ObjectId, parent: Option<CommitId>) -> CommitId {
            let tree = self.read(self.source().arg("mktree").input(format!("100644 blob {file}\tfile\n")));
            let commit = self.source().env("GIT_AUTHOR_NAME", "x").env("GIT_AUTHOR_EMAIL", "x");
            let commit = commit.env("GIT_COMMITTER_NAME", "x").env("GIT_COMMITTER_EMAIL", "x");
            let commit = commit.args(["commit-tree", "-m", "x"]).arg(tree.to_string());
            self.read(commit.args(parent.iter().flat_map(|parent| ["-p".to_owned(), parent.to_string()])))
        }

        /// Packs these objects, in the input format of git-pack-objects(1), and indexes the pack in `store`.
        fn takes(&self, store: &Path, objects: &str, options: &[&str]) {
            let pack = self.source().args(["pack-objects", "--stdout", "-q"]).args(options);
            let (status, pack, said) = pack.input(objects).capture().unwrap();
            assert!(status.success(), "{}", String::from_utf8_lossy(&said));
            let index = git::program().arg("--git-dir").arg(self.path("app")).env(STORE, store);
            let index = index.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.path("app/objects"));
            index.args(["index-pack", "--stdin", "--fix-thin"]).input(pack).run().unwrap();
        }

        fn check(&self, to: CommitId, limit: u64) -> Result<(), ArrivalError> {
            check(&self.path("app"), &self.path("quarantine"), to, limit)
        }
    }

    #[test]
    fn nothing_comes_but_what_was_asked_for() {
        let around = Around::new();
        let file: String = (0..2000).map(|line| format!("line {line}\n")).collect();
        let first = around.commit(around.blob(file.clone()), None);
        around.takes(&around.path("app/objects"), &format!("{first}\n"), &["--revs"]);
        let main = git::program().arg("--git-dir").arg(around.path("app"));
        main.args(["update-ref", "refs/heads/main", &first.to_string()]).run().unwrap();
        let next = around.commit(around.blob(file + "one more\n"), Some(first));
        let quarantine = around.path("quarantine");
        // A delta whose base is in the repository is stored with a second copy of the base.
        around.takes(&quarantine, &format!("{next}\n^{first}\n"), &["--revs", "--thin"]);
        around.check(next, 60_000).unwrap();
        // As from a source that does not know which objects are here.
        around.takes(&quarantine, &format!("{next}\n"), &["--revs"]);
        around.check(next, 60_000).unwrap();
        let refused = around.check(next, 30_000).unwrap_err();
        assert!(matches!(refused, ArrivalError::TooLarge(30_000)), "{refused}");

        let [one, other] = ["nobody's", "of nobody"].map(|text| around.blob(text));
        around.takes(&quarantine, &format!("{one}\n{other}\n"), &[]);
        let refused = around.check(next, 60_000).unwrap_err();
        assert!(matches!(refused, ArrivalError::Unasked { count: 2, .. }), "{refused}");
    }

    #[test]
    fn what_unfolds_to_much_more_than_it_has_is_counted_as_that() {
        let around = Around::new();
        let to = around.commit(around.blob(vec![0; 50 << 20]), None);
        around.takes(&around.path("quarantine"), &format!("{to}\n"), &["--revs"]);
        around.check(to, 51 << 20).unwrap();
        let refused = around.check(to, 49 << 20).unwrap_err().to_string();
        assert!(refused.contains("unpack to more than 49 MiB"), "{refused}");
    }
}
