//! What a proxy must do to headers.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use http::header::{
    CONNECTION, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{Uri, Version};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const HOP_BY_HOP: [HeaderName; 8] =
    [CONNECTION, KEEP_ALIVE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// Removes what is meant for the next hop alone (RFC 9110 §7.6.1).
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in nominated(headers) {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    let of_proxies = |name: &&HeaderName| name.as_str().starts_with("proxy-") && *name != "proxy-status";
    let rest: Vec<_> = headers.keys().filter(of_proxies).cloned().collect();
    for name in rest {
        headers.remove(name);
    }
}

/// The headers that `Connection` names.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close") {
                continue;
            }
            // What proxies in front of this one say of the client is not the client's to remove.
            let about_client = option.eq_ignore_ascii_case(FORWARDED.as_str().as_bytes())
                || option.to_ascii_lowercase().starts_with(b"x-forwarded-");
            if let (false, Ok(name)) = (about_client, HeaderName::from_bytes(option)) {
                names.push(name);
            }
        }
    }
    names
}

/// What is said of the client of one connection.
#[derive(Debug)]
pub(crate) struct Client {
    address: HeaderValue,
    proto: HeaderValue,
    /// `for=192.0.2.1;proto=http`
    forwarded: String,
}

impl Client {
    pub(crate) fn new(peer: SocketAddr, proto: &'static str) -> Self {
        let address = peer.ip().to_canonical();
        let forwarded = match address {
            IpAddr::V4(address) => format!("for={address};proto={proto}"),
            IpAddr::V6(address) => format!("for=\"[{address}]\";proto={proto}"),
        };
        let address = HeaderValue::from_str(&address.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Self { address, proto: HeaderValue::from_static(proto), forwarded }
    }

    /// Adds what an upstream wants to know of the client, and that the request came through here.
    pub(crate) fn announce(&self, headers: &mut HeaderMap, host: Option<&HeaderValue>, version: Version) {
        append(headers, X_FORWARDED_FOR, self.address.clone());
        headers.insert(X_FORWARDED_PROTO, self.proto.clone());
        if let Some(host) = host {
            headers.insert(X_FORWARDED_HOST, host.clone());
        } else {
            headers.remove(X_FORWARDED_HOST);
        }
        append(headers, FORWARDED, self.forwarded(host));
        let via = match version {
            Version::HTTP_2 => "2 tower-oauth-refresh",
            Version::HTTP_10 => "1.0 tower-oauth-refresh",
            _ => "1.1 tower-oauth-refresh",
        };
        append(headers, VIA, HeaderValue::from_static(via));
    }

    /// One element of `Forwarded` (RFC 7239 §4).
    fn forwarded(&self, host: Option<&HeaderValue>) -> HeaderValue {
        let mut element = BytesMut::with_capacity(self.forwarded.len() + 64);
        element.extend_from_slice(self.forwarded.as_bytes());
        if let Some(host) = host.and_then(|host| host.to_str().ok()) {
            // Quoted, as a port makes it more than a token.
            element.extend_from_slice(b";host=\"");
            for character in host.chars() {
                let escape = if matches!(character, '"' | '\\') { "\\" } else { "" };
                // Memory cannot fail.
                let _ = write!(element, "{escape}{character}");
            }
            element.extend_from_slice(b"\"");
        }
        HeaderValue::from_maybe_shared(element.freeze()).unwrap_or(HeaderValue::from_static("for=unknown"))
    }
}

/// Adds `value` to the end of a list; one line, for those who read the first one only.
fn append(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    if !headers.contains_key(&name) {
        headers.insert(name, value);
        return;
    }
    let mut list = BytesMut::new();
    for part in headers.get_all(&name).iter().filter(|part| !part.is_empty()) {
        list.extend_from_slice(part.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(value.as_bytes());
    headers.insert(name, HeaderValue::from_maybe_shared(list.freeze()).unwrap_or(value));
}

/// The host that the client asked for, by HTTP/2 or HTTP/1.
pub(crate) fn requested_host(uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    match uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => headers.get(HOST).filter(|host| !host.is_empty()).cloned(),
    }
}
