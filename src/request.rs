//! What is asked for, whoever asks: the one place where an [`Order`] is made, of a push's updates or of a command's words.
//!
//! It reads the repository and the settings, and starts nothing. Git's hooks and the commands call it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use chrono::Utc;

use crate::approvals::{self, ToApprove};
use crate::exit::Explain;
use crate::history;
use crate::manifest::{Manifest, State};
use crate::mapping::{Mapping, Routes};
use crate::names::{AppName, CommitId, EnvironmentName, GraduationId, Label, RequestTag};
use crate::order::{Mode, Order, Signed};
use crate::plan::{Options, WantedApp};
use crate::repo::{RepoError, RepositoryReader};
use crate::settings::Settings;
use crate::signers::{self, SignersError};
use crate::updates::{ApprovalUpdate, GraduationRequest, Push};
use crate::vars::Vars;
use crate::who::{Deed, NotAllowed, SignedTags};

/// There is no order for what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The environment repository, or what the commit holds.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// It is not signed as it must be.
    #[error(transparent)]
    Signers(#[from] SignersError),
    /// Whoever asks may not.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// No commit has that name.
    #[error("the environment repository has no commit {0:?}")]
    UnknownRevision(String),
    /// The system has no random bytes.
    #[error("cannot make an id for the graduation: {0}")]
    Id(#[source] io::Error),
}

impl Explain for RequestError {}

/// What every order of a push or command has in common.
pub(crate) struct Orders<'a> {
    /// Where the commits are.
    pub repo: &'a RepositoryReader,
    /// Where they can graduate to.
    pub settings: &'a Settings,
    /// What carries the decision.
    pub mode: Mode,
    /// How to graduate.
    pub options: &'a Options,
    /// Who asks, and from where.
    pub vars: &'a Vars,
}

impl Orders<'_> {
    /// The orders of a push.
    ///
    /// # Errors
    /// What is pushed is not a commit, or its state cannot be read.
    pub(crate) fn of_push(&self, push: &Push) -> Result<Vec<Order>, RequestError> {
        push.requests.iter().map(|request| self.of_request(request, &push.approvals)).collect()
    }

    /// The order of a command: a commit by its name, or what is checked out. Its request tag is the one of all commands.
    ///
    /// # Errors
    /// No commit has that name, or its state cannot be read.
    pub(crate) fn of_command(
        &self,
        environment: &EnvironmentName,
        revision: Option<&str>,
    ) -> Result<Order, RequestError> {
        let new = commit_of(self.repo, revision)?;
        let tag = RequestTag { environment: environment.clone(), label: Label::cli() };
        let old = self.repo.read_ref(&tag.ref_name())?;
        self.of_request(&GraduationRequest { tag, old, new }, &[])
    }

    /// `pushed` are the approvals that come with it.
    fn of_request(
        &self,
        request: &GraduationRequest,
        pushed: &[ApprovalUpdate],
    ) -> Result<Order, RequestError> {
        let GraduationRequest { tag, old, new } = request.clone();
        let commit = self.repo.commit_of(new)?;
        let judged = self.judge(&tag.environment, commit)?;
        let signed = match judged {
            Ok(()) => self.signature(request, commit),
            Err(refusal) => Err(refusal.into()),
        };
        let (signed, not_allowed) = match signed {
            Ok(signed) => (signed, None),
            // Everybody may have the plan, which says what it would be refused for.
            Err(RequestError::NotAllowed(refusal)) if self.options.plan => (None, Some(refusal.to_string())),
            Err(RequestError::Signers(refusal)) if self.options.plan => (None, Some(refusal.to_string())),
            Err(error) => return Err(error),
        };
        let candidate = Candidate::of(self.repo, self.settings, &tag.environment, commit)?;
        let wanted = ToApprove { environment: &tag.environment, commit, signed: signed.as_ref(), pushed };
        Ok(Order {
            id: new_id()?,
            mode: self.mode,
            approvals: approvals::of(self.vars, self.repo, &wanted),
            tag,
            old,
            new,
            commit,
            quarantine: match self.mode {
                Mode::Push | Mode::AfterPush => self.vars.quarantine.clone(),
                Mode::Command => None,
            },
            is_current: candidate.is_current(self.repo)?,
            apps: candidate.apps(),
            mapping: candidate.mapping,
            excluded: candidate.excluded,
            options: self.options.clone(),
            by: self.vars.user.clone(),
            signed,
            not_allowed,
            at: Utc::now(),
        })
    }

    /// Whoever asks may do it.
    fn judge(
        &self,
        environment: &EnvironmentName,
        commit: CommitId,
    ) -> Result<Result<(), NotAllowed>, RequestError> {
        let judge = |deed: &Deed<'_>| self.settings.judge(&self.vars.asker(), deed);
        let (graduate, go_back) = (judge(&Deed::Graduate(environment)), judge(&Deed::GoBack(environment)));
        // What was released has to be looked up, and matters only where one of them is refused.
        let is_either = graduate.is_ok() && go_back.is_ok();
        Ok(match is_either || history::latest_of(self.repo, environment, commit)?.is_none() {
            true => graduate,
            false => go_back,
        })
    }

    /// Who has signed it, where that is asked for. A command has no tag of its own: it may go back to a release, and root
    /// needs none.
    fn signature(
        &self,
        request: &GraduationRequest,
        commit: CommitId,
    ) -> Result<Option<Signed>, RequestError> {
        let environment = &request.tag.environment;
        match (self.settings.for_environment(environment).signed_tags, self.mode) {
            (SignedTags::Off, _) => Ok(None),
            (SignedTags::On, Mode::Push | Mode::AfterPush) => {
                Ok(signers::check(self.vars, self.repo, &request.tag, request.new, commit)?)
            }
            // A plan is made for the push that is to come.
            (SignedTags::On, Mode::Command) if self.vars.is_root || self.options.plan => Ok(None),
            (SignedTags::On, Mode::Command) => match history::latest_of(self.repo, environment, commit)? {
                Some(_) => Ok(None),
                None => Err(SignersError::Command(environment.clone()).into()),
            },
        }
    }
}

