//! Paths that lie below one that `--resource-prefix` names.

use std::fmt;
use std::str::FromStr;

use http::uri::PathAndQuery;
use percent_encoding::percent_decode;

/// Where resources begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    text: String,
    names: Vec<Vec<u8>>,
}

impl Prefix {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// How many names it has.
    pub(crate) fn depth(&self) -> usize {
        self.names.len()
    }

    /// Whether the other one is this one or below it.
    pub(crate) fn encloses(&self, other: &Self) -> bool {
        other.names.starts_with(&self.names)
    }

    /// Whether any server could take `path` for this one or for one below it.
    ///
    /// It is read as the most obliging of servers would: escapes are decoded, slashes in escapes and backslashes
    /// separate, `.`, empty segments, `;parameters` and case do not count. What a `..` takes back is what servers agree
    /// on least, and no honest client sends one: then every path is covered from which leaving something out could make
    /// one below this.
    pub(crate) fn covers(&self, path: &str) -> bool {
        let mut wanted = self.names.as_slice();
        let (mut straight, mut back) = (true, false);
        for segment in Segments::of(path) {
            match wanted {
                _ if decoded(segment).eq(*b"..") => back = true,
                _ if is_nothing(segment) => {}
                [] => {}
                [name, rest @ ..] if folded(segment).eq(name.iter().copied()) => wanted = rest,
                _ => straight = false,
            }
        }
        wanted.is_empty() && (straight || back)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.parse::<PathAndQuery>();
        let is_path = text.starts_with('/') && parsed.is_ok_and(|parsed| parsed.as_str() == parsed.path());
        if !is_path || text.contains('#') {
            return Err("not a path such as /api".into());
        }
        if Segments::of(text).any(|segment| decoded(segment).eq(*b"..")) {
            return Err("it must not hold `..`".into());
        }
        let names = Segments::of(text).filter(|segment| !is_nothing(segment)).map(|name| folded(name).collect());
        Ok(Self { names: names.collect(), text: text.to_owned() })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The bytes of a segment without its parameters.
fn decoded(segment: &[u8]) -> impl Iterator<Item = u8> {
    percent_decode(segment).take_while(|byte| *byte != b';')
}

/// The same in small letters.
fn folded(segment: &[u8]) -> impl Iterator<Item = u8> {
    decoded(segment).map(|byte| byte.to_ascii_lowercase())
}

/// Whether the segment stays where it is.
fn is_nothing(segment: &[u8]) -> bool {
    decoded(segment).next().is_none() || decoded(segment).eq(*b".")
}

/// The segments of a path, still encoded.
struct Segments<'a>(Option<&'a [u8]>);

impl<'a> Segments<'a> {
    const fn of(path: &'a str) -> Self {
        Self(Some(path.as_bytes()))
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0?;
        let first = (0..rest.len()).find_map(|at| {
            let (before, after) = rest.split_at_checked(at)?;
            Some((before, after.get(separator(after)?..)?))
        });
        let (segment, rest) = first.map_or((rest, None), |(segment, rest)| (segment, Some(rest)));
        self.0 = rest;
        Some(segment)
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
    use super::*;

    #[test]
    fn paths() {
        let rows = [
            ("the same", "/api/v1", true),
            ("with a slash behind", "/api/v1/", true),
            ("below it", "/api/v1/orders/7", true),
            ("with more slashes", "//api///v1", true),
            ("in capitals", "/API/V1/x", true),
            ("a letter escaped", "/%61pi/v1", true),
            ("a capital letter escaped", "/%41pi/v1", true),
            ("an escaped slash", "/api%2fv1%2Forders", true),
            ("a backslash", "/api\\v1", true),
            ("an escaped backslash", "/api%5Cv1%5cx", true),
            ("dots", "/./api/%2e/v1", true),
            ("parameters", "/api;a=b/v1;c/x", true),
            ("escaped parameters", "/api/v1%3Ba", true),
            ("parameters alone", "/;a/api/v1", true),
            ("a way back", "/x/../api/v1", true),
            ("an escaped way back", "/x%2f%2e.%5Capi/v1", true),
            ("a way back in the middle", "/api/x/../v1", true),
            ("a way back beyond the root", "/../api/v1", true),
            ("a way back with parameters", "/x/..;a/api/v1", true),
            ("a way back that some servers do not go", "/api/v1/../../x", true),
            ("ways back of which some servers go one", "/api/..;/../v1", true),
            ("a way back from beside it, which some resolve otherwise", "/x/api/y/../v1", true),
            ("another one", "/login", false),
            ("a longer name", "/api/v11", false),
            ("a shorter name", "/api/v", false),
            ("above it", "/api", false),
            ("beside it", "/x/api/v1", false),
            ("with a name between", "/api/x/v1", false),
            ("a way back among others", "/x/../v1/api", false),
            ("a name with dots", "/api/..v1", false),
            ("escaped twice", "/%2561pi/v1", false),
            ("half an escape", "/api/v1%", false),
            ("the root", "/", false),
            ("nothing", "", false),
            ("the asterisk", "*", false),
        ];
        for prefix in ["/api/v1", "/API//v1/", "/%61pi/./v1"].map(|text| text.parse::<Prefix>().unwrap()) {
            for (sentence, path, expected) in rows {
                assert_eq!(prefix.covers(path), expected, "{sentence}: {path} below {prefix}");
            }
        }
        let root: Prefix = "/".parse().unwrap();
        assert!(["/", "", "*", "/x"].iter().all(|path| root.covers(path)), "everything is below the root");
    }

    #[test]
    fn nonsense_is_no_prefix() {
        for text in ["", "api", "*", "/a?x", "/a b", "/a#x", "https://a/b", "/a/../b", "/a/%2E."] {
            assert!(text.parse::<Prefix>().is_err(), "{text:?}");
        }
    }
}
