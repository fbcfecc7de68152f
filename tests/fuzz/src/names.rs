//! Names and ids, which become refs, paths and words of command lines: `names.rs`, `settings/url.rs`.

use std::fmt::{Debug, Display};
use std::path::{Component, Path};
use std::str::FromStr;

use dokku_graduate::exposed::Url;
use dokku_graduate::exposed::names::{
    AppName, EnvironmentName, GraduationId, Label, ObjectId, ReleaseTag, RequestTag,
};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) const WORDS: &[&str] = &[
    "refs/tags/graduate/",
    "production",
    "graduate",
    "env",
    "20261123104512",
    "-ab0102",
    ".lock",
    "..",
    "/",
    "ssh://",
    "@",
    ":22",
    "[::1]",
    "dokku@production.example.com",
    "4f2a9c14f2a9c14f2a9c14f2a9c14f2a9c14f2a9",
];

pub(crate) fn feed(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for line in text.split('\n').take(200) {
        is_one_part_of_a_path(parsed::<AppName>(line, 100));
        is_one_part_of_a_path(parsed::<EnvironmentName>(line, 60));
        is_one_part_of_a_path(parsed::<GraduationId>(line, 21));
        is_one_part_of_a_path(parsed::<ObjectId>(line, 40));
        if let Some(label) = parsed::<Label>(line, 100) {
            is_one_part_of_a_path(Some(label.clone()));
            is_ref(&format!("refs/tags/graduate/production/{label}"));
        }
        if let Ok(tag) = line.parse::<RequestTag>() {
            assert_eq!(tag.ref_name(), line);
            assert_eq!(tag.ref_name(), format!("refs/tags/{tag}"));
            is_ref(line);
        }
        if let Some(release) = written_back::<ReleaseTag>(line, 75) {
            is_ref(&release.ref_name());
            assert_eq!(
                ReleaseTag::new(line.split('/').next().unwrap().parse().unwrap(), release.time()),
                release
            );
        }
        if let Ok(url) = line.parse::<Url>() {
            is_word(&url.login());
            is_word(&url.known_hosts_name());
            assert_eq!(url.to_string().parse::<Url>().as_ref(), Ok(&url), "it is written as another address");
        }
    }
}

/// Parses a name; what is one is at most so long, is written as it was read, and harms no command line.
fn written_back<T: FromStr + Display>(text: &str, longest: usize) -> Option<T> {
    let name = text.parse::<T>().ok()?;
    assert_eq!(name.to_string(), text);
    assert!(!text.is_empty() && text.len() <= longest, "{text:?} is too long");
    is_word(text);
    Some(name)
}

/// The same, and JSON holds the same names as text does.
fn parsed<T>(text: &str, longest: usize) -> Option<T>
where
    T: FromStr + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let name = written_back::<T>(text, longest);
    let quoted = serde_json::to_string(text).expect("text has a JSON form");
    let from_json = serde_json::from_str::<T>(&quoted).ok();
    assert_eq!(name, from_json, "{text:?} is a name in one form and none in the other");
    assert!(name.as_ref().is_none_or(|name| serde_json::to_string(name).is_ok_and(|json| json == quoted)));
    name
}

/// It cannot be taken for an option, nor for two words, nor end a line, nor mean anything to a shell.
fn is_word(text: &str) {
    assert!(!text.starts_with('-'), "{text:?} reads as an option");
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_.+#/@:[]".contains(c);
    assert!(text.chars().all(harmless), "{text:?} has a character that means something elsewhere");
}

fn is_one_part_of_a_path(name: Option<impl Display>) {
    let Some(name) = name.map(|name| name.to_string()) else { return };
    let parts: Vec<Component<'_>> = Path::new(&name).components().collect();
    assert_eq!(parts, [Component::Normal(name.as_ref())], "{name:?} is not one part of a path");
    let joined = Path::new("/data").join(&name);
    assert!(joined.parent() == Some(Path::new("/data")) && joined.file_name() == Some(name.as_ref()));
    assert!(!name.starts_with('.'), "{name:?} is hidden, as files in the writing are");
}

fn is_ref(name: &str) {
    assert!(git2::Reference::is_valid_name(name), "git has no ref {name:?}");
}
