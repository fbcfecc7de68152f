//! `graduate:commit`: acknowledges the environment as it is now.

use std::str::FromStr;

use crate::dokku::Dokku;
use crate::environment::{Committed, Environment, EnvironmentError};
use crate::git::Git;
use crate::names::{AppName, CommitId};
use crate::output;
use crate::provenance;
use crate::vars::Vars;

/// The most differences that are listed.
const LISTED: usize = 40;

/// Commits the current state of all apps to the environment repository.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CommitArgs {
    /// The commit's message; without one, it is made of what changed
    #[arg(short, long, value_name = "MESSAGE")]
    pub message: Option<String>,
    /// What runs in an app, where nobody recorded it, as APP=REVISION; may be given several times
    #[arg(long, value_name = "APP=REVISION")]
    pub runs: Vec<Declared>,
}

/// An app and the revision that it runs: `web=<40 hex digits>`.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    app: AppName,
    revision: CommitId,
}

impl FromStr for Declared {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (app, revision) = text.split_once('=').ok_or("it has the form APP=REVISION")?;
        let app = app.parse().map_err(|error| format!("{error}"))?;
        let revision = revision.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { app, revision })
    }
}

/// Runs the command, and reports the result on stderr.
///
/// # Errors
/// As [`Environment::commit`].
pub(crate) fn run(vars: &Vars, args: &CommitArgs) -> Result<(), EnvironmentError> {
    let message = args.message.as_deref().map(str::trim).filter(|message| !message.is_empty());
    for Declared { app, revision } in &args.runs {
        if !Git::bare(&Dokku::new(vars).repository(app)).has_commit(*revision) {
            return Err(EnvironmentError::NoSuchRevision { app: app.clone(), revision: *revision });
        }
        provenance::declare(vars, app, *revision)?;
    }
    let committed = Environment::open(vars)?.commit(message)?;
    // The commit is made whether or not this can be written.
    output::to_stderr(&in_words(&committed));
    Ok(())
}

/// Describes the result.
fn in_words(Committed { commit, differences, remarks }: &Committed) -> String {
    let mut lines = match commit {
        None => vec!["-----> Nothing to commit: the repository describes what runs".to_owned()],
        Some(commit) => {
            let first = format!("-----> Committed {}", commit.short());
            let listed = differences.iter().take(LISTED).map(|difference| format!("       {difference}"));
            let more = match differences.len().saturating_sub(LISTED) {
                0 => None,
                more => Some(format!("       and {more} more apps")),
            };
            std::iter::once(first).chain(listed).chain(more).collect()
        }
    };
    lines.extend(remarks.iter().map(|remark| format!(" !     {remark}")));
    lines.into_iter().map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Change, Difference};

    #[test]
    fn what_was_done_is_listed() {
        let nothing =
            Committed { commit: None, differences: Vec::new(), remarks: vec!["api is down".to_owned()] };
        let text = in_words(&nothing);
        assert!(text.contains("Nothing to commit") && text.ends_with(" !     api is down\n"), "{text}");
        let difference =
            |n: u32| Difference { app: format!("app-{n}").parse().unwrap(), change: Change::Appeared };
        let commit = "a".repeat(40).parse().ok();
        let differences = (0..42).map(difference).collect();
        let text = in_words(&Committed { commit, differences, remarks: Vec::new() });
        assert!(text.starts_with("-----> Committed aaaaaaa\n       app-0: new\n"), "{text}");
        assert!(text.ends_with("       and 2 more apps\n"), "{text}");
    }
}
