//! `checks:*`, and Dokku's own health check: the trigger `check-deploy` and the program `docker-container-healthchecker`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{appjson, apps, release, reports, settings};
use crate::call::Call;
use crate::docker::client;
use crate::outcome::{Failure, Outcome, detail, headline, step, warn};
use crate::properties::Properties;

/// How long a container without checks of its own must stay up; 10 s on a real host.
const UPTIME: Duration = Duration::from_millis(200);
/// How long before a check, and between attempts; 5 s on a real host.
const WAIT: Duration = Duration::from_millis(100);
/// How long old containers are kept; 60 s on a real host. Long enough for the switch of the proxy on a busy machine.
const RETIRE_AFTER_S: u64 = 20;

/// How long old containers of an app are kept, in seconds.
pub(super) fn wait_to_retire(call: &Call, app: &str) -> u64 {
    let wait = Properties::of(&call.layout, "checks", app).get_or_global("wait-to-retire");
    wait.and_then(|wait| wait.parse().ok()).unwrap_or(RETIRE_AFTER_S)
}

/// Zero downtime is off for a process type.
pub(super) fn are_disabled(call: &Call, app: &str, process: &str) -> bool {
    is_listed(call, app, "disabled", process)
}

fn is_listed(call: &Call, app: &str, list: &str, process: &str) -> bool {
    let list = Properties::of(&call.layout, "checks", app).get(list).unwrap_or_default();
    list.split(',').any(|listed| listed == "_all_" || listed == process)
}

/// Runs one program of the plugin.
pub(super) fn run(call: &Call, file: &str) -> Outcome {
    let app = call.arg(1);
    let properties = Properties::of(&call.layout, "checks", app);
    match file {
        "post-delete" => return settings::forget(call, "checks"),
        "post-app-rename-setup" => return settings::take_over(call, "checks"),
        _ => apps::verify(&call.layout, app)?,
    }
    let processes = if call.arg(2).is_empty() { "_all_" } else { call.arg(2) };
    match file {
        "report" => return reports::properties(call, "checks", app),
        "set" => return properties.set_or_unset(call.arg(2), call.arg(3)),
        _ => {}
    }
    step(format_args!("{file} zero downtime checks of {app} ({processes})"));
    for (list, member) in [("disabled", file == "disable"), ("skipped", file == "skip")] {
        let mut listed: Vec<String> =
            properties.get(list).unwrap_or_default().split(',').map(str::to_owned).collect();
        listed.retain(|name| !name.is_empty() && processes != "_all_" && name != "_all_");
        listed.retain(|name| !processes.split(',').any(|process| process == name));
        if member {
            listed.extend(processes.split(',').map(str::to_owned));
        }
        properties.set_or_unset(list, &listed.join(","))?;
    }
    Ok(())
}

/// The trigger `check-deploy <app> <container> <process> <port> <ip> <index>`.
pub(super) fn check_deploy(call: &Call) -> Outcome {
    let [app, id, process, port, ip, index] = [0, 1, 2, 3, 4, 5].map(|index| call.arg(index));
    let dyno = format!("{process}.{index}");
    if is_listed(call, app, "skipped", process) {
        headline(format_args!("Zero downtime checks have been skipped ({dyno})"));
        return Ok(());
    }
    let failed = failures(call, id, &appjson::read(call, app)?, process, ip, port);
    failed.iter().for_each(detail);
    if failed.is_empty() {
        detail(format_args!("All checks successful ({dyno})"));
        return Ok(());
    }
    release::print_log(call, id, &format!("{app} container ({dyno})"))?;
    warn(format_args!("Could not start due to {} failed checks ({dyno})", failed.len()));
    Err(Failure::Exit(1))
}

