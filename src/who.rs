//! The permissions: the one table of who may do what. It reads neither files nor sessions: the requester, the action
//! and the rules come in, and a refusal comes out that names who may.
//!
//! Pushes and commands ask through [`Settings::judge`](crate::settings::Settings::judge).

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::exit::Explain;
use crate::names::{EnvironmentName, KeyName};

/// The person at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The ssh key's name, or the user of `sudo dokku`.
    pub name: String,
    /// Whether it is root on this host, who may always do everything.
    pub is_root: bool,
}

/// An action that needs permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action<'a> {
    /// Graduate a state that was not released there before.
    Graduate(&'a EnvironmentName),
    /// Graduate a release of the environment again.
    GoBack(&'a EnvironmentName),
    /// Decide on a running graduation: `go`, `confirm`.
    Decide(&'a EnvironmentName),
    /// End or settle a graduation: `abort`, `recover`.
    Abort(&'a EnvironmentName),
    /// Change the settings of the environment.
    Administer(&'a EnvironmentName),
    /// Change global settings: global properties, hooks, links, signers.
    AdministerAll,
}

impl Action<'_> {
    /// Returns the environment that it concerns; `None` if it concerns all of them.
    pub(crate) fn environment(&self) -> Option<&EnvironmentName> {
        match self {
            Self::Graduate(environment)
            | Self::GoBack(environment)
            | Self::Decide(environment)
            | Self::Abort(environment)
            | Self::Administer(environment) => Some(environment),
            Self::AdministerAll => None,
        }
    }
}

impl fmt::Display for Action<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Graduate(environment) => write!(f, "graduate to {environment}"),
            Self::GoBack(environment) => write!(f, "go back to a release of {environment}"),
            Self::Decide(environment) => write!(f, "decide on a graduation to {environment}"),
            Self::Abort(environment) => write!(f, "abort a graduation to {environment}"),
            Self::Administer(environment) => write!(f, "change what is set for {environment}"),
            Self::AdministerAll => f.write_str("change what is set for all environments"),
        }
    }
}

/// Whether a request tag must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SignedTags {
    /// It must.
    On,
    /// It may be signed or not.
    #[default]
    Off,
}

/// The property that holds a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RuleName {
    Allow,
    AllowRollback,
    AllowAdmin,
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::AllowRollback => "allow-rollback",
            Self::AllowAdmin => "allow-admin",
        })
    }
}

/// The value of one of the properties, and where it is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Who may; if nothing is set it is empty, and everybody may.
    pub names: BTreeSet<KeyName>,
    /// The environment that has this value of its own; `None` for the global value.
    pub of: Option<EnvironmentName>,
}

impl Allowed {
    fn includes(&self, asker: &Asker) -> bool {
        let is_it = |name: &KeyName| name.is_everybody() || name.as_str() == asker.name;
        self.names.is_empty() || self.names.iter().any(is_it)
    }
}

/// The rules of an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccessRules {
    /// `allow`.
    pub allow: Allowed,
    /// `allow-rollback`.
    pub rollback: Allowed,
    /// `allow-admin`.
    pub admin: Allowed,
}

/// The requester may not do this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asker} may not {action}: {who} may (graduate:set {place} {rule})")]
pub(crate) struct NotAllowed {
    asker: String,
    action: String,
    who: String,
    place: String,
    rule: RuleName,
}

impl Explain for NotAllowed {}

/// Checks whether the requester may do this.
///
/// # Errors
/// [`NotAllowed`], which names who may.
pub(crate) fn judge(asker: &Asker, action: &Action<'_>, rules: &AccessRules) -> Result<(), NotAllowed> {
    if asker.is_root {
        return Ok(());
    }
    let allow = (RuleName::Allow, &rules.allow);
    let rollback = match rules.rollback.names.is_empty() {
        true => allow,
        false => (RuleName::AllowRollback, &rules.rollback),
    };
    // Any one of them is sufficient; a refusal names everybody who may, and the last one's property.
    let sufficient = match action {
        Action::Graduate(_) | Action::Decide(_) => vec![allow],
        Action::GoBack(_) => vec![rollback],
        Action::Abort(_) => vec![rollback, allow],
        Action::Administer(_) | Action::AdministerAll => vec![(RuleName::AllowAdmin, &rules.admin)],
    };
    if sufficient.iter().any(|(_, allowed)| allowed.includes(asker)) {
        return Ok(());
    }
    let names: BTreeSet<&str> =
        sufficient.iter().flat_map(|(_, allowed)| &allowed.names).map(KeyName::as_str).collect();
    let Some((rule, allowed)) = sufficient.last() else { return Ok(()) };
    Err(NotAllowed {
        asker: asker.name.clone(),
        action: action.to_string(),
        who: listed(&names.into_iter().collect::<Vec<_>>()),
        place: allowed.of.as_ref().map_or("--global", EnvironmentName::as_str).to_owned(),
        rule: *rule,
    })
}

