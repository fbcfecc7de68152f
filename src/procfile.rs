//! The processes that a Procfile names.

/// Whether the Procfile gives this process a command: a line `<process>: <command>`.
///
/// Source: procfile-util, with which Dokku reads it; it skips lines of any other form.
pub(crate) fn has_process(procfile: &str, process: &str) -> bool {
    let is_it = |line: &str| {
        line.split_once(':').is_some_and(|(name, command)| name == process && !command.trim().is_empty())
    };
    procfile.lines().any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_a_name_and_a_command() {
        let procfile = "web: sh ./web\nworker:\n# release: no\nwebhooks: sh ./hooks\n";
        assert!(has_process(procfile, "web"));
        for missing in ["worker", "release", "hooks", ""] {
            assert!(!has_process(procfile, missing), "{missing}");
        }
    }
}
