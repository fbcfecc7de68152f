//! The manifest of one app, and the state of a whole environment: the content of a commit of the environment
//! repository.
//!
//! Values in, values out; `repo.rs` reads them from commits and `environment.rs` writes them to the work tree.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::legible::shortened;
use crate::names::{self, AppName, CommitId, ImageName, InvalidName};
use crate::runs::Runs;

/// The most apps that one commit may describe.
pub(crate) const MAX_APPS: usize = 2_000;

/// The longest manifest that is read, in bytes.
pub const MAX_MANIFEST: usize = 256 * 1024;

/// The file name of a manifest, in the directory of its app.
pub const MANIFEST_FILE: &str = "graduate.json";

/// The version of the format below.
pub(crate) const MANIFEST_VERSION: u32 = 1;

/// The content of the repository's `.gitignore`: only it and the manifests are ever part of a commit.
pub const GITIGNORE: &str = "\
# dokku-graduate: only this file and the apps' manifests belong here. Do not change it.
/*
!/.gitignore
!/*/
/.*/
/*/*
!/*/graduate.json
";

/// Why some bytes are not the manifest of an app.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is longer than [`MAX_MANIFEST`].
    #[error("the manifest of {app} is too large: {size} bytes, and {MAX_MANIFEST} are allowed")]
    TooLarge {
        /// Whose manifest it should be.
        app: AppName,
        /// Its size in bytes.
        size: usize,
    },
    /// It is not JSON, has a field that is unknown, missing or of the wrong kind, or a revision that is not a commit
    /// id.
    #[error("{app}/{MANIFEST_FILE} is not a manifest: {cause}")]
    Content {
        /// Whose manifest it should be.
        app: AppName,
        /// The parser's message, shortened, since it quotes the input.
        cause: String,
    },
    /// It was made by another version of the plugin.
    #[error(
        "{app}/{MANIFEST_FILE} has version {version}, and this plugin knows {MANIFEST_VERSION}: update the plugin"
    )]
    Version {
        /// Whose manifest it should be.
        app: AppName,
        /// The version it has.
        version: u32,
    },
    /// It has an invalid name of a variable, process or setting.
    #[error("{app}/{MANIFEST_FILE}: {source}")]
    Name {
        /// Whose manifest it should be.
        app: AppName,
        /// The rule that it breaks.
        source: InvalidName,
    },
    /// It lies in another app's directory.
    #[error("{expected}/{MANIFEST_FILE} is the manifest of {found}: `app` must say {expected}")]
    OtherApp {
        /// The directory's name.
        expected: AppName,
        /// The app that the manifest names.
        found: AppName,
    },
}

/// What is deployed for an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// The branch that Dokku deploys.
    pub branch: String,
    /// The image that the revision deploys unchanged (`git:from-image`, `git:load-image`), with its digest in the
    /// registry at the time of the deploy, if that is known: the tag may mean another image by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_image: Option<ImageName>,
    /// The id of the image that runs, `sha256:<64 hex>`; `None` if nothing runs.
    pub image: Option<String>,
    /// What it runs. An app that was never deployed has no revision, and does not graduate.
    pub revision: Runs,
    /// How it was deployed, in Dokku's words: `git-push`, `docker-image`, ...
    pub source: Option<String>,
}

/// The state of one app. The fields are in the order of their names, as in the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The app.
    pub app: AppName,
    /// A fingerprint of each config variable, by name, except for the one in which Dokku keeps the revision.
    pub config: BTreeMap<String, Fingerprint>,
    /// What is deployed.
    pub deploy: Deploy,
    /// What else Dokku keeps for the app, by plugin and property; secrets are fingerprinted.
    pub factors: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// The number of containers of each process.
    pub scale: BTreeMap<String, u32>,
    /// [`MANIFEST_VERSION`].
    pub version: u32,
}

