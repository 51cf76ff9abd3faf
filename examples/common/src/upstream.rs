//! The URL of the upstream and the public URL of the proxy.

use std::fmt;
use std::str::FromStr;

use http::uri::{Authority, InvalidUriParts, Parts, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use tower_oauth_refresh::path::leaves_base;
use url::{Origin, Position, Url};

/// The authorization server.
#[derive(Clone, Debug)]
pub struct Upstream {
    url: Url,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    /// The path of the URL without its last slash: empty, or for example `/auth`.
    base: String,
}

/// The reason why the path of a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    #[error("the path may lead outside of the upstream's base path")]
    Escapes,
    #[error("the request target is not a path")]
    NotAPath,
    #[error("the path is not valid after the upstream's base path")]
    Invalid(#[from] InvalidUriParts),
    #[error("the path is too long")]
    TooLong,
}

impl Upstream {
    /// Returns the URI at the upstream for a request with this URI.
    pub fn uri(&self, request: &Uri) -> Result<Uri, PathError> {
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(self.path_and_query(request)?);
        Ok(Uri::from_parts(parts)?)
    }

    fn path_and_query(&self, request: &Uri) -> Result<PathAndQuery, PathError> {
        let path = request.path_and_query().ok_or(PathError::NotAPath)?;
        // `OPTIONS *` concerns the server as a whole.
        if path.as_str() == "*" || self.base.is_empty() {
            return Ok(path.clone());
        }
        if leaves_base(path.path()) {
            return Err(PathError::Escapes);
        }
        format!("{}{path}", self.base)
            .parse()
            .map_err(|_| PathError::TooLong)
    }

    /// Returns the value of `Host` for the upstream.
    pub const fn host(&self) -> &HeaderValue {
        &self.host
    }

    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    pub fn origin(&self) -> Origin {
        self.url.origin()
    }

    /// Returns the path, query and fragment at which clients of the proxy reach `url` of the
    /// upstream; `None` if they cannot.
    pub fn seen_through_proxy<'a>(&self, url: &'a Url) -> Option<&'a str> {
        if url.origin() != self.origin() || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let rest = url[Position::BeforePath..].strip_prefix(&self.base)?;
        rest.starts_with('/').then_some(rest)
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = http_url(text)?;
        let scheme = if url.scheme() == "https" {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        let authority = &url[Position::BeforeHost..Position::AfterPort];
        let host = HeaderValue::from_str(authority).map_err(|error| error.to_string())?;
        let authority = Authority::from_str(authority).map_err(|error| error.to_string())?;
        let base = url.path().trim_end_matches('/').to_owned();
        Ok(Self {
            scheme,
            authority,
            host,
            base,
            url,
        })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str())
    }
}

/// The URL at which clients reach the proxy.
#[derive(Clone, Debug)]
pub struct PublicUrl(Url);

impl PublicUrl {
    /// Returns the URL of a path, with its query, at the proxy.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0.as_str().trim_end_matches('/'))
    }

    /// Returns the value of `Host` that a client of this URL sends.
    pub fn authority(&self) -> &str {
        &self.0[Position::BeforeHost..Position::AfterPort]
    }

    pub const fn as_url(&self) -> &Url {
        &self.0
    }

    /// Returns the path of `url` at the proxy; `None` if it is not a URL of the proxy.
    pub fn path_of<'a>(&self, url: &'a Url) -> Option<&'a str> {
        if url.origin() != self.0.origin() {
            return None;
        }
        let rest = url
            .path()
            .strip_prefix(self.0.path().trim_end_matches('/'))?;
        rest.starts_with('/').then_some(rest)
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        http_url(text).map(Self)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// Parses an absolute http or https URL. Rejects parts that would be ignored.
fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("not a URL such as https://login.example.com: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "the scheme must be http or https, not `{}`",
            url.scheme()
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL must not contain a user name or a password".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the URL must not contain a query or a fragment".into());
    }
    Ok(url)
}
