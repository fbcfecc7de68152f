//! All text that people read while a graduation runs, in Dokku's look.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use crate::approval::Approval;
use crate::commit::outcome::{AfterAbort, Cause, Outcome};
use crate::legible::{amount, legible};
use crate::lines::Lines;
use crate::names::{AppName, CommitId, RequestTag};
use crate::order::{Ending, HookKind, Notice};
use crate::plan::{Plan, PlannedDelivery, Row};
use crate::protocol::{AppEnd, HoldPoint, Verdict};
use crate::runs::Condition;

/// Turns [`Notice`] into text.
#[derive(Clone, Debug, Default)]
pub struct Reporter {
    quiet: bool,
    subject: Option<Subject>,
    /// The output of the running hooks, if not all of it is shown.
    hooks: Option<HookLines>,
    /// For apps whose image is being sent: how many tenths were last reported.
    tenths_sent: BTreeMap<AppName, u64>,
    /// Whether people were told that VERIFY hooks run: they run again and again.
    verifies: bool,
    /// The apps that the plan leaves stopped.
    stopped: Vec<AppName>,
    /// The apps whose release tasks run again.
    runs_again: Vec<AppName>,
}

/// The output of the hooks of one phase: the number of lines, and the last ones that were not shown.
#[derive(Clone, Debug, Default)]
struct HookLines {
    count: usize,
    last: VecDeque<String>,
}

/// How many lines of a phase's hooks a brief reporter shows as they arrive, and how many of the last ones after the
/// hooks have ended.
pub(crate) const SHOWN: usize = 20;

#[derive(Clone, Debug)]
struct Subject {
    source: String,
    commit: CommitId,
    tag: RequestTag,
}