/// Joins names: `alice`, `alice and bob`, `alice, bob and carol`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => "root".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(names: &str, of: Option<&EnvironmentName>) -> Allowed {
        Allowed {
            names: names.split_whitespace().map(|name| name.parse().unwrap()).collect(),
            of: of.cloned(),
        }
    }

    /// Returns, for each of four people, the first letters of what they may do.
    fn table(allow: &str, rollback: &str, admin: &str) -> String {
        let production: EnvironmentName = "production".parse().unwrap();
        let of = |names| allowed(names, Some(&production));
        let rules = AccessRules { allow: of(allow), rollback: of(rollback), admin: of(admin) };
        let deeds = [
            ("G", Action::Graduate(&production)),
            ("B", Action::GoBack(&production)),
            ("D", Action::Decide(&production)),
            ("A", Action::Abort(&production)),
            ("S", Action::Administer(&production)),
            ("H", Action::AdministerAll),
        ];
        let mut lines = Vec::new();
        for (name, is_root) in [("alice", false), ("bob", false), ("root", false), ("carol", true)] {
            let asker = Asker { name: name.to_owned(), is_root };
            let may = |(letter, action): &(&'static str, Action<'_>)| {
                if judge(&asker, action, &rules).is_ok() { *letter } else { "-" }
            };
            lines.push(deeds.iter().map(may).collect::<String>());
        }
        lines.join(" ")
    }

    #[test]
    fn who_may_do_what() {
        // alice, bob, a key that is merely named root, and root itself under another name.
        for (allow, rollback, admin, expected) in [
            ("", "", "", "GBDASH GBDASH GBDASH GBDASH"),
            ("alice", "", "", "GBDASH ----SH ----SH GBDASH"),
            ("alice", "bob", "", "G-DASH -B-ASH ----SH GBDASH"),
            ("alice", "alice bob", "", "GBDASH -B-ASH ----SH GBDASH"),
            ("", "bob", "", "G-DASH GBDASH G-DASH GBDASH"),
            ("alice", "*", "", "GBDASH -B-ASH -B-ASH GBDASH"),
            ("*", "", "bob", "GBDA-- GBDASH GBDA-- GBDASH"),
            ("alice", "", "bob", "GBDA-- ----SH ------ GBDASH"),
        ] {
            assert_eq!(table(allow, rollback, admin), expected, "allow={allow} {rollback} {admin}");
        }
    }

    #[test]
    fn a_refusal_names_who_may_and_where_that_is_set() {
        let production: EnvironmentName = "production".parse().unwrap();
        let alice = Asker { name: "alice".to_owned(), is_root: false };
        let rules = AccessRules {
            allow: allowed("bob carol", Some(&production)),
            rollback: allowed("dave", None),
            admin: allowed("erin", None),
        };
        for (action, expected) in [
            (
                Action::Graduate(&production),
                "alice may not graduate to production: bob and carol may (graduate:set production allow)",
            ),
            (
                Action::GoBack(&production),
                "alice may not go back to a release of production: dave may (graduate:set --global allow-rollback)",
            ),
            (
                Action::Abort(&production),
                "alice may not abort a graduation to production: bob, carol and dave may (graduate:set production allow)",
            ),
            (
                Action::AdministerAll,
                "alice may not change what is set for all environments: erin may (graduate:set --global allow-admin)",
            ),
        ] {
            assert_eq!(judge(&alice, &action, &rules).unwrap_err().to_string(), expected);
        }
    }
}
