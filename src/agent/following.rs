//! Passes a participant's reports on to the source, up to the end that is recorded on disk.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::participant::store::{Settled, Store};
use crate::process::ProcessId;
use crate::protocol::{LineError, Report};
use crate::records::Follower;

/// How often to check whether the participant still runs.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Why no more reports are passed on.
#[derive(Debug)]
pub(super) enum Stop {
    /// The source no longer reads.
    SourceGone,
    /// The participant has died, and the graduation is not settled.
    Died,
    /// The reports cannot be read.
    Unreadable(LineError),
}

/// The state of the participant, as the agent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FollowPhase {
    /// Its reports are passed on as they arrive.
    Reporting,
    /// It has exited; its last reports may not have been read yet.
    LastLook,
    /// The source has received the end. Later reports are passed on until the source disconnects.
    EndTold,
}

/// The reports of one participant on their way to the source.
pub(super) struct Following<F> {
    store: Store,
    /// The participant, if it was started for this session.
    process: Option<ProcessId>,
    reports: Follower<Report>,
    tell: F,
    phase: FollowPhase,
    /// How many reports the source has received in earlier sessions.
    seen: u64,
    /// Whether the host has rebooted, so that the source may have missed reports that `seen` counts.
    repeats: bool,
    count: u64,
}

impl<F: FnMut(&Report) -> io::Result<()>> Following<F> {
    /// Follows the reports in `store`, of which the source has `seen` the first ones already. If the host has rebooted
    /// since the graduation began, some of those may have been lost and replaced by others, so all reports on which the
    /// source acts are repeated.
    pub(super) fn of(
        store: Store,
        process: Option<ProcessId>,
        reports: Follower<Report>,
        seen: u64,
        tell: F,
    ) -> Self {
        let repeats = store.has_rebooted();
        Self { store, process, reports, tell, phase: FollowPhase::Reporting, seen, repeats, count: 0 }
    }

    /// Passes reports on until it must stop. When the source closes the session, the whole process ends.
    pub(super) fn run(mut self) -> Stop {
        loop {
            if let Err(stop) = self.turn() {
                return stop;
            }
        }
    }

    fn turn(&mut self) -> Result<(), Stop> {
        let is_last = self.phase == FollowPhase::LastLook && !self.store.is_settled();
        match self.reports.next(if is_last { Duration::ZERO } else { LOOK_PERIOD }) {
            Ok(Some(report)) => self.pass_on(&report),
            Ok(None) if self.is_at_work() => Ok(()),
            Ok(None) => self.without_participant(),
            // A full disk may have cut one record short; the others still count.
            Err(error @ (LineError::Content { .. } | LineError::Shape(..))) => {
                log::error!("{error}");
                Ok(())
            }
            Err(error @ LineError::Read(_)) => Err(Stop::Unreadable(error)),
        }
    }

    fn is_at_work(&self) -> bool {
        is_at_work(&self.store, self.process)
    }

    fn pass_on(&mut self, report: &Report) -> Result<(), Stop> {
        let is_end = matches!(report, Report::Settled { .. });
        // A crash may have lost some reports; the end is read from disk.
        if is_end && let Ok(Some(settled)) = self.store.settled() {
            return self.tell_end(settled);
        }
        self.count += 1;
        let is_told = is_end || self.phase == FollowPhase::EndTold;
        self.phase = if is_told { FollowPhase::EndTold } else { FollowPhase::Reporting };
        let is_new = self.count > self.seen;
        let is_acted_on =
            !matches!(report, Report::Log { .. } | Report::Building { .. } | Report::Admitting { .. });
        if is_new || (self.repeats && is_acted_on) { self.say(report) } else { Ok(()) }
    }

    /// Handles a turn in which no participant runs and no report is left to read.
    fn without_participant(&mut self) -> Result<(), Stop> {
        if let Ok(Some(settled)) = self.store.settled() {
            return self.tell_end(settled);
        }
        match self.phase {
            FollowPhase::Reporting => self.phase = FollowPhase::LastLook,
            // Ending the session tells the source. It reconnects, and the next participant settles what this one left.
            FollowPhase::LastLook => return Err(Stop::Died),
            FollowPhase::EndTold => {}
        }
        Ok(())
    }

