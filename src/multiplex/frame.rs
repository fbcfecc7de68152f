//! The frames on the pipes, one after another.
//!
//! ```text
//! kind      1 byte    1 open, 2 data, 3 end, 4 reset, 5 credit
//! stream    4 bytes   its number, the highest byte first
//! length    2 bytes   of what follows, the highest byte first
//! content             open: the name of an app; data: at least one byte; credit: 4 bytes
//! ```

use crate::names::{AppName, InvalidName};

/// The longest content of a frame, in bytes.
pub(super) const MAX_CONTENT: usize = 16 * 1024;

const HEADER: usize = 7;

/// The number of a stream. The source numbers streams consecutively, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub(super) u32);

/// A message about one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The stream begins, and leads to the held version of this app. Only the source opens streams.
    Open(AppName),
    /// Bytes of the stream.
    Data(Vec<u8>),
    /// The sender of this frame sends no more bytes; it still receives.
    End,
    /// The stream is over in both directions; bytes in transit are lost.
    Reset,
    /// The receiver of this frame may send so many bytes more.
    Credit(u32),
}

/// The bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A kind that this version does not know.
    #[error("{0} is not a kind of frame")]
    Kind(u8),
    /// The length is not valid for the kind.
    #[error("a frame of kind {kind} has {length} bytes")]
    Length {
        /// The kind.
        kind: u8,
        /// The length in the header.
        length: usize,
    },
    /// The name in an open frame is not a valid app name.
    #[error(transparent)]
    App(#[from] InvalidName),
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Open(_) => 1,
            Self::Data(_) => 2,
            Self::End => 3,
            Self::Reset => 4,
            Self::Credit(_) => 5,
        }
    }

    /// Appends the frame to the bytes to send.
    pub(super) fn write(&self, stream: StreamId, to: &mut impl Extend<u8>) {
        let credit;
        let content = match self {
            Self::Open(app) => app.as_str().as_bytes(),
            Self::Data(bytes) => bytes,
            Self::End | Self::Reset => &[],
            Self::Credit(bytes) => {
                credit = bytes.to_be_bytes();
                &credit
            }
        };
        let length = u16::try_from(content.len()).expect("no frame is longer than MAX_CONTENT");
        to.extend([self.kind()]);
        to.extend(stream.0.to_be_bytes());
        to.extend(length.to_be_bytes());
        to.extend(content.iter().copied());
    }
}

/// Received bytes that are not a complete frame yet.
#[derive(Debug, Default)]
pub(super) struct Unparsed(Vec<u8>);

impl Unparsed {
    /// Adds received bytes, and returns the frames that are complete now.
    ///
    /// # Errors
    /// See [`FrameError`]. A header is checked before its content has arrived.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<(StreamId, Frame)>, FrameError> {
        self.0.extend_from_slice(bytes);
        let mut frames = Vec::new();
        let mut rest = self.0.as_slice();
        while let Some((stream, frame, length)) = first(rest)? {
            frames.push((stream, frame));
            rest = &rest[length..];
        }
        let parsed = self.0.len() - rest.len();
        self.0.drain(..parsed);
        Ok(frames)
    }
}

/// The frame at the beginning of these bytes and its length, if it is complete.
fn first(bytes: &[u8]) -> Result<Option<(StreamId, Frame, usize)>, FrameError> {
    let Some((&[kind, s0, s1, s2, s3, l0, l1], rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let fits = match kind {
        1 | 2 => (1..=MAX_CONTENT).contains(&length),
        3 | 4 => length == 0,
        5 => length == 4,
        _ => return Err(FrameError::Kind(kind)),
    };
    if !fits {
        return Err(FrameError::Length { kind, length });
    }
    let Some(content) = rest.get(..length) else { return Ok(None) };
    let frame = match (kind, content) {
        (1, name) => Frame::Open(String::from_utf8_lossy(name).parse()?),
        (2, bytes) => Frame::Data(bytes.to_vec()),
        (3, _) => Frame::End,
        (4, _) => Frame::Reset,
        (5, &[a, b, c, d]) => Frame::Credit(u32::from_be_bytes([a, b, c, d])),
        _ => return Err(FrameError::Kind(kind)),
    };
    let stream = StreamId(u32::from_be_bytes([s0, s1, s2, s3]));
    Ok(Some((stream, frame, HEADER + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<(StreamId, Frame)> {
        let frames = [
            Frame::Open("api".parse().unwrap()),
            Frame::Data(vec![0; MAX_CONTENT]),
            Frame::Credit(70_000),
            Frame::End,
            Frame::Reset,
        ];
        frames.into_iter().zip([1, 1, 7, u32::MAX, 0]).map(|(frame, id)| (StreamId(id), frame)).collect()
    }

    #[test]
    fn what_is_written_is_read_however_it_is_cut() {
        let mut bytes = Vec::new();
        all().iter().for_each(|(stream, frame)| frame.write(*stream, &mut bytes));
        assert_eq!(&bytes[..10], b"\x01\0\0\0\x01\0\x03api");
        for piece in [1, 2, 3, 7, 1000, bytes.len()] {
            let mut incoming = Unparsed::default();
            let read: Vec<_> = bytes.chunks(piece).flat_map(|bytes| incoming.take(bytes).unwrap()).collect();
            assert_eq!(read, all());
        }
    }

    #[test]
    fn what_is_not_a_frame_is_refused_by_its_header() {
        for (bytes, why) in [
            (b"\0\0\0\0\x01\0\0".as_slice(), "0 is not a kind of frame"),
            (b"\x06\0\0\0\x01\0\0", "6 is not a kind of frame"),
            (b"\x01\0\0\0\x01\0\0", "a frame of kind 1 has 0 bytes"),
            (b"\x02\0\0\0\x01\0\0", "a frame of kind 2 has 0 bytes"),
            (b"\x02\0\0\0\x01\x40\x01", "a frame of kind 2 has 16385 bytes"),
            (b"\x03\0\0\0\x01\0\x01", "a frame of kind 3 has 1 bytes"),
            (b"\x04\0\0\0\x01\0\x01", "a frame of kind 4 has 1 bytes"),
            (b"\x05\0\0\0\x01\0\x03", "a frame of kind 5 has 3 bytes"),
            (b"\x01\0\0\0\x01\0\x04../x", "\"../x\" is not the name of an app"),
            (b"\x01\0\0\0\x01\0\x01\xff", "is not the name of an app"),
        ] {
            let error = Unparsed::default().take(bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
