//! The log of each app of a graduation: what its deploy, its triggers, its participant and a later participant must
//! know of one another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::commit::app::{AppStep, Stage};
use crate::docker::{ImageId, RestartPolicy};
use crate::image::BuildFacts;
use crate::names::{AppName, BranchName, CommitId, Digest};
use crate::participant::health::Watched;
use crate::process::ProcessId;
use crate::protocol::{AppEnd, Delivery, HoldPoint};

/// What an app was before the graduation touched it: all that an abort puts back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Before {
    /// Whether the graduation created the app.
    pub(crate) created: bool,
    /// Where the deploy branch was.
    pub(crate) from: Option<CommitId>,
    /// The revision to deploy.
    pub(crate) to: CommitId,
    /// The deploy branch.
    pub(crate) branch: BranchName,
    /// The containers that were live.
    pub(crate) containers: BTreeSet<String>,
    /// Those of them that were running.
    pub(crate) running: BTreeSet<String>,
    /// The containers that earlier deploys left behind and that never became live.
    pub(crate) left: BTreeSet<String>,
    /// The image that ran, or was to run next.
    pub(crate) image: Option<ImageId>,
    /// What was live, with the names and restart policies of its containers.
    #[serde(default)]
    pub(crate) old: Old,
    /// The processes with a container that had ended, or that Docker had restarted.
    #[serde(default)]
    pub(crate) unsteady: BTreeSet<String>,
    /// Its images without a name.
    #[serde(default)]
    pub(crate) unnamed: BTreeSet<ImageId>,
    /// Files that a deploy sets, by path below Dokku's library; `None` for one that did not exist.
    pub(crate) properties: BTreeMap<PathBuf, Option<String>>,
}

impl Before {
    /// Reports whether the app had no version and no container.
    pub(crate) fn ran_nothing(&self) -> bool {
        self.from.is_none() && self.containers.is_empty()
    }

    /// Reports whether the app was stopped with `ps:stop`, so that Dokku does not start it when the host boots.
    pub(crate) fn was_stopped(&self, app: &AppName) -> bool {
        let restore = PathBuf::from(format!("config/ps/{app}/restore"));
        self.properties.get(&restore).and_then(Option::as_deref).is_some_and(|value| value.trim() == "false")
    }
}

/// What was live of an app. As long as it still runs, the app can be given back to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Old {
    /// Dokku's files about it, by file name (`CONTAINER.web.1`).
    pub(crate) files: BTreeMap<String, String>,
    /// The containers that were running, by id.
    pub(crate) running: BTreeMap<String, Placed>,
}

/// The name and restart policy of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Placed {
    pub(crate) name: String,
    pub(crate) restart: RestartPolicy,
}

impl Old {
    /// Returns the containers that were live, with process and number of each (`web.1`).
    pub(crate) fn processes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(file, id)| Some((file.strip_prefix("CONTAINER.")?, id.trim())))
    }

    /// Returns those of them that were running.
    pub(crate) fn running_processes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.processes().filter(|(_, id)| self.running.contains_key(*id))
    }

    /// Returns what an app is to be given back to: `self` is what was live when it was opened, `at_go` what was live at
    /// the decision. If the app was restarted while it was held, `at_go` counts, since Dokku told the earlier
    /// containers to end. Otherwise `self` counts, and what has ended since is to run again.
    fn or_restarted(self, at_go: Option<Self>) -> Self {
        let is_restarted = |found: &Self| found.running.keys().any(|id| !self.running.contains_key(id));
        at_go.filter(is_restarted).unwrap_or(self)
    }
}

/// Config variables that a deploy sets, by name; `None` for one that is not set.
pub(crate) type Variables = BTreeMap<String, Option<String>>;

/// What the held trigger found before it put the old version's names back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Held {
    /// Its hold point.
    pub(crate) at: HoldPoint,
    /// The new image.
    pub(crate) image: ImageId,
    /// Files that the build set, as in [`Before`].
    pub(crate) properties: BTreeMap<PathBuf, Option<String>>,
    /// Config variables that the build set.
    pub(crate) variables: Variables,
    /// Whether it has a web process, so that it comes to the proxy switch.
    pub(crate) switches: bool,
}

