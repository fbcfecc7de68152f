//! The socket by which hooks and commands attach to a coordinator.
//!
//! Clients read what a graduation does from its file of events. The socket carries only requests (vote, go, verdict,
//! stop) and the few answers to them, so a client that does not read can never block the coordinator.

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

/// A message from a hook or command to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// This client asked for the graduation: if it disconnects before the vote, the graduation is aborted.
    Asker {
        /// git-receive-pack(1), in a push: once it has ended, the ref is the decision.
        receive_pack: Option<ProcessId>,
    },
    /// All graduations of the push are ready: vote now.
    Vote {},
    /// The refs have moved: read them.
    TagMoved {},
    /// Go live: a person allows the vote for which the run waits.
    Go {
        /// Who sends it.
        by: String,
    },
    /// The apps are live and stay: end the soak.
    Confirm {
        /// Who sends it.
        by: String,
    },
    /// The apps are live and go back.
    RollBack {
        /// Who sends it.
        by: String,
    },
    /// Stop, unless it is too late.
    Stop {
        /// Who wants it and why.
        reason: String,
    },
}

/// A message from the coordinator to a hook or command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Tell {
    /// All apps are held; the client may ask for the vote.
    Ready {},
    /// The vote is yes.
    Voted {},
    /// The graduation is over; its last notice says how it ended.
    Ended {
        /// The last notice, if it could not be written, as on a full disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unwritten: Option<Box<Notice>>,
    },
}

/// What a client does, as an event of the coordinator's main loop.
#[derive(Debug)]
pub(crate) enum ClientEvent {
    /// The client asks for something.
    Asks(Ask),
    /// The client that asked for the graduation has disconnected.
    AskerGone,
}

/// The connected clients that have sent a request. A client that only reads the events does not count as one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clients(Arc<Mutex<Numbered>>);

#[derive(Debug, Default)]
struct Numbered {
    there: BTreeMap<u64, UnixStream>,
    /// How many clients have been registered so far.
    count: u64,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports whether any client has ever sent a request, even if it has disconnected since.
    pub(crate) fn have_come(&self) -> bool {
        self.lock().count > 0
    }

    /// Sends a message to all clients. A client that does not read blocks nothing: a message is far smaller than a
    /// socket's buffer, and at most three are sent in all.
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

/// How long to pause after a connection could not be accepted or served.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on a thread of its own, and serves each client on another one, which passes what the client does to `tell`
/// until that returns `false`.
///
/// # Errors
/// The socket cannot be created.
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
            // The limit of open files or threads may be reached. That passes; without a pause this loop would use all
            // of a processor.
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
    /// Nothing listens within `limit`, or `is_hopeless` says that nothing will.
    pub(crate) fn attach(path: &Path, limit: Duration, is_hopeless: impl Fn() -> bool) -> io::Result<Self> {
        let end = Instant::now() + limit;
        loop {
            // Asked first: between a failed attempt and the question, the coordinator could begin to listen.
            let is_over = is_hopeless() || Instant::now() >= end;
            match UnixStream::connect(path) {
                Ok(stream) => return Ok(Self { stream }),
                Err(_) if !is_over => thread::sleep(Duration::from_millis(5)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The coordinator has exited.
    pub(crate) fn ask(&mut self, ask: &Ask) -> io::Result<()> {
        protocol::write(&mut self.stream, ask)
    }

    /// Returns a reader of what the coordinator sends, for a thread of its own.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated.
    pub(crate) fn answers(&self) -> io::Result<Answers> {
        Ok(Answers { reader: BufReader::new(self.stream.try_clone()?) })
    }
}

/// The messages of a coordinator.
#[derive(Debug)]
pub(crate) struct Answers {
    reader: BufReader<UnixStream>,
}

impl Answers {
    /// Waits for the next message; returns `None` when the coordinator has exited.
    ///
    /// # Errors
    /// What arrived is not a message.
    pub(crate) fn next_answer(&mut self) -> Result<Option<Tell>, LineError> {
        match protocol::read_line(&mut self.reader)? {
            Some(line) => protocol::parse(&line).map(Some),
            None => Ok(None),
        }
    }
}
