//! Plugins that only keep properties: builders, docker options, storage, resources, ports, proxy.

use serde_json::json;

use super::{apps, reports};
use crate::call::Call;
use crate::outcome::{Failure, Outcome, headline, line, step};
use crate::properties::{Properties, remove_tree_if_there};

/// Forgets all properties of the app that is going away.
pub(super) fn forget(call: &Call, plugin: &str) -> Outcome {
    Properties::of(&call.layout, plugin, call.arg(0)).destroy()
}

/// Removes a plugin's data of the app that is going away.
pub(super) fn forget_data(call: &Call, plugin: &str) -> Outcome {
    remove_tree_if_there(&call.layout.data(plugin, call.arg(0)))
}

/// Takes a plugin's properties and data over to an app's new name.
pub(super) fn take_over(call: &Call, plugin: &str) -> Outcome {
    let (old, new) = (call.arg(0), call.arg(1));
    Properties::of(&call.layout, plugin, new).copy_from(old)?;
    forget(call, plugin)?;
    let data = call.layout.data(plugin, old);
    if data.exists() {
        crate::files::copy_tree(&data, &call.layout.data(plugin, new))?;
    }
    Ok(())
}

/// Runs one program of one of these plugins.
pub(super) fn run(call: &Call, plugin: &str, file: &str) -> Outcome {
    match file {
        "post-delete" => return forget(call, plugin),
        "post-app-rename-setup" => return take_over(call, plugin),
        "builder-set-property" => {
            return Properties::of(&call.layout, "builder", call.arg(0))
                .set_or_unset(call.arg(1), call.arg(2));
        }
        "ports-set-detected" => {
            let mut ports: Vec<String> = call.arg(1).split_whitespace().map(str::to_owned).collect();
            ports.sort();
            return Properties::of(&call.layout, "ports", call.arg(0)).set_list("map-detected", &ports);
        }
        "proxy-type" => {
            line(proxy_type(call, call.arg(0)));
            return Ok(());
        }
        "proxy-is-enabled" => {
            line(is_proxied(call, call.arg(0)));
            return Ok(());
        }
        _ => {}
    }
    let app = call.args.iter().skip(1).find(|arg| *arg == "--global" || !arg.starts_with("--"));
    let app = app.map_or("", String::as_str);
    if app != "--global" {
        apps::verify(&call.layout, app)?;
    }
    let values: Vec<String> = call.args.iter().skip(1).filter(|arg| *arg != app).cloned().collect();
    if file == "report" {
        return reports::properties(call, plugin, app);
    }
    match plugin {
        "builder" => {
            let [property, value] = [0, 1].map(|index| values.get(index).map_or("", String::as_str));
            Properties::of(&call.layout, "builder", app).set_or_unset(property, value)
        }
        "docker-options" => docker_options(call, file, app, &values),
        "storage" => storage(call, file, app, &values),
        "ports" => ports(call, file, app, &values),
        "proxy" => proxy(call, file, app, &values),
        _ => resource(call, file, app, &values),
    }
}

/// The kind of web server in front of an app.
pub(super) fn proxy_type(call: &Call, app: &str) -> String {
    Properties::of(&call.layout, "proxy", app).get_or_global("type").unwrap_or_else(|| "nginx".to_owned())
}

/// The app has a web server in front of it.
pub(super) fn is_proxied(call: &Call, app: &str) -> bool {
    Properties::of(&call.layout, "proxy", app).get("disabled").is_none_or(|disabled| disabled != "true")
}

fn docker_options(call: &Call, what: &str, app: &str, values: &[String]) -> Outcome {
    let properties = Properties::of(&call.layout, "docker-options", app);
    let (phases, option) = values.split_first().ok_or_else(|| Failure::new("Please specify a phase"))?;
    let option = option.join(" ");
    for phase in phases.split(',') {
        edit(&properties, &format!("_default_.{phase}"), what, std::slice::from_ref(&option))?;
    }
    Ok(())
}

fn storage(call: &Call, what: &str, app: &str, values: &[String]) -> Outcome {
    let properties = Properties::of(&call.layout, "storage", app);
    if what == "list" {
        properties.list("mounts").iter().for_each(line);
        return Ok(());
    }
    let mount = values.first().ok_or_else(|| Failure::new("Please specify a mount"))?;
    let (source, target) =
        mount.split_once(':').ok_or_else(|| Failure::new("Storage path must be two valid paths"))?;
    let entry =
        json!({"entry_name": source, "container_path": target, "phases": ["deploy", "run"]}).to_string();
    edit(&properties, "mounts", if what == "mount" { "add" } else { "remove" }, &[entry])
}

fn ports(call: &Call, what: &str, app: &str, values: &[String]) -> Outcome {
    let properties = Properties::of(&call.layout, "ports", app);
    if what == "list" {
        properties.list("map").iter().for_each(line);
        return Ok(());
    }
    edit(&properties, "map", what, values)?;
    call.trigger("post-proxy-ports-update", &[app, what])
}

fn proxy(call: &Call, what: &str, app: &str, values: &[String]) -> Outcome {
    let properties = Properties::of(&call.layout, "proxy", app);
    match what {
        "enable" => {
            properties.unset("disabled")?;
            call.trigger("proxy-enable", &[app])?;
            call.trigger("proxy-build-config", &[app])
        }
        "disable" => {
            properties.set("disabled", "true")?;
            call.trigger("proxy-disable", &[app])?;
            call.trigger("proxy-clear-config", &[app])
        }
        "build-config" => call.trigger("proxy-build-config", &[app]),
        "clear-config" => call.trigger("proxy-clear-config", &[app]),
        _ => {
            // `proxy:set <app> <type>` and `proxy:set <app> <property> <value>` are both in use.
            let (name, value) = match values {
                [value] if !["type", "proxy-port", "proxy-ssl-port"].contains(&value.as_str()) => {
                    ("type", value.as_str())
                }
                [name] => (name.as_str(), ""),
                [name, value, ..] => (name.as_str(), value.as_str()),
                [] => return Err(Failure::new("No property specified")),
            };
            headline(format_args!("Setting {name} to {value}"));
            properties.set_or_unset(name, value)
        }
    }
}

fn resource(call: &Call, what: &str, app: &str, values: &[String]) -> Outcome {
    let properties = Properties::of(&call.layout, "resource", app);
    let mut values = values.iter();
    while let Some(flag) = values.next() {
        let name = flag.trim_start_matches("--");
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, value),
            None => (name, values.next().map_or("", String::as_str)),
        };
        properties.set_or_unset(&format!("_default_.{what}.{name}"), value)?;
    }
    Ok(())
}

fn edit(properties: &Properties<'_>, name: &str, what: &str, values: &[String]) -> Outcome {
    let mut list = properties.list(name);
    match what {
        "set" => list = values.to_vec(),
        "clear" => list.clear(),
        "add" => list.extend(values.iter().cloned()),
        "remove" => list.retain(|known| !values.contains(known)),
        _ => return Err(Failure::new(format!("`{what}` is not simulated"))),
    }
    step(format_args!("{what}: {}", values.join(" ")));
    properties.set_list(name, &list)
}
