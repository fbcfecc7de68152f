//! Which cells are played, by whom, and what came of them.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::cell::{Cell, Course};
use crate::disk;
use crate::fault::Fault;
use crate::hosts::Hosts;
use crate::point::{Point, Step};
use crate::stage::Stage;

/// How many cells are played at once, each on hosts of its own. They mostly wait.
const WORKERS: usize = 3;

/// How many cells a slice has, if they fit in its time.
const SLICE: usize = 60;

/// How many of them kill at random moments.
const STORMS_OF_SLICE: usize = 6;

/// How many cells do so when all are played.
const STORMS: u64 = 60;

/// How long a slice may take, beside the stories.
const SLICE_LIMIT: Duration = Duration::from_secs(25);

/// The seed of a slice if none is given.
const SEED: u64 = 20_261_124;

/// Which cells are to be played.
pub(crate) struct Choice {
    cells: Vec<Cell>,
    seed: u64,
    limit: Option<Duration>,
}

/// What came of them.
#[derive(Default)]
pub(crate) struct Tally {
    /// What the cells violated, by name.
    pub(crate) violations: Vec<(String, String)>,
    played: usize,
    live: usize,
    missed: Vec<String>,
    /// In how many somebody was to be stopped before something was written, and in how many it was not written yet.
    before: usize,
    ahead: usize,
    seed: u64,
    of: usize,
}

impl Choice {
    /// What the environment asks for: `GRADUATE_MATRIX` is `full`, the beginning of cells' names, or not set, and
    /// `GRADUATE_MATRIX_SEED` a number.
    pub(crate) fn from_environment() -> Choice {
        #[expect(clippy::disallowed_methods, reason = "the tests' own variables, read in this one place")]
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let seed = get("GRADUATE_MATRIX_SEED").map_or(SEED, |text| text.parse().expect("a seed is a number"));
        let mut cells: Vec<Cell> = Cell::all().into_iter().filter(|cell| cell.absence().is_none()).collect();
        Dice::new(seed).shuffle(&mut cells);
        let limit = match get("GRADUATE_MATRIX").as_deref() {
            None => {
                cells.truncate(SLICE - STORMS_OF_SLICE);
                cells.extend(storms(seed..seed + STORMS_OF_SLICE as u64));
                Dice::new(seed).shuffle(&mut cells);
                Some(SLICE_LIMIT)
            }
            Some("full") => {
                cells.extend(storms(seed..seed + STORMS));
                None
            }
            Some(name) => {
                let storm = name.strip_prefix("storm-").and_then(|rest| rest.split('-').next()?.parse().ok());
                cells.extend(storm.into_iter().flat_map(|seed| storms(seed..seed + 1)));
                cells.retain(|cell| cell.to_string().starts_with(name));
                assert!(!cells.is_empty(), "no cell is called {name}");
                None
            }
        };
        Choice { cells, seed, limit }
    }
}

/// Numbers that are the same for the same seed: splitmix64.
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice of this seed.
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }

    /// Another order: Fisher's and Yates's.
    fn shuffle(&mut self, cells: &mut [Cell]) {
        for last in (1..cells.len()).rev() {
            cells.swap(last, usize::try_from(self.below(last as u64 + 1)).unwrap());
        }
    }
}

/// Cells in which several are killed at random moments.
fn storms(seeds: std::ops::Range<u64>) -> impl Iterator<Item = Cell> {
    let point = Point { step: Step::Latest, before: false };
    seeds.map(move |seed| Cell { course: Course::Live, fault: Fault::Storm(seed), point })
}

/// Plays them.
pub(crate) fn play(choice: &Choice) -> Tally {
    let queue = Mutex::new(VecDeque::from(choice.cells.clone()));
    let tally = Mutex::new(Tally { seed: choice.seed, of: choice.cells.len(), ..Tally::default() });
    let end = choice.limit.map(|limit| Instant::now() + limit);
    let next = || {
        let in_time = end.is_none_or(|end| Instant::now() < end);
        queue.lock().unwrap().pop_front().filter(|_| in_time)
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS.min(choice.cells.len()) {
            scope.spawn(|| while play_in_one_world(&next, &tally) {});
        }
    });
    tally.into_inner().unwrap()
}

