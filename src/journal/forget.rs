//! Which graduations are remembered on their source, and which are forgotten.

use std::collections::HashMap;
use std::fs::File;
use std::time::Duration;

use super::{Entry, Place, current, ids, read};
use crate::files::FileError;
use crate::names::EnvironmentName;
use crate::order::Notice;
use crate::records::Follower;
use crate::vars::Vars;

/// Forgets all graduations of each environment but the last `keep`, and all requests that led to no graduation (plans
/// and refusals) but the last `keep`. Never forgets a graduation that is in progress or has begun and not ended.
///
/// # Errors
/// A directory cannot be read or removed.
pub(crate) fn prune(vars: &Vars, keep: impl Fn(Option<&EnvironmentName>) -> u32) -> Result<(), FileError> {
    let mut seen: HashMap<(Option<EnvironmentName>, bool), u32> = HashMap::new();
    for id in ids(vars)?.iter().rev() {
        let place = Place::of(vars, id);
        // A damaged journal is kept for the operator.
        let Ok(entries) = read(&place.journal()) else { continue };
        let environment = environment_of(&place, &entries);
        let count = seen.entry((environment.clone(), entries.is_empty())).or_default();
        *count += 1;
        if *count > keep(environment.as_ref()) && is_over(vars, &place, &entries) {
            std::fs::remove_dir_all(&place.dir).map_err(FileError::of("remove", &place.dir))?;
        }
    }
    Ok(())
}

/// The environment. A request that led to no graduation has recorded it only in its notices.
fn environment_of(place: &Place, entries: &[Entry]) -> Option<EnvironmentName> {
    if let Some(Entry::Ordered { order }) = entries.first() {
        return Some(order.tag.environment.clone());
    }
    match Follower::<Notice>::open(&place.events()).ok()?.next(Duration::ZERO) {
        Ok(Some(Notice::Started { tag, .. })) => Some(tag.environment),
        Ok(_) | Err(_) => None,
    }
}

fn is_over(vars: &Vars, place: &Place, entries: &[Entry]) -> bool {
    match entries.last() {
        Some(Entry::Ended { .. }) => true,
        // It died before it became the current one, so that there is nothing to settle.
        Some(Entry::Ordered { order }) => {
            let current = current(vars, &order.tag.environment);
            place.is_dead() && current.is_ok_and(|current| current.as_ref() != Some(&order.id))
        }
        Some(Entry::Begun { .. } | Entry::Voted { .. } | Entry::Decided { .. } | Entry::Unwell { .. }) => {
            false
        }
        None => place.is_dead(),
    }
}

impl Place {
    /// Reports whether its coordinator has died. A coordinator opens and locks its journal before it listens.
    pub(crate) fn is_dead(&self) -> bool {
        match File::open(self.journal()) {
            Ok(journal) => journal.try_lock().is_ok(),
            Err(_) => !self.socket().exists(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::outcome::Outcome;
    use crate::journal::Journal;
    use crate::names::GraduationId;
    use crate::records::Recorder;

    #[test]
    fn old_graduations_are_forgotten_unless_they_are_open() {
        let dir = tempfile::tempdir().unwrap();
        let vars = Vars { lib_root: dir.path().to_owned(), ..Vars::from_environment() };
        let make = |n: usize, environment: &str, entries: &[Entry]| -> GraduationId {
            let id: GraduationId = format!("202611231045{n:02}-{n:06}").parse().unwrap();
            let place = Place::of(&vars, &id);
            place.create().unwrap();
            let tag = format!("refs/tags/graduate/{environment}/now").parse().unwrap();
            let commit = "a".repeat(40).parse().unwrap();
            let started = Notice::Started { source: "staging".into(), commit, tag, by: "alice".into() };
            Recorder::open(&place.events()).unwrap().append(&started).unwrap();
            let mut journal = Journal::open(&place.journal()).unwrap();
            entries.iter().for_each(|entry| journal.append(entry).unwrap());
            id
        };
        let begun = Entry::Begun { secret: None, apps: Default::default() };
        let over = [begun.clone(), Entry::Ended { outcome: Outcome::Live {}, release: None }];
        let ids = [
            make(0, "production", &[begun]),
            make(1, "production", &over),
            make(2, "uat", &over),
            make(3, "production", &[]),
            make(4, "production", &over),
            make(5, "production", &over),
            make(6, "production", &[]),
        ];
        // In addition to its open graduation, production may keep two, and uat three.
        prune(&vars, |name| if name.is_some_and(|name| name.as_str() == "uat") { 3 } else { 1 }).unwrap();
        let left = |at: usize| Place::of(&vars, &ids[at]).dir.exists();
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(left), [true, false, true, false, false, true, true]);
    }
}
