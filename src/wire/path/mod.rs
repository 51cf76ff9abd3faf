//! Rules for guards: which paths servers read in different ways, and which paths a guarded prefix
//! covers.
//!
//! A guard compares the path of a request with the paths that it protects. The server behind the
//! guard may read the same path in another way: it may resolve `..` before or after decoding, read
//! `\` or `%2f` as a slash, or ignore case or `;parameters`. If the guard and the server read some
//! spelling differently, a client can pass the guard with it. The rules here leave no such
//! spelling:
//!
//! 1. A path that servers resolve to **different places** is [`Ambiguous`](PathClass::Ambiguous),
//!    and a guard must refuse it: no reading is right for every server.
//! 2. Every other path has one reading, up to differences that do not change the resource: case,
//!    one level of percent-encoding, empty segments, a trailing slash, `;parameters`, a `.format`.
//!    [`PathPrefix::covers`] ignores these differences, and covers everything below the prefix,
//!    because servers mount handlers by prefix.
//! 3. A guarded request is forwarded under the **configured** spelling, never under that of the
//!    client ([`PathRules::canonical`], [`replace_path`]). [`PathRules::canonical`] refuses a path
//!    if the configured spelling may lead to another resource (`/orders.csv`, `/orders:batchGet`).
//! 4. Some servers drop the name of a script from a path, or everything up to it: they serve
//!    `/index.php/token` as `/token`. [`PathRules::find`] refuses such a path if the rest is
//!    guarded. A script is recognized by its extension (`.php`, `.cgi`, `.fcgi`, `.pl`, `.py`,
//!    `.dll`, `.exe`, `.jsp`, `.aspx` and similar ones).
//!
//! [`RefreshLayer`](crate::RefreshLayer) applies these rules if
//! [`match_normalized_paths`](crate::RefreshLayerBuilder::match_normalized_paths) is set. They are
//! public for programs that also guard other paths, as `examples/proxy` does.
//!
//! # What is ambiguous
//!
//! - dot segments in any encoding, also with parameters or blanks: `/../`, `/%2e%2e/`, `/..;a/`,
//!   `/.. /`;
//! - `\`, `%5c`, `%2f` and `%25` (the characters after it may be decoded a second time);
//! - an invalid escape (`%`, `%zz`, `%u002f`);
//! - control characters, raw or encoded;
//! - segments that ASP.NET drops because they hold a session identifier: `/(S(x))/`;
//! - bytes that are not UTF-8, including overlong forms such as `%c0%af`;
//! - characters that Unicode normalization turns into one of these or into another delimiter (`／`,
//!   `．`, `‥`), and segments that consist of invisible characters;
//! - every path that does not begin with `/`: `*`, and the empty path of the authority form (RFC
//!   9112 §3.2).
//!
//! The path does not include the query, which may contain any characters. Other non-ASCII
//! characters and encoded spaces are not ambiguous.
//!
//! ```
//! use tower_oauth_refresh::path::{PathClass, PathMatch, PathPrefix, PathRules, classify};
//!
//! # fn main() -> Result<(), tower_oauth_refresh::path::InvalidPath> {
//! assert_eq!(classify("/caf%C3%A9//menu;v=2"), PathClass::Unambiguous);
//! assert_eq!(classify("/x%2f..%2fapi"), PathClass::Ambiguous);
//!
//! let api: PathPrefix = "/api".parse()?;
//! assert!(api.covers("/API/orders") && !api.covers("/apis"));
//!
//! let rules = PathRules::new([api], []);
//! assert_eq!(rules.find("/login"), PathMatch::Open);
//! assert_eq!(rules.find("//%61pi/orders/7"), PathMatch::Guarded(0));
//! assert_eq!(rules.find("/x/../api/orders"), PathMatch::Refused);
//! assert_eq!(rules.canonical(0, "//%61pi/orders/7").as_deref(), Some("/api/orders/7"));
//! # Ok(())
//! # }
//! ```

mod prefix;
mod rules;
mod scan;
mod script;
#[cfg(test)]
mod tests;

use http::Uri;
use http::uri::{InvalidUri, InvalidUriParts, PathAndQuery};

pub use self::prefix::{InvalidPath, PathPrefix};
pub use self::rules::{PathMatch, PathRules};
use self::scan::{Scan, fully_decoded, scan};

/// The class of a path: unambiguous if all servers resolve it to the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathClass {
    /// Servers agree, up to the differences that [`PathPrefix::covers`] ignores.
    Unambiguous,
    /// Servers resolve the path to different places.
    Ambiguous,
}

/// Classifies the path of a request, by the [rules of this module](self#what-is-ambiguous).
///
/// `path` is the result of [`Uri::path`], without the query. The scan reads the path once and does
/// not allocate.
#[must_use]
pub fn classify(path: &str) -> PathClass {
    match scan(path.as_bytes()) {
        Scan::Plain if path.starts_with('/') => PathClass::Unambiguous,
        _ => PathClass::Ambiguous,
    }
}

/// Returns whether some server could resolve `path` outside of the directory that it is appended
/// to.
///
/// A proxy that appends the path of a request to a base path must check this. The check is stricter
/// than resolving `..`: any dot segment counts as leaving, in up to four levels of encoding,
/// because servers disagree on what it removes. Every other ambiguity counts as leaving, too,
/// except an encoded slash, backslash or percent sign that is not followed by a dot segment.
///
/// ```
/// use tower_oauth_refresh::path::leaves_base;
///
/// assert!(leaves_base("/x%5cy/../../b") && leaves_base("/%252e%252e/b"));
/// assert!(!leaves_base("/projects/group%2Fname") && !leaves_base("/"));
/// ```
#[must_use]
pub fn leaves_base(path: &str) -> bool {
    !path.starts_with('/') || fully_decoded(path.as_bytes()).is_none()
}

/// The error of [`replace_path`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplacePathError {
    /// Path and query together are not valid in a URI, or are longer than 65,534 bytes.
    #[error("the path and the query together are not valid in a URI, or longer than 65534 bytes")]
    PathAndQuery(#[from] InvalidUri),
    /// The URI cannot have a path.
    #[error("the URI cannot have a path")]
    Parts(#[from] InvalidUriParts),
}

/// Returns `uri` with another path, and with the same scheme, authority and query.
///
/// # Errors
///
/// [`ReplacePathError`] if the result is not a valid URI.
///
/// ```
/// use tower_oauth_refresh::path::replace_path;
///
/// let uri = replace_path("http://as.example/%74oken?tenant=a".parse()?, "/token")?;
/// assert_eq!(uri, "http://as.example/token?tenant=a");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn replace_path(uri: Uri, path: &str) -> Result<Uri, ReplacePathError> {
    if uri.path() == path {
        return Ok(uri);
    }
    let mut parts = uri.into_parts();
    let query = parts.path_and_query.as_ref().and_then(PathAndQuery::query);
    let replaced = match query {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}"))?,
        None => PathAndQuery::try_from(path)?,
    };
    parts.path_and_query = Some(replaced);
    Ok(Uri::from_parts(parts)?)
}
