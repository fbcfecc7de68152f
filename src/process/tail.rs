//! The end of a child's output.

use std::io::Read;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Reads a child's output to its end on a thread of its own, so that the child never waits for us, and keeps the last
/// bytes.
#[derive(Debug)]
pub(crate) struct Tail {
    kept: Arc<Mutex<Kept>>,
    ended: Receiver<()>,
}

#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    /// The number of bytes so far.
    total: u64,
    heard: Instant,
}

impl Tail {
    /// Reads the whole output and keeps its last `limit` bytes.
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

    /// How long ago the last output was written.
    pub(crate) fn silence(&self) -> Duration {
        locked(&self.kept).heard.elapsed()
    }

    /// The number of bytes that have been written.
    pub(crate) fn total(&self) -> u64 {
        locked(&self.kept).total
    }

    /// The end of the output. Waits at most `patience` for the output to end: the reason for a child's end may still be
    /// in the pipe, and a background process of the child may keep the pipe open.
    pub(crate) fn text(&self, patience: Duration) -> String {
        // After a timeout, too, the output so far is returned.
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
