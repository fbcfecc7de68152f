//! One destination as the source sees it: its link and its lease, what was sent to it and what it reported, and the
//! objects that are sent to it.
//!
//! Its reports become events of the transaction and [`Notice`] here, with the names that apps have on this side. A
//! lost link does no harm while the lease lasts: the peer reconnects, asks for the reports that it missed, and
//! repeats the requests that may not have arrived.

mod allowance;
mod hearing;
mod lease;
mod sending;
mod talk;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use super::message::{CoordinatorMessage, Heard};
use crate::link::{Announcement, Inquiry, Link, LinkError};
use crate::mapping::Routes;
use crate::names::{AppName, EnvironmentName, GraduationId, ImageName, Secret};
use crate::order::Notice;
use crate::plan::Row;
use crate::process::Children;
use crate::protocol::{Report, Request, Verdict};
use crate::vars::Vars;

use allowance::Allowance;
use lease::KnownLease;

/// How long the source tries to reconnect to a destination after the end of the lease, once there may be a decision.
const DECIDED_PATIENCE: Duration = Duration::from_secs(60);

/// How long a destination may take to keep the revisions of a release, and how many apps it is asked to keep at once.
const KEEP_PATIENCE: Duration = Duration::from_secs(20);
const KEPT_AT_ONCE: usize = 8;

/// How many apps one request names: with the longest names the line is still short enough.
const EXPECTED_AT_ONCE: usize = 200;

/// Where a graduation goes: how to reach it, and the names of its apps there.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) vars: Vars,
    pub(super) environment: EnvironmentName,
    pub(super) id: GraduationId,
    /// The secret by which the destination recognizes this graduation's source.
    pub(super) secret: Secret,
    pub(super) routes: Routes,
    /// The socket by which all ssh connections share one session.
    pub(super) control: PathBuf,
    /// How long the destination waits for the source without a renewal.
    pub(super) lease: Duration,
    /// Sends to the main loop.
    pub(super) sender: SyncSender<CoordinatorMessage>,
}

impl Site {
    /// Connects to the destination.
    ///
    /// # Errors
    /// See [`Inquiry::of`].
    pub(super) fn inquire(&self) -> Result<Inquiry, LinkError> {
        Inquiry::of(&self.vars, &self.environment, Some(&self.control))
    }
}

/// The destination of a graduation that was begun or asked for there.
pub(super) struct Peer {
    site: Arc<Site>,
    /// What each app will become there.
    rows: BTreeMap<AppName, Row>,
    link: Option<Link>,
    /// The number of links so far; what the reader of an earlier one reports is ignored.
    session: u32,
    /// How many of the participant's reports have arrived.
    seen: u64,
    /// How much of its reports people were told.
    told: Allowance,
    /// Whether it has ever confirmed that the graduation began.
    pub(super) has_begun: bool,
    /// Whether it reported that it does not know the graduation (any longer).
    pub(super) is_forgotten: bool,
    /// Whether it confirmed the graduation on its own.
    pub(super) is_unwatched: bool,
    /// The decision that it was told, to be repeated in case it did not arrive.
    announced: Option<Announcement>,
    lease: KnownLease,
    /// How long after the end of the lease the peer keeps trying to reconnect.
    patience: Duration,
    /// The number of the last look that was requested; an answer to an earlier one is ignored.
    look: u64,
    /// Child processes that push objects.
    children: Children,
    sending: VecDeque<AppName>,
    sends_under_way: u32,
    /// Apps whose push was repeated because it failed with the link.
    sent_again: BTreeSet<AppName>,
}

/// The callback by which the peer tells people what happens.
pub(super) type Say<'a> = &'a dyn Fn(Notice);

impl Peer {
    /// Asks the destination for the graduation, by `begin`. `children` gets the processes that push objects.
    pub(super) fn begin(
        site: &Arc<Site>,
        rows: &[Row],
        inquiry: Inquiry,
        begin: &Request,
        children: &Children,
    ) -> Self {
        let rows = rows.iter().map(|row| (row.app.clone(), row.clone())).collect();
        let mut peer = Self::new(site, rows, inquiry, children.clone());
        let apps: Vec<_> = peer.rows.values().map(|row| (row.there.name().clone(), row.to)).collect();
        for some in apps.chunks(EXPECTED_AT_ONCE) {
            peer.send(&Request::Expect { apps: some.iter().cloned().collect() });
        }
        peer.send(begin);
        peer
    }

    /// Reconnects to a destination on which another coordinator began the graduation.
    ///
    /// # Errors
    /// The destination cannot be reached.
    pub(super) fn resume(site: &Arc<Site>) -> Result<Self, LinkError> {
        let mut peer = Self::new(site, BTreeMap::new(), site.inquire()?, Children::default());
        peer.has_begun = true;
        peer.ask_for_missed();
        Ok(peer)
    }

