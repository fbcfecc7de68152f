//! Processes of this program that outlive the process that starts them: coordinators and participants.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::{KEPT_OUTPUT, ProcessError, ProcessId, Program, own_program};
use crate::legible;

/// A process of this program that outlives this one.
#[derive(Debug)]
pub(crate) struct Detached {
    /// Its identity.
    pub process: ProcessId,
    stderr: Option<File>,
}

impl Detached {
    /// What it has written to stderr: the reason, if it has ended.
    pub(crate) fn last_words(&self) -> String {
        let mut bytes = vec![0; KEPT_OUTPUT];
        let read = self.stderr.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok());
        bytes.truncate(read.unwrap_or_default());
        let text = String::from_utf8_lossy(&bytes).replace('\0', "");
        legible::shortened(text.trim_start_matches([' ', '!']).trim_end())
    }
}

/// A file in memory of a fixed size: writing more fails.
fn small_memory() -> io::Result<File> {
    let file = File::from(memfd_create("stderr", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.set_len(KEPT_OUTPUT as u64)?;
    fcntl_add_seals(&file, SealFlags::GROW)?;
    Ok(file)
}

/// Starts this program again with `args` as a process that outlives us. Its stdin is `input`, its stdout is discarded,
/// the beginning of its stderr is kept, and it makes itself the leader of a new session ([`leave_session`]).
///
/// # Errors
/// It could not be started.
pub(crate) fn detach(args: &[&str], input: Vec<u8>) -> Result<Detached, ProcessError> {
    let mut program = Program::new(own_program()).args(args).input_file(input)?.dir(Path::new("/"));
    // This is a convenience: without such files, only the text of stderr is lost.
    let stderr = small_memory().ok();
    if let Some(own) = stderr.as_ref().and_then(|file| file.try_clone().ok()) {
        program.command.stderr(own);
    }
    Ok(Detached { process: program.spawn()?.known()?, stderr })
}

/// As [`detach`], from within a deploy: closes every descriptor of the deploy, among them its lock and the pipe of its
/// log. Otherwise Dokku would wait for the end of the pipe, and we for the end of Dokku.
///
/// # Errors
/// It could not be started.
pub(crate) fn detach_from_deploy(args: &[&str], input: Vec<u8>) -> Result<ProcessId, ProcessError> {
    let close = r#"for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ "$fd" -le 2 ] || eval "exec $fd>&-"; done; exec "$0" "$@""#;
    let bash = Program::new("bash").args(["-c", close]).arg(own_program()).args(args);
    bash.input_file(input)?.dir(Path::new("/")).spawn()?.known()
}

/// Leaves the session of the process that started us: no terminal and no hang-up reaches us after that.
///
/// # Errors
/// We lead a process group already, so that [`detach`] did not start us.
pub(crate) fn leave_session() -> io::Result<()> {
    rustix::process::setsid().map(drop).map_err(io::Error::from)
}
