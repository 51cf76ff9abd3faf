//! What the documents say of the code is so: every test that they name is there, every link leads
//! somewhere, and the operations page has every event, metric, error and warning.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below `directory` whose name ends so.
fn files(directory: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{directory}");
    found
}

/// The documents that go with the crate.
fn documents() -> Vec<String> {
    let mut documents = vec![
        "README.md".to_owned(),
        "CONTRIBUTING.md".into(),
        "SECURITY.md".into(),
    ];
    for directory in ["docs", "examples"] {
        let found = files(directory, ".md").into_iter();
        documents.extend(found.map(|path| {
            path.strip_prefix(root())
                .unwrap()
                .to_string_lossy()
                .into_owned()
        }));
    }
    documents
}

/// A piece of a line: whether it is between backticks, and what it is.
fn pieces(line: &str) -> impl Iterator<Item = (bool, &str)> {
    line.split('`')
        .enumerate()
        .map(|(number, piece)| (number % 2 == 1, piece))
}

/// The tests that a document names as `file.rs` · `name`, `name`: file and name, no name if it is
/// the whole file.
fn named(text: &str) -> Vec<(String, String)> {
    let mut named = Vec::new();
    for line in text.lines() {
        let mut file: Option<String> = None;
        let mut joint = "";
        for (code, piece) in pieces(line) {
            if !code {
                joint = piece.trim();
            } else if piece.ends_with(".rs") && !piece.contains(char::is_whitespace) {
                let path = if piece.contains('/') {
                    piece.to_owned()
                } else {
                    format!("tests/{piece}")
                };
                named.push((path.clone(), String::new()));
                file = Some(path);
            } else if let (Some(file), "·" | ",") = (&file, joint) {
                named.push((file.clone(), piece.to_owned()));
            } else {
                file = None;
            }
        }
    }
    named
}

/// Why `name` is no test of `file`.
fn missing(file: &str, name: &str) -> Option<String> {
    let Ok(source) = fs::read_to_string(root().join(file)) else {
        return Some(format!("there is no {file}"));
    };
    if name.is_empty() {
        return None;
    }
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    let Some(at) = lines.iter().position(|line| line.contains(&head)) else {
        return Some(format!("{file} has no {name}"));
    };
    let attributes = lines[..at]
        .iter()
        .rev()
        .take_while(|line| line.starts_with("#["));
    let mut attributes = attributes.copied();
    let test =
        attributes.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
    (!test).then(|| format!("{name} of {file} is no test"))
}

