//! Limits how much of what a destination reports is written for people: they read it from a file that is kept.

use std::cell::Cell;

use crate::names::EnvironmentName;
use crate::order::Notice;
use crate::protocol;

/// The most bytes of output of builds and hooks there: 256 MiB.
const MAX_OUTPUT: usize = 256 << 20;

/// The most bytes of everything else that it reports: 16 MiB.
const MAX_TOLD: usize = 16 << 20;

/// How many bytes were written.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    output: Cell<usize>,
    others: Cell<usize>,
}

impl Allowance {
    /// Says a notice, unless it exceeds the limit. A warning replaces the first one that does; later ones are
    /// dropped.
    pub(super) fn say(&self, environment: &EnvironmentName, notice: Notice, say: impl FnOnce(Notice)) {
        let is_output = matches!(notice, Notice::Log { .. } | Notice::HookLine { .. });
        let (bytes, limit) = if is_output { (&self.output, MAX_OUTPUT) } else { (&self.others, MAX_TOLD) };
        let before = bytes.get();
        bytes.set(before.saturating_add(protocol::encode(&notice).len()));
        if bytes.get() <= limit {
            say(notice);
        } else if before <= limit {
            let what = if is_output { "of output" } else { "besides its output" };
            let text =
                format!("{environment} has sent more than {} MiB {what}: the rest is not kept", limit >> 20);
            say(Notice::Warning { text });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_destination_cannot_fill_the_disk_with_words() {
        let environment = "production".parse().unwrap();
        let (told, said) = (Allowance::default(), RefCell::new(Vec::new()));
        let tell = |notice| told.say(&environment, notice, |notice| said.borrow_mut().push(notice));
        let log = || Notice::Log { app: "api".parse().unwrap(), text: "x".repeat(1 << 20) };
        let failed = || Notice::AppFailed { app: "api".parse().unwrap(), reason: "x".repeat(1 << 20) };
        (0..300).for_each(|_| tell(log()));
        assert_eq!(said.borrow().len(), 256, "each is a little more than one MiB");
        let last = said.borrow().last().cloned();
        let Some(Notice::Warning { text }) = last else { panic!("{last:?}") };
        assert_eq!(text, "production has sent more than 256 MiB of output: the rest is not kept");
        said.borrow_mut().clear();
        (0..50).for_each(|_| tell(failed()));
        assert_eq!(said.borrow().len(), 16, "what else it tells has a place of its own");
    }
}
