//! The signers whose signatures are accepted: `signers.json` in the plugin's data directory, and the check of a
//! signature by ssh-keygen.
//!
//! A key that is removed stays in the file as revoked, so that a refusal can say so.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::carried_out::{self, CarriedOutError};
use crate::exit::Explain;
use crate::files::{self, FileError, Lock};
use crate::names::{CommitId, EnvironmentName, KeyName, ObjectId, ReleaseTag, RequestTag};
use crate::order::Signed;
use crate::process::{ProcessError, Program};
use crate::public_key::PublicKey;
use crate::repo::{RepoError, RepositoryReader, tag_id};
use crate::signed_tag::{self, MAX_TAG, SignedTag, TagProblem};
use crate::vars::Vars;

/// How long ssh-keygen may take: it reads two small files.
const LIMIT: Duration = Duration::from_secs(10);

/// How long a change waits for another one.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request is not signed as it must be, or the signers cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignersError {
    /// The tag is not acceptable.
    #[error("{tag} {problem}, and {} accepts only signed tags\n{}", tag.environment, problem.remedy(tag))]
    Tag {
        /// The request.
        tag: RequestTag,
        /// What is wrong with it.
        problem: TagProblem,
    },
    /// A command has no tag that could be signed.
    #[error(
        "{0} accepts only signed tags, and a command has none\nin a clone: `git tag -s -f graduate/{0}/now` and \
         `git push -f origin refs/tags/graduate/{0}/now`; root on the host needs none"
    )]
    Command(EnvironmentName),
    /// The name of another signer.
    #[error("{0} is a signer already; `dokku graduate:signers remove {0}` removes the old key")]
    Known(KeyName),
    /// The key of another signer.
    #[error("that key already belongs to {0}")]
    KnownKey(KeyName),
    /// `*`, which is not the name of a signer.
    #[error("a signer has a name of its own, not \"*\"")]
    Everybody,
    /// No signer has this name.
    #[error("no signer is called {0}; `dokku graduate:signers list` lists them")]
    Unknown(KeyName),
    /// Another process is changing the signers.
    #[error("the signers are being changed by another process; try again in a moment")]
    Busy,
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The index of requests that were carried out.
    #[error(transparent)]
    CarriedOut(#[from] CarriedOutError),
    /// ssh-keygen.
    #[error("cannot check the signature of a tag: {0}")]
    Program(#[from] ProcessError),
}

impl Explain for SignersError {}

/// A signer whose signatures are accepted, or were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signer {
    /// Their name.
    pub name: KeyName,
    /// Their key.
    pub key: PublicKey,
    /// The last day on which the key is valid, in UTC; without one it is valid forever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<NaiveDate>,
    /// When it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<DateTime<Utc>>,
}

impl Signer {
    /// Why their signatures are not accepted at a moment; none if they are.
    fn problem(&self, now: DateTime<Utc>) -> Option<TagProblem> {
        let name = || self.name.to_string();
        match (self.removed, self.until) {
            (Some(at), _) => Some(TagProblem::Revoked { name: name(), at }),
            (None, Some(until)) if until < now.date_naive() => {
                Some(TagProblem::Expired { name: name(), until })
            }
            (None, _) => None,
        }
    }

    /// Reports whether their signatures are accepted at a moment.
    pub(crate) fn is_valid(&self, now: DateTime<Utc>) -> bool {
        self.problem(now).is_none()
    }

    /// Their condition, as a list shows it.
    pub(crate) fn condition(&self, now: DateTime<Utc>) -> &'static str {
        match self.problem(now) {
            None => "valid",
            Some(TagProblem::Expired { .. }) => "expired",
            Some(_) => "removed",
        }
    }
}

/// All signers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signers {
    signers: Vec<Signer>,
}

fn path(vars: &Vars) -> PathBuf {
    vars.data().join("signers.json")
}

