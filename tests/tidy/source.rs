//! The product's source as the rules see it: its files, and what each of them imports.
//!
//! This is not a parser of Rust. It removes comments, texts and tests, and reads `use`, paths that begin with `crate`, `super`
//! or a child's name, and what is defined at the margin.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One file of the product.
pub(crate) struct Module {
    /// `src/...`
    pub(crate) path: String,
    /// Its text, as it is.
    pub(crate) text: String,
    /// Its text without comments, texts and tests.
    pub(crate) code: String,
    /// The modules whose files it imports.
    pub(crate) imports: BTreeSet<String>,
}

/// All files that are reached from `lib.rs`, by the path of their module; `main.rs` is `main`.
pub(crate) struct Crate(pub(crate) BTreeMap<String, Module>);

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

impl Crate {
    pub(crate) fn read() -> Self {
        let mut found = BTreeMap::new();
        for root in ["main", "lib"] {
            let path = PathBuf::from(format!("src/{root}.rs"));
            add(&mut found, root.to_owned(), &path, Path::new("src"));
        }
        let names: BTreeSet<String> = found.keys().cloned().collect();
        for (name, module) in &mut found {
            module.imports = imports(name, &module.code, &names);
        }
        Self(found)
    }

    /// The imports of top-level modules: a directory is one with the file that it belongs to.
    pub(crate) fn top_level(&self) -> BTreeSet<(&str, &str)> {
        let all = self
            .0
            .iter()
            .flat_map(|(name, module)| module.imports.iter().map(move |import| (top(name), top(import))));
        all.filter(|(from, to)| from != to).collect()
    }
}

/// The top-level module that a module is part of.
pub(crate) fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

fn add(found: &mut BTreeMap<String, Module>, name: String, path: &Path, children_in: &Path) {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let code = without_tests(&without_texts(&text));
    for child in children(&code) {
        let inside = children_in.join(&child);
        let file = [inside.with_extension("rs"), inside.join("mod.rs")];
        let file = file.iter().find(|file| root().join(file).exists());
        let file = file.unwrap_or_else(|| panic!("{path:?} has no file for its module {child}"));
        let child = if name == "lib" { child } else { format!("{name}::{child}") };
        add(found, child, file, &inside);
    }
    let path = path.display().to_string();
    found.insert(name, Module { path, text, code, imports: BTreeSet::new() });
}

/// The same text with every comment, text and character literal blanked; line ends stay.
fn without_texts(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut code = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let starts_word = i == 0 || !is_word(at(i - 1));
        let end = if at(i) == '/' && at(i + 1) == '/' {
            (i..chars.len()).find(|i| at(*i) == '\n').unwrap_or(chars.len())
        } else if at(i) == '/' && at(i + 1) == '*' {
            (i + 2..chars.len()).find(|i| at(*i) == '*' && at(i + 1) == '/').map_or(chars.len(), |i| i + 2)
        } else if starts_word && at(i) == 'r' && matches!(at(i + 1), '"' | '#') {
            let hashes = (i + 1..chars.len()).take_while(|i| at(*i) == '#').count();
            let is_end = |j: &usize| at(*j) == '"' && (1..=hashes).all(|k| at(j + k) == '#');
            (i + hashes + 2..chars.len()).find(is_end).map_or(chars.len(), |j| j + hashes + 1)
        } else if at(i) == '"' {
            let mut j = i + 1;
            while j < chars.len() && at(j) != '"' {
                j += if at(j) == '\\' { 2 } else { 1 };
            }
            j + 1
        } else if at(i) == '\'' && at(i + 1) == '\\' {
            (i + 3..chars.len()).find(|j| at(*j) == '\'').map_or(chars.len(), |j| j + 1)
        } else if at(i) == '\'' && at(i + 2) == '\'' {
            i + 3
        } else {
            code.push(at(i));
            i += 1;
            continue;
        };
        let end = end.min(chars.len());
        code.extend(chars[i..end].iter().filter(|c| **c == '\n'));
        code.push(' ');
        i = end;
    }
    code
}

/// The same code without whatever stands behind `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let mut depth = 0;
        let end = rest[at..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0 && matches!(c, '}' | ';')
        });
        rest = end.map_or("", |(length, _)| &rest[at + length + 1..]);
    }
    kept + rest
}

