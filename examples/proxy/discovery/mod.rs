//! Discovery documents (OpenID Connect Discovery 1.0, RFC 8414): they tell clients where the
//! endpoints are, and must not lead them around the proxy.

mod check;
mod document;
mod rewrite;

pub(crate) use self::check::{Expected, warn_of_detours};
pub(crate) use self::rewrite::Discovery;

/// The last part of the two well-known paths.
const DOCUMENTS: [&str; 2] = ["openid-configuration", "oauth-authorization-server"];

/// The largest document that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// Whether a discovery document may lie there: `/.well-known/NAME`, with the path of an issuer
/// behind it (RFC 8414 §3.1) or in front (OpenID Connect Discovery §4).
fn is_discovery(path: &str) -> bool {
    let Some((_, name)) = path.split_once("/.well-known/") else {
        return false;
    };
    DOCUMENTS.iter().any(|document| {
        name.strip_prefix(document)
            .is_some_and(|issuer| issuer.is_empty() || issuer.starts_with('/'))
    })
}
