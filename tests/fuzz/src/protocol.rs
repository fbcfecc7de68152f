//! Lines between two hosts, and between a hook and a coordinator: `protocol.rs`, `coordinator/control.rs`.

use std::fmt::Debug;
use std::io::{BufRead, BufReader};

use dokku_graduate::exposed::Notice;
use dokku_graduate::exposed::Reporter;
use dokku_graduate::exposed::control::{Ask, Tell};
use dokku_graduate::exposed::legible;
use dokku_graduate::exposed::protocol::{self, MAX_LINE, MAX_LOG_TEXT, Report, Request};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) const WORDS: &[&str] = &[
    "{\"type\":\"",
    "live",
    "expect",
    "begin",
    "resume",
    "open",
    "prepare",
    "renew",
    "decide",
    "hello",
    "app",
    "refused",
    "log",
    "app-failed",
    "app-ended",
    "settled",
    "stuck",
    "\",\"app\":\"api\"",
    ",\"text\":\"",
    "\"reason\":\"",
    "\"}\n",
    "\\u001b[2J",
    "18446744073709551615",
    "null",
    "\n",
];

/// How many lines of one input are looked at.
const LINES: usize = 200;

pub(crate) fn feed(data: &[u8]) {
    // A small buffer, so that most lines come in pieces.
    let mut from = BufReader::with_capacity(7, data);
    let mut lines = data.split(|byte| *byte == b'\n');
    for _ in 0..LINES {
        match protocol::read_line(&mut from) {
            Ok(Some(line)) => {
                assert!(line.len() < MAX_LINE && !line.contains(&b'\n'));
                assert_eq!(Some(&line[..]), lines.next(), "another line was read than was written");
                is_one_message(&line);
            }
            Ok(None) => return assert_eq!(lines.next(), Some(&b""[..]), "something was not read"),
            Err(error) => {
                let left = lines.next().expect("what cannot be read is there");
                let is_last = lines.next().is_none();
                assert!(left.len() >= MAX_LINE || (is_last && !left.is_empty()), "{error}");
                let unread = from.fill_buf().map_or(0, <[u8]>::len);
                assert!(unread <= 7, "more was taken than one line may have");
                return is_readable(&error.to_string());
            }
        }
    }
}

fn is_one_message(line: &[u8]) {
    let forms = [
        is_written_back::<Request>(line),
        is_written_back::<Report>(line),
        is_written_back::<Ask>(line),
        is_written_back::<Tell>(line),
    ];
    if is_written_back::<Notice>(line) {
        is_shown(&protocol::parse(line).expect("it was parsed just now"));
    }
    // Nothing that one says can be taken for what the other says.
    assert!(!(forms[0] && forms[1]), "both a request and a report");
    if let Ok(Report::Log { text, .. }) = protocol::parse::<Report>(line) {
        assert!(protocol::clipped(text).len() <= MAX_LOG_TEXT);
    }
}

fn is_written_back<T: Serialize + DeserializeOwned + Debug + PartialEq>(line: &[u8]) -> bool {
    let message = match protocol::parse::<T>(line) {
        Ok(message) => message,
        Err(error) => {
            is_readable(&error.to_string());
            return false;
        }
    };
    let written = protocol::encode(&message);
    assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 1, "a message of several lines");
    let again = protocol::parse::<T>(&written[..written.len() - 1]).expect("its own text is a message");
    assert_eq!(again, message);
    assert_eq!(protocol::encode(&again), written, "its text is not a fixed point");
    true
}

/// An error quotes what came, shortened.
fn is_readable(text: &str) {
    assert!(text.len() < 4096, "an error of {} bytes", text.len());
    is_harmless(&legible(text.to_owned()));
}

/// Whatever the text of others says, it is shown as theirs.
fn is_shown(notice: &Notice) {
    let text = Reporter::new(false).text(notice);
    is_harmless(&text);
    if let Notice::Log { app, .. } = notice {
        assert!(text.lines().count() == 1 && text.starts_with(&format!("[{app}]")), "{text:?}");
    }
}

/// A terminal shows it and does nothing else: of control characters there are line ends, tabs and colours.
fn is_harmless(text: &str) {
    for piece in text.split('\u{1b}').skip(1) {
        let end = piece.find(|c: char| !"[;0123456789".contains(c)).expect("a sequence ends");
        assert!(piece.starts_with('[') && piece[end..].starts_with('m'), "{text:?} is more than colours");
    }
    let is_other = |c: char| c.is_control() && !"\n\t\u{1b}".contains(c);
    assert!(!text.contains(is_other), "{text:?} would reach a terminal");
}
