//! One end of all streams, as a machine: bytes from the pipes and from sockets go in, and bytes for both come out. It
//! knows no sockets, threads or time.
//!
//! Each direction of a stream has its own window: the sender may be [`WINDOW`] bytes ahead of what the other end has
//! passed on to its socket. So a socket whose peer does not read stops its own stream and no other, and memory is
//! bounded.

use std::collections::{BTreeMap, VecDeque};

use super::frame::{Frame, FrameError, MAX_CONTENT, StreamId, Unparsed};
use crate::names::AppName;

/// The largest number of streams at one time.
pub(crate) const MAX_STREAMS: usize = 256;

/// How many bytes of one direction of a stream may be in transit.
pub const WINDOW: u32 = 128 * 1024;

/// While this many bytes wait to be sent, nothing more is read from sockets.
const BACKLOG: usize = 64 * 1024;

/// More than this is never waiting unless the other end does not read: apart from data from sockets there are only
/// small frames.
const MAX_UNSENT: usize = 1 << 20;

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The end that opens streams.
    Source,
    /// The end that accepts them.
    Destination,
}

/// The other end broke the protocol; nothing more is accepted from it.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It is not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame for a stream that was never opened.
    #[error("stream {} was never opened", .0.0)]
    Unopened(StreamId),
    /// A stream was opened by the end that opens none, or with a number that was used before.
    #[error("stream {} cannot be opened", .0.0)]
    Open(StreamId),
    /// More data than the window allows.
    #[error("stream {} has more than its window", .0.0)]
    Window(StreamId),
    /// Data after the end.
    #[error("stream {} goes on after its end", .0.0)]
    AfterEnd(StreamId),
    /// More credit than a window has.
    #[error("stream {} is given more than its window", .0.0)]
    Credit(StreamId),
    /// Too many small frames wait to be sent.
    #[error("the other end does not read")]
    Unread,
}

/// A received event other than data.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrived {
    /// A stream to this app begins.
    Opened(StreamId, AppName),
    /// The stream is over in both directions.
    Reset(StreamId),
}

/// One stream, seen from this end.
#[derive(Debug)]
struct Stream {
    /// How many bytes this end may send.
    may_send: u32,
    has_sent_end: bool,
    /// Received bytes that are not passed on yet.
    inbox: VecDeque<u8>,
    /// How many bytes have been passed on since the last credit to the other end.
    passed_on: u32,
    has_heard_end: bool,
}

impl Stream {
    fn new() -> Self {
        Self {
            may_send: WINDOW,
            has_sent_end: false,
            inbox: VecDeque::new(),
            passed_on: 0,
            has_heard_end: false,
        }
    }

    /// How many more bytes the other end may send.
    fn allowed(&self) -> usize {
        WINDOW as usize - self.inbox.len() - self.passed_on as usize
    }
}

/// One end.
#[derive(Debug)]
pub struct Streams {
    side: Side,
    /// The highest stream number so far.
    last: u32,
    all: BTreeMap<StreamId, Stream>,
    incoming: Unparsed,
    unsent: VecDeque<u8>,
}

impl Streams {
    /// An end without streams.
    pub fn new(side: Side) -> Self {
        Self { side, last: 0, all: BTreeMap::new(), incoming: Unparsed::default(), unsent: VecDeque::new() }
    }

    /// Reports whether another stream may be opened.
    pub fn has_room(&self) -> bool {
        self.all.len() < MAX_STREAMS && self.last < u32::MAX && self.unsent.len() < BACKLOG
    }

    /// Opens a stream to an app. The caller checks [`Streams::has_room`] first.
    pub fn open(&mut self, app: AppName) -> StreamId {
        self.last += 1;
        let id = StreamId(self.last);
        self.all.insert(id, Stream::new());
        self.say(id, &Frame::Open(app));
        id
    }

    /// Reports whether the stream is open.
    pub(super) fn has(&self, id: StreamId) -> bool {
        self.all.contains_key(&id)
    }

