//! Lists in sentences and tables: how many items are named, and where a line of them ends.

use std::fmt::Display;

/// The most items that [`listed`] names.
const NAMED: usize = 8;

/// The longest line of [`wrapped`], in characters.
const WIDTH: usize = 72;

/// Formats a list for a cell or a sentence: `api, web`; of more than eight items, the first ones and the number of the
/// others.
pub(crate) fn listed<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut named: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    let more = named.len().saturating_sub(NAMED);
    named.truncate(NAMED);
    let named = named.join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// Formats a whole list on lines of its own, broken between items so that a terminal breaks no line. The first line
/// already has `begun` characters.
pub(crate) fn wrapped<T: Display>(begun: usize, items: impl IntoIterator<Item = T>) -> String {
    let (mut text, mut width) = (String::new(), begun);
    for item in items {
        let item = item.to_string();
        let length = item.chars().count();
        if text.is_empty() {
            width += length;
        } else if width + 2 + length > WIDTH {
            text.push_str(",\n");
            width = length;
        } else {
            text.push_str(", ");
            width += 2 + length;
        }
        text.push_str(&item);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_says_how_many_more_there_are() {
        assert_eq!(listed(["api", "web"]), "api, web");
        assert_eq!(listed(1..=8), "1, 2, 3, 4, 5, 6, 7, 8");
        assert_eq!(listed(1..=20), "1, 2, 3, 4, 5, 6, 7, 8 and 12 more");
    }

    #[test]
    fn a_whole_list_is_broken_between_its_items() {
        assert_eq!(wrapped(12, ["api", "web"]), "api, web");
        let apps: Vec<String> = (1..=20).map(|number| format!("worker-{number:02}")).collect();
        let text = wrapped(12, &apps);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH + 1), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
        assert_eq!(text.replace('\n', " "), apps.join(", "));
    }
}
