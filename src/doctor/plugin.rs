//! Checks the files of the plugin and of its companions.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::wording::{INSTALL, command, listed, or_else_ok};
use crate::dokku_version::{self, TooOld};
use crate::finding::{Check, Finding};
use crate::install::{self, CompanionState, HOLDER};
use crate::links::AFTER_ALL;
use crate::vars::Vars;

/// Checks that the plugin has one version, and that all files that Dokku calls lead to it.
pub(super) fn version_and_links(vars: &Vars) -> Vec<Finding> {
    let version = env!("CARGO_PKG_VERSION");
    let mut found = Vec::new();
    let about = vars.plugin_dir().join("plugin.toml");
    let is_ours = |line: &str| line.trim() == format!("version = \"{version}\"");
    match fs::read_to_string(&about) {
        Ok(text) if text.lines().any(is_ours) => {}
        Ok(_) => {
            let what = format!("{} is not of version {version}, which runs", about.display());
            found.push(Finding::warning(Check::Plugin, what, "dokku plugin:update graduate"));
        }
        Err(error) => {
            let what = format!("cannot read {}: {error}", about.display());
            found.push(Finding::broken(Check::Plugin, what, "dokku plugin:update graduate"));
        }
    }
    let unpacked = vars.plugin_dir().join("graduate");
    if unpacked.is_dir() {
        let what = format!("another version was unpacked into {}, and is not used yet", unpacked.display());
        found.push(Finding::warning(Check::Plugin, what, INSTALL));
    }
    let wrong = install::wrong_links(vars);
    if !wrong.is_empty() {
        let what = format!("these do not lead to the plugin's program: {}", listed(&wrong));
        found.push(Finding::broken(Check::Plugin, what, INSTALL));
    }
    or_else_ok(
        found,
        Finding::ok(Check::Plugin, format!("version {version}, with all its commands and triggers")),
    )
}

/// Checks that the plugin supports this version of Dokku.
pub(super) fn dokku(vars: &Vars) -> Vec<Finding> {
    let check = Check::Dokku;
    let found = match dokku_version::of_this_host(vars) {
        Ok(found) => found,
        Err(error) => return vec![Finding::broken(check, error.to_string(), "dokku version")],
    };
    vec![match (dokku_version::check(found.as_deref(), None), found) {
        (Err(error), _) => Finding::broken(check, error.to_string(), TooOld::REMEDY),
        (Ok(()), Some(found)) if dokku_version::number(&found).is_some() => {
            Finding::ok(check, format!("Dokku {found}"))
        }
        (Ok(()), found) => {
            let called = found
                .map_or("reports no version".to_owned(), |found| format!("reports the version {found:?}"));
            Finding::note(check, format!("Dokku {called}, so it is unknown whether it is new enough"))
        }
    }]
}

/// Checks that the companions exist, are enabled, ours, and of this version.
pub(super) fn companions(vars: &Vars) -> Vec<Finding> {
    let mut found = Vec::new();
    for companion in install::companions(vars) {
        let name = companion.name;
        match companion.state(vars) {
            CompanionState::Fine => {}
            CompanionState::Foreign(path) => {
                let what = format!(
                    "{} belongs to another plugin, but the companion {name} needs that place; graduations do not work",
                    path.display()
                );
                let remedy = format!("dokku plugin:uninstall {name} && {INSTALL}");
                found.push(Finding::broken(Check::Companions, what, remedy));
            }
            CompanionState::Wrong(how) => {
                found.push(Finding::broken(
                    Check::Companions,
                    format!("the companion {name} {how}"),
                    INSTALL,
                ));
            }
        }
    }
    or_else_ok(found, Finding::ok(Check::Companions, "all are installed and of this version"))
}

/// Checks that our trigger runs last. Dokku runs a trigger's programs in the order of the plugins' names; what a later
/// one refuses would be refused after the decision.
pub(super) fn trigger_order(vars: &Vars) -> Vec<Finding> {
    let trigger = AFTER_ALL;
    let enabled = &vars.plugins_enabled;
    let entries = match fs::read_dir(enabled) {
        Ok(entries) => entries,
        Err(error) => {
            let what = format!("cannot list {}: {error}", enabled.display());
            return vec![Finding::broken(
                Check::TriggerOrder,
                what,
                command("ls -ld", std::slice::from_ref(enabled)),
            )];
        }
    };
    let takes_part = |name: &String| {
        let program = enabled.join(name).join(trigger);
        program.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut later: Vec<String> = names.filter(|name| name.as_str() > HOLDER && takes_part(name)).collect();
    later.sort();
    let tell = |name: &String| {
        let what = format!(
            "the plugin {name} checks apps after they are held: what it refuses comes after the decision, and \
             rolls everything back"
        );
        Finding::warning(Check::TriggerOrder, what, format!("dokku plugin:disable {name}"))
    };
    let ok = Finding::ok(Check::TriggerOrder, format!("{trigger} of {HOLDER} runs last"));
    or_else_ok(later.iter().map(tell).collect(), ok)
}
