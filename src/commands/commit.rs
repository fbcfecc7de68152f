//! `graduate:commit`: acknowledges the environment as it is now.

use std::fmt;
use std::io::{self, Write};

use crate::dokku::Dokku;
use crate::environment::{Committed, Environment, EnvironmentError};
use crate::vars::Vars;

/// The most differences that are listed.
const LISTED: usize = 40;

/// Commits the current state of all apps to the environment repository.
#[derive(Clone, Debug, clap::Args)]
pub struct CommitArgs {
    /// The commit's message; without one, it is made of what changed
    #[arg(short, long, value_name = "MESSAGE")]
    pub message: Option<String>,
}

/// Runs the command, and says on stderr what it did.
///
/// # Errors
/// As [`Environment::commit`].
pub fn run(vars: &Vars, args: &CommitArgs) -> Result<(), EnvironmentError> {
    let message = args.message.as_deref().map(str::trim).filter(|message| !message.is_empty());
    let committed = Environment::open(vars)?.commit(message)?;
    // Whoever does not read this has the commit all the same.
    let _ = write!(io::stderr(), "{}", Outcome(committed.as_ref()));
    for each in Dokku::new(vars).uncarried()? {
        let _ = writeln!(io::stderr(), " !     {each}");
    }
    Ok(())
}

/// What was done, in words.
struct Outcome<'a>(Option<&'a Committed>);

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Committed { commit, differences }) = self.0 else {
            return writeln!(f, "-----> Nothing to commit: the repository says what runs");
        };
        writeln!(f, "-----> Committed {}", commit.short())?;
        for difference in differences.iter().take(LISTED) {
            writeln!(f, "       {difference}")?;
        }
        match differences.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => writeln!(f, "       and {more} more apps"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Change, Difference};

    #[test]
    fn the_outcome_lists_what_changed() {
        assert!(Outcome(None).to_string().contains("Nothing to commit"));
        let difference =
            |n: u32| Difference { app: format!("app-{n}").parse().unwrap(), change: Change::Appeared };
        let commit = "a".repeat(40).parse().unwrap();
        let text =
            Outcome(Some(&Committed { commit, differences: (0..42).map(difference).collect() })).to_string();
        assert!(text.starts_with("-----> Committed aaaaaaa\n       app-0: new\n"), "{text}");
        assert!(text.ends_with("       and 2 more apps\n"), "{text}");
    }
}
