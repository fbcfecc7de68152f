//! What POST hooks can reach: while they run, each held web process has an address on this host that leads to it.
//!
//! Connections to these addresses go over one session of `graduate:forward`. If the session is lost, open connections
//! are reset; once it is restored, the addresses work again. In between, a new connection waits for the next attempt
//! to restore the session, and is reset if that fails.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use serde::Serialize;

use super::peer::Site;
use crate::legible;
use crate::link::{AppThere, Forward, LinkError};
use crate::mapping::DestinationApp;
use crate::multiplex::{PumpError, reset};
use crate::names::AppName;
use crate::process::Children;

/// How long to try to reach the destination before the hooks run without addresses.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two attempts, at first and at most.
const PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How long ssh may take to exit after it was told to.
const GRACE: Duration = Duration::from_secs(1);

/// How many apps have an address at most, and the largest size of [`HELD`] in bytes: Linux accepts no variable of 128
/// KiB.
const MAX_ADDRESSES: usize = 256;
const MAX_HELD: usize = 100 * 1024;

/// The variable that describes all held apps, in JSON. The name of each app's own variable begins with it.
const HELD: &str = "GRADUATE_HELD";

/// One app in [`HELD`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct HeldApp {
    app: AppName,
    /// Its name on the destination.
    there: DestinationApp,
    process: Option<String>,
    vhosts: Vec<String>,
    /// Where it can be reached.
    address: Option<String>,
    /// The variable that has the same address.
    variable: Option<String>,
    /// Why there is no address, or no variable.
    reason: Option<String>,
}

/// What is needed to reach held apps.
pub(super) struct Reach {
    /// The destination.
    pub(super) site: Arc<Site>,
    /// The apps of the graduation by both of their names.
    pub(super) apps: Vec<(AppName, DestinationApp)>,
    /// Gets the processes that are started for this purpose only; stopping them ends the connections.
    pub(super) children: Children,
}

/// Forwards connections to held apps until it is dropped.
pub(super) struct Reached {
    /// The variables for the hooks.
    pub(super) variables: Vec<(String, String)>,
    /// A warning for people.
    pub(super) trouble: Option<String>,
    children: Children,
    over: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// An address on this host, and the app there to which it leads.
type ForwardListener = (AppName, TcpListener);

impl Reach {
    /// Opens the addresses. If that fails, the hooks run anyway, and their variables say why there are no addresses.
    pub(super) fn open(self) -> Reached {
        match self.try_open() {
            Ok(Some((forward, listeners, shown))) => self.reached(shown, Some((forward, listeners))),
            // The graduation was stopped: no hook will run.
            Ok(None) => self.reached(Shown::default(), None),
            Err(error) => {
                let why = format!("what is held cannot be reached: {error}");
                let none = |_: &DestinationApp| Err(why.clone());
                let mut shown = shown(&self.apps, &BTreeMap::new(), none);
                shown.trouble = Some(why.clone());
                self.reached(shown, None)
            }
        }
    }

    fn try_open(&self) -> Result<Option<(Forward, Vec<ForwardListener>, Shown)>, LinkError> {
        let end = Instant::now() + PATIENCE;
        let mut pause = PAUSE;
        let forward = loop {
            match self.session() {
                Ok(Some(forward)) => break forward,
                Ok(None) => return Ok(None),
                // The link was lost, and may be restored.
                Err(error @ LinkError::Ended { .. }) if Instant::now() + pause < end => log::warn!("{error}"),
                Err(error) => return Err(error),
            }
            thread::sleep(pause);
            pause = (pause * 2).min(MAX_PAUSE);
        };
        let mut listeners = Vec::new();
        let shown = shown(&self.apps, &forward.apps, |there| {
            if listeners.len() == MAX_ADDRESSES {
                return Err(format!("only {MAX_ADDRESSES} apps are given an address"));
            }
            let listener = listen().map_err(|error| format!("no port of this host can be had: {error}"))?;
            let address = listener.local_addr().map_err(|error| error.to_string())?;
            listeners.push((there.name().clone(), listener));
            Ok(format!("http://{address}"))
        });
        Ok(Some((forward, listeners, shown)))
    }

    fn session(&self) -> Result<Option<Forward>, LinkError> {
        let Site { vars, environment, control, id, .. } = &*self.site;
        Forward::open(vars, environment, control, id, &self.children)
    }

