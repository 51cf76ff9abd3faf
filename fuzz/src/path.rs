use path_readings::{is_served, readings};
use tower_oauth_refresh::path::{PathMatch, PathPrefix, PathRules, leaves_base};
use url::Url;

use crate::split_line;

/// Checks the path rules. The input is a line with a prefix below which ambiguous paths are allowed
/// (ignored if it is not a valid prefix), and the path of a request.
pub fn path(input: &[u8]) {
    let (allowed, path) = split_line(input);
    let Ok(path) = std::str::from_utf8(path) else {
        return;
    };
    let allowed = std::str::from_utf8(allowed)
        .ok()
        .and_then(|text| text.parse::<PathPrefix>().ok());
    // The path of a request ends at a query or a fragment.
    let path = path.split(['?', '#']).next().unwrap_or_default();
    for guarded in ["/oauth/token", "/token", "/revoke"] {
        let prefix = guarded
            .parse::<PathPrefix>()
            .expect("the guarded path is a valid prefix");
        let rules = PathRules::new([prefix], allowed.clone());
        let found = rules.find(path);
        if found == PathMatch::Open {
            for (name, reading) in readings(path, whatwg(path)) {
                assert!(
                    !is_served(&reading, guarded),
                    "an open path is guarded: {name} reads {path:?} as {reading:?}, below {guarded}"
                );
            }
        }
        if let (PathMatch::Guarded(index), Some(canonical)) = (found, rules.canonical(0, path)) {
            assert_eq!(index, 0);
            let below = canonical
                .strip_prefix(guarded)
                .expect("the canonical path begins with the configured prefix");
            assert!(
                below.is_empty() || below.starts_with('/'),
                "{canonical} is not below {guarded}"
            );
            assert_eq!(
                rules.canonical(0, &canonical).as_deref(),
                Some(&*canonical),
                "the canonical path has another canonical form"
            );
        }
    }
    if !leaves_base(path) {
        let whole = format!("/base/a{path}");
        for (name, reading) in readings(&whole, whatwg(&whole)) {
            assert!(
                is_served(&reading, "/base/a"),
                "a path leaves its base: {name} reads {whole:?} as {reading:?}"
            );
        }
    }
}

/// Returns the pathname of Node's `new URL(path, base)`.
fn whatwg(path: &str) -> Option<String> {
    Url::parse("http://localhost")
        .ok()?
        .join(path)
        .ok()
        .map(|url| url.path().to_owned())
}
