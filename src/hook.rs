//! Git's two hooks on the environment repository: pre-receive votes, post-receive reports that the tag has moved. Both
//! attach to a coordinator and show what it reports; neither holds any state.

use crate::approvals;
use crate::attach::{Attached, Look, Step};
use crate::client::Client;
use crate::coordinator::control::Ask;
use crate::coordinator::{self, CoordinatorTask};
use crate::error;
use crate::install;
use crate::journal::{self, Place, PushNote};
use crate::names::{GraduationId, RequestTag};
use crate::order::{Mode, Order};
use crate::plan::Options;
use crate::process::{self, ProcessId, Program};
use crate::receive;
use crate::repo::Incoming;
use crate::request::Orders;
use crate::settings::Settings;
use crate::updates;
use crate::vars::Vars;

mod failure;
mod post_receive;
mod push_status;

pub(crate) use failure::HookError;

use push_status::{PushStatus, note_push_status};

/// The largest input accepted from git, in bytes: about a thousand refs fit.
const MAX_INPUT: u64 = 1 << 20;

/// Runs pre-receive: exit status 0 is the vote yes.
///
/// # Errors
/// The push is refused.
pub(crate) fn pre_receive(vars: &Vars) -> Result<u8, HookError> {
    let client = Client::of_hook(vars);
    let input = process::read_stdin(MAX_INPUT)?;
    if let Some((id, app)) = &vars.receiving {
        receive::check(vars, id, app, &input)?;
        return Ok(0);
    }
    client.leave_with_it();
    if let Some(refused) = chained(vars, "pre-receive", &input)? {
        return Ok(refused);
    }
    let settings = Settings::load(vars)?;
    let push = updates::understand(&updates::parse(&input)?, &settings.names())?;
    let options = Options::parse(&vars.push_options)?;
    let repo = Incoming::open()?;
    for object in &push.arriving {
        repo.check_new_commits(*object)?;
    }
    for tag in &push.forgotten {
        if is_in_use(vars, tag)? {
            return Err(HookError::InUse(tag.clone()));
        }
    }
    approvals::check(vars, &push.approvals)?;
    let orders = Orders { repo: &repo, settings: &settings, mode: Mode::Push, options: &options, vars };
    let orders = orders.of_push(&push)?;
    if orders.is_empty() {
        return Ok(0);
    }
    client.is_there()?;
    vote(vars, client.receive_pack()?, &orders)
}

/// Runs the hook that was installed here before ours; it runs first and can refuse. Returns the exit status of a
/// refusal.
fn chained(vars: &Vars, name: &str, input: &[u8]) -> Result<Option<u8>, HookError> {
    let path = install::chained_hook(&vars.git_dir(), name);
    if !path.exists() {
        return Ok(None);
    }
    let hook = Program::with_callers_environment(&path).input(input).inherit_output();
    let status = hook.spawn()?.wait()?;
    if status.success() {
        return Ok(None);
    }
    Ok(Some(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn is_in_use(vars: &Vars, tag: &RequestTag) -> Result<bool, HookError> {
    let Some(current) = journal::current(vars, &tag.environment)? else { return Ok(false) };
    let order = Place::of(vars, &current).order()?;
    Ok(order.is_some_and(|order| order.tag == *tag))
}

/// Runs the graduations of a push up to their vote. If one fails, all are aborted.
fn vote(vars: &Vars, receive_pack: ProcessId, orders: &[Order]) -> Result<u8, HookError> {
    let mut attached = Vec::new();
    for order in orders {
        let started = coordinator::start(&CoordinatorTask::Graduate(Box::new(order.clone())))?;
        let mut one =
            Attached::to_started(vars, &order.id, &started, Look::Lines { quiet: order.options.quiet })?;
        one.ask(&Ask::Asker { receive_pack: Some(receive_pack) });
        attached.push(one);
    }
    let ready: Vec<Step> = attached.iter().map(Attached::next).collect();
    let refused = ready.iter().filter_map(refusal).max();
    if let Some(status) = refused {
        for one in &mut attached {
            one.ask(&Ask::Stop { reason: "another graduation of the same push failed".to_owned() });
        }
        for (one, step) in attached.iter().zip(&ready) {
            if *step == Step::Ready {
                one.wait_for_end();
            }
            one.flush();
        }
        return Ok(status);
    }
    let ids: Vec<&str> = orders.iter().map(|order| order.id.as_str()).collect();
    note_push_status(vars, PushStatus::Undecided(&ids))?;
    let note = |order: &Order| PushNote { receive_pack, tag: order.tag.clone(), new: order.new };
    let notes: Vec<_> = orders.iter().map(|order| (order.id.clone(), note(order))).collect();
    journal::note_push(vars, &notes)?;
    for (one, step) in attached.iter_mut().zip(&ready) {
        if *step == Step::Ready {
            one.ask(&Ask::Vote {});
        }
    }
    let votes = attached.iter().zip(&ready).map(|(one, step)| match step {
        Step::Ready => one.next(),
        Step::Voted | Step::Ended(_) | Step::Lost => step.clone(),
    });
    let refused = votes.filter_map(|step| refusal(&step)).max();
    attached.iter().for_each(Attached::flush);
    if refused.is_some() {
        note_push_status(vars, PushStatus::Failed)?;
    }
    Ok(refused.unwrap_or(0))
}

/// Returns the exit status of a step that ends the push without success.
fn refusal(step: &Step) -> Option<u8> {
    match step {
        Step::Ready | Step::Voted => None,
        Step::Ended(ending) => Some(ending.exit_status()).filter(|status| *status != 0),
        Step::Lost => {
            let hint = "everything is put back at once or when the lease ends; then push again";
            error::show(&"the coordinator of the graduation died before the decision", Some(hint));
            Some(1)
        }
    }
}

/// Shows and records how graduations ended whose push is over and whose post-receive did not report it: git could not
/// move a tag, or the hook was killed. Returns exit status 0 if every end is known.
///
/// # Errors
/// The files of a graduation cannot be read.
pub(crate) fn told(vars: &Vars, ids: &[GraduationId]) -> Result<u8, HookError> {
    let mut worst = Some(0);
    for id in ids {
        let ending = post_receive::tell_end(vars, id)?;
        worst = worst.zip(ending).map(|(worst, ending)| worst.max(ending.exit_status()));
    }
    let Some(status) = worst else { return Ok(1) };
    note_push_status(vars, if status == 0 { PushStatus::Live } else { PushStatus::Failed })?;
    Ok(0)
}

/// Runs post-receive: the refs have moved. Git ignores its exit status.
///
/// # Errors
/// The hook cannot do its work; the graduation goes on without it.
pub(crate) fn post_receive(vars: &Vars) -> Result<u8, HookError> {
    let client = Client::of_hook(vars);
    let input = process::read_stdin(MAX_INPUT)?;
    if vars.receiving.is_some() {
        return Ok(0);
    }
    let result = post_receive::of_push(vars, &client, &input);
    if result.is_err() {
        note_push_status(vars, PushStatus::Failed)?;
    }
    chained(vars, "post-receive", &input)?;
    result
}