impl Manifest {
    /// Reads the manifest in the directory of `expected_app`.
    ///
    /// # Errors
    /// Any [`ManifestError`].
    pub fn parse(bytes: &[u8], expected_app: &AppName) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let app = || expected_app.clone();
        if bytes.len() > MAX_MANIFEST {
            return Err(ManifestError::TooLarge { app: app(), size: bytes.len() });
        }
        let content = |cause: serde_json::Error| ManifestError::Content {
            app: app(),
            cause: shortened(&cause.to_string()),
        };
        let Versioned { version } = serde_json::from_slice(bytes).map_err(content)?;
        if version != MANIFEST_VERSION {
            return Err(ManifestError::Version { app: app(), version });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(content)?;
        manifest.check_names().map_err(|source| ManifestError::Name { app: app(), source })?;
        if manifest.app != *expected_app {
            return Err(ManifestError::OtherApp { expected: app(), found: manifest.app });
        }
        Ok(manifest)
    }

    /// Checks the names: they reach terminals, and commands that people paste.
    fn check_names(&self) -> Result<(), InvalidName> {
        self.config.keys().try_for_each(|name| names::check_word("the name of a config variable", name))?;
        self.scale.keys().try_for_each(|name| names::check_word("the name of a process", name))?;
        for (plugin, properties) in &self.factors {
            names::check_word("the name of a plugin", plugin)?;
            properties.keys().try_for_each(|name| names::check_word("the name of a property", name))?;
        }
        Ok(())
    }

    /// Returns the text of the manifest. Equal content gives equal text, with sorted keys and a final newline.
    pub fn to_text(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("a manifest has string keys and no fallible fields") + "\n"
    }

    /// Returns what differs from `other`, in words without any value: `revision`, `config DATABASE_URL`, `ports map`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (mine, theirs) = (&self.deploy, &other.deploy);
        let deploy = [
            (mine.revision != theirs.revision, "revision"),
            (mine.image != theirs.image, "image"),
            (mine.from_image != theirs.from_image, "deployed image"),
            (mine.branch != theirs.branch, "deploy branch"),
            (mine.source != theirs.source, "deploy source"),
        ];
        let mut found: Vec<String> =
            deploy.iter().filter(|(differs, _)| *differs).map(|(_, what)| (*what).to_owned()).collect();
        let prefixed = |prefix: &str, names: Vec<String>| {
            names.into_iter().map(|name| format!("{prefix} {name}")).collect::<Vec<_>>()
        };
        found.extend(prefixed("scale", differing_keys(&self.scale, &other.scale)));
        found.extend(prefixed("config", differing_keys(&self.config, &other.config)));
        for plugin in differing_keys(&self.factors, &other.factors) {
            let none = BTreeMap::new();
            let properties =
                [&self.factors, &other.factors].map(|factors| factors.get(&plugin).unwrap_or(&none));
            found.extend(prefixed(&plugin, differing_keys(properties[0], properties[1])));
        }
        found
    }
}

/// Returns the keys that differ in their values or that only one of the maps has, sorted.
fn differing_keys<K: Ord + Clone, V: PartialEq>(one: &BTreeMap<K, V>, other: &BTreeMap<K, V>) -> Vec<K> {
    let mut keys: Vec<K> = one.keys().chain(other.keys()).cloned().collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| one.get(key) != other.get(key));
    keys
}

/// The manifests of one commit: the state of an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State(pub BTreeMap<AppName, Manifest>);

impl State {
    /// Returns the revision of each app that has one; an app that was never deployed does not graduate.
    pub fn revisions(&self) -> BTreeMap<AppName, CommitId> {
        let of = |(app, manifest): (&AppName, &Manifest)| {
            Some((app.clone(), manifest.deploy.revision.revision()?))
        };
        self.0.iter().filter_map(of).collect()
    }

    /// Returns how `self`, which is live, differs from what was `committed`.
    pub fn differences(&self, committed: &Self) -> Vec<Difference> {
        let describe = |app: AppName| {
            let change = match (self.0.get(&app), committed.0.get(&app)) {
                (Some(live), Some(committed)) => Change::Changed(live.differences(committed)),
                (Some(_), None) => Change::Appeared,
                (None, _) => Change::Vanished,
            };
            Difference { app, change }
        };
        differing_keys(&self.0, &committed.0).into_iter().map(describe).collect()
    }
}

