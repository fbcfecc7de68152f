//! The lines of `authorized_keys`: the key of each, and its forced command. Values in, values out.
//!
//! Dokku's own lines have the form of sshcommand, which looks for `"FINGERPRINT=<it> ` and ` NAME=\"<name>\" ` to list
//! and remove them; it finds ours by the same text. No line is ever a comment: `ssh-keys:add` runs ssh-keygen(1) on
//! each line.

use std::path::Path;

use crate::names::SourceName;
use crate::public_key::{PublicKey, is_kind};

/// The name and the fingerprint in the forced command of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forced {
    pub(super) name: String,
    pub(super) fingerprint: String,
    /// Whether the forced command is ours.
    pub(super) is_gate: bool,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyLine<'a> {
    /// The whole line.
    pub(super) line: &'a str,
    /// The forced command; none if neither Dokku nor we wrote the line.
    pub(super) forced: Option<Forced>,
    /// The key's type and base64; none if sshd finds no key in the line.
    pub(super) key: Option<(&'a str, &'a str)>,
}

/// The end of our forced command.
const GATE: &str = " graduate:gate";

/// The line that accepts a source's key and lets it do nothing but graduate. `dokku` is Dokku's program.
///
/// The client's command arrives in a variable, as one string that no shell parses: it is between double quotes, where a
/// value is not expanded again. `SSH_ORIGINAL_COMMAND` is emptied, because `dokku` would run it. `ssh-keys:list`
/// recognises a line by the backticks directly after the name.
pub(super) fn line(name: &SourceName, key: &PublicKey, dokku: &Path) -> String {
    format!(
        "command=\"FINGERPRINT={fingerprint} NAME=\\\"{name}\\\" `echo env` SSH_ORIGINAL_COMMAND= \
         GRADUATE_WANTED=\\\"$SSH_ORIGINAL_COMMAND\\\" {dokku}{GATE}\",restrict {key}",
        fingerprint = key.fingerprint(),
        dokku = dokku.display(),
    )
}

/// All lines of the file.
pub(super) fn parse(text: &str) -> impl Iterator<Item = KeyLine<'_>> {
    text.lines().map(|line| {
        let (options, rest) = without_options(line.trim_start());
        let mut words = rest.split_ascii_whitespace();
        let key = words.next().filter(|kind| is_kind(kind)).zip(words.next());
        KeyLine { line, forced: options.and_then(forced), key }
    })
}

/// Splits a line into its options, if it has any, and the rest. Options end at the first blank outside double quotes;
/// sshd(8), "AUTHORIZED_KEYS FILE FORMAT".
fn without_options(line: &str) -> (Option<&str>, &str) {
    if line.split_ascii_whitespace().next().is_none_or(|word| is_kind(word) || word.starts_with('#')) {
        return (None, line);
    }
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            '"' if !is_escaped => is_quoted = !is_quoted,
            ' ' | '\t' if !is_quoted => return (Some(&line[..at]), &line[at..]),
            _ => {}
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    (None, line)
}

fn forced(options: &str) -> Option<Forced> {
    let rest = options.strip_prefix("command=\"FINGERPRINT=")?;
    let (fingerprint, rest) = rest.split_once(' ')?;
    let (name, rest) = rest.strip_prefix("NAME=\\\"")?.split_once("\\\" ")?;
    let (command, _) = rest.rsplit_once('"')?;
    Some(Forced {
        name: name.to_owned(),
        fingerprint: fingerprint.to_owned(),
        is_gate: command.ends_with(GATE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE6RMVjUBaYd8UxhyPw1DkXfCyIzVZIYZKm0sC6x8eMa";

    #[test]
    fn our_line_is_the_one_that_was_tried() {
        let key = KEY.parse().unwrap();
        let line = line(&"staging".parse().unwrap(), &key, Path::new("/usr/bin/dokku"));
        let fingerprint = key.fingerprint();
        assert_eq!(
            line,
            format!(
                r#"command="FINGERPRINT={fingerprint} NAME=\"staging\" `echo env` SSH_ORIGINAL_COMMAND= GRADUATE_WANTED=\"$SSH_ORIGINAL_COMMAND\" /usr/bin/dokku graduate:gate",restrict {KEY}"#
            )
        );
        let parsed = parse(&line).next().unwrap();
        assert_eq!(parsed.key, KEY.split_once(' '));
        let forced = parsed.forced.unwrap();
        assert!(
            forced.is_gate && forced.name == "staging" && forced.fingerprint == fingerprint,
            "{forced:?}"
        );
    }

    #[test]
    fn lines_of_others_are_told_from_ours() {
        let dokku = format!(
            r#"command="FINGERPRINT=SHA256:abc NAME=\"alice\" `cat /home/dokku/.sshcommand` $SSH_ORIGINAL_COMMAND",no-pty {KEY} alice"#
        );
        let of = |line: &str| {
            let parsed = parse(line).next().unwrap();
            (parsed.forced.map(|forced| (forced.name, forced.is_gate)), parsed.key.is_some())
        };
        assert_eq!(of(&dokku), (Some(("alice".to_owned(), false)), true));
        assert_eq!(
            of(&dokku.replace("$SSH", "graduate:gate $SSH")),
            (Some(("alice".to_owned(), false)), true)
        );
        assert_eq!(of(&format!("{KEY} root@x")), (None, true));
        assert_eq!(of(&format!("  {KEY}")), (None, true));
        assert_eq!(of(&format!("command=\"echo \\\"a b\\\"\",restrict\t{KEY}")), (None, true));
        for other in ["", "# a comment", "command=\"unfinished", &format!("# {KEY}"), "no-pty"] {
            let found = parse(other).next();
            assert!(found.is_none_or(|line| line.key.is_none() && line.forced.is_none()), "{other}");
        }
    }
}
