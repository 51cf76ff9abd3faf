//! Discovery documents (OpenID Connect Discovery 1.0, RFC 8414). They contain the URLs of the
//! endpoints, and must not direct clients past the proxy.

mod check;
mod document;
mod rewrite;

pub(crate) use self::check::{Expected, warn_of_detours};
pub(crate) use self::rewrite::Discovery;

/// The last part of the two well-known paths.
const DOCUMENTS: [&str; 2] = ["openid-configuration", "oauth-authorization-server"];

/// The largest document that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// Returns whether a path may be that of a discovery document: `/.well-known/NAME`, with the path
/// of an issuer after it (RFC 8414 §3.1) or before it (OpenID Connect Discovery §4).
fn is_discovery(path: &str) -> bool {
    let Some((_, name)) = path.split_once("/.well-known/") else {
        return false;
    };
    DOCUMENTS.iter().any(|document| {
        name.strip_prefix(document)
            .is_some_and(|issuer| issuer.is_empty() || issuer.starts_with('/'))
    })
}

fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or(path)
}
