//! Text of others, made harmless for a terminal.
//!
//! Build output, what a destination says and what was pushed all reach the terminals of pushers and operators.

/// The text with its colours, tabs and line ends, and without any other control character: such a one could move
/// the cursor, and so make what we say read otherwise. What is taken away leaves `�`; a carriage return leaves a blank.
pub fn legible(text: String) -> String {
    if !text.chars().any(|c| c.is_control() && c != '\n') {
        return text;
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        if let Some(colour) = colour(rest) {
            clean.push_str(colour);
            rest = &rest[colour.len()..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '\n' | '\t' => clean.push(c),
            '\r' if rest.is_empty() || rest.starts_with('\n') => {}
            '\r' => clean.push(' '),
            c if c.is_control() => clean.push(char::REPLACEMENT_CHARACTER),
            c => clean.push(c),
        }
    }
    clean
}

/// The beginning of a text that has no bounds of its own, for a message: 200 characters, and `...` where more was.
pub fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let mut start: String = chars.by_ref().take(200).collect();
    if chars.next().is_some() {
        start.push_str("...");
    }
    start
}

/// The sequence that sets colours, if the text begins with one: `ESC [ <digits and semicolons> m`.
fn colour(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then(|| &text[..2 + end + 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_nothing_else_reaches_a_terminal() {
        let same = ["", "plain\n\ttext", "\u{1b}[1;31mred\u{1b}[m é"];
        for text in same {
            assert_eq!(legible(text.to_owned()), text);
        }
        let cleaned = [
            ("\u{1b}[2J\u{1b}[1;1Hgone", "\u{fffd}[2J\u{fffd}[1;1Hgone"),
            ("10%\r20%\r\n", "10% 20%\n"),
            ("\u{1b}]0;title\u{7}\u{9b}2J\u{1b}[1", "\u{fffd}]0;title\u{fffd}\u{fffd}2J\u{fffd}[1"),
        ];
        for (text, expected) in cleaned {
            assert_eq!(legible(text.to_owned()), expected);
        }
    }

    #[test]
    fn long_texts_are_shortened_between_characters() {
        assert_eq!(shortened(&"é".repeat(200)), "é".repeat(200));
        assert_eq!(shortened(&"é".repeat(201)), "é".repeat(200) + "...");
    }
}