    fn say(&mut self, id: StreamId, frame: &Frame) {
        frame.write(id, &mut self.unsent);
    }

    /// Accepts bytes from the pipes.
    ///
    /// # Errors
    /// See [`StreamError`]; this end can no longer be used.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Arrived>, StreamError> {
        let mut heard = Vec::new();
        for (id, frame) in self.incoming.take(bytes)? {
            heard.extend(self.hear(id, frame)?);
        }
        if self.unsent.len() > MAX_UNSENT { Err(StreamError::Unread) } else { Ok(heard) }
    }

    fn hear(&mut self, id: StreamId, frame: Frame) -> Result<Option<Arrived>, StreamError> {
        if let Frame::Open(app) = frame {
            return self.opened(id, app);
        }
        if id.0 == 0 || id.0 > self.last {
            return Err(StreamError::Unopened(id));
        }
        // Frames of a stream that is over may still have been in transit.
        let Some(stream) = self.all.get_mut(&id) else { return Ok(None) };
        match frame {
            Frame::Open(_) => return Err(StreamError::Open(id)),
            Frame::Data(_) | Frame::End if stream.has_heard_end => return Err(StreamError::AfterEnd(id)),
            Frame::Data(bytes) if bytes.len() > stream.allowed() => return Err(StreamError::Window(id)),
            Frame::Data(bytes) => stream.inbox.extend(bytes),
            Frame::End => stream.has_heard_end = true,
            Frame::Credit(bytes) => {
                let may_send = stream.may_send.checked_add(bytes).filter(|sum| *sum <= WINDOW);
                stream.may_send = may_send.ok_or(StreamError::Credit(id))?;
            }
            Frame::Reset => {
                self.all.remove(&id);
                return Ok(Some(Arrived::Reset(id)));
            }
        }
        Ok(None)
    }

    fn opened(&mut self, id: StreamId, app: AppName) -> Result<Option<Arrived>, StreamError> {
        if self.side == Side::Source || id.0 <= self.last {
            return Err(StreamError::Open(id));
        }
        self.last = id.0;
        if self.all.len() >= MAX_STREAMS {
            self.say(id, &Frame::Reset);
            return Ok(None);
        }
        self.all.insert(id, Stream::new());
        Ok(Some(Arrived::Opened(id, app)))
    }

    /// How many bytes may be read from a stream's socket now.
    pub(super) fn room(&self, id: StreamId) -> usize {
        match self.all.get(&id) {
            Some(stream) if !stream.has_sent_end && self.unsent.len() < BACKLOG => {
                MAX_CONTENT.min(stream.may_send as usize)
            }
            Some(_) | None => 0,
        }
    }

    /// Sends bytes from its socket, no more than [`Streams::room`].
    pub(super) fn send(&mut self, id: StreamId, bytes: Vec<u8>) {
        let Some(stream) = self.all.get_mut(&id) else { return };
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        stream.may_send =
            stream.may_send.checked_sub(length).expect("no more is taken than there is room for");
        self.say(id, &Frame::Data(bytes));
    }

    /// Its socket provides no more bytes.
    pub(super) fn end(&mut self, id: StreamId) {
        if let Some(stream) = self.all.get_mut(&id)
            && !std::mem::replace(&mut stream.has_sent_end, true)
        {
            self.say(id, &Frame::End);
        }
    }

    /// Ends the stream in both directions.
    pub(super) fn reset(&mut self, id: StreamId) {
        if self.all.remove(&id).is_some() {
            self.say(id, &Frame::Reset);
        }
    }

    /// The next bytes for its socket; possibly not all of them.
    pub fn inbox(&self, id: StreamId) -> &[u8] {
        self.all.get(&id).map_or(&[], |stream| stream.inbox.as_slices().0)
    }

    /// Its socket has accepted `count` of these bytes.
    pub fn passed_on(&mut self, id: StreamId, count: usize) {
        let Some(stream) = self.all.get_mut(&id) else { return };
        let count = stream.inbox.drain(..count).count();
        stream.passed_on += u32::try_from(count).unwrap_or(u32::MAX);
        if stream.passed_on >= WINDOW / 2 && !stream.has_heard_end {
            let credit = std::mem::take(&mut stream.passed_on);
            self.say(id, &Frame::Credit(credit));
        }
    }

    /// Reports whether its socket has received all bytes that will ever come.
    pub(super) fn is_at_end(&self, id: StreamId) -> bool {
        self.all.get(&id).is_none_or(|stream| stream.has_heard_end && stream.inbox.is_empty())
    }

    /// Forgets the stream if both directions have ended; returns whether they have.
    pub(super) fn is_over(&mut self, id: StreamId) -> bool {
        let is_over = self.is_at_end(id) && self.all.get(&id).is_none_or(|stream| stream.has_sent_end);
        if is_over {
            self.all.remove(&id);
        }
        is_over
    }

    /// The next bytes for the pipes; possibly not all of them.
    pub fn unsent(&self) -> &[u8] {
        self.unsent.as_slices().0
    }

    /// `count` of these bytes were sent.
    pub fn sent(&mut self, count: usize) {
        self.unsent.drain(..count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: StreamId = StreamId(1);

    fn api() -> AppName {
        "api".parse().unwrap()
    }

    fn bytes_of(frames: &[(u32, Frame)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|(id, frame)| frame.write(StreamId(*id), &mut bytes));
        bytes
    }

    fn data(length: usize) -> Frame {
        Frame::Data(vec![7; length])
    }

    /// A destination with stream 1.
    fn with_one() -> Streams {
        let mut streams = Streams::new(Side::Destination);
        let heard = streams.receive(&bytes_of(&[(1, Frame::Open(api()))])).unwrap();
        assert_eq!(heard, [Arrived::Opened(ONE, api())]);
        streams
    }

    #[test]
    fn who_breaks_the_rules_is_not_heard_any_more() {
        let full = vec![(1, data(MAX_CONTENT)); WINDOW as usize / MAX_CONTENT];
        let over = [full.as_slice(), &[(1, data(1))]].concat();
        for (frames, why) in [
            ([(2, data(1))].as_slice(), "stream 2 was never opened"),
            (&[(0, Frame::Reset)], "stream 0 was never opened"),
            (&[(1, Frame::Open(api()))], "stream 1 cannot be opened"),
            (&[(9, Frame::Open(api())), (8, Frame::Open(api()))], "stream 8 cannot be opened"),
            (&over, "stream 1 has more than its window"),
            (&[(1, Frame::End), (1, data(1))], "stream 1 goes on after its end"),
            (&[(1, Frame::End), (1, Frame::End)], "stream 1 goes on after its end"),
            (&[(1, Frame::Credit(1))], "stream 1 is given more than its window"),
            (&[(1, Frame::Credit(u32::MAX))], "stream 1 is given more than its window"),
        ] {
            let error = with_one().receive(&bytes_of(frames)).unwrap_err().to_string();
            assert_eq!(error, why);
        }
        let mut source = Streams::new(Side::Source);
        let error = source.receive(&bytes_of(&[(1, Frame::Open(api()))])).unwrap_err().to_string();
        assert_eq!(error, "stream 1 cannot be opened");
        // Frames of a stream that is over may still be in transit.
        let mut streams = with_one();
        streams.reset(ONE);
        assert_eq!(streams.receive(&bytes_of(&[(1, data(1)), (1, Frame::End)])).unwrap(), []);
    }

    #[test]
    fn who_opens_more_than_there_may_be_hears_so_and_who_reads_nothing_is_given_up() {
        let mut streams = Streams::new(Side::Destination);
        let mut open = |id: u32| streams.receive(&bytes_of(&[(id, Frame::Open(api()))]));
        let most = u32::try_from(MAX_STREAMS).unwrap();
        for id in 1..=most {
            assert_eq!(open(id).unwrap().len(), 1);
        }
        assert_eq!(open(most + 1).unwrap(), []);
        let error = (most + 2..).find_map(|id| open(id).err()).unwrap();
        assert!(matches!(error, StreamError::Unread), "{error}");
        assert!(streams.unsent.len() <= MAX_UNSENT + 7);
        let mut source = Streams::new(Side::Source);
        while source.has_room() {
            source.open(api());
        }
        assert_eq!(source.all.len(), MAX_STREAMS);
    }

    /// A small pseudorandom number generator.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % limit
        }
    }

    /// What one direction of a stream is to carry, and has carried.
    #[derive(Default)]
    struct Load {
        length: usize,
        taken: usize,
        arrived: usize,
    }

    /// The byte at a place of one direction: streams, directions and places differ.
    fn byte(id: StreamId, direction: usize, at: usize) -> u8 {
        (id.0 as usize * 131 + direction * 17 + at % 251) as u8
    }

    /// One end reads from its sockets, writes to them, and sends a piece to the other end.
    fn act(dice: &mut Dice, ends: &mut [Streams; 2], from: usize, loads: &mut BTreeMap<StreamId, [Load; 2]>) {
        let to = 1 - from;
        for (id, directions) in loads.iter_mut() {
            let load = &mut directions[from];
            let room = ends[from].room(*id).min(load.length - load.taken);
            match dice.below(4) {
                0 if room > 0 => {
                    let count = 1 + dice.below(room);
                    let bytes = (load.taken..load.taken + count).map(|at| byte(*id, from, at)).collect();
                    load.taken += count;
                    ends[from].send(*id, bytes);
                }
                1 if load.taken == load.length => ends[from].end(*id),
                2 => {
                    let inbox = ends[from].inbox(*id);
                    let count = if inbox.is_empty() { 0 } else { 1 + dice.below(inbox.len()) };
                    let load = &mut directions[to];
                    for (at, got) in (load.arrived..).zip(&inbox[..count]) {
                        assert_eq!(*got, byte(*id, to, at), "{id:?} at {at}");
                    }
                    load.arrived += count;
                    ends[from].passed_on(*id, count);
                }
                _ => {}
            }
            let waiting = ends[from].all.get(id).map_or(0, |stream| stream.inbox.len());
            assert!(waiting <= WINDOW as usize, "{waiting} bytes wait for one socket");
        }
        let most = BACKLOG + MAX_CONTENT + MAX_STREAMS * 300;
        assert!(ends[from].unsent.len() <= most, "{} bytes wait for the pipes", ends[from].unsent.len());
        let length = ends[from].unsent().len();
        if length > 0 {
            let piece = ends[from].unsent()[..1 + dice.below(length)].to_vec();
            ends[from].sent(piece.len());
            ends[to].receive(&piece).unwrap();
        }
    }

    #[test]
    fn every_byte_arrives_once_in_its_place_within_bounded_memory() {
        for seed in 1..=10 {
            let mut dice = Dice(seed);
            let mut ends = [Streams::new(Side::Source), Streams::new(Side::Destination)];
            let mut loads = BTreeMap::new();
            for _ in 0..=dice.below(12) {
                let load = |dice: &mut Dice| {
                    let most = [1, 1000, 400_000][dice.below(3)];
                    Load { length: dice.below(most), ..Load::default() }
                };
                loads.insert(ends[0].open(api()), [load(&mut dice), load(&mut dice)]);
            }
            let mut turns = 0;
            while !ends.iter().all(|end| end.all.is_empty()) {
                let from = dice.below(2);
                act(&mut dice, &mut ends, from, &mut loads);
                for id in loads.keys() {
                    ends[from].is_over(*id);
                }
                turns += 1;
                assert!(turns < 100_000, "seed {seed} does not come to its end");
            }
            for (id, directions) in &loads {
                directions.iter().for_each(|load| assert_eq!(load.arrived, load.length, "{id:?} of {seed}"));
            }
        }
    }
}
