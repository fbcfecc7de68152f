//! Finds a process by how it was started: for one whose starter died before it could note it.

use std::fs;

use rustix::process::{Pid, getpgid};

use super::ProcessId;

/// The leader of a process group that has this variable in its environment and these words, one after another, in
/// its command line.
pub fn leader_with(variable: &str, value: &str, words: &[&str]) -> Option<ProcessId> {
    let wanted = format!("{variable}={value}").into_bytes();
    let is_it = |pid: u32| -> Option<bool> {
        let id = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let parts = |file: &str| -> Option<Vec<Vec<u8>>> {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).ok()?;
            Some(bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
        };
        let line = parts("cmdline")?;
        let has_words = line
            .windows(words.len())
            .any(|part| part.iter().zip(words).all(|(found, word)| found == word.as_bytes()));
        Some(has_words && getpgid(Some(id)).ok()? == id && parts("environ")?.contains(&wanted))
    };
    let names =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut pids = names.filter_map(|name| name.parse::<u32>().ok());
    pids.find(|pid| is_it(*pid) == Some(true)).and_then(|pid| ProcessId::of(pid).ok())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::*;
    use crate::process::Program;

    #[test]
    fn a_process_is_found_by_how_it_was_started() {
        // That it says something proves that the system has its whole command line.
        let script = "echo here; sleep 1000 & wait";
        // Another run of this test may have left one.
        let ours = format!("of {}", std::process::id());
        let program = Program::new("sh").args(["-c", script, "the-deploy", "of-api"]);
        let program = program.env("GRADUATE_TEST_OF_FIND", &ours).in_own_group();
        let (program, mut output) = program.output_in_one().unwrap();
        let mut running = program.spawn().unwrap();
        output.read_exact(&mut [0; 5]).unwrap();
        let find = |value: &str, word: &str| {
            leader_with("GRADUATE_TEST_OF_FIND", value, &["the-deploy", word]).map(|found| found.pid)
        };
        assert_eq!(find(&ours, "of-api"), Some(running.child.id()));
        assert_eq!(find("another", "of-api"), None);
        assert_eq!(find(&ours, "of-web"), None);
        running.stop(Duration::from_secs(5)).unwrap();
        assert_eq!(find(&ours, "of-api"), None);
    }
}
