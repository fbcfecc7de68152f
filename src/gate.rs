//! `graduate:gate`: what the key of a source runs, whatever it asks for.
//!
//! The forced command of the key's line hands over what was asked for in one variable that no shell has parsed. It is one
//! of the four forms of [`SourceCommand`], or it is refused with one line. What passes takes the place of this process:
//! one of four programs of the plugin, with no other word of the client's than a checked name of an app.

use std::convert::Infallible;
use std::os::unix::ffi::OsStrExt;

use crate::access::SourceCommand;
use crate::exit::Explain;
use crate::names::SourceName;
use crate::process::{ProcessError, Program};
use crate::sources::{self, MAX_OPEN, SourceError};
use crate::vars::{self, Vars};

/// The gate does not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateError {
    /// It was not started by the forced command of a key.
    #[error("only the key of a source that `graduate:accept` let in comes here")]
    NotASource,
    /// It was by one that is not accepted.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Something else than the four forms.
    #[error("the key {source_name} can only graduate to this host; refused: {asked:?}")]
    Refused {
        /// Whose key it is.
        source_name: SourceName,
        /// What was asked for, made harmless and shortened.
        asked: String,
    },
    /// It does not end what it begins.
    #[error("the key {0} has {MAX_OPEN} sessions open on this host, and can have no more")]
    TooMany(SourceName),
    /// What is let through cannot be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl Explain for GateError {}

/// Lets one command through.
///
/// # Errors
/// See [`GateError`]; otherwise it does not return.
pub(crate) fn run(vars: &Vars) -> Result<Infallible, GateError> {
    let source = sources::of_key(vars, vars.key.as_ref().ok_or(GateError::NotASource)?)?.name;
    let wanted = vars.wanted.as_deref().unwrap_or_default().as_bytes();
    let command = SourceCommand::parse(wanted);
    let refused = command.is_none().then(|| sources::shown(wanted));
    // A full disk keeps nobody from settling what has begun.
    let has_room = sources::note_session(vars, &source, refused.as_deref()).unwrap_or_else(|error| {
        log::warn!("{error}");
        true
    });
    let Some(command) = command else {
        let asked = refused.unwrap_or_default();
        log::warn!("the key {source} asked for {asked:?}, which is not one of the commands of a source");
        return Err(GateError::Refused { source_name: source, asked });
    };
    if !has_room {
        return Err(GateError::TooMany(source));
    }
    let (name, app) = match &command {
        SourceCommand::Agent => ("agent", None),
        SourceCommand::Receive(app) => ("receive", Some(app)),
        SourceCommand::ReceiveImage(app) => ("receive-image", Some(app)),
        SourceCommand::Forward => ("forward", None),
    };
    let program = Program::new(vars.plugin_dir().join("subcommands").join(name));
    let program = program.arg(format!("graduate:{name}")).args(app.map(ToString::to_string));
    Ok(program.env(vars::SOURCE, source.as_str()).become_it()?)
}
