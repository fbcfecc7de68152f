//! The app's web server configuration: written at each switch, read by the router.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::procfile::NGINX;
use super::{apps, container, domains, settings};
use crate::call::Call;
use crate::outcome::{Failure, Outcome, headline, step};
use crate::properties::{remove_if_there, remove_tree_if_there};

/// The name of the port in configurations.
const PORT: &str = "5000";

/// Runs one trigger of the plugin.
pub(super) fn trigger(call: &Call, file: &str) -> Outcome {
    let app = call.arg(0);
    match file {
        "scheduler-post-deploy-process" if call.arg(1) != "web" => Ok(()),
        "scheduler-post-deploy-process" | "core-post-deploy" => {
            if settings::proxy_type(call, app) != "nginx" {
                return Ok(());
            }
            if file == "scheduler-post-deploy-process" {
                headline("Triggering early nginx proxy rebuild");
            }
            call.trigger("proxy-build-config", &[app])
        }
        "core-post-extract" => NGINX.extract(call, app, Path::new(call.arg(1))),
        "proxy-build-config" | "post-domains-update" | "post-proxy-ports-update" => build(call, app),
        "proxy-clear-config" => remove_if_there(&call.layout.app(app).join("nginx.conf")),
        "post-delete" => {
            remove_tree_if_there(&call.layout.data("nginx-vhosts", &format!("app-{app}")))?;
            remove_if_there(&call.layout.app(app).join("nginx.conf"))
        }
        _ => Err(Failure::new(format!("nginx-vhosts/{file} is not simulated"))),
    }
}

/// Brings the files of addresses into line with the containers that run: a host that was switched on has handed them
/// out anew.
fn note_addresses(call: &Call, app: &str) -> Outcome {
    for (dyno, id) in apps::live_files(&call.layout, app, "CONTAINER") {
        let address = container::address(call, &id)?;
        if !address.is_empty() {
            fs::write(call.layout.app(app).join(format!("IP.{dyno}")), format!("{address}\n"))?;
        }
    }
    Ok(())
}

fn build(call: &Call, app: &str) -> Outcome {
    if settings::proxy_type(call, app) != "nginx" || !settings::is_proxied(call, app) {
        return Ok(());
    }
    NGINX.adopt(call, app)?;
    note_addresses(call, app)?;
    let names = domains::of(call, app).join(" ");
    let mut servers = String::new();
    let ports: Vec<(String, String)> = apps::live_files(&call.layout, app, "PORT").collect();
    for (dyno, ip) in apps::live_files(&call.layout, app, "IP").filter(|(dyno, _)| dyno.starts_with("web.")) {
        if let Some((_, port)) = ports.iter().find(|(other, _)| *other == dyno) {
            let _ = writeln!(servers, "  server {ip}:{port};");
        }
    }
    let path = call.layout.app(app).join("nginx.conf");
    if servers.is_empty() {
        return remove_if_there(&path);
    }
    step(format_args!("Configuring {names}"));
    let upstream = format!("{app}-{PORT}");
    // Of the app's own template only that it was used can be seen.
    let template = NGINX.read(call, app).unwrap_or_default();
    let template: String = template.lines().map(|line| format!("# {line}\n")).collect();
    let text = format!(
        "{template}server {{\n  listen 80;\n  server_name {names};\n  location / {{\n    proxy_pass http://{upstream};\n  }}\n}}\n\
         upstream {upstream} {{\n{servers}}}\n"
    );
    // Replaced as a whole: nginx, too, goes on with the old one until it has read all of the new one. Two deploys of
    // an app may come here at once.
    let new = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&new, text)?;
    fs::rename(new, path)?;
    step("Reloading nginx");
    Ok(())
}
