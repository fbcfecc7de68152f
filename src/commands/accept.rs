//! `graduate:accept <name>`: lets the key of a source graduate to this host and do nothing else.

use std::io::{self, IsTerminal, Read};

use clap::Args;

use crate::access::Patterns;
use crate::error::Error;
use crate::names::SourceName;
use crate::public_key::PublicKey;
use crate::sources::{self, AcceptedAs};
use crate::ssh::keys::{self, MAX_PUBLIC_KEY};
use crate::vars::Vars;

use super::error::CommandError;
use super::printing::{detail, tell};

/// Whose key, and for which apps.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What this host calls the source; the name of its key in `ssh-keys:list`
    #[arg(value_name = "NAME")]
    name: SourceName,
    /// The apps of this host that it may graduate: names or patterns with one `*`, separated by commas; without it all.
    /// It cannot see others
    #[arg(long, value_name = "PATTERNS")]
    only: Option<Patterns>,
}

/// Runs the command, with the public key on stdin.
///
/// # Errors
/// The caller is not root, stdin is not a public key, or the name or the key is taken: nothing changed.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let Arguments { name, only } = arguments;
    let option = only.as_ref().map(Patterns::option).unwrap_or_default();
    check_root(vars, &format!("graduate:accept {name}{option} < KEY"))?;
    let key = key_on_stdin("the line that `dokku graduate:key` prints on the source")?;
    let only = only.clone().unwrap_or_default();
    let accepted_as = sources::accept(vars, name, &key, only.clone())?;
    match &accepted_as {
        AcceptedAs::New | AcceptedAs::InsteadOf(_) => {
            tell(format_args!("{name} accepted: its key can graduate to this host, and do nothing else"));
        }
        AcceptedAs::Again => {
            tell(format_args!("{name} accepted again, in place of what was accepted before"))
        }
    }
    detail(format_args!("{} for {only}", key.fingerprint()));
    if let AcceptedAs::InsteadOf(before) = accepted_as {
        detail(format_args!(
            "until now this key could run every command of Dokku, as {before}; that line was removed"
        ));
    }
    Ok(())
}

/// Reads a public key from stdin; at a terminal it asks for it.
///
/// # Errors
/// The input is not a public key.
pub(super) fn key_on_stdin(which: &str) -> Result<PublicKey, Error> {
    if io::stdin().is_terminal() {
        detail(format_args!("paste {which}, then Ctrl-D"));
    }
    let mut text = Vec::new();
    // One byte more than allowed, to detect a longer input.
    let read = io::stdin().take(MAX_PUBLIC_KEY as u64 + 1).read_to_end(&mut text);
    read.map_err(CommandError::Input)?;
    Ok(keys::read(&text)?)
}

/// Checks that the caller is root: only root accepts keys, as with Dokku's own `ssh-keys:add`.
///
/// # Errors
/// The caller is not root; `words` is the command line for root.
pub(super) fn check_root(vars: &Vars, words: &str) -> Result<(), CommandError> {
    if vars.is_root { Ok(()) } else { Err(CommandError::NotRoot(words.to_owned())) }
}