impl Signers {
    /// Reads the signers; without a file there are none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn load(vars: &Vars) -> Result<Self, SignersError> {
        Ok(files::read_json(&path(vars))?.unwrap_or_default())
    }

    /// Changes the signers, under a lock.
    ///
    /// # Errors
    /// Those of `edit`, and of the files.
    pub(crate) fn change(
        vars: &Vars,
        edit: impl FnOnce(&mut Self) -> Result<(), SignersError>,
    ) -> Result<(), SignersError> {
        let data = vars.data();
        files::make_dir(&data)?;
        let _lock = Lock::wait(&data.join("signers.lock"), PATIENCE)?.ok_or(SignersError::Busy)?;
        let mut signers = Self::load(vars)?;
        edit(&mut signers)?;
        Ok(files::write_json(&path(vars), &signers)?)
    }

    /// All signers, including removed ones.
    pub(crate) fn all(&self) -> &[Signer] {
        &self.signers
    }

    /// Adds a signer. A removed key that is added again is valid again.
    ///
    /// # Errors
    /// Another signer has the name or the key.
    pub(crate) fn add(&mut self, signer: Signer) -> Result<(), SignersError> {
        if signer.name.is_everybody() {
            return Err(SignersError::Everybody);
        }
        for known in self.signers.iter().filter(|known| known.removed.is_none()) {
            if known.name == signer.name {
                return Err(SignersError::Known(signer.name));
            }
            if known.key == signer.key {
                return Err(SignersError::KnownKey(known.name.clone()));
            }
        }
        self.signers.retain(|known| known.key != signer.key);
        self.signers.push(signer);
        Ok(())
    }

    /// Revokes the key of a signer.
    ///
    /// # Errors
    /// No signer has this name.
    pub(crate) fn remove(&mut self, name: &KeyName, now: DateTime<Utc>) -> Result<(), SignersError> {
        let mut known = self.signers.iter_mut().filter(|known| known.removed.is_none());
        let signer = known.find(|known| known.name == *name);
        signer.ok_or_else(|| SignersError::Unknown(name.clone()))?.removed = Some(now);
        Ok(())
    }

    /// The signer whose valid key this is.
    fn of_key(&self, key: &PublicKey, now: DateTime<Utc>) -> Result<&Signer, TagProblem> {
        let signer = self.signers.iter().find(|signer| signer.key == *key);
        let signer = signer.ok_or_else(|| TagProblem::UnknownKey(key.fingerprint()))?;
        signer.problem(now).map_or(Ok(signer), Err)
    }
}

/// Checks that a request is signed as required, and returns the signer. The object of a recorded release of the
/// environment needs no signature: only a graduation makes such an object. `repo` must see the objects that are being
/// pushed.
///
/// # Errors
/// [`SignersError::Tag`], which says what is wrong and what to run.
pub(crate) fn check(
    vars: &Vars,
    repo: &RepositoryReader,
    tag: &RequestTag,
    object: ObjectId,
    commit: CommitId,
) -> Result<Option<Signed>, SignersError> {
    let refused = |problem| SignersError::Tag { tag: tag.clone(), problem };
    let Some(text) = repo.tag_text(object, MAX_TAG)? else { return Err(refused(TagProblem::Lightweight)) };
    if is_release(repo, &tag.environment, &text, object)? {
        return Ok(None);
    }
    let parsed = signed_tag::parse(&text).map_err(refused)?;
    let now = Utc::now();
    let (payload, tagged) = (tag_id(parsed.payload)?, parsed.tagged);
    if let Some(problem) = spent(vars, repo, tag, payload, Some(tagged))? {
        return Err(refused(problem));
    }
    parsed.check(tag, commit, now).map_err(refused)?;
    let signers = Signers::load(vars)?;
    let signer = signers.of_key(&parsed.key, now).map_err(refused)?;
    verify(&parsed)?.map_err(refused)?;
    let (by, fingerprint) = (signer.name.to_string(), Some(signer.key.fingerprint()));
    Ok(Some(Signed { by, fingerprint, payload, tagged: Some(tagged) }))
}

/// Why a signed content no longer counts, if so: it was carried out, or there was a release after it was signed.
/// Several tag objects can have the same signed content, so that the content, `payload`, and its time count.
///
/// # Errors
/// The index or the releases cannot be read.
pub(crate) fn spent(
    vars: &Vars,
    repo: &RepositoryReader,
    tag: &RequestTag,
    payload: ObjectId,
    tagged: Option<DateTime<Utc>>,
) -> Result<Option<TagProblem>, CarriedOutError> {
    if let Some(release) = carried_out::find(vars, repo, tag, payload)? {
        return Ok(Some(TagProblem::CarriedOut(release)));
    }
    let last = repo.release_names(&tag.environment)?.next();
    let early = last.zip(tagged).filter(|(last, tagged)| *tagged <= last.time());
    Ok(early.map(|(last, tagged)| TagProblem::Early(tagged, last)))
}

/// Reports whether this is the object of a release tag of the environment. Its text names the ref to compare with.
fn is_release(
    repo: &RepositoryReader,
    environment: &EnvironmentName,
    text: &[u8],
    object: ObjectId,
) -> Result<bool, SignersError> {
    let name = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"tag "));
    let name = name.and_then(|name| std::str::from_utf8(name).ok());
    let release = name.and_then(|name| name.parse::<ReleaseTag>().ok());
    let Some(release) = release.filter(|release| release.environment() == environment) else {
        return Ok(false);
    };
    Ok(repo.read_ref(&release.ref_name())? == Some(object))
}

