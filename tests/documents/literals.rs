//! The texts in the program's sources, as templates of what people read.

use std::fs;
use std::path::Path;

use crate::pages::root;

/// Names that the documents use for what is a user's.
const EXAMPLES: [&str; 8] = ["api", "web", "worker", "shop", "production", "staging", "alice", "..."];

/// A word of an example that is the user's, not the program's: a name, a number, an id, a path, an address.
fn is_example(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '.').trim_end_matches(',');
    EXAMPLES.contains(&bare)
        || EXAMPLES.contains(&word)
        || word.contains(|c: char| c.is_ascii_digit() || "@/".contains(c))
}

/// The words that a line of a document takes from the program, in runs between those that are the user's.
fn runs(line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let runs = words.split(|word| is_example(word)).filter(|run| !run.is_empty());
    runs.map(|run| run.join(" ")).collect()
}

/// A text has these pieces in this order.
pub(crate) fn has_in_order<'a>(text: &str, pieces: impl IntoIterator<Item = &'a str>) -> bool {
    let mut rest = text;
    pieces.into_iter().all(|piece| rest.find(piece).map(|at| rest = &rest[at + piece.len()..]).is_some())
}

/// Lines of text that the program has in its sources, or that its tests expect of it.
#[derive(Debug)]
pub(crate) struct Sayings(Vec<String>);

impl Sayings {
    /// How many letters of a line must be the program's own at the least.
    const ENOUGH: usize = 4;

    pub(crate) fn of_program() -> Self {
        let all = of_program().into_iter().chain(of_tests());
        Self(all.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect())
    }

    pub(crate) fn of_line(line: &str) -> Self {
        Self(vec![line.to_owned()])
    }

    /// One line of the program's has all that this line takes from the program, in this order.
    pub(crate) fn has(&self, line: &str) -> bool {
        let runs = runs(line);
        let letters = runs.iter().flat_map(|run| run.chars()).filter(|c| c.is_alphabetic()).count();
        let is_it = |saying: &String| has_in_order(saying, runs.iter().map(String::as_str));
        letters >= Self::ENOUGH && self.0.iter().any(is_it)
    }
}

/// The string literals of Rust source, outside comments and after what only tests see is cut off.
pub(crate) fn strings(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap();
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.find('\n').map_or("", |end| &comment[end..]);
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            let end = raw.find("\"#").unwrap();
            found.push(raw[..end].to_owned());
            rest = &raw[end + 2..];
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\'") || rest.starts_with("'\\\\'") {
            rest = &rest[rest[2..].find('\'').unwrap() + 3..];
        } else if c == '"' {
            let (text, behind) = string(&rest[1..]);
            found.push(text);
            rest = behind;
        } else {
            rest = &rest[c.len_utf8()..];
        }
    }
    found
}

/// The string that begins here, and what follows its closing quote.
fn string(rest: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, &rest[at + 1..]),
            '\\' => match chars.next().unwrap().1 {
                'n' => text.push('\n'),
                '\n' => {
                    let behind = chars.as_str();
                    let blanks = behind.len() - behind.trim_start().len();
                    // Every blank of an indent is one byte.
                    for _ in 0..blanks {
                        chars.next();
                    }
                }
                other => text.push(other),
            },
            c => text.push(c),
        }
    }
    panic!("a string does not end: {}", text.chars().take(80).collect::<String>());
}

/// The strings in the Rust files of a directory, but not those of tests.
fn in_files(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if ["tests", "tests.rs", "model"].contains(&name.as_str()) || name.ends_with("_tests.rs") {
            continue;
        }
        if path.is_dir() {
            in_files(&path, found);
        } else if name.ends_with(".rs") {
            found.extend(strings(&fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The strings of the program itself.
pub(crate) fn of_program() -> Vec<String> {
    let mut found = Vec::new();
    in_files(&root().join("src"), &mut found);
    // What the companions say, a shell's variables being the holes.
    for script in ["src/install/git-receive-pack", "src/install/git-upload-pack"] {
        let text = fs::read_to_string(root().join(script)).unwrap();
        let echoed = text.lines().filter_map(|line| line.trim().strip_prefix("echo \"")?.split_once('"'));
        found.extend(echoed.map(|(text, _)| in_braces(&text.replace("\\`", "`"))));
    }
    found
}

/// What tests expect of the program: stories, and the pinned sentences.
fn of_tests() -> Vec<String> {
    let mut found = vec![fs::read_to_string(root().join("src/report_tests.txt")).unwrap()];
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(strings(&fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// A shell's text with its variables as holes.
fn in_braces(text: &str) -> String {
    let mut pieces = text.split('$');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let rest = match piece.strip_prefix('{') {
            Some(braced) => braced.split_once('}').map_or("", |(_, rest)| rest),
            None => piece.trim_start_matches(is_name),
        };
        format!("{all}{{}}{rest}")
    })
}

#[test]
fn strings_are_found_in_sources() {
    let source = r##"
        let a = "one \"two\" \
                 three"; // "not this"
        let b = ('"', '\\', '\'', r#"raw "text""#);
        let c: &'static str = "{x:?} and {{y}}\nfour";
#[cfg(test)]
mod tests { "nor this" }
"##;
    assert_eq!(strings(source), ["one \"two\" three", "raw \"text\"", "{x:?} and {{y}}\nfour"]);
    assert_eq!(in_braces("no file in ${TMPDIR:-/tmp}, and $x."), "no file in {}, and {}.");
}

#[test]
fn only_what_the_program_can_say_is_its_own() {
    let sayings = Sayings::of_program();
    for said in [
        "Going live",
        "api is healthy and held (1/3)",
        "PRE hooks (2)",
        "not graduated to production: ...",
        "graduation ... is in doubt: the push that decides it (process ...) has not ended yet; try again when it has",
    ] {
        assert!(sayings.has(said), "{said}");
    }
    for unsaid in
        ["production is on fire", "api: x", "not promoted to production: ...", "PRE programs (2)", "..."]
    {
        assert!(!sayings.has(unsaid), "{unsaid}");
    }
    assert_eq!(
        runs("All 3 apps are held on production, for 10 minutes"),
        ["All", "apps are held on", "for", "minutes"]
    );
}