/// Plays cells until there are no more, or one violates something: what is left then is nobody's.
fn play_in_one_world(next: &impl Fn() -> Option<Cell>, tally: &Mutex<Tally>) -> bool {
    let Some(mut cell) = next() else { return false };
    let hosts = Hosts::new();
    let stage = Stage::new(&hosts);
    loop {
        let since = Instant::now();
        let played = catch_unwind(AssertUnwindSafe(|| stage.play(cell)));
        let mut tally = tally.lock().unwrap();
        tally.played += 1;
        let how = match &played {
            Ok(played) if !played.struck => {
                tally.missed.push(cell.to_string());
                format!("the victim was not there ({})", played.trouble)
            }
            Ok(played) if played.live => "live".to_owned(),
            Ok(_) => "as before".to_owned(),
            Err(_) => "VIOLATED".to_owned(),
        };
        let ahead = played.as_ref().ok().and_then(|played| played.ahead);
        tally.before += usize::from(ahead.is_some());
        tally.ahead += usize::from(ahead == Some(true));
        tally.live += usize::from(played.as_ref().is_ok_and(|played| played.live));
        say(&format!("{cell}: {how} ({:.1} s)", since.elapsed().as_secs_f32()));
        if let Err(panic) = played {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let what = what.unwrap_or_else(|| "(no words)".to_owned());
            say(&format!(
                "{cell} violates an invariant (seed {}):\n{what}\nonce more: GRADUATE_MATRIX={cell} cargo test \
                 --test matrix",
                tally.seed
            ));
            tally.violations.push((cell.to_string(), what));
            return true;
        }
        drop(tally);
        match next() {
            Some(another) => cell = another,
            None => return false,
        }
    }
}

/// Not printed by a macro: those lines are hidden from whoever reads the run of a test that passes.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

impl Tally {
    /// Says how many cells were played and what came of them; if all were, which ones cannot occur, too.
    pub(crate) fn print(&self) {
        if self.of > SLICE {
            print_absent();
        } else if !disk::is_allowed() {
            say("no disk is full in any cell: a small one cannot be mounted here");
        }
        self.print_played();
    }

    /// Most victims were there to be struck: for one in twenty it may be over in that moment, or two of a slice. And
    /// what they were to be struck before was not written yet.
    pub(crate) fn strikes_home(&self) -> bool {
        self.missed.len() <= self.played / 20 + 2 && self.before - self.ahead <= self.before / 10 + 2
    }

    fn print_played(&self) {
        let Tally { violations, played, live, missed, before, ahead, seed, of } = self;
        let absent = Cell::all().iter().filter(|cell| cell.absence().is_some()).count();
        say(&format!(
            "crash matrix, seed {seed}: {played} of {of} cells played, {live} went live, {} violated an invariant; \
             of {}, {absent} cannot occur",
            violations.len(),
            Cell::all().len()
        ));
        say(&format!(
            "of {before} in which whoever writes was to be stopped before that, {ahead} were struck in time"
        ));
        if !missed.is_empty() {
            say(&format!("too late for the victim in {}: {}", missed.len(), missed.join(" ")));
        }
        for (cell, what) in violations {
            say(&format!("    {cell}: {}", what.lines().next().unwrap_or_default()));
        }
    }
}

/// Says which cells cannot occur, and why.
fn print_absent() {
    let mut reasons: BTreeMap<(String, &str), Vec<String>> = BTreeMap::new();
    for cell in Cell::all() {
        if let Some(reason) = cell.absence() {
            reasons.entry((cell.struck(), reason)).or_default().push(cell.point.name());
        }
    }
    for ((struck, reason), points) in reasons {
        say(&format!("{struck} cannot occur, for {reason}: {}", points.join(" ")));
    }
}
