//! post-receive: reports to the coordinators that the tags have moved, and shows how the graduations end.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::failure::HookError;
use super::push_status::{PushStatus, note_push_status};
use crate::approval::Recorded;
use crate::approvals::{self, ApprovalChange};
use crate::attach::{AttachError, Attached, From, Look, Step};
use crate::client::Client;
use crate::coordinator::control::Ask;
use crate::coordinator::{self, CoordinatorTask};
use crate::decision;
use crate::error;
use crate::journal::{self, Place, PushNote};
use crate::lines::Lines;
use crate::names::{EnvironmentName, GraduationId, ObjectId, RequestTag};
use crate::order::{Ending, Mode, Order};
use crate::output;
use crate::plan::Options;
use crate::repo::GitRepository;
use crate::request::Orders;
use crate::settings::Settings;
use crate::updates::{self, Update};
use crate::vars::Vars;

/// How long the coordinator that settles what a dead one left may take to open its socket.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// Follows all graduations of a push to their ends. They are those that pre-receive recorded for this receive-pack
/// process; if it recorded none, pre-receive is not installed and they begin now.
///
/// # Errors
/// The graduations go on without us, or none was begun and the tags were set back.
pub(super) fn of_push(vars: &Vars, client: &Client, input: &[u8]) -> Result<u8, HookError> {
    let updates = updates::parse(input)?;
    let noted = journal::of_push(vars, client.receive_pack()?)?;
    let followed = if noted.is_empty() {
        graduate(vars, client, &updates)
    } else {
        // Git may have moved only some of several tags.
        let moved = |note: &PushNote| {
            updates.iter().any(|update| update.request() == Some((note.tag.clone(), note.new)))
        };
        let quiet = Options::parse(&vars.push_options)?.quiet;
        let moved = noted.into_iter().filter(|(_, note)| moved(note));
        Ok(moved.map(|(id, note)| follow(vars, id, note, quiet)).collect())
    };
    // The requests of this push were judged before, without these approvals.
    let recorded = record_approvals(vars, &updates);
    let followed = followed?;
    if followed.is_empty() {
        return recorded.map(|()| 0);
    }
    if let Err(error) = recorded {
        error::show(&error, None);
    }
    let statuses = followed.into_iter().map(|one| {
        one.and_then(|one| one.status(vars)).unwrap_or_else(|error| {
            error::show(&error, None);
            1
        })
    });
    let Some(status) = statuses.max() else { return Ok(0) };
    note_push_status(vars, if status == 0 { PushStatus::Live } else { PushStatus::Failed })?;
    Ok(status)
}

/// Records and shows the approvals that the push gives or withdraws.
fn record_approvals(vars: &Vars, updates: &[Update]) -> Result<(), HookError> {
    let approvals = updates::approvals(updates);
    if approvals.is_empty() {
        return Ok(());
    }
    let repo = GitRepository::open(vars)?;
    let mut lines = Lines::default();
    let changes = approvals::record(vars, &repo, &approvals).map_err(HookError::NotRecorded)?;
    for change in changes {
        lines.step(&match change {
            ApprovalChange::Given(tag, Recorded { by, object, .. }) => {
                let commit = repo.commit_of(object)?.short();
                format!("{} approves {commit} for {} ({tag})", by.name, tag.environment)
            }
            ApprovalChange::Withdrawn(tag, by) => format!("{tag}, the approval by {}, is withdrawn", by.name),
        });
    }
    output::to_stderr(&lines.text());
    Ok(())
}

/// A graduation whose tag has moved.
struct FollowedGraduation {
    id: GraduationId,
    tag: RequestTag,
    new: ObjectId,
    state: FollowedState,
}

enum FollowedState {
    /// It is in progress.
    Present(Attached),
    /// This hook began it, after the tag had moved.
    Asked(Attached, Box<Order>),
    /// It had ended before this hook attached.
    Past(Step),
}

