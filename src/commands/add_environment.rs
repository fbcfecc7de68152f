//! `graduate:add-environment <name> <url>`: pins the host's key, tests the link, and stores the environment.

use clap::Args;

use crate::error::{self, Error};
use crate::exit::Explain;
use crate::link::Inquiry;
use crate::names::EnvironmentName;
use crate::protocol::Hello;
use crate::repo::{self, GitRepository};
use crate::settings::{Address, Settings, Url};
use crate::ssh::{self, HostKey, SshError};
use crate::vars::Vars;

use super::error::CommandError;
use super::printing::{detail, tell};

/// The environment's name and address.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Its name, as in `graduate/<name>/now`: lower case letters, digits and `-`
    #[arg(value_name = "NAME")]
    name: EnvironmentName,
    /// Its address: `host`, `user@host` or `ssh://user@host:port`; `local` for this same host
    #[arg(value_name = "URL")]
    url: Address,
    /// The fingerprint that its host key must have, as `ssh-keygen -lf` prints it; only that key is pinned, in place of any other
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<String>,
}

/// Runs the command. For an environment that is already linked to that address, it tests the link again.
///
/// # Errors
/// The host cannot be reached, or is not the pinned one: nothing changed. A host that is only not set up yet is not an
/// error; what is missing is shown.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let Arguments { name, url, fingerprint } = arguments;
    let wanted = fingerprint.as_deref();
    Settings::change(vars, |settings| {
        let is_new = settings.add_environment(name, url)?;
        if is_new {
            check_refs(name, vars)?;
        }
        let done = if is_new { "added" } else { "was added before" };
        let said = format!("{name} ({}) {done}", url.described());
        let Address::Ssh(url) = url else {
            Inquiry::of_this_host(vars).map_err(CommandError::Local)?;
            tell(said);
            if settings.mapping(name).is_empty() {
                detail(format_args!(
                    "its apps need other names: `dokku graduate:map {name} '*-staging' '*'`, for example"
                ));
            }
            return Ok(());
        };
        let was_pinned = ssh::is_pinned(vars, url)?;
        let linked = link(name, url, wanted, vars);
        if linked.is_err() && is_new {
            ssh::remove_config(vars, name)?;
            if !was_pinned {
                ssh::forget(vars, url)?;
            }
        }
        let trouble = linked?;
        tell(said);
        show_trouble(trouble);
        Ok(())
    })
}

/// Checks that no ref has the environment's name or blocks the refs that its graduations write. Releases of an earlier
/// environment of that name are its history.
fn check_refs(name: &EnvironmentName, vars: &Vars) -> Result<(), Error> {
    if !vars.git_dir().exists() {
        return Ok(());
    }
    let (mut found, confusing) = GitRepository::open(vars)?.misnamed(std::slice::from_ref(name))?;
    found.extend(confusing.iter().filter(|why| why.is_of(name)).map(|why| why.name().to_owned()));
    if found.is_empty() {
        return Ok(());
    }
    let commands = found.iter().map(|found| repo::deletion(vars, found)).collect();
    Err(CommandError::RefsOfEnvironment { name: name.clone(), found, commands }.into())
}

fn show_trouble(trouble: Option<SshError>) {
    if let Some(trouble) = trouble {
        error::show(&trouble, trouble.hint().as_deref());
        detail("nothing can graduate to it before that is done; run this command again to test the link");
    }
}

/// Pins and tests; returns what is still missing on the destination.
fn link(
    name: &EnvironmentName,
    url: &Url,
    wanted: Option<&str>,
    vars: &Vars,
) -> Result<Option<SshError>, SshError> {
    pin_keys(url, wanted, vars)?;
    ssh::write_config(vars, name, url)?;
    match Inquiry::test(vars, name, url) {
        Ok(inquiry) => {
            let Hello { host, version, .. } = inquiry.agent();
            detail(format_args!("the plugin's version {version} answers on {host}"));
            Ok(None)
        }
        Err(trouble) if trouble.is_unfinished() => Ok(Some(trouble)),
        Err(trouble) => Err(trouble),
    }
}

/// Pins the host's keys, or only the one that is wanted. Keys that are already pinned are only compared, unless the
/// host shows another one that is wanted by its fingerprint: then it replaces them.
fn pin_keys(url: &Url, wanted: Option<&str>, vars: &Vars) -> Result<(), SshError> {
    let before = ssh::pinned(vars, url)?;
    let is_other = wanted.is_some_and(|wanted| before.iter().all(|key| key.fingerprint != wanted));
    let is_new = before.is_empty() || is_other;
    let mut keys = if is_new { ssh::scan(url)? } else { before };
    if let Some(wanted) = wanted {
        let shown = fingerprints(&keys);
        keys.retain(|key| key.fingerprint == wanted);
        if keys.is_empty() {
            return Err(SshError::OtherFingerprint { url: url.clone(), wanted: wanted.to_owned(), shown });
        }
    }
    if is_new {
        ssh::forget(vars, url)?;
        ssh::pin(vars, &keys)?;
    }
    tell(if is_new { "Host key pinned; compare it with the host's own" } else { "Host key pinned before" });
    for key in keys {
        detail(format_args!("{} {}", key.fingerprint, key.kind));
    }
    Ok(())
}

fn fingerprints(keys: &[HostKey]) -> String {
    keys.iter().map(|key| key.fingerprint.as_str()).collect::<Vec<_>>().join(", ")
}
