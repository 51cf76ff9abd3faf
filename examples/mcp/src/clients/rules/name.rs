//! The visible characters of a client's name.

use unicode_general_category::{GeneralCategory, get_general_category};

/// Returns the visible characters of a name, with single spaces between the words.
///
/// Removes the characters of the categories Cc, Cf, Cn, Co, Cs, Zl and Zp, and other invisible
/// characters (`Default_Ignorable_Code_Point`, and the Braille blank). Otherwise, one name could
/// look like another, or reverse the text around it.
pub(crate) fn visible(name: &str) -> String {
    let visible: String = name
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !is_hidden(*c))
        .collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_hidden(c: char) -> bool {
    use GeneralCategory::{
        Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, Surrogate, Unassigned,
    };
    let category = get_general_category(c);
    matches!(
        category,
        Control | Format | LineSeparator | ParagraphSeparator | PrivateUse | Surrogate | Unassigned
    ) || matches!(c, '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_contains_only_visible_characters() {
        for (name, seen) in [
            (" Bücher & <Co>\t名前 ", "Bücher & <Co> 名前"),
            ("Git\u{200b}Hub", "GitHub"),
            ("a\u{202e}b\u{2066}c\u{61c}d\u{200f}e", "abcde"),
            (
                "a\u{ad}\u{2060}\u{feff}\u{180e}\u{fff9}\u{1d173}\u{e0041}\u{600}\u{110bd}",
                "a",
            ),
            ("a\u{e000}\u{f0000}\u{378}\u{10ffff}\u{fffe}", "a"),
            (
                "a\u{34f}\u{115f}\u{3164}\u{ffa0}\u{fe0f}\u{e0100}\u{2800}b",
                "ab",
            ),
            ("a\u{2028}b\u{2029}c\u{85}d\u{a0}e\u{3000}f", "a b c d e f"),
            ("a\u{0}\u{7f}\u{9b}b", "ab"),
            ("\u{200b}\u{3164} \u{2063}", ""),
        ] {
            assert_eq!(visible(name), seen, "{name:?}");
        }
    }

    #[test]
    fn all_format_characters_are_removed() {
        let format = |c: &char| get_general_category(*c) == GeneralCategory::Format;
        let all: String = ('\0'..=char::MAX).filter(format).collect();
        assert!(
            all.chars().count() > 150,
            "the table contains format characters"
        );
        assert_eq!(visible(&all), "");
    }
}
