//! Runs the operator's own hooks.

use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use super::context::Coordinator;
use super::error::CoordinatorError;
use super::held::Reach;
use super::message::CoordinatorMessage;
use crate::decision::DecisionError;
use crate::files;
use crate::hook_program::HookProgram;
use crate::journal::Place;
use crate::legible;
use crate::names::ReleaseTag;
use crate::order::HookKind;
use crate::process::{Children, ProcessId};
use crate::repo::GitRepository;

/// Hooks of one kind, with the variables that they see.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    kind: HookKind,
    /// The commands, for `bash -e`.
    commands: Vec<String>,
    /// Where they run: Dokku's root, the work tree of the environment repository.
    dir: PathBuf,
    variables: Vec<(String, String)>,
    /// How long each may take; `None` if the end of the graduation ends them.
    limit: Option<Duration>,
    /// The file that names the running hook: if this process dies, the one that settles the graduation stops that
    /// hook.
    note: PathBuf,
}

impl Programs {
    /// Returns the configured hooks of a kind, with the variables that all hooks see: the three of 2015, and ours.
    /// `own` is the release that this graduation has made, which `LAST_TAG` does not count.
    pub(super) fn of(
        coordinator: &Coordinator<'_>,
        kind: HookKind,
        own: Option<&ReleaseTag>,
    ) -> Result<Self, CoordinatorError> {
        let Coordinator { order, settings, vars, plan, limits, .. } = coordinator;
        let limit = match kind {
            HookKind::Pre | HookKind::Post => None,
            HookKind::Verify | HookKind::Success | HookKind::Failure | HookKind::Incoming => {
                Some(limits.hook_timeout)
            }
        };
        let commands = settings.hooks(kind).to_vec();
        let note = Place::of(vars, &order.id).program();
        let programs =
            Self { kind, commands, dir: vars.dokku_root.clone(), variables: Vec::new(), limit, note };
        if programs.count() == 0 {
            return Ok(programs);
        }
        let environment = &order.tag.environment;
        let releases = GitRepository::open(vars).and_then(|repo| repo.release_names(environment));
        let mut releases = releases.map_err(DecisionError::from)?;
        let approvals: Vec<String> = order.approvals.counted.iter().map(ToString::to_string).collect();
        let last = releases.find(|release| Some(release) != own);
        let apps: Vec<&str> = plan.rows.iter().map(|row| row.app.as_str()).collect();
        let there: Vec<&str> = plan.rows.iter().map(|row| row.there.name().as_str()).collect();
        let mut variables = vec![
            ("ENVIRONMENT", environment.to_string()),
            ("ENVIRONMENT_URL", settings.environment(environment)?.url.to_string()),
            ("LAST_TAG", last.map(|release| release.to_string()).unwrap_or_default()),
            ("GRADUATE_ID", order.id.to_string()),
            ("GRADUATE_ENVIRONMENT", environment.to_string()),
            ("GRADUATE_LABEL", order.tag.label.to_string()),
            ("GRADUATE_COMMIT", order.commit.to_string()),
            ("GRADUATE_KIND", coordinator.purpose().to_string()),
            ("GRADUATE_BY", order.by.clone()),
            ("GRADUATE_SIGNER", order.signed.as_ref().map(|signed| signed.by.clone()).unwrap_or_default()),
            ("GRADUATE_APPROVALS", approvals.join("\n")),
            ("GRADUATE_APPS", apps.join(" ")),
            ("GRADUATE_DESTINATION_APPS", there.join(" ")),
            ("GRADUATE_SOURCE", settings.host_name()),
        ];
        // Their git can read the objects that are being pushed; it writes to the repository as usual.
        let quarantine = order.quarantine.as_ref().filter(|path| path.is_dir());
        variables
            .extend(quarantine.map(|path| ("GIT_ALTERNATE_OBJECT_DIRECTORIES", path.display().to_string())));
        Ok(variables.into_iter().fold(programs, |programs, (name, value)| programs.with(name, &value)))
    }

    pub(super) fn count(&self) -> usize {
        self.commands.len()
    }

    /// Adds a variable that they see.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        // Hooks print it, send it, and write it to files.
        self.variables.push((name.to_owned(), legible::plain(value)));
        self
    }

    /// Runs the hooks one after another, on a thread of its own, until one fails; `done` makes the message with the
    /// result. While they run they can reach held apps, if `reach` is given.
    pub(super) fn start(
        mut self,
        reach: Option<Reach>,
        children: Children,
        sender: SyncSender<CoordinatorMessage>,
        done: impl FnOnce(Result<(), String>) -> CoordinatorMessage + Send + 'static,
    ) {
        thread::spawn(move || {
            let reached = reach.map(Reach::open);
            if let Some(reached) = &reached {
                if let Some(text) = reached.trouble.clone() {
                    let _ = sender.send(CoordinatorMessage::ProgramWrote { kind: self.kind, text });
                }
                self = reached.variables.iter().fold(self, |these, (name, value)| these.with(name, value));
            }
            let result = (0..self.count()).try_for_each(|index| self.run(index, &children, &sender));
            drop(reached);
            let _ = sender.send(done(result));
        });
    }

    /// Runs all hooks one after another, on a thread of its own, whatever the result of each.
    pub(super) fn start_all(self, sender: SyncSender<CoordinatorMessage>) {
        thread::spawn(move || {
            let children = Children::default();
            let failed = |index| self.run(index, &children, &sender).err();
            let failures = (0..self.count()).filter_map(failed).collect();
            let _ = sender.send(CoordinatorMessage::OutcomeTold { failures });
        });
    }

    fn run(
        &self,
        index: usize,
        children: &Children,
        sender: &SyncSender<CoordinatorMessage>,
    ) -> Result<(), String> {
        let Self { commands, dir, variables, limit, .. } = self;
        let command = &commands[index];
        let name = format!("hook {} (`{command}`)", index + 1);
        let hook = HookProgram { name: &name, command, dir, variables, limit: *limit };
        let (kind, sender) = (self.kind, sender.clone());
        let noted = |process: &ProcessId| {
            if let Err(error) = files::write_json(&self.note, process) {
                log::warn!("{error}");
            }
        };
        let wrote = move |text| sender.send(CoordinatorMessage::ProgramWrote { kind, text }).is_ok();
        hook.run(|program| children.start(program), noted, wrote)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn no_hook_begins_after_they_were_stopped() {
        let dir = tempfile::tempdir().unwrap();
        // The first one has ended when they are stopped; the process that it left keeps its output open for a moment.
        let commands = ["sleep 2 & echo first", "echo second"].map(str::to_owned).to_vec();
        let programs = Programs {
            kind: HookKind::Post,
            commands,
            dir: dir.path().to_owned(),
            variables: Vec::new(),
            limit: None,
            note: dir.path().join("program"),
        };
        let children = Children::default();
        let (sender, messages) = mpsc::sync_channel(64);
        programs.start(None, children.clone(), sender, |result| CoordinatorMessage::Verified { result });
        let mut heard = Vec::new();
        for message in &messages {
            if let CoordinatorMessage::ProgramWrote { text, .. } = message {
                children.stop(Duration::ZERO);
                heard.push(text);
            } else {
                assert!(matches!(message, CoordinatorMessage::Verified { result: Err(_) }), "{message:?}");
            }
        }
        assert_eq!(heard, ["first"]);
    }
}
