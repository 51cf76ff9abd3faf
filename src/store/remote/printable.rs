/// Returns the text of a server for the log: at most 200 characters of printable ASCII.
pub(in crate::store) fn printable(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut printable = String::new();
    for character in text.chars() {
        let shown = if character == ' ' || character.is_ascii_graphic() {
            character.to_string()
        } else {
            character.escape_default().to_string()
        };
        if printable.len() + shown.len() > LONGEST {
            printable.push_str("...");
            break;
        }
        printable.push_str(&shown);
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_text_is_truncated_and_escaped() {
        assert_eq!(printable("ERR wrong 'get' \\ x"), "ERR wrong 'get' \\ x");
        assert_eq!(
            printable("a\nlevel=error\u{202e}\u{1b}[2J\0"),
            "a\\nlevel=error\\u{202e}\\u{1b}[2J\\u{0}"
        );
        for long in ["a".repeat(100_000), "\u{202e}".repeat(100_000)] {
            let cut = printable(&long);
            assert!(
                cut.len() <= 203 && cut.len() > 190 && cut.ends_with("..."),
                "{cut}"
            );
        }
        assert_eq!(printable(&"a".repeat(200)).len(), 200);
    }
}
