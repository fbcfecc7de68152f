//! `graduate:key`.

use clap::Args;

use crate::error::Error;
use crate::ssh;
use crate::vars::Vars;

use super::print;

/// Nothing.
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

/// Runs the command; the key is made if there is none.
///
/// # Errors
/// The key cannot be read or made.
pub(crate) fn run(_: &Arguments, vars: &Vars) -> Result<(), Error> {
    print(format_args!("{}\n", ssh::public_key(vars)?))
}