    fn reached(self, shown: Shown, open: Option<(Forward, Vec<ForwardListener>)>) -> Reached {
        let Shown { variables, mut trouble } = shown;
        let children = self.children.clone();
        let (mut over, mut thread) = (None, None);
        if let Some((forward, listeners)) = open {
            match UnixStream::pair() {
                Ok((ours, theirs)) => {
                    over = Some(ours);
                    thread = Some(thread::spawn(move || self.lead(forward, &listeners, &theirs)));
                }
                Err(error) => trouble = Some(format!("what is held cannot be reached: {error}")),
            }
        }
        Reached { variables, trouble, children, over, thread }
    }

    /// Forwards connections until the other end of `over` is closed.
    fn lead(&self, forward: Forward, listeners: &[ForwardListener], over: &UnixStream) {
        let mut session = Some(forward);
        let mut pause = PAUSE;
        loop {
            if let Some(mut forward) = session.take() {
                match pass_on(&mut forward, listeners, over) {
                    Ok(()) => return,
                    Err(error) => log::warn!("{error}: {}", forward.last_words()),
                }
                pause = PAUSE;
            }
            if is_over_within(over, pause) {
                return;
            }
            pause = (pause * 2).min(MAX_PAUSE);
            match self.session() {
                Ok(Some(forward)) => session = Some(forward),
                Ok(None) => return,
                Err(error) => {
                    log::warn!("{error}");
                    listeners.iter().for_each(|(_, listener)| refuse_all(listener));
                }
            }
        }
    }
}

fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Forwards connections over one session until the other end of `over` is closed.
///
/// # Errors
/// The session is lost.
fn pass_on(forward: &mut Forward, listeners: &[ForwardListener], over: &UnixStream) -> Result<(), PumpError> {
    let pump = &mut forward.pump;
    loop {
        let mut others = vec![over.as_fd()];
        if pump.has_room() {
            others.extend(listeners.iter().map(|(_, listener)| listener.as_fd()));
        }
        let ready = pump.turn(&others, None)?.ready;
        if ready[0] {
            return Ok(());
        }
        for ((app, listener), _) in listeners.iter().zip(&ready[1..]).filter(|(_, is_ready)| **is_ready) {
            while pump.has_room() {
                match listener.accept() {
                    Ok((stream, _)) => pump.open(app.clone(), stream)?,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

/// Resets the connections that wait to be accepted.
fn refuse_all(listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        reset(stream);
    }
}

/// Reports whether the other end of the socket is closed, or is closed within this time.
fn is_over_within(over: &UnixStream, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).ok();
    let polled = poll(&mut [PollFd::new(over, PollFlags::IN)], limit.as_ref());
    polled.is_ok_and(|count| count > 0)
}

impl Drop for Reached {
    fn drop(&mut self) {
        drop(self.over.take());
        self.children.stop(GRACE);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("what leads to what is held may not have ended");
        }
    }
}

/// The variables for the hooks, and a warning for people.
#[derive(Default)]
struct Shown {
    variables: Vec<(String, String)>,
    trouble: Option<String>,
}

/// Returns the name of an app's variable.
fn variable(app: &AppName) -> String {
    let of_word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("{HELD}_{}", app.as_str().chars().map(of_word).collect::<String>())
}

/// Returns what hooks see of these apps: what the destination told of each, and its address if `address` gives one.
fn shown(
    apps: &[(AppName, DestinationApp)],
    told: &BTreeMap<DestinationApp, AppThere>,
    mut address: impl FnMut(&DestinationApp) -> Result<String, String>,
) -> Shown {
    let mut called: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (app, _) in apps {
        called.entry(variable(app)).or_default().insert(app.as_str());
    }
    let mut all = Vec::new();
    let mut length = 0;
    for (app, there) in apps {
        let mut clashing = called[&variable(app)].clone();
        clashing.remove(app.as_str());
        let found = told.get(there);
        let why_not = found.and_then(|found| found.why_not.as_deref());
        let address = match why_not {
            Some(reason) => Err(legible::one_line(reason)),
            None if found.is_none() && !told.is_empty() => Err("the destination does not hold it".to_owned()),
            None => address(there),
        };
        let is_clear = clashing.is_empty();
        let reason = match &address {
            Err(reason) => Some(reason.clone()),
            Ok(_) if is_clear => None,
            Ok(_) => {
                let others = Vec::from_iter(clashing).join(" and ");
                Some(format!("{} would be the variable of {others}, too", variable(app)))
            }
        };
        let address = address.ok();
        let one = HeldApp {
            app: app.clone(),
            there: there.clone(),
            process: found.map(|found| legible::one_line(&found.process)),
            vhosts: found.into_iter().flat_map(|found| &found.vhosts).map(|v| legible::one_line(v)).collect(),
            variable: address.as_ref().filter(|_| is_clear).map(|_| variable(app)),
            address,
            reason,
        };
        length += json(&one).len() + 1;
        if length > MAX_HELD {
            break;
        }
        all.push(one);
    }
    let left_out = apps.len() - all.len();
    let trouble =
        (left_out > 0).then(|| format!("{left_out} held apps are left out of {HELD}: it would be too long"));
    let own = all.iter().filter_map(|one| Some((one.variable.clone()?, one.address.clone()?)));
    let variables = own.chain([(HELD.to_owned(), json(&all))]).collect();
    Shown { variables, trouble }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts have a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apps(names: &[&str]) -> Vec<(AppName, DestinationApp)> {
        let app = |name: &str| name.parse::<AppName>().unwrap();
        names.iter().map(|name| (app(name), app(&format!("{name}-live")).into())).collect()
    }

    fn there(name: &str, why_not: Option<&str>) -> (DestinationApp, AppThere) {
        let app: AppName = format!("{name}-live").parse().unwrap();
        let vhosts = vec![format!("{name}.example.com")];
        (app.into(), AppThere { process: "web".to_owned(), vhosts, why_not: why_not.map(str::to_owned) })
    }

    fn numbered() -> impl FnMut(&DestinationApp) -> Result<String, String> {
        let mut port = 0;
        move |_| {
            port += 1;
            Ok(format!("http://127.0.0.1:{port}"))
        }
    }

    #[test]
    fn each_app_is_named_with_its_address_or_why_it_has_none() {
        let told = [("api", None), ("jobs", Some("it is built")), ("my-app", None), ("my.app", None)];
        let told = told.map(|(name, why)| there(name, why)).into();
        let shown = shown(&apps(&["api", "gone", "jobs", "my-app", "my.app"]), &told, numbered());
        assert_eq!(shown.trouble, None);
        let mut variables = shown.variables;
        let (name, all) = variables.pop().unwrap();
        assert_eq!(name, "GRADUATE_HELD");
        let own = ("GRADUATE_HELD_API".to_owned(), "http://127.0.0.1:1".to_owned());
        assert_eq!(variables, [own]);
        let all: serde_json::Value = serde_json::from_str(&all).unwrap();
        assert_eq!(
            all[0],
            serde_json::json!({
                "app": "api", "there": "api-live", "process": "web", "vhosts": ["api.example.com"],
                "address": "http://127.0.0.1:1", "variable": "GRADUATE_HELD_API", "reason": null
            })
        );
        assert_eq!(all[1]["reason"], "the destination does not hold it");
        assert_eq!((&all[2]["reason"], &all[2]["address"]), (&"it is built".into(), &().into()));
        assert_eq!((&all[3]["address"], &all[3]["variable"]), (&"http://127.0.0.1:2".into(), &().into()));
        assert_eq!(all[3]["reason"], "GRADUATE_HELD_MY_APP would be the variable of my.app, too");
        assert_eq!(all[4]["reason"], "GRADUATE_HELD_MY_APP would be the variable of my-app, too");
    }

    #[test]
    fn no_variable_is_longer_than_a_program_may_be_given() {
        let names: Vec<String> = (0..2000).map(|number| format!("an-app-with-a-name-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let told = names.iter().map(|name| there(name, None)).collect();
        let shown = shown(&apps(&names), &told, numbered());
        assert!(shown.variables.iter().all(|(_, value)| value.len() < 128 * 1024));
        let left_out = 2000 - (shown.variables.len() - 1);
        assert_eq!(
            shown.trouble,
            Some(format!("{left_out} held apps are left out of GRADUATE_HELD: it would be too long"))
        );
    }
}
