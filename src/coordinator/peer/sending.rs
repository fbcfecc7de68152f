//! Sends what apps need on the destination: objects and images.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Peer, Site};
use crate::commit::source::TransactionEvent;
use crate::coordinator::images;
use crate::coordinator::message::Heard;
use crate::link::Link;
use crate::names::AppName;
use crate::plan::{PlannedDelivery, Row};
use crate::process::Children;
use crate::protocol::Delivery;
use crate::transfer::Transfer;

/// How many apps are sent at once. They share one connection, on which sshd allows ten sessions by default
/// (`MaxSessions`).
const SENT_AT_ONCE: u32 = 4;

/// How long to wait for the process of a link to exit after a transfer over its connection has failed: if the link is
/// what failed, the kernel closes the connection before the process exits.
const LINK_END: Duration = Duration::from_secs(1);

/// Sends the objects of an app's version.
fn push(site: &Site, row: &Row, children: &Children, silence: Duration) -> Result<(), String> {
    let Site { vars, environment, control, id, .. } = site;
    let Row { app, there, to: commit, .. } = row;
    let transfer = Transfer { vars, environment, control, id, app, there, commit: *commit, silence };
    transfer.run(children).map_err(|error| format!("its revision could not be sent: {error}"))
}

/// Sends the image of an app's version; `name` is its name here.
fn send_image(
    site: &Site,
    row: &Row,
    name: &str,
    children: &Children,
    tell: &dyn Fn(Heard) -> bool,
) -> Result<(), String> {
    let app = &row.app;
    let told = |how_far| {
        tell(Heard::SendingImage { app: app.clone(), how_far });
    };
    let sent = images::send(site, row, name, children, &told);
    let bytes = sent.map_err(|reason| {
        let environment = &site.environment;
        format!(
            "its image could not be sent: {reason}\n`dokku graduate:set {environment} deliver build` has it built there instead"
        )
    })?;
    tell(Heard::ImageSent { app: app.clone(), bytes });
    Ok(())
}

impl Peer {
    /// Sends what an app needs there: its objects, and its image if the plan says so. Objects that exist there are
    /// not sent. They remain even if their branch was removed since the plan, because the app was opened.
    pub(in crate::coordinator) fn send_version(&mut self, app: AppName) -> Option<TransactionEvent> {
        let row = self.row(&app);
        if row.is_there && row.delivery.delivery() != Delivery::Image {
            return Some(TransactionEvent::Sent(app));
        }
        self.sending.push_back(app);
        self.send_next();
        None
    }

    pub(super) fn send_next(&mut self) {
        while self.sends_under_way < SENT_AT_ONCE
            && let Some(link) = self.link.as_ref().filter(|link| link.is_up()).map(Link::process)
            && let Some(app) = self.sending.pop_front()
        {
            self.sends_under_way += 1;
            let row = self.row(&app).clone();
            let (site, children, silence) =
                (Arc::clone(&self.site), self.children.clone(), self.lease.length);
            let tell = self.message_sender();
            thread::spawn(move || {
                let objects = if row.is_there { Ok(()) } else { push(&site, &row, &children, silence) };
                let result = objects.and_then(|()| match &row.delivery {
                    PlannedDelivery::Image { name, .. } => send_image(&site, &row, name, &children, &tell),
                    PlannedDelivery::Build { .. } | PlannedDelivery::Kept {} => Ok(()),
                });
                if result.is_err() {
                    link.wait(LINK_END);
                }
                tell(Heard::Sent { app, result });
            });
        }
    }

    /// Takes the result of a transfer. One that failed because of the link is not a failure of the app: it is
    /// repeated once, when the link is restored.
    pub(super) fn sent(
        &mut self,
        app: AppName,
        result: Result<(), String>,
        is_current: bool,
    ) -> Option<TransactionEvent> {
        self.sends_under_way -= 1;
        let is_up = is_current && self.link.as_ref().is_some_and(Link::is_up);
        let event = match result {
            Ok(()) => Some(TransactionEvent::Sent(app)),
            Err(_) if !is_up && self.announced.is_none() && self.sent_again.insert(app.clone()) => {
                self.sending.push_front(app);
                None
            }
            Err(reason) => Some(TransactionEvent::AppFailed(app, reason)),
        };
        self.send_next();
        event
    }
}
