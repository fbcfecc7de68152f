//! One container of a deploy: made, started, checked, and then live.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use super::environment::Environment;
use super::{procfile, ps, release};
use crate::call::Call;
use crate::docker::client::{self, ask};
use crate::docker::model::{Recipe, Request, RestartPolicy};
use crate::files;
use crate::outcome::{Context, Failure, Outcome, detail};
use crate::retire;

/// `bin/scheduler-deploy-process-container <app> <image> <process> <index>`.
///
/// A signal ends this process without a trace; only a check that fails stops the new container.
pub(super) fn deploy(call: &Call) -> Outcome {
    let [app, image, process, index] = [0, 1, 2, 3].map(|index| call.arg(index));
    let dyno = format!("{process}.{index}");
    let port = match process {
        "web" => ask(&call.layout, &Request::Port)?.to_string(),
        _ => String::new(),
    };
    let id = create(call, app, image, process, &dyno, &port)?;
    call.trigger("post-container-create", &["app", &id, app, "deploy", process])?;
    if let Err(failure) = ask(&call.layout, &Request::Start { name: id.clone() }) {
        failure.report();
    }
    let address = address(call, &id)?;
    if call.var("DOKKU_CHECKS_DISABLED").is_none_or(|disabled| disabled != "true") {
        detail(format_args!("Attempting pre-flight checks ({dyno})"));
        if call.trigger("check-deploy", &[app, &id, process, &port, &address, index]).is_err() {
            stop_refused(call, app, &id, &dyno)?;
            return Err(Failure::Exit(137));
        }
    }
    go_live(call, app, &id, &dyno, &port, &address)
}

fn create(call: &Call, app: &str, image: &str, process: &str, dyno: &str, port: &str) -> Outcome<String> {
    let command = procfile::commands(call, app).and_then(|mut commands| commands.remove(process));
    let mut env = Environment::merged(&call.layout, app);
    env.insert("PORT".to_owned(), port.to_owned());
    env.insert("DYNO".to_owned(), dyno.to_owned());
    let mut labels: BTreeMap<String, String> = release::container_labels(app);
    labels.insert("com.dokku.process-type".to_owned(), process.to_owned());
    labels.insert("com.dokku.dyno".to_owned(), dyno.to_owned());
    let number = u16::from_str_radix(&files::random_hex(2)?, 16).map_err(Failure::new)?;
    let policy = ps::get(call, app, "restart-policy").unwrap_or_else(|| "on-failure:10".to_owned());
    let recipe = Recipe {
        name: format!("{app}.{dyno}.upcoming-{}", number % 32768),
        image: image.to_owned(),
        labels,
        env: env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        command: vec!["sh".to_owned(), "-c".to_owned(), command.unwrap_or_else(|| format!("sh ./{process}"))],
        restart: RestartPolicy::parse(&policy),
        network: true,
    };
    let id = ask(&call.layout, &Request::Create(recipe))?;
    Ok(id.as_str().unwrap_or_default().to_owned())
}

/// The address of a container; empty if it does not run.
pub(super) fn address(call: &Call, id: &str) -> Outcome<String> {
    let container = client::container(&call.layout, id)?.unwrap_or_default();
    Ok(container["NetworkSettings"]["IPAddress"].as_str().unwrap_or_default().to_owned())
}

/// How long Dokku's timer may let what is to be retired wait, in seconds. What is refused is mostly built again by then, from
/// Docker's cache to the very same image: retired at once, as old containers are here, it would be gone between such a
/// build and its first container far more often than on a real host.
const TIMER_S: u64 = 300;

/// Stops a container that did not pass its checks. It stays until it is retired, or the app is built again.
fn stop_refused(call: &Call, app: &str, id: &str, dyno: &str) -> Outcome {
    retire::register(&call.layout, app, id, wait_to_retire(call) + TIMER_S)?;
    let directory = call.layout.data("scheduler-docker-local", app);
    fs::create_dir_all(&directory)?;
    let path = directory.join("failed-containers");
    let mut list = fs::File::options().create(true).append(true).open(&path).context(path.display())?;
    writeln!(list, "{id} {dyno}")?;
    let name = id.to_owned();
    let _ = ask(&call.layout, &Request::Update { name: name.clone(), restart: RestartPolicy::parse("no") });
    let _ = ask(&call.layout, &Request::Stop { name, timeout_s: 10 });
    Ok(())
}

/// How long what is old or refused is kept, in seconds, as this deploy has been told.
fn wait_to_retire(call: &Call) -> u64 {
    call.var("DOKKU_WAIT_TO_RETIRE").and_then(|wait| wait.parse().ok()).unwrap_or(1)
}

/// The new container takes the old one's place in the app's files; the old one waits for its end.
fn go_live(call: &Call, app: &str, id: &str, dyno: &str, port: &str, address: &str) -> Outcome {
    let root = call.layout.app(app);
    let file = root.join(format!("CONTAINER.{dyno}"));
    let wait = wait_to_retire(call);
    if let Ok(old) = fs::read_to_string(&file) {
        detail(format_args!("Scheduling old container shutdown in {wait} seconds ({dyno})"));
        retire::register(&call.layout, app, old.trim(), wait)?;
    }
    fs::write(file, format!("{id}\n"))?;
    if !address.is_empty() {
        fs::write(root.join(format!("IP.{dyno}")), format!("{address}\n"))?;
    }
    if !port.is_empty() {
        fs::write(root.join(format!("PORT.{dyno}")), format!("{port}\n"))?;
    }
    Ok(())
}