/// Asks ssh-keygen whether the signature is one of the payload by the key that the tag names. The key must be a
/// signer's.
fn verify(tag: &SignedTag<'_>) -> Result<Result<(), TagProblem>, SignersError> {
    let made = tempfile::Builder::new().prefix("graduate-signature-").tempdir();
    let dir = made.map_err(FileError::of("make a directory in", &std::env::temp_dir()))?;
    let [signers, signature] = ["signers", "signature"].map(|name| dir.path().join(name));
    let line = format!("signer namespaces=\"git\" {}\n", tag.key);
    fs::write(&signers, line).map_err(FileError::of("write", &signers))?;
    fs::write(&signature, tag.signature).map_err(FileError::of("write", &signature))?;
    let program = Program::new("ssh-keygen").args(["-Y", "verify", "-n", "git", "-I", "signer", "-f"]);
    let program = program.arg(&signers).arg("-s").arg(&signature).env("LC_ALL", "C").within(LIMIT);
    let (status, _, stderr) = program.input(tag.payload).capture()?;
    Ok(if status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&stderr);
        let said = said.lines().next().unwrap_or("ssh-keygen does not say why").chars().take(200).collect();
        Err(TagProblem::Wrong(said))
    })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::carried_out::tests::TestRepository;
    use crate::git::RefChange;
    use crate::repo::GitRepository;

    fn signer(name: &str, key: &str, until: Option<&str>) -> Signer {
        let keys = [
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ",
        ];
        let key = keys[usize::from(key == "b")].parse().unwrap();
        let until = until.map(|until| until.parse().unwrap());
        Signer { name: name.parse().unwrap(), key, until, removed: None }
    }

    #[test]
    fn a_key_is_valid_until_its_last_day_ends_or_it_is_removed() {
        let now = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let mut signers = Signers::default();
        signers.add(signer("alice", "a", Some("2026-12-31"))).unwrap();
        let key = signer("alice", "a", None).key;
        assert!(signers.of_key(&key, now("2026-12-31T23:59:59Z")).is_ok());
        let expired = signers.of_key(&key, now("2027-01-01T00:00:00Z")).unwrap_err();
        assert!(matches!(expired, TagProblem::Expired { .. }), "{expired}");
        let unknown = signers.of_key(&signer("bob", "b", None).key, now("2026-12-01T00:00:00Z"));
        assert!(matches!(unknown, Err(TagProblem::UnknownKey(_))));

        let refused = |result: Result<(), SignersError>| result.unwrap_err().to_string();
        assert!(refused(signers.add(signer("alice", "b", None))).contains("alice is a signer already"));
        assert!(refused(signers.add(signer("bob", "a", None))).contains("that key already belongs to alice"));
        assert!(refused(signers.add(signer("*", "b", None))).contains("a name of its own"));

        let at = now("2026-12-01T00:00:00Z");
        signers.remove(&"alice".parse().unwrap(), at).unwrap();
        assert!(matches!(signers.of_key(&key, at), Err(TagProblem::Revoked { .. })));
        assert!(refused(signers.remove(&"alice".parse().unwrap(), at)).contains("no signer is called alice"));
        signers.add(signer("alice", "a", None)).unwrap();
        assert_eq!((signers.of_key(&key, at).unwrap().name.as_str(), signers.all().len()), ("alice", 1));
    }

    #[test]
    fn what_was_signed_counts_until_it_is_carried_out_or_something_is_released() {
        let TestRepository { dir, vars, git, commit, .. } = TestRepository::make();
        let [payload, other] = ["a", "b"].map(|digit| digit.repeat(40).parse::<ObjectId>().unwrap());
        let request: RequestTag = "refs/tags/graduate/production/first".parse().unwrap();
        let repo = GitRepository::open_at(dir.path().join("env.git")).unwrap();
        let release: ReleaseTag = "production/20261123104512".parse().unwrap();
        let judge = |payload, seconds: Option<i64>| {
            let tagged = seconds.map(|seconds| release.time() + TimeDelta::seconds(seconds));
            spent(&vars, &repo, &request, payload, tagged).unwrap().map(|problem| problem.to_string())
        };
        assert_eq!(judge(payload, Some(0)), None, "nothing was released");

        git.change_refs(&[RefChange { name: release.ref_name(), new: Some(commit), old: None }]).unwrap();
        for seconds in [-1, 0] {
            assert!(judge(payload, Some(seconds)).unwrap().contains("was released after that"), "{seconds}");
        }
        assert_eq!(judge(payload, Some(1)), None);
        assert_eq!(judge(payload, None), None, "an older version did not say when it was signed");

        carried_out::note(&vars, &repo, &request, payload, &release).unwrap();
        assert!(judge(payload, Some(1)).unwrap().contains("was carried out already"));
        assert_eq!(judge(other, Some(1)), None);
    }
}
