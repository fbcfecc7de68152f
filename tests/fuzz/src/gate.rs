//! What somebody with a source's key asks for: `access/command.rs`.

use dokku_graduate::exposed::access::SourceCommand;
use dokku_graduate::exposed::names::AppName;

pub(crate) const WORDS: &[&str] = &[
    "graduate:agent",
    "graduate:forward",
    "graduate:receive '",
    "graduate:receive-image ",
    "graduate:receive",
    "graduate:",
    "api",
    "'",
    " ",
    "\n",
    "\0",
    ";",
    "$(id)",
    "`id`",
    "\\",
    "--trace ",
    "..",
    "/",
    "git-receive-pack ",
];

/// What is let through is, byte for byte, one of the four forms, and each has at most the checked name of an app.
pub(crate) fn feed(data: &[u8]) {
    let Some(command) = SourceCommand::parse(data) else { return };
    let is_app = |name: &[u8]| std::str::from_utf8(name).is_ok_and(|name| name.parse::<AppName>().is_ok());
    let between = |start: &[u8], end: &[u8]| {
        data.strip_prefix(start).and_then(|rest| rest.strip_suffix(end)).is_some_and(is_app)
    };
    let is_one_of_four = data == b"graduate:agent"
        || data == b"graduate:forward"
        || between(b"graduate:receive '", b"'")
        || between(b"graduate:receive-image ", b"");
    assert!(is_one_of_four, "{data:?} was let through");
    assert_eq!(command.to_string().as_bytes(), data, "it is not done as it was asked for");
    let unsafe_bytes = b";&|`$\"\\\n\r\0<>(){}*?~#!";
    assert!(!data.iter().any(|byte| unsafe_bytes.contains(byte)), "{data:?}");
}
