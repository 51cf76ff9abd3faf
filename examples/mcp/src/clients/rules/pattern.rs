//! The patterns of `--allow-redirect` and `--only-redirect`.

use std::str::FromStr;

use url::Url;

use super::redirect::{NEVER, RedirectUri, has_dot_segments, is_loopback_host, of_uri_characters};

/// A pattern of redirect URIs that the operator allows, such as `https://*.example.com/oauth/*`.
///
/// It is compared with a URI part by part, as a browser parses the URI, so that a wildcard never
/// matches beyond its part.
/// - The scheme has no wildcards.
/// - The host may be `*`, or begin with `*.`, which matches one label.
/// - The port may be `*`. A loopback address without a port matches any port.
/// - In the path, `*` matches any part of one segment, and `/*` at the end matches everything that
///   follows, including a query. A pattern without a path matches any path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedirectPattern {
    scheme: String,
    authority: Option<Authority>,
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Authority {
    host: Host,
    port: Port,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    /// One label below this domain, which begins with a dot.
    Below(String),
    Exactly(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Any,
    Exactly(Option<u16>),
}

impl RedirectPattern {
    pub(super) fn matches(&self, uri: &RedirectUri) -> bool {
        let url = uri.url();
        let authority = match &self.authority {
            Some(authority) => url.has_authority() && authority.matches(url),
            None => !url.has_authority(),
        };
        url.scheme() == self.scheme && authority && path_matches(&self.path, url)
    }
}

impl Authority {
    fn matches(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or("");
        let host = match &self.host {
            Host::Any => !host.is_empty(),
            Host::Exactly(wanted) => host == wanted,
            Host::Below(parent) => host
                .strip_suffix(&**parent)
                .is_some_and(|label| !label.is_empty() && !label.contains('.')),
        };
        host && match self.port {
            Port::Any => true,
            Port::Exactly(port) => port == url.port(),
        }
    }
}

fn path_matches(pattern: &str, url: &Url) -> bool {
    if pattern.is_empty() {
        return true;
    }
    let (path, lower) = (url.path(), url.path().to_ascii_lowercase());
    // Some servers decode these to slashes, so a pattern with a wildcard does not match them.
    if pattern.contains('*') && (lower.contains("%2f") || lower.contains("%5c")) {
        return false;
    }
    if let Some(parent) = pattern.strip_suffix("/*") {
        let depth = parent.matches('/').count();
        let end = path.match_indices('/').nth(depth).map(|(end, _)| end);
        return end.is_some_and(|end| segments_match(parent, &path[..end]));
    }
    url.query().is_none() && segments_match(pattern, path)
}

fn segments_match(pattern: &str, path: &str) -> bool {
    pattern.split('/').count() == path.split('/').count()
        && pattern
            .split('/')
            .zip(path.split('/'))
            .all(|(pattern, segment)| segment_matches(pattern, segment))
}

fn segment_matches(pattern: &str, segment: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == segment;
    };
    let Some(mut left) = segment.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<_> = rest.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        let Some(at) = left.find(part) else {
            return false;
        };
        left = &left[at + part.len()..];
    }
    !segment.is_empty() && left.ends_with(last)
}

impl FromStr for RedirectPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once(':')
            .ok_or("it must begin with a scheme: https://*.example.com/*")?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        if !is_scheme {
            return Err("it must begin with a scheme in lower case, without a wildcard".into());
        }
        if NEVER.contains(&scheme) {
            return Err(format!("`{scheme}` is never allowed"));
        }
        if !of_uri_characters(rest.as_bytes()) || rest.contains(['?', '#', '@']) {
            return Err("it must contain only a host, a port and a path after its scheme".into());
        }
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        if has_dot_segments(path) {
            return Err("its path has dot segments".into());
        }
        let web = matches!(scheme, "http" | "https");
        if authority.is_empty() && (web || !path.starts_with('/')) {
            return Err("it has no host".into());
        }
        let authority = if authority.is_empty() {
            None
        } else {
            Some(Authority::parse(scheme, authority)?)
        };
        Ok(Self {
            scheme: scheme.to_owned(),
            authority,
            path: path.to_owned(),
        })
    }
}

impl Authority {
    fn parse(scheme: &str, text: &str) -> Result<Self, String> {
        let after_brackets = text.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match text[after_brackets..].find(':') {
            Some(colon) => text.split_at(after_brackets + colon),
            None => (text, ""),
        };
        if scheme == "http" && host != "*" && !is_loopback_host(host) {
            return Err("http is allowed only for 127.0.0.1, [::1] and localhost".into());
        }
        let port = match port.strip_prefix(':') {
            Some("*") => Port::Any,
            None if scheme == "http" => Port::Any,
            None => Port::Exactly(None),
            Some(port) => {
                let port = port
                    .parse()
                    .map_err(|_| "its port must be a number or `*`")?;
                let default = [("http", 80), ("https", 443)].contains(&(scheme, port));
                Port::Exactly((!default).then_some(port))
            }
        };
        let host = match host.strip_prefix("*.") {
            _ if host == "*" => Host::Any,
            // To allow any host, the operator can write `*`.
            Some(parent) if !parent.contains('.') => {
                return Err("`*.` must be followed by more than one label".into());
            }
            Some(parent) => {
                Host::Below(normal_host(scheme, &format!("x.{parent}"))?[1..].to_owned())
            }
            None => Host::Exactly(normal_host(scheme, host)?),
        };
        Ok(Self { host, port })
    }
}

/// Returns the host as a URL parser normalizes it.
fn normal_host(scheme: &str, host: &str) -> Result<String, String> {
    if host.contains('*') {
        return Err("the only wildcard in a host is `*.` at its beginning".into());
    }
    let url =
        Url::parse(&format!("{scheme}://{host}/")).map_err(|error| format!("its host: {error}"))?;
    url.host_str()
        .map(str::to_owned)
        .ok_or_else(|| "it has no host".into())
}

#[cfg(test)]
mod tests;