    /// Sends how each app ended and that the graduation is settled, as recorded on disk: a crash may have lost the last
    /// reports, which makes the source's count wrong.
    fn tell_end(&mut self, Settled { decision, ends }: Settled) -> Result<(), Stop> {
        if self.phase == FollowPhase::EndTold {
            return Ok(());
        }
        // Removes what a participant killed just after settling has left. The source needs no more when it knows the
        // end.
        if !self.is_at_work()
            && let Err(error) = self.store.tidy()
        {
            log::error!("{error}");
        }
        for (app, end) in ends {
            self.say(&Report::AppEnded { app, end })?;
        }
        self.say(&Report::Settled { decision })?;
        self.phase = FollowPhase::EndTold;
        Ok(())
    }

    fn say(&mut self, report: &Report) -> Result<(), Stop> {
        (self.tell)(report).map_err(|_| Stop::SourceGone)
    }
}

/// Reports whether a participant runs.
fn is_at_work(store: &Store, process: Option<ProcessId>) -> bool {
    process.is_some_and(|process| process.is_running()) || UnixStream::connect(store.socket()).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::participant::store::tests::graduation;
    use crate::participant::store::{self, Graduation};
    use crate::protocol::{AppEnd, Decision};
    use crate::records::Recorder;
    use crate::vars::Vars;

    /// Returns what the source receives of a participant that has exited, and why that stops. The source leaves after
    /// `limit` reports.
    fn heard(reported: &[Report], settled: Option<Settled>, seen: u64, limit: usize) -> (Vec<Report>, Stop) {
        heard_since(&store::boot_id().unwrap(), reported, settled, seen, limit)
    }

    /// As `heard`, for a participant that began in the given boot of the host.
    fn heard_since(
        boot: &str,
        reported: &[Report],
        settled: Option<Settled>,
        seen: u64,
        limit: usize,
    ) -> (Vec<Report>, Stop) {
        let dir = tempfile::tempdir().unwrap();
        let vars = Vars { lib_root: dir.path().to_owned(), ..Vars::from_environment() };
        let id = "20261123104500-000001".parse().unwrap();
        let store = Store::at(&vars, &id);
        store.create(&Graduation { boot: boot.to_owned(), ..graduation("20261123104500-000001") }).unwrap();
        let recorder = Recorder::open(&store.reports()).unwrap();
        reported.iter().for_each(|report| recorder.append(report).unwrap());
        settled.iter().for_each(|settled| store.settle(settled).unwrap());
        let reports = Follower::open(&store.reports()).unwrap();
        let mut told = Vec::new();
        let tell = |report: &Report| {
            told.push(report.clone());
            if told.len() < limit { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        };
        let stop = Following::of(store, None, reports, seen, tell).run();
        (told, stop)
    }

    fn log(text: &str) -> Report {
        Report::Log { app: "api".parse().unwrap(), text: text.to_owned() }
    }

    #[test]
    fn what_a_participant_wrote_before_it_died_is_passed_on() {
        let (told, stop) = heard(&[log("one"), log("two")], None, 1, 10);
        assert_eq!(told, [log("two")], "the source has seen the first one");
        assert!(matches!(stop, Stop::Died), "{stop:?}");
    }

    #[test]
    fn after_a_reboot_all_is_repeated_by_which_anybody_acts() {
        let reported = [log("one"), Report::Begun {}, log("two"), Report::Soaking { again: true }];
        let (told, _) = heard_since("another", &reported, None, 9, 10);
        assert_eq!(told, [Report::Begun {}, Report::Soaking { again: true }]);
        let (told, _) = heard(&reported, None, 3, 10);
        assert_eq!(told, [Report::Soaking { again: true }]);
    }

    #[test]
    fn the_end_is_told_as_the_disk_has_it() {
        let app = || "api".parse().unwrap();
        let settled = Settled { decision: Decision::Go, ends: BTreeMap::from([(app(), AppEnd::Live {})]) };
        let expected = [
            Report::AppEnded { app: app(), end: AppEnd::Live {} },
            Report::Settled { decision: Decision::Go },
        ];
        // The source counts more reports than the crash has left.
        let (told, stop) = heard(&[log("one")], Some(settled), 7, 2);
        assert_eq!(told, expected);
        assert!(matches!(stop, Stop::SourceGone), "{stop:?}");
    }
}
