//! Confusing names of refs: the one table of what a push may not create, with the name that was meant, and of the refs
//! that block those that the plugin writes itself.
//!
//! With a typing error in a request tag a push would end with 0 and graduate nothing. A ref that git reads as something
//! else (`HEAD`, `main`, an object id, `env/<env>`) would make a later push graduate another state than it names. And
//! git cannot have a ref below another one (`production` and `production/20261123104512`).

use crate::legible::shortened;
use crate::names::{ApprovalTag, EnvironmentName, ReleaseTag, RequestTag};

/// The branch that only `graduate:commit` writes.
pub(crate) const MAIN: &str = "refs/heads/main";

/// The first words of the tags to which the plugin reacts: requests and approvals.
const WORDS: [&str; 2] = ["graduate", "approve"];

/// The most edits at which a word still counts as a misspelling of one of these.
const TYPING_ERRORS: usize = 2;

/// The names that git looks up first in its own directory, in addition to all that end with `_HEAD`; gitrevisions(7),
/// gitglossary(7) "pseudoref".
const PSEUDO_REFS: [&str; 6] =
    ["HEAD", "@", "AUTO_MERGE", "BISECT_EXPECTED_REV", "MERGE_AUTOSTASH", "NOTES_MERGE_PARTIAL"];

/// Why a ref may not have its name; the first field is its full name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Confusing {
    /// A branch, or a tag below a second `refs/tags/`, where a request or an approval was meant.
    #[error("{0} has no effect, only a tag has one: push to `{1}`")]
    NoTag(String, String),
    /// A typing error.
    #[error("{0} has no effect: push to `{1}`, or choose another name")]
    Misspelt(String, String),
    /// The name of an environment.
    #[error(
        "{0} is reserved for the releases of {1}, `refs/tags/{1}/<timestamp>`: to graduate push to \
         `refs/tags/graduate/{1}/<label>`, else choose another name"
    )]
    OfEnvironment(String, EnvironmentName),
    /// A branch named like a release, or a tag named like a branch of the ledger.
    #[error("{0} could be taken for `{1}` of the ledger: choose another name")]
    OfLedger(String, String),
    /// A ref that blocks `env/<env>`.
    #[error("{0} is reserved for the branches `env/<environment>`: choose another name")]
    AboveLedger(String),
    /// The branch that `graduate:commit` writes.
    #[error(
        "{0} would change or hide the branch main, which only `dokku graduate:commit` writes: choose another name"
    )]
    Main(String),
    /// A tag that every clone would read as a branch of this repository.
    #[error(
        "git would read {0} in a clone as a branch of the repository that it was cloned from: choose another name"
    )]
    OfClones(String),
    /// A name that git reads as something else.
    #[error("git would read {0} as {1}: choose another name")]
    Special(String, &'static str),
}

impl Confusing {
    /// Whether it is refused because this environment is linked.
    pub fn is_of(&self, environment: &EnvironmentName) -> bool {
        match self {
            Self::OfEnvironment(_, of) => of == environment,
            Self::Misspelt(..) => true,
            Self::NoTag(..)
            | Self::OfLedger(..)
            | Self::AboveLedger(_)
            | Self::Main(_)
            | Self::OfClones(_)
            | Self::Special(..) => false,
        }
    }

    /// Returns the full name of the ref, shortened.
    pub fn name(&self) -> &str {
        match self {
            Self::NoTag(name, _)
            | Self::Misspelt(name, _)
            | Self::OfEnvironment(name, _)
            | Self::OfLedger(name, _)
            | Self::AboveLedger(name)
            | Self::Main(name)
            | Self::OfClones(name)
            | Self::Special(name, _) => name,
        }
    }
}

