//! The live view of a graduation, for a terminal: one line for each app, with its phase and how long it has been in
//! that phase, below the text that [`crate::report`] makes of the same notices.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use console::strip_ansi_codes;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::legible::amount;
use crate::names::AppName;
use crate::order::Notice;
use crate::output;
use crate::plan::{Plan, Row};
use crate::protocol::{AppEnd, Delivery, Verdict};
use crate::vars::Vars;

/// The phase of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AppProgress {
    Waiting,
    Sending,
    Building,
    Held,
    GoingLive,
    Verifying,
    Live,
    Failed,
    PuttingBack,
    AsBefore,
    Stuck,
}

impl AppProgress {
    fn in_words(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Building => "building",
            Self::Held => "held",
            Self::GoingLive => "going live",
            Self::Verifying => "verifying",
            Self::Live => "live",
            Self::Failed => "failed",
            Self::PuttingBack => "put back",
            Self::AsBefore => "as before",
            Self::Stuck => "stuck",
        }
    }

    /// Reports whether nothing more will happen to the app.
    fn is_last(self) -> bool {
        match self {
            Self::Live | Self::Failed | Self::AsBefore | Self::Stuck => true,
            Self::Waiting
            | Self::Sending
            | Self::Building
            | Self::Held
            | Self::GoingLive
            | Self::Verifying
            | Self::PuttingBack => false,
        }
    }

    /// Returns the app's phase after a notice.
    fn after(self, app: &AppName, notice: &Notice) -> Self {
        match (notice, self) {
            (Notice::SendingImage { app: of, .. }, Self::Waiting) if of == app => Self::Sending,
            (Notice::Log { app: of, .. }, Self::Waiting | Self::Sending) if of == app => Self::Building,
            (Notice::Held { app: of, .. }, _) if of == app => Self::Held,
            (Notice::AppFailed { app: of, .. }, _) if of == app => Self::Failed,
            (Notice::GoingLive {}, Self::Held) => Self::GoingLive,
            (Notice::Soaking { .. }, Self::Live) => Self::Verifying,
            (Notice::Judged { verdict: Verdict::Confirm | Verdict::Unwatched }, Self::Verifying) => {
                Self::Live
            }
            (Notice::Judged { verdict: Verdict::RollBack }, Self::Verifying | Self::Live) => {
                Self::PuttingBack
            }
            (
                Notice::PuttingBack {},
                Self::Sending | Self::Building | Self::Held | Self::GoingLive | Self::Live,
            ) => Self::PuttingBack,
            (Notice::AppEnded { app: of, end }, _) if of == app => match end {
                AppEnd::Live {} => Self::Live,
                // That it failed says more.
                AppEnd::Restored { .. } if self == Self::Failed => self,
                AppEnd::Restored { .. } => Self::AsBefore,
                AppEnd::Left {} => Self::Failed,
                AppEnd::Stuck { .. } => Self::Stuck,
            },
            // All other notices say nothing about an app's phase.
            _ => self,
        }
    }
}

/// One app's line.
#[derive(Debug)]
struct Line {
    change: String,
    phase: AppProgress,
    since: Instant,
    /// How long everything took, once nothing more will happen to the app.
    took: Option<Duration>,
    /// Whether a build makes its image.
    is_built: bool,
    /// The last line that its build wrote, or how much of its image was sent.
    said: String,
    bar: ProgressBar,
}

impl Line {
    fn text(&self, app: &AppName, width: usize) -> String {
        let time = in_words(self.took.unwrap_or_else(|| self.since.elapsed()));
        let says = matches!(self.phase, AppProgress::Sending | AppProgress::Building);
        let said = if says { self.said.as_str() } else { "" };
        let starts = self.phase == AppProgress::Building && !self.is_built;
        let phase = if starts { "starting" } else { self.phase.in_words() };
        let text = format!("{app:width$} {}   {phase:10} {time:>9}   {said}", self.change);
        text.trim_end().to_owned()
    }
}

