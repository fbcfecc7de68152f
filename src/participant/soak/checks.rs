//! Runs Dokku's health checks of the live containers again and again during the soak, on a thread of its own.
//!
//! Only those checks are run again that an app declares in its app.json for its start, and that want nothing but an
//! answer at a path. Dokku's checking program only looks, whereas `dokku checks:run` stops a container whose check
//! fails. It gets the same arguments as from `check-deploy` (Dokku's `plugins/scheduler-docker-local/check-deploy`),
//! but does not run as root.
//!
//! Not run again: whether a container runs, which the watch sees; commands in a container, which may be meant for its
//! start only and which we could not end; whether something listens in it, for which Dokku's program must be root. What
//! a check does about its own failure (`onFailure`) is left out.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::docker::{self, Container, DockerError};
use crate::dokku::{Dokku, DokkuError};
use crate::files::FileError;
use crate::names::AppName;
use crate::participant::app::kind_of;
use crate::participant::store::Store;
use crate::process::{ProcessError, Program};
use crate::vars::Vars;

/// Dokku's checking program.
const CHECKER: &str = "docker-container-healthchecker";

/// How long, in seconds, all attempts of a check may take: a check that could take longer gets fewer attempts. And
/// Dokku's defaults.
const LIMIT_S: u64 = 60;
const TIMEOUT_S: u64 = 5;
const WAIT_S: u64 = 5;
const ATTEMPTS: u64 = 3;

/// How long Dokku's programs may take at most. One that takes longer gives no result.
const PATIENCE: Duration = Duration::from_secs(2 * LIMIT_S);

/// What Dokku's program writes before the name of a check that has failed.
const FAILURE: &str = "Failure in name='";

/// The fields of a check that are passed on, besides its name and its attempts.
const FIELDS: [&str; 8] = ["type", "path", "port", "scheme", "content", "httpHeaders", "timeout", "wait"];

/// The result of a container's checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// Its app.
    pub(super) app: AppName,
    /// Its process with its number: `web.1`.
    pub(super) process: String,
    /// Its id.
    pub(super) container: String,
    /// Which check has failed, and how; `None` if all have passed.
    pub(super) failure: Option<String>,
}

