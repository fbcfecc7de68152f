//! The routes of one graduation: each app of its state with its name on the destination.

use std::collections::{BTreeMap, BTreeSet};

use super::{DestinationApp, Mapping};
use crate::names::{AppName, EnvironmentName, InvalidName};

/// Why a state cannot be mapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MappingProblem {
    /// Several apps would become one.
    #[error(
        "{} would all become {there}; `dokku graduate:map {environment}` lists the rules",
        apps.iter().map(AppName::as_str).collect::<Vec<_>>().join(" and ")
    )]
    OneOfMany {
        /// The app there.
        there: DestinationApp,
        /// The apps of the state.
        apps: Vec<AppName>,
        /// The environment.
        environment: EnvironmentName,
    },
    /// A rule turns the name into an invalid one.
    #[error("{app} cannot be mapped: {source}; `dokku graduate:map {environment}` lists the rules")]
    NoName {
        /// The app of the state.
        app: AppName,
        /// The rule that the name breaks.
        source: InvalidName,
        /// The environment.
        environment: EnvironmentName,
    },
    /// On this same host every app needs another name.
    #[error(
        "{0} is this same host, so its apps need other names than those that graduate to it; \
         say which, as in `dokku graduate:map {0} '*-staging' '*'`"
    )]
    NoRules(EnvironmentName),
    /// On this same host an app would be both source and destination of a graduation.
    #[error(
        "{app} would become {there} on this same host, but {there} is an app that graduates itself; \
         `dokku graduate:map {environment}` lists the rules"
    )]
    InCircles {
        /// The app of the state.
        app: AppName,
        /// What it would become.
        there: DestinationApp,
        /// The environment.
        environment: EnvironmentName,
    },
}

/// Which app of a state becomes which app of one destination. Computed once per graduation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    there: BTreeMap<AppName, DestinationApp>,
    here: BTreeMap<DestinationApp, AppName>,
    /// Apps there to which nothing graduates, but which are not foreign to the state: the state's own apps, if the
    /// destination is this same host, and the apps that excluded apps are mapped to.
    shared: BTreeSet<DestinationApp>,
    /// Apps of the state that no rule matches: they do not graduate.
    pub unmapped: Vec<AppName>,
    /// Why the state cannot be mapped; an app with a problem has no route.
    pub problems: Vec<MappingProblem>,
}

impl Routes {
    /// Finds the routes of these apps, without the `excluded` ones, to an environment. `is_local`: it is on the same
    /// host.
    pub(crate) fn of<'a>(
        mapping: &Mapping,
        apps: impl IntoIterator<Item = &'a AppName>,
        excluded: &BTreeSet<AppName>,
        environment: &EnvironmentName,
        is_local: bool,
    ) -> Self {
        let mut routes = Self::default();
        let mut wanted: BTreeMap<DestinationApp, Vec<AppName>> = BTreeMap::new();
        let environment = || environment.clone();
        for app in apps {
            if is_local {
                routes.shared.insert(DestinationApp(app.clone()));
            }
            match mapping.there(app) {
                there if excluded.contains(app) => routes.shared.extend(there.ok().flatten()),
                Ok(Some(there)) => wanted.entry(there).or_default().push(app.clone()),
                Ok(None) => routes.unmapped.push(app.clone()),
                Err(source) => {
                    let problem =
                        MappingProblem::NoName { app: app.clone(), source, environment: environment() };
                    routes.problems.push(problem);
                }
            }
        }
        if is_local && mapping.is_empty() {
            routes.problems.push(MappingProblem::NoRules(environment()));
            return routes;
        }
        let graduating: BTreeSet<AppName> = wanted.values().flatten().cloned().collect();
        for (there, apps) in wanted {
            match apps.as_slice() {
                [app] if is_local && graduating.contains(there.name()) => {
                    let app = app.clone();
                    routes.problems.push(MappingProblem::InCircles {
                        app,
                        there,
                        environment: environment(),
                    });
                }
                [app] => {
                    routes.there.insert(app.clone(), there.clone());
                    routes.here.insert(there, app.clone());
                }
                _ => {
                    let environment = environment();
                    routes.problems.push(MappingProblem::OneOfMany { there, apps, environment });
                }
            }
        }
        // On this same host an app that another one becomes does not count as unmapped: it belongs to the destination.
        let is_destination = |app: &AppName| routes.here.contains_key(&DestinationApp(app.clone()));
        if is_local {
            let unmapped = std::mem::take(&mut routes.unmapped);
            routes.unmapped = unmapped.into_iter().filter(|app| !is_destination(app)).collect();
        }
        routes
    }

    /// Returns the name of an app of the state there; `None` if it does not graduate.
    pub(crate) fn there(&self, app: &AppName) -> Option<&DestinationApp> {
        self.there.get(app)
    }

    /// Returns the app of the state that becomes this app there.
    pub(crate) fn here(&self, there: &DestinationApp) -> Option<&AppName> {
        self.here.get(there)
    }

    /// Whether the state does not concern this app there, so that it is left alone.
    pub(crate) fn is_foreign(&self, there: &DestinationApp) -> bool {
        !self.here.contains_key(there) && !self.shared.contains(there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        name.parse().unwrap()
    }

    fn routes(mapping_text: &str, apps: &str, is_local: bool) -> Routes {
        let apps: Vec<AppName> = apps.split(' ').map(app).collect();
        Routes::of(
            &mapping_text.parse().unwrap(),
            &apps,
            &BTreeSet::new(),
            &"production".parse().unwrap(),
            is_local,
        )
    }

    fn pairs(routes: &Routes) -> Vec<String> {
        routes.there.iter().map(|(here, there)| format!("{here}={there}")).collect()
    }

    #[test]
    fn what_would_collide_is_refused_with_all_names() {
        let two = routes("*-staging=* *-test=*", "api-staging api-test web-staging other", false);
        assert_eq!(pairs(&two), ["web-staging=web"]);
        assert_eq!(two.unmapped, [app("other")]);
        let text = two.problems[0].to_string();
        assert!(text.starts_with("api-staging and api-test would all become api;"), "{text}");
        let none = routes("x*=*", "x-y", false);
        assert!(none.problems[0].to_string().contains("\"-y\" is not the name of an app"));
    }

    #[test]
    fn on_the_same_host_the_apps_of_both_are_told_apart() {
        let same = routes("*-staging=*", "api api-staging cron web-staging", true);
        assert_eq!(pairs(&same), ["api-staging=api", "web-staging=web"]);
        assert_eq!((same.unmapped.as_slice(), same.problems.len()), ([app("cron")].as_slice(), 0));
        let foreign = |name: &str| same.is_foreign(&app(name).into());
        assert!(!foreign("api") && !foreign("api-staging") && !foreign("cron") && foreign("new"));
        let circle = routes("*=*-live", "api api-live", true);
        let text = circle.problems[0].to_string();
        assert!(text.starts_with("api would become api-live on this same host"), "{text}");
        assert!(matches!(routes("", "api", true).problems[..], [MappingProblem::NoRules(_)]));
        assert!(routes("*=*", "api", false).problems.is_empty());
    }
}
