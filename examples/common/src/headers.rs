//! Headers that a reverse proxy removes before it passes a message on.
//!
//! 1. Hop-by-hop headers, and headers that `Connection` nominates (RFC 9110 §7.6.1). Clients are
//!    not trusted: a nomination is ignored for headers that are meant for the recipient of the
//!    message. Otherwise the layer could check one request and the upstream could serve another,
//!    without the credentials or the content type that were checked. It is also ignored in a
//!    request of a trusted reverse proxy, which could have passed it on from its client: it would
//!    remove what that proxy has added.
//! 2. Headers that replace the path or the method of a request. The proxy guards the path and the
//!    method of the request line, and must not forward a header that replaces them.
//! 3. Headers that describe the client and the URL that it used, or name its user or certificate,
//!    unless they come from a trusted network.
//! 4. Other spellings of these headers: CGI, WSGI and their successors read `Content_Type` as
//!    `Content-Type`.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, Entry, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};

/// Headers that replace the path, the query or the method. They are removed even if they come from
/// a trusted network. Some have the names of CGI variables (RFC 3875 §4.1): gunicorn removes
/// `SCRIPT_NAME` from the beginning of the path, by default.
const REWRITING: [&str; 29] = [
    "http-method-override",
    "method-override",
    "path-info",
    "path-translated",
    "query-string",
    "request-method",
    "request-uri",
    "script-filename",
    "script-name",
    "x-envoy-original-dst-host",
    "x-envoy-original-method",
    "x-envoy-original-path",
    "x-http-method",
    "x-http-method-override",
    "x-http-path-override",
    "x-method",
    "x-method-override",
    "x-original-method",
    "x-original-path",
    "x-original-uri",
    "x-original-url",
    "x-override-method",
    "x-override-uri",
    "x-override-url",
    "x-rewrite-path",
    "x-rewrite-uri",
    "x-rewrite-url",
    "x-traversal-path",
    "x-tunnel-method",
];

/// Headers, other than `X-Forward…`, `…Forwarded…` and those with one of [`ADDRESS_ENDINGS`], that
/// describe the client or the URL that it used.
const FORWARDING: [&str; 19] = [
    "cf-connecting-ipv6",
    "cf-visitor",
    "cloudfront-viewer-address",
    "coming-from",
    "front-end-https",
    "x-appengine-user-ip",
    "x-azure-socketip",
    "x-coming-from",
    "x-envoy-external-address",
    "x-host",
    "x-http-host-override",
    "x-nf-client-connection-ip",
    "x-original-host",
    "x-originating-ip",
    "x-proxied-https",
    "x-proxyuser-ip",
    "x-scheme",
    "x-script-name",
    "x-url-scheme",
];

/// The ends of the names of headers with the address of the client. Each content delivery network
/// has a name of its own for it.
const ADDRESS_ENDINGS: [&str; 7] = [
    "client-ip",
    "clientip",
    "connecting-ip",
    "real-ip",
    "remote-addr",
    "remote-ip",
    "src-ip",
];

/// Headers in which reverse proxies and gateways name the user or the client whom they have
/// authenticated. Headers whose names begin with one of [`IDENTITY_PREFIXES`] do the same.
const IDENTITY: [&str; 15] = [
    "auth-user",
    "smuser",
    "x-anonymous-consumer",
    "x-apigateway-api-userinfo",
    "x-endpoint-api-userinfo",
    "x-forwarded-access-token",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-login",
    "x-forwarded-preferred-username",
    "x-forwarded-roles",
    "x-jwt-assertion",
    "x-user",
    "x-userinfo",
    "x-username",
];

const IDENTITY_PREFIXES: [&str; 27] = [
    // `$WSRU` and others of WebSphere.
    "-ws",
    "cf-access-",
    "iv-",
    "mellon-",
    "oidc-",
    "remote-",
    "shib-",
    "sm-",
    "tailscale-",
    "x-amzn-oidc-",
    "x-auth-request-",
    "x-auth-user",
    "x-authenticated-",
    "x-authentik-",
    "x-consumer-",
    "x-credential-",
    "x-forwarded-id-",
    "x-forwarded-user",
    "x-goog-authenticated-user-",
    "x-goog-iap-",
    "x-ms-client-principal",
    "x-ms-token-",
    "x-oidc-",
    "x-pomerium-",
    "x-remote-",
    "x-vouch-",
    "x-webauth-",
];

/// Prefixes of headers in which reverse proxies describe the certificate or the TLS connection of a
/// client (RFC 9440, and older conventions).
const CERTIFICATE_PREFIXES: [&str; 14] = [
    "client-cert",
    "ssl-",
    "wl-proxy-",
    "x-amzn-mtls-",
    "x-amzn-tls-",
    "x-arr-",
    "x-certificate-",
    "x-client-cert",
    "x-client-dn",
    "x-client-ssl",
    "x-client-verify",
    "x-mtls-",
    "x-ssl",
    "x-tls-",
];

/// Headers for the recipient of a message, which `Connection` cannot nominate.
const END_TO_END: [&str; 30] = [
    "age",
    "allow",
    "alt-svc",
    "cache-control",
    "clear-site-data",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "idempotency-key",
    "last-event-id",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "prefer",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "traceparent",
    "vary",
    "via",
    "x-requested-with",
];

