//! What the documents tell to run can be run: commands with their arguments, properties, push options.

use dokku_graduate::exposed::{Options, help, properties};

use crate::pages::{self, Kind, Line};

/// The names of commands in a text, `graduate:<name>`.
fn names(text: &str) -> Vec<String> {
    let named = text.split("graduate:").skip(1);
    let names = named
        .map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap_or_default());
    names
        .filter(|name| !name.is_empty())
        .map(|name| format!("graduate:{}", name.trim_end_matches('-')))
        .collect()
}

/// The words of each command of the plugin's in a line of shell; those with a placeholder are left out.
fn commands(line: &str) -> Vec<Vec<String>> {
    let alone = line.split(" # ").next().unwrap_or_default();
    let parts = alone.split(" | ").flat_map(|part| part.split(" && ")).flat_map(|part| part.split("; "));
    let whole = parts.filter(|part| !part.contains("...") && !part.contains('<'));
    let words = whole.filter_map(|part| {
        let words = shlex::split(part)?;
        let is_ours = |word: &String| word == "graduate" || word.starts_with("graduate:");
        let at = words.iter().position(is_ours)?;
        let before = at.checked_sub(1).map(|at| words[at].as_str())?;
        // A name alone is mentioned, not told to run.
        let is_mentioned = before == "dokku" && words.len() == 2;
        (!is_mentioned && (before == "dokku" || words.iter().any(|word| word == "ssh")))
            .then(|| words[at..].to_vec())
    });
    words.collect()
}

/// The options of pushes in a line, `-o <option>`.
fn options(line: &str) -> Vec<String> {
    let behind = line.split("-o ").skip(1);
    let words = behind.filter_map(|rest| rest.split([' ', '`', ')', ',', ';']).next());
    words.filter(|word| !word.starts_with(['<', '.'])).map(str::to_owned).collect()
}

/// What is wrong with a command.
fn trouble(words: &[String]) -> Option<String> {
    let line = std::iter::once("dokku").chain(words.iter().map(String::as_str));
    if let Err(error) = help::all().try_get_matches_from(line) {
        return error.use_stderr().then(|| error.to_string());
    }
    let [command, _, property, value @ ..] = words else { return None };
    if command != "graduate:set" {
        return None;
    }
    let value = Some(value.join(" ")).filter(|value| !value.is_empty());
    properties::check(property, value.as_deref()).err()
}

/// The texts of a line that are meant for a shell.
fn for_a_shell(line: &Line) -> Vec<&str> {
    if line.kind == Kind::Code { vec![line.text.as_str()] } else { line.spans() }
}

#[test]
fn commands_in_the_documents_exist_and_parse() {
    let known = help::all();
    let (mut count, mut wrong) = (0, Vec::new());
    for page in pages::of_users() {
        for line in &page.lines {
            let unknown = names(&line.text).into_iter().filter(|name| known.find_subcommand(name).is_none());
            wrong.extend(unknown.map(|name| format!("{}: there is no {name}", page.place(line))));
            for words in for_a_shell(line).into_iter().flat_map(commands) {
                count += 1;
                let trouble = trouble(&words);
                wrong.extend(trouble.map(|why| format!("{}: {}: {why}", page.place(line), words.join(" "))));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 30, "commands are not found any more: {count}");
}

#[test]
fn push_options_in_the_documents_exist() {
    let (mut count, mut wrong) = (0, Vec::new());
    for page in pages::of_users() {
        for line in &page.lines {
            let is_push = |text: &&str| {
                text.starts_with("-o ") || text.contains("push") || text.contains("git graduate")
            };
            for option in for_a_shell(line).into_iter().filter(is_push).flat_map(options) {
                count += 1;
                let error = Options::parse(std::slice::from_ref(&option)).err();
                wrong.extend(error.map(|error| format!("{}: {option}: {error}", page.place(line))));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 5, "options are not found any more: {count}");
}

#[test]
fn a_wrong_example_is_found() {
    let words = |line: &str| commands(line).into_iter().next().unwrap_or_default();
    for line in [
        "staging# dokku graduate:freeze production quarter end",
        "ssh -t dokku@staging.example.com graduate production",
        "ssh dokku@staging.example.com graduate:key | ssh root@production dokku graduate:accept staging",
        "dokku graduate:set --global auto-commit true",
    ] {
        assert_eq!((words(line).is_empty(), trouble(&words(line))), (false, None), "{line}");
    }
    for line in [
        "dokku graduate:freese production",
        "staging# dokku graduate:freeze",
        "dokku graduate:set production leese 10",
        "dokku graduate:set production lease 1",
        "dokku graduate:set production auto-commit maybe",
        "dokku graduate production --colour",
    ] {
        assert!(trouble(&words(line)).is_some(), "{line}");
    }
    assert_eq!(commands("git push -f origin graduate/production/now"), Vec::<Vec<String>>::new());
    assert_eq!(
        names("run `dokku graduate:rm-hook PRE 1`, or graduate:set"),
        ["graduate:rm-hook", "graduate:set"]
    );
    assert_eq!(options("git push -f -o quiet -o only=api origin x"), ["quiet", "only=api"]);
}
