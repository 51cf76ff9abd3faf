//! Paths that a normalising server would take for one another.

use percent_encoding::percent_decode;

/// Whether a server that tidies up its paths could take `request_path` for `path`.
///
/// Both are read as the most obliging of servers would: escapes are decoded, slashes in escapes and backslashes
/// separate, `.` and `..` are resolved, empty segments, `;parameters`, case and a format behind the last segment
/// (`/token.json`, as routes of Rails have it) do not count.
pub(crate) fn same_path_normalized(request_path: &str, path: &str) -> bool {
    let (mut left, mut right) = (Segments::of(request_path), Segments::of(path));
    match (left.next(), right.next()) {
        (None, None) => return true,
        (Some(left), Some(right)) if same_name_but_format(left, right) => {}
        _ => return false,
    }
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(left), Some(right)) if same_name(left, right) => {}
            _ => return false,
        }
    }
}

fn same_name(left: &[u8], right: &[u8]) -> bool {
    folded(left).eq(folded(right))
}

fn same_name_but_format(left: &[u8], right: &[u8]) -> bool {
    let mut left = folded(left);
    folded(right).all(|byte| left.next() == Some(byte)) && left.next().is_none_or(|byte| byte == b'.')
}

fn folded(segment: &[u8]) -> impl Iterator<Item = u8> {
    decoded(segment).map(|byte| byte.to_ascii_lowercase())
}

/// The bytes of a segment without its parameters.
fn decoded(segment: &[u8]) -> impl Iterator<Item = u8> {
    percent_decode(segment).take_while(|byte| *byte != b';')
}

/// The segments of a path from the last one to the first, still encoded. Backwards, because a `..` then only has to be
/// counted.
struct Segments<'a> {
    rest: Option<&'a [u8]>,
    /// How many of the segments to come are taken back by a `..` behind them.
    skip: usize,
}

impl<'a> Segments<'a> {
    const fn of(path: &'a str) -> Self {
        Self { rest: Some(path.as_bytes()), skip: 0 }
    }

    /// The next segment as it is written.
    fn pop(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let last = (0..rest.len()).rev().find_map(|at| {
            let (before, after) = rest.split_at_checked(at)?;
            Some((before, after.get(separator(after)?..)?))
        });
        let (rest, segment) = last.map_or((None, rest), |(rest, segment)| (Some(rest), segment));
        self.rest = rest;
        Some(segment)
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(segment) = self.pop() {
            if decoded(segment).eq(*b"..") {
                self.skip += 1;
            } else if decoded(segment).eq(*b".") || decoded(segment).next().is_none() {
                // It stays where it is.
            } else if self.skip > 0 {
                self.skip -= 1;
            } else {
                return Some(segment);
            }
        }
        None
    }
}

