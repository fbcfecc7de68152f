//! The participant's reports to its source: a file that grows, and that the agent follows.

use std::collections::VecDeque;

use crate::protocol::{self, AppEnd, Report};
use crate::records::Recorder;

/// The file, and the reports for which it has no room yet.
#[derive(Debug)]
pub(super) struct Reports<'a> {
    file: &'a Recorder<Report>,
    /// In order and without duplicates, so that there are at most a few for each app.
    unsaid: VecDeque<Report>,
}

impl<'a> Reports<'a> {
    pub(super) fn new(file: &'a Recorder<Report>) -> Self {
        Self { file, unsaid: VecDeque::new() }
    }

    /// Appends a report, after all earlier ones. On a full disk, reports that the source waits for are kept until there
    /// is room.
    pub(super) fn say(&mut self, report: Report) {
        let report = bounded(report);
        if self.catch_up() {
            match self.file.append(&report) {
                Ok(()) => return,
                Err(error) => log::error!("cannot report: {error}"),
            }
        }
        if is_awaited(&report) && !self.unsaid.contains(&report) {
            self.unsaid.push_back(report);
        }
    }

    /// Tries to append what is kept; reports whether nothing is left.
    pub(super) fn catch_up(&mut self) -> bool {
        while let Some(report) = self.unsaid.front() {
            if let Err(error) = self.file.append(report) {
                log::error!("cannot report: {error}");
                return false;
            }
            self.unsaid.pop_front();
        }
        true
    }

    /// Reports whether something is still kept.
    pub(super) fn is_behind(&self) -> bool {
        !self.unsaid.is_empty()
    }
}

/// Reports whether the source waits for this report, and learns it in no other way.
fn is_awaited(report: &Report) -> bool {
    match report {
        Report::Opened { .. }
        | Report::Held { .. }
        | Report::AppFailed { .. }
        | Report::Looked { .. }
        | Report::Decided { .. }
        | Report::Soaking { .. }
        | Report::Judged { .. }
        | Report::AppEnded { .. }
        | Report::Settled { .. } => true,
        Report::Hello(_)
        | Report::Admitting { .. }
        | Report::Answer(_)
        | Report::Begun {}
        | Report::Refused { .. }
        | Report::Unknown {}
        | Report::Building { .. }
        | Report::Log { .. }
        // The source asks for it again.
        | Report::Renewed { .. } => false,
    }
}

/// Shortens texts of other programs, which can be longer than a message.
pub(super) fn bounded(report: Report) -> Report {
    match report {
        Report::AppFailed { app, reason } => Report::AppFailed { app, reason: protocol::clipped(reason) },
        Report::Refused { reason } => Report::Refused { reason: protocol::clipped(reason) },
        Report::AppEnded { app, end } => Report::AppEnded { app, end: bounded_end(end) },
        Report::Hello(_)
        | Report::Admitting { .. }
        | Report::Answer(_)
        | Report::Begun {}
        | Report::Unknown {}
        | Report::Opened { .. }
        | Report::Building { .. }
        | Report::Log { .. }
        | Report::Held { .. }
        | Report::Looked { .. }
        | Report::Renewed { .. }
        | Report::Decided { .. }
        | Report::Soaking { .. }
        | Report::Judged { .. }
        | Report::Settled { .. } => report,
    }
}

pub(super) fn bounded_end(end: AppEnd) -> AppEnd {
    match end {
        AppEnd::Stuck { reason } => AppEnd::Stuck { reason: protocol::clipped(reason) },
        AppEnd::Live {} | AppEnd::Left {} | AppEnd::Restored { .. } => end,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::names::AppName;
    use crate::protocol::Decision;

    #[test]
    fn what_is_waited_for_is_said_in_order_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let (full, roomy) = (Recorder::open(Path::new("/dev/full")).unwrap(), Recorder::open(&path).unwrap());
        let app: AppName = "api".parse().unwrap();
        let failed = Report::AppFailed { app: app.clone(), reason: "no space left".to_owned() };
        let decided = Report::Decided { decision: Decision::Abort };
        let mut reports = Reports::new(&full);
        reports.say(failed.clone());
        reports.say(Report::Log { app, text: "a line".to_owned() });
        reports.say(decided.clone());
        reports.say(decided.clone());
        assert!(!reports.catch_up());
        reports.file = &roomy;
        reports.say(Report::Settled { decision: Decision::Abort });
        assert!(!reports.is_behind());
        let mut expected = Vec::new();
        for report in [failed, decided, Report::Settled { decision: Decision::Abort }] {
            expected.extend(protocol::encode(&report));
        }
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }
}
