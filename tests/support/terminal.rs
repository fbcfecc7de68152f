//! A real pseudo-terminal with a program at it: what stands on its screen, and what is typed.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::ran::patience;

/// Its size: rows and columns.
const SIZE: (NonZero<u16>, NonZero<u16>) = (NonZero::new(40).unwrap(), NonZero::new(100).unwrap());

/// The columns of a narrow one.
pub(crate) const NARROW: NonZero<u16> = NonZero::new(80).unwrap();

/// The lines of a screen. Whoever pads lines to its whole width makes one long line of them elsewhere.
fn lines(screen: &vt100::Screen) -> String {
    screen.rows(0, screen.size().1.get()).map(|row| row.trim_end().to_owned() + "\n").collect()
}

/// What the program has written so far, as bytes and as a screen shows it.
struct Screen {
    parser: vt100::Parser,
    raw: Vec<u8>,
    is_over: bool,
}

struct Shared {
    screen: Mutex<Screen>,
    changed: Condvar,
}

/// A program at a terminal. It ends with the value.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    shared: Arc<Shared>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Left {
    /// The exit status, unless a signal killed it.
    pub(crate) status: Option<i32>,
    /// The last screen.
    pub(crate) screen: String,
    /// All that was written.
    pub(crate) raw: String,
}

impl Terminal {
    /// Starts a program at a new terminal.
    pub(crate) fn start(command: Command) -> Terminal {
        Terminal::start_of(command, SIZE.1)
    }

    /// Starts a program at a new terminal of so many columns.
    pub(crate) fn start_of(mut command: Command, columns: NonZero<u16>) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let keyboard = openpt(flags).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let (ws_row, ws_col) = (SIZE.0.get(), columns.get());
        tcsetwinsize(&keyboard, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let line = || File::from(open(name.as_c_str(), flags, Mode::empty()).unwrap());
        let child = command.stdin(line()).stdout(line()).stderr(line()).spawn().unwrap();
        // The command holds ends of the terminal, too.
        drop(command);
        let parser = vt100::Parser::new(SIZE.0, columns, 0);
        let screen = Mutex::new(Screen { parser, raw: Vec::new(), is_over: false });
        let shared = Arc::new(Shared { screen, changed: Condvar::new() });
        let keyboard = File::from(keyboard);
        let (seen, output) = (Arc::clone(&shared), keyboard.try_clone().unwrap());
        thread::spawn(move || watch(output, &seen));
        Terminal { child, keyboard, shared }
    }

    /// Types this.
    pub(crate) fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the screen is so, and gives it.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + patience();
        let mut screen = self.shared.screen.lock().unwrap();
        loop {
            let text = lines(screen.parser.screen());
            if is_so(&text) {
                return text;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain until {what}:\n{text}");
            assert!(!screen.is_over, "it ended before {what}:\n{text}");
            screen = self.shared.changed.wait_timeout(screen, left).unwrap().0;
        }
    }

    /// Waits until this stands on the screen.
    #[track_caller]
    pub(crate) fn until_shows(&self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Left {
        let deadline = Instant::now() + patience();
        let mut screen = self.shared.screen.lock().unwrap();
        while !screen.is_over {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it does not end:\n{}", lines(screen.parser.screen()));
            screen = self.shared.changed.wait_timeout(screen, left.min(Duration::from_secs(1))).unwrap().0;
        }
        let text = lines(screen.parser.screen());
        let raw = String::from_utf8_lossy(&screen.raw).into_owned();
        drop(screen);
        Left { status: self.child.wait().unwrap().code(), screen: text, raw }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watch(mut output: File, shared: &Shared) {
    let mut buffer = [0; 4096];
    loop {
        // When nobody has the terminal open any more, reading it is an error; pty(7).
        let count = output.read(&mut buffer).unwrap_or(0);
        let mut screen = shared.screen.lock().unwrap();
        screen.raw.extend_from_slice(&buffer[..count]);
        screen.parser.process(&buffer[..count]);
        screen.is_over = count == 0;
        shared.changed.notify_all();
        if count == 0 {
            return;
        }
    }
}