impl Reporter {
    /// Returns a reporter; a `quiet` one leaves out what builds write.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, ..Self::default() }
    }

    /// Returns a quiet reporter that also leaves out most of a long output of hooks.
    pub fn brief() -> Self {
        Self { hooks: Some(HookLines::default()), ..Self::new(true) }
    }

    /// Returns the text of a notice for people; empty if it has no news for them.
    pub fn text(&mut self, notice: &Notice) -> String {
        let mut lines = Lines::default();
        match notice {
            Notice::Started { source, commit, tag, by } => {
                self.subject = Some(Subject { source: source.clone(), commit: *commit, tag: tag.clone() });
                let short = commit.short();
                lines.step(&format!("Graduating {source}@{short} to {} ({tag} by {by})", tag.environment));
            }
            Notice::SettledEarlier { id, outcome, remark } => {
                settled_earlier(&mut lines, id.as_str(), outcome);
                remark.iter().for_each(|remark| lines.detail(remark));
            }
            Notice::Planned { plan } => {
                self.stopped.clone_from(&plan.stopped);
                self.runs_again.clone_from(&plan.runs_again);
                let source = self.subject.as_ref().map_or("the source", |subject| &subject.source);
                planned(&mut lines, plan, source);
            }
            Notice::HooksStarted { kind: HookKind::Verify, .. }
                if std::mem::replace(&mut self.verifies, true) => {}
            Notice::HooksStarted { kind, count } => lines.step(&format!("{kind} hooks ({count})")),
            Notice::HookLine { kind, text } => self.hook_line(&mut lines, format!("[{kind}] {text}")),
            Notice::HooksEnded { failed, .. } => self.hooks_ended(&mut lines, *failed),
            Notice::Log { app, text } if !self.quiet => lines.plain(&log_line(app, text)),
            Notice::Log { .. } => {}
            Notice::SendingImage { app, done, of } => self.sending(&mut lines, app, *done, *of),
            Notice::ImageSent { app, bytes } => {
                self.tenths_sent.remove(app);
                lines.detail(&format!("{app}: its image is there, {} were sent", amount(*bytes)));
            }
            Notice::Held { app, at, held, of } => {
                let how = match at {
                    HoldPoint::Healthy => "healthy and held",
                    HoldPoint::Built => "built and held before it starts",
                };
                lines.step(&format!("{app} is {how} ({held}/{of})"));
            }
            Notice::AllHeld { count, hold_limit_s } => {
                let what = match count {
                    1 => "The app is".to_owned(),
                    _ => format!("All {count} apps are"),
                };
                let limit = minutes(*hold_limit_s);
                lines.big_step(&format!("{what} held on {}, for {limit} at most", self.environment()));
            }
            Notice::AwaitingGo { until } => {
                let environment = self.environment();
                let until = until.format("%H:%M:%S");
                lines.big_step(&format!("Waiting for `dokku graduate:go {environment}` until {until} UTC"));
                lines.detail(&format!("`dokku graduate:abort {environment}` puts everything back"));
            }
            Notice::ToldToGo { by } => lines.step(&format!("{by} allowed it to go live")),
            Notice::AppFailed { app, reason } => lines.trouble(&format!("{app}: {reason}")),
            Notice::LinkLost { reason } => {
                lines.trouble(&format!("lost {}: {reason}", self.environment()));
                lines.detail("held apps wait until their lease ends; reconnecting");
            }
            Notice::LinkBack {} => lines.step(&format!("{} is back", self.environment())),
            Notice::PuttingBack {} => lines.step("Putting everything back"),
            Notice::GoingLive {} => lines.step("Going live"),
            Notice::Soaking { until } => {
                let (environment, until) = (self.environment(), until.format("%H:%M:%S"));
                lines.big_step(&format!("Live on {environment}, and verified until {until} UTC before it is confirmed"));
            }
            Notice::VerdictAsked { by, verdict } => lines.step(&match verdict {
                Verdict::Confirm | Verdict::Unwatched => format!("{by} confirmed it"),
                Verdict::RollBack => format!("{by} requested a roll-back"),
            }),
            Notice::Judged { verdict } => match verdict {
                Verdict::Confirm => {}
                Verdict::Unwatched => lines.trouble(&format!(
                    "{} confirmed it on its own: no message from this host arrived before the end of the soak",
                    self.environment()
                )),
                Verdict::RollBack => lines.step("Going back to what ran before"),
            },
            Notice::AppEnded { app, end } => match end {
                AppEnd::Live {} | AppEnd::Restored { .. } => {}
                AppEnd::Left {} => lines.trouble(&format!(
                    "{app} was deployed, stopped or destroyed by another command, and is left as it is"
                )),
                AppEnd::Stuck { reason } => lines.trouble(&format!("{app} is stuck: {reason}")),
            },
            Notice::Warning { text } => lines.trouble(text),
            Notice::Ended { ending, seconds } => self.ended(&mut lines, ending, *seconds),
        }
        legible(lines.text())
    }

    /// Reports the progress at first, and then at each tenth: one line per second would not help a reader of a log.
    fn sending(&mut self, lines: &mut Lines, app: &AppName, done: u64, of: u64) {
        let tenths = done.saturating_mul(10) / of.max(1);
        if self.tenths_sent.insert(app.clone(), tenths).is_none_or(|last| last < tenths) {
            lines.detail(&format!("{app}: {} of {} of its image sent", amount(done), amount(of)));
        }
    }

    fn hook_line(&mut self, lines: &mut Lines, line: String) {
        let Some(hooks) = &mut self.hooks else { return lines.plain(&line) };
        hooks.count += 1;
        if hooks.count <= SHOWN {
            return lines.plain(&line);
        }
        hooks.last.push_back(line);
        if hooks.last.len() > SHOWN {
            hooks.last.pop_front();
        }
    }

    /// The output of hooks that failed is shown in full by the caller, which has all of it.
    fn hooks_ended(&mut self, lines: &mut Lines, failed: bool) {
        let Some(hooks) = self.hooks.as_mut().map(std::mem::take) else { return };
        if failed {
            return;
        }
        match hooks.count.saturating_sub(SHOWN + hooks.last.len()) {
            0 => {}
            left => lines.detail(&format!("({left} more lines are in `dokku graduate:logs`)")),
        }
        hooks.last.iter().for_each(|line| lines.plain(line));
    }

    fn environment(&self) -> String {
        let environment = self.subject.as_ref().map(|subject| subject.tag.environment.to_string());
        environment.unwrap_or_else(|| "the destination".to_owned())
    }

    fn what(&self) -> String {
        let what =
            self.subject.as_ref().map(|subject| format!("{}@{}", subject.source, subject.commit.short()));
        what.unwrap_or_else(|| "the state".to_owned())
    }

    /// Returns the verb, `runs` or `has`, and the apps that were stopped there.
    fn runs(&self) -> (&'static str, String) {
        match names(&self.stopped) {
            names if names.is_empty() => ("runs", names),
            names => ("has", format!("; stopped: {names}")),
        }
    }

    fn ended(&self, lines: &mut Lines, ending: &Ending, seconds: u64) {
        let (environment, what) = (self.environment(), self.what());
        match ending {
            Ending::Released { release } => {
                let (runs, stopped) = self.runs();
                let again = match names(&self.runs_again) {
                    names if names.is_empty() => names,
                    names => format!("; release tasks ran again: {names}"),
                };
                lines.big_step(&format!(
                    "{environment} {runs} {what}: release {release} ({seconds} s){stopped}{again}"
                ));
            }
            Ending::NothingToDo {} => {
                let (runs, stopped) = self.runs();
                lines.big_step(&format!("{environment} {runs} {what} already: nothing to do{stopped}"));
            }
            Ending::PlanShown {} => lines.big_step("Only the plan was asked for: nothing was changed"),
            Ending::Refused { problems, hint } => {
                for problem in problems {
                    lines.trouble(&format!("cannot graduate to {environment}: {problem}"));
                }
                lines.hint(hint.as_deref());
            }
            Ending::Unreachable { reason } => {
                lines.trouble(&format!("cannot reach {environment}: {reason}"));
                lines.detail("nothing was changed");
            }
            Ending::Failed { outcome, release } => {
                failed(lines, &environment, outcome);
                if let Some(release) = release {
                    lines.detail(&format!("what runs there now is release {release}"));
                }
            }
            Ending::Broken { reason } => {
                lines.trouble(&format!("the graduation to {environment} broke off: {reason}"));
                lines.hint(Some(&format!(
                    "see what is left of it with `dokku graduate:recover {environment}`"
                )));
            }
        }
    }
}

