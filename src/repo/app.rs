//! What an app's own repository tells about a revision.

use std::path::Path;

use git2::{Repository, TreeEntry};

use super::oid;
use crate::names::CommitId;

/// The largest Procfile or app.json that is looked at, in bytes.
const MAX_FILE: usize = 1 << 20;

/// The revision names tasks that Dokku runs around a deploy and that no abort can undo: `release` in its Procfile,
/// `predeploy` or `postdeploy` in its app.json. What cannot be read names none.
pub fn has_release_tasks(repository: &Path, revision: CommitId) -> bool {
    let Ok(repository) = Repository::open_bare(repository) else { return false };
    let file = |name: &str| -> Option<String> {
        let tree = repository.find_commit(oid(revision)).ok()?.tree().ok()?;
        let entry: TreeEntry<'_> = tree.get_name(name)?;
        let blob = repository.find_blob(entry.id()).ok().filter(|blob| blob.size() <= MAX_FILE)?;
        String::from_utf8(blob.content().to_vec()).ok()
    };
    let released = file("Procfile").is_some_and(|text| text.lines().any(|line| line.starts_with("release:")));
    let scripts = file("app.json").and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let scripted = scripts.is_some_and(|json| {
        let paths = ["/scripts/dokku/predeploy", "/scripts/dokku/postdeploy", "/scripts/postdeploy"];
        paths.iter().any(|path| json.pointer(path).is_some())
    });
    released || scripted
}
