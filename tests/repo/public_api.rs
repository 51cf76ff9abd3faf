//! The public API: `public-api.txt` lists it, so that a change to it changes a file.
//!
//! rustdoc writes the API as JSON. The format of this JSON changes with Rust, and the crate
//! `public-api` reads one format. So one version of Rust makes the listing, whatever toolchain runs
//! the test.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use public_api::Builder;

/// The Rust whose rustdoc writes the format that `public-api` reads.
const RUST: &str = "1.95";

const UPDATE: &str =
    "UPDATE_PUBLIC_API=1 cargo test --all-features --test repo the_public_api_is_as_listed";

/// Parts of lines that do not belong to the API: the manual, implementation details of
/// `pin-project`, and traits that the compiler implements and that no program relies on.
const LEFT_OUT: [&str; 6] = [
    " tower_oauth_refresh::manual",
    "core::marker::Freeze for",
    "core::marker::StructuralPartialEq for",
    "core::marker::UnsafeUnpin for",
    "core::panic::unwind_safe::",
    "pin_project::__private",
];

/// Returns cargo of the toolchain that runs the test, or of [`RUST`] if that is another version.
fn cargo() -> Command {
    let version = Command::new("rustc").arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let version = version.trim_end();
    if version.starts_with(&format!("rustc {RUST}.")) {
        return Command::new(env!("CARGO"));
    }
    let toolchain = format!("{RUST}.0");
    let mut command = Command::new("rustup");
    command.args(["run", &toolchain, "cargo"]);
    let found = Command::new("rustup")
        .args(["run", &toolchain, "rustdoc", "--version"])
        .output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "the listing needs rustdoc of Rust {RUST}, and this is {version}. Install it: \
         `rustup toolchain install --profile minimal {toolchain}`. Or use a version of `public-api` \
         that reads the newer format, change `RUST` in {}, and update the listing: `{UPDATE}`",
        file!()
    );
    command
}

/// Returns the lines of the listing. Items with several paths are listed under their first one.
fn listing() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let output = cargo()
        .args([
            "rustdoc",
            "--lib",
            "--all-features",
            "--locked",
            "--offline",
        ])
        .arg("--target-dir")
        .arg(target)
        .args(["--", "-Z", "unstable-options", "--output-format", "json"])
        .env("RUSTDOC", root.join("tests/repo/rustdoc"))
        .env_remove("RUSTDOCFLAGS")
        .current_dir(root)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let api = Builder::from_rustdoc_json(target.join("doc/tower_oauth_refresh.json"))
        .omit_blanket_impls(true)
        .build()
        .unwrap();
    let mut seen = HashSet::new();
    api.items()
        .map(|item| format!("{item}\n"))
        .filter(|line| !LEFT_OUT.iter().any(|part| line.contains(part)))
        .filter(|line| seen.insert(line.clone()))
        .collect()
}

#[test]
fn the_public_api_is_as_listed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/repo/public-api.txt");
    let found = listing();
    if std::env::var_os("UPDATE_PUBLIC_API").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let listed = fs::read_to_string(&path).unwrap();
    let difference = |sign, lines: &str, others: &str| -> String {
        let others: HashSet<_> = others.lines().collect();
        let only = lines.lines().filter(|line| !others.contains(line));
        only.map(|line| format!("{sign} {line}\n")).collect()
    };
    assert!(
        found == listed,
        "the public API has changed:\n{}{}If this is wanted, update the listing, and state the \
         change in CHANGELOG.md: `{UPDATE}`",
        difference('-', &listed, &found),
        difference('+', &found, &listed)
    );
}
