//! What the source knows of a destination's lease: until when the destination waits for it, and whether it still
//! answers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The lease, as seen from the source.
#[derive(Debug)]
pub(super) struct KnownLease {
    pub(super) length: Duration,
    /// The lease lasts for at least `length` from here on.
    renewed: Instant,
    /// When anything last arrived from the destination.
    heard: Instant,
    /// When the last renewal was requested.
    asked: Instant,
    /// The number of that request.
    number: u64,
    /// When each request that may still be answered was sent: on a slow link an answer arrives after the next
    /// request.
    unanswered: BTreeMap<u64, Instant>,
}

impl KnownLease {
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        Self { length, renewed: now, heard: now, asked: now, number: 0, unanswered: BTreeMap::new() }
    }

    /// Notes a new request to renew the lease, and returns its number.
    pub(super) fn ask(&mut self, now: Instant) -> u64 {
        self.number += 1;
        self.asked = now;
        self.unanswered.retain(|_, asked| now.duration_since(*asked) < self.length);
        self.unanswered.insert(self.number, now);
        self.number
    }

    /// Renews the lease from the time at which this renewal was requested. An answer that is repeated after a lost
    /// link changes nothing.
    pub(super) fn is_renewed(&mut self, number: u64) {
        if let Some(asked) = self.unanswered.remove(&number) {
            self.renewed = asked;
            self.unanswered.retain(|later, _| *later > number);
        }
    }

    pub(super) fn hears(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Reports whether the next renewal must be requested.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.asked) >= self.length / 6
    }

    /// Reports whether nothing at all has arrived for a whole lease.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        now.duration_since(self.heard) >= self.length
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.renewed)
    }

    /// Returns when the destination may no longer be waiting.
    pub(super) fn end(&self) -> Instant {
        self.renewed + self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns a lease of two minutes, and the time, after an hour of an abort in which every `answered`th renewal
    /// was answered.
    fn after_an_hour(answered: u32) -> (KnownLease, Instant) {
        let mut now = Instant::now();
        let mut lease = KnownLease::new(120 * SECOND, now);
        for second in 0..3600 {
            now += SECOND;
            if lease.is_due(now) {
                let number = lease.ask(now);
                if answered > 0 && (second / 20) % answered == 0 {
                    lease.hears(now);
                    lease.is_renewed(number);
                }
            }
            assert!(answered == 0 || !lease.is_silent(now), "it answers");
        }
        (lease, now)
    }

    #[test]
    fn who_answers_is_not_given_up_however_long_it_takes() {
        for answered in 1..6 {
            let (lease, now) = after_an_hour(answered);
            assert!(lease.end() > now, "one of {answered}: there is time to come back after a lost link");
        }
        let (lease, now) = after_an_hour(0);
        assert!(lease.is_silent(now) && lease.end() < now);
    }

    #[test]
    fn each_answer_renews_from_when_it_was_asked_for_and_only_once() {
        let start = Instant::now();
        let age = |lease: &KnownLease| lease.age(start + 50 * SECOND);
        let mut lease = KnownLease::new(120 * SECOND, start);
        let first = lease.ask(start + 20 * SECOND);
        let second = lease.ask(start + 40 * SECOND);
        lease.is_renewed(first);
        assert_eq!(age(&lease), 30 * SECOND);
        lease.is_renewed(second);
        assert_eq!(age(&lease), 10 * SECOND);
        for old in [first, second, second + 1] {
            lease.is_renewed(old);
            assert_eq!(age(&lease), 10 * SECOND);
        }
    }

    #[test]
    fn a_link_on_which_every_answer_is_late_keeps_the_lease() {
        let mut now = Instant::now();
        let mut lease = KnownLease::new(6 * SECOND, now);
        let mut asked = Vec::new();
        for second in 0..60 {
            now += SECOND;
            if lease.is_due(now) {
                asked.push((second, lease.ask(now)));
            }
            // Each answer takes two seconds, and a renewal is requested every second.
            for (_, number) in asked.extract_if(.., |(sent, _)| second - *sent >= 2) {
                lease.is_renewed(number);
            }
            assert!(lease.age(now) < 3 * SECOND, "after {second} s");
        }
    }
}
