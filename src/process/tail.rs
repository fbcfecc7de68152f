//! The end of what a child writes.

use std::io::Read;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a child writes, read to its end on a thread of its own, so that the child never waits for us; the last of it
/// is kept.
#[derive(Debug)]
pub(crate) struct Tail {
    kept: Arc<Mutex<Kept>>,
    ended: Receiver<()>,
}

#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    /// How many there have been.
    total: u64,
    heard: Instant,
}

impl Tail {
    /// Reads all of it and keeps the last `limit` bytes.
    pub(crate) fn of(mut output: impl Read + Send + 'static, limit: usize) -> Self {
        let kept = Arc::new(Mutex::new(Kept { bytes: Vec::new(), total: 0, heard: Instant::now() }));
        let sink = Arc::clone(&kept);
        let (at_its_end, ended) = mpsc::channel::<()>();
        thread::spawn(move || {
            let mut space = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut space) {
                let mut kept = locked(&sink);
                kept.heard = Instant::now();
                kept.total += count as u64;
                kept.bytes.extend_from_slice(&space[..count]);
                let excess = kept.bytes.len().saturating_sub(limit);
                kept.bytes.drain(..excess);
            }
            drop(at_its_end);
        });
        Self { kept, ended }
    }

    /// How long nothing has been written.
    pub(crate) fn silence(&self) -> Duration {
        locked(&self.kept).heard.elapsed()
    }

    /// How many bytes have been written.
    pub(crate) fn total(&self) -> u64 {
        locked(&self.kept).total
    }

    /// The end of it so far, when no more comes within `patience`: what explains the end of a child may still be on its
    /// way, and what it left running may keep the pipe open.
    pub(crate) fn text(&self, patience: Duration) -> String {
        // Both a timeout and the thread's end leave what there is.
        let _ = self.ended.recv_timeout(patience);
        String::from_utf8_lossy(&locked(&self.kept).bytes).trim().to_owned()
    }
}

fn locked(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_much_output_is_kept() {
        let much = std::io::repeat(b'x').take(1 << 20).chain(&b"the end\n"[..]);
        let tail = Tail::of(much, 10);
        assert_eq!(tail.text(Duration::from_secs(20)), "xxthe end");
    }
}
