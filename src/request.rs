//! Makes an [`Order`] of every request, from a push's updates or from a command's arguments. No other module makes
//! one.
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
use crate::sendable;
use crate::settings::Settings;
use crate::signers::{self, SignersError};
use crate::updates::{ApprovalUpdate, GraduationRequest, Push};
use crate::vars::Vars;
use crate::who::{Action, NotAllowed, SignedTags};

/// No order can be made of the request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The environment repository, or the contents of the commit, cannot be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The tag is not signed as it must be.
    #[error(transparent)]
    Signers(#[from] SignersError),
    /// The requester may not do this.
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

/// What all orders of one push or command have in common.
pub(crate) struct Orders<'a> {
    /// The repository that has the commits.
    pub repo: &'a RepositoryReader,
    /// The settings of the environments.
    pub settings: &'a Settings,
    /// What carries the decision.
    pub mode: Mode,
    /// How to graduate.
    pub options: &'a Options,
    /// Who requests it, and from where.
    pub vars: &'a Vars,
}

impl Orders<'_> {
    /// Returns the orders of a push.
    ///
    /// # Errors
    /// What is pushed is not a commit, or its state cannot be read.
    pub(crate) fn of_push(&self, push: &Push) -> Result<Vec<Order>, RequestError> {
        push.requests.iter().map(|request| self.of_request(request, &push.approvals)).collect()
    }

    /// Returns the order of a command: for the commit that `revision` names, or for HEAD. All commands use the same
    /// request tag.
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

    /// `pushed` are the approvals in the same push.
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
            // Anybody may have the plan, which then says why the graduation would be refused.
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

    /// Judges whether the requester may graduate the commit, or go back to it.
    fn judge(
        &self,
        environment: &EnvironmentName,
        commit: CommitId,
    ) -> Result<Result<(), NotAllowed>, RequestError> {
        let judge = |action: &Action<'_>| self.settings.judge(&self.vars.asker(), action);
        let (graduate, go_back) =
            (judge(&Action::Graduate(environment)), judge(&Action::GoBack(environment)));
        // Whether it was released must be looked up, and matters only if one of the two is refused.
        let is_either = graduate.is_ok() && go_back.is_ok();
        Ok(match is_either || history::latest_of(self.repo, environment, commit)?.is_none() {
            true => graduate,
            false => go_back,
        })
    }

    /// Returns who signed the request, if a signature is required. A command has no tag of its own: it may go back to
    /// a release, and root needs no signature.
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
            // A plan is made before the signed push.
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
    /// The names of its apps on the destination.
    pub mapping: Mapping,
    /// The apps that never graduate there, by the current value of `exclude`.
    pub excluded: BTreeSet<AppName>,
}

impl Candidate {
    /// Returns the candidate for a commit.
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

    /// Returns the routes of its apps. `is_local` says whether the environment is on this host.
    pub(crate) fn routes(&self, is_local: bool) -> Routes {
        Routes::of(&self.mapping, self.state.0.keys(), &self.excluded, &self.environment, is_local)
    }

    /// Returns the apps that its state wants.
    fn apps(&self) -> BTreeMap<AppName, WantedApp> {
        let wanted = self.state.0.iter().map(|(app, manifest)| {
            let config_names = manifest.config.keys().cloned().collect();
            let from_image = manifest.deploy.from_image.clone();
            let build_settings = sendable::of_builds(&manifest.factors);
            (
                app.clone(),
                WantedApp { runs: manifest.deploy.revision, config_names, build_settings, from_image },
            )
        });
        wanted.collect()
    }

    /// Reports whether its state is that of HEAD, as far as the mapping covers the apps.
    fn is_current(&self, repo: &RepositoryReader) -> Result<bool, RepoError> {
        let Some(head) = repo.head()? else { return Ok(false) };
        if repo.tree_of(head)? == repo.tree_of(self.commit)? {
            return Ok(true);
        }
        // Without rules the mapping covers all apps, so that another tree is another state.
        let covered = |state: &State| -> BTreeMap<AppName, Manifest> {
            let apps = state.0.iter().filter(|(app, _)| self.mapping.covers(app));
            apps.map(|(app, manifest)| (app.clone(), manifest.clone())).collect()
        };
        Ok(!self.mapping.is_empty() && covered(&repo.manifests(head)?) == covered(&self.state))
    }
}

/// Returns the commit that a revision names, or HEAD if none is given.
///
/// # Errors
/// [`RequestError::UnknownRevision`], or the repository cannot be read.
pub(crate) fn commit_of(repo: &RepositoryReader, revision: Option<&str>) -> Result<CommitId, RequestError> {
    let found = match revision {
        Some(revision) => repo.resolve(revision)?,
        None => repo.head()?,
    };
    found.ok_or_else(|| RequestError::UnknownRevision(revision.unwrap_or("HEAD").to_owned()))
}

/// Returns a new id.
///
/// # Errors
/// [`RequestError::Id`].
pub(crate) fn new_id() -> Result<GraduationId, RequestError> {
    let mut random = [0; 3];
    getrandom::fill(&mut random).map_err(|error| RequestError::Id(io::Error::other(error.to_string())))?;
    Ok(GraduationId::new(Utc::now(), random))
}
