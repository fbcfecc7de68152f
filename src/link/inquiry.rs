//! The questions to a destination before anything is begun there, or without beginning anything: one at a time, each
//! with a time limit.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::diagnosis::diagnosed;
use super::{Limit, Link, LinkError, ReportReader};
use crate::factors::RawFactors;
use crate::finding::Finding;
use crate::local;
use crate::mapping::DestinationApp;
use crate::names::{CommitId, Digest, EnvironmentName};
use crate::process::Program;
use crate::protocol::{Answer, Hello, LiveApp, Question, Report, Request, RevisionFacts};
use crate::settings::{Address, Settings, Url};
use crate::ssh::{self, Sharing, SshError};
use crate::vars::Vars;

/// How long a destination may take for the complete answer to a question.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// How many revisions are asked for before the first answer is read: as many as a link buffers.
const AT_ONCE: usize = 8;

/// A link to a destination, on which nothing has been begun yet.
#[derive(Debug)]
pub(crate) struct Inquiry {
    link: Link,
    reports: ReportReader,
}

/// What a destination says of revisions, and why nothing can be sent to an app's repository there.
pub(crate) type Revisions = BTreeMap<(DestinationApp, CommitId), (RevisionFacts, Option<String>)>;

/// The result of a destination's examination of itself.
#[derive(Clone, Debug)]
pub(crate) struct Examination {
    /// By how much its clock is ahead of ours, at least; none if it did not say.
    pub ahead: Option<TimeDelta>,
    /// Its findings.
    pub findings: Vec<Finding>,
}

impl Inquiry {
    /// Connects to an environment's host, and waits for the agent's hello. `control` is the socket through which git's
    /// own connections share this one; a caller that only asks questions needs none.
    ///
    /// # Errors
    /// See [`LinkError`]; nothing was changed anywhere.
    pub(crate) fn of(
        vars: &Vars,
        environment: &EnvironmentName,
        control: Option<&Path>,
    ) -> Result<Self, LinkError> {
        Self::by(command_there(vars, environment, control.map(Sharing::Open), &[AGENT])?)
    }

    /// Talks to the agent of this same host.
    ///
    /// # Errors
    /// As [`Inquiry::of`].
    pub(crate) fn of_this_host(vars: &Vars) -> Result<Self, LinkError> {
        Self::by(local::command(vars, &[AGENT]))
    }

    /// As [`Inquiry::of`], to a host that may not be set up yet. Makes our key if there is none.
    ///
    /// # Errors
    /// Each way in which a link can fail has its variant of [`SshError`].
    pub(crate) fn test(vars: &Vars, environment: &EnvironmentName, url: &Url) -> Result<Self, SshError> {
        ssh::public_key(vars)?;
        let program = ssh::command(vars, environment, None, &[AGENT])?;
        Self::by(program).map_err(|error| diagnosed(error, vars, url))
    }

    fn by(program: Program) -> Result<Self, LinkError> {
        let (link, reports) = super::open(program)?;
        Ok(Self { link, reports })
    }

    /// The agent's hello.
    pub(crate) fn agent(&self) -> &Hello {
        &self.link.agent
    }

    /// Ends the questions: from here on the link serves a graduation.
    pub(crate) fn into_talk(self) -> (Link, ReportReader) {
        (self.link, self.reports)
    }

    fn send(&mut self, question: Question) -> Result<(), LinkError> {
        self.link.send(&Request::Ask(question))
    }

    /// Asks a question, and passes each piece of the answer to `take`, up to its `end`. A piece that `take` returns
    /// does not belong to the answer.
    fn ask(
        &mut self,
        question: Question,
        end: &Answer,
        mut take: impl FnMut(Answer) -> Option<Answer>,
    ) -> Result<(), LinkError> {
        let mut limit = Limit::on(self.link.process, ANSWER_LIMIT);
        self.send(question)?;
        loop {
            let answer = self.reports.next_answer(&mut limit)?;
            if answer == *end {
                return Ok(());
            }
            if let Some(other) = take(answer) {
                return Err(LinkError::out_of_turn(&Report::Answer(other)));
            }
        }
    }

    /// What runs on the destination.
    ///
    /// # Errors
    /// The link fails, or an answer is not valid.
    pub(crate) fn live(&mut self) -> Result<BTreeMap<DestinationApp, LiveApp>, LinkError> {
        let mut apps = BTreeMap::new();
        self.ask(Question::Live {}, &Answer::AllApps {}, |answer| {
            let Answer::App { app, live } = answer else { return Some(answer) };
            apps.insert(app.into(), live);
            None
        })?;
        Ok(apps)
    }

    /// The other settings of the apps on the destination, in the form of [`crate::diff::comparable`].
    ///
    /// # Errors
    /// As [`Inquiry::live`].
    pub(crate) fn factors(&mut self) -> Result<BTreeMap<DestinationApp, RawFactors>, LinkError> {
        let mut factors: BTreeMap<DestinationApp, RawFactors> = BTreeMap::new();
        self.ask(Question::Factors {}, &Answer::AllApps {}, |answer| {
            let Answer::Factor { app, plugin, property, values } = answer else { return Some(answer) };
            factors.entry(app.into()).or_default().entry(plugin).or_default().insert(property, values);
            None
        })?;
        Ok(factors)
    }

