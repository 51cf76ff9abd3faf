//! The dependencies of the library and of the programs: only from crates.io, only under licences
//! that `deny.toml` allows, each in one version, and built by the promised Rust version. This
//! covers the platform of the test; cargo-deny covers all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The only crate that is published. The others are `publish = false`.
const LIBRARY: &str = "tower-oauth-refresh";

/// The packages that users build: the library, and the programs from a checkout.
const FOR_USERS: [&str; 3] = [LIBRARY, "mcp-oauth-proxy", "oauth-refresh-proxy"];

/// Features that need a newer Rust than the crate, the crates that need it, and the version. The
/// README lists them.
const NEWER: [(&str, &[&str], &str); 2] = [
    ("redb", &["redb"], "1.90"),
    ("postgres", &["sqlx", "sqlx-core", "sqlx-postgres"], "1.94"),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
}

#[derive(Clone, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    source: Option<String>,
    license: Option<String>,
    rust_version: Option<String>,
    /// The registries where it may be published: all if this is absent.
    publish: Option<Vec<String>>,
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Returns the metadata of this build, without using the network.
fn metadata() -> Metadata {
    let cargo = env!("CARGO");
    let version = String::from_utf8(run(cargo, &["-vV"])).unwrap();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    let arguments = [
        "metadata",
        "--format-version=1",
        "--locked",
        "--offline",
        "--all-features",
        "--filter-platform",
        host,
    ];
    serde_json::from_slice(&run(cargo, &arguments)).unwrap()
}

impl Metadata {
    /// Returns crates of the workspace and the packages that their users build with them. The
    /// metadata is not enough, because it includes the features that only tests enable.
    fn built_for(&self, crates: &[&str]) -> Vec<&Package> {
        let mut arguments = vec![
            "tree",
            "--locked",
            "--offline",
            "--all-features",
            "--edges=normal,build",
            "--prefix=none",
            "--format={p}",
        ];
        arguments.extend(crates.iter().flat_map(|name| ["--package", name]));
        let tree = run(env!("CARGO"), &arguments);
        let tree = String::from_utf8(tree).unwrap();
        let found: BTreeSet<_> = tree
            .lines()
            .filter_map(|line| line.split_once(" v"))
            .collect();
        let found: BTreeSet<_> = found
            .iter()
            .map(|(name, rest)| (*name, rest.split(' ').next().unwrap_or_default()))
            .collect();
        let is_there =
            |package: &&Package| found.contains(&(package.name.as_str(), package.version.as_str()));
        let packages: Vec<_> = self.packages.iter().filter(is_there).collect();
        assert_eq!(packages.len(), found.len(), "{found:?}");
        let names: Vec<_> = packages
            .iter()
            .map(|package| package.name.as_str())
            .collect();
        let of_programs = crates.len() > 1;
        assert!(
            names.contains(&"redis") && names.contains(&"moka"),
            "{names:?}"
        );
        assert_eq!(names.contains(&"axum"), of_programs, "{names:?}");
        assert!(!names.contains(&"test-support"), "{names:?}");
        packages
    }
}

/// Returns the strings of the list in `deny.toml` that begins with `begin`.
fn listed(begin: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml")).unwrap();
    let (_, rest) = text.split_once(&format!("\n{begin} = [\n")).unwrap();
    let (list, _) = rest.split_once("\n]").unwrap();
    let first = |line: &str| line.split('"').nth(1).map(str::to_owned);
    list.lines().filter_map(first).collect()
}

/// Returns whether an allowed licence can be chosen. An `OR` of `AND`s is rejected rather than
/// misread.
fn allowed(expression: &str, allow: &[String]) -> bool {
    let expression = expression.replace(['(', ')'], "").replace('/', " OR ");
    expression.split(" AND ").all(|part| {
        part.split(" OR ")
            .any(|one| allow.iter().any(|known| known == one.trim()))
    })
}

