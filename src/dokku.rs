//! Reads the state of this host's Dokku from Dokku's own files, because one `dokku` command costs a third of a second.
//!
//! It writes nothing but the property `source-image`. Dokku's source says where Dokku keeps what,
//! `plugins/common/properties.go` first of all; a property is the file `<lib root>/config/<plugin>/<app>/<property>`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::factors::{self, RawFactors};
use crate::files::{self, FileError};
use crate::names::{AppName, FoundApp, InvalidName};
use crate::procfile;
use crate::protocol::HoldPoint;
use crate::repo;
use crate::sendable::{self, BuildSettings};
use crate::vars::Vars;

mod refs;
mod revision;

/// The largest property that is read, in bytes; a larger one counts as absent.
const MAX_PROPERTY: u64 = 256 * 1024;

/// The largest file of config variables that is read, in bytes.
const MAX_CONFIG: u64 = 4 << 20;

/// The directory of properties that belong to no app.
const GLOBAL: &str = "--global";

/// Dokku's files could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DokkuError {
    /// The apps cannot be listed.
    #[error("cannot list the apps: {0}; is DOKKU_ROOT right, and do we run as the user dokku?")]
    ListApps(#[source] FileError),
    /// The config variables of an app, or of all apps, cannot be read.
    #[error("cannot read the config of {owner}: {source}")]
    ReadConfig {
        /// The app, or `--global`.
        owner: String,
        /// The system's answer.
        source: FileError,
    },
    /// A line of that file has another format than Dokku's. Its text is not shown: it may be a secret.
    #[error("cannot read the config of {owner}: line {line} of {} {problem}; `dokku config:show {owner}` must work", path.display())]
    ParseConfig {
        /// The app, or `--global`.
        owner: String,
        /// The file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The deploy branch has a name that git does not allow.
    #[error(
        "Dokku cannot deploy the deploy branch of {app}: {source}; set another one with `dokku git:set {app} deploy-branch NAME`"
    )]
    Branch {
        /// The app.
        app: AppName,
        /// The rule that it breaks.
        source: InvalidName,
    },
    /// The app's repository cannot be read, or has an unsupported format.
    #[error("cannot read the repository of {app}: {reason}")]
    Repository {
        /// The app.
        app: AppName,
        /// Why, and the remedy.
        reason: String,
    },
}

/// The apps in Dokku's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Apps {
    /// The apps, sorted.
    pub names: Vec<AppName>,
    /// Apps whose names cannot be carried, sorted. Only their existence is known.
    pub misnamed: Vec<FoundApp>,
}

/// An app that runs on this host and that no graduation can carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uncarried {
    /// The app.
    pub app: FoundApp,
    /// Why, and the remedy.
    pub why: String,
}

impl fmt::Display for Uncarried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} runs here and cannot be graduated: {}", self.app, self.why)
    }
}

/// The Dokku of this host.
#[derive(Clone, Debug)]
pub(crate) struct Dokku {
    root: PathBuf,
    data: PathBuf,
    properties: PathBuf,
}

impl Dokku {
    /// The Dokku at the paths that the environment variables name.
    pub(crate) fn new(vars: &Vars) -> Self {
        let lib = &vars.lib_root;
        Self { root: vars.dokku_root.clone(), data: lib.join("data"), properties: lib.join("config") }
    }

    /// The containers that Dokku will retire. They run on for some minutes, under any name: of two restarts at once,
    /// the containers of the first keep their upcoming names. A missing list counts as empty.
    pub(crate) fn retired_containers(&self) -> BTreeSet<String> {
        let list = self.data.join("scheduler-docker-local/dead-containers");
        let text = fs::read_to_string(list).unwrap_or_default();
        text.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
    }

    /// All apps. Leaves out directories of Dokku's root that are not apps.
    ///
    /// # Errors
    /// [`DokkuError::ListApps`].
    pub(crate) fn apps(&self) -> Result<Apps, DokkuError> {
        let failed = || FileError::of("list", &self.root);
        let entries = fs::read_dir(&self.root).map_err(failed()).map_err(DokkuError::ListApps)?;
        let mut apps = Apps::default();
        for entry in entries {
            let entry = entry.map_err(failed()).map_err(DokkuError::ListApps)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match (name.parse::<AppName>(), name.parse::<FoundApp>()) {
                (Ok(app), _) => apps.names.extend(Some(app).filter(|app| self.exists(app))),
                (Err(_), Ok(found)) if entry.path().join("refs").is_dir() => apps.misnamed.push(found),
                (Err(_), _) => {}
            }
        }
        apps.names.sort();
        apps.misnamed.sort();
        Ok(apps)
    }