/// Returns why a push may not create or move a ref of this full name, on a host that is linked to these environments;
/// `None` if it may. Request tags, approvals and the ledger have rules of their own, which are applied first.
pub(crate) fn confusing(name: &str, linked: &[EnvironmentName]) -> Option<Confusing> {
    let (is_tag, short) = match (name.strip_prefix("refs/tags/"), name.strip_prefix("refs/heads/")) {
        (Some(short), _) => (true, short),
        (_, Some(short)) => (false, short),
        (None, None) => return None,
    };
    if name.starts_with(RequestTag::PREFIX) || name.starts_with(ApprovalTag::PREFIX) {
        return None;
    }
    let full = || shortened(name);
    let inner = without_namespaces(short);
    for word in WORDS {
        if let Some(rest) = below(inner, word)
            && (!is_tag || inner != short)
        {
            return Some(Confusing::NoTag(full(), tag(word, rest)));
        }
    }
    if name == MAIN || short == "main" || (!is_tag && short.starts_with("main/")) {
        return Some(Confusing::Main(full()));
    }
    if let Some(meaning) = special(short) {
        return Some(Confusing::Special(full(), meaning));
    }
    if !is_tag {
        let is_release = short.parse::<ReleaseTag>().is_ok();
        return match short {
            "env" => Some(Confusing::AboveLedger(full())),
            _ if is_release => Some(Confusing::OfLedger(full(), format!("refs/tags/{short}"))),
            _ => None,
        };
    }
    // The short name of `refs/remotes/origin/main`; git prefers a tag.
    if short == "origin" || short.starts_with("origin/") {
        return Some(Confusing::OfClones(full()));
    }
    if short.starts_with("env/") {
        return Some(Confusing::OfLedger(full(), format!("refs/heads/{short}")));
    }
    if let Some(meant) = linked.iter().find_map(|environment| misspelt(short, environment)) {
        return Some(Confusing::Misspelt(full(), meant));
    }
    let of_environment = |environment: &&EnvironmentName| {
        let rest = short.strip_prefix(environment.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            && short.parse::<ReleaseTag>().is_err()
    };
    let environment = linked.iter().find(of_environment)?;
    Some(Confusing::OfEnvironment(full(), environment.clone()))
}

/// Removes namespaces from a name: `HEAD:tags/graduate/production/now` creates a branch `tags/graduate/...`, because
/// git puts `refs/heads/` before a namespace that it does not know.
fn without_namespaces(mut short: &str) -> &str {
    let inner = |short: &'_ str| {
        ["refs/", "tags/", "tag/", "heads/"]
            .iter()
            .find(|begin| short.starts_with(**begin))
            .map(|begin| begin.len())
    };
    while let Some(length) = inner(short) {
        short = &short[length..];
    }
    short
}

/// Returns what follows a first component, whose case is ignored; empty if nothing follows.
fn below<'a>(short: &'a str, first: &str) -> Option<&'a str> {
    let (component, rest) = short.split_once('/').unwrap_or((short, ""));
    component.eq_ignore_ascii_case(first).then_some(rest)
}

/// Returns the tag that was meant, with placeholders for missing parts.
fn tag(word: &str, rest: &str) -> String {
    match rest.trim_matches('/').split_once('/') {
        Some((environment, label)) if !environment.is_empty() => {
            format!("refs/tags/{word}/{}/{}", shortened(environment), shortened(label))
        }
        _ if rest.is_empty() => format!("refs/tags/{word}/<environment>/<label>"),
        _ => format!("refs/tags/{word}/{}/<label>", shortened(rest)),
    }
}

/// Returns the tag that was meant by `<typing error>/<environment>...` or `<typing error>-<environment>...`.
fn misspelt(short: &str, environment: &EnvironmentName) -> Option<String> {
    let lower = short.to_ascii_lowercase();
    let (first, rest) = lower.split_once('/').unwrap_or((&lower, ""));
    let dashed = first.strip_suffix(environment.as_str()).and_then(|word| word.strip_suffix('-'));
    let (word, label) = match dashed {
        Some(word) => (word, rest),
        None => {
            let (second, label) = rest.split_once('/').unwrap_or((rest, ""));
            (first, (second == environment.as_str()).then_some(label)?)
        }
    };
    let meant = WORDS.iter().find(|meant| edits(word, meant) <= TYPING_ERRORS)?;
    // The label in its original case.
    let label = &short[short.len() - label.len()..];
    Some(tag(meant, &format!("{environment}/{}", if label.is_empty() { "<label>" } else { label })))
}