/// All that is noted of an app, which is needed to put it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    /// What it was.
    pub(crate) before: Before,
    /// The config variables that its deploy sets, as they were; `None` if no deploy was to be started.
    pub(crate) variables: Option<Variables>,
    /// What the held trigger found.
    pub(crate) held: Option<Held>,
    /// The process that deployed it, if that is known.
    pub(crate) deploy: Option<ProcessId>,
    /// The containers of its deploy that passed Dokku's check.
    pub(crate) containers: BTreeSet<String>,
    /// Whether its deploy went on after the decision.
    pub(crate) released: bool,
    /// What the app can be given back to.
    pub(crate) old: Old,
    /// Whether its deploy ended well: Dokku then tells the old containers to end.
    pub(crate) deployed: bool,
}

impl Noted {
    /// Reports whether the graduation has done something to the app that Dokku's other commands can see: created it, or
    /// was about to deploy it.
    pub(crate) fn is_touched(&self) -> bool {
        self.before.created || self.variables.is_some()
    }

    /// Reports whether there are old containers that, as far as is known, were not told to end.
    pub(crate) fn may_be_given_back(&self) -> bool {
        !self.deployed && !self.old.running.is_empty()
    }
}

/// What happened to an app, with what must be known of it later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum AppEntry {
    /// What it was; without this entry, nothing of it is put back. The last one counts.
    Opened {
        /// What it was.
        before: Box<Before>,
    },
    /// The image of its version has arrived from the source, and the graduation keeps it.
    Received {
        /// What the build of the image found out.
        facts: BuildFacts,
    },
    /// Its deploy is about to be started, and sets these config variables. Their values may be secrets: no message
    /// contains them, and the log is removed when the graduation is over.
    Started {
        /// The variables as they were.
        variables: Variables,
        /// How its version becomes an image.
        #[serde(default)]
        delivery: Delivery,
        /// The digest of the image, if its version deploys an image as it is and the digest is known.
        #[serde(default)]
        digest: Option<Digest>,
    },
    /// Dokku has taken app.json from the image that its version deploys as it is: the deploy sets these config
    /// variables, too.
    Extracted {
        /// The variables as they were.
        variables: Variables,
        /// What the deploy sets them to; `None` for what Dokku generates.
        values: Variables,
    },
    /// This process deploys it.
    Deploying {
        /// Which.
        process: ProcessId,
    },
    /// It is built: what follows is mostly waiting, so that another app may build.
    Built {},
    /// A container is about to be held.
    Watched {
        /// Its id.
        container: String,
        /// Its state.
        watched: Watched,
    },
    /// It is held.
    Held {
        /// What the held trigger found.
        held: Box<Held>,
    },
    /// A container of its deploy has passed Dokku's check.
    Checked {
        /// Its id.
        container: String,
    },
    /// The new version got its names back after the decision.
    Released {
        /// What was live then: another process may have restarted the old version while it was held.
        #[serde(default)]
        old: Old,
    },
    /// Its deploy ended well: the trigger `post-deploy` ran.
    Deployed {},
    /// It is not deployed, although [`AppEntry::Deployed`] says so.
    Distrusted {},
    /// The process that deploys it has exited.
    Exited {},
    /// We are about to take Dokku's deploy lock of it; the note tells a later participant whose lock it was.
    Locking {},
    /// The lock is not ours, or no longer.
    Unlocked {},
    /// This process, which the graduation did not start, deploys, stops or destroys it.
    Used {
        /// Which.
        process: ProcessId,
    },
    /// It is live, wholly or in part, and is about to be put back.
    Restoring {},
    /// It is concluded: nothing more is done to it.
    Ended {
        /// How.
        end: AppEnd,
    },
}

impl AppEntry {
    fn step(&self) -> Option<AppStep> {
        match self {
            Self::Opened { .. } => Some(AppStep::Opened),
            Self::Started { .. } => Some(AppStep::Started),
            Self::Built {} => Some(AppStep::Built),
            Self::Held { .. } => Some(AppStep::Held),
            Self::Released { .. } => Some(AppStep::Released),
            Self::Deployed {} => Some(AppStep::Deployed),
            Self::Distrusted {} => Some(AppStep::Distrusted),
            Self::Restoring {} => Some(AppStep::Restoring),
            Self::Ended { end } => Some(AppStep::Ended(end.clone())),
            Self::Deploying { .. }
            | Self::Extracted { .. }
            | Self::Received { .. }
            | Self::Watched { .. }
            | Self::Checked { .. }
            | Self::Exited {}
            | Self::Locking {}
            | Self::Used { .. }
            | Self::Unlocked {} => None,
        }
    }
}

