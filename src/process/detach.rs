//! Processes of this program that outlive whoever starts them: coordinators and participants.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::{KEPT_OUTPUT, ProcessError, ProcessId, Program, own_program};
use crate::legible;

/// A process of this program that outlives us.
#[derive(Debug)]
pub(crate) struct Detached {
    /// Which process it is.
    pub process: ProcessId,
    stderr: Option<File>,
}

impl Detached {
    /// What it has written to stderr: why it ended, if it has.
    pub(crate) fn last_words(&self) -> String {
        let mut bytes = vec![0; KEPT_OUTPUT];
        let read = self.stderr.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok());
        bytes.truncate(read.unwrap_or_default());
        let text = String::from_utf8_lossy(&bytes).replace('\0', "");
        legible::shortened(text.trim_start_matches([' ', '!']).trim_end())
    }
}

/// A file in memory, of a size that it keeps: to write more fails.
fn small_memory() -> io::Result<File> {
    let file = File::from(memfd_create("stderr", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.set_len(KEPT_OUTPUT as u64)?;
    fcntl_add_seals(&file, SealFlags::GROW)?;
    Ok(file)
}

/// Starts this program again with `args` as a process that outlives us: its input is `input`, its stdout goes
/// nowhere, of its stderr the beginning is kept, and it makes itself a session of its own ([`leave_session`]).
///
/// # Errors
/// It could not be started.
pub(crate) fn detach(args: &[&str], input: Vec<u8>) -> Result<Detached, ProcessError> {
    let mut program = Program::new(own_program()).args(args).input_file(input)?.dir(Path::new("/"));
    // It is a convenience: a system without such files loses the words and nothing else.
    let stderr = small_memory().ok();
    if let Some(own) = stderr.as_ref().and_then(|file| file.try_clone().ok()) {
        program.command.stderr(own);
    }
    Ok(Detached { process: program.spawn()?.known()?, stderr })
}

/// As [`detach`], from within a deploy: keeps nothing open that the deploy has, its lock and the pipe of its log
/// among them. Dokku would wait for the end of the pipe, and we for the end of Dokku.
///
/// # Errors
/// It could not be started.
pub(crate) fn detach_from_deploy(args: &[&str], input: Vec<u8>) -> Result<ProcessId, ProcessError> {
    let close = r#"for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ "$fd" -le 2 ] || eval "exec $fd>&-"; done; exec "$0" "$@""#;
    let bash = Program::new("bash").args(["-c", close]).arg(own_program()).args(args);
    bash.input_file(input)?.dir(Path::new("/")).spawn()?.known()
}

/// Leaves the session of whoever started us: no terminal and no hang-up reaches us any more.
///
/// # Errors
/// We lead a process group already, so were not started by [`detach`].
pub(crate) fn leave_session() -> io::Result<()> {
    rustix::process::setsid().map(drop).map_err(io::Error::from)
}