/// The length of the separator that this begins with.
const fn separator(text: &[u8]) -> Option<usize> {
    match text {
        [b'/' | b'\\', ..] => Some(1),
        [b'%', b'2', b'F' | b'f', ..] | [b'%', b'5', b'C' | b'c', ..] => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{percent_decode, same_path_normalized};

    #[test]
    fn paths() {
        let rows = [
            ("the same", "/oauth/token", true),
            ("with a slash behind", "/oauth/token/", true),
            ("with two slashes", "//oauth//token//", true),
            ("in capitals", "/OAuth/TOKEN", true),
            ("a letter escaped", "/oauth/%74oken", true),
            ("a capital letter escaped", "/oauth/%54oken", true),
            ("an escaped slash", "/oauth%2Ftoken", true),
            ("an escaped slash in small letters", "%2foauth/token", true),
            ("a backslash", "/oauth\\token", true),
            ("an escaped backslash", "/oauth%5ctoken", true),
            ("dots", "/./oauth/././token/.", true),
            ("escaped dots", "/%2e/oauth/%2E/token", true),
            ("a way back", "/oauth/x/../token", true),
            ("an escaped way back", "/oauth/x%2f.%2e%5Ctoken", true),
            ("two ways back", "/oauth/x/y/../../token", true),
            ("a way back beyond the root", "/../../oauth/token", true),
            ("a way back from the end", "/oauth/token/x/..", true),
            ("a way back over a slash", "/oauth/x//../token", true),
            ("parameters", "/oauth;v=1/token;a=b;c", true),
            ("escaped parameters", "/oauth/token%3Ba", true),
            ("a way back with parameters", "/oauth/x/..;a/token", true),
            ("parameters alone", "/;a/oauth/token", true),
            ("without a slash before", "oauth/token", true),
            ("a format", "/oauth/token.json", true),
            ("an escaped format, in capitals", "/oauth/TOKEN%2EXML/", true),
            ("a dot behind", "/oauth/token.", true),
            ("a format within", "/oauth.json/token", false),
            ("a format of a longer name", "/oauth/tokens.json", false),
            ("another one", "/oauth/authorize", false),
            ("a longer name", "/oauth/tokens", false),
            ("a shorter name", "/oauth/toke", false),
            ("below it", "/oauth/token/x", false),
            ("above it", "/oauth", false),
            ("beside it", "/x/oauth/token", false),
            ("a way back to above it", "/oauth/token/..", false),
            ("a way back that is none", "/oauth/x/.../token", false),
            ("a name with dots", "/oauth/..token", false),
            ("escaped twice", "/oauth/%2574oken", false),
            ("half an escape", "/oauth/token%", false),
            ("the root", "/", false),
            ("nothing", "", false),
            ("the asterisk", "*", false),
        ];
        for (sentence, request_path, expected) in rows {
            assert_eq!(same_path_normalized(request_path, "/oauth/token"), expected, "{sentence}");
        }
        assert!(same_path_normalized("//", "/"), "the root is the root");
    }

    /// The same in so many steps.
    fn normalized(path: &str) -> Vec<Vec<u8>> {
        let decoded: Vec<u8> = percent_decode(path.as_bytes()).collect();
        let mut names = Vec::new();
        for segment in decoded.to_ascii_lowercase().split(|byte| matches!(byte, b'/' | b'\\')) {
            match segment.split(|byte| *byte == b';').next().unwrap_or_default() {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name.to_vec()),
            }
        }
        names
    }

    fn is_same(request_path: &str, path: &str) -> bool {
        let (mut request, mut path) = (normalized(request_path), normalized(path));
        let (asked, last) = (request.pop(), path.pop());
        let (Some(asked), Some(last)) = (&asked, &last) else { return asked == last };
        request == path && asked.strip_prefix(&last[..]).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
    }

    fn any_path() -> impl Strategy<Value = String> {
        const PIECES: &[&str] = &[
            "/",
            "/",
            "/",
            "//",
            "\\",
            "%2f",
            "%2F",
            "%5c",
            "%5C",
            "..",
            "/../",
            ".",
            "%2e",
            "%2E.",
            "token",
            "token.x",
            "TOKEN",
            "%74oken",
            "oauth",
            "oauth/token",
            ";",
            ";a=b",
            "%3b",
            "%",
            "%2",
            "%25",
            "x",
            "\u{e4}",
        ];
        proptest::collection::vec(proptest::sample::select(PIECES), 0..10).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn it_is_what_normalising_would_say(request_path in any_path(), path in any_path()) {
            for path in [&*path, "/oauth/token", "/token", "/"] {
                let expected = is_same(&request_path, path);
                prop_assert_eq!(same_path_normalized(&request_path, path), expected, "{}", path);
            }
        }

        #[test]
        fn what_is_written_in_another_way_is_the_same(path in any_path()) {
            let written: String = normalized(&path)
                .iter()
                .flat_map(|name| ["%2F".to_owned(), name.iter().map(|byte| format!("%{byte:02X}")).collect()])
                .collect();
            prop_assert!(same_path_normalized(&path, &written), "{}", written);
        }

        #[test]
        fn any_text_is_judged(left in "\\PC{0,40}", right in "\\PC{0,40}") {
            prop_assert_eq!(same_path_normalized(&left, &right), is_same(&left, &right));
        }
    }
}
