//! `graduate:reject <name>`: a source may no longer graduate to this host.

use clap::Args;

use crate::error::Error;
use crate::names::SourceName;
use crate::sources;
use crate::vars::Vars;

use super::accept::check_root;
use super::printing::tell;

/// Which source.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Its name, as `graduate:sources` lists it
    #[arg(value_name = "NAME")]
    name: SourceName,
}

/// Runs the command.
///
/// # Errors
/// The caller is not root, or the source does not exist: nothing changed.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let Arguments { name } = arguments;
    check_root(vars, &format!("graduate:reject {name}"))?;
    sources::reject(vars, name)?;
    tell(format_args!("{name} rejected: its key no longer gives access to this host"));
    Ok(())
}