    /// Which of these revisions the destination has.
    ///
    /// # Errors
    /// As [`Inquiry::live`].
    pub(crate) fn revisions(
        &mut self,
        wanted: &[(DestinationApp, CommitId)],
    ) -> Result<Revisions, LinkError> {
        let mut limit = Limit::on(self.link.process, ANSWER_LIMIT);
        let mut there = Revisions::new();
        for some in wanted.chunks(AT_ONCE) {
            for (app, commit) in some {
                self.send(Question::Revision { app: app.name().clone(), commit: *commit })?;
            }
            for _ in some {
                let answer = self.reports.next_answer(&mut limit)?;
                let Answer::Revision { app, commit, facts, trouble } = answer else {
                    return Err(LinkError::out_of_turn(&Report::Answer(answer)));
                };
                there.insert((app.into(), commit), (facts, trouble));
            }
        }
        Ok(there)
    }

    /// The settings of a build of an app on the destination, which need not have it; secret values are fingerprinted with
    /// `key`.
    ///
    /// # Errors
    /// As [`Inquiry::live`].
    pub(crate) fn build_settings(
        &mut self,
        app: &DestinationApp,
        key: Digest,
    ) -> Result<RawFactors, LinkError> {
        let mut settings = RawFactors::new();
        let question = Question::BuildSettings { app: app.name().clone(), key };
        self.ask(question, &Answer::AllApps {}, |answer| {
            let Answer::Factor { plugin, property, values, .. } = answer else { return Some(answer) };
            settings.entry(plugin).or_default().insert(property, values);
            None
        })?;
        Ok(settings)
    }

    /// The architecture of the destination's Docker, and how many of an image's lowest layers it has.
    ///
    /// # Errors
    /// As [`Inquiry::live`].
    pub(crate) fn layers(
        &mut self,
        app: &DestinationApp,
        layers: Vec<Digest>,
    ) -> Result<(String, usize), LinkError> {
        let mut limit = Limit::on(self.link.process, ANSWER_LIMIT);
        self.send(Question::Layers { app: app.name().clone(), layers })?;
        let answer = self.reports.next_answer(&mut limit)?;
        let Answer::Layers { architecture, there, .. } = answer else {
            return Err(LinkError::out_of_turn(&Report::Answer(answer)));
        };
        Ok((architecture, there))
    }

    /// Asks the destination to examine itself.
    ///
    /// # Errors
    /// As [`Inquiry::live`].
    pub(crate) fn examination(&mut self) -> Result<Examination, LinkError> {
        let asked = Utc::now();
        let mut found = Examination { ahead: None, findings: Vec::new() };
        self.ask(Question::Examine {}, &Answer::Examined {}, |answer| {
            if let Answer::Clock { at } = answer {
                found.ahead = Some(apart(asked, at, Utc::now()));
            } else if let Answer::Found { finding } = answer {
                found.findings.push(finding.tamed());
            } else {
                return Some(answer);
            }
            None
        })?;
        Ok(found)
    }
}

/// The one command of a destination to which a source connects.
const AGENT: &str = "graduate:agent";

/// One of our commands on an environment's host, over ssh or on this same host.
///
/// # Errors
/// The address of the environment is not known, or ssh cannot be configured.
pub(crate) fn command_there(
    vars: &Vars,
    environment: &EnvironmentName,
    control: Option<Sharing<'_>>,
    words: &[&str],
) -> Result<Program, LinkError> {
    Ok(match Settings::load(vars)?.environment(environment)?.url {
        Address::Local => local::command(vars, words),
        Address::Ssh(_) => ssh::command(vars, environment, control, words)?,
    })
}

/// By how much the destination's clock is ahead of ours, at least: it was read at some moment between question and
/// answer.
fn apart(asked: DateTime<Utc>, there: DateTime<Utc>, answered: DateTime<Utc>) -> TimeDelta {
    if there > answered {
        there - answered
    } else if there < asked {
        there - asked
    } else {
        TimeDelta::zero()
    }
}

#[cfg(test)]
impl Inquiry {
    /// An inquiry of a destination that is this shell script, after its hello.
    pub(crate) fn of_script(script: &str) -> Self {
        let hello = format!(
            r#"{{"type":"hello","protocol":{},"version":"1","host":"h"}}"#,
            crate::protocol::PROTOCOL
        );
        Self::by(Program::new("sh").args(["-c", &format!("echo '{hello}'; {script}")])).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_without_the_time_that_the_question_took() {
        let at = |seconds: i64| DateTime::from_timestamp(1_000_000 + seconds, 0).unwrap();
        assert_eq!(apart(at(0), at(7), at(10)), TimeDelta::zero());
        assert_eq!(apart(at(0), at(14), at(10)), TimeDelta::seconds(4));
        assert_eq!(apart(at(0), at(-6), at(10)), TimeDelta::seconds(-6));
    }

    #[test]
    fn an_answer_goes_up_to_its_end_and_has_nothing_else_in_it() {
        let clock = r#"{"type":"answer","answer":"clock","at":"2026-11-23T10:45:12Z"}"#;
        let lines = [
            clock,
            r#"{"type":"answer","answer":"examined"}"#,
            r#"{"type":"answer","answer":"all-apps"}"#,
            clock,
        ];
        let mut there = Inquiry::of_script(&format!("printf '%s\\n' '{}'; sleep 1000", lines.join("' '")));
        let examined = there.examination().unwrap();
        assert!(
            examined.ahead.is_some_and(|ahead| ahead < TimeDelta::zero()) && examined.findings.is_empty()
        );
        assert_eq!(there.live().unwrap(), BTreeMap::new());
        let other = there.factors().unwrap_err().to_string();
        assert!(
            other.contains(
                "unexpected answer from the agent there: {\"type\":\"answer\",\"answer\":\"clock\""
            ),
            "{other}"
        );
    }
}
