//! `network:*`: which Docker networks an app's containers are attached to. The simulated ones connect nothing; that they
//! exist is all that Dokku asks.

use super::{apps, reports, settings};
use crate::call::Call;
use crate::docker::client::ask;
use crate::docker::model::Request;
use crate::outcome::{Failure, Outcome, step};
use crate::properties::Properties;

/// Runs one program of the plugin.
pub(super) fn run(call: &Call, file: &str) -> Outcome {
    match file {
        "post-delete" => settings::forget(call, "network"),
        // At each installation of any plugin, whether the proxy of an app is enabled or not.
        "install" => apps::all(&call.layout)?.iter().try_for_each(|app| {
            let properties = Properties::of(&call.layout, "network", app);
            match properties.get("bind-all-interfaces") {
                Some(_) => Ok(()),
                None => properties.set("bind-all-interfaces", "true"),
            }
        }),
        "post-container-create" if call.arg(0) == "app" => {
            // Of a list Dokku attaches only the first here.
            networks(call, call.arg(2), "attach-post-create")
                .iter()
                .take(1)
                .try_for_each(|name| exists(call, name))
        }
        "post-container-create" => Ok(()),
        "core-post-deploy" => networks(call, call.arg(0), "attach-post-deploy").iter().try_for_each(|name| {
            step(format_args!("Associating app with network {name}"));
            exists(call, name)
        }),
        "create" => {
            ask(&call.layout, &Request::CreateNetwork { name: call.arg(1).to_owned() })?;
            step(format_args!("Created network {}", call.arg(1)));
            Ok(())
        }
        "destroy" => ask(&call.layout, &Request::RemoveNetwork { name: call.arg(1).to_owned() }).map(drop),
        _ => {
            let app = call.arg(1);
            if app != "--global" {
                apps::verify(&call.layout, app)?;
            }
            if file == "report" {
                return reports::properties(call, "network", app);
            }
            Properties::of(&call.layout, "network", app).set_or_unset(call.arg(2), call.arg(3))
        }
    }
}

fn networks(call: &Call, app: &str, property: &str) -> Vec<String> {
    let names = Properties::of(&call.layout, "network", app).get_or_global(property).unwrap_or_default();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn exists(call: &Call, name: &str) -> Outcome {
    let there = ask(&call.layout, &Request::Networks)?;
    if there.as_array().into_iter().flatten().any(|known| known == name) {
        return Ok(());
    }
    Err(Failure::new(format!("Network {name} does not exist")))
}
