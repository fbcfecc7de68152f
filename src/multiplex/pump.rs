//! The loop around [`Streams`], between real sockets and the pipes.
//!
//! One thread waits for all of them together (poll(2)). No socket blocks, and memory is bounded by what [`Streams`]
//! holds.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Bound::{Excluded, Unbounded};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::time::Timespec;

use super::frame::StreamId;
use super::streams::{Arrived, Side, StreamError, Streams};
use crate::names::AppName;

/// How much is read from the pipes at once, in bytes.
const PIECE: usize = 64 * 1024;

/// The session cannot continue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PumpError {
    /// The other end has disconnected.
    #[error("the session ended")]
    Ended,
    /// The other end broke the protocol.
    #[error(transparent)]
    Streams(#[from] StreamError),
    /// A system call failed.
    #[error("cannot pass on connections: {0}")]
    System(#[from] io::Error),
}

/// Makes one socket from two pipes, for [`Pump::new`]: reading it reads `from`, and writing it writes to `to`. Two
/// threads copy the bytes, so that pipes which are shared with others may block.
///
/// # Errors
/// The limit on open files is reached.
pub(crate) fn bridge(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
) -> io::Result<UnixStream> {
    let (ours, mut into) = UnixStream::pair()?;
    let mut out_of = into.try_clone()?;
    thread::spawn(move || {
        copy(&mut from, &mut into);
        let _ = into.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        copy(&mut out_of, &mut to);
        let _ = out_of.shutdown(Shutdown::Read);
    });
    Ok(ours)
}

/// Copies until either side ends or fails. [`io::copy`] would use splice(2), which keeps a pipe locked while it waits
/// for the socket: the reader of the pipe (sshd, with everything else on the same connection) would wait as long.
fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut space = vec![0; PIECE];
    loop {
        match from.read(&mut space) {
            Ok(0) => return,
            Ok(count) => {
                if to.write_all(&space[..count]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// A stream's socket.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    /// Whether it has been shut down for writing.
    is_ended: bool,
}

/// The result of a turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The streams that were opened, with their apps: the caller calls [`Pump::attach`] or [`Pump::refuse`] for each.
    pub(crate) opened: Vec<(StreamId, AppName)>,
    /// Which of the other descriptors can be read.
    pub(crate) ready: Vec<bool>,
}

/// One end of all connections. Dropping it resets the open ones.
#[derive(Debug)]
pub(crate) struct Pump {
    link: UnixStream,
    streams: Streams,
    sockets: BTreeMap<StreamId, Socket>,
    /// The stream whose socket was read last.
    last: StreamId,
}

impl Pump {
    /// Uses a socket of [`bridge`].
    ///
    /// # Errors
    /// The socket cannot be made non-blocking.
    pub(crate) fn new(link: UnixStream, side: Side) -> io::Result<Self> {
        link.set_nonblocking(true)?;
        Ok(Self { link, streams: Streams::new(side), sockets: BTreeMap::new(), last: StreamId(0) })
    }

    /// Reports whether another connection may be opened.
    pub(crate) fn has_room(&self) -> bool {
        self.streams.has_room()
    }

    /// Opens a stream to an app for a connection.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking.
    pub(crate) fn open(&mut self, app: AppName, stream: TcpStream) -> io::Result<()> {
        let id = self.streams.open(app);
        self.attach(id, stream)
    }

    /// Connects a stream that the other end has opened.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking.
    pub(crate) fn attach(&mut self, id: StreamId, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        // The data arrives in pieces that the sender has already put together.
        stream.set_nodelay(true)?;
        // In the meantime the other end may have reset the stream or ended its direction.
        if self.streams.has(id) {
            self.sockets.insert(id, Socket { stream, is_ended: false });
            self.finish(id);
        } else {
            reset(stream);
        }
        Ok(())
    }

    /// Refuses a stream that the other end has opened.
    pub(crate) fn refuse(&mut self, id: StreamId) {
        self.streams.reset(id);
    }

    /// Waits until there is work, or one of `others` can be read, or for `limit`; then does all work that is possible.
    ///
    /// # Errors
    /// See [`PumpError`].
    pub(crate) fn turn(
        &mut self,
        others: &[BorrowedFd<'_>],
        limit: Option<Duration>,
    ) -> Result<Turn, PumpError> {
        let (link, ready, sockets) = self.wait(others, limit)?;
        let mut turn = Turn { opened: Vec::new(), ready };
        if link {
            turn.opened = self.read_link()?;
        }
        for id in sockets {
            self.serve(id);
        }
        self.write_link()?;
        Ok(turn)
    }

    /// Returns whether the link can be read, which of the others can, and the streams whose sockets are ready,
    /// beginning with the one after the last that was read.
    fn wait(
        &self,
        others: &[BorrowedFd<'_>],
        limit: Option<Duration>,
    ) -> Result<(bool, Vec<bool>, Vec<StreamId>), PumpError> {
        let to_link = if self.streams.unsent().is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let mut polled = vec![PollFd::from_borrowed_fd(self.link.as_fd(), PollFlags::IN | to_link)];
        polled.extend(others.iter().map(|other| PollFd::from_borrowed_fd(*other, PollFlags::IN)));
        let after = self.sockets.range((Excluded(self.last), Unbounded));
        let in_turn = after.chain(self.sockets.range(..=self.last));
        let mut ids = Vec::with_capacity(self.sockets.len());
        for (id, socket) in in_turn {
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, self.streams.room(*id) > 0);
            wanted.set(PollFlags::OUT, !self.streams.inbox(*id).is_empty());
            // For a socket of which nothing is wanted, poll(2) would report a hang-up all the time.
            if !wanted.is_empty() {
                polled.push(PollFd::from_borrowed_fd(socket.stream.as_fd(), wanted));
                ids.push(*id);
            }
        }
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match poll(&mut polled, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(PumpError::System(error.into())),
        }
        let happened = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let ready = polled[1..=others.len()].iter().map(happened).collect();
        let sockets = ids.into_iter().zip(&polled[1 + others.len()..]);
        let sockets = sockets.filter(|(_, fd)| happened(fd)).map(|(id, _)| id).collect();
        Ok((polled[0].revents().difference(PollFlags::OUT) != PollFlags::empty(), ready, sockets))
    }

    fn read_link(&mut self) -> Result<Vec<(StreamId, AppName)>, PumpError> {
        let mut space = vec![0; PIECE];
        let count = match self.link.read(&mut space) {
            Ok(0) => return Err(PumpError::Ended),
            Ok(count) => count,
            Err(error) if is_for_later(&error) => return Ok(Vec::new()),
            Err(_) => return Err(PumpError::Ended),
        };
        let mut opened = Vec::new();
        for heard in self.streams.receive(&space[..count])? {
            match heard {
                Arrived::Opened(id, app) => opened.push((id, app)),
                Arrived::Reset(id) => self.cut(id),
            }
        }
        // An end has no bytes, so that no socket becomes ready because of it.
        let ended: Vec<StreamId> =
            self.sockets.keys().filter(|id| self.streams.is_at_end(**id)).copied().collect();
        ended.into_iter().for_each(|id| self.finish(id));
        Ok(opened)
    }

    fn write_link(&mut self) -> Result<(), PumpError> {
        while !self.streams.unsent().is_empty() {
            match self.link.write(self.streams.unsent()) {
                Ok(count) => self.streams.sent(count),
                Err(error) if is_for_later(&error) => break,
                Err(_) => return Err(PumpError::Ended),
            }
        }
        Ok(())
    }

    /// Moves bytes between a socket and its stream.
    fn serve(&mut self, id: StreamId) {
        match self.give(id).and_then(|()| self.take(id)) {
            Ok(()) => self.finish(id),
            Err(error) if is_for_later(&error) => self.finish(id),
            Err(_) => {
                self.streams.reset(id);
                self.cut(id);
            }
        }
    }

    fn give(&mut self, id: StreamId) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(&id) else { return Ok(()) };
        while !self.streams.inbox(id).is_empty() {
            match socket.stream.write(self.streams.inbox(id)) {
                Ok(count) => self.streams.passed_on(id, count),
                Err(error) if is_for_later(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&mut self, id: StreamId) -> io::Result<()> {
        let room = self.streams.room(id);
        let Some(socket) = self.sockets.get_mut(&id).filter(|_| room > 0) else { return Ok(()) };
        let mut space = vec![0; room];
        match socket.stream.read(&mut space)? {
            0 => self.streams.end(id),
            count => {
                space.truncate(count);
                self.streams.send(id, space);
                self.last = id;
            }
        }
        Ok(())
    }

    /// Shuts its socket down at the end of the stream, and drops it when both directions have ended.
    fn finish(&mut self, id: StreamId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if self.streams.is_at_end(id) && !std::mem::replace(&mut socket.is_ended, true) {
            // A socket that was closed in the meantime needs no shutdown.
            let _ = socket.stream.shutdown(Shutdown::Write);
        }
        if self.streams.is_over(id) {
            self.sockets.remove(&id);
        }
    }

    /// Resets its socket, so that a reader that has not received everything does not treat it as complete.
    fn cut(&mut self, id: StreamId) {
        if let Some(socket) = self.sockets.remove(&id) {
            reset(socket.stream);
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        std::mem::take(&mut self.sockets).into_values().for_each(|socket| reset(socket.stream));
    }
}

/// Closes a connection with a reset, so that its peer sees that it is incomplete.
pub(crate) fn reset(stream: TcpStream) {
    if let Err(error) = set_socket_linger(&stream, Some(Duration::ZERO)) {
        log::warn!("a connection ends as if it were complete: {error}");
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::*;

    /// Two ends on threads of their own. Connections to `address` lead to the listener `there`.
    struct Both {
        address: std::net::SocketAddr,
        /// Dropping it ends both.
        over: Option<UnixStream>,
        threads: Vec<thread::JoinHandle<()>>,
    }

    impl Both {
        fn leading_to(there: &TcpListener) -> Both {
            let there = there.local_addr().unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let address = listener.local_addr().unwrap();
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (over, is_over) = UnixStream::pair().unwrap();
            let source = thread::spawn(move || {
                let mut pump = Pump::new(ours, Side::Source).unwrap();
                let app: AppName = "api".parse().unwrap();
                loop {
                    let others = [is_over.as_fd(), listener.as_fd()];
                    let listened = if pump.has_room() { &others[..] } else { &others[..1] };
                    let turn = pump.turn(listened, None).unwrap();
                    if turn.ready[0] {
                        return;
                    }
                    while pump.has_room()
                        && let Ok((stream, _)) = listener.accept()
                    {
                        pump.open(app.clone(), stream).unwrap();
                    }
                }
            });
            let destination = thread::spawn(move || {
                let mut pump = Pump::new(theirs, Side::Destination).unwrap();
                loop {
                    match pump.turn(&[], None) {
                        Ok(turn) => {
                            turn.opened.into_iter().for_each(|(id, _)| match TcpStream::connect(there) {
                                Ok(stream) => pump.attach(id, stream).unwrap(),
                                Err(_) => pump.refuse(id),
                            })
                        }
                        Err(PumpError::Ended) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            Both { address, over: Some(over), threads: vec![source, destination] }
        }

        fn connect(&self) -> TcpStream {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            stream
        }

        fn end(&mut self) {
            drop(self.over.take());
            self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        }
    }

    impl Drop for Both {
        fn drop(&mut self) {
            if !thread::panicking() {
                self.end();
            }
        }
    }

    /// Echoes what it receives, once it has all of it.
    fn echoes_at_the_end(listener: &TcpListener) {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                stream.write_all(&all).unwrap();
            });
        }
    }

    #[test]
    fn many_connections_are_told_apart_and_each_direction_has_its_own_end() {
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let both = Both::leading_to(&there);
        thread::spawn(move || echoes_at_the_end(&there));
        let one = |number: usize| {
            // On some connections the first event is the end.
            let text: Vec<u8> = (0..number * 9000).map(|at| (at * 31 + number) as u8).collect();
            let mut stream = both.connect();
            stream.write_all(&text).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            assert!(back == text, "{number}: {} bytes came of {}", back.len(), text.len());
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..300).map(|number| scope.spawn(move || one(number % 60))).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    #[test]
    fn who_does_not_read_stops_nobody_else() {
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let both = Both::leading_to(&there);
        let (sender, unread) = mpsc::channel();
        thread::spawn(move || {
            // The first connection is accepted, and not read.
            sender.send(there.accept().unwrap()).unwrap();
            echoes_at_the_end(&there);
        });
        let mut stuck = both.connect();
        stuck.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let piece = vec![0; 1 << 20];
        let taken = (0..64).take_while(|_| stuck.write_all(&piece).is_ok()).count();
        assert!(taken < 64, "{taken} MiB were taken for one who reads nothing");
        let mut other = both.connect();
        other.write_all(b"all the same").unwrap();
        other.shutdown(Shutdown::Write).unwrap();
        let mut back = String::new();
        other.read_to_string(&mut back).unwrap();
        assert_eq!(back, "all the same");
        drop(unread);
    }

    #[test]
    fn what_is_broken_off_does_not_look_complete() {
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut both = Both::leading_to(&there);
        let (sender, accepted) = mpsc::channel();
        thread::spawn(move || there.incoming().for_each(|stream| sender.send(stream.unwrap()).unwrap()));
        let is_reset = |mut stream: TcpStream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap_err().kind() == ErrorKind::ConnectionReset
        };
        // By the listener.
        let stream = both.connect();
        reset(accepted.recv().unwrap());
        assert!(is_reset(stream));
        // By the client.
        reset(both.connect());
        let far = accepted.recv().unwrap();
        far.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert!(is_reset(far));
        // By the end of the session.
        let near = both.connect();
        let far = accepted.recv().unwrap();
        far.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        both.end();
        assert!(is_reset(near) && is_reset(far));
    }

    #[test]
    fn nobody_listens_any_more() {
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let both = Both::leading_to(&there);
        drop(there);
        let mut all = Vec::new();
        assert_eq!(both.connect().read_to_end(&mut all).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn two_pipes_are_one_socket() {
        let (from, mut to_us) = io::pipe().unwrap();
        let (mut of_us, to) = io::pipe().unwrap();
        let mut also_theirs = to.try_clone().unwrap();
        let mut link = bridge(from, to).unwrap();
        to_us.write_all(b"in").unwrap();
        drop(to_us);
        let mut heard = String::new();
        link.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "in");
        link.write_all(b"out").unwrap();
        let mut said = [0; 3];
        of_us.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"out");
        // While the socket provides nothing, other processes can use the pipe.
        also_theirs.write_all(b"too").unwrap();
        of_us.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"too");
        drop((link, also_theirs));
        assert_eq!(of_us.read(&mut said).unwrap(), 0);
    }
}
