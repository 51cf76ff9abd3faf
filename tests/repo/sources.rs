//! The width of comments, which `rustfmt` does not wrap, and the length of files.

use super::documents::{files, read, relative};

/// The `max_width` of `rustfmt.toml`.
const WIDTH: usize = 100;

/// The maximum number of lines of a file.
const LINES: usize = 400;

/// Returns the path and the text of every source file of the project.
fn sources() -> impl Iterator<Item = (String, String)> {
    let folders = [
        "benches",
        "examples",
        "fuzz/fuzz_targets",
        "fuzz/src",
        "src",
        "tests",
    ];
    let paths = folders.into_iter().flat_map(|folder| files(folder, ".rs"));
    paths.map(|path| {
        let path = relative(&path);
        let text = read(&path);
        (path, text)
    })
}

/// Returns the numbers of the comment lines that are too wide. The row of a table, and a line that
/// is one word, such as a URL, cannot be wrapped.
fn too_wide(source: &str) -> Vec<usize> {
    let is_too_wide = |line: &str| {
        let line = line.trim();
        let text = line.trim_start_matches(['/', '!']).trim_start();
        line.starts_with("//") && !text.starts_with('|') && text.contains(' ')
    };
    let wide = source
        .lines()
        .zip(1..)
        .filter(|(line, _)| line.chars().count() > WIDTH && is_too_wide(line));
    wide.map(|(_, number)| number).collect()
}

#[test]
fn comments_have_at_most_100_columns() {
    assert!(read("rustfmt.toml").contains(&format!("max_width = {WIDTH}\n")));
    let mut found = Vec::new();
    for (path, text) in sources() {
        let lines = too_wide(&text).into_iter();
        found.extend(lines.map(|line| format!("{path}:{line}")));
    }
    assert!(found.is_empty(), "wrap these comments: {found:#?}");
}

#[test]
fn files_have_at_most_400_lines() {
    let lengths: Vec<_> = sources()
        .map(|(path, text)| (text.lines().count(), path))
        .collect();
    assert!(lengths.len() > 500, "{} files", lengths.len());
    let long: Vec<_> = lengths.iter().filter(|(lines, _)| *lines > LINES).collect();
    assert!(long.is_empty(), "split these files by topic: {long:#?}");
}

#[test]
fn a_wide_comment_is_found() {
    let fits = format!("// {}é", "é ".repeat(48));
    assert_eq!(fits.chars().count(), WIDTH);
    let word = "é".repeat(WIDTH);
    let source = format!(
        "{fits}é\n    {fits}\n/{fits}\n{fits}\n\
         // {word}\n/// | {word} | {word} |\nlet text = \"{fits}\";\n"
    );
    assert_eq!(too_wide(&source), [1, 2, 3]);
}
