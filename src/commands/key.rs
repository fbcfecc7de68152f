//! `graduate:key`.

use clap::Args;

use crate::error::Error;
use crate::ssh;
use crate::vars::Vars;

use super::printing::print;

/// Nothing.
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

/// Runs the command; makes the key if none exists.
///
/// # Errors
/// The key cannot be read or made.
pub(crate) fn run(_: &Arguments, vars: &Vars) -> Result<(), Error> {
    print(format_args!("{}\n", ssh::public_key(vars)?))
}
