//! Who this server is, by its public URL.

use std::fmt;
use std::str::FromStr;

use url::{Position, Url};

/// The issuer (RFC 8414 §2): `https://mcp.example.com`, or with a path,
/// `https://example.com/tools`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issuer(Url);

impl Issuer {
    /// Without a slash at its end.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    pub(crate) const fn as_url(&self) -> &Url {
        &self.0
    }

    /// Its path: empty, or `/tools`.
    pub(crate) fn path(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }

    /// Whether browsers reach it over TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Its host, with a port if that is not the usual one.
    pub(crate) fn authority(&self) -> &str {
        &self.0[Position::BeforeHost..Position::AfterPort]
    }

    /// As browsers send it in `Origin`.
    pub(crate) fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// The URL of an endpoint that has this path below the issuer: `/token`.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.as_str())
    }

    /// The URL of a well-known document about what has this path below the issuer (RFC 8414 §3.1,
    /// RFC 9728 §3.1).
    pub(crate) fn well_known(&self, name: &str, path: &str) -> String {
        format!(
            "{}/.well-known/{name}{}{path}",
            &self.0[..Position::BeforePath],
            self.path()
        )
    }

    /// The identifier of the MCP endpoint as a resource (RFC 8707).
    pub(crate) fn resource(&self) -> String {
        self.join("/mcp")
    }

    /// Whether this is that one, however its URL is written.
    pub(crate) fn is_resource(&self, text: &str) -> bool {
        Url::parse(text).is_ok_and(|url| url.as_str().trim_end_matches('/') == self.resource())
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
            return Err("it must not hold a user or a password".into());
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
