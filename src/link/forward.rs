//! The source's end of `graduate:forward`: a session over the same connection, through which it reaches held apps.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use super::{GRACE, HELLO_LIMIT, KEPT_STDERR, Limit, LinkError, command_there};
use crate::legible;
use crate::mapping::DestinationApp;
use crate::multiplex::talk::{HeldAnswer, HeldRequest};
use crate::multiplex::{Pump, Side, bridge};
use crate::names::{EnvironmentName, GraduationId};
use crate::process::{Children, Running, Tail};
use crate::protocol;
use crate::ssh::Sharing;
use crate::vars::Vars;

/// What a destination says of an app that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppThere {
    /// The process that can be reached.
    pub(crate) process: String,
    /// Its domains there.
    pub(crate) vhosts: Vec<String>,
    /// Why it cannot be reached; none if it can.
    pub(crate) why_not: Option<String>,
}

/// A session. Dropping the value ends it and all its connections.
#[derive(Debug)]
pub(crate) struct Forward {
    /// The apps that the graduation holds.
    pub(crate) apps: BTreeMap<DestinationApp, AppThere>,
    /// The connections. Dropped first, so that the destination sees that the session is over.
    pub(crate) pump: Pump,
    running: Running,
    stderr: Tail,
}

impl Forward {
    /// Opens a session. It shares the connection of `control`, if that exists. None if the children have been stopped.
    ///
    /// # Errors
    /// The destination cannot be reached, refuses, or sends a line that is not valid.
    pub(crate) fn open(
        vars: &Vars,
        environment: &EnvironmentName,
        control: &Path,
        graduation: &GraduationId,
        children: &Children,
    ) -> Result<Option<Self>, LinkError> {
        let program = command_there(vars, environment, Some(Sharing::Join(control)), &["graduate:forward"])?;
        let Some(mut running) = children.start(program.piped())? else { return Ok(None) };
        let opened = Self::talk(&mut running, graduation);
        match opened {
            Ok((apps, pump, stderr)) => Ok(Some(Self { apps, pump, running, stderr })),
            Err(error) => {
                running.stop(GRACE)?;
                Err(error)
            }
        }
    }

    fn talk(
        running: &mut Running,
        graduation: &GraduationId,
    ) -> Result<(BTreeMap<DestinationApp, AppThere>, Pump, Tail), LinkError> {
        let pipes = (running.child.stdin.take(), running.child.stdout.take(), running.child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(LinkError::ended("it has no pipes"));
        };
        let stderr = Tail::of(stderr, KEPT_STDERR);
        let limit = Limit::on(running.identity().map_err(LinkError::ended)?, HELLO_LIMIT);
        let mut stdout = BufReader::new(stdout);
        // A session that has already ended has written why.
        let _ = protocol::write(&mut stdin, &HeldRequest { graduation: graduation.clone() });
        let mut apps = BTreeMap::new();
        loop {
            let line = match protocol::read_line(&mut stdout) {
                Ok(Some(line)) => line,
                Ok(None) | Err(_) if limit.has_passed() => {
                    return Err(LinkError::Silent(HELLO_LIMIT.as_secs()));
                }
                Ok(None) => return Err(LinkError::ended(stderr.text(Duration::from_millis(50)))),
                Err(error) => return Err(error.into()),
            };
            match protocol::parse(&line)? {
                HeldAnswer::App { app, process, vhosts, why_not } => {
                    apps.insert(app.into(), AppThere { process, vhosts, why_not });
                }
                HeldAnswer::Ready {} => break,
                HeldAnswer::Refused { reason } => {
                    return Err(LinkError::Refused(legible::both_ends(&reason)));
                }
            }
        }
        let pump = bridge(stdout, stdin).and_then(|link| Pump::new(link, Side::Source));
        Ok((apps, pump.map_err(LinkError::ended)?, stderr))
    }

    /// The end of what was written to stderr.
    pub(crate) fn last_words(&self) -> String {
        legible::shortened(&self.stderr.text(Duration::from_millis(50)))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.running.stop(GRACE);
    }
}
