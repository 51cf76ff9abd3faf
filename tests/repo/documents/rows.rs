//! Every event, metric, error, warning and option has its row.

use super::*;

/// Returns the string literals of `source`.
fn literals(source: &str) -> Vec<String> {
    let code = code(source).replace(r"\\", "").replace("\\\"", "'");
    code.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Returns the arguments of a call. `rest` begins after the opening parenthesis.
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

/// Returns the longest part of a message that has no placeholder in it.
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

/// Returns the text between `begin` and the next `end`.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text
        .split_once(begin)
        .unwrap_or_else(|| panic!("{begin:?} is missing"));
    rest.split_once(end)
        .unwrap_or_else(|| panic!("{end:?} is missing"))
        .0
}

/// Asserts that `page` has a row for each of `all`, which are at least `least`. A row matches if a
/// cell is equal to it, or if the first cell has code that begins with it.
fn have_rows<S: AsRef<str>>(page: &str, what: &str, least: usize, all: &[S]) {
    let text = read(page);
    assert_rows(page, &text, what, least, all);
}

fn assert_rows<S: AsRef<str>>(page: &str, text: &str, what: &str, least: usize, all: &[S]) {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    let rows: Vec<Vec<_>> = rows
        .map(|row| row.trim_end_matches([' ', '|']).split(" | ").collect())
        .collect();
    let present = |one: &&str| {
        rows.iter()
            .any(|row| row.contains(one) || row[0].contains(&format!("`{one}")))
    };
    assert!(all.len() >= least, "found {} {what}", all.len());
    let wrong: Vec<_> = all
        .iter()
        .map(AsRef::as_ref)
        .filter(|one| !present(one))
        .collect();
    assert!(
        wrong.is_empty(),
        "{page} has no row for these {what}:\n{}",
        wrong.join("\n")
    );
}

const OPERATIONS: &str = "docs/operations.md";

#[test]
fn every_event_is_documented() {
    let kinds = EventKind::ALL;
    let row = |kind: &EventKind| {
        if kind.is_warning() {
            format!("**`{kind}`**")
        } else {
            format!("`{kind}`")
        }
    };
    let rows: Vec<_> = kinds.iter().map(row).collect();
    have_rows(OPERATIONS, "events", 20, &rows);
}

#[test]
fn every_metric_is_documented() {
    let paths = ["src/metrics/mod.rs", "examples/proxy/src/main.rs"];
    let names: BTreeSet<_> = paths
        .iter()
        .flat_map(|path| literals(&read(path)))
        .filter(|name| name.starts_with("oauth_") || name.starts_with("proxy_"))
        .collect();
    have_rows(
        OPERATIONS,
        "metrics",
        6,
        &names.into_iter().collect::<Vec<_>>(),
    );
}

#[test]
fn every_warning_and_error_of_the_log_is_documented() {
    let below = ["src", "examples/common/src", "examples/proxy/src"];
    have_rows(OPERATIONS, "lines of the log", 20, &log_messages(&below));
    let own = log_messages(&["examples/mcp/src"]);
    have_rows("examples/mcp/README.md", "lines of the log", 20, &own);
}

/// Returns the longest fixed part of every message that sources log as a warning or an error.
fn log_messages(directories: &[&str]) -> Vec<String> {
    let mut messages = BTreeSet::new();
    for path in directories.iter().flat_map(|below| files(below, ".rs")) {
        let source = code(&fs::read_to_string(&path).unwrap());
        for level in ["tracing::warn!(", "tracing::error!("] {
            for rest in source.split(level).skip(1) {
                let message = literals(arguments(rest)).pop();
                let message = message.unwrap_or_else(|| {
                    panic!("a log line without a message in {}", path.display())
                });
                messages.insert(fixed(&message).to_owned());
            }
        }
    }
    messages.into_iter().collect()
}

#[test]
fn every_error_is_documented() {
    let mut messages = Vec::new();
    for begin in [
        "pub enum RefreshError {",
        "pub enum RedisConnectError {",
        "pub enum PostgresConnectError {",
        "pub enum RedbOpenError {",
    ] {
        let source = source_of(begin);
        let attributes = between(&source, begin, "\n}\n").split("#[error(").skip(1);
        messages.extend(attributes.filter_map(|rest| literals(rest).into_iter().next()));
    }
    let messages: Vec<_> = messages
        .iter()
        .map(|message| fixed(message))
        .filter(|message| message.len() > 8)
        .collect();
    have_rows(OPERATIONS, "errors", 24, &messages);
}

/// Returns the source file of the library that contains `definition`.
fn source_of(definition: &str) -> String {
    let sources = files("src", ".rs").into_iter();
    sources
        .map(|path| fs::read_to_string(path).unwrap())
        .find(|source| source.contains(definition))
        .unwrap_or_else(|| panic!("no file below src contains {definition:?}"))
}

/// Returns the inherent `impl` blocks of a type, from all files of the library.
fn impls_of(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for path in files("src", ".rs") {
        let source = code(&fs::read_to_string(path).unwrap());
        for block in source.split("\nimpl").skip(1) {
            let (head, body) = block.split_once('{').unwrap();
            let is_inherent = !head.contains(" for ");
            if is_inherent
                && head
                    .split(|c: char| !c.is_alphanumeric())
                    .any(|word| word == name)
            {
                found.push(body.split("\n}").next().unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn every_option_is_documented() {
    let guide = read("docs/guide.md");
    for (layer, least) in [
        ("RefreshLayer", 33),
        ("AccessLayer", 20),
        ("TieredStore", 2),
        ("RedisStore", 6),
        ("PostgresStore", 8),
        ("RedbStore", 3),
    ] {
        let options: Vec<_> = impls_of(&format!("{layer}Builder"))
            .iter()
            .flat_map(|block| block.split("fn ").skip(1))
            .filter_map(|rest| rest.split_once('('))
            .filter(|(_, arguments)| arguments.trim_start().starts_with("mut self"))
            .map(|(name, _)| name.split('<').next().unwrap_or(name))
            .map(|name| format!("{name}`"))
            .collect();
        let heading = format!("### Builder of `{layer}`\n");
        let section = guide.split_once(&heading).expect(&heading).1;
        let section = section.split("\n### ").next().unwrap();
        assert_rows("docs/guide.md", section, "options", least, &options);
    }
}

/// The servers name their flags in the errors of the builders. An error that they do not know would
/// name the builder's method.
#[test]
fn the_servers_know_every_configuration_error() {
    let source = read("src/error.rs");
    let variants = between(&source, "pub enum ConfigError {", "\n}\n");
    let word = |text: &str| {
        let end = text.find(|c: char| !c.is_alphanumeric());
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let variants: BTreeSet<_> = variants
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_uppercase()))
        .map(word)
        .collect();
    assert!(variants.len() > 15, "{variants:?}");
    let servers = code(&read("examples/common/src/flags/config_error.rs"));
    let known: BTreeSet<_> = servers.split("ConfigError::").skip(1).map(word).collect();
    assert_eq!(variants, known);
}
