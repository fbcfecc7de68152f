//! Any failure of a command in one type: its exit status, its hint, and how people see it. This module knows no other
//! module's errors; each of them explains itself.

use std::fmt;

use crate::exit::{ExitStatus, Explain};
use crate::output;

/// Any failure of a command: what went wrong, with its causes, the exit status, and a hint.
#[derive(Debug)]
pub(crate) struct Error(Box<dyn Explain>);

impl<E: Explain + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Error {
    /// Returns the exit status of a command that fails with this error.
    pub(crate) fn exit_status(&self) -> ExitStatus {
        self.0.exit_status()
    }

    /// Returns what to do about it, if there is something to do.
    pub(crate) fn hint(&self) -> Option<String> {
        self.0.hint()
    }
}

/// Formats a message in Dokku's look: ` !     ` before its first line, the other lines and the hint below it.
fn in_dokkus_look(message: &dyn fmt::Display, hint: Option<&str>) -> String {
    let message = message.to_string();
    let mut text = String::new();
    let hint = hint.map(|hint| format!("hint: {hint}"));
    let lines = message.trim_end().lines().chain(hint.as_deref().map(str::lines).into_iter().flatten());
    for (number, line) in lines.enumerate() {
        let prefix = if number == 0 { " !     " } else { "       " };
        text.push_str(format!("{prefix}{line}").trim_end());
        text.push('\n');
    }
    text
}

/// Shows a problem on stderr. A reader that has exited is ignored.
pub(crate) fn show(message: &dyn fmt::Display, hint: Option<&str>) {
    output::to_stderr(&in_dokkus_look(message, hint));
}

/// Shows an error with its hint on stderr, and returns the exit status.
pub(crate) fn report(error: &Error) -> ExitStatus {
    show(error, error.hint().as_deref());
    error.exit_status()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_has_dokkus_look() {
        let text = in_dokkus_look(&"api failed:\n    oops\n\nnothing changed\n", Some("run this:\nx"));
        let expected = [
            " !     api failed:",
            "           oops",
            "",
            "       nothing changed",
            "       hint: run this:",
            "       x",
            "",
        ];
        assert_eq!(text, expected.join("\n"));
    }

    #[test]
    fn an_error_keeps_its_own_explanation() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot reach prod: {0}")]
        struct Unreachable(#[source] std::io::Error);
        impl Explain for Unreachable {
            fn exit_status(&self) -> ExitStatus {
                ExitStatus::Unreachable
            }
            fn hint(&self) -> Option<String> {
                Some("is the host up?".to_owned())
            }
        }
        let error = Error::from(Unreachable(std::io::Error::other("no route to host")));
        assert_eq!(error.to_string(), "cannot reach prod: no route to host");
        assert_eq!(error.exit_status().code(), 4);
        assert_eq!(error.hint().as_deref(), Some("is the host up?"));
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no route to host");
    }
}