/// Returns how many letters must be changed, added or removed (Levenshtein distance).
fn edits(one: &str, other: &str) -> usize {
    if one.len() > 2 * other.len() {
        return one.len();
    }
    let other: Vec<char> = other.chars().collect();
    let mut costs: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.chars().enumerate() {
        let mut diagonal = costs[0];
        costs[0] = row + 1;
        for (column, wanted) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *wanted);
            diagonal = costs[column + 1];
            costs[column + 1] = replaced.min(diagonal + 1).min(costs[column] + 1);
        }
    }
    costs[other.len()]
}

fn special(short: &str) -> Option<&'static str> {
    let upper = short.to_ascii_uppercase();
    let is_id = |length| short.len() == length && short.bytes().all(|byte| byte.is_ascii_hexdigit());
    if PSEUDO_REFS.contains(&upper.as_str()) || (upper.ends_with("_HEAD") && !short.contains('/')) {
        Some("what is checked out, fetched or merged")
    } else if is_id(40) || is_id(64) {
        Some("the id of an object")
    } else {
        None
    }
}

/// Returns the refs that must not exist for a graduation to an environment: full names, and prefixes of names. git
/// cannot have a ref below another one, so each of them blocks a release, the ledger's branch or the request tag.
///
/// `request` is the full name of the request tag.
pub(crate) fn blockers(environment: &EnvironmentName, request: &str) -> (Vec<String>, Vec<String>) {
    let names = ["refs/heads/env", "refs/tags/graduate"].map(str::to_owned).into_iter();
    let of_it = [format!("refs/tags/{environment}"), format!("refs/tags/graduate/{environment}")];
    (names.chain(of_it).collect(), vec![format!("refs/heads/env/{environment}/"), format!("{request}/")])
}

