//! The mapping of the source's apps to the apps of a destination: the rules of `graduate:map`. Values in, values out.
//!
//! On a source an [`AppName`] is always one of its own apps; an app of a destination is a [`DestinationApp`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::exit::{ExitStatus, Explain};
use crate::names::{AppName, InvalidName};

mod routes;

pub(crate) use routes::{MappingProblem, Routes};

/// The name of an app on a destination, as its source knows it. It may differ from the app's name on the source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DestinationApp(AppName);

impl DestinationApp {
    /// Returns the name that the destination itself uses, also in the messages between the hosts.
    pub fn name(&self) -> &AppName {
        &self.0
    }
}

impl From<AppName> for DestinationApp {
    /// Wraps a name that the destination sent.
    fn from(name: AppName) -> Self {
        Self(name)
    }
}

impl fmt::Display for DestinationApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An app name, or a pattern for app names with one `*`, which stands for any part of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

impl Pattern {
    fn has_star(&self) -> bool {
        self.0.contains('*')
    }

    /// Whether it matches the app's name.
    pub fn fits(&self, app: &AppName) -> bool {
        self.part(app.as_str()).is_some()
    }

    /// Returns the part of a matching name that the `*` stands for; empty for a pattern without one.
    fn part<'n>(&self, name: &'n str) -> Option<&'n str> {
        match self.0.split_once('*') {
            Some((start, end)) => name.strip_prefix(start)?.strip_suffix(end),
            None => (self.0 == name).then_some(""),
        }
    }

    fn filled(&self, part: &str) -> Result<AppName, InvalidName> {
        self.0.replacen('*', part, 1).parse()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Pattern {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '*');
        let shape = (1..=100).contains(&text.len())
            && text.chars().all(allowed)
            && text.matches('*').count() <= 1
            && !text.starts_with(['-', '.']);
        if !shape {
            let rule = "an app's name, in which one `*` may stand for any part";
            return Err(InvalidName::new("a pattern for names of apps", text, rule));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Pattern {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0
    }
}

/// One rule: apps whose names match `source` become those that `destination` names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The apps of the source.
    pub source: Pattern,
    /// Their names there.
    pub destination: Pattern,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.source, self.destination)
    }
}

/// A rule that cannot be added, or does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Only one side has a `*`.
    #[error("{0} and {1} must both have a `*`, or neither of them")]
    Stars(Pattern, Pattern),
    /// The source pattern has a rule already.
    #[error("{0} is mapped to {1} already")]
    Taken(Pattern, Pattern),
    /// The rule does not exist.
    #[error("there is no rule {0}")]
    Unknown(String),
}

impl Explain for RuleError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Stars(..) => ExitStatus::Usage,
            Self::Taken(..) | Self::Unknown(_) => ExitStatus::Refused,
        }
    }
}

/// The rules of one environment, in order: the first matching rule counts. Without any rule every app keeps its name;
/// with rules, an app that none of them matches does not graduate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mapping(Vec<Rule>);

