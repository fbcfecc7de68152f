//! What is known of a destination's lease: until when it waits for us, and whether it still answers.

use std::time::{Duration, Instant};

/// The lease, as seen from the source.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) length: Duration,
    /// It lasts from here on, at least.
    renewed: Instant,
    /// When anything was heard of the destination.
    heard: Instant,
    asked: Instant,
    /// The number of the last request to renew.
    number: u64,
}

impl Lease {
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        Self { length, renewed: now, heard: now, asked: now, number: 0 }
    }

    /// The number of a new request to renew it.
    pub(super) fn ask(&mut self, now: Instant) -> u64 {
        self.number += 1;
        self.asked = now;
        self.number
    }

    /// It counts from when it was asked for; and an answer to an earlier request, which comes again after a link was
    /// lost, says nothing.
    pub(super) fn is_renewed(&mut self, number: u64) {
        if number == self.number {
            self.renewed = self.asked;
        }
    }

    pub(super) fn hears(&mut self, now: Instant) {
        self.heard = now;
    }

    /// It is time to ask again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.asked) >= self.length / 6
    }

    /// Nothing at all has been heard for as long as it lasts.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        now.duration_since(self.heard) >= self.length
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.renewed)
    }

    /// Nobody need be waiting there any more.
    pub(super) fn end(&self) -> Instant {
        self.renewed + self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A lease of two minutes, and the time after an hour of apps that are put back, in which one renewal in so many is
    /// answered.
    fn after_an_hour(answered: u32) -> (Lease, Instant) {
        let mut now = Instant::now();
        let mut lease = Lease::new(120 * SECOND, now);
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
    fn an_answer_to_an_earlier_request_renews_nothing() {
        let start = Instant::now();
        let mut lease = Lease::new(120 * SECOND, start);
        let first = lease.ask(start + 20 * SECOND);
        let second = lease.ask(start + 40 * SECOND);
        lease.is_renewed(first);
        assert_eq!(lease.age(start + 50 * SECOND), 50 * SECOND);
        lease.is_renewed(second);
        assert_eq!(lease.age(start + 50 * SECOND), 10 * SECOND);
    }
}
