//! The layers of `src/`: a room is a folder or a file there, and rooms import only downwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Graph = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file outside of test and fuzz modules, by its module path.
fn modules() -> BTreeMap<Vec<String>, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(root()).expect("a path in src");
            let mut module: Vec<String> = relative
                .with_extension("")
                .iter()
                .map(|part| part.to_str().expect("UTF-8").to_owned())
                .collect();
            if module.last().is_some_and(|name| name == "mod") {
                module.pop();
            }
            let skipped = ["lib", "manual", "fuzzing", "model", "tests"];
            let is_source = path.extension().is_some_and(|extension| extension == "rs");
            if is_source && !module.iter().any(|part| skipped.contains(&part.as_str())) {
                found.insert(module, fs::read_to_string(&path).expect("source"));
            }
        }
    }
    assert!(found.len() > 50, "{}", found.len());
    found
}

/// The code of a file, without comments and unit tests.
fn code(source: &str) -> String {
    let code = source.split("\nmod tests {").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The paths that a module names with `crate`, `self` or `super`, from the root of the crate.
fn paths(module: &[String], code: &str) -> Vec<Vec<String>> {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    let mut found = Vec::new();
    for (at, _) in code.match_indices("::") {
        let head = code[..at]
            .rsplit(|char| !is_part(char))
            .next()
            .unwrap_or_default();
        let before = &code[..at - head.len()];
        let mut prefix = match head {
            _ if before.ends_with("::") => continue,
            "crate" => Vec::new(),
            "self" => module.to_vec(),
            "super" => module[..module.len() - 1].to_vec(),
            _ => continue,
        };
        expand(&code[at + 2..], &mut prefix, &mut found);
    }
    found
}

/// Expands the rest of a path, such as `a::{b::C, d}`, into single paths.
fn expand(rest: &str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let end = rest
        .find(|char: char| !(char.is_alphanumeric() || char == '_'))
        .unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    if name == "super" {
        prefix.pop();
    } else if !name.is_empty() && name != "self" {
        prefix.push(name.to_owned());
    }
    if name.is_empty() && rest.starts_with('{') {
        let mut depth = 0;
        let mut start = 1;
        for (at, char) in rest.char_indices() {
            depth += match char {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            if depth == 0 || (depth == 1 && char == ',') {
                expand(rest[start..at].trim(), &mut prefix.clone(), found);
                start = at + 1;
            }
            if depth == 0 {
                break;
            }
        }
    } else if let Some(after) = after.strip_prefix("::") {
        expand(after, prefix, found);
    } else {
        found.push(prefix.clone());
    }
}

/// Returns the imports between units. `unit` returns the unit of a module, or `None` to skip it.
fn graph(unit: impl Fn(&[String]) -> Option<String>) -> Graph {
    let modules = modules();
    let mut graph = Graph::new();
    for (module, source) in &modules {
        let Some(from) = unit(module) else { continue };
        let targets = graph.entry(from.clone()).or_default();
        for mut path in paths(module, &code(source)) {
            while !path.is_empty() && !modules.contains_key(&path) {
                path.pop();
            }
            if let Some(to) = unit(&path).filter(|to| !path.is_empty() && *to != from) {
                targets.insert(to);
            }
        }
    }
    graph
}

/// Removes what imports nothing that is left, until nothing changes. What remains is in a cycle or
/// imports one.
fn cycles(mut graph: Graph) -> Graph {
    loop {
        let free: BTreeSet<String> = graph
            .iter()
            .filter(|(_, targets)| targets.iter().all(|target| !graph.contains_key(target)))
            .map(|(unit, _)| unit.clone())
            .collect();
        if free.is_empty() {
            return graph;
        }
        graph.retain(|unit, _| !free.contains(unit));
    }
}

#[test]
fn no_room_imports_a_room_that_imports_it() {
    let rooms = graph(|module| module.first().cloned());
    for (from, to) in [
        ("refresh", "endpoint"),
        ("access", "endpoint"),
        ("endpoint", "store"),
        ("endpoint", "wire"),
    ] {
        assert!(rooms[from].contains(to), "{from} imports {to}: {rooms:?}");
    }
    let cycles = cycles(rooms);
    assert!(cycles.is_empty(), "{cycles:#?}");
}

#[test]
fn no_file_of_the_endpoints_imports_a_file_that_imports_it() {
    let files = graph(|module| {
        // A `mod.rs` may re-export its children, which do not import it.
        (module.first().map(String::as_str) == Some("endpoint") && module.len() > 1)
            .then(|| module.join("::"))
    });
    assert!(
        files["endpoint::token::refresh"].contains("endpoint::token::commit"),
        "{files:?}"
    );
    let cycles = cycles(files);
    assert!(cycles.is_empty(), "{cycles:#?}");
}

#[test]
fn documents_name_modules_that_exist() {
    let rooms = [
        "access/",
        "access_token/",
        "endpoint/",
        "grant/",
        "refresh/",
        "store/",
        "wire/",
    ];
    let mut named = 0;
    for document in ["docs/architecture.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document));
        for name in text.expect("a document").split('`').skip(1).step_by(2) {
            if name.contains("NAME") || !rooms.iter().any(|room| name.starts_with(room)) {
                continue;
            }
            named += 1;
            let path = root().join(name.trim_end_matches('/'));
            assert!(
                path.exists() || path.with_extension("rs").exists(),
                "{document}: {name}"
            );
        }
    }
    assert!(named > 20, "{named}");
}

#[test]
fn a_cycle_is_found() {
    let graph = |edges: &[(&str, &[&str])]| -> Graph {
        let targets = |to: &[&str]| to.iter().map(|to| (*to).to_owned()).collect();
        edges
            .iter()
            .map(|(from, to)| ((*from).to_owned(), targets(to)))
            .collect()
    };
    assert!(cycles(graph(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])).is_empty());
    let found = cycles(graph(&[
        ("a", &["b"]),
        ("b", &["c"]),
        ("c", &["b"]),
        ("d", &[]),
    ]));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    let module = ["x".to_owned(), "y".to_owned()];
    let found = paths(&module, "use super::z::{A, b::{self, C}};\ncrate::w::f()");
    let found: Vec<String> = found.iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["x::z::A", "x::z::b", "x::z::b::C", "w::f"]);
}