impl Mapping {
    /// Whether there are no rules, so that every app keeps its name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.0
    }

    /// Appends a rule. Returns false, and changes nothing, if the rule exists already.
    ///
    /// # Errors
    /// [`RuleError::Stars`], or [`RuleError::Taken`]: a second rule for the same pattern would never be used.
    pub fn add(&mut self, rule: Rule) -> Result<bool, RuleError> {
        if rule.source.has_star() != rule.destination.has_star() {
            return Err(RuleError::Stars(rule.source, rule.destination));
        }
        match self.0.iter().find(|old| old.source == rule.source) {
            Some(old) if *old == rule => Ok(false),
            Some(old) => Err(RuleError::Taken(rule.source, old.destination.clone())),
            None => {
                self.0.push(rule);
                Ok(true)
            }
        }
    }

    /// Removes a rule, by its source pattern or, where no rule has that pattern, by its index (the first is 1).
    ///
    /// # Errors
    /// [`RuleError::Unknown`].
    pub fn remove(&mut self, which: &str) -> Result<Rule, RuleError> {
        let index = || which.parse::<usize>().ok()?.checked_sub(1);
        let position = self.0.iter().position(|rule| rule.source.0 == which).or_else(index);
        match position.filter(|position| *position < self.0.len()) {
            Some(position) => Ok(self.0.remove(position)),
            None => Err(RuleError::Unknown(which.chars().take(80).collect())),
        }
    }

    /// Whether a rule matches the app, or there are no rules.
    pub fn covers(&self, app: &AppName) -> bool {
        self.covers_name(app.as_str())
    }

    /// Does the same for a name that need not be an [`AppName`].
    pub fn covers_name(&self, app: &str) -> bool {
        self.is_empty() || self.0.iter().any(|rule| rule.source.part(app).is_some())
    }

    /// Returns the name of an app on the destination; `None` if no rule matches it.
    ///
    /// # Errors
    /// The rule turns the name into one that is not a valid app name.
    pub fn there(&self, app: &AppName) -> Result<Option<DestinationApp>, InvalidName> {
        if self.is_empty() {
            return Ok(Some(DestinationApp(app.clone())));
        }
        let fit = |rule: &Rule| Some(rule.destination.filled(rule.source.part(app.as_str())?));
        self.0.iter().find_map(fit).transpose().map(|there| there.map(DestinationApp))
    }

    /// Returns the source's app for an app there, whether the source has it or not; `None` if no rule leads to it.
    pub fn here(&self, there: &DestinationApp) -> Option<AppName> {
        if self.is_empty() {
            return Some(there.0.clone());
        }
        self.0.iter().find_map(|rule| {
            let app = rule.source.filled(rule.destination.part(there.0.as_str())?).ok()?;
            // An earlier rule may map it to another name.
            (self.there(&app).ok().flatten().as_ref() == Some(there)).then_some(app)
        })
    }
}

impl fmt::Display for Mapping {
    /// Writes `*-staging=* db=db-main`, the form in release tags.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&rules.join(" "))
    }
}

impl FromStr for Mapping {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let rule = |text: &str| -> Result<Rule, InvalidName> {
            let (source, destination) = text.split_once('=').unwrap_or((text, ""));
            Ok(Rule { source: source.parse()?, destination: destination.parse()? })
        };
        text.split_whitespace().map(rule).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        name.parse().unwrap()
    }

    fn mapping(text: &str) -> Mapping {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rules = mapping("db-staging=postgres *-staging=* *-test=old-*");
        let there = |name| rules.there(&app(name)).unwrap().map(|there| there.to_string());
        assert_eq!(there("db-staging").as_deref(), Some("postgres"));
        assert_eq!(there("api-staging").as_deref(), Some("api"));
        assert_eq!(there("api-test").as_deref(), Some("old-api"));
        assert_eq!(there("api"), None);
        assert!(!rules.covers(&app("api")) && rules.covers(&app("x-test")));
        let here = |name| rules.here(&app(name).into()).map(|app| app.to_string());
        assert_eq!(here("postgres").as_deref(), Some("db-staging"));
        assert_eq!(here("db"), None, "an earlier rule leads db-staging elsewhere");
        assert_eq!(here("web").as_deref(), Some("web-staging"));
        assert_eq!(Mapping::default().here(&app("web").into()), Some(app("web")));
        assert_eq!(rules.to_string().parse::<Mapping>().unwrap(), rules);
    }

    #[test]
    fn rules_are_added_once_and_removed_by_index_or_pattern() {
        let rule = |source: &str, destination: &str| Rule {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        };
        let mut rules = Mapping::default();
        assert!(rules.add(rule("*-staging", "*")).unwrap());
        assert!(!rules.add(rule("*-staging", "*")).unwrap());
        let taken = rules.add(rule("*-staging", "x-*")).unwrap_err();
        assert_eq!(taken.to_string(), "*-staging is mapped to * already");
        assert!(matches!(rules.add(rule("api", "*")), Err(RuleError::Stars(..))));
        rules.add(rule("db", "postgres")).unwrap();
        assert!(rules.remove("3").is_err() && rules.remove("0").is_err() && rules.remove("x").is_err());
        assert_eq!(rules.remove("db").unwrap(), rule("db", "postgres"));
        // An app may be called as a rule's index is.
        rules.add(rule("1", "one")).unwrap();
        assert_eq!(rules.remove("1").unwrap(), rule("1", "one"));
        assert_eq!(rules.remove("1").unwrap(), rule("*-staging", "*"));
        assert!(rules.is_empty());
        for bad in ["", "**", "*-*", "Api", "a b", "-x", "../*", "a=b", "é"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad:?}");
        }
    }
}
