//! Which faults in an app's history a transfer accepts, and which it refuses because they endanger a checkout.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::files::{self, FileError};
use crate::legible::shortened;
use crate::names::CommitId;
use crate::process::{ProcessError, Program};

/// The faults that git-fsck(1) reports and a transfer accepts, because Dokku accepted them, too: in the text of commits
/// and tags, in modes and in the order of trees. None of them leads a path of a checkout to another place. Every other
/// error of git-fsck is refused: `..`, `.git` and its equivalents in other file systems, paths as names, and
/// `.gitmodules` that are links or hold options.
const TAKEN: [&str; 23] = [
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badFilemode",
    "badName",
    "badTagName",
    "badTimezone",
    "duplicateEntries",
    "gitmodulesBlob",
    "gitmodulesParse",
    "missingAuthor",
    "missingCommitter",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "missingTagEntry",
    "missingTaggerEntry",
    "multipleAuthors",
    "nulInCommit",
    "treeNotSorted",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
];

/// The largest list of commits at which histories are cut off that is read, in bytes.
const MAX_SHALLOW: u64 = 1 << 20;

/// How long the check of one app's history may take. What it misses is found by the transfer, before anything is built.
const LIMIT: Duration = Duration::from_secs(60);

/// The settings with which git-receive-pack(1) accepts these faults and no others that its fsck reports.
pub(crate) fn settings() -> impl Iterator<Item = String> {
    let taken = TAKEN.iter().map(|id| format!("receive.fsck.{id}=ignore"));
    std::iter::once("receive.fsckObjects=true".to_owned()).chain(taken)
}

/// Reports what a transfer would refuse in the history of `to`: the object and git's message. Skips commits that `from`
/// has. Of files it reads only `.gitmodules` and `.gitattributes`.
///
/// # Errors
/// git cannot run the check, which says nothing about the history.
pub(crate) fn refused_by_fsck(
    repository: &Path,
    to: CommitId,
    from: Option<CommitId>,
    scratch: &Path,
) -> Result<Option<String>, CheckError> {
    let dir = tempfile::Builder::new().prefix(".fsck.").tempdir_in(scratch);
    let dir = dir.map_err(FileError::of("make a directory in", scratch))?;
    let git = || Program::new("git").arg("--git-dir").arg(repository).env("LC_ALL", "C").within(LIMIT);
    let without = from.map_or(String::new(), |from| format!("^{from}\n"));
    let pack = git()
        .args(["pack-objects", "--revs", "--stdout", "--quiet", "--threads=1", "--filter=blob:none"])
        .input(format!("{to}\n{without}"));
    let (status, pack, stderr) = pack.capture()?;
    if !status.success() {
        return Ok(Some(last_words(&stderr)));
    }
    let path = dir.path().join("history.pack");
    std::fs::write(&path, pack).map_err(FileError::of("write", &path))?;
    let taken: Vec<String> = TAKEN.iter().map(|id| format!("{id}=ignore")).collect();
    let index = git().args(["index-pack", &format!("--strict={}", taken.join(",")), "-o"]);
    let (status, _, stderr) = index.arg(dir.path().join("history.idx")).arg(&path).capture()?;
    Ok((!status.success()).then(|| last_words(&stderr)))
}

/// Where the history of `to` is cut off, as after a push from a shallow clone that `receive.shallowUpdate` accepted;
/// none if it is whole. git does not send such a history. Skips commits that `from` has.
///
/// # Errors
/// git cannot run the check.
pub(crate) fn shallow_boundary(
    repository: &Path,
    to: CommitId,
    from: Option<CommitId>,
) -> Result<Option<CommitId>, CheckError> {
    let oldest = files::read(&repository.join("shallow"), MAX_SHALLOW)?.unwrap_or_default();
    let oldest = String::from_utf8_lossy(&oldest);
    let oldest: BTreeSet<&str> = oldest.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if oldest.is_empty() {
        return Ok(None);
    }
    let list = Program::new("git").arg("--git-dir").arg(repository).within(LIMIT).args(["rev-list"]);
    let without = from.map(|from| format!("^{from}"));
    let history = list.arg(to.to_string()).args(without).read()?;
    Ok(history.lines().find(|line| oldest.contains(line)).and_then(|line| line.parse().ok()))
}

/// git's first error is about the object, its last line about what it was doing.
fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("error: ")).next();
    let line = lines.or_else(|| text.lines().map(str::trim).rfind(|line| !line.is_empty()));
    shortened(line.unwrap_or("git exited without a message"))
}

/// git could not run the check.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// A file of the check.
    #[error(transparent)]
    File(#[from] FileError),
    /// git.
    #[error(transparent)]
    Git(#[from] ProcessError),
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
