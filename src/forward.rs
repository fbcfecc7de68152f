//! `graduate:forward`: lets the source of a graduation connect to the web processes that it holds here, in a session
//! that [`crate::multiplex::talk`] describes.
//!
//! The source names an app; this side determines its container and address ([`held`]). After each connection it checks
//! whether the container is still the one that was held ([`held::Confirmed`]): until that is known, another container
//! could have taken over the address, so no bytes pass before. The decision ends the session.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::access::Access;
use crate::dokku::Dokku;
use crate::exit::Explain;
use crate::files::{FileError, Lock};
use crate::multiplex::talk::{HeldAnswer, HeldRequest, MAX_VHOST, MAX_VHOSTS};
use crate::multiplex::{Pump, PumpError, Side, StreamId, bridge};
use crate::names::{AppName, GraduationId};
use crate::participant::held::{self, Confirmed, HeldError, HeldWeb, Unreachable};
use crate::participant::store::{Store, only_session};
use crate::protocol::{self, LineError};
use crate::vars::Vars;

/// How long a container may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How often to check whether the graduation is decided.
const TICK: Duration = Duration::from_secs(1);

/// Why held processes cannot be reached, or no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    /// The graduation does not exist, is decided, or was begun by another source.
    #[error("no graduation {0} of this source holds anything on this host")]
    NotHolding(GraduationId),
    /// An earlier session is still open.
    #[error("another session is already connected to what graduation {0} holds")]
    Busy(GraduationId),
    /// The source's request cannot be parsed.
    #[error("cannot read what is to be reached: {0}")]
    Line(#[from] LineError),
    /// The source disconnected before it sent a request.
    #[error("nothing is to be reached")]
    Nothing,
    /// The held processes cannot be determined.
    #[error(transparent)]
    Held(#[from] HeldError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The connections cannot be multiplexed any further.
    #[error(transparent)]
    Pump(#[from] PumpError),
    /// A pipe failed.
    #[error("cannot {0}: {1}")]
    System(&'static str, #[source] io::Error),
}

impl Explain for ForwardError {}

/// Serves one session on our stdin and stdout until it ends or the graduation is decided; returns whether anything
/// could be reached.
///
/// # Errors
/// The refusal could not be written to the source, or the source violates the protocol.
pub(crate) fn run(vars: &Vars, access: &Access) -> Result<bool, ForwardError> {
    let mut stdin = BufReader::new(io::stdin());
    let (store, _lock, webs) = match begin(vars, access, &mut stdin) {
        Ok(begun) => begun,
        Err(error) => {
            say(&HeldAnswer::Refused { reason: protocol::clipped(error.to_string()) })?;
            return Ok(false);
        }
    };
    let dokku = Dokku::new(vars);
    for (app, found) in &webs {
        let mut vhosts = dokku.domains(app);
        vhosts.retain(|name| name.len() <= MAX_VHOST);
        vhosts.truncate(MAX_VHOSTS);
        let why_not = found.as_ref().err().map(Unreachable::to_string);
        say(&HeldAnswer::App { app: app.clone(), process: "web".to_owned(), vhosts, why_not })?;
    }
    say(&HeldAnswer::Ready {})?;
    let failed = |error| ForwardError::System("pass on connections", error);
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
    let link = bridge(stdin, File::from(stdout)).map_err(failed)?;
    let pump = Pump::new(link, Side::Destination).map_err(failed)?;
    let ways = webs.into_iter().filter_map(|(app, found)| Some((app, found.ok()?.into()))).collect();
    match Forwarding::new(pump, ways, store.clone()).map_err(failed)?.run(&store) {
        Err(ForwardError::Pump(PumpError::Ended)) => Ok(true),
        ended => ended.map(|()| true),
    }
}

fn say(told: &HeldAnswer) -> Result<(), ForwardError> {
    protocol::write(&mut io::stdout(), told).map_err(|error| ForwardError::System("answer", error))
}

type Webs = BTreeMap<AppName, Result<Vec<HeldWeb>, Unreachable>>;

/// Determines what the source may reach.
fn begin(
    vars: &Vars,
    access: &Access,
    stdin: &mut BufReader<io::Stdin>,
) -> Result<(Store, Lock, Webs), ForwardError> {
    let line = protocol::read_line(stdin)?.ok_or(ForwardError::Nothing)?;
    let HeldRequest { graduation } = protocol::parse(&line)?;
    let store = Store::at(vars, &graduation);
    let is_theirs = store.graduation()?.is_some_and(|found| found.was_begun_with(&vars.user));
    if !is_theirs || is_decided(&store) {
        return Err(ForwardError::NotHolding(graduation));
    }
    let lock = only_session(&store.forward_lock())?.ok_or(ForwardError::Busy(graduation))?;
    let mut webs = held::webs(&store)?;
    webs.retain(|app, _| access.may_touch(app));
    Ok((store, lock, webs))
}

fn is_decided(store: &Store) -> bool {
    store.decision().is_some() || store.is_settled()
}

/// A connection to a container.
struct Connected {
    id: StreamId,
    to: HeldWeb,
    /// None if the container did not accept the connection.
    stream: Option<TcpStream>,
}

/// One session that has begun.
struct Forwarding {
    pump: Pump,
    /// The web containers of each app, which take connections in turn.
    ways: BTreeMap<AppName, VecDeque<HeldWeb>>,
    /// To the thread that checks connections.
    connecting: Sender<Connected>,
    /// Checked connections; none for a connection that must be refused.
    checked: Receiver<(StreamId, Option<TcpStream>)>,
    /// Readable when `checked` has some.
    wake: UnixStream,
}

impl Forwarding {
    fn new(pump: Pump, ways: BTreeMap<AppName, VecDeque<HeldWeb>>, store: Store) -> io::Result<Self> {
        let (connecting, connected) = mpsc::channel();
        let (sender, checked) = mpsc::channel();
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        thread::spawn(move || check_all(&store, &connected, &sender, waker));
        Ok(Self { pump, ways, connecting, checked, wake })
    }

    fn run(mut self, store: &Store) -> Result<(), ForwardError> {
        let mut looked = Instant::now();
        loop {
            let turn = self.pump.turn(&[self.wake.as_fd()], Some(TICK))?;
            for (id, app) in turn.opened {
                self.connect(id, &app);
            }
            if turn.ready.contains(&true) {
                self.attach_all()?;
            }
            if looked.elapsed() >= TICK {
                looked = Instant::now();
                if is_decided(store) {
                    return Ok(());
                }
            }
        }
    }

    /// Connects on a separate thread to the next container of an app.
    fn connect(&mut self, id: StreamId, app: &AppName) {
        let Some(to) = self.ways.get_mut(app).and_then(VecDeque::pop_front) else {
            return self.pump.refuse(id);
        };
        self.ways.entry(app.clone()).or_default().push_back(to.clone());
        let connecting = self.connecting.clone();
        thread::spawn(move || {
            let stream = TcpStream::connect_timeout(&to.address, CONNECT_LIMIT).ok();
            // Without a receiver the session is over.
            let _ = connecting.send(Connected { id, to, stream });
        });
    }

    fn attach_all(&mut self) -> Result<(), ForwardError> {
        let mut space = [0; 256];
        while matches!(self.wake.read(&mut space), Ok(1..)) {}
        for (id, stream) in self.checked.try_iter() {
            match stream {
                Some(stream) => self
                    .pump
                    .attach(id, stream)
                    .map_err(|error| ForwardError::System("pass on a connection", error))?,
                None => self.pump.refuse(id),
            }
        }
        Ok(())
    }
}

/// Lets pass only the connections that lead to held containers. One question to Docker, if any is needed, serves all
/// connections that have arrived in the meantime.
fn check_all(
    store: &Store,
    connected: &Receiver<Connected>,
    checked: &Sender<(StreamId, Option<TcpStream>)>,
    mut waker: UnixStream,
) {
    let mut confirmed = Confirmed::default();
    while let Ok(first) = connected.recv() {
        let some: Vec<Connected> = std::iter::once(first).chain(connected.try_iter()).collect();
        let held = confirmed.held(some.iter().map(|one| &one.to));
        let is_decided = is_decided(store);
        for Connected { id, to, stream } in some {
            let stream = stream.filter(|_| !is_decided && held.contains(&to.container));
            if checked.send((id, stream)).is_err() {
                return;
            }
        }
        if waker.write_all(&[0]).is_err() {
            return;
        }
    }
}
