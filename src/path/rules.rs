use std::borrow::Cow;

use super::prefix::PathPrefix;
use super::scan::fully_decoded;
use super::{PathClass, classify};

/// What [`PathRules`] say about the path of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathMatch {
    /// No server takes the path for a guarded one.
    Open,
    /// The path is covered by the guarded prefix with this index; the first one if there are several.
    Guarded(usize),
    /// The path is ambiguous and not allowed to be, or some server could take it for a guarded one.
    Refused,
}

/// The paths that a guard protects, and the ones below which ambiguous paths are let through.
#[derive(Clone, Debug, Default)]
pub struct PathRules {
    guarded: Vec<PathPrefix>,
    allowed: Vec<PathPrefix>,
}

impl PathRules {
    /// Makes rules that guard the prefixes in `guarded`, the innermost first, and let ambiguous paths through below
    /// those in `allowed`.
    ///
    /// An ambiguous path is let through only if it begins with an allowed prefix byte for byte, holds nothing but
    /// encoded slashes, backslashes and percent signs that makes it ambiguous, has no dot segment in up to four levels
    /// of encoding, and has no reading that is guarded. What other servers make of the path is the risk of the
    /// operator.
    pub fn new(guarded: impl IntoIterator<Item = PathPrefix>, allowed: impl IntoIterator<Item = PathPrefix>) -> Self {
        Self { guarded: guarded.into_iter().collect(), allowed: allowed.into_iter().collect() }
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
            return if self.allows(path) { PathMatch::Open } else { PathMatch::Refused };
        }
        if let Some(index) = self.guarded.iter().position(|prefix| prefix.covers(path)) {
            return PathMatch::Guarded(index);
        }
        // `//a/token` is a reference to the host `a` for servers that resolve the path as a URL (RFC 3986 §4.2).
        match without_authority(path) {
            Some(path) if self.guarded.iter().any(|prefix| prefix.covers(path)) => PathMatch::Refused,
            _ => PathMatch::Open,
        }
    }

    /// Returns the path under which a request goes on that [`find`](Self::find) has found below the guarded prefix
    /// `index`: the prefix as configured, what is below it in the normal form of RFC 3986 §6.2.2, without empty
    /// segments.
    ///
    /// Returns `None` if that path belongs to another guarded prefix: then the request must be refused.
    #[must_use]
    pub fn canonical<'p>(&self, index: usize, path: &'p str) -> Option<Cow<'p, str>> {
        let respelled = self.guarded.get(index)?.respell(path)?;
        if respelled == path {
            return Some(Cow::Borrowed(path));
        }
        (self.find(&respelled) == PathMatch::Guarded(index)).then_some(Cow::Owned(respelled))
    }

    /// Whether an ambiguous path may go through.
    fn allows(&self, path: &str) -> bool {
        let below = |allowed: &PathPrefix| {
            let rest = path.strip_prefix(allowed.trimmed()).filter(|rest| rest.starts_with('/'))?;
            let rest = fully_decoded(rest.as_bytes())?;
            (!self.guarded.iter().any(|guarded| guarded.may_cover(allowed, &rest))).then_some(())
        };
        self.allowed.iter().find_map(below).is_some()
    }
}

/// The path of a network-path reference.
fn without_authority(path: &str) -> Option<&str> {
    let authority = path.strip_prefix("//")?.trim_start_matches('/');
    authority.get(authority.find('/')?..)
}
