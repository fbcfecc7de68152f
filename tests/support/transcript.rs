//! Makes two runs of the same story read the same.

use std::sync::{Arc, Mutex};

/// Puts names in the place of paths, ids, times and the blanks that git adds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Normaliser {
    known: Arc<Mutex<Vec<(String, String)>>>,
}

impl Normaliser {
    /// Shows `name` wherever `text` stands.
    pub(crate) fn show(&self, text: &str, name: &str) {
        let mut known = self.known.lock().unwrap();
        known.push((text.to_owned(), name.to_owned()));
        // Longer ones first: a path before the directory it is in.
        known.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    /// Shows `[name]` wherever this commit stands, as a whole or shortened to seven digits or more.
    pub(crate) fn show_commit(&self, id: &str, name: &str) {
        self.show(id, &format!("[{name}]"));
    }

    /// The text with names in it.
    pub(crate) fn normalise(&self, text: &str) -> String {
        let known = self.known.lock().unwrap().clone();
        let lines = text.replace("\u{1b}[K", "").replace('\r', "\n");
        let text = lines.lines().map(|line| line.trim_end().to_owned() + "\n").collect::<String>();
        let text = known.iter().fold(text, |text, (from, to)| text.replace(from.as_str(), to));
        let mut shown = String::new();
        let mut word = String::new();
        for c in text.chars().chain(['\0']) {
            if c.is_ascii_alphanumeric() {
                word.push(c);
                continue;
            }
            shown.push_str(&name_of(&word, &known));
            word.clear();
            if c != '\0' {
                shown.push(c);
            }
        }
        shown.lines().map(|line| name_durations(line) + "\n").collect()
    }
}

fn name_of(word: &str, known: &[(String, String)]) -> String {
    if word.len() == 14 && word.bytes().all(|b| b.is_ascii_digit()) {
        return "[TIME]".to_owned();
    }
    // One id in some thirty has digits alone in its first seven places.
    let is_id = word.len() >= 7 && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !is_id {
        return word.to_owned();
    }
    let commit = known.iter().find(|(id, _)| id.len() == 40 && id.starts_with(word));
    commit.map_or("[ID]".to_owned(), |(_, name)| name.clone())
}

/// `48 s` and `1.5 s` become `[N] s`.
fn name_durations(text: &str) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for index in 1..words.len() {
        let is_unit = words[index].trim_end_matches([')', ',', '.', ':']) == "s";
        let number = words[index - 1].trim_start_matches('(').to_owned();
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if is_unit && is_number {
            words[index - 1] = words[index - 1].replace(&number, "[N]");
        }
    }
    words.join(" ")
}

#[test]
fn transcripts_read_the_same_every_time() {
    let normaliser = Normaliser::default();
    normaliser.show("/tmp/g1234", "[WORLD]");
    normaliser.show_commit("9c0ffee0123456789012345678901234567890ab", "api 2");
    let text = "remote: -----> api 4be21d0 -> 9c0ffee   \nremote: api 2164961\nremote: see /tmp/g1234/x, release 20261123104512 (48 s)\u{1b}[K\nnothing\n";
    let expected = "remote: -----> api [ID] -> [api 2]\nremote: api [ID]\nremote: see [WORLD]/x, release [TIME] ([N] s)\nnothing\n";
    assert_eq!(normaliser.normalise(text), expected);
}
