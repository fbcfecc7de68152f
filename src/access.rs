//! The access of a peer: which source talks to this host, and which apps it may touch. Values in, values out.
//!
//! The gate (`graduate:gate`) names the source in a variable for the command that it lets through. That command reads
//! the source's file once ([`crate::sources::access`]). No client can set the variable: sshd accepts no variable from a
//! client unless it is configured to, and a session with an ordinary Dokku key, which has no gate, cannot set one
//! either. Such a session is unlimited: the owner of an ordinary key may run every Dokku command anyway.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::mapping::Pattern;
use crate::names::{AppName, InvalidName, SourceName};

mod command;

pub use command::SourceCommand;

/// The most patterns that one source may have.
const MAX_PATTERNS: usize = 100;

/// Patterns for app names, one of which must match. Without any pattern every app matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Pattern>", into = "Vec<Pattern>")]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Whether every app matches.
    pub(crate) fn fit_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the option for the command that accepts a source with these patterns; empty if every app matches.
    pub(crate) fn option(&self) -> String {
        if self.fit_all() {
            return String::new();
        }
        let patterns: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        format!(" --only '{}'", patterns.join(","))
    }

    /// Whether the app matches.
    pub fn fit(&self, app: &AppName) -> bool {
        self.fit_all() || self.0.iter().any(|pattern| pattern.fits(app))
    }
}

impl TryFrom<Vec<Pattern>> for Patterns {
    type Error = InvalidName;
    fn try_from(patterns: Vec<Pattern>) -> Result<Self, InvalidName> {
        if patterns.len() > MAX_PATTERNS {
            return Err(InvalidName::new("a list of patterns", "", "at most 100 of them"));
        }
        Ok(Self(patterns))
    }
}

impl From<Patterns> for Vec<Pattern> {
    fn from(patterns: Patterns) -> Self {
        patterns.0
    }
}

impl FromStr for Patterns {
    type Err = InvalidName;

    /// Parses `api,web-*`.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let patterns: Vec<Pattern> = text
            .split(',')
            .take(MAX_PATTERNS + 1)
            .map(|each| each.trim_matches(' ').parse())
            .collect::<Result<_, _>>()?;
        patterns.try_into()
    }
}

impl fmt::Display for Patterns {
    /// Writes `api, web-*`; `all apps` without any pattern.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fit_all() {
            return f.write_str("all apps");
        }
        let patterns: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&patterns.join(", "))
    }
}

/// The access of a peer: its source, and the apps that it may touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    source: Option<SourceName>,
    only: Patterns,
}

/// An app that a source may not touch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this host lets {source_name} graduate only {only}, not {app}; root changes that here with `graduate:accept`"
)]
pub(crate) struct OutOfBounds {
    source_name: SourceName,
    only: Patterns,
    app: AppName,
}

impl Access {
    /// The access of a session with an ordinary Dokku key, or of this same host.
    pub(crate) fn unlimited() -> Self {
        Self::default()
    }

    /// The access of an accepted source.
    pub(crate) fn of(source: SourceName, only: Patterns) -> Self {
        Self { source: Some(source), only }
    }

    /// Returns the accepted source; `None` for an ordinary key or this same host.
    pub(crate) fn source(&self) -> Option<&SourceName> {
        self.source.as_ref()
    }

    /// Whether it may touch only some apps.
    pub(crate) fn is_limited(&self) -> bool {
        self.source.is_some() && !self.only.fit_all()
    }

    /// Whether it may touch the app. For this source other apps do not exist.
    pub(crate) fn may_touch(&self, app: &AppName) -> bool {
        self.check(app).is_ok()
    }

    /// Checks whether it may touch the app; the error says what it may touch.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub(crate) fn check(&self, app: &AppName) -> Result<(), OutOfBounds> {
        match &self.source {
            Some(source) if !self.only.fit(app) => {
                Err(OutOfBounds { source_name: source.clone(), only: self.only.clone(), app: app.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the source may see a text: it must not name any of these apps of the host that do not exist for the
    /// source.
    pub(crate) fn may_read(&self, text: &str, apps: &[AppName]) -> bool {
        let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        let mut words = text.split(|c| !is_of_a_name(c)).map(|word| word.trim_end_matches('.'));
        !words.any(|word| apps.iter().any(|app| app.as_str() == word && !self.may_touch(app)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        name.parse().unwrap()
    }

    #[test]
    fn a_source_touches_what_fits_and_nothing_else() {
        let staging: SourceName = "staging".parse().unwrap();
        let limited = Access::of(staging.clone(), "api, web-*".parse().unwrap());
        for (name, may) in
            [("api", true), ("web-1", true), ("web", false), ("api-2", false), ("worker", false)]
        {
            assert_eq!(limited.may_touch(&app(name)), may, "{name}");
        }
        let refused = limited.check(&app("worker")).unwrap_err().to_string();
        assert!(
            refused.starts_with("this host lets staging graduate only api, web-*, not worker"),
            "{refused}"
        );
        for all in [Access::unlimited(), Access::of(staging, Patterns::default())] {
            assert!(all.may_touch(&app("worker")), "{all:?}");
        }
    }

    #[test]
    fn a_text_names_no_app_that_does_not_exist_for_a_source() {
        let limited = Access::of("staging".parse().unwrap(), "api".parse().unwrap());
        let apps = [app("api"), app("web")];
        for (text, may) in [
            ("api is down", true),
            ("webs are down", true),
            ("web is down", false),
            ("/home/dokku/web/refs", false),
            ("down: web.", false),
            ("web-2 is down", true),
        ] {
            assert_eq!(limited.may_read(text, &apps), may, "{text}");
        }
        assert!(Access::unlimited().may_read("web is down", &apps));
    }

    #[test]
    fn patterns_are_parsed_with_limits() {
        for good in ["api", "api,web-*", "api, web-*", "*"] {
            assert!(good.parse::<Patterns>().is_ok(), "{good}");
        }
        let many = vec!["a"; 101].join(",");
        for bad in ["", ",", "api,", "**", "a b", "Api", "../x", "a\n", many.as_str()] {
            assert!(bad.parse::<Patterns>().is_err(), "{bad:?}");
        }
        let json = r#"["api","web-*"]"#;
        let patterns: Patterns = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&patterns).unwrap(), json);
        assert_eq!(patterns.to_string(), "api, web-*");
    }
}
