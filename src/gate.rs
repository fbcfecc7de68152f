//! `graduate:gate`: the forced command of a source's key; it runs whatever the client requests.
//!
//! sshd passes the requested command in one variable that no shell has parsed. The command has one of the four forms of
//! [`SourceCommand`], or it is refused with one line. An accepted command replaces this process with one of four
//! programs of the plugin. The only word of the client that reaches it is the checked name of an app.

use std::convert::Infallible;
use std::os::unix::ffi::OsStrExt;

use crate::access::SourceCommand;
use crate::exit::Explain;
use crate::names::SourceName;
use crate::process::{ProcessError, Program};
use crate::sources::{self, MAX_OPEN, SourceError};
use crate::vars::{self, Vars};

/// Why the gate refuses a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateError {
    /// The process was not started by the forced command of a key.
    #[error("this command runs only as the forced command of a key accepted with `graduate:accept`")]
    NotASource,
    /// The key is not that of an accepted source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The command has none of the four forms.
    #[error("the key {source_name} can only graduate to this host; refused: {asked:?}")]
    Refused {
        /// The source whose key it is.
        source_name: SourceName,
        /// The requested command, made harmless and shortened.
        asked: String,
    },
    /// The source has too many open sessions.
    #[error("the key {0} has {MAX_OPEN} sessions open on this host, and can have no more")]
    TooMany(SourceName),
    /// The program could not be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl Explain for GateError {}

/// Checks the requested command and replaces this process with its program.
///
/// # Errors
/// See [`GateError`]; on success it does not return.
pub(crate) fn run(vars: &Vars) -> Result<Infallible, GateError> {
    let source = sources::of_key(vars, vars.key.as_ref().ok_or(GateError::NotASource)?)?.name;
    let wanted = vars.wanted.as_deref().unwrap_or_default().as_bytes();
    let command = SourceCommand::parse(wanted);
    let refused = command.is_none().then(|| sources::shown(wanted));
    // A full disk must not keep a source from settling what it has begun.
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
    Ok(program.env(vars::SOURCE, source.as_str()).exec()?)
}