/// A commit's state, as what may graduate to an environment.
pub(crate) struct Candidate {
    /// The commit.
    pub commit: CommitId,
    /// The environment.
    pub environment: EnvironmentName,
    /// The state of all apps.
    pub state: State,
    /// What they are called there.
    pub mapping: Mapping,
    /// Those that never graduate there, as `exclude` is set now.
    pub excluded: BTreeSet<AppName>,
}

impl Candidate {
    /// The candidate that a commit is.
    ///
    /// # Errors
    /// The commit's state cannot be read.
    pub(crate) fn of(
        repo: &RepositoryReader,
        settings: &Settings,
        environment: &EnvironmentName,
        commit: CommitId,
    ) -> Result<Self, RepoError> {
        let state = repo.state_at(commit)?;
        let excluded = settings.for_environment(environment).exclude.into_iter();
        let excluded = excluded.filter_map(|app| app.as_str().parse::<AppName>().ok());
        Ok(Self {
            commit,
            environment: environment.clone(),
            mapping: settings.mapping(environment),
            excluded: excluded.filter(|app| state.0.contains_key(app)).collect(),
            state,
        })
    }

    /// The way of each of its apps, to an environment that `is_local` if it is on this same host.
    pub(crate) fn routes(&self, is_local: bool) -> Routes {
        Routes::of(&self.mapping, self.state.0.keys(), &self.excluded, &self.environment, is_local)
    }

    /// The apps that its state wants.
    fn apps(&self) -> BTreeMap<AppName, WantedApp> {
        let wanted = self.state.0.iter().map(|(app, manifest)| {
            let config_names = manifest.config.keys().cloned().collect();
            let from_image = manifest.deploy.from_image.clone();
            (app.clone(), WantedApp { runs: manifest.deploy.revision, config_names, from_image })
        });
        wanted.collect()
    }

    /// Its state is HEAD's, as far as it graduates along the mapping.
    fn is_current(&self, repo: &RepositoryReader) -> Result<bool, RepoError> {
        let Some(head) = repo.head()? else { return Ok(false) };
        if repo.tree_of(head)? == repo.tree_of(self.commit)? {
            return Ok(true);
        }
        // Without rules all of it graduates, so that it is another state.
        let covered = |state: &State| -> BTreeMap<AppName, Manifest> {
            let apps = state.0.iter().filter(|(app, _)| self.mapping.covers(app));
            apps.map(|(app, manifest)| (app.clone(), manifest.clone())).collect()
        };
        Ok(!self.mapping.is_empty() && covered(&repo.manifests(head)?) == covered(&self.state))
    }
}

/// The commit that a revision names; what is checked out, if none is given.
///
/// # Errors
/// [`RequestError::UnknownRevision`]; the repository cannot be read.
pub(crate) fn commit_of(repo: &RepositoryReader, revision: Option<&str>) -> Result<CommitId, RequestError> {
    let found = match revision {
        Some(revision) => repo.resolve(revision)?,
        None => repo.head()?,
    };
    found.ok_or_else(|| RequestError::UnknownRevision(revision.unwrap_or("HEAD").to_owned()))
}

/// A fresh id.
///
/// # Errors
/// [`RequestError::Id`].
pub(crate) fn new_id() -> Result<GraduationId, RequestError> {
    let mut random = [0; 3];
    getrandom::fill(&mut random).map_err(|error| RequestError::Id(io::Error::other(error.to_string())))?;
    Ok(GraduationId::new(Utc::now(), random))
}