/// All that the log of an app says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AppLog {
    /// Its stage.
    pub(crate) stage: Stage,
    /// What it was, if it was opened.
    pub(crate) before: Option<Before>,
    /// The config variables that its deploy sets, as they were; `None` if no deploy was to be started.
    pub(crate) variables: Option<Variables>,
    /// What the build of the image that the source sent found out, if it sent one.
    pub(crate) received: Option<BuildFacts>,
    /// How its version becomes an image.
    pub(crate) delivery: Delivery,
    /// The digest of the image, if its version deploys an image as it is and the digest is known.
    pub(crate) digest: Option<Digest>,
    /// The values that its deploy gives to config variables, where only an image's app.json says them.
    pub(crate) values: Variables,
    /// The process that deploys it, if that is known.
    pub(crate) deploy: Option<ProcessId>,
    /// Whether it is built.
    pub(crate) is_built: bool,
    /// What the held trigger found; `None` before it is held.
    pub(crate) held: Option<Held>,
    /// Its containers that are held, or were until the decision, by id.
    pub(crate) watched: BTreeMap<String, Watched>,
    /// The containers of its deploy that passed Dokku's check.
    pub(crate) checked: BTreeSet<String>,
    /// Whether its deploy went on after the decision.
    pub(crate) is_released: bool,
    /// What was live then; `None` if that was not noted.
    pub(crate) old: Option<Old>,
    /// Whether Dokku reported that it is deployed, whatever was found afterwards.
    pub(crate) was_deployed: bool,
    /// Whether the process that deploys it has exited.
    pub(crate) has_exited: bool,
    /// Whether Dokku's deploy lock of it is ours, or was when a participant died.
    pub(crate) is_locking: bool,
    /// The processes that deployed, stopped or destroyed it during the soak, and that the graduation did not start.
    pub(crate) used_by: Vec<ProcessId>,
    /// How it ended, if it has.
    pub(crate) end: Option<AppEnd>,
}

impl AppLog {
    fn with(mut self, entry: AppEntry) -> Self {
        if let Some(step) = entry.step() {
            self.stage = self.stage.next(&step);
        }
        match entry {
            AppEntry::Opened { before } => self.before = Some(*before),
            AppEntry::Received { facts } => self.received = Some(facts),
            AppEntry::Started { variables, delivery, digest } => {
                (self.variables, self.delivery, self.digest) = (Some(variables), delivery, digest);
            }
            AppEntry::Extracted { variables, values } => {
                self.variables.get_or_insert_default().extend(variables);
                self.values = values;
            }
            AppEntry::Deploying { process } => self.deploy = Some(process),
            AppEntry::Built {} => self.is_built = true,
            AppEntry::Watched { container, watched } => {
                self.watched.insert(container, watched);
            }
            AppEntry::Held { held } => self.held = Some(*held),
            AppEntry::Checked { container } => {
                self.checked.insert(container);
            }
            AppEntry::Released { old } => {
                self.is_released = true;
                self.old = Some(old);
            }
            AppEntry::Deployed {} => self.was_deployed = true,
            AppEntry::Exited {} => self.has_exited = true,
            AppEntry::Locking {} => self.is_locking = true,
            AppEntry::Unlocked {} => self.is_locking = false,
            AppEntry::Used { process } => {
                self.used_by.retain(ProcessId::is_running);
                self.used_by.push(process);
            }
            AppEntry::Ended { end } => self.end = Some(end),
            AppEntry::Distrusted {} | AppEntry::Restoring {} => {}
        }
        self
    }

    pub(super) fn with_all(self, entries: Vec<AppEntry>) -> Self {
        entries.into_iter().fold(self, Self::with)
    }

    /// Returns all that is needed to put back an app that was `before`.
    pub(crate) fn noted(self, before: Before) -> Noted {
        let Self { variables, held, deploy, checked: containers, is_released: released, .. } = self;
        let old = before.old.clone().or_restarted(self.old);
        let deployed = self.was_deployed;
        Noted { before, variables, held, deploy, containers, released, old, deployed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_given_back_to_what_somebody_has_restarted_and_not_to_less_than_it_was() {
        let old = |ids: &[&str]| {
            let placed = Placed { name: "api.web.1".to_owned(), restart: RestartPolicy::no() };
            let running = ids.iter().map(|id| ((*id).to_owned(), placed.clone())).collect();
            Old { files: BTreeMap::new(), running }
        };
        let opened = || old(&["1a", "2b"]);
        assert_eq!(opened().or_restarted(None), opened());
        assert_eq!(opened().or_restarted(Some(old(&["1a"]))), opened());
        assert_eq!(opened().or_restarted(Some(Old::default())), opened());
        for restarted in [old(&["3c", "4d"]), old(&["3c"])] {
            assert_eq!(opened().or_restarted(Some(restarted.clone())), restarted);
        }
    }
}
