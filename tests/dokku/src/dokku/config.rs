//! `config:*`, and the triggers of that plugin.

use std::collections::BTreeMap;

use super::apps;
use super::environment::{Environment, check_name, write};
use super::ps;
use crate::call::Call;
use crate::outcome::{Failure, Outcome, detail, headline, line, step, warn};
use crate::properties::remove_tree_if_there;

/// Runs one program of the plugin.
pub(super) fn run(call: &Call, file: &str) -> Outcome {
    let layout = &call.layout;
    match file {
        "post-create" => Environment::load(layout, call.arg(0)).save_if_missing(call),
        "post-delete" => {
            remove_tree_if_there(&layout.lib_root().join("config").join(call.arg(0)))?;
            super::settings::forget(call, "config")
        }
        "post-app-rename-setup" => {
            let mut new = Environment::load(layout, call.arg(1));
            new.values.extend(Environment::load(layout, call.arg(0)).values);
            new.save()
        }
        "config-get" => {
            if let Some(value) = Environment::load(layout, call.arg(0)).values.get(call.arg(1)) {
                print!("{value}");
            }
            Ok(())
        }
        "config-set" => Arguments::parse(&call.args).and_then(|args| set(call, &args)),
        "config-unset" => unset(call, call.arg(0), &[call.arg(1).to_owned()], call.arg(2) == "true"),
        _ => {
            let args = Arguments::parse(call.args.get(1..).unwrap_or_default())?;
            if args.app != "--global" {
                apps::verify(layout, &args.app)?;
            }
            subcommand(call, file, &args)
        }
    }
}

fn subcommand(call: &Call, name: &str, args: &Arguments) -> Outcome {
    let values = || {
        let layout = &call.layout;
        if args.merged {
            Environment::merged(layout, &args.app)
        } else {
            Environment::load(layout, &args.app).values
        }
    };
    match name {
        "set" if args.rest.is_empty() => Err(Failure::new("At least one env pair must be given")),
        "set" => set(call, args),
        "unset" if args.rest.is_empty() => Err(Failure::new("At least one key must be given")),
        "unset" => unset(call, &args.app, &args.rest, args.restart),
        "clear" => {
            let all: Vec<String> = values().into_keys().collect();
            unset(call, &args.app, &all, args.restart)
        }
        "get" => {
            let name = args.rest.first().ok_or_else(|| Failure::new("Expected: key"))?;
            line(values().get(name).ok_or(Failure::Exit(1))?);
            Ok(())
        }
        "keys" => {
            values().keys().for_each(line);
            Ok(())
        }
        "export" => export(&values(), args.format.as_deref().unwrap_or("exports")),
        "show" | "default" => {
            if !call.is_quiet() {
                headline(format_args!("{} env vars", args.app));
            }
            print_pairs("", &values());
            Ok(())
        }
        _ => Err(Failure::new(format!("config:{name} is not simulated"))),
    }
}

fn export(values: &BTreeMap<String, String>, format: &str) -> Outcome {
    match format {
        "json" => line(serde_json::to_string(values)?),
        "envfile" => line(write(values)),
        _ => {
            for (name, value) in values {
                line(format_args!("export {name}='{}'", value.replace('\'', "'\\''")));
            }
        }
    }
    Ok(())
}

fn set(call: &Call, args: &Arguments) -> Outcome {
    let mut pairs = BTreeMap::new();
    for pair in &args.rest {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| Failure::new(format!("Invalid env pair: {pair}")))?;
        check_name(name)?;
        pairs.insert(name.to_owned(), value.to_owned());
    }
    set_many(call, &args.app, &pairs)?;
    restart(call, &args.app, args.restart)
}

/// Sets variables, says so, and tells all plugins; no restart.
pub(super) fn set_many(call: &Call, app: &str, pairs: &BTreeMap<String, String>) -> Outcome {
    let mut environment = Environment::load(&call.layout, app);
    environment.values.extend(pairs.clone());
    if !call.is_quiet() {
        step("Setting config vars");
        print_pairs("       ", pairs);
    }
    environment.save()?;
    announce(call, app, "set", pairs.keys());
    Ok(())
}

fn unset(call: &Call, app: &str, names: &[String], and_restart: bool) -> Outcome {
    let mut environment = Environment::load(&call.layout, app);
    let mut changed = false;
    for name in names {
        check_name(name)?;
        let was_set = environment.values.remove(name).is_some();
        changed |= was_set;
        let what = if was_set { "Unsetting" } else { "Skipping unset" };
        if !call.is_quiet() {
            step(format_args!("{what} {name}"));
        }
    }
    if changed {
        environment.save()?;
        announce(call, app, "unset", names.iter());
    }
    restart(call, app, and_restart)
}

fn announce<'a>(call: &Call, app: &'a str, operation: &'a str, names: impl Iterator<Item = &'a String>) {
    let mut args = vec![app, operation];
    args.extend(names.map(String::as_str));
    if call.trigger("post-config-update", &args).is_err() {
        warn("Failure while triggering post-config-update");
    }
}

/// A restart that fails is not a failure of the command, on a real host neither.
fn restart(call: &Call, app: &str, wanted: bool) -> Outcome {
    let restores = ps::get(call, app, "restore").is_none_or(|restore| restore != "false");
    if wanted && app != "--global" && restores && apps::is_deployed(&call.layout, app) {
        step(format_args!("Restarting app {app}"));
        if call.trigger("release-and-deploy", &[app, "", "config-redeploy"]).is_err() {
            warn("Failure while restarting app");
        }
    }
    Ok(())
}

fn print_pairs(indent: &str, pairs: &BTreeMap<String, String>) {
    let width = pairs.keys().map(String::len).max().unwrap_or(0) + 1;
    for (name, value) in pairs {
        let name = format!("{name}:");
        line(format_args!("{indent}{name:width$}  {value}"));
    }
    if pairs.is_empty() {
        detail("");
    }
}

impl Environment {
    fn save_if_missing(&self, call: &Call) -> Outcome {
        std::fs::create_dir_all(call.layout.lib_root().join("config").join(call.arg(0)))?;
        Ok(())
    }
}

struct Arguments {
    app: String,
    rest: Vec<String>,
    restart: bool,
    merged: bool,
    format: Option<String>,
}

impl Arguments {
    fn parse(args: &[String]) -> Outcome<Arguments> {
        let mut parsed =
            Arguments { app: String::new(), rest: Vec::new(), restart: true, merged: false, format: None };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--no-restart" => parsed.restart = false,
                "--merged" => parsed.merged = true,
                "--global" => parsed.app = "--global".to_owned(),
                "--format" => parsed.format = args.next().cloned(),
                "--quoted" | "--quiet" | "--force" => {}
                arg if parsed.app.is_empty() => parsed.app = arg.to_owned(),
                arg => parsed.rest.push(arg.to_owned()),
            }
        }
        if parsed.app.is_empty() {
            return Err(Failure::new("Please specify an app to run the command on"));
        }
        Ok(parsed)
    }
}
