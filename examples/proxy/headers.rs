//! What a proxy must do to headers.

use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use http::header::{CONNECTION, Entry, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, VIA};
use http::{Uri, Version};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Removes what is meant for the next hop alone (RFC 9110 §7.6.1).
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have none.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    for name in nominated(headers) {
        headers.remove(name);
    }
    let names: Vec<_> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    match name.as_str() {
        "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" => true,
        "proxy-status" => false,
        name => name.starts_with("proxy-"),
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
        headers.reserve(6);
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
        if let Some(host) = host {
            // Quoted, as a port makes it more than a token.
            element.extend_from_slice(b";host=\"");
            for part in host.as_bytes().split_inclusive(|byte| matches!(byte, b'"' | b'\\')) {
                match part {
                    [plain @ .., special @ (b'"' | b'\\')] => {
                        element.extend_from_slice(plain);
                        element.extend_from_slice(&[b'\\', *special]);
                    }
                    plain => element.extend_from_slice(plain),
                }
            }
            element.extend_from_slice(b"\"");
        }
        HeaderValue::from_maybe_shared(element.freeze()).unwrap_or(HeaderValue::from_static("for=unknown"))
    }
}

/// Adds `value` to the end of a list; one line, for those who read the first one only.
fn append(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let mut entry = match headers.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(value);
            return;
        }
        Entry::Occupied(entry) => entry,
    };
    let mut list = BytesMut::new();
    for part in entry.iter().filter(|part| !part.is_empty()) {
        list.extend_from_slice(part.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(value.as_bytes());
    entry.insert(HeaderValue::from_maybe_shared(list.freeze()).unwrap_or(value));
}

/// The host that the client asked for, by HTTP/2 or HTTP/1.
pub(crate) fn requested_host(uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    match uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => headers.get(HOST).filter(|host| !host.is_empty()).cloned(),
    }
}
