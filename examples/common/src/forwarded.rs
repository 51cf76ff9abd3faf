//! Headers that describe the client, and the URL that the client used, to the upstream.
//!
//! The headers are built from the public URL if it is known, otherwise from the connection. Headers
//! of the request are kept only if the peer is in a trusted network: then the chains of
//! `X-Forwarded-For` and `Forwarded` are extended.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use http::header::{Entry, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, VIA};
use http::{Uri, Version};
use url::{Position, Url};

use super::headers::remove_misleading;
use super::networks::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_SERVER: HeaderName = HeaderName::from_static("x-forwarded-server");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The position of this server in the network.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    public: Option<Place>,
    trusted: Vec<Network>,
}

impl Edge {
    /// Creates the position from the URL that clients use and the networks of the reverse proxies
    /// in front.
    pub fn new(public: Option<&Url>, trusted: &[Network]) -> Self {
        Self {
            public: public.and_then(Place::of_url),
            trusted: trusted.to_vec(),
        }
    }

    /// Describes the URL that clients use, in a request of this server itself, which has no client.
    /// Returns the host that a client would ask for.
    pub fn announce(&self, headers: &mut HeaderMap) -> Option<HeaderValue> {
        let public = self.public.as_ref()?;
        for (name, value) in public.headers() {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        public.host.clone()
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

/// Parts of the URL that a client used.
#[derive(Clone, Debug)]
struct Place {
    proto: &'static str,
    host: Option<HeaderValue>,
    /// The host without its port.
    server: Option<HeaderValue>,
    port: HeaderValue,
    /// The path of the public URL, which is not part of the paths of requests.
    prefix: Option<HeaderValue>,
}

impl Place {
    fn of_url(url: &Url) -> Option<Self> {
        let proto = if url.scheme() == "https" {
            "https"
        } else {
            "http"
        };
        let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]).ok()?;
        let mut place = Self::of_host(proto, Some(host));
        let prefix = url.path().trim_end_matches('/');
        if !prefix.is_empty() {
            place.prefix = HeaderValue::from_str(prefix).ok();
        }
        Some(place)
    }

    fn of_host(proto: &'static str, host: Option<HeaderValue>) -> Self {
        let default = if proto == "https" { "443" } else { "80" };
        let (server, port) = host
            .as_ref()
            .and_then(|host| host.to_str().ok())
            .map_or((None, None), split_port);
        let server = server.and_then(|server| HeaderValue::from_str(server).ok());
        let port = port.and_then(|port| HeaderValue::from_str(port).ok());
        Self {
            proto,
            host,
            server,
            port: port.unwrap_or(HeaderValue::from_static(default)),
            prefix: None,
        }
    }

    fn headers(&self) -> [(HeaderName, Option<HeaderValue>); 5] {
        [
            (
                X_FORWARDED_PROTO,
                Some(HeaderValue::from_static(self.proto)),
            ),
            (X_FORWARDED_HOST, self.host.clone()),
            (X_FORWARDED_SERVER, self.server.clone()),
            (X_FORWARDED_PORT, Some(self.port.clone())),
            (X_FORWARDED_PREFIX, self.prefix.clone()),
        ]
    }
}

/// Splits `host:port` and `[::1]:port`. Without a valid port, the whole text is the host.
fn split_port(authority: &str) -> (Option<&str>, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port))
            if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            (Some(host), Some(port))
        }
        _ => (Some(authority), None),
    }
}

/// The client of one connection.
#[derive(Debug)]
pub struct Client {
    edge: Arc<Edge>,
    trusted: bool,
    address: HeaderValue,
    /// The beginning of an element of `Forwarded`: `for=192.0.2.1`.
    forwarded: String,
}

impl Client {
    pub fn new(edge: Arc<Edge>, peer: SocketAddr) -> Self {
        let address = peer.ip().to_canonical();
        let forwarded = match address {
            IpAddr::V4(address) => format!("for={address}"),
            IpAddr::V6(address) => format!("for=\"[{address}]\""),
        };
        let trusted = edge.trusts(address);
        Self {
            edge,
            trusted,
            address: value_of(address),
            forwarded,
        }
    }