/// Prefixes of the names of further headers that `Connection` cannot nominate.
const END_TO_END_PREFIXES: [&str; 8] = [
    "accept",
    "access-control-",
    "content-",
    "cross-origin-",
    "if-",
    "mcp-",
    "sec-",
    "x-forwarded",
];

/// Parts of the names of further headers that `Connection` cannot nominate. Gateways use many
/// different headers for identities and credentials.
const IDENTITY_PARTS: [&str; 16] = [
    "account", "api-key", "apikey", "assert", "auth", "cert", "client", "cookie", "csrf", "dpop",
    "ident", "secret", "session", "sign", "token", "user",
];

/// Removes hop-by-hop headers from a request or a response and, unless a trusted reverse proxy has
/// sent it, the headers that `Connection` nominates.
///
/// A `Content-Length` beside `Transfer-Encoding` is not the length of the content and goes, too
/// (RFC 9112 §6.3).
pub fn remove_hop_by_hop(headers: &mut HeaderMap, trusted: bool) {
    // Most messages have no such header.
    if !headers.keys().any(|name| is_hop_by_hop(name.as_str())) {
        return;
    }
    if !trusted {
        for name in nominated(headers) {
            headers.remove(name);
        }
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    remove_if(headers, is_hop_by_hop);
}

/// Joins the lines of `Cookie` into one. HTTP/2 clients may split it, and HTTP/1.1 servers expect
/// one line (RFC 9113 §8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let Entry::Occupied(mut entry) = headers.entry(COOKIE) else {
        return;
    };
    if entry.iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = entry
        .iter()
        .map(|crumb| crumb.as_bytes().trim_ascii())
        .filter(|crumb| !crumb.is_empty())
        .collect();
    // Parts of valid values are a valid value.
    if let Ok(mut joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        joined.set_sensitive(true);
        entry.insert(joined);
    }
}

/// Removes headers that could make the upstream serve a different request than the one that was
/// checked. Headers that describe the client or its user are kept if they come from a trusted
/// network.
pub fn remove_misleading(headers: &mut HeaderMap, trusted: bool) {
    remove_if(headers, |name| {
        is_any(name, &REWRITING)
            || (!trusted && (is_forwarding(name) || is_identity(name) || is_certificate(name)))
            || name == "proxy"
            || is_other_spelling(name)
    });
}

/// Removes headers that name a user, also those of a trusted network.
pub fn remove_users(headers: &mut HeaderMap) {
    // `X-Remote-Addr` names no user.
    remove_if(headers, |name| is_identity(name) && !names_an_address(name));
}

/// Removes headers with these names, which are in lower case, and other spellings of them.
pub fn remove_all(headers: &mut HeaderMap, names: &[&str]) {
    remove_if(headers, |name| is_any(name, names));
}

fn remove_if(headers: &mut HeaderMap, test: impl Fn(&str) -> bool) {
    let names: Vec<_> = headers
        .keys()
        .filter(|name| test(name.as_str()))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &str) -> bool {
    match name {
        "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" => true,
        "proxy-status" => false,
        name => name.starts_with("proxy-"),
    }
}

/// Returns the headers that `Connection` nominates, without the end-to-end headers.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter();
    let options = values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let names = options.filter_map(|option| HeaderName::from_bytes(option).ok());
    names.filter(|name| !is_end_to_end(name.as_str())).collect()
}

fn is_end_to_end(name: &str) -> bool {
    is_standard(name)
        || is_forwarding(name)
        || is_identity(name)
        || is_certificate(name)
        || IDENTITY_PARTS.iter().any(|part| name.contains(part))
}

fn is_standard(name: &str) -> bool {
    END_TO_END.contains(&name)
        || END_TO_END_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn is_forwarding(name: &str) -> bool {
    begins_with_any(name, &["x-forward"])
        || is_any(name, &FORWARDING)
        || names_an_address(name)
        || (0..name.len()).any(|at| {
            name.get(at..)
                .is_some_and(|rest| begins_with_any(rest, &["forwarded"]))
        })
}

fn is_identity(name: &str) -> bool {
    is_any(name, &IDENTITY) || begins_with_any(name, &IDENTITY_PREFIXES)
}

fn is_certificate(name: &str) -> bool {
    begins_with_any(name, &CERTIFICATE_PREFIXES)
}

/// Returns whether a server that treats all punctuation as `-` reads this name as one of the
/// headers above.
fn is_other_spelling(name: &str) -> bool {
    if name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return false;
    }
    let folded: String = name.bytes().map(|byte| char::from(folded(byte))).collect();
    is_hop_by_hop(&folded) || is_standard(&folded) || is_forwarding(&folded)
}

fn is_any(name: &str, known: &[&str]) -> bool {
    known.iter().any(|known| is_same(name, known))
}

fn begins_with_any(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| {
        name.get(..prefix.len())
            .is_some_and(|start| is_same(start, prefix))
    })
}

fn names_an_address(name: &str) -> bool {
    ADDRESS_ENDINGS.iter().any(|ending| {
        let end = name.len().checked_sub(ending.len());
        end.and_then(|end| name.get(end..))
            .is_some_and(|end| is_same(end, ending))
    })
}

/// Compares two lower-case names as a server does that treats all punctuation as `-`.
fn is_same(left: &str, right: &str) -> bool {
    left.len() == right.len()
        && left
            .bytes()
            .zip(right.bytes())
            .all(|(left, right)| folded(left) == right)
}

const fn folded(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() {
        byte
    } else {
        b'-'
    }
}