    fn new(site: &Arc<Site>, rows: BTreeMap<AppName, Row>, inquiry: Inquiry, children: Children) -> Self {
        let mut peer = Self {
            site: Arc::clone(site),
            rows,
            link: None,
            session: 0,
            seen: 0,
            told: Allowance::default(),
            has_begun: false,
            is_forgotten: false,
            is_unwatched: false,
            announced: None,
            lease: KnownLease::new(site.lease, Instant::now()),
            patience: Duration::ZERO,
            look: 0,
            children,
            sending: VecDeque::new(),
            sends_under_way: 0,
            sent_again: BTreeSet::new(),
        };
        peer.talk_over(inquiry);
        peer
    }

    /// Reports whether the link is up and at least half the lease is left.
    pub(super) fn lease_is_long(&self) -> bool {
        self.link.is_some() && self.lease.age(Instant::now()) < self.lease.length / 2
    }

    /// Reports whether the destination may still be waiting for the source.
    pub(super) fn lease_lasts(&self) -> bool {
        self.lease.end() > Instant::now()
    }

    /// Returns how often to check whether the lease must be renewed.
    pub(super) fn period(&self) -> Duration {
        (self.lease.length / 12).min(Duration::from_secs(1))
    }

    /// Notes that there may be a decision from here on: even a late reconnection is worthwhile then.
    pub(super) fn extend_patience(&mut self) {
        self.patience = DECIDED_PATIENCE;
    }

    /// Renews the lease if that is due.
    pub(super) fn renew_in_time(&mut self) {
        if self.has_begun && self.lease.is_due(Instant::now()) {
            self.renew();
        }
    }

    fn renew(&mut self) {
        let number = self.lease.ask(Instant::now());
        self.send(&Request::Renew { number });
    }

    /// Asks the destination to open an app.
    pub(super) fn open(&mut self, app: &AppName) {
        let row = self.row(app);
        let request = Request::Open { app: row.there.name().clone(), from: row.from, to: row.to };
        self.send(&request);
    }

    /// Asks the destination to build an app and to hold it.
    pub(super) fn prepare(&mut self, app: &AppName) {
        let row = self.row(app);
        let digest = row.from_image.as_ref().and_then(ImageName::digest);
        let (app, delivery) = (row.there.name().clone(), row.delivery.delivery());
        let request = Request::Prepare { app, delivery, digest };
        self.send(&request);
    }

    /// Asks the destination to look at everything that is held.
    pub(super) fn look(&mut self) {
        self.look += 1;
        self.send(&Request::Look { number: self.look });
    }

    /// Tells the destination the decision, now and whenever it may not have received it.
    pub(super) fn announce(&mut self, announcement: Announcement) {
        if let Announcement::Go(_) = announcement {
            self.extend_patience();
        }
        self.sending.clear();
        self.announced = Some(announcement);
        self.repeat_announcement();
    }

    /// Asks the destination for a verdict.
    pub(super) fn judge(&mut self, verdict: Verdict) {
        self.send(&Request::Judge { verdict });
    }

    fn repeat_announcement(&mut self) {
        if let (Some(link), Some(announcement)) = (&mut self.link, &self.announced)
            && let Err(error) = link.announce(announcement)
        {
            log::warn!("{error}");
        }
    }

    /// Asks the destination to keep the revisions of the release that is recorded next. A participant keeps what it
    /// brought live on its own, so the next release makes good for a request that is not answered in time.
    pub(super) fn keep(&mut self, requests: &[Request], messages: &Receiver<CoordinatorMessage>) {
        let end = Instant::now() + KEEP_PATIENCE;
        for some in requests.chunks(KEPT_AT_ONCE) {
            some.iter().for_each(|request| self.send(request));
            let mut missing = some.len();
            while missing > 0 {
                match messages.recv_timeout(end.saturating_duration_since(Instant::now())) {
                    Ok(CoordinatorMessage::Peer { heard: Heard::Report(Report::Answer(_)), .. }) => {
                        missing -= 1
                    }
                    Ok(CoordinatorMessage::Peer { heard: Heard::Lost(_), .. }) | Err(_) => {
                        return log::warn!("the destination does not say that it keeps the release");
                    }
                    Ok(_) => {}
                }
            }
        }
    }

    fn row(&self, app: &AppName) -> &Row {
        self.rows.get(app).expect("the transaction's apps are the plan's")
    }

    fn send(&mut self, request: &Request) {
        if let Some(link) = &mut self.link
            && let Err(error) = link.send(request)
        {
            // The reader of the same session also finds that it has ended, and reports it.
            log::warn!("{error}");
        }
    }

    /// Returns the function by which a thread of this session sends messages to the main loop.
    fn message_sender(&self) -> impl Fn(Heard) -> bool + Send + use<> {
        let (session, sender) = (self.session, self.site.sender.clone());
        move |heard| sender.send(CoordinatorMessage::Peer { session, heard }).is_ok()
    }
}