#[test]
fn all_dependencies_come_from_crates_io() {
    let metadata = metadata();
    let strangers = metadata
        .packages
        .iter()
        .filter(|package| !metadata.workspace_members.contains(&package.id));
    let strangers: Vec<_> = strangers
        .filter(|package| package.source.as_deref() != Some(CRATES_IO))
        .map(|package| (&package.name, &package.source))
        .collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn only_the_library_is_published() {
    let metadata = metadata();
    let published = metadata.packages.iter().filter(|package| {
        metadata.workspace_members.contains(&package.id)
            && !package.publish.as_ref().is_some_and(Vec::is_empty)
    });
    let published: Vec<_> = published.map(|package| &package.name).collect();
    assert_eq!(
        published,
        [LIBRARY],
        "CONTRIBUTING.md says how it is packed"
    );
}

#[test]
fn every_licence_is_allowed() {
    let (metadata, allow) = (metadata(), listed("allow"));
    let refused: Vec<_> = metadata
        .built_for(&FOR_USERS)
        .iter()
        .filter(|package| {
            !package
                .license
                .as_deref()
                .is_some_and(|licence| allowed(licence, &allow))
        })
        .map(|package| (&package.name, &package.license))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
    let rows = [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0 OR MIT", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("GPL-3.0", false),
        ("(MIT OR Apache-2.0) AND GPL-3.0", false),
        ("MIT-0", false),
    ];
    for (expression, expected) in rows {
        assert_eq!(allowed(expression, &allow), expected, "{expression}");
    }
}

#[test]
fn only_listed_crates_occur_in_two_versions() {
    let (metadata, skip) = (metadata(), listed("skip"));
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata.built_for(&FOR_USERS) {
        let listed = |known: &String| {
            let (name, version) = known.split_once('@').unwrap();
            package.name == name && package.version.starts_with(&format!("{version}."))
        };
        if !skip.iter().any(listed) {
            versions
                .entry(&package.name)
                .or_default()
                .insert(&package.version);
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(versions.is_empty(), "{versions:?}");
}

/// Returns the version of Rust that a package needs, as numbers.
fn parsed(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap_or(0))
}

#[test]
fn no_dependency_needs_a_newer_rust() {
    let metadata = metadata();
    let rust_of = |name: &str| {
        let package = metadata.packages.iter().find(|package| {
            package.name == name && metadata.workspace_members.contains(&package.id)
        });
        package.unwrap().rust_version.as_deref().unwrap()
    };
    let own = rust_of(LIBRARY);
    for (promised, crates) in [
        (own, &FOR_USERS[..1]),
        (rust_of(FOR_USERS[1]), &FOR_USERS[..]),
    ] {
        let too_new = |package: &&&Package| {
            let exception = NEWER
                .iter()
                .find(|(_, crates, _)| crates.contains(&package.name.as_str()))
                .map(|(.., version)| *version);
            let limit = parsed(exception.unwrap_or(promised)).max(parsed(promised));
            package
                .rust_version
                .as_deref()
                .is_some_and(|version| parsed(version) > limit)
        };
        let packages = metadata.built_for(crates);
        let too_new: Vec<_> = packages
            .iter()
            .filter(too_new)
            .map(|package| (&package.name, &package.rust_version))
            .collect();
        assert!(too_new.is_empty(), "newer than {promised}: {too_new:?}");
    }

    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let newer = NEWER.map(|(feature, _, version)| format!("`{feature}` (Rust {version})"));
    for stated in [format!("Minimum supported Rust: {own}")]
        .iter()
        .chain(&newer)
    {
        assert!(
            readme.contains(stated),
            "the README does not state: {stated}"
        );
    }
}

#[test]
fn the_workflow_runs_every_promised_rust() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let promised: BTreeSet<_> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("rust-version = "))
        .map(|version| version.trim_matches('"'))
        .chain(NEWER.map(|(.., version)| version))
        .collect();
    assert_eq!(promised.len(), 3, "{promised:?}");

    let workflow = fs::read_to_string(root.join(".github/workflows/ci.yml")).unwrap();
    let matrix: Vec<_> = promised
        .iter()
        .map(|version| format!("{version:?}"))
        .collect();
    let matrix = format!("rust: [{}]\n", matrix.join(", "));
    assert!(workflow.contains(&matrix), "{matrix}");
    for call in ["run: .ci/run\n", "run: .ci/run msrv\n"] {
        assert!(workflow.contains(call), "{call}");
    }

    let gate = fs::read_to_string(root.join(".ci/run")).unwrap();
    for version in promised {
        let (_, minor) = parsed(version);
        assert!(
            gate.contains(&format!("supported {minor} "))
                || gate.contains(&format!("supported {minor};")),
            "{version}"
        );
    }
}
