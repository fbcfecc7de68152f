//! Refs that block a graduation or confuse: git allows no ref below another one, and may resolve a name to another ref.

use git2::{ErrorCode, Oid};

use super::{RepoError, RepositoryReader, object_id, reading};
use crate::names::{CommitId, EnvironmentName};
use crate::ssh::quoted;
use crate::updates::{self, Confusing};
use crate::vars::Vars;

/// The prefixes with which git tries to find a ref; gitrevisions(7), `<refname>`.
const LOOKED_UP: [&str; 5] = ["", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/"];

/// The refs of this host that block a graduation to an environment, as text, each with the command that deletes it.
///
/// # Errors
/// The refs cannot be read.
pub(crate) fn blocking_refs(
    vars: &Vars,
    repo: &RepositoryReader,
    environment: &EnvironmentName,
    request: &str,
) -> Result<Vec<String>, RepoError> {
    let problem = |name: String| {
        format!(
            "the ref {name} blocks the refs that record a graduation; delete it on this host:\n`{}`",
            deletion(vars, &name)
        )
    };
    Ok(repo.blockers(environment, request)?.into_iter().map(problem).collect())
}

/// The command that deletes a ref of the environment repository, on this host.
pub(crate) fn deletion(vars: &Vars, name: &str) -> String {
    let git_dir = quoted(&vars.git_dir().to_string_lossy());
    format!("git --git-dir={git_dir} update-ref -d {}", quoted(name))
}

impl RepositoryReader {
    /// The refs that must not exist for a graduation to an environment by the request tag of this full name.
    fn blockers(&self, environment: &EnvironmentName, request: &str) -> Result<Vec<String>, RepoError> {
        let (names, prefixes) = updates::blockers(environment, request);
        let mut found = Vec::new();
        for name in names {
            found.extend(self.read_ref(&name)?.map(|_| name));
        }
        for prefix in prefixes {
            let below =
                self.repository.references_glob(&format!("{prefix}*")).map_err(reading("the refs"))?;
            for reference in below {
                let reference = reference.map_err(reading("the refs"))?;
                found.push(String::from_utf8_lossy(reference.name_bytes()).into_owned());
            }
        }
        Ok(found)
    }

    /// All refs that must not exist while these environments are linked: the names of those that block a graduation,
    /// and those that only confuse, with the reason.
    ///
    /// # Errors
    /// The refs cannot be read.
    pub fn misnamed(&self, linked: &[EnvironmentName]) -> Result<(Vec<String>, Vec<Confusing>), RepoError> {
        let (mut blocking, mut confusing) = (Vec::new(), Vec::new());
        for reference in self.repository.references().map_err(reading("the refs"))? {
            let reference = reference.map_err(reading("the refs"))?;
            let name = String::from_utf8_lossy(reference.name_bytes()).into_owned();
            if linked.iter().any(|environment| updates::is_blocker(&name, environment)) {
                blocking.push(name);
            } else if name != updates::MAIN {
                confusing.extend(updates::confusing(&name, linked));
            }
        }
        Ok((blocking, confusing))
    }

    /// The commit that a revision names, in any form of gitrevisions(7) that libgit2 knows; none if it names nothing.
    ///
    /// # Errors
    /// [`RepoError::Ambiguous`] if the name has several meanings, [`RepoError::NoCommit`], or the repository cannot be
    /// read.
    pub fn resolve(&self, revision: &str) -> Result<Option<CommitId>, RepoError> {
        let meanings = self.meanings(revision);
        if meanings.len() > 1 {
            return Err(RepoError::Ambiguous { revision: revision.to_owned(), meanings });
        }
        match self.repository.revparse_single(revision) {
            Ok(object) => object_id(object.id()).map(|id| self.commit_of(id)).transpose(),
            Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec) => Ok(None),
            Err(error) if error.code() == ErrorCode::Ambiguous => {
                let meanings = vec!["several objects".to_owned()];
                Err(RepoError::Ambiguous { revision: revision.to_owned(), meanings })
            }
            Err(error) => Err(reading(revision)(error)),
        }
    }

    /// The possible meanings of the name with which a revision begins: each ref that git would find, and an object's
    /// id.
    fn meanings(&self, revision: &str) -> Vec<String> {
        let end = revision.find(['~', '^', ':']).or_else(|| revision.find("@{")).unwrap_or(revision.len());
        let name = &revision[..end];
        if name.is_empty() {
            return Vec::new();
        }
        let full = LOOKED_UP.iter().map(|before| format!("{before}{name}"));
        // git looks for a name without `refs/` in its own directory, which holds only pseudorefs.
        let is_ref = |full: &String| {
            let is_possible =
                full.starts_with("refs/") || full.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            is_possible && self.repository.find_reference(full).is_ok()
        };
        let mut meanings: Vec<String> = full.filter(is_ref).collect();
        let is_id = (4..=40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id && !meanings.is_empty() {
            let begins_so =
                Oid::from_str(name).and_then(|start| self.repository.odb()?.exists_prefix(start, name.len()));
            meanings.extend(begins_so.ok().map(|id| format!("the object {id}")));
        }
        meanings
    }
}
