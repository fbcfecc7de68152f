//! One destination as the source sees it: its link and its lease, what it was told and what was heard of it, and the
//! objects that are sent to it.
//!
//! What it tells becomes events of the transaction and [`Notice`] here, by the names that apps have on this side. A link
//! that is lost costs nothing while the lease lasts: the peer connects again, asks for what it has missed, and repeats
//! what may not have arrived.

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

/// How long the source tries to come back to a destination after the lease has ended, once it may be decided.
const DECIDED_PATIENCE: Duration = Duration::from_secs(60);

/// How long a destination may take to keep the revisions of a release, and how many apps it is asked for at once.
const KEEP_PATIENCE: Duration = Duration::from_secs(20);
const KEPT_AT_ONCE: usize = 8;

/// How many apps a line tells of: with the longest names it is not too long then.
const EXPECTED_AT_ONCE: usize = 200;

/// Where a graduation goes: how it is reached, and what its apps are called there.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) vars: Vars,
    pub(super) environment: EnvironmentName,
    pub(super) id: GraduationId,
    /// By which it knows us.
    pub(super) secret: Secret,
    pub(super) routes: Routes,
    /// The socket by which all connections share one.
    pub(super) control: PathBuf,
    /// How long it waits for us without a renewal.
    pub(super) lease: Duration,
    /// To the main loop.
    pub(super) sender: SyncSender<CoordinatorMessage>,
}

impl Site {
    /// Connects to it.
    ///
    /// # Errors
    /// See [`Inquiry::of`].
    pub(super) fn inquire(&self) -> Result<Inquiry, LinkError> {
        Inquiry::of(&self.vars, &self.environment, Some(&self.control))
    }
}

/// One destination of a graduation that has been asked for it.
pub(super) struct Peer {
    site: Arc<Site>,
    /// What each app is to become there.
    rows: BTreeMap<AppName, Row>,
    link: Option<Link>,
    /// How many links there have been: what an earlier one still tells is not heard.
    session: u32,
    /// How many of the participant's reports have arrived.
    seen: u64,
    /// How much people were told of it.
    told: Allowance,
    /// It was ours at some time.
    pub(super) has_begun: bool,
    /// It knows nothing of the graduation any more.
    pub(super) is_forgotten: bool,
    /// It has confirmed the graduation by itself.
    pub(super) is_unwatched: bool,
    /// What it has been told, for the case that it did not hear it.
    announced: Option<Announcement>,
    lease: KnownLease,
    /// How long after the end of the lease it is worth coming back.
    patience: Duration,
    /// The number of the last look that was asked for: an answer to an earlier one says nothing.
    look: u64,
    /// Pushes of objects.
    children: Children,
    sending: VecDeque<AppName>,
    sends_under_way: u32,
    /// Apps whose push a lost link has taken along once.
    sent_again: BTreeSet<AppName>,
}

/// By which the peer tells people what happens.
pub(super) type Say<'a> = &'a dyn Fn(Notice);

impl Peer {
    /// One that is asked for the graduation, by `begin`. Pushes of objects are `children`.
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

    /// One with which another coordinator has begun.
    ///
    /// # Errors
    /// It cannot be reached.
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

    /// It waits for us for half a lease more, at least.
    pub(super) fn lease_is_long(&self) -> bool {
        self.link.is_some() && self.lease.age(Instant::now()) < self.lease.length / 2
    }

    /// It may still be waiting for us.
    pub(super) fn lease_lasts(&self) -> bool {
        self.lease.end() > Instant::now()
    }

    /// How often is to be looked whether the lease is to be renewed.
    pub(super) fn period(&self) -> Duration {
        (self.lease.length / 12).min(Duration::from_secs(1))
    }

    /// From here on it may be decided: who comes back to it late still has something to tell.
    pub(super) fn persist(&mut self) {
        self.patience = DECIDED_PATIENCE;
    }

    /// Renews the lease in time.
    pub(super) fn renew_in_time(&mut self) {
        if self.has_begun && self.lease.is_due(Instant::now()) {
            self.renew();
        }
    }

    fn renew(&mut self) {
        let number = self.lease.ask(Instant::now());
        self.send(&Request::Renew { number });
    }

    /// Asks it to open an app.
    pub(super) fn open(&mut self, app: &AppName) {
        let row = self.row(app);
        let request = Request::Open { app: row.there.name().clone(), from: row.from, to: row.to };
        self.send(&request);
    }

    /// Asks it to build an app and to hold it.
    pub(super) fn prepare(&mut self, app: &AppName) {
        let row = self.row(app);
        let digest = row.from_image.as_ref().and_then(ImageName::digest);
        let (app, delivery) = (row.there.name().clone(), row.delivery.delivery());
        let request = Request::Prepare { app, delivery, digest };
        self.send(&request);
    }

    /// Asks it to look at all that is held.
    pub(super) fn look(&mut self) {
        self.look += 1;
        self.send(&Request::Look { number: self.look });
    }

    /// Tells it what is decided, now and whenever it may not have heard it.
    pub(super) fn announce(&mut self, announcement: Announcement) {
        if let Announcement::Go(_) = announcement {
            self.persist();
        }
        self.sending.clear();
        self.announced = Some(announcement);
        self.repeat_announcement();
    }

    /// Asks it for a verdict.
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

    /// Has it keep the revisions of the release that is recorded next, by these requests. What a participant brought
    /// live it keeps by itself; so what is not heard of in time is made good by the next release.
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
            // The reader of the same session sees its end, too, and says so.
            log::warn!("{error}");
        }
    }

    /// What a thread of this session tells the main loop.
    fn teller(&self) -> impl Fn(Heard) -> bool + Send + use<> {
        let (session, sender) = (self.session, self.site.sender.clone());
        move |heard| sender.send(CoordinatorMessage::Peer { session, heard }).is_ok()
    }
}