impl FollowedGraduation {
    /// Waits for its end. If the end is not known, shows an error and returns 3.
    fn status(self, vars: &Vars) -> Result<u8, HookError> {
        let ending = match &self.state {
            FollowedState::Past(step) => ending_of(step),
            FollowedState::Present(attached) => match end_of(attached) {
                None => end_by_another(vars, &self.id, &self.tag.environment)?,
                ending => ending,
            },
            FollowedState::Asked(attached, _) => end_of(attached),
        };
        match ending {
            Some(ending) => Ok(ending.exit_status()),
            None => self.status_without_end(vars),
        }
    }

    /// Explains the state when its coordinator has died without reporting an end.
    fn status_without_end(self, vars: &Vars) -> Result<u8, HookError> {
        let environment = &self.tag.environment;
        let recover =
            format!("settle it with `dokku graduate:recover {environment}`; the next push does so, too");
        let place = Place::of(vars, &self.id);
        let entries = journal::read(&place.journal())?;
        let mut what = format!(
            "the coordinator died after the decision; {environment} goes live on its own if it has received it"
        );
        if let FollowedState::Asked(_, order) = self.state {
            let is_current = journal::current(vars, environment)?.as_ref() == Some(&self.id);
            if !is_current {
                // It had begun nothing, so no process will settle it, and the tag must not go on naming it.
                decision::set_tag_back(vars, &order)?;
                error::show(&"the coordinator died before anything was begun; the tag was set back", None);
                return Ok(1);
            }
            if decision::in_journal(&entries).is_none() {
                what = "the coordinator died before the decision; everything is put back".to_owned();
            }
        } else if entries.is_empty() {
            // A coordinator that votes has begun something, unless there is nothing to do.
            let what = format!(
                "{environment} runs this already, but the coordinator died before it could record that"
            );
            let hint = format!("push it under another label, and `env/{environment}` names it");
            error::show(&what, Some(&hint));
            return Ok(3);
        }
        if GitRepository::open(vars)?.read_ref(&self.tag.ref_name())? != Some(self.new) {
            // Setting the tag back is the last step but one of a coordinator whose graduation is not live.
            what = format!(
                "the coordinator died after it had set the tag back; {environment} does not run the requested state"
            );
        }
        error::show(&what, Some(&recover));
        Ok(3)
    }
}

/// Waits for the end of a graduation that was voted on, and shows it; returns none if the end is not known.
pub(super) fn tell_end(vars: &Vars, id: &GraduationId) -> Result<Option<Ending>, HookError> {
    let Some(PushNote { tag, .. }) = Place::of(vars, id).push_note()? else { return Ok(None) };
    end_by_another(vars, id, &tag.environment)
}

/// Waits for the end of a graduation whose coordinator died after the vote. Another coordinator settles it now, so that
/// no lease ends before the destination has received *go*.
fn end_by_another(
    vars: &Vars,
    id: &GraduationId,
    environment: &EnvironmentName,
) -> Result<Option<Ending>, HookError> {
    Ok(match attach(vars, id, environment, true, From::End)? {
        Ok(attached) => end_of(&attached),
        Err(step) => ending_of(&step),
    })
}

fn end_of(attached: &Attached) -> Option<Ending> {
    let ending = attached.wait_for_end();
    attached.flush();
    ending
}

fn ending_of(step: &Step) -> Option<Ending> {
    match step {
        Step::Ended(ending) => Some(ending.clone()),
        Step::Ready | Step::Voted | Step::Lost => None,
    }
}

/// Follows a graduation that was voted on.
fn follow(
    vars: &Vars,
    id: GraduationId,
    note: PushNote,
    quiet: bool,
) -> Result<FollowedGraduation, HookError> {
    let PushNote { tag, new, .. } = note;
    let state = match attach(vars, &id, &tag.environment, quiet, From::Decision)? {
        Ok(mut attached) => {
            attached.ask(&Ask::TagMoved {});
            FollowedState::Present(attached)
        }
        Err(step) => FollowedState::Past(step),
    };
    Ok(FollowedGraduation { id, tag, new, state })
}

