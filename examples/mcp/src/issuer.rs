//! The public URL of this server.

use std::fmt;
use std::str::FromStr;

use url::{Position, Url};

/// The issuer identifier (RFC 8414 §2), such as `https://mcp.example.com`, or with a path,
/// `https://example.com/tools`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issuer(Url);

impl Issuer {
    /// Returns the issuer without a trailing slash.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    pub(crate) const fn as_url(&self) -> &Url {
        &self.0
    }

    /// Returns the path without a trailing slash: empty, or `/tools`.
    pub(crate) fn path(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }

    /// Returns whether the scheme is `https`.
    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Returns the host, with the port if it is not the default port of the scheme.
    pub(crate) fn authority(&self) -> &str {
        &self.0[Position::BeforeHost..Position::AfterPort]
    }

    /// Returns the origin as browsers send it in `Origin`.
    pub(crate) fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Returns the URL of an endpoint, given its path below the issuer, such as `/token`.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.as_str())
    }

    /// Returns the URL of the well-known document for a path below the issuer (RFC 8414 §3.1, RFC
    /// 9728 §3.1).
    pub(crate) fn well_known(&self, name: &str, path: &str) -> String {
        format!(
            "{}/.well-known/{name}{}{path}",
            &self.0[..Position::BeforePath],
            self.path()
        )
    }

    /// Returns the resource identifier of the MCP endpoint (RFC 8707).
    pub(crate) fn resource(&self) -> String {
        self.join("/mcp")
    }

    /// Returns whether `text` identifies the MCP endpoint: the URL in any spelling, also with a
    /// slash at the end or with a query. A resource has no fragment (RFC 8707 §2).
    pub(crate) fn is_resource(&self, text: &str) -> bool {
        Url::parse(text).is_ok_and(|mut url| {
            url.set_query(None);
            unescaped(url.as_str().trim_end_matches('/')) == unescaped(&self.resource())
        })
    }
}

impl FromStr for Issuer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text)
            .map_err(|error| format!("not a URL such as https://mcp.example.com: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!(
                "the scheme must be http or https, not `{}`",
                url.scheme()
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it must not contain a user name or a password".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it must not have a query or a fragment".into());
        }
        Ok(Self(url))
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decodes the escapes of characters that need none, and writes the others in upper case (RFC 3986
/// §6.2.2.1, §6.2.2.2).
fn unescaped(url: &str) -> String {
    let mut parts = url.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        match u8::from_str_radix(digits, 16).map(char::from) {
            Ok(char) if char.is_ascii_alphanumeric() || "-._~".contains(char) => text.push(char),
            _ => text.extend(["%", &digits.to_ascii_uppercase()]),
        }
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_resource_and_nothing_else_is_the_resource() {
        let issuer: Issuer = "https://example.com/a%2Fb".parse().unwrap();
        for text in [
            "https://example.com/a%2Fb/mcp",
            "https://example.com/a%2Fb/mcp/",
            "https://example.com/a%2Fb/mcp?tenant=x",
            "https://example.com/a%2Fb/mcp/?",
            "HTTPS://Example.COM:443/x/../a%2Fb/./mcp",
            "https://example.com/%61%2Fb/%6d%63p",
            "https://example.com/a%2fb/mcp",
        ] {
            assert!(issuer.is_resource(text), "{text}");
        }
        for text in [
            "https://example.com/a/b/mcp",
            "https://example.com/a%2Fb",
            "https://example.com/a%2Fb/mcp/x",
            "https://example.com/a%2Fb/MCP",
            "https://example.com/a%2Fb/mcp#x",
            "https://user@example.com/a%2Fb/mcp",
            "https://example.com:8443/a%2Fb/mcp",
            "http://example.com/a%2Fb/mcp",
            "https://example.com.evil.example/a%2Fb/mcp",
            "https://example.com/a%252Fb/mcp",
            "https://example.com/a%2Fb/mcp%",
            "https://example.com/a%2Fb/mc%70%7",
            "https://example.com/a%2Fb/mc%ü",
            "mcp",
        ] {
            assert!(!issuer.is_resource(text), "{text}");
        }
    }
}
