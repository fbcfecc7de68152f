//! Checks whose keys may graduate to this host: each line in `authorized_keys` must have its file in the plugin's data,
//! and no source's key may do more than it needs.

use super::wording::or_else_ok;
use crate::finding::{Check, Finding};
use crate::names::SourceName;
use crate::sources::{self, AcceptedSource, Unpaired};
use crate::ssh::quoted;
use crate::vars::Vars;

/// Checks that each source has a line as this version writes it, and a file.
pub(super) fn all(vars: &Vars) -> Vec<Finding> {
    let names = match sources::names(vars) {
        Ok(names) => names,
        Err(error) => return vec![broken(&error)],
    };
    let damaged = names.iter().filter_map(|name| {
        let error = sources::find(vars, name).err()?;
        Some(Finding::broken(Check::Sources, error.to_string(), format!("sudo dokku graduate:reject {name}")))
    });
    let damaged: Vec<Finding> = damaged.collect();
    if !damaged.is_empty() {
        return damaged;
    }
    let mut found = match sources::unpaired(vars) {
        Ok(unpaired) => unpaired.iter().map(explained).collect(),
        Err(error) => vec![broken(&error)],
    };
    match sources::ordinary(vars) {
        Ok(ordinary) => found.extend(ordinary.iter().map(|(key, line)| {
            let what = format!(
                "the key {}, {}, graduates to this host and may run every command of Dokku here; run this here, as root",
                key.name, key.fingerprint
            );
            Finding::warning(Check::Sources, what, accept(&key.name, "", line))
        })),
        Err(error) => found.push(broken(&error)),
    }
    let ok = match names.len() {
        0 => "no source may graduate to this host".to_owned(),
        1 => "1 source may graduate to this host, and do nothing else".to_owned(),
        count => format!("{count} sources may graduate to this host, and do nothing else"),
    };
    or_else_ok(found, Finding::ok(Check::Sources, ok))
}

fn broken(error: &impl ToString) -> Finding {
    Finding { remedy: None, ..Finding::broken(Check::Sources, error.to_string(), "") }
}

/// Returns the command that gives the key a line of ours. If its name is not valid for a source, a placeholder is
/// shown.
fn accept(name: &str, option: &str, key: &str) -> String {
    let name = name.parse::<SourceName>().map_or_else(|_| "NAME".to_owned(), Into::into);
    format!("echo {} | sudo dokku graduate:accept {name}{option}", quoted(key))
}

fn explained(unpaired: &Unpaired) -> Finding {
    let check = Check::Sources;
    match unpaired {
        Unpaired::Line(name) => Finding::warning(
            check,
            format!("authorized_keys has a line of the unknown source {name}: its key gives no access"),
            format!("sudo dokku graduate:reject {}", quoted(name)),
        ),
        Unpaired::File(name) => Finding::warning(
            check,
            format!("the source {name} has no line in authorized_keys: it cannot log in"),
            format!("sudo dokku graduate:reject {name}"),
        ),
        Unpaired::Altered(AcceptedSource { name, key, only, .. }) => Finding::broken(
            check,
            format!(
                "the line of the source {name} in authorized_keys is not as this version writes it, or not \
                 the first one with its key"
            ),
            accept(name.as_str(), &only.option(), &key.to_string()),
        ),
    }
}

#[test]
fn what_puts_a_line_right_keeps_its_source_within_its_apps() {
    let key: crate::public_key::PublicKey =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH".parse().unwrap();
    for (only, option) in [(None, ""), (Some("api,web-*"), " --only 'api,web-*'")] {
        let only = only.map(|only| only.parse().unwrap()).unwrap_or_default();
        let (name, fingerprint) = ("staging".parse().unwrap(), key.fingerprint());
        let source =
            AcceptedSource { name, fingerprint, key: key.clone(), only, since: chrono::DateTime::UNIX_EPOCH };
        let remedy = explained(&Unpaired::Altered(source)).remedy;
        assert_eq!(remedy.unwrap(), format!("echo '{key}' | sudo dokku graduate:accept staging{option}"));
    }
}
