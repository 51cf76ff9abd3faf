//! Checks that the documents match the code: named tests exist, links resolve, and every event,
//! metric, error, warning and option has its row.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use tower_oauth_refresh::EventKind;

/// The address of the API documentation, which is also that of the manual.
const DOCS_RS: &str = "https://docs.rs/tower-oauth-refresh/latest/tower_oauth_refresh/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the files below `directory` whose name ends with `ending`.
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
    assert!(!found.is_empty(), "no {ending} below {directory}");
    found
}

/// Returns the path from the root of the repository.
fn relative(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

/// Returns the documents of the repository.
fn documents() -> Vec<String> {
    let mut documents = vec![
        "README.md".to_owned(),
        "CHANGELOG.md".into(),
        "CONTRIBUTING.md".into(),
        "SECURITY.md".into(),
    ];
    for directory in ["docs", "examples"] {
        documents.extend(files(directory, ".md").iter().map(|path| relative(path)));
    }
    documents
}

/// Returns the pages of the manual without the ending: `threat-model`.
fn pages() -> BTreeSet<String> {
    let page = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    files("docs", ".md").into_iter().map(page).collect()
}

#[test]
fn the_readme_has_at_most_200_lines() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 200, "{lines} lines");
}

/// Rustdoc hides lines of code that begin with `#`, but other viewers of Markdown show them.
#[test]
fn no_code_of_the_readme_has_hidden_lines() {
    let readme = read("README.md");
    let hidden: Vec<_> = readme
        .split("```rust")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .flat_map(str::lines)
        .filter(|line| *line == "#" || line.starts_with("# "))
        .collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[test]
fn every_page_is_in_the_manual() {
    let manual = read("src/manual.rs");
    let modules: BTreeSet<_> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(" {}"))
        .map(|module| module.replace('_', "-"))
        .collect();
    let included: BTreeSet<_> = manual
        .split("include_str!(\"../docs/")
        .skip(1)
        .filter_map(|rest| rest.split("\")").next()?.strip_suffix(".md"))
        .map(str::to_owned)
        .collect();
    assert_eq!(modules, pages());
    assert_eq!(included, pages());
}

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
        "| a guarantee | `documents.rs` · `a_missing_test_is_found`, `nowhere`; `nothing.rs` |";
    let found: Vec<_> = named(text)
        .iter()
        .map(|(file, name)| missing(file, name))
        .collect();
    let expected = [
        None,
        None,
        Some("nowhere is not a test of documents.rs"),
        Some("there is no nothing.rs"),
    ];
    assert_eq!(found, expected.map(|why| why.map(str::to_owned)));
    assert_eq!(
        missing("repo/documents.rs", "missing"),
        Some("missing is not a test of repo/documents.rs".into())
    );
}

/// Returns the anchors of the headings, as rustdoc and GitHub make them.
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

/// Returns the targets of the links and link definitions of a document.
fn links(text: &str) -> Vec<&str> {
    let inline = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let definitions = text
        .lines()
        .filter(|line| line.starts_with('['))
        .filter_map(|line| Some(line.split_once("]: ")?.1.trim()));
    inline.chain(definitions).collect()
}

/// Whether the crate exports an item of this kind and name.
fn is_exported(kind: &str, name: &str) -> bool {
    let sources: Vec<_> = files("src", ".rs")
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let definition = format!("pub {kind} {name}");
    let defined = sources.iter().any(|source| {
        source
            .split(&definition)
            .skip(1)
            .any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    });
    let root = code(&read("src/lib.rs"));
    let exported = root
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .any(|word| word == name);
    defined && exported
}

/// Whether the built documentation has this page, given as the path behind [`DOCS_RS`].
fn is_in_the_docs(path: &str) -> bool {
    let (path, anchor) = path.split_once('#').unwrap_or((path, ""));
    if let Some(page) = path.strip_prefix("manual/") {
        let page = page.trim_end_matches('/').replace('_', "-");
        return pages().contains(&page)
            && (anchor.is_empty() || anchors(&read(&format!("docs/{page}.md"))).contains(anchor));
    }
    match path
        .strip_suffix(".html")
        .and_then(|item| item.split_once('.'))
    {
        Some((kind, name)) => {
            let method = anchor.strip_prefix("method.").unwrap_or(anchor);
            is_exported(kind, name)
                && (method.is_empty()
                    || files("src", ".rs").iter().any(|path| {
                        let source = fs::read_to_string(path).unwrap();
                        source.contains(&format!("fn {method}("))
                    }))
        }
        None => {
            let module = path.trim_end_matches('/');
            let names_it = |line: &str| {
                line == format!("pub mod {module};")
                    || (line.starts_with("pub use ") && line.ends_with(&format!("::{module};")))
            };
            module.is_empty() || read("src/lib.rs").lines().any(names_it)
        }
    }
}