/// `docker-container-healthchecker check <container> --app-json <file> --process-type <process> --ip-address <ip> --port <port>`
/// looks, and ends with the number of checks that have failed.
pub(crate) fn program(call: &Call) -> Outcome {
    let option = |name: &str| {
        let pair = call.args.windows(2).find(|pair| pair[0] == name);
        pair.map_or("", |pair| pair[1].as_str())
    };
    if call.arg(0) != "check" {
        return Err(Failure::new(format!("docker-container-healthchecker {} is not simulated", call.arg(0))));
    }
    let text = fs::read_to_string(option("--app-json"))?;
    let content = serde_json::from_str(&text).map_err(|error| Failure::new(error.to_string()))?;
    let id = call.arg(1);
    is_up(call, id).map_err(Failure::new)?;
    let failed =
        failures(call, id, &content, option("--process-type"), option("--ip-address"), option("--port"));
    failed.iter().for_each(warn);
    match i32::try_from(failed.len()) {
        Ok(0) => Ok(()),
        count => Err(Failure::Exit(count.unwrap_or(1))),
    }
}

/// Which of the checks of a process, as app.json declares them, fail, and how.
fn failures(call: &Call, id: &str, content: &Value, process: &str, ip: &str, port: &str) -> Vec<String> {
    let own: Vec<Value> = content["healthchecks"][process].as_array().cloned().unwrap_or_default();
    let mut startup: Vec<Value> =
        own.into_iter().filter(|check| check["type"].as_str().is_none_or(|kind| kind == "startup")).collect();
    if startup.is_empty() {
        startup.push(Value::Null);
    }
    let failure = |check: &Value| {
        let outcome = match check["path"].as_str() {
            Some(path) => asks_for(call, id, check, path, ip, port),
            None => stays_up(call, id, check),
        };
        let name = check["name"].as_str().unwrap_or("check");
        outcome.err().map(|problem| format!("Failure in name='{name}': {problem}"))
    };
    startup.iter().filter_map(failure).collect()
}

fn seconds(check: &Value, field: &str) -> Option<Duration> {
    check[field].as_f64().map(Duration::from_secs_f64)
}

/// The container must be up, without having been started again, for a while.
fn stays_up(call: &Call, id: &str, check: &Value) -> Result<(), String> {
    // On a busy machine what ends at once does so later: as much later as this takes longer.
    let _ = call.command("sh").args(["-c", "exec sh -c :"]).status();
    let deadline = Instant::now() + seconds(check, "uptime").unwrap_or(UPTIME);
    loop {
        is_up(call, id)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(20)));
    }
}

fn is_up(call: &Call, id: &str) -> Result<(), String> {
    let container = client::container(&call.layout, id).map_err(|_| "the daemon does not answer")?;
    let container = container.ok_or("no such container")?;
    let running = container["State"]["Running"] == true && container["State"]["Restarting"] != true;
    if running && container["RestartCount"] == 0 {
        Ok(())
    } else {
        Err("container state is not running".to_owned())
    }
}

/// The container must answer a request, in one of several attempts.
fn asks_for(call: &Call, id: &str, check: &Value, path: &str, ip: &str, port: &str) -> Result<(), String> {
    let attempts = check["attempts"].as_u64().filter(|count| *count > 0).unwrap_or(3);
    let timeout = seconds(check, "timeout").unwrap_or(Duration::from_secs(5));
    let mut problem = String::new();
    for _ in 0..attempts {
        thread::sleep(seconds(check, "wait").unwrap_or(WAIT));
        is_up(call, id)?;
        match get(&format!("{ip}:{port}"), path, timeout) {
            Ok((status, body)) if (200..400).contains(&status) => {
                let content = check["content"].as_str().unwrap_or_default();
                if body.contains(content) {
                    return Ok(());
                }
                problem = format!("unable to find expected content in response body: {content}");
            }
            Ok((status, _)) => problem = format!("unexpected status code: expected 2xx, got {status}"),
            Err(error) => problem = error.to_string(),
        }
    }
    Err(problem)
}

fn get(address: &str, path: &str, timeout: Duration) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let response = String::from_utf8_lossy(&response).into_owned();
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, response))
}
