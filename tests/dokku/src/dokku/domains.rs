//! `domains:*`: the names under which an app is reached.

use std::fs;

use super::{apps, reports};
use crate::call::Call;
use crate::outcome::{Failure, Outcome, line, step};

/// The app's names.
pub(super) fn of(call: &Call, app: &str) -> Vec<String> {
    let text = fs::read_to_string(call.layout.app(app).join("VHOST")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Runs one program of the plugin.
pub(super) fn run(call: &Call, file: &str) -> Outcome {
    match file {
        "post-create" => give_usual(call, call.arg(0)),
        "post-app-rename-setup" => give_usual(call, call.arg(1)),
        "domains-list" | "domains-urls" => {
            let scheme = if file == "domains-urls" { "http://" } else { "" };
            of(call, call.arg(0)).iter().for_each(|name| line(format_args!("{scheme}{name}")));
            Ok(())
        }
        "report" => reports::properties(call, "domains", call.arg(1)),
        _ => {
            apps::verify(&call.layout, call.arg(1))?;
            edit(call, file, call.arg(1), call.args.get(2..).unwrap_or_default())
        }
    }
}

fn give_usual(call: &Call, app: &str) -> Outcome {
    let global = fs::read_to_string(call.layout.home().join("VHOST")).unwrap_or_default();
    let names: String = global.lines().map(|host| format!("{app}.{host}\n")).collect();
    Ok(fs::write(call.layout.app(app).join("VHOST"), names)?)
}

fn edit(call: &Call, what: &str, app: &str, names: &[String]) -> Outcome {
    let valid = |name: &&String| !name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-*_".contains(&b));
    if let Some(name) = names.iter().find(valid) {
        return Err(Failure::new(format!("{name} is invalid. exiting...")));
    }
    let mut present = of(call, app);
    match what {
        "add" => present.extend(names.iter().filter(|name| !of(call, app).contains(name)).cloned()),
        "remove" => present.retain(|name| !names.contains(name)),
        "set" => present = names.to_vec(),
        "clear" => present.clear(),
        _ => return Err(Failure::new(format!("domains:{what} is not simulated"))),
    }
    let text: String = present.iter().map(|name| format!("{name}\n")).collect();
    fs::write(call.layout.app(app).join("VHOST"), text)?;
    step(format_args!("{what} {} ({app})", names.join(" ")));
    let mut args = vec![app, what];
    args.extend(names.iter().map(String::as_str));
    call.trigger("post-domains-update", &args)
}