/// Whether a ref of this full name blocks graduations to an environment, or their release tags.
pub fn is_blocker(name: &str, environment: &EnvironmentName) -> bool {
    let (names, prefixes) = blockers(environment, &format!("refs/tags/graduate/{environment}/cli"));
    let below_release = || {
        let rest = name.strip_prefix("refs/tags/").and_then(|short| short.rsplit_once('/'));
        rest.is_some_and(|(above, _)| {
            above.parse::<ReleaseTag>().is_ok_and(|release| release.environment() == environment)
        })
    };
    names.iter().any(|blocker| blocker == name)
        || prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
        || below_release()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked() -> Vec<EnvironmentName> {
        ["production", "eu-west"].map(|name| name.parse().unwrap()).to_vec()
    }

    #[test]
    fn each_slip_is_refused_with_what_was_meant() {
        #[rustfmt::skip]
        let cases = [
            ("heads/graduate/production/now", "push to `refs/tags/graduate/production/now`"),
            ("heads/Graduate/production/now", "push to `refs/tags/graduate/production/now`"),
            ("heads/graduate", "push to `refs/tags/graduate/<environment>/<label>`"),
            ("heads/graduate/production", "push to `refs/tags/graduate/production/<label>`"),
            ("heads/tags/graduate/production/now", "push to `refs/tags/graduate/production/now`"),
            ("heads/refs/tags/graduate/production/now", "push to `refs/tags/graduate/production/now`"),
            ("tags/tags/graduate/production/now", "push to `refs/tags/graduate/production/now`"),
            ("tags/Graduate/production/x", "push to `refs/tags/graduate/production/x`"),
            ("tags/gradaute/production/Now", "push to `refs/tags/graduate/production/Now`"),
            ("tags/gradaute/production", "push to `refs/tags/graduate/production/<label>`"),
            ("tags/GRADUATE/PRODUCTION/x", "push to `refs/tags/graduate/production/x`"),
            ("tags/graduated/eu-west/a/b", "push to `refs/tags/graduate/eu-west/a/b`"),
            ("tags/graduate-production", "push to `refs/tags/graduate/production/<label>`"),
            ("tags/graduate-eu-west/now", "push to `refs/tags/graduate/eu-west/now`"),
            ("tags/production", "to graduate push to `refs/tags/graduate/production/<label>`"),
            ("tags/production/hotfix", "reserved for the releases of production"),
            ("tags/production/20261123104512/x", "reserved for the releases of production"),
            ("heads/production/20261123104512", "could be taken for `refs/tags/production/20261123104512`"),
            ("tags/env/production", "could be taken for `refs/heads/env/production`"),
            ("heads/env", "reserved for the branches `env/<environment>`"),
            ("heads/approve/production/bob", "has no effect, only a tag has one: push to `refs/tags/approve/production/bob`"),
            ("tags/tags/approve/production/bob", "push to `refs/tags/approve/production/bob`"),
            ("tags/aprove/production/bob", "has no effect: push to `refs/tags/approve/production/bob`"),
            ("tags/approved-eu-west", "push to `refs/tags/approve/eu-west/<label>`"),
            ("heads/tag/graduate/production/now", "push to `refs/tags/graduate/production/now`"),
            ("tags/origin/main", "as a branch of the repository that it was cloned from"),
            ("tags/origin/env/production", "as a branch of the repository"),
            ("tags/origin", "as a branch of the repository"),
            ("tags/main", "the branch main"),
            ("heads/main", "the branch main"),
            ("heads/main/x", "the branch main"),
            ("tags/HEAD", "what is checked out"),
            ("heads/HEAD", "what is checked out"),
            ("tags/head", "what is checked out"),
            ("tags/@", "what is checked out"),
            ("tags/FETCH_HEAD", "what is checked out"),
            ("heads/ORIG_HEAD", "what is checked out"),
            ("tags/AUTO_MERGE", "what is checked out"),
            ("tags/4f2a9c14f2a9c14f2a9c14f2a9c14f2a9c14f2a9", "the id of an object"),
            ("heads/4F2A9C14f2a9c14f2a9c14f2a9c14f2a9c14f2a9", "the id of an object"),
        ];
        for (name, meant) in cases {
            let name = format!("refs/{name}");
            let said = confusing(&name, &linked()).map(|why| why.to_string()).unwrap_or_default();
            assert!(said.contains(meant) && said.contains(&name), "{name}: {said:?}");
        }
    }

    #[test]
    fn all_else_is_free() {
        for name in [
            "tags/graduate/production/now",
            "tags/graduated/2026",
            "tags/approve/production/bob",
            "tags/approved/2026",
            "heads/production/hotfix",
            "heads/production",
            "heads/graduated/production/x",
            "heads/graduate-production",
            "tags/graduation/production/x",
            "tags/v1.0",
            "tags/productions",
            "tags/production-1",
            "tags/staging",
            "tags/deploy/production/x",
            "tags/graduate-staging",
            "heads/topic/graduate/production",
            "heads/domain",
            "tags/main-1",
            "tags/original",
            "heads/origin/main",
            "heads/ahead",
            "tags/release/HEAD",
            "tags/4f2a9c1",
            "heads/environment",
        ] {
            assert_eq!(confusing(&format!("refs/{name}"), &linked()), None, "{name}");
        }
        assert_eq!(confusing("refs/tags/production", &[]), None, "no environment is called so");
    }

    #[test]
    fn a_letter_more_or_less_or_another_is_an_edit() {
        let cases = [("graduate", 0), ("gradaute", 2), ("graduat", 1), ("graduates", 1), ("gr", 6), ("", 8)];
        for (word, count) in cases {
            assert_eq!(edits(word, "graduate"), count, "{word}");
        }
        assert!(edits(&"g".repeat(5000), "graduate") > TYPING_ERRORS);
        assert_eq!(edits("grädüate", "graduate"), 2, "letters, not bytes");
    }

    #[test]
    fn what_git_cannot_have_beside_our_refs_is_a_blocker() {
        let production: EnvironmentName = "production".parse().unwrap();
        for name in [
            "refs/tags/production",
            "refs/tags/graduate",
            "refs/tags/graduate/production",
            "refs/tags/graduate/production/cli/x",
            "refs/heads/env",
            "refs/heads/env/production/x",
            "refs/tags/production/20261123104512/x",
        ] {
            assert!(is_blocker(name, &production), "{name}");
        }
        for name in [
            "refs/heads/env/production",
            "refs/heads/env/production-2/x",
            "refs/tags/production/20261123104512",
            "refs/tags/production/hotfix",
            "refs/tags/graduate/production/cli",
            "refs/heads/production",
            "refs/tags/staging",
        ] {
            assert!(!is_blocker(name, &production), "{name}");
        }
    }
}
