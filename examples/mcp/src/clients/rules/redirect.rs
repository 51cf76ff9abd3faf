//! The syntax and the comparison of redirect URIs (RFC 6749 §3.1.2, RFC 8252 §7).

use url::Url;

/// The maximum length of a redirect URI, in bytes.
const LONGEST: usize = 2048;

/// Hosts that lead to an app on the user's own computer (RFC 8252 §7.3). `localhost` is included
/// because many clients use it.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];

/// Schemes that run code, read data or show content on behalf of the author of the URI. They are
/// never allowed, whatever the operator configures.
pub(super) const NEVER: [&str; 32] = [
    "about",
    "blob",
    "chrome",
    "chrome-extension",
    "content",
    "data",
    "edge",
    "file",
    "filesystem",
    "ftp",
    "intent",
    "its",
    "jar",
    "javascript",
    "livescript",
    "mailto",
    "mhtml",
    "microsoft-edge",
    "mk",
    "mocha",
    "moz-extension",
    "ms-its",
    "res",
    "resource",
    "sms",
    "tel",
    "vbscript",
    "view-source",
    "ws",
    "wss",
    "wyciwyg",
    "xmpp",
];

/// A syntactically valid redirect URI. The operator may still not allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedirectUri {
    url: Url,
}

/// The reason why a redirect URI is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidRedirectUri {
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
    #[error("it contains a character that is not allowed in a URI: percent-encode it")]
    Character,
    #[error("it is not an absolute URI with a host or a path")]
    NotAbsolute,
    #[error("it has a fragment")]
    Fragment,
    #[error("it contains a user name or a password")]
    Userinfo,
    #[error("its host or port is not in normalized form")]
    Host,
    #[error("its path has dot segments")]
    DotSegments,
    #[error("its scheme is not allowed")]
    Scheme,
    #[error("http is allowed only for 127.0.0.1, [::1] and localhost: use https")]
    Http,
}

impl RedirectUri {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidRedirectUri> {
        use InvalidRedirectUri::*;
        if text.len() > LONGEST {
            return Err(TooLong);
        }
        if text.contains('#') {
            return Err(Fragment);
        }
        // Browsers read `\` as `/` and remove tabs. Such characters are rejected, so that a browser
        // reads the URI as it was checked.
        if !of_uri_characters(text.as_bytes()) {
            return Err(Character);
        }
        let (scheme, rest) = text.split_once(':').ok_or(NotAbsolute)?;
        if NEVER.contains(&&*scheme.to_ascii_lowercase()) {
            return Err(Scheme);
        }
        let url = Url::parse(text).map_err(|_| NotAbsolute)?;
        if scheme != url.scheme() {
            // The scheme contains upper-case letters, which no client needs.
            return Err(Scheme);
        }
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
            None => ("", rest),
        };
        if authority.contains('@') {
            return Err(Userinfo);
        }
        if has_dot_segments(path) {
            return Err(DotSegments);
        }
        match scheme {
            "https" if authority.is_empty() => Err(NotAbsolute),
            "https" if has_plain_host(authority, &url) => Ok(Self { url }),
            "http" if Loopback::parse(text).is_some() => Ok(Self { url }),
            "http" => Err(Http),
            _ if !authority.is_empty() && !has_plain_host(authority, &url) => Err(Host),
            _ if authority.is_empty() && !(path.starts_with('/') && path.len() > 1) => {
                Err(NotAbsolute)
            }
            _ => Ok(Self { url }),
        }
    }

    pub(crate) const fn url(&self) -> &Url {
        &self.url
    }
}

/// Returns whether a requested redirect URI matches a registered one. They must be equal, except
/// for the port of a loopback address, because an app on the user's computer does not choose its
/// port in advance (RFC 8252 §7.3).
pub(crate) fn same(registered: &str, asked_for: &str) -> bool {
    registered == asked_for
        || Loopback::parse(registered)
            .is_some_and(|registered| Some(registered) == Loopback::parse(asked_for))
}

/// A loopback redirect URI without its port.
#[derive(Debug, PartialEq, Eq)]
struct Loopback<'a> {
    host: &'a str,
    /// The path and the query.
    rest: &'a str,
}

impl<'a> Loopback<'a> {
    fn parse(uri: &'a str) -> Option<Self> {
        let uri = uri.strip_prefix("http://")?;
        let (authority, rest) = uri.split_at(uri.find(['/', '?', '#']).unwrap_or(uri.len()));
        let host = LOOPBACK
            .into_iter()
            .find(|host| authority.starts_with(host))?;
        let port = &authority[host.len()..];
        let is_port = |port: &str| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        };
        (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
            .then_some(Self { host, rest })
    }
}

pub(super) fn is_loopback_host(host: &str) -> bool {
    LOOPBACK.contains(&host)
}

/// Returns whether the text consists of the characters of RFC 3986 §2, with two hex digits after
/// each `%`.
pub(super) fn of_uri_characters(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'%', [a, b, after @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => after,
            (byte, after)
                if byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&byte) =>
            {
                after
            }
            _ => return false,
        };
    }
    true
}

/// Returns whether the host is written in the form that the URL parser returns. The parser
/// normalizes numbers to IP addresses, and `%65` to a letter.
fn has_plain_host(authority: &str, url: &Url) -> bool {
    let host = url.host_str().unwrap_or("");
    let Some((written, port)) = authority.split_at_checked(host.len()) else {
        return false;
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    written.eq_ignore_ascii_case(host)
        && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

pub(super) fn has_dot_segments(path: &str) -> bool {
    let path = path
        .split('?')
        .next()
        .unwrap_or(path)
        .to_ascii_lowercase()
        .replace("%2e", ".");
    path.split('/')
        .any(|segment| segment == "." || segment == "..")
}

#[cfg(test)]
mod tests;