#[test]
fn every_test_that_is_named_is_there() {
    let mut wrong = Vec::new();
    for (document, least) in [("README.md", 40), ("docs/threat-model.md", 35)] {
        let named = named(&read(document));
        let names = named.iter().filter(|(_, name)| !name.is_empty()).count();
        assert!(names >= least, "{document} names {names} tests");
    }
    for document in documents() {
        let named = named(&read(&document)).into_iter();
        wrong
            .extend(named.filter_map(|(file, name)| {
                Some(format!("{document}: {}", missing(&file, &name)?))
            }));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_test_that_is_not_there_is_found_out() {
    let text = "| a promise | `documents.rs` · `a_test_that_is_not_there_is_found_out`, `nowhere`; `nothing.rs` |";
    let found: Vec<_> = named(text)
        .iter()
        .map(|(file, name)| missing(file, name))
        .collect();
    let expected = [
        None,
        None,
        Some("tests/documents.rs has no nowhere"),
        Some("there is no tests/nothing.rs"),
    ];
    assert_eq!(found, expected.map(|why| why.map(str::to_owned)));
    assert_eq!(
        missing("tests/documents.rs", "missing"),
        Some("missing of tests/documents.rs is no test".into())
    );
}

/// The names that a heading can be linked by.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| line.trim_start_matches('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim().to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect::<String>()
            .replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    let mut wrong = Vec::new();
    for document in documents() {
        let text = read(&document);
        let here = root().join(&document);
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                here.clone()
            } else {
                here.with_file_name("").join(path)
            };
            let found = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap_or_default()).contains(anchor));
            if !found {
                wrong.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(links > 20, "{links}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A piece of source without its comments.
fn code(source: &str) -> String {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The string literals of a piece of source.
fn literals(source: &str) -> Vec<String> {
    let code = code(source).replace(r"\\", "").replace("\\\"", "'");
    code.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// What stands between the parentheses of a call, of which the first one is open.
fn arguments(rest: &str) -> &str {
    let (mut open, mut quoted) = (1, false);
    let end = rest.char_indices().find(|(_, c)| {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => open += 1,
            ')' if !quoted => open -= 1,
            _ => {}
        }
        open == 0
    });
    end.map_or(rest, |(end, _)| &rest[..end])
}

/// What is always the same of a message: the longest piece between what is filled in.
fn fixed(message: &str) -> &str {
    let pieces = message
        .split('{')
        .flat_map(|piece| piece.rsplit('}').next())
        .flat_map(|piece| piece.split('`'));
    pieces
        .max_by_key(|piece| piece.len())
        .unwrap_or_default()
        .trim_matches([' ', ':', ',', ';'])
}

/// What stands between `begin` and the next `end`.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text
        .split_once(begin)
        .unwrap_or_else(|| panic!("{begin:?} is not there"));
    rest.split_once(end)
        .unwrap_or_else(|| panic!("{end:?} is not there"))
        .0
}

/// Asserts that the operations page has a row for every one of at least `least`: a cell that is it,
/// or a first one with code in it that begins with it.
fn have_rows<S: AsRef<str>>(what: &str, least: usize, all: &[S]) {
    let page = read("docs/operations.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let rows: Vec<Vec<_>> = rows
        .map(|row| row.trim_end_matches([' ', '|']).split(" | ").collect())
        .collect();
    let there = |one: &&str| {
        rows.iter()
            .any(|row| row.contains(one) || row[0].contains(&format!("`{one}")))
    };
    assert!(all.len() >= least, "{} {what} were found", all.len());
    let wrong: Vec<_> = all
        .iter()
        .map(AsRef::as_ref)
        .filter(|one| !there(one))
        .collect();
    assert!(
        wrong.is_empty(),
        "docs/operations.md has no row for these {what}:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_event_is_on_the_page_with_what_to_do() {
    let source = read("src/event.rs");
    let variants = between(&source, "pub enum EventKind {", "\n}\n");
    let variants = variants
        .lines()
        .filter(|line| line.ends_with(',') && !line.contains("//"))
        .count();
    let names = literals(between(&source, "pub const fn as_str", "\n    }\n"));
    assert_eq!(names.len(), variants);
    let warnings = between(&source, "pub const fn is_warning", "=> true");
    let warns = |name: &str| {
        let camel: String = name
            .split('_')
            .map(|word| word[..1].to_uppercase() + &word[1..])
            .collect();
        warnings
            .split_whitespace()
            .any(|word| word == format!("Self::{camel}"))
    };
    let rows: Vec<_> = names
        .iter()
        .map(|name| {
            if warns(name) {
                format!("**`{name}`**")
            } else {
                format!("`{name}`")
            }
        })
        .collect();
    have_rows("events", 20, &rows);
}

#[test]
fn every_metric_is_on_the_page() {
    let names = literals(&read("examples/proxy/metrics.rs"));
    let names: BTreeSet<_> = names
        .into_iter()
        .filter(|name| name.starts_with("oauth_") || name.starts_with("proxy_"))
        .collect();
    have_rows("metrics", 6, &names.into_iter().collect::<Vec<_>>());
}

#[test]
fn every_warning_and_error_of_the_log_is_on_the_page() {
    let mut messages = BTreeSet::new();
    for path in [
        files("src", ".rs"),
        files("examples/common", ".rs"),
        files("examples/proxy", ".rs"),
    ]
    .concat()
    {
        let source = code(&fs::read_to_string(&path).unwrap());
        for level in ["tracing::warn!(", "tracing::error!("] {
            for rest in source.split(level).skip(1) {
                let message = literals(arguments(rest)).pop();
                messages.insert(
                    message.unwrap_or_else(|| panic!("a line without words in {}", path.display())),
                );
            }
        }
    }
    let messages: Vec<_> = messages.iter().map(|message| fixed(message)).collect();
    have_rows("lines of the log", 20, &messages);
}

#[test]
fn every_error_at_the_start_and_of_the_layer_is_on_the_page() {
    let mut messages = Vec::new();
    for (path, begin) in [
        ("src/error.rs", "pub enum Error {"),
        ("src/store/redis/error.rs", "pub enum RedisConnectError {"),
        ("src/store/redb/error.rs", "pub enum RedbOpenError {"),
    ] {
        let source = read(path);
        let attributes = between(&source, begin, "\n}\n").split("#[error(").skip(1);
        messages.extend(attributes.filter_map(|rest| literals(rest).into_iter().next()));
    }
    let messages: Vec<_> = messages
        .iter()
        .map(|message| fixed(message))
        .filter(|message| message.len() > 8)
        .collect();
    have_rows("errors", 24, &messages);
}
