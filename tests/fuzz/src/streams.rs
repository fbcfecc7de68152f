//! What one end of a session of `graduate:forward` hears: `multiplex/frame.rs`, `multiplex/streams.rs`.
//!
//! The first byte of an input says which end it is, and in how long pieces the rest comes.

use dokku_graduate::exposed::legible;
use dokku_graduate::exposed::multiplex::{Arrived, Side, StreamError, StreamId, Streams, WINDOW};
use dokku_graduate::exposed::names::AppName;

/// Frames of streams 1 to 3.
pub(crate) const WORDS: &[&str] = &[
    "\u{1}\0\0\0\u{1}\0\u{3}api",
    "\u{1}\0\0\0\u{2}\0\u{3}web",
    "\u{1}\0\0\0\u{3}\0\u{4}../x",
    "\u{2}\0\0\0\u{1}\0\u{5}hello",
    "\u{2}\0\0\0\u{2}\0\u{1}x",
    "\u{2}\0\0\0\u{1}@\0",
    "\u{3}\0\0\0\u{1}\0\0",
    "\u{4}\0\0\0\u{1}\0\0",
    "\u{4}\0\0\0\u{2}\0\0",
    "\u{5}\0\0\0\u{1}\0\u{4}\0\0\0\u{7}",
    "\0\0\0\u{1}",
];

/// What waits to be sent at the most: answers are as many as questions.
const MOST_UNSENT: usize = 2 << 20;

pub(crate) fn feed(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let side = if first.is_multiple_of(2) { Side::Source } else { Side::Destination };
    let piece = usize::from(first / 2) + 1;
    // Why nothing more is heard hangs on what came together.
    let whole = heard(side, data, data.len().max(1), false).ok();
    assert_eq!(heard(side, data, piece, false).ok(), whole, "it matters how it is cut");
    // Sockets that take something leave room for more.
    if whole.is_some() {
        assert_eq!(heard(side, data, piece, true).ok(), whole, "it matters that sockets take what came");
    }
}

/// What an end hears of these bytes in such pieces, or why it hears no more.
fn heard(side: Side, data: &[u8], piece: usize, are_read: bool) -> Result<Vec<Arrived>, StreamError> {
    let mut end = Streams::new(side);
    let mut open: Vec<StreamId> = Vec::new();
    if side == Side::Source {
        let api: AppName = "api".parse().expect("it is a name");
        open.extend((0..3).map(|_| end.open(api.clone())));
    }
    let mut all = Vec::new();
    for bytes in data.chunks(piece) {
        let arrived = end.receive(bytes).inspect_err(is_readable)?;
        for one in &arrived {
            match one {
                Arrived::Opened(id, app) => {
                    assert_eq!(side, Side::Destination, "only the source opens streams");
                    assert!(!open.contains(id), "{id:?} is opened twice");
                    assert_eq!(app.as_str().parse().as_ref(), Ok(app));
                    open.push(*id);
                }
                Arrived::Reset(id) => open.retain(|other| other != id),
            }
        }
        all.extend(arrived);
        for id in &open {
            assert!(end.inbox(*id).len() <= WINDOW as usize, "{id:?} has more than its window");
            if are_read {
                end.passed_on(*id, end.inbox(*id).len());
            }
        }
        assert!(end.unsent().len() <= MOST_UNSENT, "{} bytes wait", end.unsent().len());
    }
    Ok(all)
}

fn is_readable(error: &StreamError) {
    let text = error.to_string();
    assert!(text.len() < 4096, "an error of {} bytes", text.len());
    assert!(!legible(text.clone()).contains('\u{1b}'), "{text:?} would reach a terminal");
}
