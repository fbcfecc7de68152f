//! Runs the user's own PRE and POST programs.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use crate::coordinator::Message;
use crate::process::{self, ProcessId, Program};
use crate::protocol::MAX_LOG_TEXT;
use crate::transaction::Phase;

/// Programs of one phase, with the variables that they see.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// Which.
    pub phase: Phase,
    /// The commands, for `bash -e`.
    pub commands: Vec<String>,
    /// Where they run: Dokku's root, the work tree of the environment repository.
    pub dir: PathBuf,
    /// Their variables.
    pub variables: Vec<(&'static str, String)>,
}

impl Programs {
    /// Runs them one after another on a thread of its own, until one fails.
    pub(super) fn start(self, sender: SyncSender<Message>) {
        thread::spawn(move || {
            let result = self.run(&sender);
            let _ = sender.send(Message::ProgramsDone { phase: self.phase, result });
        });
    }

    fn run(&self, sender: &SyncSender<Message>) -> Result<(), String> {
        for (index, command) in self.commands.iter().enumerate() {
            let number = index + 1;
            let failed = |error: &dyn std::fmt::Display| format!("hook {number} could not be run: {error}");
            // The commands are the operator's own words, written to be run by bash; nothing else reaches it.
            let mut program = Program::new("bash").args(["-e", "-c", command]).dir(&self.dir).in_own_group();
            for (name, value) in &self.variables {
                program = program.env(name, value);
            }
            let (program, output) = program.output_in_one().map_err(|error| failed(&error))?;
            let mut running = program.spawn().map_err(|error| failed(&error))?;
            if let Ok(identity) = running.identity() {
                let _ = sender.send(Message::ProgramRuns(identity));
            }
            let relayed = self.relay(output, sender.clone());
            let status = running.wait().map_err(|error| failed(&error))?;
            // What it left running in the background may write on, to nobody.
            let _ = relayed.recv_timeout(Duration::from_secs(1));
            if !status.success() {
                return Err(format!("hook {number} (`{command}`) {}", process::in_words(status)));
            }
        }
        Ok(())
    }

    /// Passes its output on, on a thread of its own; the receiver hears when it ends.
    fn relay(&self, output: io::PipeReader, sender: SyncSender<Message>) -> Receiver<()> {
        let phase = self.phase;
        let (ended, hears) = mpsc::channel();
        thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = Vec::new();
            loop {
                line.clear();
                match Read::take(&mut reader, MAX_LOG_TEXT as u64).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
                let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                if sender.send(Message::ProgramWrote { phase, text }).is_err() {
                    break;
                }
            }
            let _ = ended.send(());
        });
        hears
    }
}

/// Ends a program of the user's that runs when the graduation is stopped.
pub(super) fn stop(program: ProcessId) {
    thread::spawn(move || program.stop_group(Duration::from_secs(5)));
}