/// Why the checks could not be run.
#[derive(Debug, thiserror::Error)]
enum HealthCheckError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Docker(#[from] DockerError),
    #[error(transparent)]
    Dokku(#[from] DokkuError),
    #[error(transparent)]
    Run(#[from] ProcessError),
    #[error("cannot read the app.json of {0}: {1}")]
    AppJson(AppName, #[source] serde_json::Error),
}

/// Runs the checks.
pub(super) struct Checks {
    pub(super) vars: Vars,
    pub(super) store: Store,
    /// The pause after each round.
    pub(super) interval: Duration,
    /// Receives the results.
    pub(super) sender: Sender<Checked>,
}

impl Checks {
    /// Runs them from now on, until there is a verdict or the receiver no longer exists.
    pub(super) fn begin(self) {
        thread::spawn(move || {
            while self.store.verdict().is_none() && !self.store.is_settled() {
                match self.ask_all() {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => log::warn!("{error}"),
                }
                thread::sleep(self.interval);
            }
        });
    }

    /// Runs one round; reports whether another one makes sense. An error of one app concerns that app alone.
    fn ask_all(&self) -> Result<bool, FileError> {
        let mut logs = self.store.opened()?;
        logs.retain(|_, log| log.end.is_none());
        for app in logs.into_keys() {
            match self.ask(&app) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(HealthCheckError::Run(error @ ProcessError::Start { .. })) => {
                    log::warn!("health checks are not run again: {error}");
                    return Ok(false);
                }
                Err(error) => log::warn!("{error}"),
            }
        }
        Ok(true)
    }

    /// Does the same for the containers of an app, one after another.
    fn ask(&self, app: &AppName) -> Result<bool, HealthCheckError> {
        let dokku = Dokku::new(&self.vars);
        let declared = self.declared(&dokku, app)?;
        let mut named = dokku.containers(app);
        named.retain(|process, _| {
            declared.contains_key(kind_of(process)) && dokku.runs_checks(app, kind_of(process))
        });
        let found = docker::containers(&named.values().collect::<Vec<_>>())?;
        for (process, id) in named {
            let container = found.iter().find(|one| one.id == id && one.is_running());
            let Some(arguments) =
                container.map(|one| arguments(&dokku, app, &process, one)).transpose()?.flatten()
            else {
                continue;
            };
            let checks = declared[kind_of(&process)].to_string();
            let program = Program::new(CHECKER).args(arguments).input(checks).within(PATIENCE);
            let (status, _, stderr) = program.capture()?;
            let stderr = String::from_utf8_lossy(&stderr);
            let Some(failure) = what_failed(status.success(), &stderr) else {
                log::warn!("the health checks of {app} said nothing: {stderr}");
                continue;
            };
            let checked = Checked { app: app.clone(), process, container: id, failure };
            if self.sender.send(checked).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the checks to run again, by process, each set in the form of the app.json that Dokku's program reads.
    fn declared(&self, dokku: &Dokku, app: &AppName) -> Result<BTreeMap<String, Value>, HealthCheckError> {
        // Dokku accepts comments in app.json, so it must read the file for us; most apps need no such call.
        if !dokku.app_json(app, None).is_some_and(|text| text.contains("healthchecks")) {
            return Ok(BTreeMap::new());
        }
        let content = Program::new("plugn").args(["trigger", "app-json-get-content", app.as_str()]);
        let content = content.within(PATIENCE).read()?;
        let content =
            serde_json::from_str(&content).map_err(|error| HealthCheckError::AppJson(app.clone(), error))?;
        Ok(asked_again(&content))
    }
}

/// Returns the arguments of Dokku's program for a container; `None` if Dokku names no address that is the container's
/// own: then something else could answer.
fn arguments(
    dokku: &Dokku,
    app: &AppName,
    process: &str,
    container: &Container,
) -> Result<Option<Vec<String>>, HealthCheckError> {
    let address = dokku.live_file(app, "IP", process).and_then(|ip| ip.parse().ok());
    let Some(address) = address.filter(|ip| container.has_address(*ip)) else { return Ok(None) };
    let words = ["check", &container.id, "--app-json", "/dev/stdin", "--process-type", kind_of(process)];
    let mut arguments = words.map(str::to_owned).to_vec();
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    option("--ip-address", address.to_string());
    if let Some(port) = dokku.live_file(app, "PORT", process) {
        option("--port", port);
    }
    if dokku.has_certificate(app) {
        option("--header", "X-Forwarded-Proto: https".to_owned());
    }
    let mut hosts = if dokku.config(app)?.get("NO_VHOST").is_some_and(|no| no == "1") {
        Vec::new()
    } else {
        dokku.domains(app)
    };
    hosts.retain(|host| host != "localhost" && host != "*");
    if let Some(host) = hosts.first() {
        option("--header", format!("Host: {host}"));
    }
    Ok(Some(arguments))
}

/// Returns those checks of an app.json that are run again, by process.
fn asked_again(content: &Value) -> BTreeMap<String, Value> {
    let declared = content["healthchecks"].as_object().into_iter().flatten();
    let of_process = |(process, checks): (&String, &Value)| {
        let asked: Vec<Value> = checks.as_array()?.iter().filter_map(asked).collect();
        let checks = json!({ "healthchecks": { process: asked } });
        (!asked.is_empty()).then(|| (process.clone(), checks))
    };
    declared.filter_map(of_process).collect()
}

/// Returns a check in the form in which it is run again; `None` if it is not.
fn asked(check: &Value) -> Option<Value> {
    let path = check["path"].as_str().filter(|path| !path.is_empty())?;
    let has_command = check["command"].as_array().is_some_and(|words| !words.is_empty());
    if check["type"] != "startup" || check["warn"] == true || has_command {
        return None;
    }
    let fields = FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), check.get(name)?.clone())));
    let mut asked: Map<String, Value> = fields.collect();
    let name = check["name"].as_str().filter(|name| !name.is_empty());
    asked.insert("name".to_owned(), name.unwrap_or(path).into());
    let number = |name: &str, default| check[name].as_u64().filter(|number| *number > 0).unwrap_or(default);
    let (timeout, wait) = (number("timeout", TIMEOUT_S), number("wait", WAIT_S));
    let fitting = LIMIT_S.saturating_add(wait) / timeout.saturating_add(wait);
    asked.insert("attempts".to_owned(), number("attempts", ATTEMPTS).min(fitting).max(1).into());
    Some(asked.into())
}

