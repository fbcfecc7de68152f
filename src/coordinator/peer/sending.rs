//! The objects of apps on their way to a destination.

use std::sync::Arc;
use std::thread;

use super::{Peer, Site};
use crate::commit::source::Event;
use crate::coordinator::message::Heard;
use crate::link::Link;
use crate::names::AppName;
use crate::transfer::Transfer;

/// How many apps' objects are sent at once. They share one connection, on which sshd allows ten sessions by default
/// (`MaxSessions`).
const SENT_AT_ONCE: u32 = 4;

impl Peer {
    /// Sends an app's objects. What is there is not sent; a branch that went away since does not take it along, for the app
    /// was opened.
    pub(in crate::coordinator) fn send_objects(&mut self, app: AppName) -> Option<Event> {
        if self.row(&app).is_there {
            return Some(Event::Sent(app));
        }
        self.sending.push_back(app);
        self.send_next();
        None
    }

    pub(super) fn send_next(&mut self) {
        while self.sends_under_way < SENT_AT_ONCE
            && self.link.as_ref().is_some_and(Link::is_up)
            && let Some(app) = self.sending.pop_front()
        {
            self.sends_under_way += 1;
            let row = self.row(&app);
            let (there, commit) = (row.there.clone(), row.to);
            let (site, children, silence) =
                (Arc::clone(&self.site), self.children.clone(), self.lease.length);
            let tell = self.teller();
            thread::spawn(move || {
                let Site { vars, environment, control, id, .. } = &*site;
                let (app_here, there) = (&app, &there);
                let transfer =
                    Transfer { vars, environment, control, id, app: app_here, there, commit, silence };
                let result = transfer.run(&children).map_err(|error| error.to_string());
                tell(Heard::Sent { app, result });
            });
        }
    }

    /// A push that failed with its link is none of the app's failures: it is repeated once, when the link is back.
    pub(super) fn sent(
        &mut self,
        app: AppName,
        result: Result<(), String>,
        is_current: bool,
    ) -> Option<Event> {
        self.sends_under_way -= 1;
        let is_up = is_current && self.link.as_ref().is_some_and(Link::is_up);
        let event = match result {
            Ok(()) => Some(Event::Sent(app)),
            Err(_) if !is_up && self.announced.is_none() && self.sent_again.insert(app.clone()) => {
                self.sending.push_front(app);
                None
            }
            Err(reason) => Some(Event::AppFailed(app, format!("its revision could not be sent: {reason}"))),
        };
        self.send_next();
        event
    }
}
