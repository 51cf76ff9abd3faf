use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::uri::PathAndQuery;
use percent_encoding::percent_encode_byte;

use super::scan::{Scan, scan};
use super::script::is_script;
use crate::wire::fold::{Folded, Unit, Units, fold};

/// The reason why a text is not a [`PathPrefix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPath {
    /// It does not begin with `/`, has a query or a fragment, or a character that a URI cannot
    /// have.
    #[error("not an absolute path without a query")]
    NotAbsolute,
    /// It looks like the pattern of a route (`/{tenant}/token`, `/*rest`, `/:tenant/token`). Paths
    /// are compared literally, so it would cover nothing.
    #[error(
        "paths are compared literally: `{{`, `}}`, `*` and segments that begin with `:` are not supported"
    )]
    Pattern,
    /// It can be read in more than one way, has `;parameters`, an encoded delimiter or a non-ASCII
    /// character, or a segment that begins with a blank or ends with a blank or a dot.
    #[error("the path can be read in more than one way")]
    Ambiguous,
}

/// A path and everything below it, in every spelling that is not
/// [ambiguous](super::PathClass::Ambiguous).
///
/// It keeps the spelling from which it was parsed. Requests are forwarded in that spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPrefix {
    text: String,
    /// The segments, decoded and in lower case.
    names: Vec<Vec<u8>>,
}

impl PathPrefix {
    /// Returns the path as it was configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the number of segments.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.names.len()
    }

    /// Returns whether `other` is this path or below it.
    #[must_use]
    pub fn encloses(&self, other: &Self) -> bool {
        self.covers(&other.text)
    }

    /// Returns whether some server could read `path` as this path or as one below it.
    ///
    /// `path` is the path of a request, without its query. These differences are ignored: case, one
    /// level of percent-encoding, empty segments, a trailing slash, `;parameters`, blanks and dots
    /// at the end of a segment, everything after a `.`, `:`, `%3f` or `%23` in the last segment of
    /// the prefix, and Unicode forms of ASCII letters.
    ///
    /// The result has no meaning for an ambiguous path. [`PathRules::find`](super::PathRules::find)
    /// refuses such paths.
    ///
    /// ```
    /// # use tower_oauth_refresh::path::PathPrefix;
    /// let token: PathPrefix = "/oauth/token".parse().unwrap();
    /// for path in ["/oauth/token/", "//OAuth/%74oken", "/oauth;v=1/token.js", "/oauth/token/x"] {
    ///     assert!(token.covers(path));
    /// }
    /// assert!(!token.covers("/oauth/tokens") && !token.covers("/oauth"));
    /// ```
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        self.spelling(path).is_some()
    }

    /// Returns the spelling of this prefix in `path`, if `path` is covered.
    pub(super) fn spelling(&self, path: &str) -> Option<Spelling> {
        self.read(path, false).map(|(spelling, _)| spelling)
    }

    /// Returns whether some server finds a covered path after a script in `path`: it drops the
    /// script (`/index.php/token`), its ending (`/oauth.php/token`), or everything up to it
    /// (`/cgi-bin/app.fcgi/token`).
    ///
    /// It is also `true` for a path that is covered anyway.
    pub(super) fn covers_behind_script(&self, path: &str) -> bool {
        let is_behind_script = |(at, _)| {
            let (before, path_info) = path.split_at(at);
            let segment = before.rsplit('/').next().unwrap_or_default();
            is_script(segment.as_bytes()) && self.covers(path_info)
        };
        self.read(path, true).is_some() || path.match_indices('/').any(is_behind_script)
    }

    /// Returns the configured path without a trailing slash.
    pub(super) fn trimmed(&self) -> &str {
        self.text.trim_end_matches('/')
    }

    /// Returns the spelling of this prefix in `path`, and the part after it, which is empty or
    /// begins with `/`. Returns `None` if `path` is not covered. With `drop_scripts`, a script
    /// before the prefix and the extension of a script are ignored.
    fn read<'p>(&self, path: &'p str, drop_scripts: bool) -> Option<(Spelling, &'p str)> {
        let mut rest = path;
        let mut worst = Spelling::Same;
        let mut names = self.names.as_slice();
        while let [name, following @ ..] = names {
            let segments = rest.strip_prefix('/')?;
            let end = segments.find('/').unwrap_or(segments.len());
            let (segment, after) = segments.split_at(end);
            rest = after;
            if is_nothing(segment) {
                continue;
            }
            let dropped = drop_scripts && is_script(segment.as_bytes());
            match spelling(segment.as_bytes(), name, following.is_empty() || dropped) {
                Some(spelling) => {
                    worst = worst.max(spelling);
                    names = following;
                }
                None if dropped => {}
                None => return None,
            }
        }
        Some((worst, rest))
    }

    /// Returns a covered path with the prefix as it is configured, and the rest in the normal form
    /// of RFC 3986 §6.2.2, without empty segments. Returns `None` if the prefix in `path` is not
    /// [the same](Spelling::Same), because the respelled path could then lead to another resource.
    pub(super) fn respell<'p>(&self, path: &'p str) -> Option<Cow<'p, str>> {
        let (Spelling::Same, rest) = self.read(path, false)? else {
            return None;
        };
        if path.strip_suffix(rest) == Some(self.trimmed()) && is_normal(rest) {
            return Some(Cow::Borrowed(path));
        }
        let mut respelled = String::with_capacity(self.text.len() + rest.len());
        respelled.push_str(self.trimmed());
        for segment in rest.split('/').filter(|segment| !is_nothing(segment)) {
            respelled.push('/');
            push_segment(&mut respelled, segment);
        }
        if rest.ends_with('/') || respelled.is_empty() {
            respelled.push('/');
        }
        Some(Cow::Owned(respelled))
    }

    /// Returns whether an allowed ambiguous path has a reading that this prefix covers.
    ///
    /// The path begins literally with `allowed`, followed by `rest`, which is fully decoded and has
    /// no dot segments. Every reading is therefore below `allowed`. Below it, every subsequence of
    /// the segments is a possible reading. If one of the segments is a script, every subsequence of
    /// the whole path is a possible reading.
    pub(super) fn may_cover(&self, allowed: &Self, rest: &[u8]) -> bool {
        if self.encloses(allowed) {
            return true;
        }
        let below = || rest.split(|byte| matches!(byte, b'/' | b'\\' | b';'));
        let mut all = allowed.names.iter().map(Vec::as_slice).chain(below());
        if all.clone().any(is_script) {
            return self
                .names
                .iter()
                .all(|name| all.any(|segment| is_name(segment, name, true)));
        }
        let above = allowed.names.iter().zip(&self.names);
        if allowed.depth() > self.depth()
            || !above.clone().all(|(one, other)| is_name(one, other, true))
        {
            return false;
        }
        let mut names = self.names.iter().skip(allowed.depth()).peekable();
        for fragment in below() {
            names.next_if(|name| is_name(fragment, name, true));
        }
        names.peek().is_none()
    }
}