#[test]
fn every_link_resolves() {
    let (mut local, mut documentation) = (0, 0);
    let mut wrong = Vec::new();
    for document in documents() {
        let text = read(&document);
        let here = root().join(&document);
        for link in links(&text) {
            if let Some(path) = link.strip_prefix(DOCS_RS) {
                documentation += 1;
                if !is_in_the_docs(path) {
                    wrong.push(format!("{document}: {link}"));
                }
                continue;
            }
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            local += 1;
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
    assert!(local > 20 && documentation > 40, "{local} {documentation}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The README and the manual are read on pages where a relative path leads nowhere.
#[test]
fn no_page_links_to_a_file_of_the_repository() {
    let pages = pages();
    let pages = pages.iter().map(|page| format!("docs/{page}.md"));
    for page in pages.chain(["README.md".to_owned()]) {
        let text = read(&page);
        let relative: Vec<_> = links(&text)
            .into_iter()
            .filter(|link| !link.contains("://") && !link.starts_with('#'))
            .filter(|link| !link.ends_with(".svg"))
            .collect();
        assert!(relative.is_empty(), "{page}: {relative:?}");
    }
}

#[test]
fn a_broken_link_to_the_docs_is_found() {
    for path in [
        "",
        "manual/threat_model/",
        "manual/operations/#events",
        "struct.ClientId.html",
        "trait.Store.html",
        "struct.RefreshLayer.html#method.drain",
        "path/",
    ] {
        assert!(is_in_the_docs(path), "{path}");
    }
    for path in [
        "manual/nowhere/",
        "manual/operations/#nowhere",
        "struct.Client.html",
        "enum.ClientId.html",
        "struct.RefreshLayer.html#method.nowhere",
        "grant/",
    ] {
        assert!(!is_in_the_docs(path), "{path}");
    }
}

/// Removes the comment lines of `source`.
fn code(source: &str) -> String {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

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
    let source = read("src/event.rs");
    let variants = between(&source, "pub enum EventKind {", "\n}\n");
    let variants = variants
        .lines()
        .filter(|line| line.ends_with(',') && !line.contains("//"))
        .count();
    let kinds = EventKind::ALL;
    assert_eq!(
        kinds.iter().collect::<HashSet<_>>().len(),
        variants,
        "EventKind::ALL"
    );
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
    let paths = [
        "examples/common/src/metrics/mod.rs",
        "examples/proxy/src/main.rs",
    ];
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
    let mut messages = BTreeSet::new();
    for path in [
        files("src", ".rs"),
        files("examples/common/src", ".rs"),
        files("examples/proxy/src", ".rs"),
    ]
    .concat()
    {
        let source = code(&fs::read_to_string(&path).unwrap());
        for level in ["tracing::warn!(", "tracing::error!("] {
            for rest in source.split(level).skip(1) {
                let message = literals(arguments(rest)).pop();
                messages.insert(message.unwrap_or_else(|| {
                    panic!("a log line without a message in {}", path.display())
                }));
            }
        }
    }
    let messages: Vec<_> = messages.iter().map(|message| fixed(message)).collect();
    have_rows(OPERATIONS, "lines of the log", 20, &messages);
}

#[test]
fn every_error_is_documented() {
    let mut messages = Vec::new();
    for begin in [
        "pub enum RefreshError {",
        "pub enum RedisConnectError {",
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
        ("AccessLayer", 19),
        ("TieredStore", 2),
        ("RedisStore", 6),
        ("RedbStore", 3),
    ] {
        let options: Vec<_> = impls_of(&format!("{layer}Builder"))
            .iter()
            .flat_map(|block| block.split("fn ").skip(1))
            .filter_map(|rest| rest.split_once('('))
            .filter(|(_, arguments)| arguments.trim_start().starts_with("mut self"))
            .map(|(name, _)| format!("{name}`"))
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