fn names(apps: &[AppName]) -> String {
    apps.iter().map(AppName::as_str).collect::<Vec<_>>().join(", ")
}

/// Returns the command, for the source, after which all apps run what the ledger says, even those that cannot tell
/// what they run. It is a whole graduation: if only these apps went to another release, the environment would be a
/// mix.
pub(crate) fn bring_back(environment: impl fmt::Display, apps: &str) -> String {
    format!("dokku graduate {environment} refs/heads/env/{environment} -o redeploy={apps}")
}

fn failed(lines: &mut Lines, environment: &str, outcome: &Outcome) {
    let recover =
        format!("settle it with `dokku graduate:recover {environment}`; do not push again before that");
    match outcome {
        Outcome::Live {} => lines.big_step(&format!("{environment} is live")),
        Outcome::Aborted { cause, after } => {
            lines.trouble(&format!("not graduated to {environment}: {}", cause.what));
            after_abort(lines, environment, after);
        }
        Outcome::RolledBack { cause, down } => {
            lines.trouble(&format!("{environment} was rolled back: {}", cause.what));
            lines.detail(if down.is_empty() {
                "every app runs what it ran before, and the tag is set back"
            } else {
                "every app is put back to what it ran before, and the tag is set back"
            });
            say_down(lines, down);
        }
        Outcome::Mixed { cause: Cause { what, .. }, ends } => {
            lines.trouble(&format!("{environment} is partly graduated: {what}"));
            for (app, end) in ends {
                lines.detail(&match end {
                    AppEnd::Live {} => format!("{app} is live"),
                    AppEnd::Restored { down: false } => format!("{app} runs what it ran before"),
                    AppEnd::Restored { down: true } => {
                        format!("{app} is put back to what it ran before, but does not run")
                    }
                    AppEnd::Left {} => format!("{app} was changed by another command, and is left as it is"),
                    AppEnd::Stuck { reason } => format!("{app} is stuck: {reason}"),
                });
            }
            let stuck = ends.iter().filter(|(_, end)| matches!(end, AppEnd::Stuck { .. }));
            let stuck = stuck.map(|(app, _)| app.as_str()).collect::<Vec<_>>().join(",");
            lines.hint(Some(&if stuck.is_empty() {
                "look at these apps there; `git push -f -o redeploy` of an older release tag brings all of them back"
                    .to_owned()
            } else {
                let command = bring_back(environment, &stuck);
                format!("look at these apps there; `{command}` brings all of them back to what the ledger says")
            }));
        }
        Outcome::InDoubt { cause } => {
            lines.trouble(&format!("what {environment} runs is in doubt: {}", cause.what));
            lines.hint(Some(&recover));
        }
    }
}

fn after_abort(lines: &mut Lines, environment: &str, after: &AfterAbort) {
    let by_itself = |lines: &mut Lines, what| {
        lines.detail(&format!(
            "nothing goes live: {environment} puts {what} back automatically, at the latest when the lease ends"
        ));
    };
    match after {
        AfterAbort::AsBefore { down } if down.is_empty() => {
            lines.detail(&format!("nothing changed on {environment}: what ran there before runs now"));
        }
        AfterAbort::AsBefore { down } => {
            lines.detail(&format!("this graduation has changed nothing on {environment}"));
            say_down(lines, down);
        }
        AfterAbort::Unheard {} => by_itself(lines, "everything"),
        AfterAbort::Stuck { apps, others_unheard } => {
            if *others_unheard {
                by_itself(lines, "everything else");
            }
            for (app, reason) in apps {
                lines.trouble(&format!("{app} is not as it was: {reason}"));
            }
            let apps = apps.keys().map(AppName::as_str).collect::<Vec<_>>().join(",");
            lines.hint(Some(&format!(
                "when that is put right, `{}` brings back what ran",
                bring_back(environment, &apps)
            )));
        }
    }
}

/// Reports apps that were put back and do not run.
fn say_down(lines: &mut Lines, down: &BTreeSet<AppName>) {
    for app in down {
        lines.trouble(&format!(
            "{app} ran before and does not run now: it was stopped, or it ended, during the graduation"
        ));
    }
    if !down.is_empty() {
        lines.hint(Some("look at it there, and start it with `dokku ps:start`"));
    }
}