/// Returns a duration as people read it.
fn in_words(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

/// The lines of all apps that change, at the bottom of a terminal.
#[derive(Debug)]
pub(crate) struct View {
    lines: BTreeMap<AppName, Line>,
    width: usize,
    agreed: Option<Plan>,
    started: Instant,
    screen: MultiProgress,
}

impl View {
    /// Returns a view on our stderr, or `None` unless stderr is a terminal that can move its cursor (`TERM` is set
    /// and not `dumb`) and `NO_COLOR` is not set. A plan that the operator has just `agreed` to is not shown again,
    /// unless it has changed since.
    pub(crate) fn of_terminal(vars: &Vars, agreed: Option<Plan>) -> Option<Self> {
        let target = ProgressDrawTarget::stderr();
        if vars.no_color || target.is_hidden() {
            return None;
        }
        let screen = MultiProgress::with_draw_target(target);
        // Lines are overwritten, not removed and written again: that would flicker.
        screen.set_move_cursor(true);
        let lines = BTreeMap::new();
        Some(Self { lines, width: 0, agreed, started: Instant::now(), screen })
    }

    /// Shows a notice, whose text is `text`.
    pub(crate) fn show(&mut self, notice: &Notice, text: &str) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "all other notices are shown as text")]
        match notice {
            Notice::Planned { plan } => {
                if self.agreed.as_ref() != Some(plan) {
                    self.print(text);
                }
                self.begin(&plan.rows);
            }
            Notice::Started { .. } if self.agreed.is_some() => {}
            // The app's line says it.
            Notice::Held { .. } => {}
            Notice::SendingImage { app, done, of } => {
                if let Some(line) = self.lines.get_mut(app) {
                    line.said = format!("{} of {}", amount(*done), amount(*of));
                }
            }
            Notice::ImageSent { app, .. } => {
                if let Some(line) = self.lines.get_mut(app) {
                    line.said = "all of it is there".to_owned();
                }
            }
            Notice::Log { app, text } => {
                if let Some(line) = self.lines.get_mut(app) {
                    line.said = legible(text);
                }
            }
            Notice::Ended { .. } => {
                self.end();
                self.print(text);
            }
            _ => self.print(text),
        }
        for (app, line) in &mut self.lines {
            line.go_on(line.phase.after(app, notice), self.started);
        }
        self.tick();
    }

    /// Updates the times.
    pub(crate) fn tick(&self) {
        for (app, line) in &self.lines {
            if !line.bar.is_finished() {
                line.bar.set_message(line.text(app, self.width));
                line.bar.tick();
            }
        }
    }

    fn begin(&mut self, rows: &[Row]) {
        self.width = rows.iter().map(|row| row.app.as_str().len()).max().unwrap_or(0);
        let style = ProgressStyle::with_template("{spinner:>6} {wide_msg}");
        // Like Dokku's output, it is all ASCII. The last character is for a finished line.
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner()).tick_chars(r"-\|/ ");
        for row in rows {
            let bar = self.screen.add(ProgressBar::new_spinner().with_style(style.clone()));
            let line = Line {
                change: format!("{:7} -> {}", row.was(), row.to.short()),
                phase: AppProgress::Waiting,
                since: Instant::now(),
                took: None,
                is_built: row.delivery.delivery() == Delivery::Build,
                said: String::new(),
                bar,
            };
            self.lines.insert(row.app.clone(), line);
        }
    }

    /// Prints text above the lines.
    pub(crate) fn print(&self, text: &str) {
        let text = text.trim_end_matches('\n');
        if text.is_empty() {
            return;
        }
        if self.lines.is_empty() {
            output::to_stderr(&format!("{text}\n"));
        } else {
            // A reader that has exited is not an error.
            let _ = self.screen.println(text);
        }
    }

    /// Removes the lines, and prints in their place how each app ended.
    fn end(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let _ = self.screen.clear();
        // From here on nothing is drawn: a bar that ends would draw the others again, over the text that is there
        // then.
        self.screen.set_draw_target(ProgressDrawTarget::hidden());
        for (app, line) in &lines {
            output::to_stderr(&format!("       {}\n", line.text(app, self.width)));
        }
    }
}

impl Line {
    fn go_on(&mut self, phase: AppProgress, started: Instant) {
        if self.phase == phase {
            return;
        }
        self.phase = phase;
        self.since = Instant::now();
        // For what is over, the total time matters.
        self.took = phase.is_last().then(|| started.elapsed());
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // A process that stops showing it leaves a clean terminal.
        let _ = self.screen.clear();
    }
}

/// Returns a line of foreign text, without what moves the cursor.
fn legible(text: &str) -> String {
    let text = strip_ansi_codes(text).into_owned();
    // A terminal would show what follows the last carriage return.
    let last = text.trim_end().rsplit('\r').next().unwrap_or_default();
    last.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::HoldPoint;

    fn name(name: &str) -> AppName {
        name.parse().unwrap()
    }

    #[test]
    fn an_apps_phase_follows_the_news() {
        let app = || name("api");
        let log = |of: &str| Notice::Log { app: name(of), text: "x".to_owned() };
        let held = Notice::Held { app: app(), at: HoldPoint::Healthy, held: 1, of: 2 };
        let ended = |end| Notice::AppEnded { app: app(), end };
        let stuck = AppEnd::Stuck { reason: "x".to_owned() };
        let failed = Notice::AppFailed { app: app(), reason: "x".to_owned() };
        let story = |notices: &[&Notice]| {
            notices.iter().fold(AppProgress::Waiting, |phase, notice| phase.after(&app(), notice)).in_words()
        };
        assert_eq!(story(&[&log("web")]), "waiting");
        assert_eq!(story(&[&log("api"), &log("api")]), "building");
        assert_eq!(story(&[&log("api"), &held, &log("api")]), "held");
        assert_eq!(story(&[&held, &Notice::GoingLive {}]), "going live");
        assert_eq!(story(&[&held, &Notice::GoingLive {}, &ended(AppEnd::Live {})]), "live");
        assert_eq!(story(&[&held, &Notice::PuttingBack {}]), "put back");
        assert_eq!(
            story(&[&held, &Notice::PuttingBack {}, &ended(AppEnd::Restored { down: false })]),
            "as before"
        );
        assert_eq!(story(&[&Notice::PuttingBack {}]), "waiting");
        assert_eq!(
            story(&[&failed, &Notice::PuttingBack {}, &ended(AppEnd::Restored { down: false })]),
            "failed"
        );
        assert_eq!(story(&[&held, &Notice::GoingLive {}, &ended(stuck)]), "stuck");
    }

    #[test]
    fn foreign_text_moves_no_cursor() {
        assert_eq!(legible("\u{1b}[31mred\u{1b}[0m\u{1b}[2K\ttext\n"), "red text");
        assert_eq!(legible("10%\r20%\r30%\r\n"), "30%");
    }

    #[test]
    fn times_are_read_by_people() {
        assert_eq!(in_words(Duration::from_secs(59)), "59 s");
        assert_eq!(in_words(Duration::from_secs(125)), "2 min 5 s");
    }
}
