//! A gate that a hook of an operator waits at.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::host::Host;

/// Opens when it is told to, or when the test is over.
pub(crate) struct HookGate<'a> {
    host: &'a Host,
    /// The file that opens it, which the hook's command line names.
    pub(crate) path: String,
}

impl<'a> HookGate<'a> {
    /// A closed gate on a host.
    pub(crate) fn new(host: &'a Host) -> HookGate<'a> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        HookGate { host, path: format!("/tmp/graduate-gate-{}-{number}", std::process::id()) }
    }

    /// A hook that says `at the gate` and waits.
    pub(crate) fn script(&self) -> String {
        format!("echo at the gate; until [ -e {} ]; do sleep 0.02; done", self.path)
    }

    /// Lets through whoever comes.
    pub(crate) fn open(&self) {
        self.host.root(&format!("touch {}", self.path)).succeeds();
    }
}

impl Drop for HookGate<'_> {
    fn drop(&mut self) {
        // A test that failed has not opened it; on a real host the hook would wait for ever.
        self.host.root(&format!("touch {0}; sleep 0.1; rm -f {0}", self.path));
    }
}