/// The difference of one app from what was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The app.
    pub app: AppName,
    /// How it differs.
    pub change: Change,
}

/// The ways in which an app can differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The commit does not contain it.
    Appeared,
    /// It no longer exists.
    Vanished,
    /// These parts of its manifest differ; values are not included.
    Changed(Vec<String>),
}

impl fmt::Display for Difference {
    /// Writes one line: `api: revision, config DATABASE_URL`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::Appeared => write!(f, "{}: new", self.app),
            Change::Vanished => write!(f, "{}: gone", self.app),
            Change::Changed(parts) => write!(f, "{}: {}", self.app, parts.join(", ")),
        }
    }
}

/// The keyed fingerprint of a value, `hmac-sha256:<12 hex>`: it changes with the value and does not reveal it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(String);

impl Fingerprint {
    pub(crate) const PREFIX: &str = "hmac-sha256:";
    /// The number of hex digits after the prefix.
    pub(crate) const DIGITS: usize = 12;
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not a fingerprint. The error does not quote it: it may be a secret that was written there by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a config variable must have a fingerprint, `hmac-sha256:<12 hex digits>`, never its value")]
pub struct NoFingerprint;

impl FromStr for Fingerprint {
    type Err = NoFingerprint;
    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let is_hex = |digits: &str| {
            digits.len() == Self::DIGITS
                && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let digits = text.strip_prefix(Self::PREFIX).ok_or(NoFingerprint)?;
        is_hex(digits).then(|| Self(text.to_owned())).ok_or(NoFingerprint)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = NoFingerprint;
    fn try_from(text: String) -> Result<Self, NoFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> String {
        fingerprint.0
    }
}

/// The secret key with which this host makes fingerprints.
#[derive(Clone)]
pub(crate) struct FingerprintKey(Hmac<Sha256>);

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey")
    }
}

