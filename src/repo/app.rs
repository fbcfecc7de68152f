//! What an app's own repository tells about a revision.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use git2::{Config, ErrorClass, ErrorCode, Repository};
use serde_json::Value;

use super::{object_id, oid};
use crate::names::{CommitId, ConfigName, ImageName};
use crate::procfile;
use crate::protocol::{RevisionFacts, SetByDeploy};

/// The largest Procfile or app.json that is looked at, in bytes.
const MAX_FILE: usize = 1 << 20;

/// The commit that a ref of an app's repository leads to, loose or packed, through symbolic refs and annotated tags;
/// none if the ref does not exist.
///
/// # Errors
/// Why the repository or the ref cannot be read, and the remedy, as text.
pub(crate) fn commit_at(repository: &Path, name: &str) -> Result<Option<CommitId>, String> {
    let opened = Repository::open_bare(repository);
    let opened = opened.map_err(|error| foreign_format(repository).unwrap_or(error.message().to_owned()))?;
    let found = opened.find_reference(name).and_then(|found| found.peel_to_commit());
    match found {
        Ok(commit) => Ok(object_id(commit.id())),
        Err(error) if error.code() == ErrorCode::NotFound && error.class() == ErrorClass::Reference => {
            Ok(None)
        }
        Err(error) => {
            Err(format!("{name}: {}; `git -C {} fsck` shows more", error.message(), repository.display()))
        }
    }
}

/// Reports whether the repository has this commit.
pub(crate) fn has_commit(repository: &Path, commit: CommitId) -> bool {
    Repository::open_bare(repository).is_ok_and(|repository| repository.find_commit(oid(commit)).is_ok())
}

/// The revisions that a roll-back can go to, of environments of which this host is the source or the destination: those
/// that `refs/graduate` keeps. Empty if the repository cannot be read.
pub(crate) fn released_revisions(repository: &Path) -> BTreeSet<CommitId> {
    let Ok(repository) = Repository::open_bare(repository) else { return BTreeSet::new() };
    let of = |glob: &str| -> Vec<CommitId> {
        let found = repository.references_glob(glob).into_iter().flatten().flatten();
        found.filter_map(|one| object_id(one.target()?)).collect()
    };
    ["refs/graduate/keep/*", "refs/graduate/released/*"].into_iter().flat_map(of).collect()
}

/// Why an existing repository cannot be read; none if it can.
pub(crate) fn unreadable(repository: &Path) -> Option<String> {
    // An app that was only created has no repository.
    let is_one = repository.join("objects").exists();
    let error = Repository::open_bare(repository).err().filter(|_| is_one)?;
    Some(foreign_format(repository).unwrap_or_else(|| error.message().to_owned()))
}

/// What is unsupported in the format of a repository, with the remedy; none if nothing is. The format that a host's git
/// chooses depends on its `init.defaultObjectFormat` and `init.defaultRefFormat`.
pub(crate) fn foreign_format(repository: &Path) -> Option<String> {
    let config = Config::open(&repository.join("config")).ok()?;
    let extension = |name: &str| config.get_string(&format!("extensions.{name}")).ok();
    let path = repository.display();
    let sha1 = extension("objectformat").filter(|format| format != "sha1").map(|format| {
        format!(
            "its objects are in the format {format}, and only SHA-1 is supported; git cannot convert it: \
             create the repository again with `git init --bare --object-format=sha1` and deploy the app again"
        )
    });
    let refs = extension("refstorage").filter(|format| format != "files").map(|format| {
        format!(
            "its refs are in the format {format}, which Dokku itself does not read; convert them with \
             `git -C {path} refs migrate --ref-format=files`"
        )
    });
    sha1.or(refs)
}

/// The largest number of an app.json's config variables that is reported, so that they fit into a message.
const MAX_DECLARED: usize = 250;

/// A file at the root of a revision; none if it does not exist, is larger than `MAX_FILE` or is not UTF-8.
fn file(repository: &Path, revision: CommitId, name: &str) -> Option<String> {
    let repository = Repository::open_bare(repository).ok()?;
    let tree = repository.find_commit(oid(revision)).ok()?.tree().ok()?;
    let id = tree.get_name(name)?.id();
    let (size, _) = repository.odb().ok()?.read_header(id).ok()?;
    let blob = (size <= MAX_FILE).then(|| repository.find_blob(id).ok())??;
    String::from_utf8(blob.content().to_vec()).ok()
}

/// The image that a revision deploys as it is: `git:from-image` and `git:load-image` commit a Dockerfile that ends with
/// the image's name and a label of Dokku's own. None for any other revision.
///
/// Source: Dokku's `plugins/git/git-from-image`.
pub(crate) fn image_of(repository: &Path, revision: CommitId) -> Option<ImageName> {
    image_of_dockerfile(&file(repository, revision, "Dockerfile")?)
}

