//! Turns the reports of a destination into events and notices, with the names that apps have on this side.

use std::sync::Arc;
use std::time::Instant;

use super::{Peer, Say};
use crate::commit::outcome::Cause;
use crate::commit::source::{Transaction, TransactionEvent};
use crate::coordinator::message::Heard;
use crate::image::send::SendProgress;
use crate::names::AppName;
use crate::order::{HookKind, Notice};
use crate::protocol::{AppEnd, Report, Verdict};

impl Peer {
    /// Takes what a thread reports, and returns the event that follows for the transaction.
    pub(in crate::coordinator) fn hear(
        &mut self,
        session: u32,
        heard: Heard,
        transaction: &Transaction,
        say: Say<'_>,
    ) -> Option<TransactionEvent> {
        let (told, site) = (std::mem::take(&mut self.told), Arc::clone(&self.site));
        let bounded = |notice| told.say(&site.environment, notice, say);
        let event = self.hear_any(session, heard, transaction, &bounded);
        self.told = told;
        event
    }

    fn hear_any(
        &mut self,
        session: u32,
        heard: Heard,
        transaction: &Transaction,
        say: Say<'_>,
    ) -> Option<TransactionEvent> {
        let is_current = session == self.session;
        match heard {
            Heard::Sent { app, result } => self.sent(app, result, is_current),
            Heard::SendingImage { app, how_far: SendProgress { done, of } } => {
                say(Notice::SendingImage { app, done, of });
                None
            }
            Heard::ImageSent { app, bytes } => {
                say(Notice::ImageSent { app, bytes });
                None
            }
            Heard::Report(_) | Heard::Lost(_) | Heard::Back(_) | Heard::Gone(_) if !is_current => None,
            Heard::Report(report) => self.report(report, transaction, say),
            Heard::Lost(reason) => self.link_lost(reason, say),
            Heard::Back(inquiry) => {
                say(Notice::LinkBack {});
                self.link_back(inquiry, transaction);
                None
            }
            Heard::Gone(reason) => Some(TransactionEvent::LinkGone(reason)),
        }
    }

    fn report(
        &mut self,
        report: Report,
        transaction: &Transaction,
        say: Say<'_>,
    ) -> Option<TransactionEvent> {
        self.lease.hears(Instant::now());
        // Only the participant's reports are counted. The agent's own, the first of these, are taken off again.
        self.seen += 1;
        match report {
            Report::Hello(_) | Report::Answer(_) => {
                self.seen -= 1;
                None
            }
            Report::Unknown {} => {
                self.seen -= 1;
                self.is_forgotten = true;
                Some(TransactionEvent::Refused("the destination does not know this graduation".to_owned()))
            }
            Report::Building { .. } => None,
            Report::Admitting { text } => {
                if let Some(text) = text {
                    say(Notice::HookLine { kind: HookKind::Incoming, text });
                }
                None
            }
            Report::Begun {} => {
                self.has_begun = true;
                Some(TransactionEvent::Begun)
            }
            Report::Refused { reason } if self.has_begun => Some(TransactionEvent::Stop(Cause::new(reason))),
            Report::Refused { reason } => Some(TransactionEvent::Refused(reason)),
            Report::Opened { app, .. } => Some(TransactionEvent::Opened(self.here(&app)?)),
            Report::Log { app, text } => {
                say(Notice::Log { app: self.here(&app)?, text });
                None
            }
            Report::Held { app, at } => {
                let app = self.here(&app)?;
                if let Some((held, of)) = transaction.held_with(&app) {
                    say(Notice::Held { app: app.clone(), at, held, of });
                }
                Some(TransactionEvent::Held(app))
            }
            Report::AppFailed { app, reason } => {
                let app = self.here(&app)?;
                say(Notice::AppFailed { app: app.clone(), reason: reason.clone() });
                Some(TransactionEvent::AppFailed(app, reason))
            }
            Report::Looked { number } => (number == self.look)
                .then(|| TransactionEvent::Looked { leases_are_long: self.lease_is_long() }),
            Report::Renewed { number } => {
                self.lease.is_renewed(number);
                None
            }
            Report::Decided { decision } => Some(TransactionEvent::DestinationDecided(decision)),
            Report::Soaking { again } => {
                if again {
                    let environment = &self.site.environment;
                    say(Notice::Warning {
                        text: format!("the watch on {environment} was interrupted, and begins anew"),
                    });
                }
                Some(TransactionEvent::Soaking)
            }
            Report::Judged { verdict } => {
                self.is_unwatched = verdict == Verdict::Unwatched;
                say(Notice::Judged { verdict });
                None
            }
            Report::AppEnded { app: there, end } => {
                let app = self.here(&there)?;
                let end = end_in_words(end, &app, &there);
                // The agent repeats it when all apps have ended.
                if !transaction.knows_end(&app, &end) {
                    say(Notice::AppEnded { app: app.clone(), end: end.clone() });
                }
                Some(TransactionEvent::AppEnded(app, end))
            }
            Report::Settled { decision } => Some(TransactionEvent::Settled(decision)),
        }
    }

    /// Returns an app's name on this side. The destination uses its own names.
    fn here(&self, there: &AppName) -> Option<AppName> {
        let app = self.site.routes.here(&there.clone().into()).cloned();
        if app.is_none() {
            log::error!("the destination reported {there}, which is not part of this graduation");
        }
        app
    }
}

/// Adds the name that an app has there to the reason why it is stuck: a person must look at it by that name.
fn end_in_words(end: AppEnd, app: &AppName, there: &AppName) -> AppEnd {
    match end {
        AppEnd::Stuck { reason } if app != there => AppEnd::Stuck { reason: format!("as {there}: {reason}") },
        AppEnd::Live {} | AppEnd::Left {} | AppEnd::Restored { .. } | AppEnd::Stuck { .. } => end,
    }
}