/// Attaches to the coordinator of a graduation that was voted on. If that one has died, starts another one that settles
/// what it left. If the graduation is over, returns the step with which it ended.
fn attach(
    vars: &Vars,
    id: &GraduationId,
    environment: &EnvironmentName,
    quiet: bool,
    from: From,
) -> Result<Result<Attached, Step>, HookError> {
    let is_current = || Ok::<_, HookError>(journal::current(vars, environment)?.as_ref() == Some(id));
    if !is_listening(&Place::of(vars, id).socket()) && is_current()? {
        coordinator::start(&CoordinatorTask::Settle(environment.clone()))?;
    }
    let end = Instant::now() + SETTLE_LIMIT;
    // The graduation can end at any moment, so the order matters: first attach, then check whether it is over.
    while Instant::now() < end {
        if let Ok(attached) = Attached::to(vars, id, from, quiet) {
            return Ok(Ok(attached));
        }
        if !is_current()? {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(Err(Attached::to_past(vars, id, from, quiet)?))
}

fn is_listening(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

/// Begins the graduations where only post-receive is installed, so after the tags have moved. If none can begin, the
/// tags are set back.
fn graduate(
    vars: &Vars,
    client: &Client,
    updates: &[Update],
) -> Result<Vec<Result<FollowedGraduation, HookError>>, HookError> {
    match understood(vars, client, updates) {
        Ok(orders) => {
            let begun = orders.into_iter().map(|order| begin(vars, order)).collect();
            // As in pre-receive before the vote: if the client disconnects before the decision, the graduation is
            // aborted.
            client.leave_with_it();
            Ok(begun)
        }
        Err(error) => {
            // If the settings cannot be read, `error` says so.
            let linked = Settings::load(vars).map(|settings| settings.names()).unwrap_or_default();
            let requests = updates.iter().filter(|update| update.request().is_some());
            let refused = updates::refused(updates, &linked).into_iter();
            let set_back: Vec<_> = requests.chain(refused).map(|update| set_back(vars, update)).collect();
            set_back.into_iter().collect::<Result<(), _>>()?;
            Err(error)
        }
    }
}

/// Returns what a push requests, after all checks that pre-receive would have made.
fn understood(vars: &Vars, client: &Client, updates: &[Update]) -> Result<Vec<Order>, HookError> {
    if updates.iter().any(|update| update.request().is_some()) {
        // If this process is killed, the pusher must not get exit status 0.
        note_push_status(vars, PushStatus::Undecided(&[]))?;
        client.is_there()?;
    }
    let settings = Settings::load(vars)?;
    let push = updates::understand(updates, &settings.names())?;
    let options = Options::parse(&vars.push_options)?;
    let repo = GitRepository::open(vars)?;
    let orders = Orders { repo: &repo, settings: &settings, mode: Mode::AfterPush, options: &options, vars };
    Ok(orders.of_push(&push)?)
}

fn set_back(vars: &Vars, update: &Update) -> Result<(), HookError> {
    decision::set_back(vars, &update.name, update.old, update.new)?;
    let name = update.name.strip_prefix("refs/tags/").unwrap_or(&update.name);
    error::show(&format!("{name} was set back: nothing was graduated"), None);
    Ok(())
}

fn begin(vars: &Vars, order: Order) -> Result<FollowedGraduation, HookError> {
    let look = Look::Lines { quiet: order.options.quiet };
    let started = coordinator::start(&CoordinatorTask::Graduate(Box::new(order.clone())));
    let attached = started
        .map_err(HookError::from)
        .and_then(|started| Attached::to_started(vars, &order.id, &started, look).map_err(HookError::from));
    if let Err(HookError::Process(_) | HookError::Attach(AttachError::NotStarted(_))) = attached {
        // The tag must not go on naming a graduation that does not run.
        decision::set_tag_back(vars, &order)?;
    }
    let mut attached = attached?;
    attached.ask(&Ask::Asker { receive_pack: None });
    let Order { id, tag, new, .. } = order.clone();
    Ok(FollowedGraduation { id, tag, new, state: FollowedState::Asked(attached, Box::new(order)) })
}
