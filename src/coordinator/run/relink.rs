//! The link while the transaction runs: leases, and what happens when it is lost.

use std::thread;
use std::time::{Duration, Instant};

use super::{Announcement, Run};
use crate::commit::source::{Action, Event};
use crate::coordinator::{Message, listen_to};
use crate::link::{Inquiry, Link, LinkError};
use crate::names::AppName;
use crate::order::News;
use crate::plan::Row;
use crate::protocol::Request;

/// How long the source tries to come back to a destination after the lease has ended, once it is decided.
const DECIDED_PATIENCE: Duration = Duration::from_secs(60);

impl Run<'_, '_> {
    pub(super) fn renewal(&mut self) -> Request {
        Request::Renew { number: self.lease.ask(Instant::now()) }
    }

    pub(super) fn send(&mut self, request: &Request) {
        if let Some(link) = &mut self.link
            && let Err(error) = link.send(request)
        {
            // The reader of the same session sees its end, too, and says so.
            log::warn!("{error}");
        }
    }

    /// A session that stays open and says nothing for a whole lease is as good as lost: the destination has given
    /// up waiting by then. One that has not begun yet may still do so, and then waits for a lease in vain.
    pub(super) fn link_is_silent(&mut self) -> Option<Event> {
        if self.link.is_none() || !self.lease.is_silent(Instant::now()) {
            return None;
        }
        let text = format!("nothing was heard from it for {} s", self.lease.length.as_secs());
        self.link_lost(text)
    }

    pub(super) fn link_lost(&mut self, reason: String) -> Option<Event> {
        // The reader of a session that we ended ourselves says so, too.
        self.link.take()?;
        if !self.begun {
            // Nothing waits there that would be worth coming back for.
            return Some(Event::LinkGone(reason));
        }
        self.coordinator.say(News::LinkLost { reason: reason.clone() });
        let lease_ends = self.lease.end();
        let until = match self.announced {
            Some(Announcement::Go(_)) => lease_ends + DECIDED_PATIENCE,
            Some(Announcement::Abort) | None if self.voted => lease_ends + DECIDED_PATIENCE,
            Some(Announcement::Abort) | None => lease_ends,
        };
        if Instant::now() >= until {
            return Some(Event::LinkGone(reason));
        }
        let vars = self.coordinator.vars.clone();
        let environment = self.coordinator.order.tag.environment.clone();
        let control = self.coordinator.control_path.clone();
        let sender = self.coordinator.sender.clone();
        thread::spawn(move || {
            let mut wait = Duration::from_millis(100);
            loop {
                let message = match Inquiry::of(&vars, &environment, Some(&control)) {
                    Ok(inquiry) => Message::LinkBack(inquiry),
                    Err(_) if Instant::now() < until => {
                        thread::sleep(wait);
                        wait = (wait * 2).min(Duration::from_secs(5));
                        continue;
                    }
                    Err(error) => Message::LinkGone(format!("the destination cannot be reached: {error}")),
                };
                let _ = sender.send(message);
                return;
            }
        });
        None
    }

    pub(super) fn link_back(&mut self, inquiry: Inquiry) -> Option<Event> {
        let (mut link, reports) = inquiry.into_talk();
        self.coordinator.say(News::LinkBack {});
        self.lease.hears(Instant::now());
        let resumed = self.resume_on(&mut link);
        listen_to(reports, self.coordinator.sender.clone());
        self.link = Some(link);
        if let Err(error) = resumed {
            log::warn!("{error}");
        }
        None
    }

    /// Asks for what was missed, and repeats what may not have arrived.
    pub(super) fn resume_on(&mut self, link: &mut Link) -> Result<(), LinkError> {
        let id = self.coordinator.order.id.clone();
        link.send(&Request::Resume { id, seen: self.seen })?;
        let renew = self.renewal();
        link.send(&renew)?;
        for action in self.transaction.unanswered() {
            match action {
                Action::Open(app) => link.send(&self.open(&app))?,
                Action::Prepare(app) => link.send(&self.prepare(&app))?,
                Action::Look => link.send(&self.look())?,
                Action::RunHooks(_)
                | Action::Send(_)
                | Action::Ready
                | Action::VoteYes
                | Action::AnnounceGo(_)
                | Action::AnnounceAbort
                | Action::End(_) => {}
            }
        }
        match &self.announced {
            Some(Announcement::Go(go)) => link.announce_go(go),
            Some(Announcement::Abort) => link.announce_abort(),
            None => Ok(()),
        }
    }

    pub(super) fn open(&self, app: &AppName) -> Request {
        let row = self.row(app);
        Request::Open { app: row.there.name().clone(), from: row.from, to: row.to }
    }

    pub(super) fn prepare(&self, app: &AppName) -> Request {
        let row = self.row(app);
        Request::Prepare { app: row.there.name().clone(), delivery: row.delivery }
    }

    pub(super) fn look(&mut self) -> Request {
        self.look += 1;
        Request::Look { number: self.look }
    }

    pub(super) fn row(&self, app: &AppName) -> &Row {
        let row = self.coordinator.plan.rows.iter().find(|row| row.app == *app);
        row.expect("the transaction's apps are the plan's")
    }
}
