//! Writes objects that come from no work tree: release tags, and commits of a state that was composed.

use super::{Git, GitError, parse_id, person};
use crate::files::FileError;
use crate::names::{CommitId, ObjectId};
use crate::process::Program;
use crate::vars::host_name;

/// The prefix of the directories in a repository in which trees are made.
pub(crate) const INDEX: &str = "graduate-index";

/// The text of an annotated tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagText<'a> {
    /// The short name, `production/20261123104512`.
    pub name: &'a str,
    /// Its tagger.
    pub tagger: &'a str,
    /// Its time, in seconds since 1970.
    pub time_s: i64,
    /// Its message.
    pub message: &'a str,
}

impl Git {
    /// Writes an annotated tag object of a commit, without any ref to it.
    ///
    /// # Errors
    /// git fails.
    pub(crate) fn make_tag(&self, commit: CommitId, text: &TagText<'_>) -> Result<ObjectId, GitError> {
        let tagger = person(text.tagger);
        let content = format!(
            "object {commit}\ntype commit\ntag {}\ntagger {tagger} <{}@{}> {} +0000\n\n{}\n",
            text.name,
            tagger.replace(' ', "-"),
            host_name(),
            text.time_s,
            text.message.trim_end(),
        );
        // git-mktag(1) does the same, but obeys the settings `fsck.*`.
        let make = self.command().args(["hash-object", "-t", "tag", "-w", "--stdin"]);
        let made = make.input(content).read();
        parse_id(&made.map_err(self.failed("make a tag"))?)
    }

    /// Writes a commit of a tree, without any ref to it.
    ///
    /// # Errors
    /// git fails.
    pub(crate) fn make_commit(
        &self,
        tree: ObjectId,
        parents: &[CommitId],
        message: &str,
    ) -> Result<CommitId, GitError> {
        commit_tree(self, self.command(), tree, parents, message)
    }

    /// The same, with a given time in seconds since 1970.
    ///
    /// # Errors
    /// git fails.
    pub(crate) fn make_commit_of(
        &self,
        time_s: i64,
        tree: ObjectId,
        parents: &[CommitId],
        message: &str,
    ) -> Result<CommitId, GitError> {
        let date = format!("@{time_s} +0000");
        let command = self.command().env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        commit_tree(self, command, tree, parents, message)
    }

    /// Writes the tree of `base` with some files changed: `changes` has the new content by path, or none to leave the
    /// file out. For [`Git::make_commit`]; costs one process for each file that is written, whatever the size of the
    /// tree.
    ///
    /// # Errors
    /// git fails.
    pub(crate) fn make_tree(
        &self,
        base: Option<CommitId>,
        changes: &[(String, Option<Vec<u8>>)],
    ) -> Result<ObjectId, GitError> {
        let index = tempfile::Builder::new().prefix(INDEX).tempdir_in(&self.git_dir);
        let index = index.map_err(FileError::of("make a directory in", &self.git_dir))?;
        let command = || self.command().env("GIT_INDEX_FILE", index.path().join("index"));
        if let Some(base) = base {
            command().arg("read-tree").arg(base.to_string()).run().map_err(self.failed("read a tree"))?;
        }
        let mut entries = String::new();
        for (path, content) in changes {
            entries += &match content {
                None => format!("0 {}\t{path}\0", ObjectId::ABSENT),
                Some(content) => {
                    let blob = command().args(["hash-object", "-w", "--stdin"]).input(content.clone()).read();
                    format!("100644 {}\t{path}\0", parse_id(&blob.map_err(self.failed("write a file"))?)?)
                }
            };
        }
        let update = command().args(["update-index", "-z", "--add", "--index-info"]).input(entries);
        update.run().map_err(self.failed("change a tree"))?;
        parse_id(&command().arg("write-tree").read().map_err(self.failed("write a tree"))?)
    }
}

fn commit_tree(
    git: &Git,
    command: Program,
    tree: ObjectId,
    parents: &[CommitId],
    message: &str,
) -> Result<CommitId, GitError> {
    let mut command = command.arg("commit-tree").arg(tree.to_string());
    for parent in parents {
        command = command.arg("-p").arg(parent.to_string());
    }
    let made = command.args(["-F", "-"]).input(message).read();
    parse_id(&made.map_err(git.failed("make a commit"))?)
}
