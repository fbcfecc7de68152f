//! What a request asks for in addition to the state: push options, and the options of commands.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::names::{AppName, CommitId};
use crate::protocol::LiveApp;

/// What the requester asked for in addition to the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// `-o plan`: show the plan and change nothing.
    pub plan: bool,
    /// `-o allow-dirty`: the live source may differ from its last commit.
    pub allow_dirty: bool,
    /// `-o allow-missing-config`.
    pub allow_missing_config: bool,
    /// `-o allow-untested`: accept revisions that never ran on the source.
    pub allow_untested: bool,
    /// `-o despite-freeze`: graduate to a frozen environment, but only to roll back to a release.
    pub despite_freeze: bool,
    /// `-o again`: accept a request that was carried out before.
    pub again: bool,
    /// `-o redeploy`: deploy unchanged apps, too.
    pub redeploy: bool,
    /// `-o redeploy=api,web`: deploy these apps even if they are unchanged.
    pub redeployed: BTreeSet<AppName>,
    /// `-o only=api,web`: deploy no other apps.
    pub only: Option<BTreeSet<AppName>>,
    /// `-o hold`: when all apps are held and the POST hooks have run, wait for `graduate:go`.
    pub hold: bool,
    /// `-o quiet`: show no build output unless something fails.
    pub quiet: bool,
}

/// The most push options that are read.
pub(crate) const MAX_OPTIONS: usize = 100;

/// All push options that cannot be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// An option is unknown or malformed.
    #[error(
        "unknown push option {0:?}; there are plan, allow-dirty, allow-missing-config, allow-untested, again, \
         despite-freeze, hold, redeploy, redeploy=APP[,APP...], only=APP[,APP...] and quiet"
    )]
    Unknown(String),
    /// There are more than [`MAX_OPTIONS`].
    #[error("there are more than {MAX_OPTIONS} push options; `only=` takes many apps at once, only=api,web")]
    TooMany,
}

impl Options {
    /// Whether the app is deployed even if it is unchanged.
    pub fn redeploys(&self, app: &AppName) -> bool {
        self.redeploy || self.redeployed.contains(app)
    }

    /// Whether the app is deployed: it does not have revision `to` where it `runs` there, or a redeploy is asked for.
    pub(crate) fn changes(&self, app: &AppName, runs: Option<&LiveApp>, to: CommitId) -> bool {
        self.redeploys(app) || !runs.is_some_and(|live| live.status.has(to))
    }

    /// Parses push options, git-push(1) `-o`.
    ///
    /// # Errors
    /// An option is unknown (the first one is named), or there are too many.
    pub fn parse(options: &[String]) -> Result<Self, OptionError> {
        if options.len() > MAX_OPTIONS {
            return Err(OptionError::TooMany);
        }
        let mut parsed = Self::default();
        for option in options {
            let unknown = || OptionError::Unknown(option.chars().take(80).collect());
            match option.split_once('=') {
                None if option == "plan" => parsed.plan = true,
                None if option == "allow-dirty" => parsed.allow_dirty = true,
                None if option == "allow-missing-config" => parsed.allow_missing_config = true,
                None if option == "allow-untested" => parsed.allow_untested = true,
                None if option == "despite-freeze" => parsed.despite_freeze = true,
                None if option == "again" => parsed.again = true,
                None if option == "hold" => parsed.hold = true,
                None if option == "redeploy" => parsed.redeploy = true,
                None if option == "quiet" => parsed.quiet = true,
                Some((which @ ("only" | "redeploy"), names)) => {
                    let names = names.split(',').map(str::parse).collect::<Result<BTreeSet<AppName>, _>>();
                    let names = names.map_err(|_| unknown())?;
                    match which {
                        "only" => parsed.only.get_or_insert_default().extend(names),
                        _ => parsed.redeployed.extend(names),
                    }
                }
                None | Some(_) => return Err(unknown()),
            }
        }
        Ok(parsed)
    }
}
