//! Links between documents lead to files and headings that are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::pages::{self, Kind, Line, Page, root};

/// The targets of the links in a line, `[text](target)`.
fn targets(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target)).collect()
}

/// A path without `..`, which must not lead out of the project.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => normal.pop().then_some(())?,
            Component::Normal(name) => normal.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(normal)
}

/// What is wrong with a link from a page.
fn trouble(page: &Page, target: &str) -> Option<String> {
    if target.starts_with("https://") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = match file {
        "" => page.path.clone(),
        file => match normal(&page.path.parent().unwrap_or(Path::new("")).join(file)) {
            Some(path) => path,
            None => return Some("leads out of the project".to_owned()),
        },
    };
    if !root().join(&path).exists() {
        return Some(format!("there is no {}", path.display()));
    }
    let anchor = anchor?;
    let has_it = path.extension().is_some_and(|extension| extension == "md")
        && Page::read(&path).anchors().iter().any(|known| known == anchor);
    (!has_it).then(|| format!("{} has no heading #{anchor}", path.display()))
}

#[test]
fn links_lead_to_files_and_headings() {
    let (mut count, mut wrong) = (0, Vec::new());
    for page in pages::all() {
        for line in page.lines.iter().filter(|line| line.kind != Kind::Code) {
            for target in targets(&line.without_spans()) {
                count += 1;
                let trouble = trouble(&page, target);
                wrong.extend(trouble.map(|why| format!("{}: {target}: {why}", page.place(line))));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 20, "links are not found any more");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = Page::read("docs/recovery.md");
    let has_trouble = |target| trouble(&page, target).is_some();
    assert!(!has_trouble("commands.md#exit-status") && !has_trouble("../README.md#install"));
    assert!(!has_trouble("https://example.com/#nowhere"));
    for target in ["missing.md", "commands.md#nowhere", "#nowhere", "../../README.md", "../LICENSE#mit"] {
        assert!(has_trouble(target), "{target}");
    }
}

/// Every Rust file below a directory of the project, as one text.
fn rust_below(directory: &Path) -> String {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| match path.extension() {
        _ if path.is_dir() => rust_below(&path),
        Some(extension) if extension == "rs" => fs::read_to_string(&path).unwrap(),
        Some(_) | None => String::new(),
    };
    entries.map(text).collect()
}

#[test]
fn tests_that_are_named_for_what_they_show_are_there() {
    let code = ["src", "tests"].map(|directory| rust_below(&root().join(directory))).concat();
    let page = Page::read("docs/security.md");
    let rows = page.lines.iter().filter(|line| line.kind == Kind::Table);
    let last_cell = |line: &Line| line.text.trim_end_matches(" |").rsplit(" | ").next().unwrap().to_owned();
    let (mut count, mut missing) = (0, Vec::new());
    for line in rows {
        for name in last_cell(line).split('`').skip(1).step_by(2) {
            count += 1;
            if !code.contains(&format!("fn {name}()")) {
                missing.push(format!("{}: there is no test {name}", page.place(line)));
            }
        }
    }
    assert!(missing.is_empty() && count > 10, "{}", missing.join("\n"));
}

/// The files that a page links, from the project's root.
fn linked(page: &Page) -> Vec<PathBuf> {
    let here = page.path.parent().unwrap_or(Path::new(""));
    let lines = page.lines.iter().filter(|line| line.kind != Kind::Code);
    let targets: Vec<String> =
        lines.flat_map(|line| targets(&line.text).into_iter().map(str::to_owned)).collect();
    let files =
        targets.iter().map(|target| target.split('#').next().unwrap()).filter(|file| !file.is_empty());
    files.filter_map(|file| normal(&here.join(file))).collect()
}

#[test]
fn every_document_can_be_reached_from_the_readme() {
    let pages = pages::all();
    let mut reached: BTreeSet<PathBuf> = ["README.md".into()].into();
    let mut left: Vec<PathBuf> = reached.iter().cloned().collect();
    while let Some(path) = left.pop() {
        let page = pages.iter().find(|page| page.path == path);
        left.extend(
            page.map(linked).unwrap_or_default().into_iter().filter(|path| reached.insert(path.clone())),
        );
    }
    let unreached: Vec<&PathBuf> =
        pages.iter().map(|page| &page.path).filter(|path| !reached.contains(*path)).collect();
    assert!(unreached.is_empty(), "no link leads to {unreached:?}");
}