/// Returns what Dokku's program said: which check has failed, or that none has; `None` if it could not run them.
fn what_failed(has_succeeded: bool, stderr: &str) -> Option<Option<String>> {
    if has_succeeded {
        return Some(None);
    }
    let (_, failure) = stderr.lines().find_map(|line| line.split_once(FAILURE))?;
    let (name, how) = failure.split_once("': ").unwrap_or((failure, "it failed"));
    Some(Some(format!("`{name}`: {how}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_a_path_at_a_start_is_asked_again() {
        let content = json!({ "healthchecks": {
            "web": [
                { "type": "startup", "name": "it answers", "path": "/health", "attempts": 2, "content": "ok",
                  "initialDelay": 30, "onFailure": { "command": ["reboot"] } },
                { "type": "startup", "path": "/slow", "timeout": 30, "attempts": 10 },
                { "type": "startup", "uptime": 10 },
                { "type": "startup", "command": ["bin/migrate"] },
                { "type": "startup", "command": ["bin/migrate"], "path": "/" },
                { "type": "startup", "listening": true },
                { "type": "startup", "path": "/", "warn": true },
                { "type": "liveness", "path": "/" },
                { "path": "/" },
            ],
            "worker": [{ "type": "startup", "uptime": 10 }],
        } });
        let web = json!({ "healthchecks": { "web": [
            { "type": "startup", "name": "it answers", "path": "/health", "attempts": 2, "content": "ok" },
            { "type": "startup", "name": "/slow", "path": "/slow", "timeout": 30, "attempts": 1 },
        ] } });
        assert_eq!(asked_again(&content), BTreeMap::from([("web".to_owned(), web)]));
        for nothing in
            [json!({}), json!(null), json!({ "healthchecks": [] }), json!({ "healthchecks": { "web": {} } })]
        {
            assert_eq!(asked_again(&nothing), BTreeMap::new(), "{nothing}");
        }
    }

    #[test]
    fn attempts_fit_into_a_minute() {
        for (check, attempts) in [
            (json!({}), 3),
            (json!({ "attempts": 100 }), 6),
            (json!({ "attempts": 100, "timeout": 1, "wait": 1 }), 30),
            (json!({ "attempts": 2, "timeout": 600 }), 1),
            (json!({ "attempts": -1, "timeout": u64::MAX, "wait": u64::MAX }), 1),
        ] {
            let mut check = check;
            (check["type"], check["path"]) = ("startup".into(), "/".into());
            assert_eq!(asked(&check).unwrap()["attempts"], attempts, "{check}");
        }
    }

    /// In the words of version 0.16 of Dokku's program.
    #[test]
    fn what_could_not_be_asked_has_not_failed() {
        let bold = "\u{1b}[1m\u{1b}[31m !     \u{1b}[0m\u{1b}[0m";
        let failure = format!("{bold}Failure in name='it answers': unexpected status code: 404\n");
        let failed = what_failed(false, &failure).unwrap().unwrap();
        assert_eq!(failed, "`it answers`: unexpected status code: 404");
        assert_eq!(what_failed(true, &format!("{bold}Missing type field")), Some(None));
        for unknown in ["", "No such container: abc", "failed to connect to the docker API"] {
            assert_eq!(what_failed(false, &format!("{bold}{unknown}\n")), None, "{unknown}");
        }
    }
}