/// The modules that a file declares, each in a file of its own.
fn children(code: &str) -> Vec<String> {
    let lines = code.lines().filter_map(|line| {
        let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    lines.map(str::to_owned).collect()
}

/// The names of the types that a file defines.
pub(crate) fn types(code: &str) -> Vec<&str> {
    let lines = code.lines().filter_map(|line| {
        let line = match line.strip_prefix("pub") {
            Some(line) => line.split_once(' ')?.1,
            None => line,
        };
        let (kind, rest) = line.split_once(' ')?;
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        ["struct", "enum", "trait", "type", "union"].contains(&kind).then_some(name)
    });
    lines.collect()
}

fn imports(name: &str, code: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let (mut paths, mut shown) = (Vec::new(), Vec::new());
    let mut rest = code;
    let mut outside = String::new();
    while let Some(at) = find_use(rest) {
        outside.push_str(&rest[..at]);
        let end = rest[at..].find(';').map_or(rest.len(), |length| at + length);
        let tree: String = rest[at + "use ".len()..end].split_whitespace().collect::<Vec<_>>().join(" ");
        let is_public = outside.ends_with("pub ") || outside.ends_with(") ");
        expand("", &tree, if is_public { &mut shown } else { &mut paths });
        rest = &rest[end..];
    }
    outside.push_str(rest);
    paths.extend(inline_paths(&outside));
    let words: BTreeSet<&str> = outside.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    // A function is often called as its module; a type's name is its own.
    let is_type = |item: &str| item.starts_with(char::is_uppercase);
    let is_used =
        |path: &str| path.rsplit("::").next().is_some_and(|item| is_type(item) && words.contains(item));
    // A door to a child's items is not a use of them.
    let is_door = |path: &str, module: &str| module.starts_with(&format!("{name}::")) && !is_used(path);
    let used = paths.iter().filter_map(|path| resolved(name, path, modules));
    let shown = shown.iter().filter_map(|path| {
        let module = resolved(name, path, modules)?;
        (!is_door(path, &module)).then_some(module)
    });
    used.chain(shown).filter(|module| module != name).collect()
}

/// The module whose file has what a path in the module `name` leads to.
fn resolved(name: &str, path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let mut words: Vec<&str> = path.split("::").collect();
    let mut base: Vec<&str> =
        if matches!(name, "lib" | "main") { Vec::new() } else { name.split("::").collect() };
    match words[0] {
        "crate" | "dokku_graduate" => {
            base.clear();
            words.remove(0);
        }
        "super" => {
            while words.first() == Some(&"super") {
                base.pop();
                words.remove(0);
            }
        }
        "self" => drop(words.remove(0)),
        first if modules.contains(&format!("{name}::{first}")) => {}
        _ => return None,
    }
    base.extend(&words);
    (1..=base.len()).rev().map(|length| base[..length].join("::")).find(|module| modules.contains(module))
}

/// Where the next `use` is that is a word of its own at the beginning of an item.
fn find_use(code: &str) -> Option<usize> {
    code.match_indices("use ").map(|(at, _)| at).find(|at| {
        let before = code[..*at].trim_end_matches(' ');
        before.is_empty() || before.ends_with(['\n', '{', ';', ')']) || before.ends_with("pub")
    })
}

/// `a::{b, c::{self, d}}` as `a::b`, `a::c`, `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, inner)) = tree.split_once('{') else {
        let path = format!("{prefix}{}", tree.split(" as ").next().unwrap_or(tree));
        paths.push(path.strip_suffix("::self").unwrap_or(&path).to_owned());
        return;
    };
    let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            if !inner[start..at].trim().is_empty() {
                expand(&format!("{prefix}{head}"), &inner[start..at], paths);
            }
            start = at + 1;
        }
    }
}

/// Paths of at least two words in what is not a `use`.
fn inline_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for word in code.split(|c: char| !is_part(c)) {
        if let Some((first, rest)) = word.split_once("::")
            && !first.is_empty()
            && !rest.is_empty()
        {
            paths.push(word.trim_end_matches(':').to_owned());
        }
    }
    paths
}

#[test]
fn what_is_read_is_what_stands_there() {
    let code = without_tests(&without_texts(
        "use crate::a::{self, b::{C, d}};\nlet x = '{'; let y = \"crate::no\"; // crate::no\nchild::f(r#\"\"}\"#);\n\
         #[cfg(test)]\nmod tests { use crate::t; }\npub(crate) use child::G;\nsuper::h::<'a>();\n",
    ));
    let modules = ["m", "m::child", "a", "a::b", "a::b::d", "h", "t", "no"].map(str::to_owned);
    let found = imports("m", &code, &BTreeSet::from(modules));
    assert_eq!(Vec::from_iter(found), ["a", "a::b", "a::b::d", "h", "m::child"]);
    assert_eq!(types("pub(crate) struct A<'a> {\nenum B;\n    type C = u8;\nstructure\n"), ["A", "B"]);
}
