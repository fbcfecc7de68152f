//! Generates `docs/internals/states.md` from the pinned tables of the machines and from the comments on their states.
//! `SNAPSHOTS=overwrite cargo test --lib` rewrites it; if that changes a table, run it a second time.

const HEAD: &str = "\
# States

This page answers: which states do the two machines have, and what does every event do in each of them?

It is generated from the tables that tests hold the code to, and from the comments on the states: edit none of it
here. `SNAPSHOTS=overwrite cargo test --lib` writes it anew: run it twice, the tables first. [README.md](README.md) says
how to read it, and what \"destination\", \"participant\" and \"coordinator\" are.

Code: [app.rs](../../src/commit/app.rs), [destination.rs](../../src/commit/destination.rs),
[source.rs](../../src/commit/source.rs).
";

const APP: &str = "\
## One app on its destination

A stage is what the log of an app leads to, step by step (`Stage::next`; [files.md](files.md#the-log-of-an-app) has the
log). The last three are ends.
";

const DESTINATION: &str = "\
## The destination's machine

Its apps have the stages above. Each heading below is a situation that events have led to; `api` and `web` are the
graduation's apps. What is not in a table does nothing at once.
";

const COORDINATOR: &str = "\
## The coordinator's machine

Each heading below is a situation that events have led to; `api` and `web` are the graduation's apps. \"There\" is what
the destination tells. What is not in a table does nothing at once: it may be remembered until the decision is known.
";

/// Returns the page, made from the tables and from the code itself.
fn page() -> String {
    let app = include_str!("app.rs");
    let destination = include_str!("destination.rs");
    let coordinator = include_str!("source.rs");
    [
        HEAD.to_owned(),
        APP.to_owned(),
        described("stage", app, "enum Stage {"),
        include_str!("app.txt").split("\n\n").map(rules).collect::<Vec<_>>().join("\n"),
        DESTINATION.to_owned(),
        described("state", destination, "enum DestinationState {"),
        situations(include_str!("destination.txt")),
        COORDINATOR.to_owned(),
        described("state", coordinator, "enum TransactionState {"),
        situations(include_str!("source.txt")),
    ]
    .join("\n")
}

fn row(cells: &[&str]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn heading(cells: &[&str]) -> String {
    row(cells) + &format!("|{}\n", "---|".repeat(cells.len()))
}

/// Returns the cells of a line, which are separated by two or more blanks.
fn cells(line: &str) -> Vec<&str> {
    line.trim().split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

/// Returns a table of the variants of an enum, with their comments.
fn described(of: &str, source: &str, start: &str) -> String {
    let mut table = heading(&[of, "what it is"]);
    let mut comment = Vec::new();
    let body = source.split_once(start).map_or("", |(_, body)| body);
    for line in body.lines().take_while(|line| *line != "}") {
        // Deeper indentation is a field of a variant.
        let Some(line) = line.strip_prefix("    ").filter(|line| !line.starts_with(' ')) else { continue };
        if let Some(text) = line.strip_prefix("///") {
            comment.push(text.trim());
        } else if let Some(name) =
            line.split(|c: char| !c.is_alphanumeric()).next().filter(|name| !name.is_empty())
        {
            table += &row(&[name, &comment.join(" ")]);
            comment.clear();
        }
    }
    table
}

/// Formats one table of rules under its title. Its first line may name the columns.
fn rules(table: &str) -> String {
    let (title, rows) = table.split_once('\n').unwrap_or((table, ""));
    let mut text = format!("### {title}\n\n");
    if !rows.starts_with("stage") {
        text += &heading(&["stage", "then"]);
    }
    for line in rows.lines() {
        text += &if line.starts_with("stage") { heading(&cells(line)) } else { row(&cells(line)) };
    }
    text
}

/// Formats situations: a heading each, then what every event does there.
fn situations(table: &str) -> String {
    let mut text = String::new();
    for line in table.lines() {
        if !line.starts_with(' ') {
            let between = if text.is_empty() { "" } else { "\n" };
            text += &format!("{between}### {line}\n\n{}", heading(&["event", "what is done"]));
            continue;
        }
        let (event, done) = line.trim().split_once("  ").unwrap_or((line, ""));
        text += &row(&[event, done.trim()]);
    }
    text
}

#[test]
fn the_page_of_states_is_what_the_machines_do() {
    let page = page();
    for (word, count) in [("| Held |", 4), ("### taken over, both held", 1), ("### left to go", 1)] {
        assert!(page.matches(word).count() >= count, "{word} is not there:\n{page}");
    }
    snapbox::assert_data_eq!(page, snapbox::file!["../../docs/internals/states.md"].raw());
}