    /// The apps that run here and cannot be carried.
    ///
    /// # Errors
    /// [`DokkuError::ListApps`].
    pub(crate) fn uncarried(&self) -> Result<Vec<Uncarried>, DokkuError> {
        let Apps { names, misnamed } = self.apps()?;
        let misnamed = misnamed.into_iter().filter(|app| self.was_deployed(app.as_str())).map(|app| {
            let rule = app.as_str().parse::<AppName>().err().map_or(String::new(), |error| error.to_string());
            let why = format!(
                "{rule}; give it another name with `dokku apps:rename {app} NAME`, or leave it out with \
                 `dokku graduate:set --global exclude {app}`"
            );
            Uncarried { app, why }
        });
        let foreign = names.into_iter().filter(|app| self.is_deployed(app)).filter_map(|app| {
            let why = repo::foreign_format(&self.repository(&app))?;
            Some(Uncarried { app: app.into(), why })
        });
        Ok(misnamed.chain(foreign).collect())
    }

    fn was_deployed(&self, app: &str) -> bool {
        self.raw_property("common", app, "deployed").as_deref() == Some("true")
    }

    /// Reports whether an app has this name: a directory with `refs/`, or one that `apps:create` has recorded.
    pub(crate) fn exists(&self, app: &AppName) -> bool {
        let repository = self.repository(app);
        repository.join("refs").is_dir()
            || (repository.is_dir() && self.property_path("apps", app.as_str(), "created-at").is_file())
    }

    /// The app's bare repository, which is its directory.
    pub(crate) fn repository(&self, app: &AppName) -> PathBuf {
        self.root.join(app.as_str())
    }

    /// The file of the app's deploy lock. A push and `ps:rebuild` hold it (flock(2)) until they end; a restart does not
    /// take it.
    pub(crate) fn deploy_lock(&self, app: &AppName) -> PathBuf {
        self.data.join("apps").join(app.as_str()).join(".deploy.lock")
    }

    fn property_path(&self, plugin: &str, owner: &str, name: &str) -> PathBuf {
        self.properties.join(plugin).join(owner).join(name)
    }