fn settled_earlier(lines: &mut Lines, id: &str, outcome: &Outcome) {
    let how = match outcome {
        Outcome::Live {} => "it was decided, and is live".to_owned(),
        Outcome::Aborted { after: AfterAbort::Stuck { apps, .. }, .. } => {
            let apps = apps.iter().map(|(app, reason)| format!("\n{app}: {reason}"));
            format!("it was not decided, but not everything could be put back{}", apps.collect::<String>())
        }
        Outcome::Aborted { after: AfterAbort::Unheard {}, .. } => {
            "it was not decided; everything is put back automatically".to_owned()
        }
        Outcome::Aborted { after: AfterAbort::AsBefore { .. }, .. } => {
            "it was not decided, and everything was put back".to_owned()
        }
        Outcome::RolledBack { cause, .. } => format!("it was rolled back: {}", cause.what),
        Outcome::Mixed { cause, .. } => format!("it is partly live: {}", cause.what),
        Outcome::InDoubt { cause } => format!("it is still in doubt: {}", cause.what),
    };
    lines.step(&format!("Settled graduation {id}, which had been interrupted: {how}"));
}

fn planned(lines: &mut Lines, plan: &Plan, source: &str) {
    let width = plan.rows.iter().map(|row| row.described().len()).max().unwrap_or(0);
    for row in &plan.rows {
        lines.detail(&row_line(row, width, source, plan.stopped.contains(&row.app)));
    }
    match plan.unchanged.len() {
        0 => {}
        1 => lines.detail("1 app unchanged"),
        count => lines.detail(&format!("{count} apps unchanged")),
    }
    lines.list("the state is that of a release, so release tasks run again", &plan.runs_again);
    lines.list("left alone", &plan.left_alone);
    lines.list("no rule of `graduate:map` fits, so not graduated", &plan.unmapped);
    lines.list("never graduated there", &plan.excluded);
    lines.list("never deployed here, so not graduated", &plan.never_deployed);
    lines.list("the state does not say their revision, so not graduated", &plan.unknown);
    for Approval { by, label, at } in &plan.approvals {
        let at = at.format("%Y-%m-%d %H:%M UTC");
        lines.detail(&format!("approved by {} on {at} (label {label})", by.name));
    }
    for remark in &plan.remarks {
        lines.trouble(remark);
    }
    for missing in &plan.missing_config {
        lines.trouble(&format!("{} lacks config there: `{missing}`", missing.there));
    }
    for missing in &plan.missing_settings {
        lines.trouble(&format!("{} lacks settings of its build there: `{missing}`", missing.there));
    }
}

/// `stays` says whether a stopped app is left stopped.
fn row_line(row: &Row, width: usize, source: &str, stays: bool) -> String {
    // A reason may contain commas.
    let next = if matches!(row.delivery, PlannedDelivery::Build { why: Some(_) }) { "; " } else { ", " };
    let delivery = match &row.delivery {
        PlannedDelivery::Build { why: None } => "build".to_owned(),
        PlannedDelivery::Build { why: Some(why) } => format!("build: {why}"),
        PlannedDelivery::Kept {} => "kept image".to_owned(),
        PlannedDelivery::Image { bytes, .. } => format!("image from {source}, {} to send", amount(*bytes)),
    };
    let pulls = match (&row.delivery, &row.from_image) {
        (PlannedDelivery::Build { .. }, Some(image)) => {
            Some(format!("from {}, which is pulled there if need be", image.without_digest()))
        }
        _ => None,
    };
    let mut text = format!("{:width$} {:7} -> {}   {delivery}", row.described(), row.was(), row.to.short());
    let condition = match row.condition {
        Condition::Up => None,
        Condition::Stopped if stays => Some("is scaled to nothing there and stays so"),
        Condition::Stopped => Some("is stopped there and will be started"),
        Condition::Down => Some("is down there"),
    };
    let hold = match row.hold {
        HoldPoint::Healthy => None,
        HoldPoint::Built => Some("held before it starts"),
    };
    let tasks = row.has_release_tasks.then_some("runs release tasks, which an abort cannot undo");
    for remark in [pulls.as_deref(), condition, hold, tasks].into_iter().flatten() {
        text += next;
        text += remark;
    }
    text
}

/// Dokku's own marks are meant for the deploy of one app; here they follow the app's name.
fn log_line(app: &AppName, text: &str) -> String {
    format!("[{app}] {}", text.trim_start_matches("remote: "))
}

fn minutes(seconds: u32) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (1, 0) => "1 minute".to_owned(),
        (minutes, 0) => format!("{minutes} minutes"),
        (_, _) => format!("{seconds} s"),
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
