//! What the documents quote of the program's output is what it can say.

use std::fs;

use crate::literals::{self, Sayings};
use crate::pages::{self, Kind, Page, root};

/// The messages of recovery.md: its headings that are a message.
fn messages() -> Vec<(String, String)> {
    let page = Page::read("docs/recovery.md");
    let headings = page.lines.iter().filter(|line| line.kind == Kind::Heading);
    let messages = headings.filter_map(|line| {
        let title = line.text.trim_start_matches('#').trim();
        // Two backticks hold a text with backticks in it.
        let message = match title.strip_prefix("`` ") {
            Some(rest) => rest.strip_suffix(" ``")?,
            None => title.strip_prefix('`')?.strip_suffix('`')?,
        };
        Some((page.place(line), message.to_owned()))
    });
    messages.collect()
}

#[test]
fn the_program_can_say_every_message_that_is_explained() {
    let sayings = Sayings::of_program();
    let unsaid: Vec<String> = messages()
        .into_iter()
        .filter(|(_, message)| !sayings.has(message))
        .map(|(place, message)| format!("{place}: the program never says {message:?}"))
        .collect();
    assert!(unsaid.is_empty(), "{}", unsaid.join("\n"));
    assert!(messages().len() > 40, "messages are not found any more");
}

/// Errors that a user can do something about, by the file and the name of their type: each of their messages is explained.
const EXPLAINED: [(&str, &str); 4] = [
    ("src/plan.rs", "Problem"),
    ("src/participant/app.rs", "AppError"),
    ("src/ssh.rs", "SshError"),
    ("src/updates/confusing.rs", "Confusing"),
];

/// The first lines of a type's messages. What is all holes is told by what is in them.
fn of_type(file: &str, name: &str) -> Vec<String> {
    let source = fs::read_to_string(root().join(file)).unwrap();
    let (_, behind) = source.split_once(&format!(" enum {name} {{\n")).unwrap();
    let texts = literals::strings(behind.split_once("\n}\n").unwrap().0);
    let first_lines = texts.iter().filter_map(|text| text.lines().next());
    let is_text = |line: &&str| line.split(['{', '}']).step_by(2).any(|text| text.len() > 8);
    first_lines.filter(is_text).map(str::to_owned).collect()
}

#[test]
fn messages_that_ask_for_something_are_explained() {
    let explained = messages();
    for (file, name) in EXPLAINED {
        let own = of_type(file, name);
        assert!(own.len() > 5, "the messages of {name} are not found any more");
        for line in own {
            let saying = Sayings::of_line(&line);
            // A hole of the one may be words of the other.
            let is_it = |message: &str| {
                saying.has(message) || literals::has_in_order(message, line.split(['{', '}']).step_by(2))
            };
            let is_explained = explained.iter().any(|(_, message)| is_it(message));
            assert!(is_explained, "docs/recovery.md does not explain {line:?}");
        }
    }
}

/// What a line of output says behind one of Dokku's marks, if it has one.
fn marked(line: &str) -> Option<&str> {
    let text = line.trim_start().trim_start_matches("remote: ");
    ["-----> ", "=====> ", " !     "].iter().find_map(|mark| text.strip_prefix(mark)).map(str::trim)
}

/// The lines of the picture's terminal.
fn drawn() -> Vec<String> {
    let picture = fs::read_to_string(root().join("docs/graduation.svg")).unwrap();
    let texts = picture.lines().filter(|line| line.starts_with("<text "));
    let without_tags =
        |text: &str| text.split('<').filter_map(|part| Some(part.split_once('>')?.1)).collect::<String>();
    texts
        .map(|text| without_tags(text).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        .collect()
}

/// Lines of output in the documents and in the picture.
#[test]
fn output_in_the_documents_is_the_programs() {
    let sayings = Sayings::of_program();
    let (mut count, mut unsaid) = (0, Vec::new());
    for page in pages::of_users() {
        for line in page.lines.iter().filter(|line| line.kind == Kind::Code) {
            let Some(said) = marked(&line.text) else { continue };
            count += 1;
            if !sayings.has(said) {
                unsaid.push(format!("{}: {said}", page.place(line)));
            }
        }
    }
    let drawn = drawn();
    let said: Vec<&str> = drawn.iter().filter_map(|line| marked(line)).collect();
    unsaid.extend(
        said.iter().filter(|said| !sayings.has(said)).map(|said| format!("docs/graduation.svg: {said}")),
    );
    assert!(
        said.iter().any(|said| said.starts_with("production runs ")),
        "the picture shows no graduation: {drawn:?}"
    );
    assert!(unsaid.is_empty(), "the program never says this:\n{}", unsaid.join("\n"));
    assert!(count > 5, "output is not found any more");
}

/// The variables of hooks, and what doctor looks at.
#[test]
fn names_in_the_documents_are_the_programs() {
    let known = literals::of_program();
    let hooks = Page::read("docs/hooks.md");
    for line in hooks.lines.iter().filter(|line| line.kind == Kind::Table) {
        let name = line.spans().first().copied().unwrap_or_default();
        if name.starts_with("GRADUATE_") {
            assert!(known.iter().any(|text| text == name), "{}: {name}", hooks.place(line));
        }
    }
    let schema = fs::read_to_string(root().join("src/commands/schemas/doctor.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let finding = &schema["properties"]["here"]["properties"]["findings"]["items"]["properties"];
    let checks = finding["check"]["enum"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    let doctor = Page::read("docs/doctor.md");
    let named: Vec<&str> = doctor.lines.iter().flat_map(pages::Line::spans).collect();
    for check in checks {
        assert!(named.contains(&check), "docs/doctor.md does not name the check {check}");
    }
}
