//! Documents name tests that exist.

use super::*;

/// Splits a line at its backticks. The flag is true for text between backticks.
fn pieces(line: &str) -> impl Iterator<Item = (bool, &str)> {
    line.split('`')
        .enumerate()
        .map(|(number, piece)| (number % 2 == 1, piece))
}

/// Returns the tests that a document names as `file.rs` · `name`, `name`: file and name. The name
/// is empty for the file itself.
fn named(text: &str) -> Vec<(String, String)> {
    let mut named = Vec::new();
    for line in text.lines() {
        let mut file: Option<String> = None;
        let mut separator = "";
        for (code, piece) in pieces(line) {
            if !code {
                separator = piece.trim();
            } else if piece.ends_with(".rs") && !piece.contains(char::is_whitespace) {
                named.push((piece.to_owned(), String::new()));
                file = Some(piece.to_owned());
            } else if let (Some(file), "·" | ",") = (&file, separator) {
                named.push((file.clone(), piece.to_owned()));
            } else {
                file = None;
            }
        }
    }
    named
}

/// Returns the sources of the tests that `file` names: a path, or the end of the path of a file in
/// any `tests` folder, such as `layer/rotation.rs`.
fn test_sources(file: &str) -> Vec<String> {
    let paths = if root().join(file).exists() {
        vec![root().join(file)]
    } else {
        let folders = ["tests", "examples"].into_iter();
        folders
            .flat_map(|folder| files(folder, ".rs"))
            .filter(|path| path.ends_with(file))
            .filter(|path| relative(path).split('/').any(|folder| folder == "tests"))
            .collect()
    };
    let sources = paths.iter();
    sources
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect()
}

/// Returns why `name` is not a test of `file`, or nothing if it is one.
fn missing(file: &str, name: &str) -> Option<String> {
    let sources = test_sources(file);
    if sources.is_empty() {
        return Some(format!("there is no {file}"));
    }
    if name.is_empty() || sources.iter().any(|source| is_test(source, name)) {
        return None;
    }
    Some(format!("{name} is not a test of {file}"))
}

fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    let Some(at) = lines.iter().position(|line| line.contains(&head)) else {
        return false;
    };
    lines[..at]
        .iter()
        .rev()
        .take_while(|line| line.starts_with("#["))
        .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
}

#[test]
fn every_named_test_exists() {
    let mut wrong = Vec::new();
    for (document, least) in [
        ("README.md", 8),
        ("docs/fault-injection.md", 15),
        ("docs/guarantees.md", 100),
        ("docs/threat-model.md", 35),
    ] {
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
fn a_missing_test_is_found() {
    let text =
        "| a guarantee | `named_tests.rs` · `a_missing_test_is_found`, `nowhere`; `nothing.rs` |";
    let found: Vec<_> = named(text)
        .iter()
        .map(|(file, name)| missing(file, name))
        .collect();
    let expected = [
        None,
        None,
        Some("nowhere is not a test of named_tests.rs"),
        Some("there is no nothing.rs"),
    ];
    assert_eq!(found, expected.map(|why| why.map(str::to_owned)));
    assert_eq!(
        missing("documents/named_tests.rs", "missing"),
        Some("missing is not a test of documents/named_tests.rs".into())
    );
}
