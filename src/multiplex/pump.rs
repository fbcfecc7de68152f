//! The loop around [`Streams`]: real sockets on one side of it, the pipes on the other.
//!
//! One thread waits for all of them together (poll(2)). No socket blocks, and what is in memory is what [`Streams`] bounds.

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

/// How much is read of the pipes at once.
const PIECE: usize = 64 * 1024;

/// Nothing goes over the pipes any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PumpError {
    /// The other end is gone.
    #[error("the session ended")]
    Ended,
    /// The other end does not keep to the rules.
    #[error(transparent)]
    Streams(#[from] StreamError),
    /// The system does not let us.
    #[error("cannot pass on connections: {0}")]
    System(#[from] io::Error),
}

/// Makes one socket of two pipes, for [`Pump::new`]: what is read of `from` can be read of it, and what is written to it goes
/// to `to`. Two threads copy, so that pipes which others use, too, may block.
///
/// # Errors
/// There is no more room for open files.
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

/// Copies until either has its end, or fails. [`io::copy`] would use splice(2), which keeps a pipe locked while it waits for
/// the socket: whoever reads the pipe (sshd, with all that it serves over the same connection) would wait as long.
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
    /// It was told that no more comes.
    is_ended: bool,
}

/// What came of a turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The streams that were opened, and where they lead: each wants [`Pump::attach`] or [`Pump::refuse`].
    pub(crate) opened: Vec<(StreamId, AppName)>,
    /// Which of the others can be read.
    pub(crate) ready: Vec<bool>,
}

/// One end of all connections. When it is dropped, those that are open are reset.
#[derive(Debug)]
pub(crate) struct Pump {
    link: UnixStream,
    streams: Streams,
    sockets: BTreeMap<StreamId, Socket>,
    /// Whose turn it was last to be read.
    last: StreamId,
}

impl Pump {
    /// Talks over a socket of [`bridge`].
    ///
    /// # Errors
    /// The socket cannot be made not to block.
    pub(crate) fn new(link: UnixStream, side: Side) -> io::Result<Self> {
        link.set_nonblocking(true)?;
        Ok(Self { link, streams: Streams::new(side), sockets: BTreeMap::new(), last: StreamId(0) })
    }

    /// Another connection has room.
    pub(crate) fn has_room(&self) -> bool {
        self.streams.has_room()
    }

    /// Has a connection lead to an app.
    ///
    /// # Errors
    /// The socket cannot be made not to block.
    pub(crate) fn open(&mut self, app: AppName, stream: TcpStream) -> io::Result<()> {
        let id = self.streams.open(app);
        self.attach(id, stream)
    }

    /// Connects a stream that was opened by the other end.
    ///
    /// # Errors
    /// The socket cannot be made not to block.
    pub(crate) fn attach(&mut self, id: StreamId, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        // What is passed on has been put together by others.
        stream.set_nodelay(true)?;
        // The other end may have reset it meanwhile, or have said all that it will.
        if self.streams.has(id) {
            self.sockets.insert(id, Socket { stream, is_ended: false });
            self.finish(id);
        } else {
            reset(stream);
        }
        Ok(())
    }

    /// A stream that was opened by the other end leads nowhere.
    pub(crate) fn refuse(&mut self, id: StreamId) {
        self.streams.reset(id);
    }

    /// Waits until something can be done, or one of `others` can be read, or for `limit`; and does what can be done.
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

    /// Whether the link can be read, which of the others can, and the streams whose sockets can do something, the one after
    /// the last that was read first.
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
            // Of one that is asked for nothing, poll(2) would tell all the time that it is hung up.
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
        // An end has no bytes for which a socket would have to be waited for.
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

    /// Moves what can be moved between a socket and its stream.
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

    /// Tells its socket of the end, and lets go of it when there is nothing more to do.
    fn finish(&mut self, id: StreamId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if self.streams.is_at_end(id) && !std::mem::replace(&mut socket.is_ended, true) {
            // One that was closed in the meantime has been told.
            let _ = socket.stream.shutdown(Shutdown::Write);
        }
        if self.streams.is_over(id) {
            self.sockets.remove(&id);
        }
    }

    /// Resets its socket: who has not read all of it must not take it for complete.
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

/// Closes a connection so that its other end sees that it was broken off.
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

    /// Two ends that talk on threads of their own; connections to the address lead to whoever listens at `there`.
    struct Both {
        address: std::net::SocketAddr,
        /// Ends both when it is dropped.
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

    /// Gives back what it is sent when it has all of it.
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
            // Of some the first thing that comes is the end.
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
            // The first is accepted, and not read.
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
        // By the one who listens.
        let stream = both.connect();
        reset(accepted.recv().unwrap());
        assert!(is_reset(stream));
        // By the one who has connected.
        reset(both.connect());
        let far = accepted.recv().unwrap();
        far.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert!(is_reset(far));
        // By the end of everything.
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
        // While nothing comes of the socket, others can use the pipe.
        also_theirs.write_all(b"too").unwrap();
        of_us.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"too");
        drop((link, also_theirs));
        assert_eq!(of_us.read(&mut said).unwrap(), 0);
    }
}
