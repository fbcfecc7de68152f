//! Every file of the corpus, and some seconds of damaged ones. `GRADUATE_FUZZ_SEED` repeats a run, `GRADUATE_FUZZ_SECONDS`
//! makes it longer (for each target).

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dokku_graduate_fuzz::{Mutator, TARGETS, Target, corpus};

/// The longest that one input may take, in a build without optimisation on a busy machine.
const SLOW: Duration = Duration::from_secs(10);

/// The most memory that all of this may take, in KiB. A state is 8 MiB of manifests at most.
const MEMORY: u64 = 400 * 1024;

/// What a target does with an input; panics with `about` what was fed.
#[track_caller]
fn feed(target: &Target, input: &[u8], about: &str) {
    let began = Instant::now();
    let fed = panic::catch_unwind(AssertUnwindSafe(|| (target.feed)(input)));
    let took = began.elapsed();
    let problem = match fed {
        Err(_) => "broke a promise; see above".to_owned(),
        Ok(()) if took > SLOW => format!("took {} s", took.as_secs()),
        Ok(()) => return,
    };
    panic!("{}: {about} {problem}", target.name);
}

#[test]
fn what_was_found_once_harms_no_more() {
    for target in &TARGETS {
        for (path, input) in corpus(target) {
            feed(target, &input, &path.display().to_string());
        }
    }
}

#[test]
fn damaged_input_breaks_nothing() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seed = number("GRADUATE_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let seconds = Duration::from_secs(number("GRADUATE_FUZZ_SECONDS").unwrap_or(1));
    for target in &TARGETS {
        let mut mutator = Mutator::new(target, seed);
        let end = Instant::now() + seconds;
        let mut count = 0;
        while Instant::now() < end {
            let input = mutator.next_input();
            count += 1;
            let fed = panic::catch_unwind(AssertUnwindSafe(|| feed(target, &input, "a mutation")));
            if let Err(problem) = fed {
                let kept = keep(target, &input);
                println!(
                    "input {count} of GRADUATE_FUZZ_SEED={seed} is kept as {}; it belongs to {}",
                    kept.display(),
                    Path::new("tests/fuzz/corpus").join(target.name).display()
                );
                panic::resume_unwind(problem);
            }
        }
        println!("{}: {count} inputs of GRADUATE_FUZZ_SEED={seed}", target.name);
    }
    let peak = peak_memory();
    assert!(peak < MEMORY, "{peak} KiB of memory were used");
}

fn keep(target: &Target, input: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("graduate-fuzz-{}-{}", target.name, std::process::id()));
    fs::write(&path, input).expect("there is room for the input");
    path
}

/// The most memory that this process has had, in KiB; proc_pid_status(5).
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
