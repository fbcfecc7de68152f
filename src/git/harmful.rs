//! Settings that the git which serves pushes obeys in addition to those of the environment repository: git adds up the
//! values of these settings, so that ours cannot override them.

use std::path::Path;

use super::{Git, GitError};
use crate::process::Program;
use crate::ssh::quoted;

const HIDES_FROM_CLONES: &str = "uploadpack.hiderefs";

/// A setting that breaks pushes or clones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("git's setting {name}={value} of {} {why}", origin.as_deref().unwrap_or("the environment"))]
pub(crate) struct Harmful {
    /// Its name, as git writes it.
    pub name: String,
    value: String,
    /// The file that sets it; none if it is not a file.
    origin: Option<String>,
    why: &'static str,
}

impl Harmful {
    /// Whether it breaks pushes, and not only the completeness of clones.
    pub(crate) fn stops_pushes(&self) -> bool {
        self.name != HIDES_FROM_CLONES
    }

    /// The command that removes the setting.
    pub(crate) fn remedy(&self) -> String {
        match &self.origin {
            Some(file) => format!("git config --file {} --unset-all {}", quoted(file), self.name),
            None => format!("env | grep GIT_CONFIG # and unset {}", self.name),
        }
    }
}

/// A setting with one value.
struct Set<'a> {
    origin: &'a str,
    name: &'a str,
    value: &'a str,
}

/// The harmful settings among `listed`, which is in the order in which git reads them: the last value of `hideRefs`
/// counts.
fn harmful(listed: &str, exists: impl Fn(&str) -> bool) -> Vec<Harmful> {
    let mut fields = listed.split('\0');
    let mut set = Vec::new();
    while let (Some(origin), Some(pair)) = (fields.next(), fields.next()) {
        let (name, value) = pair.split_once('\n').unwrap_or((pair, ""));
        set.push(Set { origin, name, value });
    }
    let shows_all = |set: &&Set<'_>| set.name == "transfer.hiderefs" && set.value == "!refs";
    let outweighed = set.iter().rposition(|one| shows_all(&one)).unwrap_or(0);
    let found = set.iter().enumerate().filter_map(|(number, one)| {
        let why = match one.name {
            "receive.procreceiverefs" => "leaves it to another program to move the tag",
            "receive.hiderefs" | "transfer.hiderefs" if number > outweighed => "hides refs from pushes",
            HIDES_FROM_CLONES if number > outweighed => "hides refs from clones",
            "receive.fsck.skiplist" if !exists(one.value) => "names a file that does not exist",
            _ => return None,
        };
        let origin = one.origin.strip_prefix("file:").map(str::to_owned);
        Some(Harmful { name: one.name.to_owned(), value: one.value.to_owned(), origin, why })
    });
    found.collect()
}

impl Git {
    /// The settings, in any file, that break pushes to this repository or clones of it.
    ///
    /// # Errors
    /// git cannot read its configuration.
    pub(crate) fn harmful_settings(&self) -> Result<Vec<Harmful>, GitError> {
        // As the git that serves a push reads them: the settings of the user and of the system count.
        let list = Program::new("git").arg("--git-dir").arg(&self.git_dir).dir(Path::new("/"));
        let listed = list.args(["config", "--list", "--null", "--show-origin"]).read();
        let listed = listed.map_err(self.failed("read the settings"))?;
        Ok(harmful(&listed, |path| Path::new(path).exists()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_setting_of_ours_outweighs_is_named_with_its_file() {
        let ours = "file:/home/dokku/.git/config\0transfer.hiderefs\n!refs\0";
        let cases = [
            ("file:/etc/gitconfig\0receive.procreceiverefs\nrefs/tags\0", "", Some("to move the tag")),
            ("file:/etc/gitconfig\0transfer.hiderefs\nrefs/tags\0", "", None),
            ("file:/etc/gitconfig\0receive.hiderefs\nrefs/tags\0", "", None),
            ("", "file:/home/dokku/.git/config\0receive.hiderefs\nrefs/tags\0", Some("from pushes")),
            ("", "file:/home/dokku/.git/config\0transfer.hiderefs\nrefs/tags\0", Some("from pushes")),
            ("", "file:/home/dokku/.git/config\0uploadpack.hiderefs\nrefs/heads/env\0", Some("from clones")),
            (
                "file:/etc/gitconfig\0receive.fsck.skiplist\n/missing\0",
                "",
                Some("a file that does not exist"),
            ),
            ("file:/etc/gitconfig\0receive.fsck.skiplist\n/\0", "", None),
            ("file:/etc/gitconfig\0core.bare\nfalse\0file:/etc/gitconfig\0core.ignorecase\0", "", None),
        ];
        for (before, after, expected) in cases {
            let found = harmful(&format!("{before}{ours}{after}"), |path| path == "/");
            assert_eq!(found.len(), usize::from(expected.is_some()), "{before}{after}: {found:?}");
            if let (Some(one), Some(why)) = (found.first(), expected) {
                assert!(one.to_string().ends_with(why), "{one}");
                assert_eq!(one.stops_pushes(), why != "from clones", "{one}");
                let file = if before.is_empty() { "/home/dokku/.git/config" } else { "/etc/gitconfig" };
                assert_eq!(one.remedy(), format!("git config --file {file} --unset-all {}", one.name));
            }
        }
    }
}
