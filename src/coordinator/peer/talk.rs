//! The link to a destination: read on a thread of its own, found silent or lost, and restored.

use std::fmt::Display;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Peer, Say};
use crate::commit::source::{Transaction, TransactionAction, TransactionEvent};
use crate::coordinator::message::Heard;
use crate::link::Inquiry;
use crate::order::Notice;
use crate::protocol::Request;

impl Peer {
    /// Continues over a new link.
    pub(super) fn talk_over(&mut self, inquiry: Inquiry) {
        let (link, mut reports) = inquiry.into_talk();
        self.link = Some(link);
        self.session += 1;
        let tell = self.message_sender();
        thread::spawn(move || {
            let lost = loop {
                match reports.next_report() {
                    Ok(report) => {
                        if !tell(Heard::Report(report)) {
                            return;
                        }
                    }
                    Err(error) => break error.to_string(),
                }
            };
            tell(Heard::Lost(lost));
        });
    }

    /// Treats an open link on which nothing arrived for a whole lease as lost: by then the destination has stopped
    /// waiting. A destination that has not begun yet may still do so; it then waits one lease for nothing.
    pub(in crate::coordinator) fn lose_if_silent(&mut self, say: Say<'_>) -> Option<TransactionEvent> {
        if self.link.is_none() || !self.lease.is_silent(Instant::now()) {
            return None;
        }
        self.link_lost(format!("it sent nothing for {} s", self.lease.length.as_secs()), say)
    }

    pub(super) fn link_lost(&mut self, reason: String, say: Say<'_>) -> Option<TransactionEvent> {
        // The reader of a session that was ended here also reports that it is lost.
        self.link.take()?;
        if !self.has_begun {
            // Nothing is held there that is worth reconnecting for.
            return Some(TransactionEvent::LinkGone(reason));
        }
        let gone = |why: &dyn Display| format!("the destination cannot be reached: {why}");
        let until = self.lease.end() + self.patience;
        let is_too_late = (Instant::now() >= until).then(|| TransactionEvent::LinkGone(gone(&reason)));
        say(Notice::LinkLost { reason });
        if is_too_late.is_some() {
            return is_too_late;
        }
        let (site, tell) = (Arc::clone(&self.site), self.message_sender());
        thread::spawn(move || {
            let mut wait = Duration::from_millis(100);
            loop {
                match site.inquire() {
                    Ok(inquiry) => return tell(Heard::Back(inquiry)),
                    Err(_) if Instant::now() < until => {
                        thread::sleep(wait);
                        wait = (wait * 2).min(Duration::from_secs(5));
                    }
                    Err(error) => return tell(Heard::Gone(gone(&error))),
                }
            }
        });
        None
    }

    /// Continues over the new link: asks for missed reports, and repeats requests that may not have arrived.
    pub(super) fn link_back(&mut self, inquiry: Inquiry, transaction: &Transaction) {
        self.talk_over(inquiry);
        self.lease.hears(Instant::now());
        self.ask_for_missed();
        self.renew();
        for action in transaction.unanswered() {
            match action {
                TransactionAction::Open(app) => self.open(&app),
                TransactionAction::Prepare(app) => self.prepare(&app),
                TransactionAction::Look => self.look(),
                TransactionAction::Judge(verdict) => self.judge(verdict),
                TransactionAction::RunHooks(_)
                | TransactionAction::Send(_)
                | TransactionAction::Ready
                | TransactionAction::VoteYes
                | TransactionAction::AnnounceGo(_)
                | TransactionAction::AnnounceAbort
                | TransactionAction::Verify
                | TransactionAction::NoteUnwell(_)
                | TransactionAction::End(_) => {}
            }
        }
        self.repeat_announcement();
        self.send_next();
    }

    pub(super) fn ask_for_missed(&mut self) {
        let (id, secret) = (self.site.id.clone(), self.site.secret.clone());
        self.send(&Request::Resume { id, secret, seen: self.seen });
    }
}