fn image_of_dockerfile(text: &str) -> Option<ImageName> {
    let mut last = text.lines().rev();
    let (label, from) = (last.next()?, last.next()?);
    let name = from.strip_prefix("FROM ")?;
    let labelled = format!("LABEL com.dokku.docker-image-labeler/alternate-tags=[\\\"{name}\\\"]");
    (label == labelled).then(|| name.parse().ok())?
}

fn parsed(app_json: &str) -> Option<Value> {
    serde_json::from_str(app_json).ok()
}

/// What the files at the root of a revision say. The repository must have the revision.
pub(crate) fn facts(repository: &Path, revision: CommitId) -> RevisionFacts {
    let text = |name| file(repository, revision, name);
    facts_of(text("Procfile").as_deref(), text("app.json").as_deref())
}

/// The same, from the text of each file that exists:
///
/// - the tasks that Dokku runs around a deploy and that no abort can undo: `release` in Procfile, `predeploy` or
///   `postdeploy` in app.json;
/// - the config variables that app.json declares and that Dokku sets on its own: those with a default or a generator,
///   in the app's first deploy, or in each deploy if it says `sync`.
///
/// A file that cannot be parsed says nothing.
///
/// Source: Dokku's `plugins/app-json/functions.go`, `processAppJSONEnv`.
pub(crate) fn facts_of(procfile: Option<&str>, app_json: Option<&str>) -> RevisionFacts {
    let json = app_json.and_then(parsed);
    let paths = ["/scripts/dokku/predeploy", "/scripts/dokku/postdeploy", "/scripts/postdeploy"];
    let is_scripted = json.as_ref().is_some_and(|json| paths.iter().any(|path| json.pointer(path).is_some()));
    let is_in_procfile = procfile.is_some_and(|text| procfile::has_process(text, "release"));
    let when = |declared: &Value| match declared["sync"] == true {
        true => SetByDeploy::Each,
        false => SetByDeploy::First,
    };
    let set = declared_config(json.as_ref()).into_iter().take(MAX_DECLARED);
    RevisionFacts {
        exists: true,
        names_web: procfile.is_none_or(|text| procfile::has_process(text, "web")),
        has_release_tasks: is_in_procfile || is_scripted,
        set_by_deploy: set.map(|(name, declared)| (name, when(&declared))).collect(),
    }
}

/// The values that Dokku gives to those variables; none for a generated value.
pub(crate) fn values_set_by_deploy(
    repository: &Path,
    revision: CommitId,
) -> BTreeMap<String, Option<String>> {
    values_set_by(file(repository, revision, "app.json").as_deref())
}

/// The same, from the text of app.json.
pub(crate) fn values_set_by(app_json: Option<&str>) -> BTreeMap<String, Option<String>> {
    let value = |declared: &Value| match is_generated(declared) {
        true => None,
        false => Some(default(declared).to_owned()),
    };
    let set = declared_config(app_json.and_then(parsed).as_ref()).into_iter();
    set.map(|(name, declared)| (name, value(&declared))).collect()
}

fn declared_config(json: Option<&Value>) -> BTreeMap<String, Value> {
    let env = json.and_then(|json| json.get("env")).and_then(Value::as_object).cloned();
    let is_set = |declared: &Value| !default(declared).is_empty() || is_generated(declared);
    let is_name = |name: &str| name.parse::<ConfigName>().is_ok();
    env.into_iter().flatten().filter(|(name, declared)| is_name(name) && is_set(declared)).collect()
}

fn default(declared: &Value) -> &str {
    declared.as_str().or(declared["value"].as_str()).unwrap_or_default()
}

fn is_generated(declared: &Value) -> bool {
    declared["generator"] == "secret"
}

#[test]
fn only_what_dokku_commits_for_an_image_is_one() {
    let label = "LABEL com.dokku.docker-image-labeler/alternate-tags=[\\\"shop/web:1\\\"]\n";
    let image = |text: &str| image_of_dockerfile(text).map(String::from);
    let whole = format!("FROM shop/web:1\n{label}");
    assert_eq!(image(&whole).as_deref(), Some("shop/web:1"));
    assert_eq!(image(&format!("# of a build directory\n{whole}")).as_deref(), Some("shop/web:1"));
    for text in
        ["", "FROM shop/web:1\n", label, &format!("FROM shop/web:2\n{label}"), &format!("{whole}RUN true\n")]
    {
        assert_eq!(image(text), None, "{text}");
    }
    let odd = "FROM $(x)\nLABEL com.dokku.docker-image-labeler/alternate-tags=[\\\"$(x)\\\"]\n";
    assert_eq!(image(odd), None, "not the name of an image");
}
