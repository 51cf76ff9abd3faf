//! The width of comments, which `rustfmt` does not wrap.

use super::documents::{files, read, relative};

/// The `max_width` of `rustfmt.toml`.
const WIDTH: usize = 100;

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
    for folder in [
        "benches",
        "examples",
        "fuzz/fuzz_targets",
        "fuzz/src",
        "src",
        "tests",
    ] {
        for path in files(folder, ".rs") {
            let path = relative(&path);
            let lines = too_wide(&read(&path)).into_iter();
            found.extend(lines.map(|line| format!("{path}:{line}")));
        }
    }
    assert!(found.is_empty(), "wrap these comments: {found:#?}");
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
