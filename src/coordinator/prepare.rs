//! The steps before a graduation takes its destination: connect, ask what runs there, plan, check.

use std::thread;
use std::time::Duration;

use super::context::Coordinator;
use super::error::CoordinatorError;
use super::ledger;
use crate::carried_out;
use crate::decision::DecisionError;
use crate::dokku::Dokku;
use crate::dokku_version::{self, TooOld};
use crate::environment::{Environment, EnvironmentError};
use crate::git::{Git, Harmful};
use crate::link::{Inquiry, LinkError};
use crate::names::{AppName, FoundApp, ReleaseTag, RequestTag};
use crate::order::{Ending, Mode, Notice, Order};
use crate::plan::{self, AppsHere, Known, Plan, Policy};
use crate::protocol::{Hello, Purpose};
use crate::repo::{self, GitRepository, Release};
use crate::settings;
use crate::signers;

impl Coordinator<'_> {
    /// Does everything that comes before the destination is taken: connects, asks, plans, checks. All problems are
    /// reported together.
    ///
    /// # Errors
    /// The ending, if the graduation ends here. Nothing has been changed then.
    pub(super) fn prepare(&mut self) -> Result<(Plan, Inquiry), Ending> {
        let refused = |problems| Err(Ending::Refused { problems, hint: None });
        self.check_dokku()?;
        let environment = &self.order.tag.environment;
        if let Err(error) = self.settings.environment(environment) {
            let hint = format!("link it with `dokku graduate:add-environment {environment} HOST`");
            return Err(Ending::Refused { problems: vec![error.to_string()], hint: Some(hint) });
        }
        let mut problems = self.refs_in_the_way().map_err(|error| cannot_begin(&error))?;
        problems.extend(self.order.not_allowed.clone());
        problems.extend(self.frozen().map_err(|error| cannot_begin(&error))?);
        // Both hosts find out what they run in parallel.
        let (surveyed, asked) = thread::scope(|scope| {
            let site = &self.site;
            let asked = scope.spawn(move || {
                let mut inquiry = site.inquire()?;
                let live = inquiry.live()?;
                Ok((inquiry, live))
            });
            (self.survey(), asked.join().expect("a look at an environment does not panic"))
        });
        let (here, unacknowledged) = surveyed.map_err(|error| cannot_begin(&error))?;
        problems.extend(unacknowledged);
        problems.extend(self.uncarried().map_err(|error| cannot_begin(&error))?);
        let (mut inquiry, live) = match asked {
            Ok(answered) => answered,
            Err(error) if LinkError::is_refusal(&error) => return refused(vec![error.to_string()]),
            Err(error) => return Err(Ending::Unreachable { reason: error.to_string() }),
        };
        problems.extend(self.destination_refusals(inquiry.agent()));
        let there = inquiry.revisions(&self.revisions_to_ask(&live));
        let there = there.map_err(|error| Ending::Unreachable { reason: error.to_string() })?;
        let settings = self.build_settings(&mut inquiry, &live)?;
        let images = self.images(&mut inquiry, &live, &settings)?;
        let known = |app: &AppName, revision| {
            // For the current state, the survey already found it.
            let status = here.as_ref().and_then(|here| here.get(app)).map(|here| &here.status);
            Known {
                image: images.get(app).cloned(),
                // What is set for all apps is in no manifest, so an older state is judged by its own settings alone.
                build_settings_here: here.as_ref().and_then(|_| settings.here(app)),
                build_settings_there: settings.there(app).cloned(),
                ..self.known(app, revision, &there, status)
            }
        };
        let Self { order, site, limits, .. } = &*self;
        let policy = Policy {
            missing_config: limits.missing_config,
            untested: limits.untested,
            deliver: limits.deliver,
            here: here.as_ref(),
            ignore_config: &limits.ignore_config,
            excluded: &order.excluded,
        };
        let mut plan = match plan::make(&order.apps, &site.routes, &live, &order.options, &policy, known) {
            // A state that runs already is not graduated a second time.
            Ok(plan) if plan.rows.is_empty() => plan,
            Ok(mut plan) => {
                plan.runs_again = self.runs_again(&plan).map_err(|error| cannot_begin(&error))?;
                problems.extend(self.carried_out().map_err(|error| cannot_begin(&error))?);
                plan
            }
            Err(found) => {
                problems.extend(found.iter().map(ToString::to_string));
                return refused(problems);
            }
        };
        plan.approvals.clone_from(&self.order.approvals.counted);
        plan.remarks.extend(self.order.approvals.remarks.clone());
        problems.extend(self.dangers(&plan).iter().map(ToString::to_string));
        self.say(Notice::Planned { plan: plan.clone() });
        if !problems.is_empty() {
            return refused(problems);
        }
        if self.order.options.plan {
            return Err(Ending::PlanShown {});
        }
        Ok((plan, inquiry))
    }

    /// Returns why the destination's own settings refuse the graduation. The destination checks that itself when it
    /// begins; asking beforehand reports it earlier, and in a plan.
    fn destination_refusals(&self, there: &Hello) -> Vec<String> {
        let too_long = |s| settings::too_long_a_soak(self.limits.soak, Duration::from_secs(s));
        let reasons = there.closed.iter().cloned().chain(there.max_soak_s.and_then(too_long));
        reasons.map(|reason| format!("{} refuses: {reason}", self.order.tag.environment)).collect()
    }

    /// Checks that this host's Dokku is a version that the plugin supports.
    fn check_dokku(&self) -> Result<(), Ending> {
        let found = dokku_version::of_this_host(self.vars).map_err(|error| cannot_begin(&error))?;
        dokku_version::check(found.as_deref(), None).map_err(|error| Ending::Refused {
            problems: vec![error.to_string()],
            hint: Some(format!("as root: `{}`", TooOld::REMEDY)),
        })
    }

    /// Returns what would keep git from moving the tag, or the coordinator from recording the graduation once it is
    /// live: refs that were made by hand, or files that belong to another user.
    fn refs_in_the_way(&self) -> Result<Vec<String>, CoordinatorError> {
        let RequestTag { environment, .. } = &self.order.tag;
        let request = self.order.tag.ref_name();
        let repo = GitRepository::open(self.vars).map_err(DecisionError::from)?;
        let found =
            repo::blocking_refs(self.vars, &repo, environment, &request).map_err(DecisionError::from)?;
        let Some(head) = repo.head().map_err(DecisionError::from)? else { return Ok(found) };
        if !found.is_empty() {
            return Ok(found);
        }
        let git = Git::environment(self.vars);
        if self.order.mode != Mode::Command {
            let mut harmful = git.harmful_settings().map_err(DecisionError::from)?;
            harmful.retain(Harmful::stops_pushes);
            if !harmful.is_empty() {
                return Ok(harmful.iter().map(|one| format!("{one}\n`{}`", one.remedy())).collect());
            }
        }
        let release = ReleaseTag::new(environment.clone(), self.order.at).ref_name();
        let tried =
            git.could_write(&[request, release, ledger::branch(environment)], head).map_err(|error| {
                format!("{error}\n`dokku graduate:doctor` names what is wrong with the repository")
            });
        Ok(tried.err().into_iter().collect())
    }

    /// Returns the problem of a label that is created anew with the same object with which it was carried out before,
    /// as by a push of all tags of an old clone. Moving a label is always deliberate, and so is a command.
    fn carried_out(&self) -> Result<Option<String>, CoordinatorError> {
        let Order { mode, tag, old, new, options, signed, .. } = &self.order;
        // A signature counts once, even with `again`: another push of it may have been carried out in the meantime.
        if let Some(signed) = signed {
            let repo = GitRepository::open(self.vars).map_err(DecisionError::from)?;
            let found = signers::spent(self.vars, &repo, tag, signed.payload, signed.tagged);
            let found = found.map_err(ledger::LedgerError::from)?;
            return Ok(found.map(|problem| format!("{tag} {problem}\n{}", problem.remedy(tag))));
        }
        if *mode == Mode::Command || old.is_some() || options.again {
            return Ok(None);
        }
        let repo = GitRepository::open(self.vars).map_err(DecisionError::from)?;
        let found = carried_out::find(self.vars, &repo, tag, *new).map_err(ledger::LedgerError::from)?;
        Ok(found.map(|release| {
            let when = release.time().format("%Y-%m-%d %H:%M:%SZ");
            format!("{tag} was carried out on {when} ({release}); use a new label, or `-o again`")
        }))
    }

    /// Returns why a frozen environment refuses the graduation. It may go back to a release if
    /// `despite-freeze` asks for it.
    fn frozen(&self) -> Result<Vec<String>, CoordinatorError> {
        let environment = &self.order.tag.environment;
        let Some(frozen) = &self.settings.environment(environment)?.frozen else { return Ok(Vec::new()) };
        let remedy = match (self.is_release()?, self.order.options.despite_freeze) {
            (true, true) => return Ok(Vec::new()),
            (true, false) => {
                "going back to a release is still possible: `-o despite-freeze`, or \
                 `graduate:rollback` with `--despite-freeze`"
            }
            (false, true) => "`despite-freeze` lets only a release pass that was live before",
            (false, false) => "when that is over: `dokku graduate:unfreeze`",
        };
        Ok(vec![format!("it is frozen {frozen}\n{remedy}")])
    }

    /// Reports whether the environment was released with this commit before.
    fn is_release(&self) -> Result<bool, CoordinatorError> {
        let repo = GitRepository::open(self.vars).map_err(DecisionError::from)?;
        let mut releases = repo.releases(&self.order.tag.environment).map_err(DecisionError::from)?;
        let is_it = |release: Result<Release, _>| {
            release.as_ref().is_ok_and(|release| release.commit == self.order.commit)
        };
        Ok(releases.any(is_it))
    }

    /// Returns the purpose that the destination is told. If it cannot be determined, it is a graduation: hooks may be
    /// laxer with a roll-back.
    pub(super) fn purpose(&self) -> Purpose {
        match self.is_release() {
            Ok(true) => Purpose::Rollback,
            Ok(false) => Purpose::Graduation,
            Err(error) => {
                log::error!("{error}");
                Purpose::Graduation
            }
        }
    }

    /// Returns the apps with release tasks that have run on the destination before, with this same state.
    fn runs_again(&self, plan: &Plan) -> Result<Vec<AppName>, CoordinatorError> {
        let with_tasks = plan.rows.iter().filter(|row| row.has_release_tasks);
        let apps: Vec<AppName> = with_tasks.map(|row| row.app.clone()).collect();
        Ok(if !apps.is_empty() && self.is_release()? { apps } else { Vec::new() })
    }

    /// Returns the problems of apps that run here and would graduate with the current state, but cannot be carried.
    fn uncarried(&self) -> Result<Vec<String>, CoordinatorError> {
        let order = &self.order;
        if !order.is_current {
            return Ok(Vec::new());
        }
        let environment = &order.tag.environment;
        let excluded = self.settings.for_environment(environment).exclude;
        let only = order.options.only.as_ref();
        let is_asked_for = |app: &str| only.is_none_or(|only| only.iter().any(|name| name.as_str() == app));
        let graduates = |app: &FoundApp| {
            order.mapping.covers_name(app.as_str()) && !excluded.contains(app) && is_asked_for(app.as_str())
        };
        let uncarried = Dokku::new(self.vars).uncarried().map_err(EnvironmentError::from)?;
        Ok(uncarried.iter().filter(|each| graduates(&each.app)).map(ToString::to_string).collect())
    }

    /// Applies the acknowledgement rule: the current state graduates only while the live source is what was
    /// committed. Apps that do not graduate to this environment are ignored: where source and destination are the
    /// same host, these include the destination's apps, which a graduation itself has changed.
    ///
    /// Returns the apps as they are, and the problem, if any; for a state that is not the current one, neither.
    fn survey(&self) -> Result<(Option<AppsHere>, Option<String>), CoordinatorError> {
        if !self.order.is_current {
            return Ok((None, None));
        }
        let head =
            GitRepository::open(self.vars).and_then(|repo| repo.head()).map_err(DecisionError::from)?;
        let (survey, mut differences) = Environment::open(self.vars)?.compare(head)?;
        differences.retain(|difference| self.order.mapping.covers(&difference.app));
        let is_acknowledged = differences.is_empty() || self.order.options.allow_dirty;
        let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        let problem = format!(
            "this environment differs from its last commit:\n    {}\nsee `git diff` there, then commit it with \
             `dokku graduate:commit`",
            lines.join("\n    ")
        );
        Ok((Some(survey.here), (!is_acknowledged).then_some(problem)))
    }
}

/// Returns the ending of a graduation that was refused before it changed anything.
pub(super) fn cannot_begin(error: &impl std::error::Error) -> Ending {
    Ending::Refused { problems: vec![error.to_string()], hint: None }
}