    /// Returns whether it is a trusted reverse proxy.
    pub const fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Removes headers that a client must not send to the upstream, and adds the headers that
    /// describe the client. `host` is the host that the client asked for.
    pub fn announce(&self, headers: &mut HeaderMap, host: Option<&HeaderValue>, version: Version) {
        remove_misleading(headers, self.trusted);
        headers.reserve(9);
        headers.insert(X_REAL_IP, self.real_ip(headers));
        append(headers, X_FORWARDED_FOR, self.address.clone());
        let connection;
        let place = match &self.edge.public {
            Some(public) => public,
            None => {
                connection = Place::of_host("http", host.cloned());
                &connection
            }
        };
        let keeps = self.trusted && self.edge.public.is_none();
        // If the trusted proxy sent a scheme or a host without a port, the port of this server
        // would contradict them.
        let described = keeps
            && [X_FORWARDED_PROTO, X_FORWARDED_HOST]
                .iter()
                .any(|name| headers.contains_key(name));
        for (name, value) in place.headers() {
            if keeps && (headers.contains_key(&name) || (described && name == X_FORWARDED_PORT)) {
                continue;
            }
            match value {
                Some(value) => headers.insert(name, value),
                None => headers.remove(name),
            };
        }
        append(headers, FORWARDED, self.forwarded(place));
        let via = match version {
            Version::HTTP_2 => "2 tower-oauth-refresh",
            Version::HTTP_10 => "1.0 tower-oauth-refresh",
            _ => "1.1 tower-oauth-refresh",
        };
        append(headers, VIA, HeaderValue::from_static(via));
    }

    /// Returns the address nearest to this server that is not in a trusted network.
    pub fn real_ip(&self, headers: &HeaderMap) -> HeaderValue {
        if !self.trusted {
            return self.address.clone();
        }
        let mut real = None;
        for value in headers.get_all(X_FORWARDED_FOR).iter().rev() {
            for element in value.to_str().unwrap_or_default().rsplit(',') {
                let Some(address) = parse_address(element) else {
                    return real.map_or(self.address.clone(), value_of);
                };
                real = Some(address);
                if !self.edge.trusts(address) {
                    return value_of(address);
                }
            }
        }
        // Some reverse proxies send only this header.
        let sent = || {
            headers
                .get(X_REAL_IP)
                .and_then(|value| parse_address(value.to_str().ok()?))
        };
        real.or_else(sent).map_or(self.address.clone(), value_of)
    }

    /// Returns one element of `Forwarded` (RFC 7239 §4).
    fn forwarded(&self, place: &Place) -> HeaderValue {
        let mut element = BytesMut::with_capacity(self.forwarded.len() + 64);
        element.extend_from_slice(self.forwarded.as_bytes());
        element.extend_from_slice(b";proto=");
        element.extend_from_slice(place.proto.as_bytes());
        if let Some(host) = &place.host {
            // Quoted, because a host with a port is not a token. The listener accepts only hosts
            // without characters that would need an escape.
            element.extend_from_slice(b";host=\"");
            element.extend_from_slice(host.as_bytes());
            element.extend_from_slice(b"\"");
        }
        HeaderValue::from_maybe_shared(element.freeze())
            .unwrap_or(HeaderValue::from_static("for=unknown"))
    }
}

fn value_of(address: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&address.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

/// Parses one element of `X-Forwarded-For`: an address, in brackets if it is IPv6 and has a port.
/// Some proxies add the port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare
        .parse()
        .ok()
        .or_else(|| text.parse().map(|address: SocketAddr| address.ip()).ok());
    address.map(|address: IpAddr| address.to_canonical())
}

/// Appends `value` to a list header. The list becomes one line, because some servers read only the
/// first line of a header.
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

/// Returns the host that the client asked for: `:authority` in HTTP/2, `Host` in HTTP/1.
pub fn requested_host(uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    match uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => headers.get(HOST).filter(|host| !host.is_empty()).cloned(),
    }
}
