use std::borrow::Cow;

use super::prefix::{PathPrefix, Spelling};
use super::scan::fully_decoded;
use super::{PathClass, classify};

/// The result of [`PathRules::find`] for the path of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathMatch {
    /// No server reads the path as a guarded one.
    Open,
    /// The guarded prefix with this index covers the path; the first one if several do.
    Guarded(usize),
    /// The path is ambiguous and not allowed, or some server could read it as a guarded one.
    Refused,
}

/// The prefixes that a guard protects, and the prefixes below which ambiguous paths may pass.
#[derive(Clone, Debug, Default)]
pub struct PathRules {
    guarded: Vec<PathPrefix>,
    allowed: Vec<PathPrefix>,
}

impl PathRules {
    /// Creates rules that guard the prefixes in `guarded`, the innermost first, and let ambiguous
    /// paths pass below the prefixes in `allowed`.
    ///
    /// An ambiguous path passes only if it begins with an allowed prefix byte for byte, is
    /// ambiguous only because of encoded slashes, backslashes and percent signs, has no dot segment
    /// in up to four levels of encoding, and has no guarded reading. The operator bears the risk of
    /// a server that reads the path in yet another way.
    pub fn new(
        guarded: impl IntoIterator<Item = PathPrefix>,
        allowed: impl IntoIterator<Item = PathPrefix>,
    ) -> Self {
        Self {
            guarded: guarded.into_iter().collect(),
            allowed: allowed.into_iter().collect(),
        }
    }

    /// Returns the guarded prefixes.
    #[must_use]
    pub fn guarded(&self) -> &[PathPrefix] {
        &self.guarded
    }

    /// Finds the guarded prefix that covers the path of a request, without its query.
    ///
    /// It does not allocate for a path that is not ambiguous.
    #[must_use]
    pub fn find(&self, path: &str) -> PathMatch {
        if classify(path) == PathClass::Ambiguous {
            return if self.allows(path) {
                PathMatch::Open
            } else {
                PathMatch::Refused
            };
        }
        let behind_script =
            |prefix: &PathPrefix| prefix.covers_behind_script(path) && !prefix.covers(path);
        if may_have_script(path) && self.guarded.iter().any(behind_script) {
            return PathMatch::Refused;
        }
        for (index, prefix) in self.guarded.iter().enumerate() {
            match prefix.spelling(path) {
                // The path may or may not be the guarded one.
                Some(Spelling::Unknown) => return PathMatch::Refused,
                Some(Spelling::Same | Spelling::Extended) => return PathMatch::Guarded(index),
                None => {}
            }
        }
        // `//a/token` is a reference to the host `a` for servers that resolve the path as a URL
        // (RFC 3986 §4.2).
        let mut guarded = self.guarded.iter();
        match without_authority(path) {
            Some(path) if guarded.any(|prefix| prefix.covers_behind_script(path)) => {
                PathMatch::Refused
            }
            _ => PathMatch::Open,
        }
    }

    /// Returns the path under which to forward a request that [`find`](Self::find) found below the
    /// guarded prefix `index`: the prefix as configured, and the rest in the normal form of RFC
    /// 3986 §6.2.2, without empty segments.
    ///
    /// Returns `None` if the request must be refused because the path may lead to another resource
    /// than the configured one. This is the case if the canonical path belongs to another guarded
    /// prefix; if the last segment of the prefix has a format or an operation in `path`
    /// (`/orders.csv`, `/orders:batchGet`); or if any segment of the prefix has an encoded query, a
    /// dot at its end or a non-ASCII character. A guard with a single handler for everything below
    /// a prefix, such as a token endpoint, can forward the configured path instead.
    ///
    /// It does not allocate for a path of plain segments that has the configured spelling.
    #[must_use]
    pub fn canonical<'p>(&self, index: usize, path: &'p str) -> Option<Cow<'p, str>> {
        let respelled = self.guarded.get(index)?.respell(path)?;
        if respelled == path {
            return Some(Cow::Borrowed(path));
        }
        (self.find(&respelled) == PathMatch::Guarded(index)).then_some(respelled)
    }

    /// Returns whether an ambiguous path may pass.
    fn allows(&self, path: &str) -> bool {
        self.allowed.iter().any(|allowed| {
            let rest = path.strip_prefix(allowed.trimmed());
            let rest = rest.filter(|rest| rest.starts_with('/'));
            let decoded = rest.and_then(|rest| fully_decoded(rest.as_bytes()));
            decoded.is_some_and(|rest| {
                let mut guarded = self.guarded.iter();
                !guarded.any(|guarded| guarded.may_cover(allowed, &rest))
            })
        })
    }
}

/// Returns whether the path has a dot, an escape or a non-ASCII character.
fn may_have_script(path: &str) -> bool {
    path.bytes()
        .any(|byte| matches!(byte, b'.' | b'%') || !byte.is_ascii())
}

/// Returns the path of a network-path reference.
fn without_authority(path: &str) -> Option<&str> {
    let authority = path.strip_prefix("//")?.trim_start_matches('/');
    authority.get(authority.find('/')?..)
}