    fn raw_property(&self, plugin: &str, owner: &str, name: &str) -> Option<String> {
        let bytes = files::read(&self.property_path(plugin, owner, name), MAX_PROPERTY).ok()??;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// A property of an app, trimmed; none if it is absent or empty.
    pub(crate) fn property(&self, plugin: &str, app: &AppName, name: &str) -> Option<String> {
        self.raw_property(plugin, app.as_str(), name).filter(|value| !value.is_empty())
    }

    /// Sets the image from which Dokku takes the app's files; an empty name stands for none.
    ///
    /// # Errors
    /// The property cannot be written.
    pub(crate) fn set_source_image(&self, app: &AppName, image: &str) -> Result<(), FileError> {
        let path = self.property_path("git", app.as_str(), "source-image");
        if self.property("git", app, "source-image").unwrap_or_default() == image {
            return Ok(());
        }
        path.parent().map_or(Ok(()), files::make_dir)?;
        files::replace(&path, image.as_bytes())
    }

    /// The directory with the app's own logins at registries, for `DOCKER_CONFIG`; none if the app has no login.
    ///
    /// Source: Dokku's `plugins/common/functions`, `fn-registry-docker-config-dir`.
    pub(crate) fn registry_login(&self, app: &AppName) -> Option<PathBuf> {
        let dir = self.properties.join("registry").join(app.as_str());
        let text = files::read(&dir.join("config.json"), MAX_PROPERTY).ok().flatten()?;
        let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
        config["auths"].as_object().is_some_and(|logins| !logins.is_empty()).then_some(dir)
    }

    /// The lines of a property that is a list; empty if it is absent.
    pub(crate) fn property_lines(&self, plugin: &str, app: &AppName, name: &str) -> Vec<String> {
        lines(&self.property(plugin, app, name).unwrap_or_default())
    }

    /// The names of an app's properties.
    pub(crate) fn property_names(&self, plugin: &str, app: &AppName) -> Vec<String> {
        names_in(&self.properties.join(plugin).join(app.as_str()))
    }

    /// The JSON text in which Dokku's storage plugin records an entry; none if the entry does not exist or its name is
    /// not plain.
    pub(crate) fn storage_entry(&self, name: &str) -> Option<String> {
        let is_plain = !name.starts_with('.') && !name.contains('/');
        let path = self.data.join("storage-registry/entries").join(format!("{name}.json"));
        let bytes = files::read(&path, MAX_PROPERTY).ok().flatten().filter(|_| is_plain)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A property that belongs to no app.
    pub(crate) fn global_property(&self, plugin: &str, name: &str) -> Option<String> {
        self.raw_property(plugin, GLOBAL, name).filter(|value| !value.is_empty())
    }

    /// A property of an app, or the global one if the app has none.
    pub(crate) fn property_or_global(&self, plugin: &str, app: &AppName, name: &str) -> Option<String> {
        self.property(plugin, app, name).or_else(|| self.global_property(plugin, name))
    }

    /// Reports whether a deploy of the app ever succeeded.
    pub(crate) fn is_deployed(&self, app: &AppName) -> bool {
        self.was_deployed(app.as_str())
    }

    /// Reports whether the app was stopped (`ps:stop`): Dokku does not start it when the host boots.
    pub(crate) fn is_stopped(&self, app: &AppName) -> bool {
        self.property("ps", app, "restore").as_deref() == Some("false")
    }

    /// The config variable in which Dokku records the revision (`git:set <app> rev-env-var`); none if it records none.
    pub(crate) fn revision_variable(&self, app: &AppName) -> Option<String> {
        match self.raw_property("git", app.as_str(), "rev-env-var") {
            None => Some("GIT_REV".to_owned()),
            Some(name) if name.is_empty() => None,
            Some(name) => Some(name),
        }
    }

    /// The file of an app's config variables.
    pub(crate) fn config_path(&self, app: &AppName) -> PathBuf {
        self.properties.join(app.as_str()).join("ENV")
    }

    /// The app's own config variables; empty if it has none.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 4 MiB, or has another format than Dokku's.
    pub(crate) fn config(&self, app: &AppName) -> Result<BTreeMap<String, String>, DokkuError> {
        read_config(app.as_str(), self.config_path(app))
    }

    /// The names of the config variables that every app has (`config:set --global`).
    ///
    /// # Errors
    /// As [`Dokku::config`].
    pub(crate) fn global_config_names(&self) -> Result<BTreeSet<String>, DokkuError> {
        let variables = read_config(GLOBAL, self.properties.join(GLOBAL).join("ENV"))?;
        Ok(variables.into_keys().collect())
    }

    /// The ids of the live containers, by process and number (`web.1`).
    pub(crate) fn containers(&self, app: &AppName) -> BTreeMap<String, String> {
        let repository = self.repository(app);
        let mut containers = BTreeMap::new();
        for name in names_in(&repository) {
            let Some(process) = name.strip_prefix("CONTAINER.") else { continue };
            let id = files::read(&repository.join(&name), 1024).ok().flatten().unwrap_or_default();
            let id = String::from_utf8_lossy(&id).trim().to_owned();
            if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                containers.insert(process.to_owned(), id);
            }
        }
        containers
    }

    /// The number of containers of each process; empty for an app that was never scaled.
    pub(crate) fn scale(&self, app: &AppName) -> BTreeMap<String, u32> {
        scale_of(&self.property("ps", app, "scale").unwrap_or_default())
    }

    /// Reports whether all of its processes are scaled to zero.
    pub(crate) fn is_scaled_to_nothing(&self, app: &AppName) -> bool {
        is_nothing(&self.scale(app))
    }

    /// The Procfile with which a deploy starts the app: the copy that the deploy with this `DOKKU_PID` has extracted,
    /// else the app's; none if there is none.
    ///
    /// Source: Dokku's `plugins/ps/functions.go`, `hasProcfile`.
    pub(crate) fn procfile(&self, app: &AppName, deploy: Option<&str>) -> Option<String> {
        self.extracted(&self.data.join("ps").join(app.as_str()).join("Procfile"), deploy)
    }

    /// The app.json with which a deploy sets up the app, found in the same way.
    pub(crate) fn app_json(&self, app: &AppName, deploy: Option<&str>) -> Option<String> {
        self.extracted(&self.data.join("app-json").join(app.as_str()).join("app.json"), deploy)
    }

    /// A file that each deploy extracts from what it builds, and keeps as its own copy until it is live.
    fn extracted(&self, of_app: &Path, deploy: Option<&str>) -> Option<String> {
        let path = |end: &str| PathBuf::from(format!("{}{end}", of_app.display()));
        let own = deploy.map(|pid| format!(".{pid}"));
        if own.as_ref().is_some_and(|own| path(&format!("{own}.missing")).exists()) {
            return None;
        }
        let paths = own.iter().map(|own| path(own)).chain([path("")]);
        let text = paths.filter_map(|path| files::read(&path, MAX_PROPERTY).ok().flatten()).next()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// Reports whether a deploy with this Procfile starts `web`: the app scales it to one at least (as an app that was
    /// never scaled will), and the Procfile, if there is one, names it.
    pub(crate) fn starts_web(&self, app: &AppName, procfile: Option<&str>) -> bool {
        let scale = self.scale(app);
        let is_scaled = scale.is_empty() || scale.get("web").is_some_and(|count| *count >= 1);
        is_scaled && procfile.is_none_or(|text| procfile::has_process(text, "web"))
    }

    /// The scheduler that runs the app.
    pub(crate) fn scheduler(&self, app: &AppName) -> String {
        self.property_or_global("scheduler", app, "selected").unwrap_or_else(|| "docker-local".to_owned())
    }

    /// Reports whether Dokku starts the app's containers on this host. It keeps no files about those of other
    /// schedulers.
    pub(crate) fn is_local(&self, app: &AppName) -> bool {
        self.scheduler(app) == "docker-local"
    }

    /// Reports whether Dokku checks new containers of a process, while the old ones run, before it stops the old ones.
    pub(crate) fn is_checked(&self, app: &AppName, process: &str) -> bool {
        let disabled = self.property("checks", app, "disabled").unwrap_or_default();
        !disabled.split(',').map(str::trim).any(|one| one == "_all_" || one == process)
    }

    /// Reports whether Dokku runs the health checks of a process: they are neither disabled nor skipped.
    pub(crate) fn runs_checks(&self, app: &AppName, process: &str) -> bool {
        let skipped = self.property("checks", app, "skipped").unwrap_or_default();
        let is_skipped = skipped.split(',').map(str::trim).any(|one| one == "_all_" || one == process);
        self.is_checked(app, process) && !is_skipped
    }

    /// What Dokku's file `IP` or `PORT` (`kind`) says of a live container; `process` is `web.1`. None if the file says
    /// nothing.
    pub(crate) fn live_file(&self, app: &AppName, kind: &str, process: &str) -> Option<String> {
        let path = self.repository(app).join(format!("{kind}.{process}"));
        let text = String::from_utf8_lossy(&files::read(&path, 1024).ok()??).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Reports whether the app has a certificate, so that Dokku's proxy serves it over HTTPS, too.
    pub(crate) fn has_certificate(&self, app: &AppName) -> bool {
        let dir = self.repository(app).join("tls");
        dir.join("server.crt").exists() && dir.join("server.key").exists()
    }

    /// The hold point of a version of the app with this Procfile.
    ///
    /// [`HoldPoint::Healthy`] requires that Dokku starts `web` (which it then starts first), runs check-deploy for it,
    /// and routes to it only after that: the scheduler docker-local, checks not disabled, and nginx or no proxy.
    pub(crate) fn hold_point(&self, app: &AppName, procfile: Option<&str>) -> HoldPoint {
        let has_web = self.starts_web(app, procfile);
        let is_local = self.is_local(app);
        let is_checked = self.is_checked(app, "web");
        let proxy = self.property_or_global("proxy", app, "type");
        let is_proxied_late = proxy.is_none_or(|name| name == "nginx")
            || self.property("proxy", app, "disabled").as_deref() == Some("true");
        if has_web && is_local && is_checked && is_proxied_late {
            HoldPoint::Healthy
        } else {
            HoldPoint::Built
        }
    }

    /// The settings that a build of the app depends on besides its revision: its own, and for names that it does not
    /// set, the global ones. The app need not exist.
    pub(crate) fn build_settings(&self, app: &AppName) -> BuildSettings {
        let mut found = RawFactors::new();
        for plugin in factors::PLUGINS {
            let of_all = names_in(&self.properties.join(plugin).join(GLOBAL));
            let names: BTreeSet<String> =
                self.property_names(plugin, app).into_iter().chain(of_all).collect();
            for name in names.into_iter().filter(|name| sendable::is_of_a_build(plugin, name)) {
                let values = lines(&self.property_or_global(plugin, app, &name).unwrap_or_default());
                if !values.is_empty() {
                    found.entry((*plugin).to_owned()).or_default().insert(name, values);
                }
            }
        }
        BuildSettings(found)
    }

    /// The app's domains, as Dokku's proxy knows them; empty if it has none.
    pub(crate) fn domains(&self, app: &AppName) -> Vec<String> {
        let domains = files::read(&self.repository(app).join("VHOST"), MAX_PROPERTY).ok().flatten();
        lines(&String::from_utf8_lossy(domains.as_deref().unwrap_or_default()))
    }

    /// Everything else that Dokku keeps for the app outside its repository, as it is stored. It may hold secrets.
    pub(crate) fn factors(&self, app: &AppName) -> RawFactors {
        let mut found = RawFactors::new();
        for plugin in factors::PLUGINS {
            for property in names_in(&self.properties.join(plugin).join(app.as_str())) {
                if factors::disclosure(plugin, &property).is_some() {
                    let values = self.property_lines(plugin, app, &property);
                    if !values.is_empty() {
                        found.entry((*plugin).to_owned()).or_default().insert(property, values);
                    }
                }
            }
        }
        let mut domains = self.domains(app);
        domains.sort();
        if !domains.is_empty() {
            found.entry("domains".to_owned()).or_default().insert("vhost".to_owned(), domains);
        }
        found
    }
}

fn read_config(owner: &str, path: PathBuf) -> Result<BTreeMap<String, String>, DokkuError> {
    let read = files::read(&path, MAX_CONFIG);
    let bytes = read.map_err(|source| DokkuError::ReadConfig { owner: owner.to_owned(), source })?;
    let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned();
    dotenv::parse(&text).map_err(|(line, problem)| DokkuError::ParseConfig {
        owner: owner.to_owned(),
        path,
        line,
        problem,
    })
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Parses the property that holds a scale.
pub(crate) fn scale_of(text: &str) -> BTreeMap<String, u32> {
    let pairs = text.lines().filter_map(|line| line.split_once('=').or_else(|| line.split_once(':')));
    pairs.filter_map(|(name, count)| Some((name.trim().to_owned(), count.trim().parse().ok()?))).collect()
}

/// Reports whether there are processes and each is scaled to zero.
pub(crate) fn is_nothing(scale: &BTreeMap<String, u32>) -> bool {
    !scale.is_empty() && scale.values().all(|count| *count == 0)
}

/// The names in a directory, sorted; empty if it cannot be read.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The format in which Dokku writes config variables: `KEY="value"` with escapes, or `KEY=12`.
///
/// Source: Dokku's `plugins/config/environment.go`, which writes with the library godotenv 1.5. What an operator adds
/// by hand (`export`, single quotes, no quotes, comments) is read as that library reads it, except for expansions.
mod dotenv {
    use std::collections::BTreeMap;

    type Problem = (usize, &'static str);

    pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, Problem> {
        let mut variables = BTreeMap::new();
        let mut rest = text;
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
            let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
            if rest.is_empty() {
                return Ok(variables);
            }
            if rest.starts_with('#') {
                rest = rest.split_once('\n').map_or("", |(_, after)| after);
                continue;
            }
            let (name, after) = name(rest).ok_or((line, "is not `NAME=value`"))?;
            let (value, after) = value(after).ok_or((line, "begins a quote that does not end"))?;
            variables.insert(name.to_owned(), value);
            rest = after;
        }
    }

    fn name(text: &str) -> Option<(&str, &str)> {
        let text = text.strip_prefix("export ").unwrap_or(text).trim_start_matches([' ', '\t']);
        let (name, after) = text.split_once('=')?;
        let name = name.trim_end_matches([' ', '\t']);
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '-';
        (!name.is_empty() && name.chars().all(allowed)).then_some((name, after))
    }

    fn value(text: &str) -> Option<(String, &str)> {
        let text = text.trim_start_matches([' ', '\t']);
        match text.chars().next() {
            Some('"') => double_quoted(&text[1..]),
            Some('\'') => {
                let (value, after) = text[1..].split_once('\'')?;
                Some((value.to_owned(), rest_of_line(after)))
            }
            _ => {
                let (line, after) = text.split_once('\n').unwrap_or((text, ""));
                let end = line.find(" #").unwrap_or(line.len());
                Some((line[..end].trim().to_owned(), after))
            }
        }
    }

    fn double_quoted(text: &str) -> Option<(String, &str)> {
        let mut value = String::new();
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => return Some((value, rest_of_line(&text[at + 1..]))),
                '\\' => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    'r' => value.push('\r'),
                    escaped => value.push(escaped),
                },
                plain => value.push(plain),
            }
        }
        None
    }

    fn rest_of_line(text: &str) -> &str {
        text.split_once('\n').map_or("", |(_, after)| after)
    }
}

#[cfg(test)]
#[path = "dokku_tests.rs"]
mod tests;
