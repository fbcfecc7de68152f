//! Makes foreign text harmless for a terminal.
//!
//! Build output, messages of a destination and pushed texts all reach the terminals of pushers and operators.

/// Returns the text with its colours, tabs and line ends, and without other control characters: they could move the
/// cursor and so change what our own output seems to say. A removed character leaves `�`; a carriage return leaves a
/// blank. Characters that change the direction of text are removed, too, and a colour ends with its line.
pub fn legible(text: String) -> String {
    if !text.chars().any(|c| is_harmful(c) && c != '\n') {
        return text;
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    let mut is_coloured = false;
    let end_line = |clean: &mut String, is_coloured: &mut bool| {
        if std::mem::take(is_coloured) {
            clean.push_str(NO_COLOUR);
        }
    };
    while let Some(c) = rest.chars().next() {
        if let Some(colour) = colour(rest) {
            clean.push_str(colour);
            is_coloured = !matches!(colour, NO_COLOUR | "\u{1b}[m");
            rest = &rest[colour.len()..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '\n' => {
                end_line(&mut clean, &mut is_coloured);
                clean.push(c);
            }
            '\t' => clean.push(c),
            '\r' if rest.is_empty() || rest.starts_with('\n') => {}
            '\r' => clean.push(' '),
            c if is_harmful(c) => clean.push(char::REPLACEMENT_CHARACTER),
            c => clean.push(c),
        }
    }
    end_line(&mut clean, &mut is_coloured);
    clean
}

/// Formats an amount of data as Docker and people write it, in powers of a thousand: `12 MB`.
pub(crate) fn amount(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Returns the text in one line, for a sentence or a cell of a table. Control characters are replaced as in [`plain`].
pub(crate) fn one_line(text: &str) -> String {
    plain(text).chars().map(|c| if matches!(c, '\n' | '\t') { ' ' } else { c }).collect()
}

/// Returns the text with its line ends and tabs; other control characters, those of colours included, leave `�`.
pub(crate) fn plain(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' | '\t' => c,
        '\r' => ' ',
        c if is_harmful(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(harmless).collect()
}

/// Returns the text without the sequences that set colours.
pub(crate) fn without_colours(text: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(c) = rest.chars().next() {
        match colour(rest) {
            Some(colour) => rest = &rest[colour.len()..],
            None => {
                plain.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    plain
}

/// Whether it is a control character, one that breaks lines, or one that sets the direction of text.
fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns the beginning of a text of unbounded length, for a message: 200 characters, and `...` if there was more.
pub(crate) fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let mut start: String = chars.by_ref().take(200).collect();
    if chars.next().is_some() {
        start.push_str("...");
    }
    start
}

/// Does the same for a message that ends with its remedy: returns 200 characters of its beginning, and as many of its
/// end.
pub(crate) fn both_ends(text: &str) -> String {
    const KEPT: usize = 200;
    let end = text.char_indices().rev().nth(KEPT - 1).map_or(0, |(at, _)| at);
    match text.char_indices().nth(KEPT) {
        Some((start, _)) if start < end => format!("{} ... {}", &text[..start], &text[end..]),
        Some(_) | None => text.to_owned(),
    }
}

/// The sequence that ends all colours.
const NO_COLOUR: &str = "\u{1b}[0m";

/// Returns the sequence that sets colours, if the text begins with one: `ESC [ <digits and semicolons> m`.
fn colour(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    // 8 hides the text that follows; after 38 and 48 it is the number of a colour.
    let hides =
        parameters[..end].split(';').take_while(|part| !matches!(*part, "38" | "48")).any(|part| part == "8");
    (parameters[end..].starts_with('m') && !hides).then(|| &text[..2 + end + 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_nothing_else_reaches_a_terminal() {
        let same = ["", "plain\n\ttext", "\u{1b}[1;31mred\u{1b}[m é", "\u{1b}[38;5;8mgrey\u{1b}[0m\n"];
        for text in same {
            assert_eq!(legible(text.to_owned()), text);
        }
        let cleaned = [
            ("\u{1b}[2J\u{1b}[1;1Hgone", "\u{fffd}[2J\u{fffd}[1;1Hgone"),
            ("\u{1b}[31mred\nx", "\u{1b}[31mred\u{1b}[0m\nx"),
            ("\u{1b}[8mhidden\u{202e}", "\u{fffd}[8mhidden\u{fffd}"),
            ("10%\r20%\r\n", "10% 20%\n"),
            ("\u{1b}]0;title\u{7}\u{9b}2J\u{1b}[1", "\u{fffd}]0;title\u{fffd}\u{fffd}2J\u{fffd}[1"),
        ];
        for (text, expected) in cleaned {
            assert_eq!(legible(text.to_owned()), expected);
        }
    }

    #[test]
    fn a_value_of_others_is_one_line() {
        assert_eq!(one_line("a\n=====> b\u{1b}[31mc\t\u{9b}"), "a =====> b\u{fffd}[31mc \u{fffd}");
    }

    #[test]
    fn long_texts_are_shortened_between_characters() {
        assert_eq!(shortened(&"é".repeat(200)), "é".repeat(200));
        assert_eq!(shortened(&"é".repeat(201)), "é".repeat(200) + "...");
        for short in ["", "é", &"é".repeat(400)] {
            assert_eq!(both_ends(short), short);
        }
        let (start, end) = ("é".repeat(200), "è".repeat(200));
        assert_eq!(both_ends(&format!("{start}.{end}")), format!("{start} ... {end}"));
    }
}