impl FingerprintKey {
    /// Creates the key from the secret, 32 random bytes.
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
    }

    /// Returns the fingerprint of a value and its context. Each part is hashed with its length.
    pub(crate) fn of(&self, parts: &[&str]) -> Fingerprint {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let digest = mac.finalize().into_bytes();
        let digits: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Fingerprint(format!("{}{digits}", Fingerprint::PREFIX))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(app: &str, revision: Option<&str>) -> Manifest {
        Manifest {
            app: app.parse().unwrap(),
            config: BTreeMap::from([("URL".to_owned(), FingerprintKey::new(&[1; 32]).of(&["x"]))]),
            deploy: Deploy {
                branch: "master".to_owned(),
                from_image: None,
                image: None,
                revision: revision.map(|id| id.repeat(40).parse().unwrap()).into(),
                source: Some("git-push".to_owned()),
            },
            factors: BTreeMap::from([(
                "ports".to_owned(),
                BTreeMap::from([("map".to_owned(), vec!["http:80:5000".to_owned()])]),
            )]),
            scale: BTreeMap::from([("web".to_owned(), 1)]),
            version: MANIFEST_VERSION,
        }
    }

    #[test]
    fn the_text_is_sorted_and_reads_back() {
        let manifest = sample("api", Some("a"));
        let text = manifest.to_text();
        assert!(
            text.starts_with("{\n  \"app\": \"api\",\n  \"config\": {\n") && text.ends_with("}\n"),
            "{text}"
        );
        let sorted: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string_pretty(&sorted).unwrap() + "\n", text);
        assert_eq!(Manifest::parse(text.as_bytes(), &manifest.app).unwrap(), manifest);
    }

    #[test]
    fn the_image_that_was_deployed_is_named_only_where_there_is_one() {
        let mut manifest = sample("web", Some("a"));
        assert!(!manifest.to_text().contains("from_image"));
        let name = format!("host:5000/shop/web:1@sha256:{}", "0".repeat(64));
        manifest.deploy.from_image = Some(name.parse().unwrap());
        let text = manifest.to_text();
        assert!(text.contains(&format!("\"from_image\": \"{name}\"")), "{text}");
        assert_eq!(Manifest::parse(text.as_bytes(), &manifest.app).unwrap(), manifest);
        assert_eq!(sample("web", Some("a")).differences(&manifest), ["deployed image"]);
    }

    #[test]
    fn what_is_no_manifest_is_told_why() {
        let api: AppName = "api".parse().unwrap();
        let text = sample("api", Some("a")).to_text();
        let message = |text: &str| Manifest::parse(text.as_bytes(), &api).unwrap_err().to_string();
        let cases = [
            ("x".to_owned(), "api/graduate.json is not a manifest: expected value"),
            (text.replace("\"scale\"", "\"extra\""), "unknown field `extra`"),
            (text.replace(&"a".repeat(40), "abc"), "40 lower case hex digits"),
            (
                text.replace("\"app\": \"api\"", "\"app\": \"web\""),
                "api/graduate.json is the manifest of web",
            ),
            (text.replace("\"version\": 1", "\"version\": 2"), "update the plugin"),
            (" ".repeat(MAX_MANIFEST + 1), "too large"),
            (
                text.replace("\"URL\"", "\"X=1; touch x\""),
                "\"X=1; touch x\" is not the name of a config variable",
            ),
            (
                text.replace("\"URL\"", "\"X\\u001b[2J\""),
                "\"X\\u{1b}[2J\" is not the name of a config variable",
            ),
            (text.replace("\"web\"", "\"web\\n=====> x\""), "is not the name of a process"),
            (text.replace("\"ports\"", "\"$(x)\""), "\"$(x)\" is not the name of a plugin"),
            (text.replace("\"map\"", "\"-x\""), "\"-x\" is not the name of a property"),
        ];
        for (text, expected) in cases {
            let message = message(&text);
            assert!(message.contains(expected), "{message}");
        }
        let fingerprint = sample("api", None).config["URL"].to_string();
        let message = message(&text.replace(&fingerprint, "s3cret"));
        assert!(message.contains("never its value") && !message.contains("s3cret"), "{message}");
    }

    #[test]
    fn an_app_that_was_never_deployed_does_not_graduate() {
        let manifests = [sample("api", Some("a")), sample("web", None)];
        let state = State(manifests.into_iter().map(|m| (m.app.clone(), m)).collect());
        assert_eq!(state.revisions().keys().map(AppName::as_str).collect::<Vec<_>>(), ["api"]);
    }

    #[test]
    fn differences_name_what_changed_and_no_values() {
        let committed = sample("api", Some("a"));
        let mut live = sample("api", Some("b"));
        live.config.insert("NEW".to_owned(), FingerprintKey::new(&[1; 32]).of(&["y"]));
        live.scale.insert("web".to_owned(), 2);
        live.factors.clear();
        let state =
            |manifests: Vec<Manifest>| State(manifests.into_iter().map(|m| (m.app.clone(), m)).collect());
        let found =
            state(vec![live, sample("new", None)]).differences(&state(vec![committed, sample("old", None)]));
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["api: revision, scale web, config NEW, ports map", "new: new", "old: gone"]);
    }

    #[test]
    fn fingerprints_depend_on_key_and_parts() {
        let key = FingerprintKey::new(&[1; 32]);
        assert_eq!(key.of(&["a", "b"]), key.of(&["a", "b"]));
        assert_ne!(key.of(&["a", "b"]), key.of(&["ab", ""]));
        assert_ne!(key.of(&["a"]), FingerprintKey::new(&[2; 32]).of(&["a"]));
        assert!("hmac-sha256:0123456789ab".parse::<Fingerprint>().is_ok());
        assert!("hmac-sha256:xyz".parse::<Fingerprint>().is_err());
    }
}
