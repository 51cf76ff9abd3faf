//! Checks that the documents match the code: named tests exist, links resolve, and every event,
//! metric, error, warning and option has its row.

#[cfg(feature = "metrics")]
mod dashboards;
mod links;
mod named_tests;
mod rows;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use tower_oauth_refresh::EventKind;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the files below `directory` whose name ends with `ending`.
pub(crate) fn files(directory: &str, ending: &str) -> Vec<PathBuf> {
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
pub(crate) fn relative(path: &Path) -> String {
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

/// The servers of `tests/matrix` are the ones that `docs/deployment.md` states.
#[test]
fn every_tested_redis_server_is_documented() {
    let matrix = read("tests/matrix");
    let tested: Vec<_> = matrix
        .lines()
        .filter_map(|line| Some(line.strip_prefix("    '")?.split_once(" | ")?.0))
        .collect();
    let page = read("docs/deployment.md");
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("Tested servers: ")?.strip_suffix('.'))
        .unwrap();
    let stated: Vec<_> = line.split(", ").collect();
    assert_eq!(stated.len(), tested.len(), "{stated:?} {tested:?}");
    for (stated, tested) in stated.iter().zip(&tested) {
        // Debian determines the last number of its version.
        let rest = stated.strip_prefix(tested);
        assert!(
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
            "{stated} is documented, but {tested} is tested"
        );
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
