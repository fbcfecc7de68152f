//! The socket by which hooks and commands attach to a coordinator.
//!
//! What a graduation does is read from its file of events; the socket carries only what must be answered: the
//! vote, and the wish to stop. A client that does not read can therefore never block the coordinator.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::order::Notice;
use crate::process::ProcessId;
use crate::protocol::{self, LineError};

/// From a hook or command to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// This client is the one that asked for the graduation: if it goes away before the vote, it is aborted.
    Asker {
        /// git-receive-pack(1), in a push: when it has ended, the ref says what was decided.
        receive_pack: Option<ProcessId>,
    },
    /// All graduations of the push are ready: vote now.
    Vote {},
    /// The refs have moved: read them.
    TagMoved {},
    /// Go on from where it waits for a person.
    Go {
        /// Who says so.
        by: String,
    },
    /// It is live and stays: end the soak.
    Confirm {
        /// Who says so.
        by: String,
    },
    /// It is live and goes back.
    RollBack {
        /// Who says so.
        by: String,
    },
    /// Stop, if it is not too late.
    Stop {
        /// Who wants it and why.
        reason: String,
    },
}

/// From the coordinator to a hook or command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Tell {
    /// Everything is held; a vote may be asked for.
    Ready {},
    /// The vote is yes.
    Voted {},
    /// It is over; the last event tells how.
    Ended {
        /// How, if that could not be written down: on a full disk, for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unwritten: Option<Box<Notice>>,
    },
}

/// What a client does, as the coordinator's main loop sees it.
#[derive(Debug)]
pub(crate) enum ClientEvent {
    /// It asks for something.
    Asks(Ask),
    /// The client that asked for the graduation has disconnected.
    AskerGone,
}

/// Those who have asked for something and are still there. One who only looks costs no more than its connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clients(Arc<Mutex<Numbered>>);

#[derive(Debug, Default)]
struct Numbered {
    there: BTreeMap<u64, UnixStream>,
    /// How many have ever come.
    count: u64,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody has come and asked for something, and may have left since.
    pub(crate) fn have_come(&self) -> bool {
        self.lock().count > 0
    }

    /// Tells all of them something. One that does not read is no concern of ours: a message is far smaller than a
    /// socket's buffer, and three are all that ever come.
    pub(crate) fn tell(&self, message: &Tell) {
        for client in self.lock().there.values_mut() {
            let _ = client.set_write_timeout(Some(Duration::from_millis(200)));
            let _ = protocol::write(client, message);
        }
    }

    fn let_in(&self, connection: &UnixStream) -> io::Result<u64> {
        let back = connection.try_clone()?;
        let mut clients = self.lock();
        clients.count += 1;
        let number = clients.count;
        clients.there.insert(number, back);
        Ok(number)
    }

    fn let_go(&self, number: u64) {
        self.lock().there.remove(&number);
    }
}

/// How long nobody is let in after the system could not give us a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on a thread of its own, and a thread for each client, each of which tells what the client does as long as
/// somebody hears that.
///
/// # Errors
/// The socket cannot be made.
pub(crate) fn listen(
    path: &Path,
    clients: Clients,
    tell: impl Fn(ClientEvent) -> bool + Clone + Send + 'static,
) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (clients, tell) = (clients.clone(), tell.clone());
            let served = connection.and_then(|connection| {
                thread::Builder::new().spawn(move || serve(&connection, &clients, &tell))
            });
            // No room for another open file or thread, for one. That passes; trying without a pause would be all
            // that we do.
            if let Err(error) = served {
                log::warn!("cannot serve a client: {error}");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    });
    Ok(())
}

fn serve(connection: &UnixStream, clients: &Clients, tell: &impl Fn(ClientEvent) -> bool) {
    let mut number = None;
    let mut asker = false;
    let mut reader = BufReader::new(connection);
    while let Ok(Some(line)) = protocol::read_line(&mut reader) {
        let Ok(ask) = protocol::parse::<Ask>(&line) else { break };
        if number.is_none() {
            let Ok(new) = clients.let_in(connection) else { break };
            number = Some(new);
        }
        asker = asker || matches!(ask, Ask::Asker { .. });
        if !tell(ClientEvent::Asks(ask)) {
            return;
        }
    }
    if let Some(number) = number {
        clients.let_go(number);
    }
    if asker {
        tell(ClientEvent::AskerGone);
    }
}

/// A hook's or command's connection to a coordinator.
#[derive(Debug)]
pub(crate) struct Control {
    stream: UnixStream,
}

impl Control {
    /// Attaches to the coordinator that listens, or is about to listen, at `path`.
    ///
    /// # Errors
    /// Nobody does within `limit`, or `is_hopeless` says that nobody will.
    pub(crate) fn attach(path: &Path, limit: Duration, is_hopeless: impl Fn() -> bool) -> io::Result<Self> {
        let end = Instant::now() + limit;
        loop {
            // Asked first: it may have listened and ended since.
            let is_over = is_hopeless() || Instant::now() >= end;
            match UnixStream::connect(path) {
                Ok(stream) => return Ok(Self { stream }),
                Err(_) if !is_over => thread::sleep(Duration::from_millis(5)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// The coordinator is gone.
    pub(crate) fn ask(&mut self, ask: &Ask) -> io::Result<()> {
        protocol::write(&mut self.stream, ask)
    }

    /// A reader of what the coordinator tells, for a thread of its own.
    ///
    /// # Errors
    /// The descriptor cannot be copied.
    pub(crate) fn answers(&self) -> io::Result<Answers> {
        Ok(Answers { reader: BufReader::new(self.stream.try_clone()?) })
    }
}

/// What a coordinator tells.
#[derive(Debug)]
pub(crate) struct Answers {
    reader: BufReader<UnixStream>,
}

impl Answers {
    /// Waits for the next answer; `None` when the coordinator is gone.
    ///
    /// # Errors
    /// What came is not an answer.
    pub(crate) fn next_answer(&mut self) -> Result<Option<Tell>, LineError> {
        match protocol::read_line(&mut self.reader)? {
            Some(line) => protocol::parse(&line).map(Some),
            None => Ok(None),
        }
    }
}