impl FromStr for PathPrefix {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let parsed = text.parse::<PathAndQuery>();
        let is_path =
            text.starts_with('/') && parsed.is_ok_and(|parsed| parsed.as_str() == parsed.path());
        if !is_path || text.contains('#') {
            return Err(InvalidPath::NotAbsolute);
        }
        if is_pattern(text) {
            return Err(InvalidPath::Pattern);
        }
        let names = text
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(name)
            .collect::<Option<_>>();
        match names {
            Some(names) if scan(text.as_bytes()) == Scan::Plain => Ok(Self {
                text: text.to_owned(),
                names,
            }),
            _ => Err(InvalidPath::Ambiguous),
        }
    }
}

impl TryFrom<&str> for PathPrefix {
    type Error = InvalidPath;

    fn try_from(text: &str) -> Result<Self, InvalidPath> {
        text.parse()
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns whether a router would read the path as a pattern.
fn is_pattern(path: &str) -> bool {
    path.contains(['{', '}', '*'])
        || path
            .split('/')
            .any(|segment| segment.len() > 1 && segment.starts_with(':'))
}

/// Returns the name that a configured segment stands for. `None` if it could stand for several
/// names, or has characters that are ignored in requests.
fn name(segment: &str) -> Option<Vec<u8>> {
    let name: Vec<u8> = Units(segment.as_bytes())
        .map(|unit| match unit {
            Unit::Char { char, .. } if char.is_ascii_graphic() && !"/\\;?#%".contains(char) => {
                u8::try_from(char.to_ascii_lowercase()).ok()
            }
            Unit::Char { char: ' ', .. } => Some(b' '),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'+'));
    let odd = blank(name.first()) || blank(name.last()) || name.last() == Some(&b'.');
    (!odd).then_some(name)
}

/// Returns whether some server ignores the segment because it is empty or consists of parameters.
fn is_nothing(segment: &str) -> bool {
    let mut visible = folded(segment.as_bytes()).skip_while(is_blank);
    matches!(visible.next(), None | Some(Folded::Ascii(b';')))
}

/// The spelling of a prefix in a path, from the closest to the most distant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spelling {
    /// It differs in case, percent-encoding, blanks, empty segments and `;parameters` only.
    Same,
    /// It has a part that only some servers ignore: a format, the name of an operation after a
    /// colon, an encoded query, a dot or a non-ASCII character.
    Extended,
    /// It has a character that Unicode normalization turns into unknown ASCII characters.
    Unknown,
}

/// Returns whether some server reads the segment as `name`, which is in lower case.
fn is_name(segment: &[u8], name: &[u8], last: bool) -> bool {
    spelling(segment, name, last).is_some()
}

/// Returns the spelling of `name`, which is in lower case, in the segment. Returns `None` if no
/// server reads the segment as `name`.
fn spelling(segment: &[u8], name: &[u8], last: bool) -> Option<Spelling> {
    let visible = folded(segment).filter(|folded| *folded != Folded::Invisible);
    let mut found = visible.skip_while(is_blank);
    for wanted in name {
        match found.next() {
            Some(Folded::Ascii(byte)) if byte == *wanted => {}
            Some(Folded::Letters) => return Some(Spelling::Unknown),
            _ => return None,
        }
    }
    let mut units = Units(segment).take_while(|unit| !matches!(unit, Unit::Char { char: ';', .. }));
    let is_ascii = units.all(|unit| matches!(unit, Unit::Char { char, .. } if char.is_ascii()));
    let mut spelling = if is_ascii {
        Spelling::Same
    } else {
        Spelling::Extended
    };
    for folded in found {
        match folded {
            Folded::Ascii(b' ' | b'+') => {}
            // A format, as in the routes of Rails, or an alternate data stream of NTFS.
            Folded::Ascii(b'.' | b':') if last => return Some(Spelling::Extended),
            Folded::Ascii(b'.') => spelling = Spelling::Extended,
            Folded::Ascii(b';') => return Some(spelling),
            Folded::Ascii(b'?' | b'#') => return Some(Spelling::Extended),
            Folded::Letters => return Some(Spelling::Unknown),
            _ => return None,
        }
    }
    Some(spelling)
}

/// Decodes and folds the characters of a segment.
pub(super) fn folded(segment: &[u8]) -> impl Iterator<Item = Folded> + Clone {
    Units(segment).map(|unit| match unit {
        Unit::Char { char, .. } => fold(char),
        Unit::BadEscape { .. } | Unit::BadUtf8 => Folded::Other,
    })
}

pub(super) const fn is_blank(folded: &Folded) -> bool {
    matches!(folded, Folded::Ascii(b' ' | b'+'))
}

/// Returns whether `rest`, which is empty or begins with `/`, certainly is in the normal form: it
/// has no escapes, no empty segments, and no characters that some server ignores.
fn is_normal(rest: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*,=:@".contains(&byte);
    rest.bytes().all(is_plain) && !rest.contains("//")
}

/// Appends a segment in the normal form: unreserved characters are decoded, escapes have capital
/// letters, and characters that a path cannot contain are escaped.
fn push_segment(path: &mut String, segment: &str) {
    let mut buffer = [0; 4];
    for unit in Units(segment.as_bytes()) {
        // An unambiguous path has only characters.
        let Unit::Char { char, escaped } = unit else {
            continue;
        };
        let kept = char.is_ascii_alphanumeric()
            || "-._~".contains(char)
            || (!escaped && "!$&'()*+,;=:@".contains(char));
        if kept {
            path.push(char);
        } else {
            path.extend(
                char.encode_utf8(&mut buffer)
                    .bytes()
                    .map(percent_encode_byte),
            );
        }
    }
}
