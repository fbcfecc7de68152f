//! Stops whoever is about to write something, when it has only just made the temporary file or the lock for it: the
//! permission events of fanotify(7).

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::point::is_written_by;

/// How often the sentry looks whether it is still needed.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// Lets everyone pass but the first who opens what is awaited, and that one when it is dropped.
pub(crate) struct Sentry {
    awaited: Arc<Mutex<Option<PathBuf>>>,
    stopped: Receiver<()>,
    /// Dropped to dismiss the thread.
    on_duty: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sentry {
    /// Watches the file systems that begin at these places; nothing where that is not allowed.
    pub(crate) fn post<'p>(places: impl Iterator<Item = &'p PathBuf>) -> Option<Sentry> {
        let flags = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let group = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC).ok()?;
        for place in places {
            let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
            group.mark(flags, MaskFlags::FAN_OPEN_PERM, rustix::fs::CWD, Some(place.as_path())).ok()?;
        }
        let awaited = Arc::new(Mutex::new(None));
        let (tell, stopped) = mpsc::channel();
        let (on_duty, dismissed) = mpsc::channel();
        let theirs = Arc::clone(&awaited);
        let thread = thread::spawn(move || stand(&group, &theirs, &tell, &dismissed));
        Some(Sentry { awaited, stopped, on_duty: Some(on_duty), thread: Some(thread) })
    }

    /// Whoever is about to write this file is stopped; true if it has been.
    pub(crate) fn has_stopped_who_writes(&self, path: &Path) -> bool {
        *self.awaited.lock().unwrap() = Some(path.to_owned());
        self.stopped.try_recv().is_ok()
    }
}

impl Drop for Sentry {
    fn drop(&mut self) {
        drop(self.on_duty.take());
        let stood = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        assert!(stood || thread::panicking(), "the sentry did not stand to the end");
    }
}

/// It must not open a file itself. What it has not answered when the group is closed is allowed.
fn stand(group: &Fanotify, awaited: &Mutex<Option<PathBuf>>, tell: &Sender<()>, dismissed: &Receiver<()>) {
    let mut held: Option<FanotifyEvent> = None;
    while dismissed.try_recv() != Err(TryRecvError::Disconnected) {
        let _ = poll(&mut [PollFd::new(group, PollFlags::IN)], Some(&TURN));
        let events = match group.read_events() {
            Err(Errno::EAGAIN | Errno::EINTR) => Vec::new(),
            events => events.unwrap(),
        };
        for event in events {
            let Some(file) = event.fd() else { continue };
            let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
            let is_awaited =
                || awaited.lock().unwrap().as_ref().is_some_and(|path| is_written_by(path, &opened));
            if held.is_none() && is_awaited() {
                let _ = tell.send(());
                held = Some(event);
            } else {
                group.write_response(FanotifyResponse::new(file, Response::FAN_ALLOW)).unwrap();
            }
        }
    }
}
